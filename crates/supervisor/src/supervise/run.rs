//! One run of the container: from a start to its end.

use super::Failure;
use super::memory::MemoryWatch;
use crate::foreign::Foreign;
use crate::poller::Number;
use base::Timestamp;
use cgroups::Cgroup;
use oci::runtime::{NamespaceKind, Resources, Spec};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
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
    /// The program that runs it, if that is not our own runtime.
    pub(super) foreign: Option<Rc<Foreign>>,
    /// Its mount namespace, held so that the kernel takes it apart when this is closed, not before it tells of the end.
    pub(super) mounts: Option<OwnedFd>,
    /// Tells of processes killed for want of memory.
    pub(super) memory: Option<MemoryWatch>,
    pub(super) started_at: Timestamp,
    /// The same by the clock that nobody sets, for spans.
    pub(super) begun: Instant,
    pub(super) paused: bool,
    /// The connection that they are frozen for, if it is not until further notice.
    pub(super) held_by: Option<u32>,
    /// How it was asked to end.
    pub(super) stop: Option<Stop>,
    /// Whether a user asked for the end that is to come: the restart policy then does not apply.
    pub(super) by_user: bool,
    /// Who asked to be answered when the container has started again.
    pub(super) restart: Option<u32>,
    /// Whether it starts again though nobody waits for that: it has become unhealthy.
    pub(super) again: bool,
    /// How it ended.
    pub(super) end: Option<End>,
}

impl Run {
    /// Sends a signal to the first process.
    pub(super) fn signal(&self, signal: i32) -> Result<(), Failure> {
        match &self.foreign {
            None => sys::pidfd::send_signal(self.pidfd.as_fd(), signal)
                .map_err(|error| Failure::internal(base::chain(&error))),
            Some(foreign) => foreign.kill(signal),
        }
    }

    /// Freezes all processes: for a connection, or until further notice.
    pub(super) fn freeze(&mut self, holder: Option<u32>) -> Result<(), Failure> {
        match &self.foreign {
            None => self.cgroup.freeze().map_err(|error| refused(&error))?,
            Some(foreign) => foreign.pause()?,
        }
        (self.paused, self.held_by) = (true, holder);
        Ok(())
    }

    pub(super) fn thaw(&mut self) -> Result<(), Failure> {
        match &self.foreign {
            None => self.cgroup.thaw().map_err(|error| refused(&error))?,
            Some(foreign) => foreign.resume()?,
        }
        (self.paused, self.held_by) = (false, None);
        Ok(())
    }

    /// Writes the processes into an image; they end unless they are to go on.
    ///
    /// A container of our own runtime is made known to that runtime's commands first, which are run as a program.
    pub(super) fn checkpoint(
        &self,
        (folder, id): (&Path, String),
        (mut spec, systemd): (Spec, bool),
        image: &Path,
        leave_running: bool,
    ) -> Result<(), Failure> {
        if let Some(foreign) = &self.foreign {
            return foreign.checkpoint(image, leave_running);
        }
        let linux = spec.linux.get_or_insert_default();
        for namespace in linux.namespaces.iter_mut().filter(|one| one.kind == NamespaceKind::Network) {
            namespace.path = Some(format!("/proc/{}/ns/net", self.pid));
        }
        let cgroup = self.cgroup.path().to_owned();
        let known = runtime::command::Known {
            id: id.clone(),
            pid: self.pid,
            bundle: folder.to_owned(),
            spec,
            cgroup,
            systemd,
        };
        let program = Foreign::own(folder);
        let root = program.root.clone();
        let made = runtime::command::adopt(&root, known).map_err(Failure::io("prepare a checkpoint"));
        let made = made.and_then(|()| Foreign::reached(program, folder, id).checkpoint(image, leave_running));
        std::fs::remove_dir_all(&root).ok();
        made
    }

    pub(super) fn apply(&self, resources: &Resources) -> Result<(), Failure> {
        match &self.foreign {
            None => self.cgroup.update(resources).map_err(|error| refused(&error)),
            Some(foreign) => foreign.update(resources),
        }
    }
}

fn refused(error: &cgroups::Error) -> Failure {
    let message = base::chain(error);
    match error {
        cgroups::Error::Unsupported { .. } => Failure::invalid(message),
        _ => Failure::internal(message),
    }
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
    /// The same by the clock that nobody sets, for spans.
    pub(super) at: Instant,
    /// After that, output is not waited for any more.
    pub(super) drain_until: Instant,
}

impl End {
    pub(super) fn new(exit: Exit, time: Timestamp, limit: Duration) -> Self {
        let at = Instant::now();
        Self { exit, time, at, drain_until: at + limit }
    }
}
