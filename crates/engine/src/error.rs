//! What can go wrong in the engine, in the words Docker's users know.
//!
//! Display is what the API puts into `{"message": …}`; [`Kind`] says which status goes with it.

use base::{Classify, Kind};

/// An engine error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "one `Error` per crate, named with its crate by its users")]
pub enum Error {
    /// A failure that a caller can tell by its kind; `message` is worded as dockerd words it.
    #[error("{message}")]
    Known {
        /// What the caller can do about it.
        kind: Kind,
        /// The message, complete.
        message: String,
    },
    /// A container could not be started.
    #[error("{message}")]
    Start {
        /// 125 to 128, as `docker run` shows it.
        exit_code: i32,
        /// What dockerd would say.
        message: String,
    },
    /// The image store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The network layer failed.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// A supervisor could not be reached or refused.
    #[error(transparent)]
    Supervisor(#[from] supervisor::Error),
    /// A control group could not be read or written.
    #[error(transparent)]
    Cgroup(#[from] cgroups::Error),
    /// A file of the engine's own could not be read or written.
    #[error("{operation} {path}")]
    File {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// Makes an error of `kind` with a complete message.
    pub fn known(kind: Kind, message: impl Into<String>) -> Self {
        Self::Known { kind, message: message.into() }
    }

    /// Makes a *not found* error.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::known(Kind::NotFound, message)
    }

    /// Makes an *invalid argument* error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::known(Kind::InvalidArgument, message)
    }

    /// Makes a *conflict* error.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::known(Kind::Conflict, message)
    }

    /// Makes an error about a file, for `map_err`.
    pub fn file(operation: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { operation, path, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Known { kind, .. } => *kind,
            // dockerd answers 400 when the command cannot be found or executed, and 500 else.
            Self::Start { exit_code: 126 | 127, .. } => Kind::InvalidArgument,
            Self::Store(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Supervisor(error) => error.kind(),
            Self::Start { .. } | Self::Cgroup(_) | Self::File { .. } => Kind::Internal,
        }
    }
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
