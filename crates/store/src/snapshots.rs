//! The writable layers of containers: `DATA/containers/ID/{upper,work}`.

use crate::error::{At, Result};
use crate::workspace::{Workspace, make};
use base::ContainerId;
use base::paths::DataPaths;
use rustix::fs::{Gid, Mode, Uid};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directories of a container's writable layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What the container changes.
    pub upper: PathBuf,
    /// Overlayfs' own.
    pub work: PathBuf,
}

/// The writable layers of a store.
#[derive(Debug, Clone)]
pub struct Snapshots {
    paths: DataPaths,
    workspace: Arc<Workspace>,
}

impl Snapshots {
    pub(crate) fn new(paths: DataPaths, workspace: Arc<Workspace>) -> Self {
        Self { paths, workspace }
    }

    /// Returns where a container's writable layer is or would be.
    pub fn of(&self, id: &ContainerId) -> Snapshot {
        let directory = self.paths.container(id);
        Snapshot { upper: directory.join("upper"), work: directory.join("work") }
    }

    /// Makes an empty writable layer, with the container's directory if need be. It is not synced.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`], also if it exists.
    pub fn create(&self, id: &ContainerId) -> Result<Snapshot> {
        let directory = self.paths.container(id);
        match rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o710)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).at("create", &directory),
        }
        let snapshot = self.of(id);
        make(&snapshot.upper)?;
        make(&snapshot.work)?;
        Ok(snapshot)
    }

    /// Makes an empty writable layer on top of `lower` (topmost first), whose root keeps its mode and owner: overlayfs
    /// shows those of the upper directory.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`], also if it exists.
    pub fn create_on(&self, id: &ContainerId, lower: &[PathBuf]) -> Result<Snapshot> {
        let snapshot = self.create(id)?;
        if let Some(top) = lower.first() {
            let below = std::fs::symlink_metadata(top).at("stat", top)?;
            let upper = &snapshot.upper;
            if (below.uid(), below.gid()) != (0, 0) {
                rustix::fs::chown(upper, Some(Uid::from_raw(below.uid())), Some(Gid::from_raw(below.gid())))
                    .at("change the owner of", upper)?;
            }
            if below.mode() & 0o7777 != 0o755 {
                rustix::fs::chmod(upper, Mode::from_raw_mode(below.mode() & 0o7777))
                    .at("change the mode of", upper)?;
            }
        }
        Ok(snapshot)
    }

    /// Takes the container's whole directory (writable layer, logs, files) out of sight at once; it is deleted in
    /// the background. It must not be mounted. "Not here" is success.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`].
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        self.workspace.discard(&self.paths.container(id))
    }

    /// Returns the bytes of all files in a container's writable layer, as `ps --size` shows.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`].
    pub fn usage(&self, id: &ContainerId) -> Result<u64> {
        usage(&self.of(id).upper)
    }
}

/// Returns the bytes of all regular files in a tree, hard links once; what vanishes meanwhile does not count.
///
/// # Errors
///
/// [`crate::Error::Io`].
pub fn usage(root: &Path) -> Result<u64> {
    let mut linked = std::collections::HashSet::new();
    let mut total = 0_u64;
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            outcome => outcome.at("list", &path)?,
        };
        for entry in entries {
            let entry = entry.at("list", &path)?;
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                outcome => outcome.at("stat", &entry.path())?,
            };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.is_file()
                && (metadata.nlink() == 1 || linked.insert((metadata.dev(), metadata.ino())))
            {
                total = total.saturating_add(metadata.len());
            }
        }
    }
    Ok(total)
}
