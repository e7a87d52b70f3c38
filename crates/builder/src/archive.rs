//! Unpacking archives of foreign hands: build contexts, and what `ADD` takes apart.
//!
//! Every name is found beneath the folder as if that were `/`; what is made is made by single names in descriptors.

use crate::error::{Error, Result};
use crate::place::{self, Make};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use store::tar::{Entry, Kind, Reader, Time};

/// How much an archive may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 40, entries: 10_000_000 }
    }
}

/// Unpacks an archive (plain, gzip, zstd, bzip2 or xz) into `folder`, a path beneath `root`. `owner` gets everything; without one
/// the archive says.
///
/// # Errors
///
/// What is no archive, leaves the folder or is too large; the system's.
pub fn unpack(
    root: BorrowedFd<'_>,
    folder: &str,
    owner: Option<(u32, u32)>,
    limits: Limits,
    reader: &mut dyn Read,
) -> Result<()> {
    unpack_some(root, folder, owner, limits, None, reader)
}

/// Unpacks an archive of a build context, which may have these files and nothing else.
pub(crate) fn unpack_only(root: BorrowedFd<'_>, only: &HashSet<&[u8]>, reader: &mut dyn Read) -> Result<()> {
    unpack_some(root, "/", Some((0, 0)), Limits::default(), Some(only), reader)
}

fn unpack_some(
    root: BorrowedFd<'_>,
    folder: &str,
    owner: Option<(u32, u32)>,
    limits: Limits,
    only: Option<&HashSet<&[u8]>>,
    reader: &mut dyn Read,
) -> Result<()> {
    let decoder = store::decompress(reader).map_err(broken)?;
    let mut archive = Reader::new(BufReader::with_capacity(1 << 16, decoder));
    let make = Make { uid: 0, gid: 0 };
    let top =
        place::folder(root, folder.as_bytes(), make).map_err(Error::name("create", folder.as_bytes()))?;
    let mut place = Unpacking { root, folder, owner, limits, folders: Vec::new() };
    drop(top);
    let mut count = 0;
    while let Some(entry) = archive.next_entry().map_err(broken)? {
        count += 1;
        if count > limits.entries {
            return Err(Error::Invalid(format!("the archive has more than {} entries", limits.entries)));
        }
        if only.is_some_and(|only| entry.kind != Kind::File || !only.contains(entry.name.as_slice())) {
            let name = shown(&entry.name);
            return Err(Error::Invalid(format!("the archive's {name:?} was not asked for")));
        }
        place.entry(&entry, &mut archive)?;
    }
    place.finish()
}

fn broken(error: std::io::Error) -> Error {
    // A failing disk or client is no broken archive.
    if error.raw_os_error().is_some() {
        return Error::File { operation: "read", path: "the archive".to_owned(), source: error };
    }
    Error::Invalid(format!("Error processing tar file: {error}"))
}

struct Unpacking<'a> {
    root: BorrowedFd<'a>,
    folder: &'a str,
    owner: Option<(u32, u32)>,
    limits: Limits,
    /// Folders whose times are set at the end, after what is made in them.
    folders: Vec<(OwnedFd, Time)>,
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Cleans a name of an archive; `None` if it leads out of the folder.
fn relative(name: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut clean: Vec<Vec<u8>> = Vec::new();
    for part in place::names(name) {
        if part == b".." {
            clean.pop()?;
        } else {
            clean.push(part);
        }
    }
    Some(clean)
}

