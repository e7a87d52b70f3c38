//! An error as it leaves the daemon: a kind, and a message in Docker's words.

use super::body::{self, Body};
use api::ErrorResponse;
use base::{Classify, Kind};
use http::{Response, StatusCode};

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the caller can do about it.
    pub kind: Kind,
    /// What `{"message": …}` says.
    pub message: String,
}

impl Failure {
    /// Makes a failure of its two parts.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Makes a failure that the client can cure by asking otherwise.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    /// Makes the answer to a path that does not exist.
    pub fn page_not_found() -> Self {
        Self::new(Kind::NotFound, "page not found")
    }

    /// Returns the answer.
    pub fn response(&self) -> Response<Body> {
        let status = status(self.kind);
        if status == StatusCode::NOT_MODIFIED {
            return body::empty(status);
        }
        body::json(status, &ErrorResponse::new(self.message.as_str()))
    }
}

impl<E: Classify + std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.kind(), base::chain(&error))
    }
}

/// The one table of kinds and statuses (moby, *httpstatus.FromError*).
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::InvalidArgument => StatusCode::BAD_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Cancelled | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("mount overlay on /x")]
    struct Broken(#[source] std::io::Error);

    impl Classify for Broken {
        fn kind(&self) -> Kind {
            Kind::Internal
        }
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let failure = Failure::from(Broken(std::io::Error::other("no space")));
        assert_eq!(failure, Failure::new(Kind::Internal, "mount overlay on /x: no space"));
        assert_eq!(failure.response().status(), 500);
    }

    #[test]
    fn each_kind_has_dockers_status() {
        for (kind, code) in [
            (Kind::NotFound, 404),
            (Kind::InvalidArgument, 400),
            (Kind::Conflict, 409),
            (Kind::NotModified, 304),
            (Kind::Unauthorized, 401),
            (Kind::Forbidden, 403),
            (Kind::Unavailable, 503),
            (Kind::NotImplemented, 501),
            (Kind::Cancelled, 500),
            (Kind::Internal, 500),
        ] {
            assert_eq!(Failure::new(kind, "x").response().status(), code);
        }
    }
}
