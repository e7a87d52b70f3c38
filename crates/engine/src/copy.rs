//! Copying a tree with everything that belongs to it: owners, modes, times, links, devices, extended attributes.
//!
//! Works on descriptors and single names alone, so that nothing in the tree can lead out of it.

use crate::error::{Error, Result};
use base::Kind;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags, chownat, fgetxattr,
    flistxattr, fsetxattr, fstat, linkat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Copies the folder `source` of an image (its layers, topmost first) into the empty folder `target`. If the image has no
/// such folder nothing is copied.
///
/// # Errors
///
/// Fails if the image cannot be looked into or something cannot be copied.
pub(crate) fn from_image(lower: &[&Path], source: &Path, target: &Path) -> Result<()> {
    let failed = |error: sys::Error| {
        Error::known(Kind::Internal, format!("look into the image: {}", base::chain(&error)))
    };
    let root = match lower {
        [] => return Ok(()),
        // One layer needs no overlay.
        [only] => sys::path::open_directory(only).map_err(failed)?,
        several => sys::mount::overlay_view(several).map_err(failed)?,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = match sys::path::open_in_root(root.as_fd(), source, flags) {
        Ok(found) => found,
        Err(error) if matches!(error.errno(), rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    let target = std::fs::File::open(target).map_err(Error::file("open", target))?;
    let mut links = BTreeMap::new();
    folder(found.as_fd(), target.as_fd(), &mut links).map_err(|(name, errno)| {
        Error::known(
            Kind::Internal,
            format!("copy {} of the image into a volume: {name}: {errno}", source.display()),
        )
    })
}

type Failure = (String, rustix::io::Errno);
/// Where the first name of a file with several was copied to, by device and inode: its folder and name.
type Links = BTreeMap<(u64, u64), (OwnedFd, CString)>;

fn folder(from: BorrowedFd<'_>, to: BorrowedFd<'_>, links: &mut Links) -> Result<(), Failure> {
    let here = |errno| (".".to_owned(), errno);
    for entry in Dir::read_from(from).map_err(here)? {
        let entry = entry.map_err(here)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        one(from, to, name, links).map_err(|(below, errno)| {
            let name = name.to_string_lossy();
            (if below.is_empty() { name.into_owned() } else { format!("{name}/{below}") }, errno)
        })?;
    }
    let status = fstat(from).map_err(here)?;
    attributes(from, to).map_err(here)?;
    rustix::fs::fchown(to, Some(owner(&status)), Some(group(&status))).map_err(here)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(status.st_mode)).map_err(here)?;
    rustix::fs::futimens(to, &times(&status)).map_err(here)
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, links: &mut Links) -> Result<(), Failure> {
    let own = |errno| (String::new(), errno);
    let status = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(own)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    let identity = (status.st_dev, status.st_ino);
    if kind != FileType::Directory && status.st_nlink > 1 {
        if let Some((folder, first)) = links.get(&identity) {
            return linkat(folder, first.as_c_str(), to, name, AtFlags::empty()).map_err(own);
        }
        let folder = openat(to, c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(own)?;
        links.insert(identity, (folder, name.to_owned()));
    }
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(status.st_mode);
    match kind {
        FileType::Directory => {
            let source = openat(from, name, read | OFlags::DIRECTORY, Mode::empty()).map_err(own)?;
            mkdirat(to, name, Mode::RWXU).map_err(own)?;
            let target = openat(to, name, read | OFlags::DIRECTORY, Mode::empty()).map_err(own)?;
            return folder(source.as_fd(), target.as_fd(), links);
        }
        FileType::RegularFile => {
            let source = openat(from, name, read, Mode::empty()).map_err(own)?;
            let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = openat(to, name, create, Mode::RUSR | Mode::WUSR).map_err(own)?;
            contents(&source, &target).map_err(own)?;
            rustix::fs::fchown(&target, Some(owner(&status)), Some(group(&status))).map_err(own)?;
            // After the owner: a change of owner clears set-user-ID and file capabilities.
            rustix::fs::fchmod(&target, mode).map_err(own)?;
            attributes(source.as_fd(), target.as_fd()).map_err(own)?;
            return rustix::fs::futimens(&target, &times(&status)).map_err(own);
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new()).map_err(own)?;
            symlinkat(target, to, name).map_err(own)?;
        }
        kind => mknodat(to, name, kind, mode, status.st_rdev).map_err(own)?,
    }
    chownat(to, name, Some(owner(&status)), Some(group(&status)), AtFlags::SYMLINK_NOFOLLOW).map_err(own)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, name, mode, AtFlags::empty()).map_err(own)?;
    }
    utimensat(to, name, &times(&status), AtFlags::SYMLINK_NOFOLLOW).map_err(own)
}

fn contents(from: &OwnedFd, to: &OwnedFd) -> Result<(), rustix::io::Errno> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    loop {
        match rustix::fs::copy_file_range(from, None, to, None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Between file systems that cannot: through memory.
            Err(rustix::io::Errno::XDEV | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = rustix::io::read(from, &mut buffer)?;
        let Some(mut rest) = buffer.get(..count).filter(|rest| !rest.is_empty()) else { return Ok(()) };
        while !rest.is_empty() {
            let written = rustix::io::write(to, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), rustix::io::Errno> {
    let mut names = vec![0; 1 << 16];
    let length = match flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut value = Vec::new();
    for name in names.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // Overlay's own marks mean nothing in a copy.
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        value.resize(1 << 16, 0);
        let length = fgetxattr(from, name, &mut value)?;
        fsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty())?;
    }
    Ok(())
}

fn owner(status: &Stat) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(status.st_uid)
}

fn group(status: &Stat) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(status.st_gid)
}

fn times(status: &Stat) -> Timestamps {
    let time = |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    Timestamps {
        last_access: time(status.st_atime, status.st_atime_nsec),
        last_modification: time(status.st_mtime, status.st_mtime_nsec),
    }
}
