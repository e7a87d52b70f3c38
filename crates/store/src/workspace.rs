//! Unfinished things and things on their way out: `DATA/tmp`.
//!
//! What is being made lives here until one rename makes it visible; what is removed is renamed to here and deleted by
//! one background thread. Whatever a crash leaves here is rubbish and deleted at the next start, except `ingest/`:
//! unfinished downloads, which resume.

use crate::error::{At, Result};
use base::paths::DataPaths;
use rustix::fs::Mode;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

const INGEST: &str = "ingest";
/// How much the deleting thread yields to others, as of nice(1).
const NICE: i32 = 10;

/// The directory of unfinished things.
#[derive(Debug)]
pub(crate) struct Workspace {
    tmp: PathBuf,
    root: File,
    next: AtomicU64,
    trash: Mutex<Option<Sender<Trash>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Trash {
    Delete(PathBuf),
    Tell(SyncSender<()>),
}

impl Workspace {
    /// Makes what is missing of the data root and begins to delete what an earlier process left.
    pub(crate) fn open(paths: &DataPaths) -> Result<Self> {
        let tmp = paths.tmp();
        let ingest = tmp.join(INGEST);
        make_private(paths.root())?;
        for directory in
            [&tmp, &ingest, &paths.blobs(), &paths.layers(), &paths.containers(), &paths.volumes()]
        {
            make_private(directory)?;
        }
        let (trash, queue) = channel();
        let directory = File::open(&tmp).at("open", &tmp)?;
        spread_below(&directory);
        let mut next = 0;
        for entry in std::fs::read_dir(&tmp).at("list", &tmp)? {
            let entry = entry.at("list", &tmp)?;
            let name = entry.file_name();
            if name == INGEST {
                continue;
            }
            // Names are numbers: go on behind those of the earlier process, which are still being deleted.
            let number = name.to_str().and_then(|name| name.rsplit('-').next()?.parse::<u64>().ok());
            next = next.max(number.map_or(0, |number| number.saturating_add(1)));
            drop(trash.send(Trash::Delete(entry.path())));
        }
        let thread = std::thread::Builder::new()
            .name("trash".to_owned())
            .spawn(move || delete_loop(&directory, &queue))
            .at("start the thread for", &tmp)?;
        Ok(Self {
            root: File::open(paths.root()).at("open", paths.root())?,
            tmp,
            next: AtomicU64::new(next),
            trash: Mutex::new(Some(trash)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Returns a name that nothing has.
    pub(crate) fn fresh(&self, what: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.tmp.join(format!("{what}-{number}"))
    }

    /// Makes an empty directory that is deleted unless it is kept.
    pub(crate) fn directory(&self, what: &str) -> Result<Unfinished<'_>> {
        let path = self.fresh(what);
        make(&path)?;
        Ok(Unfinished { workspace: self, path })
    }

    /// Makes an empty file that is deleted unless it is kept.
    pub(crate) fn file(&self, what: &str) -> Result<(File, Unfinished<'_>)> {
        let path = self.fresh(what);
        let file = File::options().read(true).write(true).create_new(true).open(&path).at("create", &path)?;
        Ok((file, Unfinished { workspace: self, path }))
    }

    /// The directory of unfinished downloads.
    pub(crate) fn ingest(&self) -> PathBuf {
        self.tmp.join(INGEST)
    }

    /// Takes `path` out of sight at once; it is deleted in the background. "Already gone" is success.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let away = self.fresh("trash");
        match std::fs::rename(path, &away) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).at("remove", path),
        }
        self.delete(away);
        Ok(())
    }

    /// Waits until everything discarded so far is deleted.
    pub(crate) fn settle(&self) {
        let (told, done) = sync_channel(1);
        let trash = self.trash.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if trash.is_some_and(|trash| trash.send(Trash::Tell(told)).is_ok()) {
            done.recv().ok();
        }
    }

    /// Writes everything on the data root's file system to its disk.
    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.root).at("sync the file system of", &self.tmp)
    }

    fn delete(&self, path: PathBuf) {
        if let Some(trash) = &*self.trash.lock().unwrap_or_else(PoisonError::into_inner) {
            // Without its thread the rubbish waits for the next start.
            drop(trash.send(Trash::Delete(path)));
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        drop(self.trash.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(thread.join());
        }
    }
}

/// Something that is deleted when dropped, unless it was moved to its place.
#[derive(Debug)]
pub(crate) struct Unfinished<'a> {
    workspace: &'a Workspace,
    path: PathBuf,
}

impl Unfinished<'_> {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to `place`; says whether it is there now, or something else was there first.
    pub(crate) fn publish(self, place: &Path) -> Result<bool> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, &self.path, CWD, place, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error).at("rename to", place),
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.path.symlink_metadata().is_ok() {
            self.workspace.delete(self.path.clone());
        }
    }
}

/// Makes a directory that only root enters, with its parents; an existing one is left as it is.
fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("create", path)
}

/// Makes a directory with mode 0755.
pub(crate) fn make(path: &Path) -> Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)).at("create", path)
}

/// Asks ext4 to keep apart what is made in `directory`: each folder in a block group of its own (chattr(1), *T*).
///
/// Whoever fills one then does not wait for those who fill or empty others, nor searches a group where much was deleted
/// just now, which is slow without a journal. It only helps; other file systems know nothing of it.
fn spread_below(directory: &File) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let Ok(flags) = ioctl_getflags(directory) else { return };
    if !flags.contains(IFlags::TOPDIR) {
        ioctl_setflags(directory, flags | IFlags::TOPDIR).ok();
    }
}

fn delete_loop(tmp: &File, queue: &Receiver<Trash>) {
    // Linux applies this to the calling thread alone, setpriority(2).
    rustix::process::setpriority_process(None, NICE).ok();
    for trash in queue {
        match trash {
            Trash::Delete(path) => {
                let name = path.file_name().unwrap_or_default().as_bytes();
                // What cannot be deleted now is tried again at the next start.
                crate::remove::remove_tree(tmp.as_fd(), name, tmp.as_fd()).ok();
            }
            // Nobody may be waiting any more.
            Trash::Tell(told) => drop(told.send(())),
        }
    }
}
