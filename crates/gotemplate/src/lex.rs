//! Cuts a template into text and the words of its actions.

/// A word, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) position: usize,
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Text(String),
    /// The beginning of an action.
    Open,
    /// The end of an action.
    Close,
    Space,
    Word(String),
    Keyword(&'static str),
    /// With the dot.
    Field(String),
    Dot,
    /// With the `$`.
    Variable(String),
    Number(String),
    /// With its quotes.
    Quoted(String),
    Character(String),
    Declare,
    Assign,
    Pipe,
    Left,
    Right,
    Comma,
    /// Any other letter.
    Letter(char),
    Error(String),
    End,
}

const KEYWORDS: &[&str] =
    &["block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with"];

/// Cuts `source` up. The last token is [`Kind::End`] or [`Kind::Error`].
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { source, position: 0, line: 1, tokens: Vec::new(), depth: 0 };
    if let Err(why) = lexer.template() {
        lexer.push(lexer.position, Kind::Error(why));
    }
    lexer.tokens
}

struct Lexer<'a> {
    source: &'a str,
    position: usize,
    line: usize,
    tokens: Vec<Token>,
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.position..).unwrap_or_default()
    }

    fn push(&mut self, position: usize, kind: Kind) {
        self.tokens.push(Token { position, line: self.line, kind });
    }

    /// Steps over `length` bytes and returns them.
    fn take(&mut self, length: usize) -> &'a str {
        let taken = self.rest().get(..length).unwrap_or_default();
        self.position += taken.len();
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        taken
    }

    fn template(&mut self) -> Result<(), String> {
        let mut trim_next = false;
        loop {
            let begin = self.position;
            let rest = self.rest();
            let end = rest.find("{{").unwrap_or(rest.len());
            let (text, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            let mut text = if trim_next { text.trim_start_matches(is_space) } else { text };
            if opens_with_trim(after) {
                text = text.trim_end_matches(is_space);
            }
            let token = Kind::Text(text.to_owned());
            self.push(begin, token);
            self.take(end);
            if after.is_empty() {
                self.push(self.position, Kind::End);
                return Ok(());
            }
            trim_next = self.action()?;
        }
    }

    /// Cuts one action and says whether its end trims the text that follows.
    fn action(&mut self) -> Result<bool, String> {
        let begin = self.position;
        let marker = if opens_with_trim(self.rest()) { 3 } else { 2 };
        self.take(marker);
        let inner = self.rest();
        let comment = if marker == 3 { inner.trim_start_matches(is_space) } else { inner };
        if comment.starts_with("/*") {
            return self.comment();
        }
        self.push(begin, Kind::Open);
        self.depth = 0;
        loop {
            if let Some(trim) = self.close()? {
                return Ok(trim);
            }
            self.word()?;
        }
    }

    fn comment(&mut self) -> Result<bool, String> {
        let length = self.rest().find("*/").ok_or("unclosed comment")? + 2;
        self.take(length);
        for (marker, trim) in [(" -}}", true), ("}}", false)] {
            if self.rest().starts_with(marker) {
                self.take(marker.len());
                return Ok(trim);
            }
        }
        Err("comment ends before closing delimiter".to_owned())
    }

    fn close(&mut self) -> Result<Option<bool>, String> {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches(is_space);
        let (length, trim) = if trimmed.len() < rest.len() && trimmed.starts_with("-}}") {
            (rest.len() - trimmed.len() + 3, true)
        } else if rest.starts_with("}}") {
            (2, false)
        } else {
            return Ok(None);
        };
        if self.depth > 0 {
            return Err("unclosed left paren".to_owned());
        }
        self.push(self.position, Kind::Close);
        self.take(length);
        Ok(Some(trim))
    }

    fn word(&mut self) -> Result<(), String> {
        let begin = self.position;
        let rest = self.rest();
        let mut letters = rest.chars();
        let Some(first) = letters.next() else { return Err("unclosed action".to_owned()) };
        let second = letters.next();
        let kind = match first {
            letter if is_space(letter) => {
                let end = rest.find(|letter| !is_space(letter)).unwrap_or(rest.len());
                let gap = rest.get(..end).unwrap_or_default();
                // The last space before `-}}` belongs to the marker.
                let after = rest.get(end..).unwrap_or_default();
                let keep = if after.starts_with("-}}") { gap.len() - 1 } else { gap.len() };
                self.take(keep.max(1));
                Kind::Space
            }
            '=' => self.one(Kind::Assign),
            ':' if second == Some('=') => {
                self.take(2);
                Kind::Declare
            }
            ':' => return Err("expected :=".to_owned()),
            '|' => self.one(Kind::Pipe),
            ',' => self.one(Kind::Comma),
            '(' => {
                self.depth += 1;
                self.one(Kind::Left)
            }
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or("unexpected right paren")?;
                self.one(Kind::Right)
            }
            '"' | '\'' => self.quoted(first)?,
            '`' => {
                let end =
                    rest.get(1..).and_then(|rest| rest.find('`')).ok_or("unterminated raw quoted string")?;
                Kind::Quoted(self.take(end + 2).to_owned())
            }
            '$' => {
                let name = self.named(1)?;
                Kind::Variable(name)
            }
            '.' if !second.is_some_and(|letter| letter.is_ascii_digit()) => {
                if second.is_some_and(is_alphanumeric) {
                    Kind::Field(self.named(1)?)
                } else {
                    self.one(Kind::Dot)
                }
            }
            '+' | '-' | '.' | '0'..='9' => self.number()?,
            letter if is_alphanumeric(letter) => {
                let name = self.named(0)?;
                match KEYWORDS.iter().find(|keyword| **keyword == name) {
                    Some(keyword) => Kind::Keyword(keyword),
                    None => Kind::Word(name),
                }
            }
            letter if letter.is_ascii_graphic() => self.one(Kind::Letter(letter)),
            letter => {
                return Err(format!(
                    "unrecognized character in action: U+{:04X} '{letter}'",
                    u32::from(letter)
                ));
            }
        };
        self.push(begin, kind);
        Ok(())
    }

    fn one(&mut self, kind: Kind) -> Kind {
        self.take(self.rest().chars().next().map_or(0, char::len_utf8));
        kind
    }

    /// Takes `skip` bytes and the letters and digits after them; what follows must be able to end a word.
    fn named(&mut self, skip: usize) -> Result<String, String> {
        let rest = self.rest();
        let tail = rest.get(skip..).unwrap_or_default();
        let length = skip + tail.find(|letter| !is_alphanumeric(letter)).unwrap_or(tail.len());
        let name = self.take(length).to_owned();
        match self.rest().chars().next() {
            Some(letter) if !is_space(letter) && !".,|:=)(}".contains(letter) => {
                Err(format!("bad character U+{:04X} '{letter}'", u32::from(letter)))
            }
            _ => Ok(name),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, String> {
        let what =
            if quote == '"' { "unterminated quoted string" } else { "unterminated character constant" };
        let mut escaped = false;
        for (index, letter) in self.rest().char_indices().skip(1) {
            match letter {
                '\n' => return Err(what.to_owned()),
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                letter if letter == quote => {
                    let text = self.take(index + 1).to_owned();
                    return Ok(if quote == '"' { Kind::Quoted(text) } else { Kind::Character(text) });
                }
                _ => {}
            }
        }
        Err(what.to_owned())
    }

    fn number(&mut self) -> Result<Kind, String> {
        let rest = self.rest();
        let signed = rest.trim_start_matches(['+', '-']);
        let sign = rest.len() - signed.len();
        let hex = signed.starts_with("0x") || signed.starts_with("0X");
        let mut previous = ' ';
        let mut digits = 0;
        for letter in signed.chars() {
            let exponent = if hex { matches!(previous, 'p' | 'P') } else { matches!(previous, 'e' | 'E') };
            let belongs = letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_');
            if !(belongs || exponent && matches!(letter, '+' | '-')) {
                break;
            }
            digits += letter.len_utf8();
            previous = letter;
        }
        let text = self.take(sign.min(1) + digits).to_owned();
        Ok(Kind::Number(text))
    }
}

fn opens_with_trim(text: &str) -> bool {
    text.strip_prefix("{{-").is_some_and(|rest| rest.starts_with(is_space))
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}
