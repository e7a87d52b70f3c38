//! Component by component: for paths of which more than the end is missing, and for kernels or seccomp filters without openat2(2).
//!
//! Each name is opened without following links from the descriptor of its directory, links are read and resolved here, and `..`
//! goes back along the way that was taken, never to the parent that the kernel knows. What a rename takes out of the root
//! meanwhile is found at the end, on the way back up, and tried again. Nothing allocates: it runs between clone and exec.

use super::{Create, make};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// How often a link may be followed, as in the kernel.
const MAX_LINKS: usize = 40;
/// `NAME_MAX` of the kernel.
const NAME: usize = 255;
/// The kernel's longest path, and as much again for a link's target put in front of it.
const ROOM: usize = 8192;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

type Outcome<T> = Result<T, Errno>;

/// What is wanted of a walk.
pub(super) struct Walk {
    /// What is made of components that are not there: directories, and at the end this.
    pub(super) missing: Option<(Create, Mode)>,
    /// How the end is opened.
    pub(super) flags: OFlags,
    /// As for openat2(2). What confines to nothing starts at this process's root.
    pub(super) resolve: ResolveFlags,
}

impl Walk {
    /// Opens `path` beneath `root`. `AGAIN` says that something was moved out of the root meanwhile.
    pub(super) fn open(&self, root: BorrowedFd<'_>, path: &[u8]) -> Outcome<OwnedFd> {
        if path.is_empty() && self.missing.is_none() {
            return Err(Errno::NOENT);
        }
        if self.resolve.intersects(ResolveFlags::IN_ROOT | ResolveFlags::BENEATH) {
            return self.go(root, path);
        }
        if path.first() != Some(&b'/') {
            return Err(Errno::NOSYS);
        }
        let own = rustix::fs::openat(CWD, c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        self.go(own.as_fd(), path)
    }

    fn go(&self, root: BorrowedFd<'_>, path: &[u8]) -> Outcome<OwnedFd> {
        let mut way = Way::new(root, path)?;
        self.may_be_absolute(path)?;
        let top = identity(root)?;
        let mut links = 0;
        loop {
            if !way.next_name()? {
                // Nothing is left after a directory.
                let end = rustix::fs::openat(&way.here, c".", self.end_flags(), Mode::empty())?;
                confined(way.here.as_fd(), &top)?;
                return Ok(end);
            }
            match way.name()?.to_bytes() {
                b"." => continue,
                b".." => {
                    if way.done.is_empty() && self.resolve.contains(ResolveFlags::BENEATH) {
                        return Err(Errno::XDEV);
                    }
                    way.back()?;
                    continue;
                }
                _ => {}
            }
            let is_last = !way.goes_on();
            let next = self.step(&mut way, is_last)?;
            let status = identity(next.as_fd())?;
            if self.resolve.contains(ResolveFlags::NO_XDEV) && status.stx_mnt_id != top.stx_mnt_id {
                return Err(Errno::XDEV);
            }
            // What is made is not asked whether it can be.
            let must_be_directory = way.must_be_directory && self.missing.is_none();
            let is_end = is_last && !must_be_directory && self.flags.contains(OFlags::NOFOLLOW);
            match FileType::from_raw_mode(status.stx_mode.into()) {
                FileType::Symlink if !is_end => {
                    links += 1;
                    if links > MAX_LINKS || self.resolve.contains(ResolveFlags::NO_SYMLINKS) {
                        return Err(Errno::LOOP);
                    }
                    self.follow(&mut way, next.as_fd())?;
                }
                FileType::Directory => way.enter(next)?,
                _ if !is_last || must_be_directory => return Err(Errno::NOTDIR),
                kind => {
                    let end = self.end(&way, next, kind)?;
                    confined(way.here.as_fd(), &top)?;
                    return Ok(end);
                }
            }
        }
    }

    /// Opens the next component without following it, made if it may be.
    fn step(&self, way: &mut Way<'_>, is_last: bool) -> Outcome<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match (rustix::fs::openat(&way.here, way.name()?, flags, Mode::empty()), self.missing) {
            (Err(Errno::NOENT), Some((last, mode))) => {
                let (kind, mode) =
                    if is_last { (last, mode) } else { (Create::Directory, Mode::from_raw_mode(0o755)) };
                make(way.here.as_fd(), way.name()?, kind, mode)?;
                rustix::fs::openat(&way.here, way.name()?, flags, Mode::empty())
            }
            (outcome, _) => outcome,
        }
    }

