//! Deletes trees of any depth, however hostile their maker.
//!
//! Containers can nest directories far beyond what fits a stack, a path or the limit of descriptors. So below a
//! certain depth a directory is first moved up beside the others, and deleted from there. Links are never followed.

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// So many levels are deleted in place, each holding a descriptor.
const LEVELS: usize = 32;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Deletes `name` in `parent` with everything in it; "not there" is success. Deep parts are moved to `aside`, a
/// directory of the same file system, and are gone too on success.
///
/// # Errors
///
/// The first thing that cannot be deleted; the rest is deleted all the same.
pub(crate) fn remove_tree(
    parent: BorrowedFd<'_>,
    name: &[u8],
    aside: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    let mut deep = Vec::new();
    let mut outcome = remove(parent, name, aside, LEVELS, &mut deep);
    while let Some(name) = deep.pop() {
        outcome = outcome.and(remove(aside, &name, aside, LEVELS, &mut deep));
    }
    outcome
}

fn remove(
    parent: BorrowedFd<'_>,
    name: &[u8],
    aside: BorrowedFd<'_>,
    levels: usize,
    deep: &mut Vec<Vec<u8>>,
) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let Some(levels) = levels.checked_sub(1) else {
        let fresh =
            format!("deep-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)).into_bytes();
        rustix::fs::renameat(parent, name, aside, fresh.as_slice())?;
        deep.push(fresh);
        return Ok(());
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let mut outcome = Ok(());
    for child in crate::pack::list(&directory)? {
        outcome = outcome.and(remove(directory.as_fd(), &child, aside, levels, deep));
    }
    drop(directory);
    outcome?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::fs::File;
    use std::os::fd::OwnedFd;

    #[test]
    fn trees_deeper_than_any_stack() {
        let scratch = Scratch::new();
        let top = OwnedFd::from(File::open(scratch.path()).unwrap());
        let mut fd = top.try_clone().unwrap();
        for level in 0..3_000 {
            rustix::fs::mkdirat(&fd, "d", Mode::from_raw_mode(0o755)).unwrap();
            let next =
                rustix::fs::openat(&fd, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
            if level % 100 == 0 {
                rustix::fs::symlinkat("/etc", &fd, "link").unwrap();
            }
            fd = next;
        }
        remove_tree(top.as_fd(), b"d", top.as_fd()).unwrap();
        remove_tree(top.as_fd(), b"d", top.as_fd()).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["link"]);
    }
}
