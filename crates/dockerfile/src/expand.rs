//! Variables in words: `$x`, `${x}` and its operators, quotes and escapes.
//!
//! The rules are those of `BuildKit`'s shell lexer: single quotes stop expansion, double quotes do not, the escape
//! character protects what follows it. Quotes are taken away.

use std::iter::Peekable;
use std::str::Chars;

/// What variables stand for; `None` for one that is not set.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Expands one word (which may hold blanks) and takes its quotes away.
///
/// # Errors
///
/// What is wrong with it, or the text of `${x:?text}`.
pub fn expand(word: &str, variables: &Variables<'_>, escape: char) -> Result<String, String> {
    let mut lexer = Lexer { rest: word.chars().peekable(), variables, escape, depth: 0 };
    let found = lexer.until(None, false)?;
    Ok(found.text)
}

/// Expands a line and splits the result at blanks that are not quoted, so that a variable may hold several words.
///
/// # Errors
///
/// As for [`expand`].
pub fn expand_words(line: &str, variables: &Variables<'_>, escape: char) -> Result<Vec<String>, String> {
    let mut lexer = Lexer { rest: line.chars().peekable(), variables, escape, depth: 0 };
    Ok(lexer.until(None, false)?.words())
}

/// Nested `${a:-${b:-…}}` are followed so deep.
const MAX_DEPTH: usize = 100;

/// Expanded text, and which of its characters were quoted.
#[derive(Default)]
struct Found {
    text: String,
    /// Byte offsets of blanks that separate nothing.
    quoted: Vec<usize>,
    /// Byte offsets of empty words in quotes.
    empty: Vec<usize>,
}

impl Found {
    fn push(&mut self, c: char, quoted: bool) {
        if quoted && c.is_whitespace() {
            self.quoted.push(self.text.len());
        }
        self.text.push(c);
    }

    fn words(self) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        for (offset, c) in self.text.char_indices() {
            if self.empty.contains(&offset) {
                word.get_or_insert_default();
            }
            if c.is_whitespace() && !self.quoted.contains(&offset) {
                words.extend(word.take());
            } else {
                word.get_or_insert_default().push(c);
            }
        }
        if self.empty.contains(&self.text.len()) {
            word.get_or_insert_default();
        }
        words.extend(word);
        words
    }
}

struct Lexer<'a, 'b> {
    rest: Peekable<Chars<'a>>,
    variables: &'b Variables<'b>,
    escape: char,
    depth: usize,
}

impl Lexer<'_, '_> {
    /// Reads to `stop` (which is taken), or to the end. `patterns` keeps escapes, since a pattern has its own.
    fn until(&mut self, stop: Option<char>, patterns: bool) -> Result<Found, String> {
        let mut found = Found::default();
        loop {
            let Some(c) = self.rest.next() else {
                return match stop {
                    Some(stop) => {
                        Err(format!("unexpected end of statement while looking for matching {stop:?}"))
                    }
                    None => Ok(found),
                };
            };
            match c {
                c if Some(c) == stop => return Ok(found),
                '\'' => self.single(&mut found)?,
                '"' => self.double(&mut found)?,
                '$' => {
                    let value = self.dollar()?;
                    found.text.push_str(&value);
                }
                c if c == self.escape => match self.rest.next() {
                    Some(next) => {
                        if patterns {
                            found.push(c, true);
                        }
                        found.push(next, true);
                    }
                    // An escape at the very end stands for itself.
                    None => found.push(c, false),
                },
                c => found.push(c, false),
            }
        }
    }

