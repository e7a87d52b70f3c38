//! The local side of `cp`: packing files into an archive, and unpacking one.
//!
//! An archive comes from a container, which nobody need trust: entries are created beneath the destination's
//! descriptor, name by name, and no symbolic link is followed on the way.

use crate::error::{Error, Result};
use client::Chunks;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// Unpacks `source` into `directory`, each entry where `place` puts it.
pub(super) fn unpack(
    source: &mut impl Read,
    directory: &Path,
    place: impl Fn(&str) -> String,
    owners: bool,
) -> Result<()> {
    let shown = directory.display().to_string();
    let root = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::file("open", shown.clone())(errno.into()))?;
    let mut archive = Archive::new(source);
    let entries = archive.entries().map_err(Error::file("read", "archive"))?;
    // Times and modes of directories are set when nothing more is put into them.
    let mut directories = Vec::new();
    for entry in entries {
        let mut entry = entry.map_err(Error::file("read", "archive"))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(path) = clean(&place(&name)) else {
            return Err(Error::message(format!(
                "archive entry {name:?} would be outside of the destination"
            )));
        };
        let failed = Error::file("extract", directory.join(&path).display().to_string());
        let kind = entry.header().entry_type();
        let facts = Facts::of(entry.header()).map_err(Error::file("read", "archive"))?;
        let link = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
        let link = link.unwrap_or_default();
        let done = match kind {
            EntryType::Directory => {
                directories.push((path.clone(), facts));
                make_directories(root.as_fd(), &path).map(drop)
            }
            EntryType::Link => clean(&place(&link))
                .ok_or(rustix::io::Errno::INVAL)
                .and_then(|target| make_link(root.as_fd(), &path, &target)),
            kind => make_entry(root.as_fd(), &path, kind, &link, &mut entry)
                .and_then(|()| facts.apply(root.as_fd(), &path, owners)),
        };
        done.map_err(|errno| failed(errno.into()))?;
    }
    for (path, facts) in directories.into_iter().rev() {
        facts
            .apply(root.as_fd(), &path, owners)
            .map_err(|errno| Error::file("chmod", path.display().to_string())(errno.into()))?;
    }
    Ok(())
}

type Done<T = ()> = Result<T, rustix::io::Errno>;

/// Returns a relative path without `.` and `..`; `None` if it leaves the top.
fn clean(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// Opens a directory beneath `root`; the path is a clean one.
fn open_beneath(root: BorrowedFd<'_>, path: &Path) -> Done<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(root, c".", flags, Mode::empty())?;
    for name in path {
        here = rustix::fs::openat(here, name, flags, Mode::empty())?;
    }
    Ok(here)
}

fn make_directories(root: BorrowedFd<'_>, path: &Path) -> Done<OwnedFd> {
    let mut here = open_beneath(root, Path::new(""))?;
    for name in path.components() {
        match rustix::fs::mkdirat(&here, name.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        here = open_beneath(here.as_fd(), Path::new(name.as_os_str()))?;
    }
    Ok(here)
}

/// Returns the directory an entry goes into, made if need be, and its name there. What had the name is gone after.
fn room_for<'a>(root: BorrowedFd<'_>, path: &'a Path) -> Done<(OwnedFd, &'a Path)> {
    let parent = make_directories(root, path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().map(Path::new).ok_or(rustix::io::Errno::INVAL)?;
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok((parent, name)),
        Err(errno) => Err(errno),
    }
}

fn make_link(root: BorrowedFd<'_>, path: &Path, target: &Path) -> Done {
    let (parent, name) = room_for(root, path)?;
    let from = open_beneath(root, target.parent().unwrap_or(Path::new("")))?;
    let old = target.file_name().ok_or(rustix::io::Errno::INVAL)?;
    rustix::fs::linkat(from, old, parent, name, AtFlags::empty())
}

fn make_entry(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: EntryType,
    link: &str,
    content: &mut impl Read,
) -> Done {
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let (parent, name) = room_for(root, path)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
            write_sparse(content, &mut file)
                .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
        }
        EntryType::Symlink => {
            let (parent, name) = room_for(root, path)?;
            rustix::fs::symlinkat(link, parent, name)
        }
        EntryType::Fifo => {
            let (parent, name) = room_for(root, path)?;
            rustix::fs::mknodat(parent, name, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        }
        // Devices of a container are not wanted on the host; other kinds are headers of the format.
        _ => Ok(()),
    }
}

/// Copies contents; zeros become holes, so that sparse files stay sparse.
fn write_sparse(content: &mut impl Read, file: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = content.read(&mut buffer)?;
        let Some(data) = buffer.get(..count).filter(|data| !data.is_empty()) else { break };
        if data.iter().all(|byte| *byte == 0) {
            file.seek_relative(i64::try_from(count).unwrap_or(i64::MAX))?;
        } else {
            file.write_all(data)?;
        }
    }
    let end = file.stream_position()?;
    file.set_len(end)
}

/// What an entry says about its file.
#[derive(Debug, Clone, Copy)]
struct Facts {
    kind: EntryType,
    mode: u32,
    user: u32,
    group: u32,
    modified: i64,
}

