//! Steps that change files: their keys, their layers.
//!
//! A layer is what a step leaves in the upper directory of an overlay on the layers below. Names are clear about which
//! folder is whose:
//!
//! ```text
//! DATA/build/work/N/upper, work     the step's overlay
//! DATA/build/work/N/mounts/…        what commands have mounted; detached before anything is deleted
//! ```

use crate::cache::{Answer, Claim, Found, Inputs, Kept};
use crate::error::{Error, Result};
use crate::evaluate::State;
use crate::job::Job;
use crate::request::Context;
use crate::stage::At;
use crate::worker::Event;
use crate::{place, transfer};
use oci::{Digest, Hasher};
use rustix::fs::Mode;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use store::Store;

/// A tree to copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A folder of the host.
    Folder(Context),
    /// Layers, base first.
    Layers(Vec<Digest>),
}

/// The folder of a step, gone when dropped.
#[derive(Debug)]
pub(crate) struct Desk {
    store: Store,
    pub(crate) folder: PathBuf,
}

impl Desk {
    pub(crate) fn new(store: &Store) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let all = store.paths().build().join("work");
        std::fs::create_dir_all(&all).map_err(Error::file("create", &all))?;
        loop {
            let folder = all.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
            match std::fs::create_dir(&folder) {
                Ok(()) => {}
                // What an earlier process left is being deleted.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::file("create", &folder)(error)),
            }
            let desk = Self { store: store.clone(), folder };
            for name in ["upper", "work", "empty", "mounts"] {
                desk.make(name)?;
            }
            return Ok(desk);
        }
    }

    pub(crate) fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)).map_err(Error::file("create", &path))?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o755)).map_err(Error::file("create", &path))?;
        Ok(path)
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.folder.join("upper")
    }

    /// Mounts the layers with something writable on top, detached.
    pub(crate) fn overlay(&self, lower: &[PathBuf], upper: &str, work: &str) -> Result<OwnedFd> {
        let empty = self.folder.join("empty");
        let mut below: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
        if below.is_empty() {
            below.push(&empty);
        }
        let (upper, work) = (self.folder.join(upper), self.folder.join(work));
        sys::mount::overlay(&below, &upper, &work, true).map_err(Error::system)
    }

    /// Mounts layers to be read, detached.
    pub(crate) fn view(&self, lower: &[PathBuf]) -> Result<OwnedFd> {
        let below: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
        if below.is_empty() {
            return sys::path::open_directory(&self.folder.join("empty")).map_err(Error::system);
        }
        sys::mount::overlay_view(&below).map_err(Error::system)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        crate::worker::clear_mounts(&self.folder.join("mounts"));
        if let Err(error) = self.store.discard(&self.folder) {
            tracing::warn!(error = %base::chain(&error), "removing the folder of a build step");
        }
    }
}

