//! Makes a layer's directory of an archive, in the form overlayfs reads.
//!
//! Nothing outside the directory is touched, whatever the archive says: every name is opened relative to a directory
//! descriptor that was itself opened as if the layer were the root, new files are made with `O_EXCL`, last parts
//! are never followed. Links in the middle of a name are followed inside the root, as Docker does.
//!
//! Few system calls per entry: descriptors of recent directories are kept; permissions are set by the creating call
//! where the umask allows; nothing is synced here (the operation that records the image syncs once). What later
//! entries would spoil (times, modes and attributes of directories) is set at the end.
//!
//! Whiteouts become character devices 0:0 and opaque directories get `trusted.overlay.opaque` (kernel documentation,
//! overlayfs.rst, *whiteouts and opaque directories*). Within one layer a whiteout says nothing about the layer's own
//! files (image-spec layer.md): a directory that is both is opaque.

use super::name::{self, Base};
use crate::error::{Error, Result};
use crate::tar::{Entry, Kind, Reader, Time};
use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Directory descriptors that are kept.
const CACHE: usize = 48;
/// Links followed to make a directory behind a dangling one, as in `path_resolution(7)`.
const MAX_LINKS: usize = 40;
/// Files of at least this size get holes where they have zeros.
const SPARSE_FROM: u64 = 1 << 20;
/// Zeros are looked for in runs of this size, and in what remains of a piece.
const HOLE: usize = 64 * 1024;
/// The page size that holes must be aligned to.
const PAGE: u64 = 4096;
const DIRECTORY_MODE: u32 = 0o755;
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What was made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// The sum of the sizes of all files that were made.
    pub(crate) size: u64,
    /// Whether some of them had to make room for others.
    pub(crate) replaced: bool,
    /// How many entries the archive has.
    pub(crate) entries: u64,
    /// Directories that the archive only implies; empty is the root.
    pub(crate) implied: Vec<Vec<u8>>,
}

/// Metadata of a directory that is set at the end.
struct Late {
    uid: u32,
    gid: u32,
    mode: u32,
    modified: Time,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// It has already the mode and owner 0:0.
    settled: bool,
}

pub(crate) struct Extractor {
    root: Rc<OwnedFd>,
    aside: OwnedFd,
    umask: u32,
    cache: Vec<(Vec<u8>, Rc<OwnedFd>)>,
    implied: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    whiteouts: BTreeSet<Vec<u8>>,
    late: BTreeMap<Vec<u8>, Late>,
    size: u64,
    replaced: bool,
}

/// Unpacks the archive into the empty directory `root`; `aside` is another directory of the same file system.
pub(crate) fn unpack<R: BufRead>(
    root: OwnedFd,
    aside: OwnedFd,
    umask: u32,
    max_entries: u64,
    archive: &mut Reader<R>,
) -> Result<Made> {
    let mut extractor = Extractor {
        root: Rc::new(root),
        aside,
        umask,
        cache: Vec::new(),
        implied: BTreeSet::from([Vec::new()]),
        opaque: BTreeSet::new(),
        whiteouts: BTreeSet::new(),
        late: BTreeMap::new(),
        size: 0,
        replaced: false,
    };
    while let Some(entry) = archive.next_entry().map_err(stream)? {
        extractor.add(&entry, archive)?;
        if archive.entries() > max_entries {
            return Err(Error::Bomb(format!("it has more than {max_entries} entries")));
        }
    }
    archive.drain().map_err(stream)?;
    extractor.finish()?;
    Ok(Made {
        size: extractor.size,
        replaced: extractor.replaced,
        entries: archive.entries(),
        implied: extractor.implied.into_iter().collect(),
    })
}

/// A problem of the archive itself, or of the stream it comes from.
fn stream(error: std::io::Error) -> Error {
    match error.downcast::<crate::tar::Malformed>() {
        Ok(problem) => Error::Archive(problem),
        Err(error) => Error::LayerStream(error),
    }
}

/// Names operation and entry of a failed system call.
fn failed(operation: &'static str, entry: &[u8]) -> impl FnOnce(Errno) -> Error {
    move |error| Error::EntryIo { operation, entry: name::display(entry), source: error.into() }
}

fn refused(entry: &[u8], problem: &str) -> Error {
    Error::Entry { entry: name::display(entry), problem: problem.to_owned() }
}