    fn single(&mut self, found: &mut Found) -> Result<(), String> {
        let start = found.text.len();
        loop {
            match self.rest.next() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching single-quote".to_owned()
                    );
                }
                Some('\'') => break,
                Some(c) => found.push(c, true),
            }
        }
        if found.text.len() == start {
            found.empty.push(start);
        }
        Ok(())
    }

    fn double(&mut self, found: &mut Found) -> Result<(), String> {
        let start = found.text.len();
        loop {
            let Some(c) = self.rest.next() else {
                return Err("unexpected end of statement while looking for matching double-quote".to_owned());
            };
            match c {
                '"' => break,
                '$' => self.dollar()?.chars().for_each(|c| found.push(c, true)),
                c if c == self.escape => match self.rest.peek().copied() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        self.rest.next();
                        found.push(next, true);
                    }
                    _ => found.push(c, true),
                },
                c => found.push(c, true),
            }
        }
        if found.text.len() == start {
            found.empty.push(start);
        }
        Ok(())
    }

    /// What comes after a dollar sign.
    fn dollar(&mut self) -> Result<String, String> {
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.rest.next();
        match self.rest.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("syntax error: substitutions are nested too deep".to_owned());
        }
        let name = self.name();
        let value = self.value(&name);
        let expanded = self.modified(&name, value);
        self.depth -= 1;
        expanded
    }

    /// What comes after the name in braces.
    fn modified(&mut self, name: &str, value: Option<String>) -> Result<String, String> {
        let unsupported = |c: char| Err(format!("unsupported modifier ({c}) in substitution"));
        let Some(first) = self.rest.next() else { return Err("syntax error: missing '}'".to_owned()) };
        let (operator, null_is_unset) = match first {
            '}' => return Ok(value.unwrap_or_default()),
            ':' => match self.rest.next() {
                Some(c @ ('-' | '+' | '?')) => (c, true),
                Some(c) => return Err(format!("unsupported modifier (:{c}) in substitution")),
                None => return Err("syntax error: missing '}'".to_owned()),
            },
            c @ ('-' | '+' | '?' | '#' | '%' | '/') => (c, false),
            c => return unsupported(c),
        };
        let present = value.clone().filter(|value| !(null_is_unset && value.is_empty()));
        match operator {
            '-' => {
                let word = self.until(Some('}'), false)?.text;
                Ok(present.unwrap_or(word))
            }
            '+' => {
                let word = self.until(Some('}'), false)?.text;
                Ok(present.map_or_else(String::new, |_| word))
            }
            '?' => {
                let word = self.until(Some('}'), false)?.text;
                let default =
                    if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                present.ok_or_else(|| format!("{name}: {}", if word.is_empty() { default } else { &word }))
            }
            '#' | '%' => {
                let greedy = self.rest.next_if_eq(&operator).is_some();
                let pattern = self.until(Some('}'), true)?.text;
                let value = value.unwrap_or_default();
                let trim = if operator == '#' { trim_prefix } else { trim_suffix };
                Ok(trim(&pattern, &value, greedy, self.escape))
            }
            '/' => {
                let all = self.rest.next_if_eq(&'/').is_some();
                let pattern = self.until(Some('/'), true)?.text;
                let replacement = self.until(Some('}'), true)?.text;
                Ok(replace(&pattern, &replacement, &value.unwrap_or_default(), all, self.escape))
            }
            c => unsupported(c),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek().copied() {
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
            }
            Some(c) if "@*#?-$!".contains(c) => {
                self.rest.next();
                name.push(c);
            }
            _ => {}
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.variables)(name)
    }
}

/// Says whether all of `text` matches a pattern of `*`, `?` and escapes.
fn matches(pattern: &[char], text: &[char], escape: char) -> bool {
    // The last star, and where its match ended: on a mismatch it takes one more.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        let (literal, step) = match pattern.get(p) {
            Some(e) if *e == escape && p + 1 < pattern.len() => (pattern.get(p + 1), 2),
            other => (other, 1),
        };
        let special = step == 1;
        match literal {
            Some('*') if special => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') if special => {}
            Some(l) if l == c => {}
            _ => match star {
                Some((after, end)) => {
                    star = Some((after, end + 1));
                    (p, t) = (after, end + 1);
                    continue;
                }
                None => return false,
            },
        }
        p += step;
        t += 1;
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}

fn trim_prefix(pattern: &str, value: &str, greedy: bool, escape: char) -> String {
    let (pattern, value): (Vec<char>, Vec<char>) = (pattern.chars().collect(), value.chars().collect());
    let fits = |end: &usize| matches(&pattern, value.get(..*end).unwrap_or_default(), escape);
    let mut ends = 0..=value.len();
    let end = if greedy { ends.rfind(fits) } else { ends.find(fits) };
    value.get(end.unwrap_or(0)..).unwrap_or_default().iter().collect()
}

