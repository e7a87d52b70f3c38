//! The one error of this crate: a call, what it was about, and the kernel's answer.

use rustix::io::Errno;
use std::fmt;
use std::path::Path;

/// The result of a helper of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed system call.
#[expect(clippy::error_impl_error, reason = "one `Error` per crate, named with its crate by its users")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a call.
    #[error("{call} {object}: {}", message(*.errno))]
    Call {
        /// The name of the call, as in section 2 of the manual.
        call: &'static str,
        /// What it was about: a path, a name, a number.
        object: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A text cannot be passed to the kernel because it has a NUL byte in it.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// What the text was for.
        what: &'static str,
    },
    /// A peer sent a message that does not fit the buffer, or more descriptors than allowed.
    #[error("message cut short: {what}")]
    Truncated {
        /// What did not fit.
        what: &'static str,
    },
}

impl Error {
    /// Makes an error of a failed call.
    pub fn new(call: &'static str, object: impl fmt::Display, errno: Errno) -> Self {
        Self::Call { call, object: object.to_string(), errno }
    }

    /// Returns the kernel's answer; `INVAL` for what never reached the kernel.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Call { errno, .. } => *errno,
            Self::Nul { .. } => Errno::INVAL,
            Self::Truncated { .. } => Errno::MSGSIZE,
        }
    }

    /// Makes a closure for `map_err` about `call` on the path `path`.
    pub fn at<'a>(call: &'static str, path: &'a Path) -> impl FnOnce(Errno) -> Self + 'a {
        move |errno| Self::new(call, path.display(), errno)
    }

    /// Makes a closure for `map_err` about `call` on `object`.
    pub fn on<'a>(call: &'static str, object: &'a str) -> impl FnOnce(Errno) -> Self + 'a {
        move |errno| Self::new(call, object, errno)
    }
}

/// Returns the text of an error number in the words that Go programs (and so Docker's users) see.
pub fn message(errno: Errno) -> String {
    let text = match errno {
        Errno::PERM => "operation not permitted",
        Errno::NOENT => "no such file or directory",
        Errno::SRCH => "no such process",
        Errno::INTR => "interrupted system call",
        Errno::IO => "input/output error",
        Errno::NXIO => "no such device or address",
        Errno::TOOBIG => "argument list too long",
        Errno::NOEXEC => "exec format error",
        Errno::BADF => "bad file descriptor",
        Errno::CHILD => "no child processes",
        Errno::AGAIN => "resource temporarily unavailable",
        Errno::NOMEM => "cannot allocate memory",
        Errno::ACCESS => "permission denied",
        Errno::FAULT => "bad address",
        Errno::NOTBLK => "block device required",
        Errno::BUSY => "device or resource busy",
        Errno::EXIST => "file exists",
        Errno::XDEV => "invalid cross-device link",
        Errno::NODEV => "no such device",
        Errno::NOTDIR => "not a directory",
        Errno::ISDIR => "is a directory",
        Errno::INVAL => "invalid argument",
        Errno::NFILE => "too many open files in system",
        Errno::MFILE => "too many open files",
        Errno::NOTTY => "inappropriate ioctl for device",
        Errno::TXTBSY => "text file busy",
        Errno::FBIG => "file too large",
        Errno::NOSPC => "no space left on device",
        Errno::SPIPE => "illegal seek",
        Errno::ROFS => "read-only file system",
        Errno::MLINK => "too many links",
        Errno::PIPE => "broken pipe",
        Errno::RANGE => "numerical result out of range",
        Errno::NAMETOOLONG => "file name too long",
        Errno::NOSYS => "function not implemented",
        Errno::NOTEMPTY => "directory not empty",
        Errno::LOOP => "too many levels of symbolic links",
        Errno::OPNOTSUPP => "operation not supported",
        Errno::ADDRINUSE => "address already in use",
        Errno::ADDRNOTAVAIL => "cannot assign requested address",
        Errno::AFNOSUPPORT => "address family not supported by protocol",
        Errno::PROTONOSUPPORT => "protocol not supported",
        Errno::NETDOWN => "network is down",
        Errno::NETUNREACH => "network is unreachable",
        Errno::HOSTUNREACH => "no route to host",
        Errno::NOBUFS => "no buffer space available",
        Errno::CONNREFUSED => "connection refused",
        Errno::CONNRESET => "connection reset by peer",
        Errno::TIMEDOUT => "connection timed out",
        Errno::OVERFLOW => "value too large for defined data type",
        // The C library's words, as far as they go.
        other => {
            let text = std::io::Error::from(other).to_string();
            return text.split_once(" (os error ").map_or(text.clone(), |(words, _)| words.to_lowercase());
        }
    };
    text.to_owned()
}
