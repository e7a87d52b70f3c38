//! A connection that stopped being HTTP: the streams of an attached container or exec.

use crate::Stream;
use std::io::{self, BufReader, Read};

/// The raw connection after the engine agreed.
#[derive(Debug)]
pub struct Hijacked {
    reader: BufReader<Stream>,
    multiplexed: Option<bool>,
}

impl Hijacked {
    pub(crate) fn new(reader: BufReader<Stream>, content_type: &str) -> Self {
        let multiplexed = match content_type {
            api::stream::MULTIPLEXED => Some(true),
            // Engines before API 1.42 say "raw" for both kinds.
            _ => None,
        };
        Self { reader, multiplexed }
    }

    /// Says that output comes in frames; `None` if the engine is too old to say.
    pub fn multiplexed(&self) -> Option<bool> {
        self.multiplexed
    }

    /// Returns a second handle, for writing.
    ///
    /// # Errors
    /// What duplicating the descriptor says.
    pub fn writer(&self) -> io::Result<Stream> {
        self.reader.get_ref().try_clone()
    }
}

impl Read for Hijacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}