    /// Puts a link's target in front of what is left.
    fn follow(&self, way: &mut Way<'_>, link: BorrowedFd<'_>) -> Outcome<()> {
        let mut target = [0_u8; 4096];
        let length = rustix::fs::readlinkat_raw(link, c"", &mut target)?;
        let target = target.get(..length).unwrap_or_default();
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if is_magic(link, target)? {
            return Err(Errno::LOOP);
        }
        self.may_be_absolute(target)?;
        way.redirect(target)
    }

    fn may_be_absolute(&self, path: &[u8]) -> Outcome<()> {
        let leaves = path.first() == Some(&b'/') && self.resolve.contains(ResolveFlags::BENEATH);
        if leaves { Err(Errno::XDEV) } else { Ok(()) }
    }

    /// Opens what is no directory as it is wanted.
    fn end(&self, way: &Way<'_>, found: OwnedFd, kind: FileType) -> Outcome<OwnedFd> {
        if self.flags.contains(OFlags::DIRECTORY) {
            return Err(Errno::NOTDIR);
        }
        if self.flags.contains(OFlags::PATH) {
            return Ok(found);
        }
        if kind == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        let flags = self.end_flags() | OFlags::NOFOLLOW;
        match rustix::fs::openat(&way.here, way.name()?, flags, Mode::empty()) {
            // It was no link a moment ago.
            Err(Errno::LOOP) => Err(Errno::AGAIN),
            other => other,
        }
    }

    fn end_flags(&self) -> OFlags {
        self.flags | OFlags::CLOEXEC
    }
}

/// Where a walk is, what lies behind it and what before it.
struct Way<'a> {
    root: BorrowedFd<'a>,
    here: OwnedFd,
    /// The way from the root to here, without links.
    done: Done,
    /// What is left, at the end of the room; it begins at `start`.
    pending: [u8; ROOM],
    start: usize,
    name: [u8; NAME + 1],
    /// Whether a slash follows the last component, of the path itself or of the link that it is.
    must_be_directory: bool,
}

impl<'a> Way<'a> {
    fn new(root: BorrowedFd<'a>, path: &[u8]) -> Outcome<Self> {
        let mut way = Self {
            root,
            here: at_root(root)?,
            done: Done { bytes: [0; ROOM], length: 0 },
            pending: [0; ROOM],
            start: ROOM,
            name: [0; NAME + 1],
            must_be_directory: path.ends_with(b"/"),
        };
        way.prepend(path)?;
        Ok(way)
    }

    fn prepend(&mut self, text: &[u8]) -> Outcome<()> {
        let start = self.start.checked_sub(text.len()).ok_or(Errno::NAMETOOLONG)?;
        self.pending.get_mut(start..self.start).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(text);
        self.start = start;
        Ok(())
    }

    fn pending(&self) -> &[u8] {
        self.pending.get(self.start..).unwrap_or_default()
    }

    /// Says whether there is another component.
    fn goes_on(&self) -> bool {
        self.pending().iter().any(|byte| *byte != b'/')
    }

    /// Takes the next component; says whether there was one.
    fn next_name(&mut self) -> Outcome<bool> {
        let Some(slashes) = self.pending().iter().position(|byte| *byte != b'/') else { return Ok(false) };
        self.start += slashes;
        let pending = self.pending.get(self.start..).unwrap_or_default();
        let length = pending.iter().position(|byte| *byte == b'/').unwrap_or(pending.len());
        let name = pending.get(..length).unwrap_or_default();
        self.name
            .get_mut(..length)
            .filter(|_| length <= NAME)
            .ok_or(Errno::NAMETOOLONG)?
            .copy_from_slice(name);
        *self.name.get_mut(length).ok_or(Errno::NAMETOOLONG)? = 0;
        self.start += length;
        Ok(true)
    }

