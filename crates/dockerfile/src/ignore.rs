//! `.dockerignore` and other lists of patterns: what is left out.
//!
//! Go's `filepath.Match` for each component, `**` for any number of them, `!` to take back in; the last pattern that
//! fits decides. A pattern also fits everything below what it names.

use std::fmt;

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPattern(pub String);

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "syntax error in pattern: {}", self.0)
    }
}

impl std::error::Error for InvalidPattern {}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    parts: Vec<Vec<char>>,
    takes_back: bool,
}

/// A list of patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Reads a `.dockerignore`.
    ///
    /// # Errors
    ///
    /// The first pattern that is not understood.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::new(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Reads patterns.
    ///
    /// # Errors
    ///
    /// The first one that is not understood.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidPattern> {
        let mut list = Vec::new();
        for given in patterns {
            let text = given.trim();
            if text.is_empty() {
                continue;
            }
            let (takes_back, text) = match text.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, text),
            };
            if text.is_empty() {
                return Err(InvalidPattern("illegal exclusion pattern: \"!\"".to_owned()));
            }
            let parts: Vec<Vec<char>> = clean(text).into_iter().map(|part| part.chars().collect()).collect();
            if parts.iter().any(|part| !is_valid(part)) {
                return Err(InvalidPattern(given.trim().to_owned()));
            }
            list.push(Pattern { parts, takes_back });
        }
        Ok(Self(list))
    }

    /// Says whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says whether `path`, relative and with slashes, is left out.
    pub fn matches(&self, path: &str) -> bool {
        let parts: Vec<Vec<char>> = path
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .map(|part| part.chars().collect())
            .collect();
        let mut out = false;
        for pattern in &self.0 {
            // Only a pattern that could change the answer is looked at.
            if pattern.takes_back == out && fits_prefix(&pattern.parts, &parts) {
                out = !pattern.takes_back;
            }
        }
        out
    }

    /// Says whether something below the folder `path`, which itself is left out, may be taken back in.
    pub fn may_take_back_below(&self, path: &str) -> bool {
        let parts: Vec<Vec<char>> =
            path.split('/').filter(|part| !part.is_empty()).map(|part| part.chars().collect()).collect();
        self.0.iter().filter(|pattern| pattern.takes_back).any(|pattern| leads_below(&pattern.parts, &parts))
    }
}

/// Says whether `path` matches one pattern (`*`, `?`, `[…]`, `**`), component by component.
///
/// # Errors
///
/// A pattern that is not understood.
pub fn glob(pattern: &str, path: &str) -> Result<bool, InvalidPattern> {
    let parts: Vec<Vec<char>> = clean(pattern).into_iter().map(|part| part.chars().collect()).collect();
    if parts.iter().any(|part| !is_valid(part)) {
        return Err(InvalidPattern(pattern.to_owned()));
    }
    let path: Vec<Vec<char>> =
        path.split('/').filter(|part| !part.is_empty()).map(|part| part.chars().collect()).collect();
    Ok(fits(&parts, &path))
}

/// Splits a path and takes out `.`, `..` and doubled slashes, as Go's `filepath.Clean` does.
fn clean(text: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

fn is_valid(part: &[char]) -> bool {
    let mut rest = part.iter().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' if rest.next().is_none() => return false,
            '[' => {
                rest.next_if(|c| **c == '^');
                let mut some = false;
                loop {
                    match rest.next() {
                        None => return false,
                        Some(']') if some => break,
                        Some('\\') if rest.next().is_none() => return false,
                        Some(_) => some = true,
                    }
                }
            }
            _ => {}
        }
    }
    true
}

/// Says whether the pattern fits the path or a folder that it is in.
fn fits_prefix(pattern: &[Vec<char>], path: &[Vec<char>]) -> bool {
    // `.` and `/` mean everything there is.
    (pattern.is_empty() && !path.is_empty())
        || (1..=path.len()).any(|length| fits(pattern, path.get(..length).unwrap_or_default()))
}

fn fits(pattern: &[Vec<char>], path: &[Vec<char>]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if is_any_depth(first) => {
            // At the end, `**` is everything below; before something else, also nothing.
            if rest.is_empty() {
                return !path.is_empty();
            }
            (0..=path.len()).any(|skipped| fits(rest, path.get(skipped..).unwrap_or_default()))
        }
        Some((first, rest)) => {
            path.split_first().is_some_and(|(part, below)| matches_part(first, part) && fits(rest, below))
        }
    }
}