/// Returns the key that inputs make.
pub(crate) fn key(inputs: &Inputs) -> String {
    let mut hasher = Hasher::sha256();
    for (name, value) in inputs {
        for text in [name, value] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.finish().hex().to_owned()
}

/// Returns what tells a stack of layers from others.
pub(crate) fn chain(diff_ids: &[Digest]) -> String {
    let text: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
    Digest::sha256_of(text.join(" ").as_bytes()).to_string()
}

/// Makes a value short enough to be noted, and no more telling than it must be.
pub(crate) fn brief(value: &str) -> String {
    Digest::sha256_of(value.as_bytes()).hex().to_owned()
}

impl Job<'_> {
    /// Finds a step's result in the cache, or has it made.
    pub(crate) fn cached(
        &self,
        at: At<'_>,
        inputs: &Inputs,
        state: &State,
        make: impl FnOnce(&Claim) -> Result<Option<Kept>>,
    ) -> Result<Found> {
        let key = key(inputs);
        let filter = &self.request.no_cache_filter;
        let fresh = self.request.no_cache
            || filter.iter().any(|name| name.eq_ignore_ascii_case(self.stage_name(at.stage)));
        match self.cache.ask(&key, fresh, self.cancel)? {
            Answer::Here(found) => {
                self.cache.difference(&self.slot(at), inputs);
                self.tell(Event::Cached { step: at.number });
                self.note_used(&key, &at.step.text, &found);
                Ok(found)
            }
            Answer::Work(claim) => {
                if !fresh && let Some(found) = self.take(at, &key, &claim, state)? {
                    self.cache.difference(&self.slot(at), inputs);
                    self.tell(Event::Cached { step: at.number });
                    self.note_used(&key, &at.step.text, &found);
                    return Ok(found);
                }
                let why = self.cache.difference(&self.slot(at), inputs);
                if self.request.explain {
                    let why = match why {
                        _ if fresh => "the cache is not to be used".to_owned(),
                        Some(why) => why,
                        None => "its result is no longer here".to_owned(),
                    };
                    self.tell(Event::Missed { step: at.number, why });
                }
                let layer = make(&claim)?;
                // Whoever gave up meanwhile may have left it half done.
                self.cancel.check()?;
                let parent = state.config.rootfs.diff_ids.last().map(ToString::to_string);
                let found = self.cache.keep(&claim, &at.step.text, parent.into_iter().collect(), layer)?;
                self.note_used(&key, &at.step.text, &found);
                Ok(found)
            }
        }
    }

    /// The place of a step in what the user builds, whatever it does this time.
    fn slot(&self, at: At<'_>) -> String {
        let name = self.request.names.first().map(ToString::to_string).unwrap_or_default();
        let first = self.first_step(at.stage);
        let stage = self.shown_name(at.stage);
        brief(&format!("{name}\0{stage}\0{}", at.number - first))
    }

    /// Adds a step's layer to the image.
    pub(crate) fn add(&self, state: &mut State, found: Found, created_by: String) {
        let created = self.time(found.created);
        let empty = found.layer.is_none();
        if let Some(kept) = found.layer {
            state.config.rootfs.diff_ids.push(kept.diff_id);
            state.layers.push(kept.archive);
        }
        state.note(&created, created_by, empty);
    }

    /// Makes a layer of what is in the upper directory; none if that is empty.
    pub(crate) fn adopt(&self, desk: &Desk) -> Result<Option<Kept>> {
        let upper = desk.upper();
        let folder = File::open(&upper).map_err(Error::file("open", &upper))?;
        if place::list(folder.as_fd()).map_err(Error::file("list", &upper))?.is_empty() {
            return Ok(None);
        }
        if let Some(epoch) = self.epoch {
            transfer::limit_times(folder.as_fd(), epoch, 0)?;
        }
        drop(folder);
        let adopted = self.cache.store().adopt_layer(&upper)?;
        Ok(Some(Kept { archive: adopted.layer, diff_id: adopted.diff_id }))
    }

    /// `WORKDIR`: the folder is made if it is not there.
    pub(crate) fn workdir(&self, at: At<'_>, state: &mut State) -> Result<()> {
        let path = state.config.config.working_dir.clone();
        let diff_ids = state.config.rootfs.diff_ids.clone();
        let inputs: Inputs = vec![
            ("the layers below".to_owned(), chain(&diff_ids)),
            ("the instruction".to_owned(), format!("WORKDIR {path}")),
        ];
        let found = self.cached(at, &inputs, state, |_claim| {
            let desk = Desk::new(self.cache.store())?;
            let root = desk.overlay(&self.lower(&diff_ids)?, "upper", "work")?;
            let make = place::Make { uid: 0, gid: 0 };
            drop(
                place::folder(root.as_fd(), path.as_bytes(), make)
                    .map_err(Error::name("create", path.as_bytes()))?,
            );
            drop(root);
            self.adopt(&desk)
        })?;
        self.add(state, found, at.step.text.clone());
        Ok(())
    }
}
