//! GELF 1.1: JSON documents; compressed and cut in chunks over UDP, ended by a zero byte over TCP.
//!
//! <https://go2docs.graylog.org/current/getting_in_log_data/gelf.html>

use super::Message;
use crate::Origin;
use base::Timestamp;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Number, Value};
use std::io::Write as _;

/// How documents are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Over TCP: as they are, each ended by a zero byte.
    Stream,
    /// Over UDP: as they are.
    Plain,
    /// Over UDP: gzip of this level.
    Gzip(u32),
    /// Over UDP: zlib of this level.
    Zlib(u32),
}

/// What a message is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) packing: Packing,
}

/// Bytes of a chunk that go through any network in one piece, header included.
const CHUNK: usize = 1420;
/// Bytes of a chunk's header: two of magic, eight that name the message, number, count.
const HEADER: usize = 12;
/// More chunks than these are no message.
const MAX_CHUNKS: usize = 128;

/// Returns the datagrams of an entry, or the bytes for the stream.
pub(crate) fn encode(settings: &Settings, message: &Message, origin: &Origin, host: &str) -> Vec<Vec<u8>> {
    let mut document = serde_json::to_vec(&document(message, origin, host)).unwrap_or_default();
    match settings.packing {
        Packing::Stream => {
            document.push(0);
            vec![document]
        }
        Packing::Plain => chunks(document, message.time),
        Packing::Gzip(level) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            // Writing to memory does not fail.
            encoder.write_all(&document).ok();
            chunks(encoder.finish().unwrap_or_default(), message.time)
        }
        Packing::Zlib(level) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(&document).ok();
            chunks(encoder.finish().unwrap_or_default(), message.time)
        }
    }
}

fn document(message: &Message, origin: &Origin, host: &str) -> Value {
    let mut fields = Map::new();
    let mut text = |name: &str, value: &str| fields.insert(name.to_owned(), Value::from(value));
    text("version", "1.1");
    text("host", host);
    text("short_message", &message.text());
    text("_container_id", &origin.id);
    text("_container_name", &origin.name);
    text("_image_id", &origin.image_id);
    text("_image_name", &origin.image);
    text("_command", &origin.command);
    text("_tag", &origin.tag);
    text("_created", &Timestamp::from_nanos(origin.created).to_string());
    for (name, value) in origin.attributes.iter().filter(|(name, _)| *name != "tag") {
        text(&format!("_{name}"), value);
    }
    let nanos = message.time.as_nanos();
    let seconds = format!("{}.{:03}", nanos / 1_000_000_000, nanos % 1_000_000_000 / 1_000_000);
    let time = seconds.parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number);
    fields.insert("timestamp".to_owned(), time);
    fields.insert("level".to_owned(), Value::from(message.severity()));
    Value::Object(fields)
}

/// Cuts a document that is too long for one datagram; one that is too long for all of them is dropped.
fn chunks(document: Vec<u8>, time: Timestamp) -> Vec<Vec<u8>> {
    if document.len() <= CHUNK {
        return vec![document];
    }
    let parts = document.chunks(CHUNK - HEADER);
    let count = parts.len();
    if count > MAX_CHUNKS {
        return Vec::new();
    }
    // Time and process tell messages of one sender apart.
    let name = (time.as_nanos().cast_unsigned() << 16 | u64::from(std::process::id() & 0xffff)).to_be_bytes();
    let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    parts
        .enumerate()
        .map(|(number, part)| {
            let mut chunk = vec![0x1e, 0x0f];
            chunk.extend_from_slice(&name);
            chunk.extend_from_slice(&[byte(number), byte(count)]);
            chunk.extend_from_slice(part);
            chunk
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, origin};
    use super::*;

    #[test]
    fn long_documents_are_cut() {
        let settings = Settings { packing: Packing::Plain };
        let short = encode(&settings, &message("hi", true), &origin(), "here");
        let value: Value = serde_json::from_slice(&short[0]).unwrap();
        assert_eq!(
            (value["short_message"].as_str(), value["level"].as_u64(), value["_com.example/x"].as_str()),
            (Some("hi"), Some(3), Some("y"))
        );
        assert_eq!(value["timestamp"].as_f64(), Some(1.5));
        let long = encode(&settings, &message(&"x".repeat(4000), true), &origin(), "here");
        assert_eq!(long.len(), 4);
        let whole: Vec<u8> = long.iter().flat_map(|chunk| chunk[HEADER..].to_vec()).collect();
        assert!(
            long.iter().enumerate().all(|(number, chunk)| usize::from(chunk[10]) == number && chunk[11] == 4)
        );
        let value: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(value["short_message"].as_str().map(str::len), Some(4000));
        assert!(chunks(vec![0; 200_000], Timestamp::from_nanos(0)).is_empty());
        let stream = encode(&Settings { packing: Packing::Stream }, &message("hi", true), &origin(), "here");
        assert_eq!(stream[0].last(), Some(&0));
    }
}
