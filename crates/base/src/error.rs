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
        let message = cause.downcast_ref().map_or_else(|| cause.to_string(), io_message);
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = cause.source();
    }
    text
}

/// Returns the message of an I/O error as Go programs word it (`no space left on device`), which is what Docker's users know
/// and scripts look for.
pub fn io_message(error: &std::io::Error) -> String {
    let text = error.to_string();
    let Some((words, _number)) = text.rsplit_once(" (os error ") else { return text };
    let mut letters = words.chars();
    // `Is a directory`, but not `I/O error`.
    let plain = words.chars().nth(1).is_some_and(char::is_lowercase);
    match letters.next() {
        Some(first) if plain => first.to_lowercase().chain(letters).collect(),
        _ => words.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("write layer")]
    struct Write(#[source] std::io::Error);

    #[test]
    fn the_systems_answers_read_as_go_words_them() {
        for (number, text) in [(28, "no space left on device"), (13, "permission denied"), (5, "I/O error")] {
            let error = Write(std::io::Error::from_raw_os_error(number));
            let found = chain(&error).replace("input/output error", "I/O error");
            assert_eq!(found, format!("write layer: {text}"));
        }
        assert_eq!(chain(&Write(std::io::Error::other("Wire cut"))), "write layer: Wire cut");
    }
}
