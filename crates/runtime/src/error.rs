//! What can go wrong, worded as Docker's users know it.

use base::{Classify, Kind};
use rustix::io::Errno;

/// Why a container or a process in it did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "one `Error` per crate, named with its crate by its users")]
pub enum Error {
    /// The document contradicts itself or asks for what cannot be.
    #[error("{0}")]
    Spec(String),
    /// A value of the document cannot be.
    #[error("{path}: {problem}")]
    Invalid {
        /// Where it is in the document, as in `linux.namespaces[2].path`.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A hook failed.
    #[error("error running hook {path:?}: {problem}")]
    Hook {
        /// The hook.
        path: String,
        /// Why.
        problem: String,
    },
    /// The document asks for something this runtime does not do.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A user or group is not in the container's files.
    #[error("{0}")]
    User(String),
    /// The root file system could not be opened or mounted.
    #[error("error preparing rootfs: {0}")]
    Root(#[source] sys::Error),
    /// A mount could not be made.
    #[error("error mounting {origin:?} to rootfs at {destination:?}: {problem}")]
    Mount {
        /// What was to be mounted.
        origin: String,
        /// Where.
        destination: String,
        /// Why not.
        problem: Problem,
    },
    /// The cgroup could not be made or limited.
    #[error("{}", base::chain(.0))]
    Cgroup(cgroups::Error),
    /// A system call of the parent failed.
    #[error("{what}: {source}")]
    System {
        /// What it was for.
        what: &'static str,
        /// The call.
        source: sys::Error,
    },
    /// CRIU did not take the container away, or bring it back.
    #[error("{0}")]
    Criu(String),
    /// The child failed while it set itself up.
    #[error("error during container init: {what}: {}", sys::message(*.errno))]
    Init {
        /// What it was doing.
        what: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The program cannot be executed.
    #[error("exec: {name:?}: {problem}")]
    Executable {
        /// The program, as it was asked for.
        name: String,
        /// Why not.
        problem: Problem,
    },
    /// The child ended before it could say why.
    #[error("the container's process ended before it was ready ({0})")]
    Died(String),
}

/// What was wrong with a mount or a program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A bare name that is in no directory of `PATH`.
    NotInPath,
    /// `stat(2)` of the program failed.
    Stat(String, Errno),
    /// Any other answer of the kernel.
    Errno(Errno),
    /// The target is inside `/proc`.
    InsideProc,
    /// A directory was to be mounted onto a file or the other way round.
    WrongType,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotInPath => f.write_str("executable file not found in $PATH"),
            Self::Stat(path, errno) => write!(f, "stat {path}: {}", sys::message(*errno)),
            Self::Errno(errno) => f.write_str(&sys::message(*errno)),
            Self::InsideProc => f.write_str("cannot be mounted because it is inside /proc"),
            Self::WrongType => f.write_str(
                "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the \
                 specified host path exists and is the expected type",
            ),
        }
    }
}

impl Error {
    /// Returns the exit code that Docker gives a container that did not start for this reason.
    ///
    /// 127: there is no such program, or a mount's type does not fit; 126: it cannot be executed; 128: anything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Executable { problem: Problem::NotInPath | Problem::Stat(..), .. }
            | Self::Mount { problem: Problem::WrongType, .. } => 127,
            Self::Executable { .. } | Self::Init { errno: Errno::ACCESS | Errno::ISDIR, .. } => 126,
            _ => 128,
        }
    }

    pub(crate) fn spec(text: impl Into<String>) -> Self {
        Self::Spec(text.into())
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(sys::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Spec(_)
            | Self::Invalid { .. }
            | Self::Executable { .. }
            | Self::Mount { .. }
            | Self::User(_) => Kind::InvalidArgument,
            Self::Unsupported(_) => Kind::NotImplemented,
            _ => Kind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_are_dockers() {
        let program = |name: &str, problem| Error::Executable { name: name.to_owned(), problem };
        for (error, text, code) in [
            (
                program("nosuch", Problem::NotInPath),
                "exec: \"nosuch\": executable file not found in $PATH",
                127,
            ),
            (
                program("/x", Problem::Stat("/x".into(), Errno::NOENT)),
                "exec: \"/x\": stat /x: no such file or directory",
                127,
            ),
            (program("/x", Problem::Errno(Errno::ACCESS)), "exec: \"/x\": permission denied", 126),
            (program("/etc", Problem::Errno(Errno::ISDIR)), "exec: \"/etc\": is a directory", 126),
            (
                Error::User("unable to find user x: no matching entries in passwd file".into()),
                "unable to find user x: no matching entries in passwd file",
                128,
            ),
        ] {
            assert_eq!((error.to_string().as_str(), error.exit_code()), (text, code));
        }
    }
}
