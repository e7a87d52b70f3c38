//! From a directory to an archive: what `commit`, `export` and `build` make layers of.
//!
//! The tree may be changed by hostile processes while it is read (CVE-2018-15664): every directory is opened relative
//! to its parent's descriptor and no link is ever followed. Entries are in the order of their names, so equal trees
//! give equal bytes. Sockets are left out, as in Docker.

use crate::error::{Error, Result};
use crate::tar::{Entry, Kind, Time, Writer};
use oci::runtime::IdMap;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Deeper trees are refused: each level holds a descriptor.
const MAX_DEPTH: usize = 900;
const MAX_XATTR: usize = 64 * 1024;
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const REDIRECT: &[u8] = b"trusted.overlay.redirect";

/// Extended attributes by name.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// How a tree is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The upper directory of an overlay: devices 0:0 and opaque directories become whiteouts.
    Upper,
    /// The same, and nobody can change anything in it meanwhile: files are opened straight away.
    Still,
    /// A root file system: everything is what it is.
    Rootfs,
}

impl Form {
    fn is_upper(self) -> bool {
        matches!(self, Self::Upper | Self::Still)
    }
}

/// Writes the tree at `root` as an archive; returns the bytes of all regular files in it, hard links once.
///
/// # Errors
///
/// [`Error::EntryIo`] for what cannot be read, [`Error::Entry`] for trees that are too deep or of a form of overlay
/// that is not used here, [`Error::LayerStream`] if `writer` fails.
pub fn pack(root: &Path, form: Form, writer: &mut dyn Write) -> Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, root, flags, Mode::empty()).map_err(|error| Error::Io {
        operation: "open",
        path: root.to_owned(),
        source: error.into(),
    })?;
    // The root of an upper directory has nobody's metadata but the base's.
    let top = form == Form::Rootfs;
    let mut packer = Packer::new(writer, form, top);
    packer.tree(fd, Vec::new())?;
    let bytes = packer.bytes;
    packer.finish()?;
    Ok(bytes)
}

/// Writes all that is in a directory, but not the directory itself, as an archive. Used to export a container.
///
/// # Errors
///
/// As for [`pack`].
pub fn pack_contents(directory: BorrowedFd<'_>, writer: &mut dyn Write) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, c".", flags, Mode::empty()).map_err(failed("open", b"."))?;
    let mut packer = Packer::new(writer, Form::Rootfs, false);
    packer.tree(fd, Vec::new())?;
    packer.finish()
}

/// Writes what `name` in the directory `parent` is, with all below it, as an archive in which it is called `called`;
/// `/` makes all names absolute. A link is written as a link; owners are those inside `owners`. Used to copy out of a
/// container.
///
/// # Errors
///
/// As for [`pack`].
pub fn pack_entry(
    parent: BorrowedFd<'_>,
    name: &[u8],
    called: &[u8],
    owners: Option<&IdMap>,
    writer: &mut dyn Write,
) -> Result<()> {
    let mut packer = Packer { owners, ..Packer::new(writer, Form::Rootfs, true) };
    if let Some(directory) = packer.child(parent, name, called)? {
        packer.tree(directory, called.to_vec())?;
    }
    packer.finish()
}

struct Packer<'a, W> {
    archive: Writer<W>,
    form: Form,
    /// Whether the directory that everything is in has an entry of its own.
    top: bool,
    /// The first name of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Of the files so far.
    bytes: u64,
    /// In which namespace owners are named, if it is not the reader's.
    owners: Option<&'a IdMap>,
}

