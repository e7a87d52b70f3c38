//! Control groups, version 1 and 2: resources become writes, files become statistics.
//!
//! What to write is decided by pure functions ([`v1`] and [`v2`] return lists of [`Setting`]s); [`Cgroup`] makes the
//! directories, carries the writes out, and reads back. It knows processes by number and nothing about containers.
//!
//! Where a service manager looks after cgroups, a container's is a scope of its ([`systemd`]).
//!
//! A cgroup's path is one from the root of each hierarchy as mounted here ("/wharf/ID"). On a host that has both versions
//! mounted, version 1 is used: the controllers are there.
//!
//! Kernel documents: Documentation/admin-guide/cgroup-v1, cgroup-v2.rst; runtime-spec config-linux.md, *Control groups*.

mod device;
mod error;
mod group;
mod hierarchy;
mod statistics;
pub mod systemd;
pub mod v1;
pub mod v2;

pub use device::program as device_program;
pub use error::Error;
pub use group::Cgroup;
pub use hierarchy::{Hierarchy, Manager, Mount};
pub use statistics::{
    BlockIo, BlockIoEntry, CpuStatistics, MemoryStatistics, PidsStatistics, Statistics, Throttling,
};

/// One value for one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The controller whose directory has the file (version 1).
    pub controller: &'static str,
    /// Name of the file.
    pub file: String,
    /// What to write.
    pub value: String,
    /// Whether a kernel without the file is an error.
    pub required: bool,
}

impl Setting {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers have numbers and texts alike, and no more use for them"
    )]
    fn new(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Self {
        Self { controller, file: file.into(), value: value.to_string(), required: true }
    }

    fn optional(self) -> Self {
        Self { required: false, ..self }
    }
}
