//! What can go wrong while building, in the words Docker's users know.

use base::{Classify, Kind};
use std::path::Path;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "one `Error` per crate, named with its crate by its users")]
pub enum Error {
    /// The Dockerfile cannot be understood.
    #[error(transparent)]
    Dockerfile(#[from] dockerfile::Problem),
    /// What was asked for cannot be done.
    #[error("{0}")]
    Invalid(String),
    /// An instruction cannot be carried out.
    #[error("{message}\n{line} | {text}")]
    Step {
        /// The line of the Dockerfile.
        line: usize,
        /// The instruction.
        text: String,
        /// What is wrong.
        message: String,
    },
    /// A command ended with another code than 0.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command {
        /// The command.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// Something is not there.
    #[error("{0}")]
    NotFound(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A system call failed.
    #[error("{operation} {path}")]
    File {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Who carries out steps or finds images could not.
    #[error("{message}")]
    Worker {
        /// What the caller can do about it.
        kind: Kind,
        /// What it said.
        message: String,
    },
    /// Nobody wants the result any more, or another stage failed.
    #[error("the build was cancelled")]
    Cancelled,
}

impl Error {
    /// Makes an error about a file, for `map_err`.
    pub(crate) fn file<E: Into<std::io::Error>>(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { operation, path, source: source.into() }
    }

    /// As [`Error::file`], for a name as bytes.
    pub(crate) fn name<E: Into<std::io::Error>>(
        operation: &'static str,
        name: &[u8],
    ) -> impl FnOnce(E) -> Self {
        let path = String::from_utf8_lossy(name).into_owned();
        move |source| Self::File { operation, path, source: source.into() }
    }

    /// Makes an error of a failed system call, for `map_err`.
    #[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
    pub(crate) fn system(error: sys::Error) -> Self {
        Self::Worker { kind: Kind::Internal, message: base::chain(&error) }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Dockerfile(_) | Self::Invalid(_) | Self::Step { .. } => Kind::InvalidArgument,
            Self::NotFound(_) => Kind::NotFound,
            Self::Store(error) => error.kind(),
            Self::Worker { kind, .. } => *kind,
            Self::Cancelled => Kind::Cancelled,
            Self::Command { .. } | Self::File { .. } => Kind::Internal,
        }
    }
}

/// The builder's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
