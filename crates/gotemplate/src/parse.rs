//! Words to tree (Go's `text/template/parse`).

use crate::Error;
use crate::functions::Functions;
use crate::lex::{self, Kind as Word, Token};
use crate::tree::{Block, Command, Expression, Kind, Node, Number, Pipe};
use std::collections::HashMap;

/// How deep parentheses and blocks may be nested.
const MAX_DEPTH: usize = 200;

/// Parses a template; the result has it under `name` and those it defines under theirs.
pub(crate) fn parse(
    name: &str,
    source: &str,
    functions: &Functions,
) -> Result<HashMap<String, Block>, Error> {
    let mut parser = Parser {
        name,
        tokens: lex::tokens(source),
        next: 0,
        functions,
        variables: vec!["$".to_owned()],
        templates: HashMap::new(),
        depth: 0,
        loops: 0,
    };
    let (block, end) = parser.block()?;
    if let Some(word) = end {
        return Err(parser.error(format!("unexpected {{{{{word}}}}}")));
    }
    let mut templates = parser.templates;
    templates.insert(name.to_owned(), block);
    Ok(templates)
}

struct Parser<'a> {
    name: &'a str,
    tokens: Vec<Token>,
    next: usize,
    functions: &'a Functions,
    variables: Vec<String>,
    templates: HashMap<String, Block>,
    depth: usize,
    loops: usize,
}

type Parsed<T> = Result<T, Error>;

