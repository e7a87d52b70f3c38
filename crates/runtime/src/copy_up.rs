//! What a directory had before a tmpfs covers it, copied into the tmpfs (mount option `tmpcopyup`).
//!
//! Run by the child, which alone sees the directory as the mounts before have left it: nothing here allocates.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// How deep a tree may be: each level needs room on the stack and two descriptors.
const DEEPEST: usize = 64;

/// Copies all below the directory `from` into the directory `to`: files, directories, links, FIFOs and devices, with
/// owners, permissions and times. Sockets are left out, and devices where they cannot be made.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let open = |fd| {
        rustix::fs::openat(fd, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    tree(&open(from)?, &open(to)?, 0)
}

fn tree(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Errno> {
    if depth > DEEPEST {
        return Err(Errno::LOOP);
    }
    let mut room = [MaybeUninit::<u8>::uninit(); 2048];
    let mut listing = RawDir::new(from, &mut room);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            copy_one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_one(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: usize) -> Result<(), Errno> {
    let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    let permissions = Mode::from_raw_mode(status.st_mode & 0o7777);
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            let below = rustix::fs::openat(to, name, directory, Mode::empty())?;
            tree(&rustix::fs::openat(from, name, directory, Mode::empty())?, &below, depth + 1)?;
        }
        FileType::RegularFile => copy_file(from, to, name)?,
        FileType::Symlink => {
            let mut text = [0_u8; 4097];
            let room = text.get_mut(..4096).ok_or(Errno::NAMETOOLONG)?;
            rustix::fs::readlinkat_raw(from, name, room)?;
            let target = CStr::from_bytes_until_nul(&text).or(Err(Errno::NAMETOOLONG))?;
            rustix::fs::symlinkat(target, to, name)?;
        }
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            match rustix::fs::mknodat(to, name, kind, permissions, status.st_rdev) {
                // In a user namespace.
                Err(Errno::PERM) => return Ok(()),
                other => other?,
            }
        }
        FileType::Socket | FileType::Unknown => return Ok(()),
    }
    // Owner before permissions: a change of owner takes set-user-ID away.
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, name, permissions, AtFlags::empty())?;
    }
    rustix::fs::utimensat(to, name, &times(&status), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(status: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(status.st_atime, status.st_atime_nsec),
        last_modification: time(status.st_mtime, status.st_mtime_nsec),
    }
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    loop {
        match rustix::fs::sendfile(target.as_fd(), source.as_fd(), None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_as_it_is() {
        let base = std::env::temp_dir().join(format!("wharf-copy-up-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        std::fs::create_dir_all(from.join("sub/deep")).unwrap();
        std::fs::create_dir_all(&to).unwrap();
        std::fs::write(from.join("sub/file"), vec![b'x'; 100_000]).unwrap();
        std::fs::set_permissions(from.join("sub/file"), std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink("../sub/file", from.join("sub/deep/link")).unwrap();
        let open = |path| sys::path::open_directory(path).unwrap();
        copy(open(&from).as_fd(), open(&to).as_fd()).unwrap();
        assert_eq!(std::fs::read(to.join("sub/file")).unwrap().len(), 100_000);
        let (one, other) = (std::fs::metadata(from.join("sub/file")), std::fs::metadata(to.join("sub/file")));
        let facts = |status: std::fs::Metadata| (status.mode(), status.uid(), status.mtime_nsec());
        assert_eq!(facts(one.unwrap()), facts(other.unwrap()));
        assert_eq!(std::fs::read_link(to.join("sub/deep/link")).unwrap().to_str(), Some("../sub/file"));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
