//! What becomes of a layer's archive once it is unpacked: kept, or dropped when there is a recipe to make it again.
//!
//! Recipes are made on a thread of its own that yields to all others, after an image was recorded: a pull never waits
//! for it. An archive that cannot be made again, or only by a recipe of about its own size, is kept, and that is noted so
//! that it is not tried at each start.

use crate::content::Key;
use crate::error::{At, Result};
use crate::{Durability, Store};
use oci::Digest;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The bucket of blobs that are kept whatever the policy: `blob/DIGEST` → why.
pub(crate) const KEPT: &str = "kept";
/// How much the thread yields to others, as of nice(1).
const NICE: i32 = 15;
/// What fits a block of most file systems is not worth the trouble.
const SMALLEST: u64 = 4096;

/// What becomes of the archives of layers that are unpacked (`layer-archives` of daemon.json).
///
/// They are kept unless asked otherwise: to drop them costs more processor time than the whole pull, again when they are
/// needed, and while containers want to run; who is short of disk space knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Archives {
    /// They stay as they were downloaded, and push and save have nothing to do but read.
    #[default]
    Keep,
    /// They are dropped, and made again bit for bit when push or save need them.
    Rebuild,
}

/// The thread, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Slimmer {
    running: Mutex<Option<Running>>,
    /// Told to end.
    ending: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    content: Arc<crate::content::Content>,
}

impl Running {
    /// Tells the thread to end.
    fn end(self) -> JoinHandle<()> {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.content.recorded.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.thread
    }
}

impl Drop for Slimmer {
    fn drop(&mut self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in ending.drain(..).chain(running.map(Running::end)) {
            drop(thread.join());
        }
    }
}

impl Store {
    /// Sets what becomes of archives from now on. What was dropped before stays so.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] if the thread cannot be started.
    pub fn set_archives(&self, archives: Archives) -> Result<()> {
        let mut running = self.slimmer.running.lock().unwrap_or_else(PoisonError::into_inner);
        match (archives, running.is_some()) {
            (Archives::Keep, true) => {
                let mut ending = self.slimmer.ending.lock().unwrap_or_else(PoisonError::into_inner);
                ending.extend(running.take().map(Running::end));
            }
            (Archives::Rebuild, false) => {
                let (recorded, woken) = channel();
                // What is here already.
                recorded.send(()).ok();
                *self.content.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded);
                let stop = Arc::new(AtomicBool::new(false));
                // Without the thread itself, so that the store's end can end it.
                let store = Self { slimmer: Arc::default(), ..self.clone() };
                let stopped = Arc::clone(&stop);
                let thread = std::thread::Builder::new()
                    .name("slim".to_owned())
                    .spawn(move || run(&store, &woken, &stopped))
                    .at("start the thread for", &self.paths.recipes())?;
                *running = Some(Running { stop, thread, content: Arc::clone(&self.content) });
            }
            (Archives::Keep, false) | (Archives::Rebuild, true) => {}
        }
        Ok(())
    }

    /// Drops the archives that can be made again; returns how many. What [`Store::set_archives`] does in the background.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Database`].
    pub fn slim(&self) -> Result<usize> {
        self.slim_until(&AtomicBool::new(false))
    }

    fn slim_until(&self, stop: &AtomicBool) -> Result<usize> {
        let mut dropped = 0;
        for (digest, diff_id) in self.archives() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // What goes wrong with one (it is removed meanwhile, the disk is full) keeps no other.
            dropped += usize::from(self.slim_one(&digest, &diff_id, stop).unwrap_or(false));
        }
        Ok(dropped)
    }

    /// The archives whose bytes are here, with their layers.
    fn archives(&self) -> BTreeMap<Digest, Digest> {
        let images = self.images.ids().into_iter().filter_map(|id| self.images.platforms(&id).ok()).flatten();
        let pairs = images.flat_map(|image| {
            let digests = image.document.layers.iter().map(|layer| layer.digest.clone());
            digests.zip(image.diff_ids.clone()).collect::<Vec<_>>()
        });
        pairs.filter(|(digest, _)| self.blobs.is_whole(digest)).collect()
    }

    fn slim_one(&self, digest: &Digest, diff_id: &Digest, stop: &AtomicBool) -> Result<bool> {
        let keys = [Key::Blob(digest.clone()), Key::Layer(diff_id.clone())];
        let [key, _] = &keys;
        let known = self.database.get(KEPT, &key.to_string())?.is_some();
        let size = self.blobs.stored(digest);
        if known || size <= SMALLEST || !self.content.not_safe(&keys).is_empty() {
            return Ok(false);
        }
        let path = self.blobs.path(digest);
        let file = std::fs::File::open(&path).at("open", &path)?;
        let mut reader = Stoppable { file, stop };
        if let Err(unfit) = self.blobs.recipes().write(digest, size, diff_id, &mut reader)? {
            let why = unfit.to_string().into_bytes();
            self.database.put(KEPT, &key.to_string(), &why, Durability::Relaxed)?;
            return Ok(false);
        }
        let _references = self.content.references.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.content.not_safe(&keys).is_empty() {
            // Removed meanwhile.
            self.workspace.discard(&self.blobs.recipes().path(digest))?;
            return Ok(false);
        }
        self.blobs.drop_bytes(digest)?;
        Ok(true)
    }
}

fn run(store: &Store, woken: &Receiver<()>, stop: &AtomicBool) {
    // Linux applies this to the calling thread alone, setpriority(2).
    rustix::process::setpriority_process(None, NICE).ok();
    while woken.recv().is_ok() {
        while woken.try_recv().is_ok() {}
        // Tried again after the next image.
        drop(store.slim_until(stop));
    }
}

/// Reads until it is told to stop.
struct Stoppable<'a> {
    file: std::fs::File,
    stop: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::CANCELED.into());
        }
        self.file.read(buffer)
    }
}
