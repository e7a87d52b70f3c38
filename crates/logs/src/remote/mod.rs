//! Drivers that send entries to another program: syslog, gelf, fluentd, journald.
//!
//! What is written goes into a bounded queue; one thread takes it from there, makes messages of it and sends them, so that
//! a receiver that is slow or gone never holds the owner of the log up for long. A connection that breaks is made again
//! with growing pauses. What does not fit in the queue is dropped, and how many entries that were is told to the receiver
//! when it takes some again.

mod fluentd;
mod gelf;
mod journald;
mod queue;
mod service;
mod syslog;
mod wire;

pub use service::{Cache, Remote};

pub(crate) use queue::Sender;
pub(crate) use service::parse;

use crate::{Origin, Stream};
use base::Timestamp;

/// One entry on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) stream: Stream,
    pub(crate) time: Timestamp,
    /// The text, without its line feed.
    pub(crate) line: Vec<u8>,
    /// Whether the line goes on in the next message.
    pub(crate) partial: bool,
}

impl Message {
    /// What it counts in the queue.
    fn size(&self) -> usize {
        self.line.len() + 64
    }

    /// The text, with what is no UTF-8 replaced.
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.line)
    }

    /// Syslog's number for how grave it is: informational, or an error if it came on standard error.
    fn severity(&self) -> u8 {
        match self.stream {
            Stream::Stdout => 6,
            Stream::Stderr => 3,
        }
    }
}

/// Makes what goes over the wire; pure.
#[derive(Debug, Clone)]
pub(crate) enum Encoder {
    Syslog(syslog::Settings),
    Gelf(gelf::Settings),
    Fluentd(fluentd::Settings),
    Journald,
}

impl Encoder {
    /// Returns the pieces of a message: what is to be sent by one write each.
    fn encode(&self, message: &Message, origin: &Origin, host: &str) -> Vec<Vec<u8>> {
        match self {
            Self::Syslog(settings) => vec![syslog::encode(settings, message, origin, host)],
            Self::Gelf(settings) => gelf::encode(settings, message, origin, host),
            Self::Fluentd(settings) => vec![fluentd::encode(settings, message, origin)],
            Self::Journald => vec![journald::encode(message, origin)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn message(line: &str, error: bool) -> Message {
        let stream = if error { Stream::Stderr } else { Stream::Stdout };
        Message { stream, time: Timestamp::from_nanos(1_500_000_000), line: line.into(), partial: false }
    }

    pub(super) fn origin() -> Origin {
        Origin {
            id: "0123456789abcdef".to_owned(),
            name: "web".to_owned(),
            tag: "tag".to_owned(),
            attributes: [("com.example/x".to_owned(), "y".to_owned())].into(),
            ..Origin::default()
        }
    }
}