impl Parser<'_> {
    fn error(&self, why: impl AsRef<str>) -> Error {
        let line = self.tokens.get(self.next.saturating_sub(1)).map_or(1, |token| token.line);
        Error::new(format!("{}:{line}: {}", self.name, why.as_ref()))
    }

    fn take(&mut self) -> Token {
        let end = Token { position: 0, line: 1, kind: Word::End };
        let token = self.tokens.get(self.next).cloned();
        let token = token.or_else(|| self.tokens.last().cloned()).unwrap_or(end);
        self.next += 1;
        token
    }

    fn back(&mut self) {
        self.next = self.next.saturating_sub(1);
    }

    fn peek(&self) -> &Word {
        self.tokens.get(self.next).map_or(&Word::End, |token| &token.kind)
    }

    fn take_word(&mut self) -> Token {
        loop {
            let token = self.take();
            if token.kind != Word::Space {
                return token;
            }
        }
    }

    fn unexpected(&self, token: &Token, context: &str) -> Error {
        let shown = match &token.kind {
            Word::Error(why) => return self.error(why),
            Word::End => "EOF".to_owned(),
            Word::Keyword(word) => format!("<{word}>"),
            other => quoted(&word_text(other)),
        };
        self.error(format!("unexpected {shown} in {context}"))
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.error("max expression depth exceeded")) } else { Ok(()) }
    }

    /// Parses nodes up to `{{end}}`, `{{else}}` or the end of the template, and says which it was.
    fn block(&mut self) -> Parsed<(Block, Option<&'static str>)> {
        self.enter()?;
        let mut nodes = Vec::new();
        loop {
            let token = self.take();
            match token.kind {
                Word::Text(text) => {
                    if !text.is_empty() {
                        nodes.push(Node::Text(text));
                    }
                }
                Word::Open => {
                    if let Some(end) = self.action(&mut nodes)? {
                        self.depth -= 1;
                        return Ok((nodes, Some(end)));
                    }
                }
                Word::End => {
                    self.depth -= 1;
                    return Ok((nodes, None));
                }
                _ => return Err(self.unexpected(&token, "input")),
            }
        }
    }

    fn action(&mut self, nodes: &mut Block) -> Parsed<Option<&'static str>> {
        let token = self.take_word();
        let Word::Keyword(keyword) = token.kind else {
            self.back();
            let pipe = self.pipeline("command", &Word::Close)?;
            nodes.push(Node::Action(pipe));
            return Ok(None);
        };
        match keyword {
            "end" => {
                self.expect_close("end")?;
                return Ok(Some("end"));
            }
            "else" => {
                // `else if` is handled by the caller, which sees the keyword that follows.
                let following = self.take_word();
                if matches!(following.kind, Word::Keyword("if" | "with")) {
                    self.back();
                    return Ok(Some("else if"));
                }
                self.back();
                self.expect_close("else")?;
                return Ok(Some("else"));
            }
            "if" | "with" | "range" => nodes.push(self.control(keyword)?),
            "break" | "continue" => {
                self.expect_close(&format!("{{{{{keyword}}}}}"))?;
                if self.loops == 0 {
                    return Err(self.error(format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                }
                nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
            }
            "define" => self.definition()?,
            "template" => nodes.push(self.template(token.position)?),
            "block" => nodes.push(self.inline_block(token.position)?),
            _ => {
                // `nil` is a keyword and an operand.
                self.back();
                let pipe = self.pipeline("command", &Word::Close)?;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(None)
    }

    fn expect_close(&mut self, context: &str) -> Parsed<()> {
        let token = self.take_word();
        if token.kind == Word::Close { Ok(()) } else { Err(self.unexpected(&token, context)) }
    }

    fn control(&mut self, keyword: &'static str) -> Parsed<Node> {
        let scope = self.variables.len();
        let pipe = self.pipeline(keyword, &Word::Close)?;
        let is_range = keyword == "range";
        self.loops += usize::from(is_range);
        let (then, end) = self.block()?;
        self.loops -= usize::from(is_range);
        let otherwise = match end {
            Some("else") => {
                let (otherwise, end) = self.block()?;
                if end != Some("end") {
                    return Err(self.error(match end {
                        Some(_) => "expected end; found {{else}}",
                        None => "unexpected EOF",
                    }));
                }
                otherwise
            }
            Some("else if") => {
                let nested = self.take_word();
                match nested.kind {
                    Word::Keyword(nested) if nested == keyword => vec![self.control(nested)?],
                    _ => return Err(self.unexpected(&nested, "else")),
                }
            }
            Some(_) => Vec::new(),
            None => return Err(self.error("unexpected EOF")),
        };
        self.variables.truncate(scope);
        Ok(match keyword {
            "if" => Node::If { pipe, then, otherwise },
            "with" => Node::With { pipe, then, otherwise },
            _ => Node::Range { pipe, then, otherwise },
        })
    }

    /// Parses the body of a template of its own: other variables, no loop around it.
    fn body(&mut self, context: &str) -> Parsed<Block> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (block, end) = self.block()?;
        if end != Some("end") {
            return Err(self.error(match end {
                Some(word) => format!("unexpected {{{{{word}}}}} in {context}"),
                None => "unexpected EOF".to_owned(),
            }));
        }
        (self.variables, self.loops) = (variables, loops);
        Ok(block)
    }

    fn definition(&mut self) -> Parsed<()> {
        if self.depth > 1 {
            return Err(self.error("unexpected <define> in command"));
        }
        let name = self.template_name("define clause")?;
        self.expect_close("define clause")?;
        let block = self.body("define clause")?;
        self.templates.insert(name, block);
        Ok(())
    }

    fn template_name(&mut self, context: &str) -> Parsed<String> {
        let token = self.take_word();
        match &token.kind {
            Word::Quoted(text) => unquote(text).ok_or_else(|| self.error(format!("invalid syntax: {text}"))),
            _ => Err(self.unexpected(&token, context)),
        }
    }

    fn template(&mut self, position: usize) -> Parsed<Node> {
        let name = self.template_name("template clause")?;
        let token = self.take_word();
        if token.kind == Word::Close {
            return Ok(Node::Template { position, name, pipe: None });
        }
        self.back();
        let pipe = self.pipeline("template clause", &Word::Close)?;
        Ok(Node::Template { position, name, pipe: Some(pipe) })
    }

    fn inline_block(&mut self, position: usize) -> Parsed<Node> {
        let name = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", &Word::Close)?;
        let block = self.body("block clause")?;
        self.templates.entry(name.clone()).or_insert(block);
        Ok(Node::Template { position, name, pipe: Some(pipe) })
    }

    fn pipeline(&mut self, context: &str, end: &Word) -> Parsed<Pipe> {
        let token = self.take_word();
        self.back();
        let mut pipe =
            Pipe { position: token.position, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, context == "range")?;
        loop {
            let token = self.take_word();
            match &token.kind {
                kind if kind == end => {
                    self.check_pipeline(&pipe, context)?;
                    return Ok(pipe);
                }
                Word::Word(_)
                | Word::Field(_)
                | Word::Dot
                | Word::Variable(_)
                | Word::Number(_)
                | Word::Quoted(_)
                | Word::Character(_)
                | Word::Keyword("nil")
                | Word::Left => {
                    self.back();
                    pipe.commands.push(self.command()?);
                }
                _ => return Err(self.unexpected(&token, context)),
            }
        }
    }

    /// `$x :=`, `$x =`, and in a range `$index, $element :=`
    fn declarations(&mut self, pipe: &mut Pipe, in_range: bool) -> Parsed<()> {
        let begin = self.next;
        let known = self.variables.len();
        while let Token { kind: Word::Variable(name), .. } = self.take_word() {
            let following = self.take_word();
            match following.kind {
                Word::Declare | Word::Assign => {
                    pipe.assigns = following.kind == Word::Assign;
                    if pipe.assigns && !self.variables.contains(&name) {
                        return Err(self.error(format!("undefined variable {}", quoted(&name))));
                    }
                    pipe.variables.push(name.clone());
                    if !pipe.assigns {
                        self.variables.push(name);
                    }
                    return Ok(());
                }
                Word::Comma if in_range && pipe.variables.is_empty() => {
                    pipe.variables.push(name.clone());
                    self.variables.push(name);
                }
                Word::Comma => return Err(self.error("too many declarations in command")),
                _ => break,
            }
        }
        self.next = begin;
        self.variables.truncate(known);
        pipe.variables.clear();
        Ok(())
    }

    fn check_pipeline(&self, pipe: &Pipe, context: &str) -> Parsed<()> {
        if pipe.commands.is_empty() {
            return Err(self.error(format!("missing value for {context}")));
        }
        for (index, command) in pipe.commands.iter().enumerate().skip(1) {
            let literal = command.args.first().is_some_and(|arg| {
                matches!(arg.kind, Kind::Bool(_) | Kind::Dot | Kind::Nil | Kind::Number(..) | Kind::Text(..))
            });
            if literal {
                return Err(self.error(format!("non executable command in pipeline stage {}", index + 1)));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Parsed<Command> {
        let first = self.take_word();
        self.back();
        let mut command = Command { position: first.position, args: Vec::new() };
        loop {
            while *self.peek() == Word::Space {
                self.next += 1;
            }
            if let Some(operand) = self.operand()? {
                command.args.push(operand);
            }
            let token = self.take();
            match token.kind {
                Word::Space => {}
                Word::Close | Word::Right => {
                    self.back();
                    break;
                }
                Word::Pipe => break,
                _ => return Err(self.unexpected(&token, "operand")),
            }
        }
        if command.args.is_empty() { Err(self.error("empty command")) } else { Ok(command) }
    }

    /// A term and the fields taken of it.
    fn operand(&mut self) -> Parsed<Option<Expression>> {
        let Some(term) = self.term()? else { return Ok(None) };
        let mut names = Vec::new();
        // Go says of `.A.B.C` that it stands where `.B` does.
        let following = self.tokens.get(self.next).map_or(term.position, |token| token.position);
        while let Word::Field(name) = self.peek() {
            names.push(name.trim_start_matches('.').to_owned());
            self.next += 1;
        }
        if names.is_empty() {
            return Ok(Some(term));
        }
        let position = following;
        let kind = match term.kind {
            Kind::Field(mut first) => {
                first.append(&mut names);
                Kind::Field(first)
            }
            Kind::Variable(mut first) => {
                first.append(&mut names);
                Kind::Variable(first)
            }
            Kind::Bool(_) | Kind::Number(..) | Kind::Text(..) | Kind::Nil | Kind::Dot => {
                return Err(self.error(format!("unexpected . after term {}", quoted(&term.to_string()))));
            }
            Kind::Function(_) | Kind::Pipe(_) | Kind::Chain(..) => Kind::Chain(Box::new(term), names),
        };
        Ok(Some(Expression { position, kind }))
    }

    fn term(&mut self) -> Parsed<Option<Expression>> {
        let token = self.take_word();
        let kind = match token.kind {
            Word::Word(name) if name == "true" || name == "false" => Kind::Bool(name == "true"),
            Word::Word(name) if self.functions.contains(&name) => Kind::Function(name),
            Word::Word(name) => return Err(self.error(format!("function {} not defined", quoted(&name)))),
            Word::Dot => Kind::Dot,
            Word::Keyword("nil") => Kind::Nil,
            Word::Variable(name) if self.variables.contains(&name) => Kind::Variable(vec![name]),
            Word::Variable(name) => {
                return Err(self.error(format!("undefined variable {}", quoted(&name))));
            }
            Word::Field(name) => Kind::Field(vec![name.trim_start_matches('.').to_owned()]),
            Word::Number(text) => {
                let number = number(&text)
                    .ok_or_else(|| self.error(format!("bad number syntax: {}", quoted(&text))))?;
                Kind::Number(text, number)
            }
            Word::Character(text) => {
                let letter = unquote(&text).and_then(|letters| letters.chars().next());
                let letter =
                    letter.ok_or_else(|| self.error(format!("malformed character constant: {text}")))?;
                Kind::Number(text, Number::Int(i64::from(u32::from(letter))))
            }
            Word::Quoted(text) => {
                let value = unquote(&text).ok_or_else(|| self.error("invalid syntax"))?;
                Kind::Text(text, value)
            }
            Word::Left => {
                self.enter()?;
                let pipe = self.pipeline("parenthesized pipeline", &Word::Right)?;
                self.depth -= 1;
                Kind::Pipe(Box::new(pipe))
            }
            _ => {
                self.back();
                return Ok(None);
            }
        };
        Ok(Some(Expression { position: token.position, kind }))
    }
}

fn word_text(word: &Word) -> String {
    match word {
        Word::Text(text)
        | Word::Word(text)
        | Word::Field(text)
        | Word::Variable(text)
        | Word::Number(text)
        | Word::Quoted(text)
        | Word::Character(text)
        | Word::Error(text) => text.clone(),
        Word::Keyword(word) => (*word).to_owned(),
        Word::Letter(letter) => letter.to_string(),
        Word::Open => "{{".to_owned(),
        Word::Close => "}}".to_owned(),
        Word::Space => " ".to_owned(),
        Word::Dot => ".".to_owned(),
        Word::Declare => ":=".to_owned(),
        Word::Assign => "=".to_owned(),
        Word::Pipe => "|".to_owned(),
        Word::Left => "(".to_owned(),
        Word::Right => ")".to_owned(),
        Word::Comma => ",".to_owned(),
        Word::End => String::new(),
    }
}

/// Quotes a word as Go's `%.10q...` shows long ones.
fn quoted(text: &str) -> String {
    if text.chars().count() > 10 {
        let start: String = text.chars().take(10).collect();
        return format!("{start:?}...");
    }
    format!("{text:?}")
}

fn number(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = match digits.get(..2) {
        Some("0x" | "0X") => Some((16, digits.get(2..)?)),
        Some("0o" | "0O") => Some((8, digits.get(2..)?)),
        Some("0b" | "0B") => Some((2, digits.get(2..)?)),
        _ => None,
    };
    let magnitude = match radix {
        Some((radix, digits)) => u64::from_str_radix(digits, radix).ok(),
        None if digits.len() > 1 && digits.starts_with('0') && !digits.contains(['.', 'e', 'E']) => {
            u64::from_str_radix(digits.get(1..)?, 8).ok()
        }
        None => digits.parse().ok(),
    };
    match magnitude {
        Some(magnitude) if negative => i64::try_from(magnitude).ok().map(|value| Number::Int(-value)),
        Some(magnitude) => Some(i64::try_from(magnitude).map_or(Number::Uint(magnitude), Number::Int)),
        None if digits.starts_with(|digit: char| digit.is_ascii_digit() || digit == '.') => {
            plain.parse().ok().map(Number::Float)
        }
        None => None,
    }
}

/// Returns what a quoted word of Go says.
fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.get(1..text.len().checked_sub(1)?)?;
    if quote == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut unquoted = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            unquoted.push(letter);
            continue;
        }
        let escaped = letters.next()?;
        let code = |letters: &mut std::str::Chars<'_>, digits: usize, radix: u32, first: Option<char>| {
            let text: String = first.into_iter().chain(letters.by_ref().take(digits)).collect();
            char::from_u32(u32::from_str_radix(&text, radix).ok()?)
        };
        unquoted.push(match escaped {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' => escaped,
            'x' => code(&mut letters, 2, 16, None)?,
            'u' => code(&mut letters, 4, 16, None)?,
            'U' => code(&mut letters, 8, 16, None)?,
            '0'..='7' => code(&mut letters, 2, 8, Some(escaped))?,
            _ => return None,
        });
    }
    Some(unquoted)
}