impl Unpacking<'_> {
    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> Result<()> {
        let outside =
            || Error::Invalid(format!("the archive's {:?} leads out of the folder", shown(&entry.name)));
        let mut path = relative(&entry.name).ok_or_else(outside)?;
        let Some(name) = path.pop() else { return Ok(()) };
        let failed = |operation| Error::name(operation, &entry.name);
        let parent = [self.folder.as_bytes(), b"/", &path.join(&b'/')].concat();
        let parent = place::folder(self.root, &parent, Make { uid: 0, gid: 0 }).map_err(failed("create"))?;
        let here = parent.as_fd();
        match statat(here, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("stat")(errno)),
            Ok(there) => {
                let is_folder = place::kind(&there) == FileType::Directory;
                if is_folder && entry.kind != Kind::Directory {
                    remove_tree(here, &name, 500).map_err(failed("replace"))?;
                } else if !is_folder {
                    unlinkat(here, name.as_slice(), AtFlags::empty()).map_err(failed("replace"))?;
                }
            }
        }
        match entry.kind {
            Kind::Directory => {
                match mkdirat(here, name.as_slice(), Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed("create")(errno)),
                }
                let fd = place::open_folder(here, &name).map_err(failed("open"))?;
                self.attributes(fd.as_fd(), entry)?;
                self.folders.push((fd, entry.modified));
                // Descriptors are few: the times of a big tree are set in parts.
                if self.folders.len() > 256 {
                    self.finish()?;
                }
            }
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(here, name.as_slice(), flags, Mode::RUSR | Mode::WUSR)
                    .map_err(failed("create"))?;
                let file = self.content(File::from(fd), entry, archive)?;
                self.attributes(file.as_fd(), entry)?;
                futimens(&file, &times(entry.modified)).map_err(failed("set the time of"))?;
            }
            Kind::HardLink => {
                let target = relative(&entry.link).ok_or_else(outside)?.join(&b'/');
                let target = [self.folder.as_bytes(), b"/", &target].concat();
                let found = place::find(self.root, &target, false, None).map_err(failed("link"))?;
                linkat(&found.parent, found.name.as_slice(), here, name.as_slice(), AtFlags::empty())
                    .map_err(failed("link"))?;
            }
            Kind::Symlink => {
                symlinkat(entry.link.as_slice(), here, name.as_slice()).map_err(failed("create"))?;
                self.settle(here, &name, entry)?;
            }
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::CharacterDevice => FileType::CharacterDevice,
                    Kind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(entry.device.0, entry.device.1);
                let mode = Mode::from_raw_mode(entry.mode & 0o7777);
                mknodat(here, name.as_slice(), kind, mode, device).map_err(failed("create"))?;
                self.settle(here, &name, entry)?;
            }
        }
        Ok(())
    }

    fn content<R: BufRead>(
        &mut self,
        mut file: File,
        entry: &Entry,
        archive: &mut Reader<R>,
    ) -> Result<File> {
        loop {
            let data = archive.data().map_err(broken)?;
            if data.is_empty() {
                return Ok(file);
            }
            let count = data.len();
            self.limits.bytes = self
                .limits
                .bytes
                .checked_sub(count as u64)
                .ok_or_else(|| Error::Invalid("the archive holds more than is allowed".to_owned()))?;
            file.write_all(data).map_err(Error::name("write", &entry.name))?;
            archive.consume(count);
        }
    }

    /// Owner, mode and extended attributes, in this order: a change of owner clears set-ID bits and capabilities.
    fn attributes(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        let failed = |operation| Error::name(operation, &entry.name);
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed("chown"))?;
        fchmod(fd, Mode::from_raw_mode(entry.mode & 0o7777)).map_err(failed("chmod"))?;
        for (name, value) in &entry.xattrs {
            if name.starts_with(b"user.") || name == b"security.capability" {
                match fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                    Ok(()) | Err(Errno::OPNOTSUPP) => {}
                    Err(errno) => return Err(failed("set an attribute of")(errno)),
                }
            }
        }
        Ok(())
    }

    /// Owner and time of what has no descriptor.
    fn settle(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        let failed = |operation| Error::name(operation, &entry.name);
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("chown"))?;
        utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the time of"))
    }

    fn finish(&mut self) -> Result<()> {
        while let Some((fd, time)) = self.folders.pop() {
            futimens(&fd, &times(time)).map_err(Error::name("set the time of", b"a folder"))?;
        }
        Ok(())
    }
}

fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes a folder with all below it, following no link.
fn remove_tree(parent: BorrowedFd<'_>, name: &[u8], levels: usize) -> Result<(), Errno> {
    let levels = levels.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    let folder = place::open_folder(parent, name)?;
    for inner in place::list(folder.as_fd())? {
        match unlinkat(&folder, inner.as_slice(), AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => remove_tree(folder.as_fd(), &inner, levels)?,
            other => other?,
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Says whether a file begins as an archive that is not compressed.
pub(crate) fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;
    use store::tar::Writer;

    const XZ_ARCHIVE: &str = "fd 37 7a 58 5a 00 00 04 e6 d6 b4 46 02 00 21 01 16 00 00 00 74 2f e5 a3 e0 27 ff 00 62 5d \
        00 33 00 33 50 18 68 89 83 01 dc e2 6e 21 08 bb a5 3e 28 bd a5 9a 5c 24 56 47 32 7c a3 60 \
        b4 2e c7 f7 c1 f2 4c ed 1f 60 2f 14 53 ef 7d 68 68 98 00 1a a1 c0 30 02 93 7d 9f 2c d7 81 \
        0c 6a a9 ed 62 cb 9e cd fa fe 2c e9 bd a1 f1 83 b6 f7 bc 48 26 4e 30 8d 3d 67 af 2f 29 29 \
        ea 4d 0e 2a 31 b3 a0 88 00 00 00 00 17 b8 6e 47 d4 1f e4 fb 00 01 7e 80 50 00 00 00 5c 07 \
        96 88 b1 c4 67 fb 02 00 00 00 00 04 59 5a";
    const BZIP2_ARCHIVE: &str = "42 5a 68 39 31 41 59 26 53 59 ad b1 70 02 00 00 79 ff 90 c9 80 00 41 40 00 67 80 03 24 00 \
        00 e1 00 9e 00 04 00 00 08 20 00 54 25 28 d3 46 80 7a 99 3d 23 4f 50 49 29 a3 46 83 d4 d0 \
        0c 85 0f bb c6 e8 21 04 e2 90 91 3b 5d 86 a6 58 45 02 18 4c 0f 62 11 d4 1e e1 20 29 2e 67 \
        08 cd 9d ab 11 ab d1 62 ca af 80 ef a2 22 07 e2 ee 48 a7 0a 12 15 b6 2e 00 40";

    fn archive(entries: &[(&str, Kind, &str)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (name, kind, text) in entries {
            let mut entry =
                Entry { name: name.as_bytes().to_vec(), kind: *kind, mode: 0o755, ..Entry::default() };
            match kind {
                Kind::File => entry.size = text.len() as u64,
                _ => entry.link = text.as_bytes().to_vec(),
            }
            writer.append(&entry, &mut text.as_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn all_compressions_are_known_by_their_content() {
        // `printf 'FILE' > f; tar c f | xz`, and bzip2.
        for (name, hex) in [("xz", XZ_ARCHIVE), ("bzip2", BZIP2_ARCHIVE)] {
            let bytes: Vec<u8> =
                hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            let scratch = Scratch::new();
            let root = File::open(scratch.path()).unwrap();
            unpack(root.as_fd(), "in", None, Limits::default(), &mut bytes.as_slice()).unwrap();
            assert_eq!(std::fs::read(scratch.path().join("in/f")).unwrap(), b"FILE", "{name}");
        }
    }

    fn unpacked(bytes: &[u8]) -> (Scratch, Result<()>) {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("root")).unwrap();
        let root = File::open(scratch.path().join("root")).unwrap();
        let outcome = unpack(root.as_fd(), "in", None, Limits { bytes: 100, entries: 10 }, &mut &*bytes);
        (scratch, outcome)
    }

    #[test]
    fn nothing_leaves_the_folder() {
        for entries in [
            &[("../out", Kind::File, "x")][..],
            &[("a/../../out", Kind::File, "x")],
            &[("link", Kind::Symlink, "../../.."), ("link/out", Kind::File, "x")],
            &[("link", Kind::Symlink, "/"), ("link/out", Kind::File, "x")],
            &[("hard", Kind::HardLink, "../../../etc/passwd")],
        ] {
            let (scratch, _outcome) = unpacked(&archive(entries));
            assert!(!scratch.path().join("out").exists(), "{entries:?}");
            assert!(!scratch.path().join("root/in/hard").exists(), "{entries:?}");
        }
    }

    #[test]
    fn later_entries_replace_and_limits_hold() {
        let (scratch, outcome) = unpacked(&archive(&[
            ("d", Kind::Directory, ""),
            ("d/f", Kind::File, "one"),
            ("d/h", Kind::HardLink, "d/f"),
            ("d", Kind::File, "now a file"),
        ]));
        outcome.unwrap();
        assert_eq!(std::fs::read(scratch.path().join("root/in/d")).unwrap(), b"now a file");
        let (_scratch, outcome) = unpacked(&archive(&[("big", Kind::File, &"x".repeat(200))]));
        assert_eq!(outcome.unwrap_err().to_string(), "the archive holds more than is allowed");
        let (_scratch, outcome) = unpacked(b"no archive at all, but long enough to be looked at");
        assert!(matches!(outcome, Err(Error::Invalid(_))));
    }
}