fn failed(operation: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error {
    let entry = crate::layers::name::display(path);
    move |error| Error::EntryIo { operation, entry, source: error.into() }
}

fn refused(path: &[u8], problem: &str) -> Error {
    Error::Entry { entry: crate::layers::name::display(path), problem: problem.to_owned() }
}

/// A directory whose entries are being written.
struct Level {
    fd: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
    /// The length of its own name.
    length: usize,
}

impl<W: Write> Packer<'_, W> {
    fn new(writer: W, form: Form, top: bool) -> Self {
        Self { archive: Writer::new(writer), form, top, links: HashMap::new(), bytes: 0, owners: None }
    }

    fn tree(&mut self, root: OwnedFd, mut path: Vec<u8>) -> Result<()> {
        let mut levels = vec![self.directory(root, &path)?];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.length);
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            if !path.is_empty() && !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if let Some(fd) = self.child(level.fd.as_fd(), &name, &path)? {
                levels.push(self.directory(fd, &path)?);
            }
            if levels.len() > MAX_DEPTH {
                return Err(refused(&path, "the tree is too deep"));
            }
        }
        Ok(())
    }

    /// Writes the entry of a directory.
    fn directory(&mut self, fd: OwnedFd, path: &[u8]) -> Result<Level> {
        let stat = rustix::fs::fstat(&fd).map_err(failed("stat", path))?;
        let name = match path {
            b"" => b"./".to_vec(),
            b"/" => path.to_vec(),
            _ => [path, b"/"].concat(),
        };
        let (xattrs, opaque) = self.xattrs(&fd, path)?;
        let mut entry = self.entry(name, Kind::Directory, &stat);
        entry.xattrs = xattrs;
        if !path.is_empty() || self.top {
            self.append(&entry, &mut io::empty())?;
        }
        if opaque && !path.is_empty() && self.form.is_upper() {
            let marker = Entry { name: [path, b"/.wh..wh..opq"].concat(), ..whiteout(&stat) };
            self.append(&marker, &mut io::empty())?;
        }
        let mut names = list(&fd).map_err(failed("list", path))?;
        names.sort_unstable();
        Ok(Level { fd, names: names.into_iter(), length: path.len() })
    }

    /// Writes the entry of anything but a directory; a directory is returned.
    fn child(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<OwnedFd>> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It went away meanwhile.
            Err(Errno::NOENT) => return Ok(None),
            outcome => outcome.map_err(failed("stat", path))?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return rustix::fs::openat(parent, name, flags, Mode::empty())
                    .map(Some)
                    .map_err(failed("open", path));
            }
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice if stat.st_rdev == 0 && self.form.is_upper() => {
                let (directory, last) = crate::layers::name::split(path);
                let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
                let name = [directory, slash, b".wh.", last].concat();
                return self.append(&Entry { name, ..whiteout(&stat) }, &mut io::empty()).map(|()| None);
            }
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        let mut entry = self.entry(path.to_vec(), kind, &stat);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                return self.append(&entry, &mut io::empty()).map(|()| None);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            Kind::File => self.file(parent, name, path, (entry, stat.st_size))?,
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())
                    .map_err(failed("read the link", path))?;
                entry.link = target.into_bytes();
                self.append(&entry, &mut io::empty())?;
            }
            _ => {
                entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                self.append(&entry, &mut io::empty())?;
            }
        }
        Ok(None)
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        (mut entry, size): (Entry, i64),
    ) -> Result<()> {
        let (fd, size) = if self.form == Form::Still {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed("open", path))?;
            (fd, size)
        } else {
            open_file(parent, name, path)?
        };
        entry.size = u64::try_from(size).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(entry.size);
        entry.xattrs = self.xattrs(&fd, path)?.0;
        // A file that shrinks meanwhile is filled with zeros, one that grows is cut.
        let mut data = File::from(fd).chain(io::repeat(0));
        self.append(&entry, &mut data)
    }

    fn entry(&self, name: Vec<u8>, kind: Kind, stat: &Stat) -> Entry {
        let mut entry = described(name, kind, stat);
        if let Some(map) = self.owners {
            (entry.uid, entry.gid) = map.inside((entry.uid, entry.gid));
        }
        entry
    }

    fn finish(self) -> Result<()> {
        self.archive.finish().map_err(Error::LayerStream)?;
        Ok(())
    }

    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.archive.append(entry, data).map_err(Error::LayerStream)
    }

    /// Returns the attributes that belong in an archive, and whether the directory is opaque.
    fn xattrs(&self, fd: &OwnedFd, path: &[u8]) -> Result<(Attributes, bool)> {
        let mut list = [0; 1024];
        let names: Vec<u8> = match rustix::fs::flistxattr(fd, &mut list[..]) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok((Vec::new(), false)),
            Ok(length) => list.get(..length).unwrap_or_default().to_vec(),
            Err(Errno::RANGE) => {
                let mut list = vec![0; MAX_XATTR];
                let length = rustix::fs::flistxattr(fd, &mut list[..])
                    .map_err(failed("list the attributes of", path))?;
                list.truncate(length);
                list
            }
            Err(error) => return Err(failed("list the attributes of", path)(error)),
        };
        let mut kept = Vec::new();
        let mut opaque = false;
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if name == REDIRECT && self.form.is_upper() {
                return Err(refused(path, "it is a redirected directory of overlayfs"));
            }
            let wanted = name == OPAQUE || crate::layers::is_allowed(name);
            if !wanted {
                continue;
            }
            let mut value = vec![0; MAX_XATTR];
            let length = match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
                Err(Errno::NODATA) => continue,
                outcome => outcome.map_err(failed("read an attribute of", path))?,
            };
            value.truncate(length);
            if name == OPAQUE {
                opaque = value == b"y";
            } else {
                kept.push((name.to_vec(), value));
            }
        }
        Ok((kept, opaque))
    }
}

/// Opens a file and tells its size.
///
/// Something else may have its name by now: nothing but a file is really opened, since that alone has effects with devices
/// and waits with pipes.
fn open_file(parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(OwnedFd, i64)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed("open", path))?;
    let stat = rustix::fs::fstat(&place).map_err(failed("stat", path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refused(path, "it was replaced while it was read"));
    }
    let same = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(same, flags, Mode::empty()).map_err(failed("open", path))?;
    Ok((fd, stat.st_size))
}

