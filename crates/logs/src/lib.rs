//! Container logs: written by the supervisor, read by the daemon.
//!
//! A [`Driver`] is made of a name and its options. A [`Writer`] takes what was read from a container's pipes, batch by
//! batch: one batch is one time and one write. A [`Reader`] gives the entries back, across rotated files, from the end
//! if only the last few are wanted, and follows the file while it grows.
//!
//! The `json-file` format is Docker's: one JSON object a line, keys in the order `log`, `stream`, `attrs`, `time`;
//! lines longer than 16 KiB are cut in pieces of which only the last ends with a line feed.
//!
//! This crate knows nothing of containers beyond the [`Origin`] it is given, and owns no thread but the one that sends
//! entries to another program: compressing a rotated file goes on in steps that the owner of the [`Writer`] asks for.

mod decode;
mod encode;
mod error;
mod file;
mod follow;
mod local;
mod options;
mod origin;
mod reader;
mod remote;
mod segment;
mod writer;

use std::collections::BTreeMap;

pub use error::Error;
pub use follow::Stopper;
pub use options::{Defaults, Driver, Rotation, validate};
pub use origin::Origin;
pub use reader::{Entry, Query, Reader};
pub use remote::{Cache, Remote};
pub use writer::Writer;

/// The stream of a container that a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output; everything, if the container has a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Returns `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The further attributes of each entry: chosen labels, environment variables and the tag (`--log-opt labels=…`).
pub type Attributes = BTreeMap<String, String>;

/// Lines longer than this many bytes are cut (moby, *copier*: 16 KiB).
pub const LINE_LIMIT: usize = 16 * 1024;