    fn name(&self) -> Outcome<&CStr> {
        CStr::from_bytes_until_nul(&self.name).or(Err(Errno::INVAL))
    }

    fn enter(&mut self, directory: OwnedFd) -> Outcome<()> {
        let name = CStr::from_bytes_until_nul(&self.name).or(Err(Errno::INVAL))?;
        self.done.push(name.to_bytes())?;
        self.here = directory;
        Ok(())
    }

    /// One directory back: the way there is taken again from the root.
    fn back(&mut self) -> Outcome<()> {
        self.done.pop();
        let start = self.start.checked_sub(self.done.length + 1).ok_or(Errno::NAMETOOLONG)?;
        let (done, slash) = (self.done.as_bytes(), self.start - 1);
        self.pending.get_mut(start..slash).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(done);
        *self.pending.get_mut(slash).ok_or(Errno::NAMETOOLONG)? = b'/';
        self.start = start;
        self.restart()
    }

    fn restart(&mut self) -> Outcome<()> {
        self.done.length = 0;
        self.here = at_root(self.root)?;
        Ok(())
    }

    /// Goes on with a link's target.
    fn redirect(&mut self, target: &[u8]) -> Outcome<()> {
        self.must_be_directory |= !self.goes_on() && target.ends_with(b"/");
        self.prepend(b"/")?;
        self.prepend(target)?;
        if target.first() == Some(&b'/') { self.restart() } else { Ok(()) }
    }
}

/// Names of directories with slashes between them.
struct Done {
    bytes: [u8; ROOM],
    length: usize,
}

impl Done {
    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, name: &[u8]) -> Outcome<()> {
        for byte in b"/".iter().take(usize::from(!self.is_empty())).chain(name) {
            *self.bytes.get_mut(self.length).ok_or(Errno::NAMETOOLONG)? = *byte;
            self.length += 1;
        }
        Ok(())
    }

    fn pop(&mut self) {
        self.length = self.as_bytes().iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    }
}

fn at_root(root: BorrowedFd<'_>) -> Outcome<OwnedFd> {
    rustix::fs::openat(root, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Kind, number and mount.
fn identity(fd: BorrowedFd<'_>) -> Outcome<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted)
}

fn is_same(one: &Statx, other: &Statx) -> bool {
    let of = |status: &Statx| (status.stx_mnt_id, status.stx_dev_major, status.stx_dev_minor, status.stx_ino);
    of(one) == of(other)
}

/// Goes up from `directory`: `AGAIN` if the way does not come by `top`.
///
/// `/proc/self/fd` would tell it too, but a container's process has no `/proc` before its own.
fn confined(directory: BorrowedFd<'_>, top: &Statx) -> Outcome<()> {
    let mut here = at_root(directory)?;
    let mut status = identity(here.as_fd())?;
    while !is_same(&status, top) {
        let above = match rustix::fs::openat(&here, c"..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            // The kernel's word for a directory that was moved out of what is mounted.
            Err(Errno::NOENT) => return Err(Errno::AGAIN),
            other => other?,
        };
        let next = identity(above.as_fd())?;
        if is_same(&next, &status) {
            return Err(Errno::AGAIN);
        }
        (here, status) = (above, next);
    }
    Ok(())
}

/// Whether a link leads to an object rather than to a name (proc(5): `exe`, `cwd`, `root`, those of `fd` and `ns`).
///
/// Their text is an absolute path or has a colon; the ordinary ones of procfs are relative.
fn is_magic(link: BorrowedFd<'_>, target: &[u8]) -> Outcome<bool> {
    let kind = rustix::fs::fstatfs(link)?.f_type;
    let in_proc = u64::try_from(kind).is_ok_and(|kind| kind == PROC_SUPER_MAGIC);
    Ok(in_proc && (target.first() == Some(&b'/') || target.contains(&b':')))
}

#[cfg(test)]
mod tests;
