//! Paths within a root: resolved by single names in descriptors, so that no link, `..` or rename leads out.

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, mkdirat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often a link may be followed, as in the kernel.
const MAX_LINKS: usize = 40;
/// The longest path that is followed, in names.
const MAX_NAMES: usize = 4096;

/// A name in a folder.
#[derive(Debug)]
pub(crate) struct Place {
    /// The folder.
    pub(crate) parent: OwnedFd,
    /// The name in it; `.` for the root itself.
    pub(crate) name: Vec<u8>,
    /// What is there.
    pub(crate) stat: Option<Stat>,
    /// The path from the root, links resolved.
    pub(crate) path: Vec<Vec<u8>>,
}

impl Place {
    pub(crate) fn is_folder(&self) -> bool {
        self.stat.is_some_and(|stat| kind(&stat) == FileType::Directory)
    }
}

/// What to make of a path's missing folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Make {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Splits a path at its slashes.
pub(crate) fn names(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Finds `path` beneath `root` as a process would whose root that is. A link at the end is followed if `follow`;
/// missing folders on the way are made if `make` says how.
///
/// # Errors
///
/// `NOENT` if a folder on the way is missing, `NOTDIR`, `LOOP`, and the system's.
pub(crate) fn find(
    root: BorrowedFd<'_>,
    path: &[u8],
    follow: bool,
    make: Option<Make>,
) -> Result<Place, Errno> {
    let top = openat(root, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut stack: Vec<(OwnedFd, Vec<u8>)> = vec![(top, Vec::new())];
    let mut queue: VecDeque<Vec<u8>> = names(path).into();
    let mut links = 0;
    while let Some(name) = queue.pop_front() {
        if queue.len() + stack.len() > MAX_NAMES {
            return Err(Errno::NAMETOOLONG);
        }
        if name == b".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let last = queue.is_empty();
        let (here, _) = stack.last().ok_or(Errno::NOENT)?;
        let stat = match statat(here, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if last => return finish(stack, name, None),
            Err(Errno::NOENT) => {
                let made = make_folder(here.as_fd(), &name, make.ok_or(Errno::NOENT)?)?;
                stack.push((made, name));
                continue;
            }
            Err(errno) => return Err(errno),
        };
        match kind(&stat) {
            FileType::Symlink if !last || follow => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(here, name.as_slice(), Vec::new())?.into_bytes();
                if target.starts_with(b"/") {
                    stack.truncate(1);
                }
                for part in names(&target).into_iter().rev() {
                    queue.push_front(part);
                }
            }
            _ if last => return finish(stack, name, Some(stat)),
            FileType::Directory => {
                let next = open_folder(here.as_fd(), &name)?;
                stack.push((next, name));
            }
            _ => return Err(Errno::NOTDIR),
        }
    }
    // The path ended in `..`, or is the root: the folder itself.
    let path = stack.iter().skip(1).map(|(_, name)| name.clone()).collect();
    let (folder, _) = stack.pop().ok_or(Errno::NOENT)?;
    let stat = rustix::fs::fstat(&folder)?;
    Ok(Place { parent: folder, name: b".".to_vec(), stat: Some(stat), path })
}

fn finish(mut stack: Vec<(OwnedFd, Vec<u8>)>, name: Vec<u8>, stat: Option<Stat>) -> Result<Place, Errno> {
    let mut path: Vec<Vec<u8>> = stack.iter().skip(1).map(|(_, name)| name.clone()).collect();
    path.push(name.clone());
    let (parent, _) = stack.pop().ok_or(Errno::NOENT)?;
    Ok(Place { parent, name, stat, path })
}

fn make_folder(parent: BorrowedFd<'_>, name: &[u8], make: Make) -> Result<OwnedFd, Errno> {
    mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    let made = open_folder(parent, name)?;
    // The process's file mode creation mask does not count.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
    if (make.uid, make.gid) != (0, 0) {
        rustix::fs::fchown(&made, Some(Uid::from_raw(make.uid)), Some(Gid::from_raw(make.gid)))?;
    }
    Ok(made)
}

/// Makes a folder with all that is missing above it, unless it is there; returns it.
///
/// # Errors
///
/// As for [`find`].
pub(crate) fn folder(root: BorrowedFd<'_>, path: &[u8], make: Make) -> Result<OwnedFd, Errno> {
    let place = find(root, path, true, Some(make))?;
    match place.stat {
        None => make_folder(place.parent.as_fd(), &place.name, make),
        Some(_) => open_folder(place.parent.as_fd(), &place.name),
    }
}

/// The names in a folder, sorted.
pub(crate) fn list(folder: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder of a test's own.
    #[derive(Debug)]
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("wharf-builder-{}-{number}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn links_stay_within() {
        let scratch = Scratch::new();
        let root = scratch.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(scratch.path().join("outside"), "x").unwrap();
        for (link, target) in [
            ("up", "../../../.."),
            ("abs", "/a"),
            ("loop", "loop"),
            ("out", "../outside"),
            ("a/rel", "b/../b"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let fd = std::fs::File::open(&root).unwrap();
        let look = |path: &str, follow| {
            find(fd.as_fd(), path.as_bytes(), follow, None).map(|place| {
                String::from_utf8(place.path.join(&b'/')).unwrap()
                    + if place.stat.is_some() { "" } else { "?" }
            })
        };
        for (path, expect) in [
            ("/a/b", Ok("a/b")),
            ("../../a", Ok("a")),
            ("up/a/b", Ok("a/b")),
            ("abs/b", Ok("a/b")),
            ("a/rel", Ok("a/b")),
            ("a/b/new", Ok("a/b/new?")),
            ("a/new/deep", Err(Errno::NOENT)),
            ("out", Ok("outside?")),
            ("loop/x", Err(Errno::LOOP)),
            ("/", Ok("")),
            ("a/b/..", Ok("a")),
        ] {
            assert_eq!(look(path, true), expect.map(str::to_owned), "{path}");
        }
        assert_eq!(look("abs", false), Ok("abs".to_owned()));
        let made = folder(fd.as_fd(), b"abs/new/deep", Make { uid: 0, gid: 0 }).unwrap();
        drop(made);
        assert!(root.join("a/new/deep").is_dir());
    }
}
