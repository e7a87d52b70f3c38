//! What can go wrong in the registry server, and what a client is told about it.

use base::{Classify, Kind};
use http::StatusCode;
use oci::Digest;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// An operation of the server that failed.
#[expect(clippy::error_impl_error, reason = "each crate has one error, named by its path")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The command line cannot be read.
    #[error("{0}")]
    Usage(String),
    /// A key of the configuration has a wrong value, or an environment variable has.
    #[error("configuration: {key}: {problem}")]
    Config {
        /// The key, its parts separated by dots.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A system call on a path failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A socket cannot be served.
    #[error("listen on {address}")]
    Listen {
        /// As configured.
        address: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A certificate, key or password file cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A request was refused; the text is what the client is told.
    #[error("{0}")]
    Refused(Refusal),
    /// Content in the storage does not have the digest that names it.
    #[error("blob {0} is damaged")]
    Damaged(Digest),
    /// The registry behind a pull-through cache failed.
    #[error("remote registry")]
    Remote(#[from] distribution::Error),
    /// A client went away, or sent a body that ends before its announced length.
    #[error("read the request's body: {0}")]
    Body(String),
}

/// What the crate's functions return.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Usage(_) | Self::Config { .. } | Self::File { .. } | Self::Body(_) => Kind::InvalidArgument,
            Self::Refused(refusal) => match refusal.code {
                Code::Unauthorized => Kind::Unauthorized,
                Code::Denied => Kind::Forbidden,
                code if code.status() == StatusCode::NOT_FOUND => Kind::NotFound,
                _ => Kind::InvalidArgument,
            },
            Self::Remote(error) => error.kind(),
            Self::Io { .. } | Self::Listen { .. } | Self::Damaged(_) => Kind::Internal,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Adds operation and object to an error of the operating system.
pub(crate) trait At<T> {
    /// Names the `operation` and the `path` it was tried on.
    fn at(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { operation, path: path.to_owned(), source: source.into() })
    }
}

/// Returns `None` in place of "not found".
pub(crate) fn present<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The error codes of distribution-spec, *Error Codes*, and those that Docker's registry has beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// A blob is not in the repository.
    BlobUnknown,
    /// An upload's request cannot be carried out.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// A digest is wrong.
    DigestInvalid,
    /// A manifest refers to what is not there.
    ManifestBlobUnknown,
    /// A manifest is none.
    ManifestInvalid,
    /// There is no such manifest.
    ManifestUnknown,
    /// A repository's name is not one.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// `n` of a page is not a number.
    PaginationNumberInvalid,
    /// A chunk does not follow the one before.
    RangeInvalid,
    /// A body is too long, or not as long as was said.
    SizeInvalid,
    /// A tag is not one.
    TagInvalid,
    /// Nobody said who is asking.
    Unauthorized,
    /// Whoever asks may not.
    Denied,
    /// The server does not do this.
    Unsupported,
    /// Too much at once.
    TooManyRequests,
    /// Something the server depends on fails.
    Unavailable,
    /// The server failed.
    Unknown,
}

impl Code {
    /// Returns the code as clients see it, the status that goes with it, and Docker's words for it.
    const fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", S::NOT_FOUND, "blob unknown to registry"),
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", S::BAD_REQUEST, "blob upload invalid"),
            Self::BlobUploadUnknown => {
                ("BLOB_UPLOAD_UNKNOWN", S::NOT_FOUND, "blob upload unknown to registry")
            }
            Self::DigestInvalid => {
                ("DIGEST_INVALID", S::BAD_REQUEST, "provided digest did not match uploaded content")
            }
            Self::ManifestBlobUnknown => {
                ("MANIFEST_BLOB_UNKNOWN", S::BAD_REQUEST, "blob unknown to registry")
            }
            Self::ManifestInvalid => ("MANIFEST_INVALID", S::BAD_REQUEST, "manifest invalid"),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", S::NOT_FOUND, "manifest unknown"),
            Self::NameInvalid => ("NAME_INVALID", S::BAD_REQUEST, "invalid repository name"),
            Self::NameUnknown => ("NAME_UNKNOWN", S::NOT_FOUND, "repository name not known to registry"),
            Self::PaginationNumberInvalid => {
                ("PAGINATION_NUMBER_INVALID", S::BAD_REQUEST, "invalid number of results requested")
            }
            Self::RangeInvalid => ("RANGE_INVALID", S::RANGE_NOT_SATISFIABLE, "invalid content range"),
            Self::SizeInvalid => {
                ("SIZE_INVALID", S::BAD_REQUEST, "provided length did not match content length")
            }
            Self::TagInvalid => ("TAG_INVALID", S::BAD_REQUEST, "manifest tag did not match URI"),
            Self::Unauthorized => ("UNAUTHORIZED", S::UNAUTHORIZED, "authentication required"),
            Self::Denied => ("DENIED", S::FORBIDDEN, "requested access to the resource is denied"),
            Self::Unsupported => ("UNSUPPORTED", S::METHOD_NOT_ALLOWED, "The operation is unsupported."),
            Self::TooManyRequests => ("TOOMANYREQUESTS", S::TOO_MANY_REQUESTS, "too many requests"),
            Self::Unavailable => ("UNAVAILABLE", S::SERVICE_UNAVAILABLE, "service unavailable"),
            Self::Unknown => ("UNKNOWN", S::INTERNAL_SERVER_ERROR, "unknown error"),
        }
    }

    /// The status that goes with it.
    pub(crate) const fn status(self) -> StatusCode {
        self.row().1
    }
}

/// What a client is told when its request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Why.
    pub(crate) code: Code,
    /// The status, usually the code's own.
    pub(crate) status: StatusCode,
    /// More about it; null for nothing.
    pub(crate) detail: Value,
    /// Further headers: challenges, and where an upload stands.
    pub(crate) headers: Vec<(http::HeaderName, String)>,
}

impl Refusal {
    /// Refuses without further words.
    pub(crate) fn new(code: Code) -> Self {
        Self { code, status: code.status(), detail: Value::Null, headers: Vec::new() }
    }

    /// Refuses and says more.
    pub(crate) fn with(code: Code, detail: impl Into<Value>) -> Self {
        Self { detail: detail.into(), ..Self::new(code) }
    }

    /// Returns the answer's body (distribution-spec, *Error Codes*).
    pub(crate) fn body(&self) -> String {
        let (code, _, message) = self.code.row();
        let mut error = json!({"code": code, "message": message});
        if let Some(object) = error.as_object_mut().filter(|_| !self.detail.is_null()) {
            object.insert("detail".to_owned(), self.detail.clone());
        }
        format!("{}\n", json!({"errors": [error]}))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code.row().2)?;
        if self.detail.is_null() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_specification_s() {
        assert_eq!(
            Refusal::new(Code::BlobUnknown).body(),
            "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"blob unknown to registry\"}]}\n"
        );
        let detailed = Refusal::with(Code::NameUnknown, json!({"name": "a/b"}));
        assert!(detailed.body().contains(r#""detail":{"name":"a/b"}"#), "{}", detailed.body());
        assert_eq!(detailed.status, StatusCode::NOT_FOUND);
    }
}
