//! What the builder needs of others: processes run, images found, and somebody who listens.

use crate::error::{Error, Result};
use crate::request::CacheFrom;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which of a process's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Something mounted while a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMount {
    /// The path inside; it exists.
    pub target: String,
    /// What is there.
    pub source: MountSource,
    /// Whether it may be written.
    pub writable: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A file or folder of the host.
    Path(PathBuf),
    /// A memory file system of so many bytes, or of the kernel's default.
    Memory(Option<u64>),
}

/// A process to be run on top of layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// The words.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// `USER[:GROUP]`.
    pub user: String,
    /// The working directory.
    pub directory: String,
    /// The layers below, topmost first.
    pub lower: Vec<PathBuf>,
    /// Where what it changes goes: an empty directory.
    pub upper: PathBuf,
    /// Overlayfs' own.
    pub work: PathBuf,
    /// What is mounted besides.
    pub mounts: Vec<ProcessMount>,
    /// The mode of its network: empty for the default one.
    pub network: String,
    /// Whether it may do everything.
    pub privileged: bool,
    /// The name of its host; empty for the usual one.
    pub hostname: String,
    /// Full names of the devices that it gets.
    pub devices: Vec<String>,
}

/// A device of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevice {
    /// Its full name.
    pub name: String,
    /// Whether its description says that any build may have it.
    pub allowed_always: bool,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Whether memory ran out.
    pub out_of_memory: bool,
}

/// Who runs processes.
pub trait Worker: Send + Sync {
    /// Runs a process to its end. When it returns nothing of the process is left, and its files are in `upper`.
    ///
    /// # Errors
    ///
    /// That it could not be started; [`Error::Cancelled`] once `cancel` says so.
    fn run(&self, process: &Process, cancel: &Cancel, output: &mut dyn FnMut(Stream, &[u8])) -> Result<Ran>;

    /// Returns what is known of the build's surroundings and changes what commands see: the extra hosts.
    fn surroundings(&self) -> String;

    /// Returns the devices that a name stands for: `VENDOR/CLASS=NAME`, `VENDOR/CLASS`, `VENDOR/CLASS=*`, or a class.
    fn devices(&self, name: &str) -> Vec<FoundDevice>;
}

/// Detaches everything that is mounted on the entries of a folder; nothing below a mount is touched.
pub(crate) fn clear_mounts(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Err(error) = sys::mount::detach(&entry.path()) {
            tracing::warn!(error = %base::chain(&error), "detaching a mount of a build");
        }
    }
}

/// An image that tells how its layers were made, as it is described: its layers need not be here.
#[derive(Debug, Clone)]
pub struct CacheImage {
    /// Its configuration.
    pub config: oci::ImageConfig,
    /// The archives of its layers, base first.
    pub layers: Vec<oci::Descriptor>,
}

/// Who finds images.
pub trait Images: Send + Sync {
    /// Returns an image, fetched if need be. Its layers are unpacked.
    ///
    /// # Errors
    ///
    /// That there is none.
    fn find(&self, reference: &str, platform: Option<&oci::Platform>) -> Result<store::Image>;

    /// Returns the description of a cache from elsewhere.
    ///
    /// # Errors
    ///
    /// That there is none.
    fn cache(&self, from: &CacheFrom) -> Result<CacheImage>;

    /// Gets a layer of a cache from elsewhere, stored and unpacked; both digests are checked.
    ///
    /// # Errors
    ///
    /// That it is not there, or something else.
    fn cache_layer(&self, from: &CacheFrom, archive: &oci::Descriptor, diff_id: &oci::Digest) -> Result<()>;

    /// Fetches a URL into a file; returns the time it was last changed (seconds since 1970), if that is told, and the
    /// name that the server gives it.
    ///
    /// # Errors
    ///
    /// That it cannot be fetched.
    fn fetch(&self, url: &str, file: &mut std::fs::File) -> Result<(Option<i64>, Option<String>)>;

    /// Fetches a git repository into an empty folder: the reference, or the default branch; returns the commit.
    ///
    /// # Errors
    ///
    /// That it cannot be fetched.
    fn clone(&self, source: &crate::GitSource, keep_git: bool, folder: &std::path::Path) -> Result<String>;
}

/// Who listens.
pub trait Progress: Send + Sync {
    /// Something happened. Does not block.
    fn tell(&self, event: Event);
}

/// What happens in a build. Steps are numbered from 1 over all stages that are built, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    Begin {
        /// Its number.
        step: usize,
        /// How many there are.
        total: usize,
        /// The stage it belongs to, by number.
        stage: usize,
        /// The stage's name, or number.
        name: String,
        /// The instruction.
        text: String,
    },
    /// A process runs.
    Running {
        /// The step.
        step: usize,
        /// What tells it from others.
        id: String,
    },
    /// A process wrote something.
    Output {
        /// The step.
        step: usize,
        /// Where.
        stream: Stream,
        /// What.
        bytes: Vec<u8>,
    },
    /// The step's result was in the cache.
    Cached {
        /// The step.
        step: usize,
    },
    /// The step's result was not in the cache.
    Missed {
        /// The step.
        step: usize,
        /// The first thing that differs from the last time.
        why: String,
    },
    /// A step is done.
    End {
        /// The step.
        step: usize,
        /// What tells its result from others.
        id: String,
    },
    /// A line about a step.
    Note {
        /// The step.
        step: usize,
        /// The line, with its end.
        text: String,
    },
}

/// Tells all that is going on for a build to end.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    inner: Arc<Inner>,
}

type Action = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Inner {
    told: AtomicBool,
    actions: Mutex<Vec<(u64, Action)>>,
    next: std::sync::atomic::AtomicU64,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Cancel {
    /// Ends the build.
    pub fn cancel(&self) {
        self.inner.told.store(true, Ordering::SeqCst);
        let actions = std::mem::take(&mut *self.inner.actions.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, action) in actions {
            action();
        }
    }

    /// Says whether the build is to end.
    pub fn is_told(&self) -> bool {
        self.inner.told.load(Ordering::SeqCst)
    }

    /// Fails if the build is to end.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.is_told() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Does `action` when the build is to end, unless the guard is dropped before. At once if it is already.
    #[must_use]
    pub fn on_cancel(&self, action: impl FnOnce() + Send + 'static) -> Watch {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let mut actions = self.inner.actions.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_told() {
            drop(actions);
            action();
        } else {
            actions.push((id, Box::new(action)));
        }
        Watch { cancel: self.clone(), id }
    }
}

/// Keeps an action of [`Cancel::on_cancel`].
#[derive(Debug)]
pub struct Watch {
    cancel: Cancel,
    id: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut actions = self.cancel.inner.actions.lock().unwrap_or_else(PoisonError::into_inner);
        actions.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_is_told_once() {
        let cancel = Cancel::default();
        let count = Arc::new(Mutex::new(Vec::new()));
        let note = |name: &'static str| {
            let count = Arc::clone(&count);
            move || count.lock().unwrap().push(name)
        };
        let kept = cancel.on_cancel(note("kept"));
        drop(cancel.on_cancel(note("dropped")));
        assert!(cancel.check().is_ok());
        cancel.cancel();
        cancel.cancel();
        let late = cancel.on_cancel(note("late"));
        assert_eq!(*count.lock().unwrap(), ["kept", "late"]);
        assert!(cancel.check().is_err());
        drop((kept, late));
    }
}
