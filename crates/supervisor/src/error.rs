//! What can go wrong on the daemon's side, and in a supervisor's own affairs.

use base::{Classify, Kind};
use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "one `Error` per crate, named with its crate by its users")]
pub enum Error {
    /// A system call failed.
    #[error("{operation}")]
    System {
        /// What was tried.
        operation: String,
        /// The call that failed.
        source: sys::Error,
    },
    /// A file operation failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The peer is gone: the container has ended, or the process was killed.
    #[error("{peer} has closed the connection")]
    Closed {
        /// Who.
        peer: &'static str,
    },
    /// A message is not one of ours.
    #[error("message cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// A message came where it makes no sense.
    #[error("unexpected message: {0}")]
    Unexpected(&'static str),
    /// The supervisor refused, or failed.
    #[error("{message}")]
    Refused {
        /// What kind of error it is.
        kind: Kind,
        /// The error, in its words.
        message: String,
    },
}

impl Error {
    pub(crate) fn system(operation: impl Into<String>) -> impl FnOnce(sys::Error) -> Self {
        let operation = operation.into();
        move |source| Self::System { operation, source }
    }

    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused { kind, .. } => *kind,
            Self::Closed { .. } => Kind::Unavailable,
            Self::Io { source, .. } => base::error::kind_of_io(source),
            Self::System { .. } | Self::Malformed(_) | Self::Unexpected(_) => Kind::Internal,
        }
    }
}
