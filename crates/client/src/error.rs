//! What can go wrong between a client and its engine.

use std::io;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens at the engine's address.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    Connect {
        /** the address */
        host: String,
        /** what connecting said */
        #[source]
        source: io::Error,
    },
    /// The socket is there, and not for this user.
    #[error("permission denied while trying to connect to the Docker daemon socket at {host}")]
    Permission {
        /** the address */
        host: String,
        /** what connecting said */
        #[source]
        source: io::Error,
    },
    /// The address is none.
    #[error("unable to parse docker host `{0}`")]
    InvalidHost(String),
    /// The address is of a kind that is not supported.
    #[error("protocol not available: {0}")]
    UnsupportedHost(String),
    /// The engine answered with an error.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /** the HTTP status */
        status: u16,
        /** the engine's words */
        message: String,
    },
    /// The connection broke, or what came over it is not HTTP.
    #[error("error during connect: {operation}: {source}")]
    Transport {
        /** what was being done */
        operation: String,
        /** why it failed */
        #[source]
        source: io::Error,
    },
    /// The answer is not the document it should be.
    #[error("Error reading remote {what}: {source}")]
    Decode {
        /** the request */
        what: String,
        /** what is wrong */
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Returns the status of an answer that was an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Daemon { status, .. } => Some(*status),
            Self::Connect { .. }
            | Self::Permission { .. }
            | Self::InvalidHost(_)
            | Self::UnsupportedHost(_)
            | Self::Transport { .. }
            | Self::Decode { .. } => None,
        }
    }

    /// Says whether the named object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Returns the engine's words if it answered with an error, else all of the error.
    pub fn message(&self) -> String {
        match self {
            Self::Daemon { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    pub(crate) fn transport(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Transport { operation, source }
    }
}