/// Says whether something below `folder` could fit.
fn leads_below(pattern: &[Vec<char>], folder: &[Vec<char>]) -> bool {
    match (pattern.split_first(), folder.split_first()) {
        (Some((first, _)), _) if is_any_depth(first) => true,
        (Some(_), None) => true,
        (Some((first, rest)), Some((part, below))) => matches_part(first, part) && leads_below(rest, below),
        (None, _) => false,
    }
}

fn is_any_depth(part: &[char]) -> bool {
    part == ['*', '*']
}

/// Go's `filepath.Match` within one component.
fn matches_part(pattern: &[char], text: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first {
        '*' => {
            let rest =
                rest.iter().position(|c| *c != '*').map_or(&[][..], |at| rest.get(at..).unwrap_or_default());
            if rest.is_empty() {
                return true;
            }
            (0..=text.len()).any(|skipped| matches_part(rest, text.get(skipped..).unwrap_or_default()))
        }
        '?' => text.split_first().is_some_and(|(_, below)| matches_part(rest, below)),
        '[' => {
            let (Some((class, after)), Some((c, below))) = (class(rest), text.split_first()) else {
                return false;
            };
            class.contains(*c) && matches_part(after, below)
        }
        '\\' => match (rest.split_first(), text.split_first()) {
            (Some((literal, rest)), Some((c, below))) => literal == c && matches_part(rest, below),
            _ => false,
        },
        literal => text.split_first().is_some_and(|(c, below)| literal == c && matches_part(rest, below)),
    }
}

struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn contains(&self, c: char) -> bool {
        self.ranges.iter().any(|(low, high)| *low <= c && c <= *high) != self.negated
    }
}

/// Reads `[…]` after its bracket; returns what follows it.
fn class(pattern: &[char]) -> Option<(Class, &[char])> {
    let mut rest = pattern;
    let mut class = Class { negated: false, ranges: Vec::new() };
    if let Some(('^', after)) = rest.split_first().map(|(first, after)| (*first, after)) {
        class.negated = true;
        rest = after;
    }
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        let mut low = *first;
        if low == ']' && !class.ranges.is_empty() {
            return Some((class, rest));
        }
        if low == '\\' {
            let (literal, after) = rest.split_first()?;
            (low, rest) = (*literal, after);
        }
        let mut high = low;
        if let ['-', end, after @ ..] = rest
            && *end != ']'
        {
            (high, rest) = (*end, after);
        }
        class.ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_fits_decides() {
        for (list, path, expect) in [
            ("*.o", "a.o", true),
            ("*.o", "d/a.o", false),
            ("**/*.o", "d/e/a.o", true),
            ("**/*.o", "a.o", true),
            ("d", "d/e/f", true),
            ("/d//e/../e/", "d/e/f", true),
            ("d/**", "d", false),
            ("d/**", "d/x", true),
            ("d\n!d/keep", "d/keep", false),
            ("d\n!d/keep", "d/other", true),
            ("!d/keep\nd", "d/keep", true),
            ("*\n!a/b", "a/b/c", false),
            (".\n!a/b", "a/b", false),
            ("#x\n #y", "#y", true),
            ("#x", "#x", false),
            ("a?c\n[x-z]?", "abc", true),
            ("[^a]", "b", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("\u{feff}x", "x", true),
            ("", "x", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z/y", true),
            ("**", "x", true),
            ("x\n\n  \n!x", "x", false),
        ] {
            assert_eq!(Patterns::parse(list).unwrap().matches(path), expect, "{list:?} {path}");
        }
    }

    #[test]
    fn folders_are_searched_if_something_in_them_comes_back() {
        for (list, folder, expect) in [
            ("*\n!a/b", "a", true),
            ("*\n!a/b", "c", false),
            ("*\n!**/x", "c", true),
            ("*\n!a*/b/c", "ab/b", true),
            ("*", "a", false),
        ] {
            assert_eq!(
                Patterns::parse(list).unwrap().may_take_back_below(folder),
                expect,
                "{list:?} {folder}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for list in ["[", "a[", "a\\", "!"] {
            assert!(Patterns::parse(list).is_err(), "{list}");
        }
        assert_eq!(Patterns::parse("x\na[b").unwrap_err().to_string(), "syntax error in pattern: a[b");
        assert_eq!((glob("a/*.c", "a/x.c"), glob("a/*.c", "a/b/x.c")), (Ok(true), Ok(false)));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(list in "[a-b*?\\[\\]\\\\!/.^\n-]{0,30}", path in "[a-b/.]{0,12}") {
            if let Ok(patterns) = Patterns::parse(&list) {
                patterns.matches(&path);
                patterns.may_take_back_below(&path);
            }
        }
    }
}