fn times(modified: Time) -> Timestamps {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

impl Extractor {
    fn add<R: BufRead>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> Result<()> {
        let path = name::clean(&entry.name)?;
        let (parent, last) = name::split(&path);
        match name::base(&entry.name, last)? {
            Base::Ignored => return Ok(()),
            Base::Opaque => {
                self.directory(parent)?;
                self.opaque.insert(parent.to_vec());
                return Ok(());
            }
            Base::Whiteout(hidden) => return self.whiteout(parent, hidden),
            Base::Root if entry.kind == Kind::Directory => {
                self.late(entry, path.clone(), false);
                return Ok(());
            }
            Base::Root => return Err(refused(&entry.name, "the root is not a directory")),
            Base::Plain(_) => {}
        }
        let directory = self.directory(parent)?;
        match entry.kind {
            Kind::Directory => self.make_directory(&directory, &path, last, entry),
            Kind::File => self.make_file(&directory, &path, last, entry, archive),
            Kind::HardLink => self.make_hard_link(&directory, &path, last, entry),
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(refused(&entry.name, "invalid link target"));
                }
                self.make(&directory, &path, last, |at| {
                    rustix::fs::symlinkat(entry.link.as_slice(), at, last)
                })?;
                self.metadata(&directory, last, entry)
            }
            Kind::CharacterDevice => {
                self.make_node(&directory, &path, last, entry, FileType::CharacterDevice)
            }
            Kind::BlockDevice => self.make_node(&directory, &path, last, entry, FileType::BlockDevice),
            Kind::Fifo => self.make_node(&directory, &path, last, entry, FileType::Fifo),
        }
    }

    /// Runs `make`; if something is in its way, removes that and runs it again. Says whether it was a whiteout.
    fn make<T>(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        last: &[u8],
        make: impl Fn(&OwnedFd) -> rustix::io::Result<T>,
    ) -> Result<(T, bool)> {
        match make(directory) {
            Ok(made) => Ok((made, false)),
            Err(Errno::EXIST) => {
                let whiteout = self.remove(directory, path, last)?;
                make(directory).map(|made| (made, whiteout)).map_err(failed("create", path))
            }
            Err(error) => Err(failed("create", path)(error)),
        }
    }

    /// Removes what is at `path`, since a later entry takes its place. Says whether it was a whiteout.
    fn remove(&mut self, directory: &OwnedFd, path: &[u8], last: &[u8]) -> Result<bool> {
        self.replaced = true;
        let whiteout = self.whiteouts.remove(path);
        // Descriptors of directories behind what goes away must not be used again.
        self.cache.clear();
        match rustix::fs::unlinkat(directory, last, AtFlags::empty()) {
            Ok(()) => return Ok(whiteout),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(failed("replace", path)(error)),
        }
        crate::remove::remove_tree(directory.as_fd(), last, self.aside.as_fd())
            .map_err(failed("replace", path))?;
        let below = |other: &[u8]| {
            other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.implied.retain(|other| !below(other));
        self.opaque.retain(|other| !below(other));
        self.whiteouts.retain(|other| !below(other));
        self.late.retain(|other, _| !below(other));
        Ok(whiteout)
    }

    fn whiteout(&mut self, parent: &[u8], hidden: &[u8]) -> Result<()> {
        let directory = self.directory(parent)?;
        let path = join(parent, hidden);
        match rustix::fs::mknodat(&directory, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.whiteouts.insert(path);
                Ok(())
            }
            // The layer's own file replaces the one below anyway; its own directory must not be merged with it.
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&directory, hidden, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(failed("stat", &path))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    self.opaque.insert(path);
                }
                Ok(())
            }
            Err(error) => Err(failed("create the whiteout of", &path)(error)),
        }
    }

    fn make_directory(&mut self, at: &OwnedFd, path: &[u8], last: &[u8], entry: &Entry) -> Result<()> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        match rustix::fs::mkdirat(at, last, mode) {
            Ok(()) => {
                self.late(entry, path.to_vec(), true);
                return Ok(());
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("create", path)(error)),
        }
        let stat = rustix::fs::statat(at, last, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("stat", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if self.remove(at, path, last)? {
                self.opaque.insert(path.to_vec());
            }
            rustix::fs::mkdirat(at, last, mode).map_err(failed("create", path))?;
        }
        self.late(entry, path.to_vec(), false);
        Ok(())
    }

    /// Notes what is to be set on a directory at the end.
    fn late(&mut self, entry: &Entry, path: Vec<u8>, fresh: bool) {
        self.implied.remove(&path);
        let settled = fresh && entry.mode & (0o7000 | self.umask) == 0 && entry.uid == 0 && entry.gid == 0;
        let late = Late {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
            modified: entry.modified,
            xattrs: entry.xattrs.clone(),
            settled,
        };
        self.late.insert(path, late);
    }

    fn make_file<R: BufRead>(
        &mut self,
        at: &OwnedFd,
        path: &[u8],
        last: &[u8],
        entry: &Entry,
        archive: &mut Reader<R>,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let (file, _) = self.make(at, path, last, |at| rustix::fs::openat(at, last, flags, mode))?;
        write(&file, entry, archive)?;
        if entry.uid != 0 || entry.gid != 0 {
            rustix::fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(failed("change the owner of", path))?;
        }
        if entry.mode & (0o7000 | self.umask) != 0 {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode & 0o7777))
                .map_err(failed("change the mode of", path))?;
        }
        for (attribute, value) in &entry.xattrs {
            set_xattr(attribute, path, |attribute| {
                rustix::fs::fsetxattr(&file, attribute, value, XattrFlags::empty())
            })?;
        }
        rustix::fs::futimens(&file, &times(entry.modified)).map_err(failed("change the time of", path))?;
        self.size = self.size.saturating_add(entry.size);
        Ok(())
    }

    fn make_hard_link(&mut self, at: &OwnedFd, path: &[u8], last: &[u8], entry: &Entry) -> Result<()> {
        let target = name::clean(&entry.link)?;
        if target == path {
            return Err(refused(&entry.name, "is a hard link to itself"));
        }
        let (target_parent, target_last) = name::split(&target);
        if target_last.is_empty() || self.whiteouts.contains(&target) {
            return Err(refused(&entry.name, "is a hard link to what is not a file of the layer"));
        }
        let from = match self.open(target_parent) {
            Ok(from) => from,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(refused(&entry.name, "is a hard link to what is not in the layer"));
            }
            Err(error) => return Err(failed("open the target's directory of", path)(error)),
        };
        let link = |at: &OwnedFd| rustix::fs::linkat(&from, target_last, at, last, AtFlags::empty());
        match link(at) {
            Err(Errno::NOENT) => Err(refused(&entry.name, "is a hard link to what is not in the layer")),
            Err(Errno::PERM) => Err(refused(&entry.name, "is a hard link to a directory")),
            Err(Errno::EXIST) => {
                self.remove(at, path, last)?;
                match link(at) {
                    // Its target was what it replaced, or lay below that.
                    Err(Errno::NOENT) => Err(refused(&entry.name, "is a hard link to what it replaces")),
                    outcome => outcome.map_err(failed("link", path)),
                }
            }
            outcome => outcome.map_err(failed("link", path)),
        }
    }

    fn make_node(
        &mut self,
        at: &OwnedFd,
        path: &[u8],
        last: &[u8],
        entry: &Entry,
        kind: FileType,
    ) -> Result<()> {
        let (major, minor) = entry.device;
        if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
            // Overlayfs would take it for a whiteout, which an archive writes in another way.
            return Err(refused(&entry.name, "is a character device 0:0"));
        }
        let device: Dev = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.make(at, path, last, |at| rustix::fs::mknodat(at, last, kind, mode, device))?;
        if entry.mode & (0o7000 | self.umask) != 0 {
            // fchmodat(2) would follow a link, but what was just made here is none.
            rustix::fs::chmodat(at, last, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())
                .map_err(failed("change the mode of", path))?;
        }
        self.metadata(at, last, entry)
    }

    /// Sets owner, attributes and time of what has no descriptor: links and nodes.
    fn metadata(&self, at: &OwnedFd, last: &[u8], entry: &Entry) -> Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if entry.uid != 0 || entry.gid != 0 {
            let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            rustix::fs::chownat(at, last, uid, gid, nofollow)
                .map_err(failed("change the owner of", &entry.name))?;
        }
        for (attribute, value) in &entry.xattrs {
            use std::os::fd::AsRawFd;
            let directory = format!("/proc/self/fd/{}/", at.as_raw_fd());
            let path = [directory.as_bytes(), last].concat();
            set_xattr(attribute, &entry.name, |attribute| {
                rustix::fs::lsetxattr(path.as_slice(), attribute, value, XattrFlags::empty())
            })?;
        }
        rustix::fs::utimensat(at, last, &times(entry.modified), nofollow)
            .map_err(failed("change the time of", &entry.name))
    }

    /// Opens a directory by its name in the layer, following links inside the root.
    fn open(&mut self, path: &[u8]) -> rustix::io::Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(index) = self.cache.iter().rposition(|(cached, _)| cached == path) {
            let last = self.cache.len() - 1;
            // The most recently used is at the end.
            if index + 8 < last {
                let hit = self.cache.remove(index);
                self.cache.push(hit);
                return Ok(self.cache.last().map_or_else(|| Rc::clone(&self.root), |(_, fd)| Rc::clone(fd)));
            }
            return Ok(self.cache.get(index).map_or_else(|| Rc::clone(&self.root), |(_, fd)| Rc::clone(fd)));
        }
        let fd = Rc::new(open_beneath(&self.root, path, OFlags::PATH)?);
        if self.cache.len() >= CACHE {
            self.cache.remove(0);
        }
        self.cache.push((path.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Opens a directory, made with its parents if the archive only implies it.
    fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        match self.open(path) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.make_missing(path, MAX_LINKS)?;
                self.open(path).map_err(failed("open", path))
            }
            Err(error) => Err(failed("open", path)(error)),
        }
    }

    fn make_missing(&mut self, path: &[u8], links: usize) -> Result<()> {
        let mut parent = Rc::clone(&self.root);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in ends.chain([path.len()]) {
            let so_far = path.get(..end).unwrap_or_default();
            let (above, last) = name::split(so_far);
            match self.open(so_far) {
                Ok(fd) => {
                    parent = fd;
                    continue;
                }
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR) if self.whiteouts.contains(so_far) => {
                    self.remove(&parent, so_far, last)?;
                    self.opaque.insert(so_far.to_vec());
                }
                Err(Errno::NOTDIR) => return Err(refused(path, "a parent of it is not a directory")),
                Err(error) => return Err(failed("open", so_far)(error)),
            }
            match rustix::fs::mkdirat(&parent, last, Mode::from_raw_mode(DIRECTORY_MODE)) {
                Ok(()) => drop(self.implied.insert(so_far.to_vec())),
                // It is there and cannot be opened: a dangling link, whose target is made inside the root.
                Err(Errno::EXIST) if links > 0 => {
                    let target = rustix::fs::readlinkat(&parent, last, Vec::new())
                        .map_err(failed("read the link", so_far))?;
                    let target = name::resolve(above, target.as_bytes());
                    self.make_missing(&target, links - 1)?;
                }
                Err(error) => return Err(failed("create", so_far)(error)),
            }
            parent = self.open(so_far).map_err(failed("open", so_far))?;
        }
        Ok(())
    }

    /// Sets what had to wait.
    fn finish(&mut self) -> Result<()> {
        self.cache.clear();
        let umask = self.umask;
        let implied = |path: &Vec<u8>| (path.clone(), Late::implied(umask));
        let mut late = std::mem::take(&mut self.late);
        late.extend(self.implied.iter().map(implied));
        for (path, late) in late {
            // By now something else may have that name, or its way.
            let fd = match open_beneath(&self.root, &path, OFlags::RDONLY | OFlags::NOFOLLOW) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(failed("open", &path)(error)),
            };
            if self.opaque.remove(&path) {
                rustix::fs::fsetxattr(&fd, OPAQUE_XATTR, b"y", XattrFlags::empty())
                    .map_err(failed("make opaque", &path))?;
            }
            late.apply(&fd, &path)?;
        }
        for path in std::mem::take(&mut self.opaque) {
            let fd = open_beneath(&self.root, &path, OFlags::RDONLY).map_err(failed("open", &path))?;
            rustix::fs::fsetxattr(&fd, OPAQUE_XATTR, b"y", XattrFlags::empty())
                .map_err(failed("make opaque", &path))?;
        }
        Ok(())
    }
}

