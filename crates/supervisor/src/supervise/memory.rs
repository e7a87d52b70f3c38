//! Hearing of processes that the kernel killed for want of memory, while the others go on.
//!
//! Version 2 tells by the file `memory.events`, version 1 by an event descriptor tied to `memory.oom_control`
//! (cgroup-v1/memory.rst, *OOM Control*); the latter tells before the kill, so the counter is looked at again shortly.

use super::{Phase, Supervisor};
use crate::poller::{Interest, Source};
use crate::protocol::Event;
use cgroups::Cgroup;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// When the counter is looked at after version 1 has told.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often.
const LOOKS: u32 = 5;

/// The watch on a run's cgroup.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    event: OwnedFd,
    told: u64,
    look_at: Option<Instant>,
    looks: u32,
}

impl MemoryWatch {
    /// Watches `cgroup`; `None` if the host does not tell: the end of the container will show it.
    fn new(cgroup: &Cgroup) -> Option<Self> {
        let directory = cgroup.directory("memory")?;
        let events = directory.join("memory.events");
        let event = if events.exists() {
            let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
            inotify::add_watch(&inotify, &events, WatchFlags::MODIFY).ok()?;
            inotify
        } else {
            let control = fs::File::open(directory.join("memory.oom_control")).ok()?;
            let event = sys::event::event().ok()?;
            let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
            fs::write(directory.join("cgroup.event_control"), line).ok()?;
            event
        };
        Some(Self { event, told: 0, look_at: None, looks: 0 })
    }

    /// Returns when the counter is to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Supervisor {
    /// Begins to watch the present run's memory.
    pub(super) fn watch_memory(&mut self) {
        let Phase::Running(run) = &mut self.phase else { return };
        run.memory = MemoryWatch::new(&run.cgroup);
        if let Some(watch) = &run.memory {
            self.poller.add(&watch.event, Source::Memory, Interest::READ).ok();
        }
    }

    /// The kernel has told that something happened.
    pub(super) fn memory_event(&mut self) {
        let Phase::Running(run) = &mut self.phase else { return };
        let Some(watch) = &mut run.memory else { return };
        let mut events = [0; 1024];
        while !matches!(rustix::io::read(&watch.event, &mut events), Err(Errno::AGAIN) | Ok(0..1024)) {}
        watch.looks = LOOKS;
        self.look_at_memory();
    }

    /// Looks at the counter if it is time.
    pub(super) fn tend_memory(&mut self, now: Instant) {
        if let Phase::Running(run) = &self.phase
            && run.memory.as_ref().and_then(MemoryWatch::deadline).is_some_and(|at| at <= now)
        {
            self.look_at_memory();
        }
    }

    /// Tells if the kernel has killed a process since it was told last.
    pub(super) fn look_at_memory(&mut self) {
        let Phase::Running(run) = &mut self.phase else { return };
        let Some(watch) = &mut run.memory else { return };
        let kills = run.cgroup.oom_kills();
        if kills > watch.told {
            watch.told = kills;
            watch.looks = 0;
            self.peers.tell(Event::Oom, &self.poller);
        }
        watch.looks = watch.looks.saturating_sub(1);
        watch.look_at = (watch.looks > 0).then(|| Instant::now() + LOOK_AGAIN);
    }

    /// Stops to watch.
    pub(super) fn end_memory_watch(&mut self) {
        let Phase::Running(run) = &mut self.phase else { return };
        if let Some(watch) = run.memory.take() {
            self.poller.remove(watch.event.as_fd());
        }
    }
}
