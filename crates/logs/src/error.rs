//! What can go wrong with a log.

use base::{Classify, Kind};
use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "one `Error` per crate, named with its crate by its users")]
pub enum Error {
    /// No driver has this name.
    #[error("logger: no log driver named '{0}' is registered")]
    UnknownDriver(String),
    /// The driver has no such option.
    #[error("unknown log opt '{option}' for {driver} log driver")]
    UnknownOption {
        /// The option as given.
        option: String,
        /// The driver's name.
        driver: &'static str,
    },
    /// An option's value is refused, in Docker's words.
    #[error("{0}")]
    InvalidOption(String),
    /// The driver keeps nothing that could be read.
    #[error("configured logging driver does not support reading")]
    NotReadable,
    /// The program that entries are to be sent to is not there.
    #[error("{driver}: connect to {address}")]
    Connect {
        /// The driver's name.
        driver: &'static str,
        /// Where it should be.
        address: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried: `open log`, `rotate log`, …
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownDriver(_) | Self::UnknownOption { .. } | Self::InvalidOption(_) => {
                Kind::InvalidArgument
            }
            Self::NotReadable => Kind::NotImplemented,
            Self::Connect { .. } => Kind::Internal,
            Self::Io { source, .. } => base::error::kind_of_io(source),
        }
    }
}