impl Late {
    /// What an implied directory gets until the layers below are known.
    fn implied(umask: u32) -> Self {
        Self {
            uid: 0,
            gid: 0,
            mode: DIRECTORY_MODE,
            modified: Time::default(),
            xattrs: Vec::new(),
            settled: DIRECTORY_MODE & umask == 0,
        }
    }

    fn apply(&self, fd: &OwnedFd, path: &[u8]) -> Result<()> {
        if !self.settled {
            rustix::fs::fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
                .map_err(failed("change the owner of", path))?;
            rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode & 0o7777))
                .map_err(failed("change the mode of", path))?;
        }
        for (attribute, value) in &self.xattrs {
            set_xattr(attribute, path, |attribute| {
                rustix::fs::fsetxattr(fd, attribute, value, XattrFlags::empty())
            })?;
        }
        rustix::fs::futimens(fd, &times(self.modified)).map_err(failed("change the time of", path))
    }
}

fn join(parent: &[u8], last: &[u8]) -> Vec<u8> {
    if parent.is_empty() { last.to_vec() } else { [parent, b"/", last].concat() }
}

/// Opens a directory below `root` as a process whose root it is would see it.
pub(crate) fn open_beneath(root: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    sys::path::resolve_bare(root.as_fd(), path, flags | OFlags::DIRECTORY, resolve)
}

