//! Bytes → a JSON line, as Docker's `json-file` driver writes it.

use crate::{Attributes, Stream};
use base::Timestamp;

/// Bytes looked at together: the compiler turns the test of a whole chunk into a few vector instructions.
const CHUNK: usize = 32;

/// The end of each entry of a batch: everything after the line's text.
pub(crate) fn tail(out: &mut Vec<u8>, stream: Stream, attributes: &Attributes, time: Timestamp) {
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    if attributes.is_empty() {
        out.extend_from_slice(b"\",\"time\":\"");
    } else {
        out.extend_from_slice(b"\",\"attrs\":{");
        for (index, (key, value)) in attributes.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            escape(out, key.as_bytes());
            out.extend_from_slice(b"\":\"");
            escape(out, value.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"},\"time\":\"");
    }
    out.extend_from_slice(time.to_string().as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// The beginning of each entry.
pub(crate) const HEAD: &[u8] = b"{\"log\":\"";

/// Says whether `byte` can stand in a JSON text as it is.
const fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte < 0x80 && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// Returns how many bytes at the start of `text` can be copied as they are.
fn plain_prefix(text: &[u8]) -> usize {
    let mut length = 0;
    for chunk in text.chunks(CHUNK) {
        // No early exit within a chunk, so that it is done in vector registers.
        let special = chunk.iter().fold(false, |found, byte| found | !is_plain(*byte));
        if special {
            return length + chunk.iter().position(|byte| !is_plain(*byte)).unwrap_or(chunk.len());
        }
        length += chunk.len();
    }
    length
}

/// Appends `text` escaped as Go's `encoding/json` does with HTML escaping on: `<>&` and U+2028/9 as `\u00XX`, invalid
/// UTF-8 as U+FFFD.
pub(crate) fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let (plain, rest) = text.split_at(plain_prefix(text).min(text.len()));
        out.extend_from_slice(plain);
        let Some((first, after)) = rest.split_first() else { return };
        if *first < 0x80 {
            escape_ascii(out, *first);
            text = after;
        } else {
            text = escape_unicode(out, rest);
        }
    }
}

fn escape_ascii(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]),
    }
}

/// Appends the bytes above 0x7f at the start of `text`, returns what follows them.
fn escape_unicode<'a>(out: &mut Vec<u8>, text: &'a [u8]) -> &'a [u8] {
    let length = text.iter().position(u8::is_ascii).unwrap_or(text.len());
    let (run, rest) = text.split_at(length);
    for chunk in run.utf8_chunks() {
        let valid = chunk.valid();
        if valid.contains(['\u{2028}', '\u{2029}']) {
            let escaped = valid.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
            out.extend_from_slice(escaped.as_bytes());
        } else {
            out.extend_from_slice(valid.as_bytes());
        }
        // Go replaces each byte by itself.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    rest
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// Returns how many bytes at the end of `text` begin a UTF-8 sequence that is not finished there.
pub(crate) fn unfinished_suffix(text: &[u8]) -> usize {
    for (before, byte) in text.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x00..=0x7f => return 0,
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
        };
        return if before + 1 < length { before + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_go_does() {
        let check = |text: &[u8], expect: &str| {
            let mut out = Vec::new();
            escape(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        };
        check(b"plain", "plain");
        check(b"a\"b\\c\n\r\t\x00\x1b\x7f", "a\\\"b\\\\c\\n\\r\\u0009\\u0000\\u001b\x7f");
        check(b"<&>", "\\u003c\\u0026\\u003e");
        check("é\u{2028}\u{1f600}x".as_bytes(), "é\\u2028\u{1f600}x");
        check(b"\xff\xc3", "\\ufffd\\ufffd");
        check(b"\xe2\x82x", "\\ufffd\\ufffdx");
        check(&[b'x'; 100], &"x".repeat(100));
    }

    #[test]
    fn a_cut_spares_characters() {
        let check = |text: &[u8], expect| assert_eq!(unfinished_suffix(text), expect, "{text:?}");
        check(b"abc", 0);
        check("é".as_bytes(), 0);
        check(b"a\xc3", 1);
        check(b"a\xe2\x82", 2);
        check(b"a\xf0\x9f\x98", 3);
        check("😀".as_bytes(), 0);
        check(b"\x80\x80\x80\x80", 0);
    }

    proptest::proptest! {
        #[test]
        fn text_survives(text in ".*") {
            let mut out = b"\"".to_vec();
            escape(&mut out, text.as_bytes());
            out.push(b'"');
            let back: String = serde_json::from_slice(&out).unwrap();
            proptest::prop_assert_eq!(back, text);
        }

        #[test]
        fn any_bytes_make_valid_json(bytes: Vec<u8>) {
            let mut out = b"\"".to_vec();
            escape(&mut out, &bytes);
            out.push(b'"');
            serde_json::from_slice::<String>(&out).unwrap();
        }
    }
}
