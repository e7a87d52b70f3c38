//! The files of a container as against its image's: the layers below, and what was changed, added and deleted.

use super::Containers;
use super::record::Container;
use crate::error::{Error, Result};
use api::container::Change;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fgetxattr, openat, statat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const MODIFIED: u8 = 0;
const ADDED: u8 = 1;
const DELETED: u8 = 2;

/// Folders and files that every container has, so that what the engine mounts on them is no change of the container's.
const FOLDERS: [&str; 5] = ["dev/pts", "dev/shm", "etc", "proc", "sys"];
const FILES: [&str; 5] = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Makes the layer that lies below every image's: places for what the engine mounts.
///
/// It is the lowest, so that the image's own folders decide on owners and modes.
///
/// # Errors
///
/// Fails if it cannot be made.
pub(super) fn make_init_layer(folder: &Path) -> Result<()> {
    let made = |path: &Path| -> std::io::Result<()> {
        for name in FOLDERS {
            std::fs::create_dir_all(path.join(name))?;
        }
        for name in FILES {
            std::fs::OpenOptions::new().create(true).append(true).open(path.join(name))?;
        }
        match std::os::unix::fs::symlink("/proc/mounts", path.join("etc/mtab")) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    made(folder).map_err(Error::file("make the lowest layer in", folder))
}

impl Containers {
    /// Returns the layers below a container's own, the topmost first.
    ///
    /// # Errors
    ///
    /// Fails if one of the image's layers is missing.
    pub(super) fn lower_dirs(&self, container: &Container) -> Result<Vec<PathBuf>> {
        let mut lower = self.store.layers().lower_dirs(&container.image.layers)?;
        lower.push(self.settings.data.init());
        Ok(lower)
    }

    /// Returns what the container has changed, by path.
    ///
    /// # Errors
    ///
    /// Fails if its files cannot be read.
    pub fn changes(&self, name: &str) -> Result<Vec<Change>> {
        let container = self.get(name)?;
        let lower = self.lower_dirs(&container)?;
        let lower: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
        let upper = self.settings.data.container(&container.id).join("upper");
        let failed = |error: sys::Error| {
            Error::known(
                base::Kind::Internal,
                format!("look at the files of container {}: {}", container.id, base::chain(&error)),
            )
        };
        let below = match lower.as_slice() {
            [only] => sys::path::open_directory(only),
            several => sys::mount::overlay_view(several),
        }
        .map_err(failed)?;
        let upper = std::fs::File::open(&upper).map_err(Error::file("open", &upper))?;
        let mut changes = Vec::new();
        walk(upper.as_fd(), Some(&below), "", &mut changes).map_err(|errno| {
            Error::known(
                base::Kind::Internal,
                format!("look at the files of container {}: {errno}", container.id),
            )
        })?;
        changes.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(changes)
    }
}

/// Compares one folder of the upper directory with what is below it; `None` if nothing is.
fn walk(
    upper: BorrowedFd<'_>,
    below: Option<&OwnedFd>,
    path: &str,
    changes: &mut Vec<Change>,
) -> Result<(), rustix::io::Errno> {
    for entry in Dir::read_from(upper)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let status = statat(upper, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(status.st_mode);
        let old = below.and_then(|below| statat(below, name, AtFlags::SYMLINK_NOFOLLOW).ok());
        let path = format!("{path}/{}", name.to_string_lossy());
        if kind == FileType::CharacterDevice && status.st_rdev == 0 {
            if old.is_some() {
                changes.push(Change { kind: DELETED, path });
            }
            continue;
        }
        changes.push(Change { kind: if old.is_some() { MODIFIED } else { ADDED }, path: path.clone() });
        if kind == FileType::Directory {
            let own = open(upper, name)?;
            let was_folder =
                old.is_some_and(|old| FileType::from_raw_mode(old.st_mode) == FileType::Directory);
            let below = match below {
                Some(below) if was_folder && !is_opaque(&own) => Some(open(below.as_fd(), name)?),
                _ => None,
            };
            walk(own.as_fd(), below.as_ref(), &path, changes)?;
        }
    }
    Ok(())
}

fn open(folder: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, rustix::io::Errno> {
    openat(
        folder,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Says whether a folder hides what is below it (kernel overlayfs.rst, *whiteouts and opaque directories*).
fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 4];
    fgetxattr(folder, c"trusted.overlay.opaque", &mut value)
        .is_ok_and(|length| value.get(..length) == Some(b"y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_and_modifications_are_told_apart() {
        let folder = std::env::temp_dir().join(format!("wharf-changes-{}", std::process::id()));
        for path in ["upper/etc", "upper/new/deep", "below/etc"] {
            std::fs::create_dir_all(folder.join(path)).unwrap();
        }
        std::fs::write(folder.join("upper/etc/passwd"), "x").unwrap();
        std::fs::write(folder.join("below/etc/passwd"), "y").unwrap();
        let upper = std::fs::File::open(folder.join("upper")).unwrap();
        let below = sys::path::open_directory(&folder.join("below")).unwrap();
        let mut changes = Vec::new();
        walk(upper.as_fd(), Some(&below), "", &mut changes).unwrap();
        changes.sort_by(|left, right| left.path.cmp(&right.path));
        let found: Vec<(u8, &str)> =
            changes.iter().map(|change| (change.kind, change.path.as_str())).collect();
        assert_eq!(
            found,
            [(MODIFIED, "/etc"), (MODIFIED, "/etc/passwd"), (ADDED, "/new"), (ADDED, "/new/deep")]
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
