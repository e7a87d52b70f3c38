//! What a caller can do about an error.
//!
//! Every crate has its own `Error`; each of them says its [`Kind`]. Only the daemon's edge turns kinds into HTTP
//! statuses, and only the command line turns those into exit codes.

/// The kinds of error a caller can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The request cannot be right, whatever the state.
    InvalidArgument,
    /// The request clashes with the present state.
    Conflict,
    /// What was asked for is so already.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The request is understood and refused.
    Forbidden,
    /// A peer (registry, plugin) cannot be reached or is busy.
    Unavailable,
    /// This build or host cannot do it.
    NotImplemented,
    /// The operation was cancelled by its caller.
    Cancelled,
    /// Anything else: a fault of the engine or of the host.
    Internal,
}

/// Says what kind of error this is.
pub trait Classify {
    /// Returns the kind a caller can act on.
    fn kind(&self) -> Kind;
}

/// Returns the message of `error` followed by those of its causes, joined by `": "`.
///
/// A cause whose text already ends the message is not repeated.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = cause.source();
    }
    text
}

/// Returns the kind that fits an I/O error with no better context.
pub fn kind_of_io(error: &std::io::Error) -> Kind {
    match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::Forbidden,
        std::io::ErrorKind::AlreadyExists => Kind::Conflict,
        _ => Kind::Internal,
    }
}
