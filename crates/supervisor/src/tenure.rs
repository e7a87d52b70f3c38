//! How long a supervisor holds what belongs to a run: until mounts and control groups of the run are gone, whatever daemon
//! was there meanwhile.
//!
//! It is a lock (flock(2)) on the container's `EXEC` directory: the kernel gives it back when its holder dies.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the end is looked for: flock(2) itself knows no time limit.
const PAUSE: Duration = Duration::from_micros(500);

/// The lock of a run.
#[derive(Debug)]
pub(crate) struct Tenure(OwnedFd);

impl Tenure {
    /// Begins with a run. `None` if the directory cannot be locked, as when it was removed meanwhile.
    pub(crate) fn begin(exec_dir: &Path) -> Option<Self> {
        let directory = open(exec_dir)?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self(directory))
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        // A process that was forked and has not executed its program yet holds a copy of the descriptor.
        flock(&self.0, FlockOperation::Unlock).ok();
    }
}

/// Waits until the supervisor of an earlier run has tidied up; says whether it has.
pub fn tidied_up_within(exec_dir: &Path, limit: Duration) -> bool {
    let Some(directory) = open(exec_dir) else { return true };
    let deadline = Instant::now() + limit;
    while flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

fn open(exec_dir: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(exec_dir, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_waits_for_the_last() {
        let folder = std::env::temp_dir().join(format!("wharf-tenure-{}", std::process::id()));
        assert!(tidied_up_within(&folder, Duration::ZERO), "there was no run");
        std::fs::create_dir(&folder).unwrap();
        let tenure = Tenure::begin(&folder).unwrap();
        assert!(Tenure::begin(&folder).is_none());
        assert!(!tidied_up_within(&folder, Duration::from_millis(1)));
        let copy = tenure.0.try_clone().unwrap();
        drop(tenure);
        assert!(tidied_up_within(&folder, Duration::ZERO));
        drop(copy);
        std::fs::remove_dir(&folder).unwrap();
    }
}
