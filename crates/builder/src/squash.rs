//! `--squash`: the layers of a build made into one.
//!
//! Layers are merged from the lowest up into one upper directory of overlayfs. Files are linked, not copied: layers never
//! change. What hides something of the base (whiteouts, opaque folders) is kept.

use crate::error::{Error, Result};
use crate::place::{kind, list, open_folder};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr,
    fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, statat, unlinkat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

const OPAQUE: &str = "trusted.overlay.opaque";
/// Deeper trees are refused: each level holds a descriptor.
const MAX_DEPTH: usize = 500;

/// Merges one layer into what the lower ones made.
///
/// # Errors
///
/// That something cannot be read or made.
pub(crate) fn merge(layer: BorrowedFd<'_>, into: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::Invalid("the tree is too deep to be squashed".to_owned()));
    }
    for name in list(layer).map_err(Error::name("list", b"a layer"))? {
        entry(layer, into, &name, depth).map_err(|failure| match failure {
            Failure::Own(errno) => Error::name("squash", &name)(errno),
            Failure::Below(error) => error,
        })?;
    }
    Ok(())
}

enum Failure {
    Own(Errno),
    Below(Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Own(errno)
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn entry(layer: BorrowedFd<'_>, into: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), Failure> {
    let new = statat(layer, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let old = match statat(into, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(old) => Some(old),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(errno.into()),
    };
    let was_folder = old.is_some_and(|old| kind(&old) == FileType::Directory);
    if kind(&new) == FileType::Directory {
        let source = open_folder(layer, name)?;
        let opaque = is_opaque(&source);
        if old.is_some() && (opaque || !was_folder) {
            remove(into, name, MAX_DEPTH)?;
        }
        if opaque || !was_folder {
            mkdirat(into, name, Mode::RWXU)?;
        }
        let target = open_folder(into, name)?;
        // What was deleted or a file below stays hidden.
        if opaque || old.is_some_and(|old| kind(&old) != FileType::Directory) {
            fsetxattr(&target, OPAQUE, b"y", XattrFlags::empty())?;
        }
        merge(source.as_fd(), target.as_fd(), depth + 1).map_err(Failure::Below)?;
        return Ok(like(&source, &target)?);
    }
    if old.is_some() {
        remove(into, name, MAX_DEPTH)?;
    }
    if is_whiteout(&new) {
        return Ok(mknodat(into, name, FileType::CharacterDevice, Mode::empty(), 0)?);
    }
    Ok(linkat(layer, name, into, name, AtFlags::empty())?)
}

fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 4];
    fgetxattr(folder, OPAQUE, &mut value).is_ok_and(|length| value.get(..length) == Some(b"y"))
}

/// Gives a folder the owner, mode, attributes and times of another.
fn like(source: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let stat = fstat(source)?;
    fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (name, value) in crate::tree::attributes(source).unwrap_or_default() {
        fsetxattr(target, name.as_slice(), &value, XattrFlags::empty())?;
    }
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    futimens(target, &Timestamps { last_access: time, last_modification: time })
}

fn remove(parent: BorrowedFd<'_>, name: &[u8], levels: usize) -> Result<(), Errno> {
    let levels = levels.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let folder = open_folder(parent, name)?;
    for inner in list(folder.as_fd())? {
        remove(folder.as_fd(), &inner, levels)?;
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;
    use std::fs::File;

    #[test]
    #[ignore = "root: whiteouts are devices"]
    fn later_layers_win_and_deletions_stay() {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        for folder in ["one/d/e", "one/gone", "two/d", "three/gone", "into"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        for (file, text) in [
            ("one/d/f", "1"),
            ("one/d/e/g", "1"),
            ("one/gone/x", "1"),
            ("two/d/f", "2"),
            ("three/gone/y", "3"),
        ] {
            std::fs::write(at(file), text).unwrap();
        }
        for whiteout in ["two/gone", "two/d/e", "two/base"] {
            mknodat(rustix::fs::CWD, at(whiteout), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        }
        let into = File::open(at("into")).unwrap();
        for layer in ["one", "two", "three"] {
            merge(File::open(at(layer)).unwrap().as_fd(), into.as_fd(), 0).unwrap();
        }
        assert_eq!(std::fs::read(at("into/d/f")).unwrap(), b"2");
        assert_eq!(std::fs::read(at("into/gone/y")).unwrap(), b"3");
        assert!(!at("into/gone/x").exists());
        let stat = |name: &str| statat(rustix::fs::CWD, at(name), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert!(is_whiteout(&stat("into/base")) && is_whiteout(&stat("into/d/e")));
        assert!(is_opaque(&open_folder(into.as_fd(), b"gone").unwrap()));
    }
}
