//! Waiting for a log to grow.

use crate::Error;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// How often the file is looked at when the host has no inotify instance to give (`max_user_instances`).
const FALLBACK: Duration = Duration::from_millis(200);

const GOING: u8 = 0;
const FINISHING: u8 = 1;
const CANCELLED: u8 = 2;

/// Ends a [`Reader`](crate::Reader) that follows, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    wake: OwnedFd,
}

impl Stopper {
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::io("make event descriptor to follow", path)(errno.into()))?;
        Ok(Self { shared: Arc::new(Shared { state: AtomicU8::new(GOING), wake }) })
    }

    /// Nobody writes any more: the reader gives what is left and ends.
    pub fn finish(&self) {
        self.set(FINISHING);
    }

    /// Nobody reads any more: the reader ends at once.
    pub fn cancel(&self) {
        self.set(CANCELLED);
    }

    fn set(&self, state: u8) {
        self.shared.state.fetch_max(state, Ordering::AcqRel);
        // The counter being at its limit is the only failure, and then the reader is to wake up anyway.
        rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes()).ok();
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) >= FINISHING
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == CANCELLED
    }
}

/// Watches the directory of a log: one watch sees writing and rotation.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Option<OwnedFd>,
    stopper: Stopper,
}

impl Watch {
    pub(crate) fn new(path: &Path, stopper: Stopper) -> Self {
        Self { inotify: watch_directory(path).ok(), stopper }
    }

    /// Waits until the log may have changed, the stopper was used, or `limit` is over.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<(), Errno> {
        let wake = PollFd::new(&self.stopper.shared.wake, PollFlags::IN);
        let limit = match self.inotify {
            Some(_) => limit,
            None => Some(limit.map_or(FALLBACK, |limit| limit.min(FALLBACK))),
        };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let waited = match &self.inotify {
            Some(inotify) => poll(&mut [wake, PollFd::new(inotify, PollFlags::IN)], limit.as_ref()),
            None => poll(&mut [wake], limit.as_ref()),
        };
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if let Some(inotify) = &self.inotify {
            let mut events = [0; 4096];
            while matches!(rustix::io::read(inotify, &mut events), Ok(1..)) {}
        }
        Ok(())
    }
}

fn watch_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    inotify::add_watch(
        &inotify,
        directory,
        WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR,
    )?;
    Ok(inotify)
}
