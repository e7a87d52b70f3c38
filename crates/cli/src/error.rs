//! How a command fails: what is printed, and the exit code.

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine, or the way to it.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Anything else, in words for the user.
    #[error("{0}")]
    Message(String),
    /// The command line cannot be meant like this.
    #[error("{text}")]
    Usage {
        /// All that is printed.
        text: String,
        /// The exit code.
        code: u8,
    },
    /// An error printed with the program's name and a hint to a command's help.
    #[error("{text}")]
    Hinted {
        /// The command.
        command: &'static str,
        /// What went wrong.
        text: String,
        /// The exit code.
        code: u8,
    },
    /// Everything has been said (or there is nothing to say): only the exit code is left.
    #[error("exit status {0}")]
    Exit(u8),
    /// A file of the user could not be read or written.
    #[error("{operation} {path}: {}", reason(source))]
    File {
        /// `open`, `read`, …
        operation: &'static str,
        /// The file as named by the user.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Makes an error of words.
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// Makes an error about a file.
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<String>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage { code, .. } | Self::Hinted { code, .. } | Self::Exit(code) => *code,
            Self::Client(_) | Self::Message(_) | Self::File { .. } => 1,
        }
    }
}

/// Returns what the system says of an error, in the words of C's `strerror`, in lower case as Go prints them.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The result of most functions here.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
