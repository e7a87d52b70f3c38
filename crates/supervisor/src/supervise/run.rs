//! One run of the container: from a start to its end.

use super::memory::MemoryWatch;
use crate::poller::Number;
use base::Timestamp;
use cgroups::Cgroup;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use sys::pidfd::Exit;

/// A container that runs.
#[derive(Debug)]
pub(super) struct Run {
    /// The number of its first process's streams.
    pub(super) number: Number,
    /// Its first process.
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) cgroup: Cgroup,
    /// Its mount namespace, held so that the kernel takes it apart when this is closed, not before it tells of the end.
    pub(super) mounts: Option<OwnedFd>,
    /// Tells of processes killed for want of memory.
    pub(super) memory: Option<MemoryWatch>,
    pub(super) started_at: Timestamp,
    pub(super) paused: bool,
    /// How it was asked to end.
    pub(super) stop: Option<Stop>,
    /// Whether a user asked for the end that is to come: the restart policy then does not apply.
    pub(super) by_user: bool,
    /// Who asked to be answered when the container has started again.
    pub(super) restart: Option<u32>,
    /// How it ended.
    pub(super) end: Option<End>,
}

/// A stop under way.
#[derive(Debug, Default)]
pub(super) struct Stop {
    /// Who is to be answered when the container has ended.
    pub(super) waiting: Vec<u32>,
    /// When it is killed; `None`: never, or it has been.
    pub(super) kill_at: Option<Instant>,
}

/// A process that has ended, whose last output is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) exit: Exit,
    pub(super) time: Timestamp,
    /// After that, output is not waited for any more.
    pub(super) drain_until: Instant,
}

impl End {
    pub(super) fn new(exit: Exit, time: Timestamp, limit: Duration) -> Self {
        Self { exit, time, drain_until: Instant::now() + limit }
    }
}
