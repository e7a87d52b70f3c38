//! From the file's text to logical lines: directives, comments, continuations, here-documents.
//!
//! A logical line remembers where each of its pieces stood, so that an error anywhere in it has its exact place.

use crate::problem::Problem;
use crate::words;

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, without quotes.
    pub name: String,
    /// The lines between, each with its end.
    pub body: String,
    /// Whether variables are to be expanded in it (the word had no quotes).
    pub expand: bool,
    /// Whether leading tabs are to be removed (`<<-`).
    pub chomp: bool,
    /// The descriptor it is for, where a shell reads it (`3<<EOF`).
    pub descriptor: Option<u32>,
}

impl Heredoc {
    /// Returns the body, without leading tabs if that was asked for.
    pub fn content(&self) -> String {
        if !self.chomp {
            return self.body.clone();
        }
        self.body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// What the `check` directive says (`# check=skip=A,B;error=true`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    /// Rules that are not applied; `all` for none at all.
    pub skip: Vec<String>,
    /// Whether a warning fails the build.
    pub error: bool,
}

/// The parser directives of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) syntax: Option<String>,
    pub(crate) escape: char,
    pub(crate) checks: Checks,
}

/// A piece of a logical line: where it begins in there, and where it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    offset: usize,
    line: usize,
    column: usize,
}

/// One instruction's text, its continuation lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logical {
    pub(crate) text: String,
    pieces: Vec<Piece>,
    /// Its first and last line in the file, from 1.
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) heredocs: Vec<Heredoc>,
    /// Lines within it that are empty.
    pub(crate) gaps: Vec<usize>,
}

impl Logical {
    /// Returns the line and column of the byte at `offset`.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let piece = self.pieces.iter().rev().find(|piece| piece.offset <= offset).or(self.pieces.first());
        let Some(piece) = piece else { return (self.first, 1) };
        let between = self.text.get(piece.offset..offset.min(self.text.len())).unwrap_or_default();
        (piece.line, piece.column + between.chars().count())
    }
}

/// A file taken apart.
#[derive(Debug, Clone)]
pub(crate) struct File<'a> {
    pub(crate) lines: Vec<&'a str>,
    pub(crate) directives: Directives,
    pub(crate) logical: Vec<Logical>,
}

/// Instructions that may have here-documents.
const WITH_HEREDOCS: [&str; 3] = ["ADD", "COPY", "RUN"];

impl<'a> File<'a> {
    /// Takes the text of a file apart.
    pub(crate) fn read(text: &'a str) -> Result<Self, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let directives = directives(&lines)?;
        let mut reader = Reader { lines: &lines, next: 0, escape: directives.escape };
        let mut logical = Vec::new();
        while let Some(line) = reader.logical()? {
            logical.push(line);
        }
        Ok(Self { lines, directives, logical })
    }

    /// Makes a problem at the byte `offset` of a logical line.
    pub(crate) fn problem(&self, line: &Logical, offset: usize, message: impl Into<String>) -> Problem {
        let (number, column) = line.place(offset);
        problem(&self.lines, number, column, message)
    }
}

fn problem(lines: &[&str], line: usize, column: usize, message: impl Into<String>) -> Problem {
    let shown = lines.get(line.saturating_sub(1)).map_or("", |line| without_end(line)).to_owned();
    Problem { message: message.into(), line, column, shown }
}

fn without_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// Reads the comments at the very top that are directives.
fn directives(lines: &[&str]) -> Result<Directives, Problem> {
    let mut found = Directives { syntax: None, escape: '\\', checks: Checks::default() };
    let mut seen: Vec<String> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((name, value)) = directive(without_end(line)) else { break };
        let wrong = |message: String| problem(lines, index + 1, 1, message);
        if !matches!(name.as_str(), "syntax" | "escape" | "check") {
            break;
        }
        if seen.contains(&name) {
            return Err(wrong(format!("only one {name} parser directive can be used")));
        }
        match name.as_str() {
            "escape" => {
                found.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        return Err(wrong(format!("invalid escape token '{other}' does not match ` or \\")));
                    }
                };
            }
            "check" => found.checks = checks(value).map_err(wrong)?,
            _ => found.syntax = Some(value.to_owned()),
        }
        seen.push(name);
    }
    Ok(found)
}