/// The names in a directory, in no order.
pub(crate) fn list(fd: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

fn described(name: Vec<u8>, kind: Kind, stat: &Stat) -> Entry {
    Entry {
        name,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        ..Entry::default()
    }
}

/// An empty file that only its name gives a meaning.
fn whiteout(stat: &Stat) -> Entry {
    Entry { mode: 0, ..described(Vec::new(), Kind::File, stat) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::tests::{Archive, store};
    use crate::tar::Reader;
    use crate::testing::Scratch;
    use oci::Digest;

    fn listing(bytes: &[u8]) -> Vec<String> {
        let mut reader = Reader::new(bytes);
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let link = if entry.link.is_empty() {
                String::new()
            } else {
                format!(" -> {}", String::from_utf8_lossy(&entry.link))
            };
            names.push(format!("{} {:o}{link}", String::from_utf8_lossy(&entry.name), entry.mode));
        }
        names
    }

    #[test]
    fn a_tree_is_sorted_and_links_are_not_followed() {
        let scratch = Scratch::new();
        let root = scratch.path().join("root");
        std::fs::create_dir_all(root.join("b/c")).unwrap();
        std::fs::write(root.join("b/f"), b"x").unwrap();
        std::fs::write(root.join("a"), b"x").unwrap();
        std::fs::hard_link(root.join("a"), root.join("z")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let mut bytes = Vec::new();
        pack(&root, Form::Rootfs, &mut bytes).unwrap();
        let expect = ["./ 755", "a 644", "b/ 755", "b/c/ 755", "b/f 644", "out 777 -> /etc", "z 644 -> a"];
        assert_eq!(listing(&bytes), expect);
        let mut upper = Vec::new();
        pack(&root, Form::Upper, &mut upper).unwrap();
        assert_eq!(listing(&upper), expect[1..]);
        let mut again = Vec::new();
        pack(&root, Form::Rootfs, &mut again).unwrap();
        assert!(again == bytes);
    }

    #[test]
    fn one_entry_is_called_as_asked() {
        let scratch = Scratch::new();
        let root = scratch.path().join("root");
        std::fs::create_dir_all(root.join("b/c")).unwrap();
        std::fs::write(root.join("b/f"), b"x").unwrap();
        std::os::unix::fs::symlink("b", root.join("link")).unwrap();
        let parent = File::open(&root).unwrap();
        for (name, called, expect) in [
            ("b", "new", &["new/ 755", "new/c/ 755", "new/f 644"][..]),
            ("b", ".", &["./ 755", "./c/ 755", "./f 644"]),
            ("b", "/", &["/ 755", "/c/ 755", "/f 644"]),
            ("link", "link", &["link 777 -> b"]),
        ] {
            let mut bytes = Vec::new();
            pack_entry(parent.as_fd(), name.as_bytes(), called.as_bytes(), None, &mut bytes).unwrap();
            assert_eq!(listing(&bytes), expect, "{name}");
        }
        let mut bytes = Vec::new();
        pack_contents(parent.as_fd(), &mut bytes).unwrap();
        assert_eq!(listing(&bytes), ["b/ 755", "b/c/ 755", "b/f 644", "link 777 -> b"]);
    }

    #[test]
    #[ignore = "root: whiteouts are devices, opaqueness a trusted attribute"]
    fn an_unpacked_layer_packs_to_the_same() {
        let archive = Archive::new()
            .directory("a/")
            .entry(Entry { mode: 0, ..named("a/.wh..wh..opq") }, b"")
            .entry(Entry { mode: 0, ..named("a/.wh.gone") }, b"")
            .entry(Entry { uid: 5, gid: 6, mode: 0o4711, ..named("a/file") }, b"content")
            .link("a/link", Kind::HardLink, "a/file")
            .entry(Entry { kind: Kind::BlockDevice, device: (8, 1), mode: 0o600, ..named("a/sda1") }, b"")
            .finish();
        let (_scratch, store) = store();
        let layer = store.layers().unpack(&mut &*archive, &Digest::sha256_of(&archive)).unwrap();
        let mut bytes = Vec::new();
        pack(&layer.path, Form::Upper, &mut bytes).unwrap();
        assert_eq!(
            listing(&bytes),
            [
                "a/ 755",
                "a/.wh..wh..opq 0",
                "a/file 4711",
                "a/.wh.gone 0",
                "a/link 4711 -> a/file",
                "a/sda1 600"
            ]
        );
        let again = store.layers().unpack_unknown(&mut &*bytes).unwrap();
        let mut repacked = Vec::new();
        pack(&again.path, Form::Upper, &mut repacked).unwrap();
        assert_eq!(listing(&repacked), listing(&bytes));
    }

    fn named(name: &str) -> Entry {
        Entry { name: name.into(), ..Entry::default() }
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        let scratch = Scratch::new();
        let root = scratch.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let mut fd = OwnedFd::from(File::open(&root).unwrap());
        for _ in 0..=MAX_DEPTH {
            rustix::fs::mkdirat(&fd, "d", Mode::from_raw_mode(0o755)).unwrap();
            fd = rustix::fs::openat(&fd, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let error = pack(&root, Form::Rootfs, &mut io::sink()).unwrap_err();
        assert!(error.to_string().ends_with("the tree is too deep"), "{error}");
    }
}