/// Writes the data of a file, with holes where it has them or long zeros.
fn write<R: BufRead>(file: &OwnedFd, entry: &Entry, archive: &mut Reader<R>) -> Result<()> {
    let io = |error| failed("write", &entry.name)(error);
    let mut parts = entry.sparse.iter().flatten().copied();
    let (mut position, mut left) =
        if entry.sparse.is_some() { parts.next().unwrap_or((0, 0)) } else { (0, entry.size) };
    let holes = entry.size >= SPARSE_FROM;
    loop {
        while left == 0 {
            let Some((offset, length)) = parts.next() else { break };
            (position, left) = (offset, length);
        }
        let piece = archive.data().map_err(stream)?;
        if piece.is_empty() {
            break;
        }
        let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = piece.get(..length).unwrap_or_default();
        if holes {
            write_with_holes(file, piece, position).map_err(io)?;
        } else {
            write_all(file, piece, position).map_err(io)?;
        }
        archive.consume(length);
        position += length as u64;
        left -= length as u64;
    }
    if holes || entry.sparse.is_some() {
        rustix::fs::ftruncate(file, entry.size).map_err(io)?;
    }
    Ok(())
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut position: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, position) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                position += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Leaves out aligned runs of zeros; the file must get its size afterwards.
fn write_with_holes(file: &OwnedFd, bytes: &[u8], position: u64) -> rustix::io::Result<()> {
    let to_page = usize::try_from(position.wrapping_neg() % PAGE).unwrap_or(0).min(bytes.len());
    let (head, body) = bytes.split_at(to_page);
    write_all(file, head, position)?;
    let start = position + to_page as u64;
    // Neighbouring runs with data are written together.
    let mut from = 0;
    let mut at = 0;
    for run in body.chunks(HOLE) {
        let end = at + run.len();
        if is_zero(run) {
            write_all(file, body.get(from..at).unwrap_or_default(), start + from as u64)?;
            from = end;
        }
        at = end;
    }
    write_all(file, body.get(from..).unwrap_or_default(), start + from as u64)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Says whether an image may set an extended attribute.
///
/// Overlayfs' own would change how the layers are stacked; `trusted.` ones in general are the host's.
pub(crate) fn is_allowed(attribute: &[u8]) -> bool {
    attribute == b"security.capability"
        || attribute.starts_with(b"system.posix_acl_")
        || (attribute.starts_with(b"user.") && !attribute.starts_with(b"user.overlay."))
}

fn set_xattr(attribute: &[u8], path: &[u8], set: impl FnOnce(&[u8]) -> rustix::io::Result<()>) -> Result<()> {
    if !is_allowed(attribute) {
        return Ok(());
    }
    match set(attribute) {
        // File systems without them, and kinds of files that cannot have them: as in Docker not an error.
        Err(Errno::OPNOTSUPP | Errno::PERM) if attribute != b"security.capability" => Ok(()),
        outcome => outcome.map_err(failed("set an extended attribute of", path)),
    }
}