/// `# name=value`, blanks allowed around each part.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (valid && !value.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

impl Checks {
    /// Reads what stands after `check=`.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn parse(value: &str) -> Result<Self, String> {
        checks(value)
    }
}

fn checks(value: &str) -> Result<Checks, String> {
    let mut checks = Checks::default();
    for part in value.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("invalid check option {part:?}"))?;
        match key.trim() {
            "skip" => checks.skip.extend(value.split(',').map(|rule| rule.trim().to_owned())),
            "error" => {
                checks.error = match value.trim() {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    other => return Err(format!("invalid value {other:?} for check option \"error\"")),
                };
            }
            // Experimental rules: there are none.
            "experimental" => {}
            other => {
                let hint = crate::suggest::hint(other, ["skip", "error", "experimental"]);
                return Err(format!("invalid check option {other:?}{hint}"));
            }
        }
    }
    Ok(checks)
}

struct Reader<'a, 'b> {
    lines: &'b [&'a str],
    next: usize,
    escape: char,
}

impl Reader<'_, '_> {
    fn take(&mut self) -> Option<(usize, &str)> {
        let line = self.lines.get(self.next)?;
        self.next += 1;
        Some((self.next, line))
    }

    /// Returns the next instruction with all that belongs to it.
    fn logical(&mut self) -> Result<Option<Logical>, Problem> {
        let escape = self.escape;
        let (first, start, indent) = loop {
            let Some((number, line)) = self.take() else { return Ok(None) };
            let line = without_end(line);
            let trimmed = line.trim_start();
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                let indent = line.chars().count() - trimmed.chars().count();
                break (number, trimmed.to_owned(), indent);
            }
        };
        let mut logical = Logical {
            text: String::new(),
            pieces: vec![Piece { offset: 0, line: first, column: indent + 1 }],
            first,
            last: first,
            heredocs: Vec::new(),
            gaps: Vec::new(),
        };
        let (piece, mut more) = continued(&start, escape);
        logical.text.push_str(piece);
        while more {
            let Some((number, line)) = self.take() else { break };
            let line = without_end(line);
            let trimmed = line.trim();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                logical.gaps.push(number);
                continue;
            }
            let piece;
            (piece, more) = continued(line, escape);
            logical.pieces.push(Piece { offset: logical.text.len(), line: number, column: 1 });
            logical.text.push_str(piece);
            logical.last = number;
        }
        self.heredocs(&mut logical)?;
        Ok(Some(logical))
    }

    /// Reads the here-documents that the line announces.
    fn heredocs(&mut self, logical: &mut Logical) -> Result<(), Problem> {
        let mut keyword = logical.text.split_whitespace().map(str::to_ascii_uppercase);
        let first = keyword.next().unwrap_or_default();
        let own = if first == "ONBUILD" { keyword.next().unwrap_or_default() } else { first };
        if !WITH_HEREDOCS.contains(&own.as_str()) {
            return Ok(());
        }
        for word in words::raw(&logical.text, self.escape) {
            let Some(mut heredoc) = announced(word.text, self.escape) else { continue };
            let opened = logical.place(word.offset);
            let mut closed = false;
            while let Some((number, line)) = self.take() {
                logical.last = number;
                let end = without_end(line);
                let end = if heredoc.chomp { end.trim_start_matches('\t') } else { end };
                if end == heredoc.name {
                    closed = true;
                    break;
                }
                heredoc.body.push_str(line);
            }
            if !closed {
                let message = format!("unterminated heredoc: no line is {:?}", heredoc.name);
                return Err(problem(self.lines, opened.0, opened.1, message));
            }
            logical.heredocs.push(heredoc);
        }
        Ok(())
    }
}

