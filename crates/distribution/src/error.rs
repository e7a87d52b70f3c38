//! What can go wrong with a registry, in the words Docker's users know (and scripts match).

use base::{Classify, Kind};
use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// A failed exchange with a registry.
#[expect(clippy::error_impl_error, reason = "one `Error` per crate, named with its crate by its users")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer came, or it broke off.
    #[error("{method} \"{url}\": {failure}")]
    Request {
        /// The request's method as Go's clients print it: `Get`, `Head`, …
        method: &'static str,
        /// The URL, without its query.
        url: String,
        /// What happened.
        failure: Failure,
        /// The transport's own error, if there is one.
        #[source]
        source: Option<BoxError>,
    },
    /// The file that says which hosts serve a registry cannot be used.
    #[error("{}: {problem}", path.display())]
    Hosts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The repository may not be read, or does not exist: registries do not say which.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {detail}"
    )]
    AccessDenied {
        /// The repository's familiar name.
        name: String,
        /// The registry's words.
        detail: String,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {reference} not found: {detail}")]
    ManifestNotFound {
        /// The familiar reference.
        reference: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry knows no such repository.
    #[error("repository {name} not found: {detail}")]
    RepositoryNotFound {
        /// The repository's familiar name.
        name: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry wants a user's name and password, and there is none for it. Not [`Kind::Unauthorized`], which makes
    /// Docker's command line ask for them in the middle of a pull.
    #[error("{method} \"{url}\": no basic auth credentials")]
    NoCredentials {
        /// The request's method as Go's clients print it.
        method: &'static str,
        /// The URL, without its query.
        url: String,
    },
    /// The registry answered with an error of its own.
    #[error("{refusal}")]
    Refused {
        /// What it said.
        refusal: Refusal,
    },
    /// The token server refused.
    #[error("Get \"{url}\": {refusal}")]
    Token {
        /// The token server's URL, without its query.
        url: String,
        /// What it said.
        refusal: Refusal,
    },
    /// The answer is not what the protocol says.
    #[error("invalid answer from {url}: {problem}")]
    Protocol {
        /// The URL, without its query.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The answer is larger than the limit for its kind.
    #[error("answer from {url} is larger than {limit} bytes")]
    TooLarge {
        /// The URL, without its query.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Content does not have the digest it was asked for by.
    #[error("manifest verification failed for digest {expected}: content has digest {found}")]
    WrongDigest {
        /// The digest asked for.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// A manifest of a kind that cannot be used.
    #[error("unsupported manifest media type {media_type:?}")]
    UnsupportedManifest {
        /// Its media type.
        media_type: String,
    },
    /// A redirect that is not followed.
    #[error("redirect from {from} to {to} refused: {reason}")]
    Redirect {
        /// Where it came from, without the query.
        from: String,
        /// Where it leads, without the query.
        to: String,
        /// Why.
        reason: &'static str,
    },
    /// A certificate or key file of the user's cannot be used.
    #[error("read certificates from {path}: {problem}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What was to be pushed could not be read.
    #[error("read content to upload: {0}")]
    Source(#[source] std::io::Error),
}

/// What happened to a request that got no (whole) answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The host's name has no address.
    Lookup {
        /// The name.
        host: String,
    },
    /// No TCP connection.
    Connect {
        /// `host:port`.
        address: String,
        /// The system's words.
        problem: String,
    },
    /// The TLS handshake failed.
    Tls {
        /// Why.
        problem: String,
    },
    /// The other side does not speak TLS.
    NotTls,
    /// No byte for this long.
    Timeout(Duration),
    /// The connection broke.
    Broken {
        /// How.
        problem: String,
    },
}

impl Failure {
    /// Says whether no byte of the request was sent: the host is unreachable or not who it should be.
    pub(crate) fn before_request(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::Connect { .. } | Self::Tls { .. } | Self::NotTls => true,
            Self::Timeout(_) | Self::Broken { .. } => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup { host } => write!(f, "dial tcp: lookup {host}: no such host"),
            Self::Connect { address, problem } => write!(f, "dial tcp {address}: connect: {problem}"),
            Self::Tls { problem } => write!(f, "tls: {problem}"),
            Self::NotTls => f.write_str("http: server gave HTTP response to HTTPS client"),
            Self::Timeout(limit) => write!(f, "net/http: timeout: nothing received for {limit:?}"),
            Self::Broken { problem } => f.write_str(problem),
        }
    }
}

/// A registry's "no": an HTTP status and the first of the errors in the body (distribution-spec *error codes*).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code, `MANIFEST_UNKNOWN`; empty if the body had none.
    pub code: String,
    /// The message; empty if there was none.
    pub message: String,
    /// How long the registry asks to wait.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Says whether the same request may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        match (code.as_str(), self.message.as_str()) {
            ("", "") => {
                let reason =
                    http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
                write!(f, "received unexpected HTTP status: {} {}", self.status, reason.unwrap_or("Unknown"))
            }
            ("", message) => f.write_str(message),
            (code, "") => write!(f, "{code}: {code}"),
            (code, message) => write!(f, "{code}: {message}"),
        }
    }
}

impl Error {
    /// Says whether another try of the same request may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Request { failure, .. } => !failure.before_request(),
            Self::Refused { refusal } | Self::Token { refusal, .. } => refusal.is_transient(),
            _ => false,
        }
    }

    /// Says whether the host could not be reached, or not as it must be.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Request { failure, .. } if failure.before_request())
    }

    /// Returns how long the registry asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { refusal } | Self::Token { refusal, .. } => refusal.retry_after,
            _ => None,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Request { .. } => Kind::Unavailable,
            // Docker answers 404 here, so that nobody learns what exists.
            Self::AccessDenied { .. } | Self::ManifestNotFound { .. } | Self::RepositoryNotFound { .. } => {
                Kind::NotFound
            }
            Self::Refused { refusal } | Self::Token { refusal, .. } => match refusal.status {
                401 => Kind::Unauthorized,
                403 => Kind::Forbidden,
                404 => Kind::NotFound,
                _ if refusal.is_transient() => Kind::Unavailable,
                _ => Kind::Internal,
            },
            Self::UnsupportedManifest { .. } => Kind::NotImplemented,
            Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::WrongDigest { .. }
            | Self::NoCredentials { .. }
            | Self::Redirect { .. }
            | Self::Certificate { .. }
            | Self::Hosts { .. }
            | Self::Source(_) => Kind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_docker_prints_them() {
        for (status, code, message, text) in [
            (404, "MANIFEST_UNKNOWN", "manifest unknown", "manifest unknown: manifest unknown"),
            (429, "TOOMANYREQUESTS", "slow down", "toomanyrequests: slow down"),
            (401, "UNAUTHORIZED", "", "unauthorized: unauthorized"),
            (400, "", "bad luck", "bad luck"),
            (500, "", "", "received unexpected HTTP status: 500 Internal Server Error"),
        ] {
            let refusal =
                Refusal { status, code: code.to_owned(), message: message.to_owned(), retry_after: None };
            assert_eq!(refusal.to_string(), text);
        }
    }
}
