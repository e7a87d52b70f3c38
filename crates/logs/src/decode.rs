//! A JSON line → an entry.

#[cfg(test)]
use crate::encode;
use crate::encode::HEAD;
use crate::{Attributes, Entry, Stream};
use base::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: Option<Attributes>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// The last time that was read: entries that were written together have the same.
#[derive(Debug, Default)]
pub(crate) struct LastTime {
    text: String,
    time: Option<Timestamp>,
}

impl LastTime {
    fn parse(&mut self, text: &str) -> Option<Timestamp> {
        if self.text != text {
            self.time = Timestamp::parse(text);
            text.clone_into(&mut self.text);
        }
        self.time
    }
}

/// Reads a line; `None` if it is not an entry (torn by a power cut, written by somebody else).
pub(crate) fn json(line: &[u8], last: &mut LastTime) -> Option<Entry> {
    as_written_here(line, last).or_else(|| any_json(line, last))
}

fn any_json(line: &[u8], last: &mut LastTime) -> Option<Entry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    Some(Entry {
        stream: if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout },
        time: last.parse(&line.time)?,
        line: line.log.into_owned().into_bytes(),
        attributes: line.attrs.unwrap_or_default(),
    })
}

/// Reads a line that has exactly the shape the writer gives it, without attributes; several times quicker.
fn as_written_here(line: &[u8], last: &mut LastTime) -> Option<Entry> {
    let escaped = line.strip_prefix(HEAD)?;
    let mut text = Vec::with_capacity(escaped.len());
    let rest = unescape(escaped, &mut text)?.strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = match rest.strip_prefix(b"out\",\"time\":\"") {
        Some(rest) => (Stream::Stdout, rest),
        None => (Stream::Stderr, rest.strip_prefix(b"err\",\"time\":\"")?),
    };
    let time = std::str::from_utf8(rest.strip_suffix(b"\"}\n")?).ok()?;
    Some(Entry { stream, time: last.parse(time)?, line: text, attributes: Attributes::new() })
}

/// Appends the text of a JSON string to `out` and returns what follows its closing quotation mark.
fn unescape<'a>(mut from: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (plain, rest) = from.split_at(unescaped_prefix(from));
        out.extend_from_slice(plain);
        let (first, rest) = rest.split_first()?;
        if *first == b'"' {
            return Some(rest);
        }
        let (kind, rest) = rest.split_first()?;
        from = rest;
        match kind {
            b'"' | b'\\' | b'/' => out.push(*kind),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (digits, rest) = rest.split_at_checked(4)?;
                let digits = std::str::from_utf8(digits).ok()?;
                // Halves of a pair are left to the general reader.
                let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                from = rest;
            }
            _ => return None,
        }
    }
}

/// Returns how many bytes stand before the next quotation mark or backslash.
fn unescaped_prefix(text: &[u8]) -> usize {
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\');
    let mut length = 0;
    for chunk in text.chunks(32) {
        // No early exit within a chunk, so that it is done in vector registers.
        if chunk.iter().fold(false, |found, byte| found | ends(byte)) {
            return length + chunk.iter().position(ends).unwrap_or(chunk.len());
        }
        length += chunk.len();
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_read_the_same() {
        let check = |line: &str, same: bool| {
            let quick = as_written_here(line.as_bytes(), &mut LastTime::default());
            let general = any_json(line.as_bytes(), &mut LastTime::default());
            assert_eq!(quick == general, same, "{line}: {quick:?} {general:?}");
        };
        let entry = |log: &str| {
            format!("{{\"log\":\"{log}\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20Z\"}}\n")
        };
        for log in ["", "a\\n", "\\u003cb\\u003e\\ufffd", "é\\\\\\\"", "\\u2028x\\r\\n\\t\\u0000"] {
            check(&entry(log), true);
        }
        // Not as the writer writes it: only the general way reads it.
        check(&entry("\\ud83d\\ude00"), false);
        check("{\"stream\":\"stdout\",\"log\":\"x\",\"time\":\"2023-11-14T22:13:20Z\"}\n", false);
        for bad in ["{\"log\":\"", "{\"log\":\"\\u12", "", "null"] {
            check(bad, true);
            assert!(json(bad.as_bytes(), &mut LastTime::default()).is_none());
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_the_quick_way(bytes: Vec<u8>, stderr: bool) {
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            let mut line = HEAD.to_vec();
            encode::escape(&mut line, &bytes);
            encode::tail(&mut line, stream, &Attributes::new(), Timestamp::from_nanos(1_700_000_000_000_000_001));
            let quick = as_written_here(&line, &mut LastTime::default());
            proptest::prop_assert!(quick.is_some());
            proptest::prop_assert_eq!(quick, any_json(&line, &mut LastTime::default()));
        }
    }
}
