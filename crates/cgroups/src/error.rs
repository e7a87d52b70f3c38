//! What can go wrong with control groups.

use std::path::PathBuf;

/// A failed operation on a cgroup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "one `Error` per crate, named with its crate by its users")]
pub enum Error {
    /// No hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// The mounts of this process could not be read.
    #[error("read the mount table")]
    MountTable(#[source] sys::Error),
    /// A path that is not absolute or has `..` in it.
    #[error("invalid cgroup path {0:?}")]
    InvalidPath(String),
    /// A directory could not be made.
    #[error("create cgroup {path}")]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: sys::Error,
    },
    /// A limit was asked for that this host cannot keep.
    #[error("the {controller} cgroup controller is not available, needed for {file}")]
    Unsupported {
        /// The missing controller.
        controller: String,
        /// The file that it would have.
        file: String,
    },
    /// The kernel refused a value.
    #[error("failed to write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why.
        source: sys::Error,
    },
    /// The limit is below what is in use already.
    #[error("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    MemoryInUse {
        /// The limit asked for, in bytes.
        limit: i64,
        /// In use now, in bytes.
        usage: u64,
        /// Most that was ever in use, in bytes.
        peak: u64,
    },
    /// A file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sys::Error,
    },
    /// The cgroup did not become frozen or thawed in time.
    #[error("cgroup {0} did not change its freezer state in time")]
    Freezer(PathBuf),
    /// A directory could not be removed.
    #[error("remove cgroup {path}")]
    Delete {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: sys::Error,
    },
    /// The device program could not be put in force.
    #[error("set the device rules of cgroup {path}")]
    Devices {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: sys::Error,
    },
    /// What is named below a cgroup is not one.
    #[error("cgroup {part:?} {reason}")]
    Below {
        /// What was given.
        part: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// systemd does not run here.
    #[error("systemd not running on this host, cannot use systemd cgroups manager")]
    NoManager,
    /// A path that does not name a scope.
    #[error("cgroupsPath {text:?} {reason}")]
    Scope {
        /// What was given.
        text: String,
        /// What it has not.
        reason: &'static str,
    },
    /// An annotation that asks for a property of the scope which cannot be set.
    #[error("annotations[{key:?}]: {reason}")]
    Annotation {
        /// The annotation.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The service manager cannot be reached.
    #[error("connect to systemd at {path}")]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The service manager did not answer as it should.
    #[error("{call} of systemd")]
    Exchange {
        /// What it was asked for.
        call: String,
        /// Why.
        source: std::io::Error,
    },
    /// The service manager refused.
    #[error("{call} of systemd: {text}")]
    Refused {
        /// What it was asked for.
        call: String,
        /// The error's name.
        name: String,
        /// In its words.
        text: String,
    },
    /// A unit was not started.
    #[error("systemd did not start {unit}: {result}")]
    Job {
        /// The unit.
        unit: String,
        /// How its job ended.
        result: String,
    },
    /// Resources that contradict each other.
    #[error("{0}")]
    Invalid(&'static str),
}
