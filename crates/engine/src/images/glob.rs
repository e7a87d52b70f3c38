//! Go's `path.Match`, which the `reference` filter uses: `*` and `?` stop at slashes.
//!
//! Pure.

/// Says whether all of `text` matches `pattern`; `None` if the pattern is broken.
pub(super) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    well_formed(&pattern)?;
    match_here(&pattern, &text)
}

/// Reads a pattern to its end, so that a broken one is refused whatever the text is.
fn well_formed(mut pattern: &[char]) -> Option<()> {
    loop {
        match pattern {
            [] => return Some(()),
            ['[', rest @ ..] => pattern = class(rest, '\0')?.1,
            ['\\'] => return None,
            ['\\', _, rest @ ..] | [_, rest @ ..] => pattern = rest,
        }
    }
}

fn match_here(pattern: &[char], text: &[char]) -> Option<bool> {
    // The last star seen and how much text it may swallow next.
    let mut star: Option<(&[char], &[char])> = None;
    let (mut pattern, mut text) = (pattern, text);
    loop {
        let step = match (pattern, text) {
            (['*', rest @ ..], _) => {
                star = Some((rest, text));
                Some((rest, text))
            }
            ([], []) => return Some(true),
            (['?', rest @ ..], [c, text @ ..]) if *c != '/' => Some((rest, text)),
            (['[', rest @ ..], [c, text @ ..]) => {
                let (matched, rest) = class(rest, *c)?;
                matched.then_some((rest, text))
            }
            (['\\', wanted, rest @ ..], [c, text @ ..]) if wanted == c => Some((rest, text)),
            ([wanted, rest @ ..], [c, text @ ..]) if wanted == c && !matches!(wanted, '?' | '[' | '\\') => {
                Some((rest, text))
            }
            _ => None,
        };
        (pattern, text) = match (step, star) {
            (Some(next), _) => next,
            (None, Some((after, [c, swallowed @ ..]))) if *c != '/' => {
                star = Some((after, swallowed));
                (after, swallowed)
            }
            (None, _) => return Some(false),
        };
    }
}

/// Matches `c` against the class whose `[` has been read; returns what follows its `]`.
fn class(mut pattern: &[char], c: char) -> Option<(bool, &[char])> {
    let negated = matches!(pattern, ['^', ..]);
    if let (true, [_, rest @ ..]) = (negated, pattern) {
        pattern = rest;
    }
    let mut found = false;
    let mut ranges = 0;
    loop {
        if let ([']', rest @ ..], true) = (pattern, ranges > 0) {
            return Some((found != negated, rest));
        }
        let (low, rest) = class_char(pattern)?;
        let (high, rest) = match rest {
            ['-', rest @ ..] => class_char(rest)?,
            rest => (low, rest),
        };
        found |= (low..=high).contains(&c);
        pattern = rest;
        ranges += 1;
    }
}

fn class_char(pattern: &[char]) -> Option<(char, &[char])> {
    match pattern {
        [] | ['-' | ']', ..] | ['\\'] => None,
        ['\\', c, rest @ ..] | [c, rest @ ..] => (!rest.is_empty()).then_some((*c, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, text, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[^b-d]", "abc", Some(false)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a???b", "a☺b", Some(false)),
            ("a?b", "a/b", Some(false)),
            ("[a-ζ]*", "α", Some(true)),
            ("[\\]a]", "]", Some(true)),
            ("[x\\-]", "-", Some(true)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("a[", "ab", None),
            ("\\", "a", None),
            ("*x", "xxx", Some(true)),
            ("busy*", "busybox:latest", Some(true)),
            ("", "", Some(true)),
            ("", "a", Some(false)),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
