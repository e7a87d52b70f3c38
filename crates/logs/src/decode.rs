//! A JSON line → an entry.

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
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    Some(Entry {
        stream: if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout },
        time: last.parse(&line.time)?,
        line: line.log.into_owned().into_bytes(),
        attributes: line.attrs.unwrap_or_default(),
    })
}