impl Facts {
    fn of(header: &Header) -> io::Result<Self> {
        let id = |id: u64| u32::try_from(id).map_err(|_too_big| io::Error::from(io::ErrorKind::InvalidData));
        Ok(Self {
            kind: header.entry_type(),
            mode: header.mode()? & 0o7777,
            user: id(header.uid()?)?,
            group: id(header.gid()?)?,
            modified: i64::try_from(header.mtime()?).unwrap_or(0),
        })
    }

    fn apply(self, root: BorrowedFd<'_>, path: &Path, owners: bool) -> Done {
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
            return Ok(());
        };
        if !matches!(
            self.kind,
            EntryType::Directory | EntryType::Regular | EntryType::Symlink | EntryType::Fifo
        ) {
            return Ok(());
        }
        let parent = open_beneath(root, parent)?;
        if owners {
            let user = rustix::fs::Uid::from_raw(self.user);
            let group = rustix::fs::Gid::from_raw(self.group);
            rustix::fs::chownat(&parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if self.kind != EntryType::Symlink {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
            rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))?;
        }
        let time = Timespec { tv_sec: self.modified, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Packs `root`, under the name `top`; returns the archive's size.
pub(super) fn pack(root: &Path, top: &str, to: &mut impl Sink) -> io::Result<u64> {
    let mut builder = Builder::new(Counting { inner: to, bytes: 0 });
    builder.follow_symlinks(false);
    add(&mut builder, root, Path::new(top))?;
    Ok(builder.into_inner()?.bytes)
}

/// Where an archive goes.
pub(super) trait Sink: Write {
    /// Takes exactly `length` bytes of a file, zeros if it has become shorter.
    fn file(&mut self, file: &File, length: u64) -> io::Result<()>;
}

impl Sink for Chunks<'_> {
    fn file(&mut self, file: &File, length: u64) -> io::Result<()> {
        Chunks::file(self, file, length)
    }
}

struct Counting<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn add(builder: &mut Builder<Counting<&mut impl Sink>>, path: &Path, name: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.file_type().is_socket() {
        return Ok(());
    }
    let mut header = header_of(&metadata);
    if metadata.is_symlink() {
        return builder.append_link(&mut header, name, std::fs::read_link(path)?);
    }
    if metadata.is_file() {
        let file = File::open(path)?;
        // The header alone; the content takes a shorter way, and a file that grows meanwhile must not break the archive.
        builder.append_data(&mut header, name, io::empty())?;
        let archive = builder.get_mut();
        archive.inner.file(&file, metadata.len())?;
        archive.bytes += metadata.len();
        let padding = metadata.len().wrapping_neg() % BLOCK;
        io::copy(&mut io::repeat(0).take(padding), archive)?;
        return Ok(());
    }
    builder.append_data(&mut header, name.join(""), io::empty())?;
    if metadata.is_dir() {
        let mut entries = std::fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            add(builder, &entry.path(), &name.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// What contents in an archive are filled up to multiples of, in bytes.
const BLOCK: u64 = 512;

fn header_of(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    let kind = metadata.file_type();
    header.set_entry_type(match () {
        () if kind.is_dir() => EntryType::Directory,
        () if kind.is_symlink() => EntryType::Symlink,
        () if kind.is_fifo() => EntryType::Fifo,
        () if kind.is_char_device() => EntryType::Char,
        () if kind.is_block_device() => EntryType::Block,
        () => EntryType::Regular,
    });
    header.set_size(if kind.is_file() { metadata.len() } else { 0 });
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(u64::from(metadata.uid()));
    header.set_gid(u64::from(metadata.gid()));
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sink for Vec<u8> {
        fn file(&mut self, mut file: &File, length: u64) -> io::Result<()> {
            assert_eq!(io::copy(&mut file, self)?, length);
            Ok(())
        }
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let root = std::env::temp_dir().join(format!("wharf-cp-{}", std::process::id()));
        let (from, to) = (root.join("from"), root.join("to"));
        std::fs::create_dir_all(from.join("d")).unwrap();
        std::fs::create_dir_all(&to).unwrap();
        std::fs::write(from.join("d/f"), "hello").unwrap();
        std::os::unix::fs::symlink("f", from.join("d/l")).unwrap();
        let mut archive = Vec::new();
        pack(&from.join("d"), "d", &mut archive).unwrap();
        unpack(&mut archive.as_slice(), &to, str::to_owned, false).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("d/l")).unwrap(), "hello");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn nothing_leaves_the_destination() {
        let root = std::env::temp_dir().join(format!("wharf-cp-evil-{}", std::process::id()));
        let to = root.join("to");
        std::fs::create_dir_all(&to).unwrap();
        let mut builder = Builder::new(Vec::new());
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "out", "..").unwrap();
        let mut file = Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        builder.append_data(&mut file, "out/evil", b"x".as_slice()).unwrap();
        let archive = builder.into_inner().unwrap();
        assert!(unpack(&mut archive.as_slice(), &to, str::to_owned, false).is_err());
        assert!(!root.join("evil").exists());
        assert_eq!(clean("../x"), None);
        std::fs::remove_dir_all(root).unwrap();
    }
}
