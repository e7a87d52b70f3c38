//! Splitting lines into words, as shells do, but keeping what stands in them.

/// A word as it stands, with the offset of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    pub(crate) offset: usize,
}

/// Splits at blanks outside of quotes; quotes and escapes stay in the words. A quote that is never closed reaches to
/// the end.
pub(crate) fn raw(text: &str, escape: char) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.char_indices();
    let mut finish = |start: &mut Option<usize>, end: usize| {
        if let Some(offset) = start.take() {
            words.extend(text.get(offset..end).map(|text| Word { text, offset }));
        }
    };
    while let Some((index, c)) = characters.next() {
        match quote {
            Some(open) => {
                if c == open {
                    quote = None;
                } else if c == escape && open == '"' {
                    characters.next();
                }
            }
            None if c.is_whitespace() => finish(&mut start, index),
            None => {
                start.get_or_insert(index);
                if c == escape {
                    characters.next();
                } else if c == '"' || c == '\'' {
                    quote = Some(c);
                }
            }
        }
    }
    finish(&mut start, text.len());
    words
}

/// Removes quotes and escapes; variables stay.
pub(crate) fn unquote(word: &str, escape: char) -> String {
    let mut plain = String::new();
    let mut quote: Option<char> = None;
    let mut characters = word.chars().peekable();
    while let Some(c) = characters.next() {
        match quote {
            Some(open) if c == open => quote = None,
            Some('"') if c == escape => match characters.peek() {
                Some(next) if *next == '"' || *next == '$' || *next == escape => {
                    plain.extend(characters.next());
                }
                _ => plain.push(c),
            },
            None if c == escape => plain.extend(characters.next()),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(_) | None => plain.push(c),
        }
    }
    plain
}

/// Says whether a word has a quote that is never closed.
pub(crate) fn is_open(word: &str, escape: char) -> bool {
    let mut quote: Option<char> = None;
    let mut characters = word.chars();
    while let Some(c) = characters.next() {
        match quote {
            Some(open) if c == open => quote = None,
            Some('"') | None if c == escape => drop(characters.next()),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(_) | None => {}
        }
    }
    quote.is_some()
}

/// Reads a JSON list of strings; anything else is none.
pub(crate) fn json_list(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_quotes_and_escapes() {
        for (text, expect) in [
            ("a b  c", &["a", "b", "c"][..]),
            ("a=\"b c\" d='e f'", &["a=\"b c\"", "d='e f'"]),
            ("a\\ b c", &["a\\ b", "c"]),
            ("\"a\\\" b\" c", &["\"a\\\" b\"", "c"]),
            ("'a\\' b", &["'a\\'", "b"]),
            ("\"open end", &["\"open end"]),
            ("", &[]),
        ] {
            let found: Vec<&str> = raw(text, '\\').into_iter().map(|word| word.text).collect();
            assert_eq!(found, expect, "{text}");
        }
        assert_eq!(raw("  x  yy", '\\')[1].offset, 5);
    }

    #[test]
    fn quotes_go_and_what_they_protect_stays() {
        for (text, expect) in [
            ("\"a b\"", "a b"),
            ("'$x'", "$x"),
            ("a\\ b", "a b"),
            ("\"a\\nb\\\"\"", "a\\nb\""),
            ("a'b'c", "abc"),
        ] {
            assert_eq!(unquote(text, '\\'), expect);
        }
        assert!(is_open("a\"b", '\\') && !is_open("a\\\"b", '\\') && is_open("'\\'x'", '\\'));
    }

    #[test]
    fn only_lists_of_strings_are_json() {
        assert_eq!(json_list(" [\"a\", \"b\"] "), Some(vec!["a".to_owned(), "b".to_owned()]));
        for text in ["['a']", "[1]", "[\"a\"", "x", "{}"] {
            assert_eq!(json_list(text), None, "{text}");
        }
        assert_eq!(json_list("[]"), Some(Vec::new()));
    }
}
