//! Images mounted in containers (`--mount type=image`): their layers as one read-only view.

use super::Containers;
use super::record::MountPoint;
use crate::error::{Error, Result};
use rustix::fs::{FileType, major, minor};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// The extended attribute of a directory that hides those below it (overlayfs.rst, *whiteouts and opaque directories*).
const OPAQUE: &str = "trusted.overlay.opaque";

impl Containers {
    /// Returns the directories, topmost first, that together are the part of the image that is mounted; or one file.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the image has no such part; the store's.
    pub(super) fn view(&self, point: &MountPoint) -> Result<Vec<PathBuf>> {
        let layers = point.image.as_ref().map_or(&[][..], |image| &image.layers);
        let lower = self.store.layers().lower_dirs(layers)?;
        if point.subpath.is_empty() {
            return Ok(lower);
        }
        let object = || format!("{} of image {}", point.subpath, point.source);
        let found = part(&lower, &point.subpath).map_err(|errno| {
            Error::invalid(format!("cannot access path {}: {}", object(), sys::message(errno)))
        })?;
        if found.is_empty() {
            let reason = sys::message(Errno::NOENT);
            return Err(Error::invalid(format!("cannot access path {}: {reason}", object())));
        }
        Ok(found)
    }
}

/// What a layer has at a path.
enum Place {
    Nothing,
    Directory,
    File,
}

/// Finds the part of each layer that is seen at `path`: what a layer above hides is left out.
fn part(lower: &[PathBuf], path: &str) -> Result<Vec<PathBuf>, Errno> {
    let mut found = Vec::new();
    for layer in lower {
        let (place, hides) = look(layer, path)?;
        match place {
            Place::Directory => found.push(layer.join(path)),
            Place::File if found.is_empty() => found.push(layer.join(path)),
            Place::File | Place::Nothing => {}
        }
        if hides {
            break;
        }
    }
    Ok(found)
}

/// Looks along a path in one layer. Returns what is there, and whether it hides what lower layers have.
fn look(layer: &Path, path: &str) -> Result<(Place, bool), Errno> {
    let (mut current, mut opaque) = (layer.to_owned(), false);
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        current.push(name);
        let status = match rustix::fs::lstat(&current) {
            Err(Errno::NOENT) => return Ok((Place::Nothing, opaque)),
            status => status?,
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => opaque |= is_opaque(&current),
            // A link could lead anywhere in the image; Docker follows it, we say no.
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::CharacterDevice if (major(status.st_rdev), minor(status.st_rdev)) == (0, 0) => {
                return Ok((Place::Nothing, true));
            }
            _ if names.peek().is_none() => return Ok((Place::File, true)),
            _ => return Err(Errno::NOTDIR),
        }
    }
    Ok((Place::Directory, opaque))
}

fn is_opaque(directory: &Path) -> bool {
    let mut value = [0_u8; 1];
    rustix::fs::lgetxattr(directory, OPAQUE, &mut value).is_ok_and(|length| length == 1 && value == *b"y")
}