/// Splits off the mark of continuation at a line's end.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let end = line.trim_end_matches([' ', '\t']);
    match end.strip_suffix(escape) {
        // A doubled escape is itself and continues nothing.
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

/// `[N]<<[-]WORD`, the word perhaps in quotes.
pub(crate) fn announced(word: &str, escape: char) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = word.split_at_checked(digits)?;
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let name = words::unquote(rest, escape);
    Some(Heredoc { expand: name == rest, name, body: String::new(), chomp, descriptor: number.parse().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<String> {
        File::read(file).unwrap().logical.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_dropped() {
        for (file, expect) in [
            ("FROM a\n\n# c\n  RUN x\n", &["FROM a", "RUN x"][..]),
            ("RUN a \\\n  b\\\n# c\n\n   # d\n c\nRUN z", &["RUN a   b c", "RUN z"]),
            ("RUN a \\  \t\nb", &["RUN a b"]),
            ("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]),
            ("RUN echo a # b", &["RUN echo a # b"]),
            ("# escape=`\nRUN a `\n b\\", &["RUN a  b\\"]),
            ("\u{feff}FROM a\r\nRUN b \\\r\n c\r\n", &["FROM a", "RUN b  c"]),
            ("RUN a \\", &["RUN a "]),
        ] {
            assert_eq!(texts(file), expect, "{file:?}");
        }
    }

    #[test]
    fn directives_are_the_first_comments_only() {
        for (file, expect) in [
            ("# syntax=x\n#escape = `\nFROM a", '`'),
            ("#ESCAPE=`\nFROM a", '`'),
            ("\n# escape=`\nFROM a", '\\'),
            ("# about\n# escape=`\nFROM a", '\\'),
            ("# unknown=x\n# escape=`\nFROM a", '\\'),
        ] {
            assert_eq!(File::read(file).unwrap().directives.escape, expect, "{file:?}");
        }
        let check = File::read("# check=skip=A, B;error=true\nFROM a").unwrap().directives.checks;
        assert_eq!(check, Checks { skip: vec!["A".to_owned(), "B".to_owned()], error: true });
        for (file, expect) in [
            ("# escape=x\nFROM a", "invalid escape token 'x' does not match ` or \\"),
            ("# escape=`\n# escape=`\nFROM a", "only one escape parser directive can be used"),
            ("# check=skp=x\nFROM a", "invalid check option \"skp\" (did you mean skip?)"),
        ] {
            assert_eq!(File::read(file).unwrap_err().message, expect);
        }
    }

    #[test]
    fn heredocs_are_read_to_their_ends() {
        let file = "RUN <<A cat <<-'B'\none\nA\n\ttwo $x\n\tB\nCMD <<C\n";
        let read = File::read(file).unwrap();
        let docs = &read.logical[0].heredocs;
        assert_eq!(docs.len(), 2);
        assert_eq!((docs[0].name.as_str(), docs[0].body.as_str(), docs[0].expand), ("A", "one\n", true));
        assert_eq!((docs[1].content().as_str(), docs[1].expand), ("two $x\n", false));
        assert_eq!(read.logical[1].text, "CMD <<C");
        assert_eq!(texts("RUN echo \"<<A\" a<<B 1<<2\nx\n2\n").len(), 1);
        let problem = File::read("FROM a\nRUN x <<EOF\nbody").unwrap_err();
        assert_eq!((problem.line, problem.column), (2, 7));
        assert_eq!(problem.message, "unterminated heredoc: no line is \"EOF\"");
    }

    #[test]
    fn places_are_those_of_the_file() {
        let read = File::read("  RUN a \\\n\n   bad\n").unwrap();
        let line = &read.logical[0];
        assert_eq!(line.place(0), (1, 3));
        assert_eq!(line.place(line.text.find("bad").unwrap()), (3, 4));
        assert_eq!(line.gaps, [2]);
    }
}
