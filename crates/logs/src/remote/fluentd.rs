//! Fluentd's forward protocol: `[tag, time, record, option]` in `MessagePack`.
//!
//! <https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>, *Message Modes*.

use super::Message;
use crate::Origin;
use std::collections::BTreeMap;

/// What a message is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Whether times have nanoseconds.
    pub(crate) precise: bool,
}

/// Returns the message of an entry.
pub(crate) fn encode(settings: &Settings, message: &Message, origin: &Origin) -> Vec<u8> {
    let name = format!("/{}", origin.name);
    let text = message.text();
    let mut record: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, value) in origin.attributes.iter().filter(|(key, _)| *key != "tag") {
        record.insert(key, value);
    }
    record.insert("container_id", &origin.id);
    record.insert("container_name", &name);
    record.insert("source", message.stream.as_str());
    record.insert("log", &text);
    if message.partial {
        record.insert("partial_message", "true");
    }
    let mut out = vec![0x94];
    string(&mut out, &origin.tag);
    let nanos = message.time.as_nanos();
    let seconds = u32::try_from(nanos / 1_000_000_000).unwrap_or(0);
    if settings.precise {
        // An extension of type 0: seconds and nanoseconds.
        out.extend_from_slice(&[0xd7, 0]);
        out.extend_from_slice(&seconds.to_be_bytes());
        out.extend_from_slice(&u32::try_from(nanos % 1_000_000_000).unwrap_or(0).to_be_bytes());
    } else {
        out.push(0xce);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    out.push(0xde);
    out.extend_from_slice(&u16::try_from(record.len()).unwrap_or(0).to_be_bytes());
    for (key, value) in record {
        string(&mut out, key);
        string(&mut out, value);
    }
    // No options.
    out.push(0x80);
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    match u8::try_from(length) {
        Ok(length @ 0..=31) => out.push(0xa0 | length),
        Ok(length) => out.extend_from_slice(&[0xd9, length]),
        Err(_) => {
            out.push(0xdb);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, origin};
    use super::*;

    #[test]
    fn messages_are_message_pack() {
        let bytes = encode(&Settings { precise: false }, &message("hi", false), &origin());
        assert!(bytes.starts_with(b"\x94\xa3tag\xce\0\0\0\x01\xde\0\x05"), "{bytes:?}");
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(has(b"\xa3log\xa2hi") && has(b"\xa6source\xa6stdout") && has(b"\xaecontainer_name\xa4/web"));
        let precise = encode(&Settings { precise: true }, &message("hi", false), &origin());
        assert!(precise.starts_with(b"\x94\xa3tag\xd7\0\0\0\0\x01\x1d\xcde\0"), "{precise:?}");
        let mut out = Vec::new();
        string(&mut out, &"x".repeat(300));
        assert!(out.starts_with(b"\xdb\0\0\x01\x2cx"));
    }
}
