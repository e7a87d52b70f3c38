//! Files that survive a power cut: each step is on the disk before the next one says that it is.
//!
//! A file is written aside, synced, renamed to its place, and the folder is synced; a new folder is synced into its
//! parent. fsync(2), *Notes*: syncing a file says nothing about the entry that names it.

use crate::error::{At, Result};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Syncs the folder `path`.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).at("sync", path)
}

/// Makes `path` and what is missing above it.
pub(crate) fn make_folders(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else { return Err(error).at("create", path) };
            make_folders(parent)?;
            return make_folders(path);
        }
        Err(error) => return Err(error).at("create", path),
    }
    path.parent().map_or(Ok(()), sync_folder)
}

/// Moves a file, whose bytes are synced, to its place.
pub(crate) fn place(file: &Path, place: &Path) -> Result<()> {
    let folder = place.parent().unwrap_or(place);
    let mut tries = 0;
    loop {
        make_folders(folder)?;
        match std::fs::rename(file, place) {
            // The folder was empty and somebody removed it just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 3 && file.exists() => tries += 1,
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return copy(file, place, folder),
            outcome => {
                outcome.at("rename to", place)?;
                return sync_folder(folder);
            }
        }
    }
}

/// Moves a file to a place on another file system: blobs and repositories may be mounted apart.
fn copy(file: &Path, place: &Path, folder: &Path) -> Result<()> {
    let beside = fresh(folder);
    let copied = (|| {
        let mut to = File::options().write(true).create_new(true).open(&beside)?;
        io::copy(&mut File::open(file)?, &mut to)?;
        to.sync_all()?;
        std::fs::rename(&beside, place)
    })();
    if copied.is_err() {
        // What it was copied from is still there.
        drop(std::fs::remove_file(&beside));
    }
    copied.at("copy to", place)?;
    sync_folder(folder)?;
    std::fs::remove_file(file).at("remove", file)
}

/// A name for something unfinished in `folder`.
pub(crate) fn fresh(folder: &Path) -> PathBuf {
    folder.join(random_id())
}

/// Writes `bytes` to `path`, whole or not at all; what was there before is replaced.
pub(crate) fn write(aside: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = fresh(aside);
    let outcome =
        write_new(&unfinished, bytes).at("write", &unfinished).and_then(|()| place(&unfinished, path));
    if outcome.is_err() {
        // Swept at the next start at the latest.
        drop(std::fs::remove_file(&unfinished));
    }
    outcome
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a file and syncs its folder; says whether it was there.
pub(crate) fn remove_file(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => {
            path.parent().map_or(Ok(()), sync_folder)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("remove", path),
    }
}

/// Removes a folder with everything in it and syncs its parent; says whether it was there.
pub(crate) fn remove_folder(aside: &Path, path: &Path) -> Result<bool> {
    // One step for all who look, and for the disk.
    let away = fresh(aside);
    match std::fs::rename(path, &away) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        // On another file system, or one is mounted there: then not in one step.
        Err(error) if matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::ResourceBusy) => {
            std::fs::remove_dir_all(path).at("remove", path)?;
            return path.parent().map_or(Ok(()), sync_folder).map(|()| true);
        }
        Err(error) => return Err(error).at("remove", path),
    }
    path.parent().map_or(Ok(()), sync_folder)?;
    std::fs::remove_dir_all(&away).at("remove", &away)?;
    Ok(true)
}

/// A random identifier in the form of a version 4 UUID (RFC 9562, 5.4).
pub(crate) fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without early boot's blocking, getrandom(2) fills 16 bytes whole.
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    debug_assert_eq!(filled.ok(), Some(bytes.len()));
    let [.., six, _, eight, _, _, _, _, _, _, _] = &mut bytes;
    *six = (*six & 0x0f) | 0x40;
    *eight = (*eight & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_uuids() {
        let id = random_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4', "{id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, random_id());
    }
}
