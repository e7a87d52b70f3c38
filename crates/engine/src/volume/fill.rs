//! The first use of a volume: an empty one gets what the image has at its place, all of it or nothing.
//!
//! While it is copied a file beside the contents says so. Whoever finds that file later, with nobody using the volume,
//! knows that a crash came between, and empties the volume before its next use.

use super::{Volumes, is_mounted};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// The file that says that a volume is being filled.
const MARKER: &str = "filling";

impl Volumes {
    /// Has `copy` put contents into a volume that is at hand, if it is empty. They are on disk afterwards.
    ///
    /// # Errors
    ///
    /// Those of `copy`, and of what is done around it; the volume is empty then.
    pub(crate) fn fill(&self, name: &str, copy: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let data = self.data(name);
        let gate = self.gate(name);
        let _gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_empty(&data) {
            return Ok(());
        }
        let marker = self.marker(name);
        std::fs::write(&marker, "").map_err(Error::file("create", &marker))?;
        let filled = copy(&data).and_then(|()| {
            base::failpoint::reached("volume.fill");
            if is_empty(&data) { Ok(()) } else { sync(&data) }
        });
        if filled.is_err() {
            clear(&data)?;
        }
        std::fs::remove_file(&marker).map_err(Error::file("remove", &marker))?;
        filled
    }

    /// Empties a volume that a crash left half filled. Its contents are at hand, and nobody uses it.
    pub(super) fn undo_filling(&self, name: &str) -> Result<()> {
        let marker = self.marker(name);
        if !marker.exists() {
            return Ok(());
        }
        tracing::info!(volume = name, "emptying a volume that was half filled");
        clear(&self.data(name))?;
        std::fs::remove_file(&marker).map_err(Error::file("remove", &marker))
    }

    /// As [`Volumes::undo_filling`], for all that need no mount and that no running container uses.
    pub(super) fn undo_fillings(&self) {
        for volume in self.list() {
            let name = volume.name.as_str();
            if self.is_idle(name)
                && !is_mounted(&self.data(name))
                && matches!(volume.backing(), Ok(None))
                && let Err(error) = self.undo_filling(name)
            {
                tracing::warn!(volume = name, error = %base::chain(&error), "emptying a volume that was half filled");
            }
        }
    }

    fn marker(&self, name: &str) -> PathBuf {
        self.folder(name).join(MARKER)
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Has everything on the folder's file system written.
fn sync(folder: &Path) -> Result<()> {
    let directory = std::fs::File::open(folder).map_err(Error::file("open", folder))?;
    rustix::fs::syncfs(&directory).map_err(|errno| Error::file("sync", folder)(errno.into()))
}

/// Removes what is in a folder, links as such.
fn clear(folder: &Path) -> Result<()> {
    let failed = |error| Error::file("empty", folder)(error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let removed = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(Error::file("remove", &path))?;
    }
    Ok(())
}