fn trim_suffix(pattern: &str, value: &str, greedy: bool, escape: char) -> String {
    let (pattern, value): (Vec<char>, Vec<char>) = (pattern.chars().collect(), value.chars().collect());
    let fits = |start: &usize| matches(&pattern, value.get(*start..).unwrap_or_default(), escape);
    let mut starts = 0..=value.len();
    let start = if greedy { starts.find(fits) } else { starts.rfind(fits) };
    value.get(..start.unwrap_or(value.len())).unwrap_or_default().iter().collect()
}

/// Replaces the first (or each) longest match.
fn replace(pattern: &str, replacement: &str, value: &str, all: bool, escape: char) -> String {
    let (pattern, value): (Vec<char>, Vec<char>) = (pattern.chars().collect(), value.chars().collect());
    let mut replaced = String::new();
    let mut position = 0;
    let mut done = false;
    while position < value.len() {
        let fits = |end: &usize| matches(&pattern, value.get(position..*end).unwrap_or_default(), escape);
        let end = if done { None } else { (position + 1..=value.len()).rfind(fits) };
        match end {
            Some(end) => {
                replaced.push_str(replacement);
                position = end;
                done = !all;
            }
            None => {
                replaced.extend(value.get(position));
                position += 1;
            }
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "x" => Some("value".to_owned()),
            "empty" => Some(String::new()),
            "path" => Some("/usr/local/lib.tar.gz".to_owned()),
            "two" => Some("a b".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn every_form() {
        for (word, expect) in [
            ("$x", "value"),
            ("${x}y$none.", "valuey."),
            ("$xy", ""),
            ("\\$x '$x' \"$x\"", "$x $x value"),
            ("\"\\$x\\n\"", "$x\\n"),
            ("${none:-d}${none-d}${empty:-e}${empty-e}", "dde"),
            ("${x:+w}${empty:+w}${empty+w}${none+w}", "ww"),
            ("${none:-${x}}${none:-'a}b'}", "valuea}b"),
            ("${path#*/}", "usr/local/lib.tar.gz"),
            ("${path##*/}", "lib.tar.gz"),
            ("${path%.*}", "/usr/local/lib.tar"),
            ("${path%%.*}", "/usr/local/lib"),
            ("${path/l/L}", "/usr/Local/lib.tar.gz"),
            ("${path//l/L}", "/usr/LocaL/Lib.tar.gz"),
            ("${path#\\*}", "/usr/local/lib.tar.gz"),
            ("${path/usr*local/x}", "/x/lib.tar.gz"),
            ("${x?}${x:?no}", "valuevalue"),
            ("a$", "a$"),
            ("$$", ""),
            ("é${x}ü", "évalueü"),
            ("\\", "\\"),
        ] {
            assert_eq!(expand(word, &variables, '\\').as_deref(), Ok(expect), "{word}");
        }
        assert_eq!(expand("`$x \\$x", &variables, '`').as_deref(), Ok("$x \\value"));
    }

    #[test]
    fn errors_say_what() {
        for (word, expect) in [
            ("${x", "syntax error: missing '}'"),
            ("${", "syntax error: missing '}'"),
            ("${}", "syntax error: bad substitution"),
            ("${x!y}", "unsupported modifier (!) in substitution"),
            ("${x:y}", "unsupported modifier (:y) in substitution"),
            ("${none:?must be set}", "none: must be set"),
            ("${none?}", "none: is not allowed to be unset"),
            ("${empty:?}", "empty: is not allowed to be empty"),
            ("'open", "unexpected end of statement while looking for matching single-quote"),
            ("\"open", "unexpected end of statement while looking for matching double-quote"),
            ("${x:-y", "unexpected end of statement while looking for matching '}'"),
        ] {
            assert_eq!(expand(word, &variables, '\\'), Err(expect.to_owned()), "{word}");
        }
        let deep = "${a:-".repeat(200);
        assert_eq!(
            expand(&deep, &variables, '\\'),
            Err("syntax error: substitutions are nested too deep".to_owned())
        );
    }

    #[test]
    fn a_variable_may_be_several_words() {
        for (line, expect) in [
            ("$two c", &["a", "b", "c"][..]),
            ("\"$two\" 'c d'", &["a b", "c d"]),
            ("a\\ b", &["a b"]),
            ("$none \"\"", &[""]),
        ] {
            assert_eq!(expand_words(line, &variables, '\\').unwrap(), expect, "{line}");
        }
    }
}
