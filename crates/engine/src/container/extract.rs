//! Unpacking a client's archive beneath a container's root.
//!
//! Every name is resolved beneath the root by `openat2`: links that the container (or the archive) put in the way lead
//! to somewhere inside. What is created is created by single names in descriptors of folders.

use crate::error::{Error, Result};
use base::Kind;
use oci::runtime::IdMap;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, fstat, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead, Read, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use store::tar::{Entry, Kind as EntryKind, Reader, Time};

/// Deeper trees are not deleted to make room: each level holds a descriptor.
const MAX_DEPTH: usize = 500;

/// How to unpack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extract {
    /// Refuse to put a file where a folder is, and the other way round.
    pub keep_kinds: bool,
    /// Give everything to the container's user instead of the archive's.
    pub copy_owner: bool,
    /// Give everything to this user (`USER[:GROUP]`, names being the container's) instead of the archive's.
    pub owner: String,
}

/// A user and a group.
pub(super) type Owner = (u32, u32);

/// Finds the container's user by number, or by name in its own files; `None` means root.
pub(super) fn user(root: BorrowedFd<'_>, text: &str) -> Option<Owner> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let line = |file: &str, name: &str| -> Option<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = sys::path::open_in_root(root, Path::new(file), flags).ok()?;
        let mut text = String::new();
        File::from(file).take(1 << 20).read_to_string(&mut text).ok()?;
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        text.lines().map(fields).find(|fields| fields.first().is_some_and(|first| first == name))
    };
    let number = |fields: &[String], index: usize| fields.get(index).and_then(|text| text.parse().ok());
    let (uid, own_group) = match user.parse() {
        Ok(uid) => (uid, 0),
        Err(_name) => {
            let fields = line("/etc/passwd", user)?;
            (number(&fields, 2)?, number(&fields, 3)?)
        }
    };
    let gid = match group {
        "" => own_group,
        group => group.parse().ok().or_else(|| number(&line("/etc/group", group)?, 2))?,
    };
    Some((uid, gid))
}

fn sync_if_lasting(root: BorrowedFd<'_>, folder: &Path) -> std::result::Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = sys::path::open_in_root(root, folder, flags).map_err(|error| error.errno())?;
    if fstat(&place)?.st_dev == fstat(root)?.st_dev { Ok(()) } else { rustix::fs::syncfs(place) }
}

/// Where an archive is unpacked, and how.
pub(super) struct Place<'a> {
    root: BorrowedFd<'a>,
    folder: &'a Path,
    keep_kinds: bool,
    /// Whose everything becomes, if not the archive's owners'.
    owner: Option<Owner>,
    /// How the archive's owners are mapped.
    owners: Option<&'a IdMap>,
    /// Folders whose times are set at the end, after what is made in them.
    folders: Vec<(OwnedFd, Time)>,
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Cleans a name of an archive; `None` if it leads out of the folder.
fn relative(name: &[u8]) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if !clean.pop() {
                    return None;
                }
            }
            part => clean.push(std::ffi::OsStr::from_bytes(part)),
        }
    }
    Some(clean)
}

impl<'a> Place<'a> {
    /// `folder` beneath `root`.
    pub(super) fn new(root: BorrowedFd<'a>, folder: &'a Path, options: &Extract) -> Self {
        Self { root, folder, keep_kinds: options.keep_kinds, owner: None, owners: None, folders: Vec::new() }
    }

    /// Gives everything to `owner`, if there is one, in the place of the archive's; either is one of the container's, which
    /// has them mapped by `owners`.
    pub(super) fn owned_by(self, owner: Option<Owner>, owners: Option<&'a IdMap>) -> Self {
        Self { owner, owners, ..self }
    }

    /// Unpacks an archive (plain, gzip or zstd). What came into a volume or a folder of the host is on disk afterwards; a
    /// container's own layer is as lasting as what the container writes itself.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for what is no archive, would leave the folder, or is of an owner that the container does not have;
    /// the system's.
    pub(super) fn extract(mut self, reader: &mut dyn BufRead) -> Result<()> {
        let broken = |error: std::io::Error| Error::invalid(format!("Error processing tar file: {error}"));
        let mut archive = Reader::new(store::decompress_buffered(reader).map_err(broken)?);
        while let Some(entry) = archive.next_entry().map_err(broken)? {
            self.entry(&entry, &mut archive)?;
        }
        self.finish()?;
        sync_if_lasting(self.root, self.folder)
            .map_err(|errno| Error::known(Kind::Internal, format!("sync {}: {errno}", self.folder.display())))
    }

    /// Whose an entry becomes, as it is seen here.
    fn owner_of(&self, entry: &Entry) -> Result<(Uid, Gid)> {
        let owner = self.owner.unwrap_or((entry.uid, entry.gid));
        let seen = self.owners.map_or(Some(owner), |map| map.outside(owner));
        let (uid, gid) = seen.ok_or_else(|| {
            let name = self.folder.join(shown(&entry.name));
            Error::invalid(format!(
                "Container ID {}:{} of {} cannot be mapped to a host ID",
                owner.0,
                owner.1,
                name.display()
            ))
        })?;
        Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    fn failed(&self, operation: &str, name: &[u8]) -> impl FnOnce(Errno) -> Error + use<> {
        let text = format!("{operation} {}", self.folder.join(shown(name)).display());
        move |errno| {
            let kind = match errno {
                Errno::ROFS | Errno::PERM | Errno::ACCESS => Kind::Forbidden,
                _ => Kind::Internal,
            };
            Error::known(kind, format!("{text}: {}", sys::message(errno)))
        }
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> Result<()> {
        let outside = || {
            Error::invalid(format!("invalid tar: {:?} is outside of {:?}", shown(&entry.name), self.folder))
        };
        let path = relative(&entry.name).ok_or_else(outside)?;
        let Some(name) = path.file_name() else { return Ok(()) };
        let parent_path = self.folder.join(path.parent().unwrap_or(Path::new("")));
        let parent = sys::path::mkdir_all_in_root(self.root, &parent_path, 0o755)
            .map_err(|error| self.failed("create", &entry.name)(error.errno()))?;
        self.make_room(parent.as_fd(), name, entry)?;
        match entry.kind {
            EntryKind::Directory => self.directory(parent.as_fd(), name, entry),
            EntryKind::File => self.file(parent.as_fd(), name, entry, archive),
            EntryKind::HardLink => self.hard_link(parent.as_fd(), name, entry),
            EntryKind::Symlink => {
                symlinkat(entry.link.as_slice(), &parent, name)
                    .map_err(self.failed("create", &entry.name))?;
                self.settle(parent.as_fd(), name, entry)
            }
            EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                let kind = match entry.kind {
                    EntryKind::CharacterDevice => FileType::CharacterDevice,
                    EntryKind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(entry.device.0, entry.device.1);
                mknodat(&parent, name, kind, Mode::empty(), device)
                    .map_err(self.failed("create", &entry.name))?;
                self.settle(parent.as_fd(), name, entry)?;
                self.mode_of_node(parent.as_fd(), name, kind, entry)
            }
        }
    }

    /// Takes away what is in the way, but a folder for a folder.
    fn make_room(&self, parent: BorrowedFd<'_>, name: &std::ffi::OsStr, entry: &Entry) -> Result<()> {
        let found: Stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("look at", &entry.name)(errno)),
        };
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let wants_folder = entry.kind == EntryKind::Directory;
        if is_folder && wants_folder {
            return Ok(());
        }
        // moby's texts, which name the folder that is copied to as what is put there.
        let here = self.folder.join(relative(&entry.name).unwrap_or_default());
        let new = self.folder;
        if self.keep_kinds && is_folder {
            return Err(Error::invalid(format!(
                "cannot overwrite directory {here:?} with non-directory {new:?}"
            )));
        }
        if self.keep_kinds && wants_folder {
            return Err(Error::invalid(format!(
                "cannot overwrite non-directory {here:?} with directory {new:?}"
            )));
        }
        remove(parent, name, is_folder, MAX_DEPTH).map_err(self.failed("replace", &entry.name))
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &std::ffi::OsStr, entry: &Entry) -> Result<()> {
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.failed("create", &entry.name)(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty()).map_err(self.failed("open", &entry.name))?;
        self.attributes(fd.as_fd(), entry)?;
        self.folders.push((fd, entry.modified));
        // Descriptors are few: a big tree's times are set in parts.
        if self.folders.len() > 256 {
            self.finish()?;
        }
        Ok(())
    }

    fn file<R: BufRead>(
        &self,
        parent: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
        entry: &Entry,
        archive: &mut Reader<R>,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(self.failed("create", &entry.name))?;
        let outcome = self.contents(File::from(fd), entry, archive);
        if outcome.is_err() {
            // Half a file is worse than none.
            unlinkat(parent, name, AtFlags::empty()).ok();
        }
        outcome
    }

    fn contents<R: BufRead>(&self, mut file: File, entry: &Entry, archive: &mut Reader<R>) -> Result<()> {
        let written = |error: std::io::Error| {
            Error::known(
                Kind::Internal,
                format!("write {}: {error}", self.folder.join(shown(&entry.name)).display()),
            )
        };
        loop {
            let data = archive
                .data()
                .map_err(|error| Error::invalid(format!("Error processing tar file: {error}")))?;
            if data.is_empty() {
                break;
            }
            let count = data.len();
            // Zeros become holes, so that sparse files stay sparse.
            if data.iter().all(|byte| *byte == 0) {
                file.seek_relative(i64::try_from(count).unwrap_or(i64::MAX)).map_err(written)?;
            } else {
                file.write_all(data).map_err(written)?;
            }
            archive.consume(count);
        }
        let end = file.stream_position().map_err(written)?;
        file.set_len(end).map_err(written)?;
        self.attributes(file.as_fd(), entry)?;
        futimens(&file, &times(entry.modified)).map_err(self.failed("set the time of", &entry.name))
    }

    fn hard_link(&self, parent: BorrowedFd<'_>, name: &std::ffi::OsStr, entry: &Entry) -> Result<()> {
        let outside = || {
            Error::invalid(format!("invalid hardlink {:?} -> {:?}", shown(&entry.name), shown(&entry.link)))
        };
        let target = self.folder.join(relative(&entry.link).ok_or_else(outside)?);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = sys::path::open_in_root(self.root, &target, flags)
            .map_err(|error| self.failed("link to", &entry.link)(error.errno()))?;
        let path = sys::path::of_descriptor(target.as_fd());
        linkat(rustix::fs::CWD, &path, parent, name, AtFlags::SYMLINK_FOLLOW)
            .map_err(self.failed("link", &entry.name))
    }

    /// Owner, mode and extended attributes, in this order: a change of owner clears set-ID bits and capabilities.
    fn attributes(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.owner_of(entry)?;
        fchown(fd, Some(uid), Some(gid)).map_err(self.failed("chown", &entry.name))?;
        fchmod(fd, Mode::from_raw_mode(entry.mode & 0o7777))
            .map_err(self.failed("set the mode of", &entry.name))?;
        for (name, value) in &entry.xattrs {
            // Only what an image's layer may have, too: nothing that belongs to the host or to overlayfs.
            if name.starts_with(b"user.") || name == b"security.capability" {
                match fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                    Ok(()) | Err(Errno::OPNOTSUPP) => {}
                    Err(errno) => return Err(self.failed("set an attribute of", &entry.name)(errno)),
                }
            }
        }
        Ok(())
    }

    /// Owner and time of what has no descriptor.
    fn settle(&self, parent: BorrowedFd<'_>, name: &std::ffi::OsStr, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.owner_of(entry)?;
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed("chown", &entry.name))?;
        utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed("set the time of", &entry.name))
    }

    /// Sets the mode of a device or pipe: through a descriptor, since a mode cannot be set without following a link
    /// that has the name by now.
    fn mode_of_node(
        &self,
        parent: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
        kind: FileType,
        entry: &Entry,
    ) -> Result<()> {
        let set = || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = openat(parent, name, flags, Mode::empty())?;
            if FileType::from_raw_mode(fstat(&node)?.st_mode) != kind {
                return Err(Errno::AGAIN);
            }
            rustix::fs::chmod(
                sys::path::of_descriptor(node.as_fd()),
                Mode::from_raw_mode(entry.mode & 0o7777),
            )
        };
        set().map_err(self.failed("set the mode of", &entry.name))
    }

    fn finish(&mut self) -> Result<()> {
        while let Some((fd, time)) = self.folders.pop() {
            futimens(&fd, &times(time)).map_err(|errno| {
                Error::known(
                    Kind::Internal,
                    format!("set the time of a folder in {}: {errno}", self.folder.display()),
                )
            })?;
        }
        Ok(())
    }
}

fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes a name with all below it, following no link.
fn remove(
    parent: BorrowedFd<'_>,
    name: &std::ffi::OsStr,
    is_folder: bool,
    levels: usize,
) -> Result<(), Errno> {
    if !is_folder {
        return unlinkat(parent, name, AtFlags::empty());
    }
    let levels = levels.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        let below = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        remove(folder.as_fd(), std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()), below, levels)?;
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::tar::Writer;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wharf-extract-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("dest")).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, data) in entries {
            let own = std::fs::metadata("/proc/self").unwrap();
            use std::os::unix::fs::MetadataExt as _;
            let entry = Entry { size: data.len() as u64, uid: own.uid(), gid: own.gid(), ..entry.clone() };
            writer.append(&entry, &mut &**data).unwrap();
        }
        writer.finish().unwrap()
    }

    fn named(name: &str, kind: EntryKind) -> Entry {
        Entry { name: name.as_bytes().to_vec(), kind, mode: 0o755, ..Entry::default() }
    }

    fn unpack(scratch: &Scratch, bytes: &[u8], options: &Extract) -> Result<()> {
        let root = sys::path::open_directory(&scratch.0).unwrap();
        Place::new(root.as_fd(), Path::new("/dest"), options).extract(&mut &*bytes)
    }

    #[test]
    fn files_and_folders_are_made_and_replaced() {
        let scratch = Scratch::new("plain");
        let link = Entry { link: b"a/f".to_vec(), ..named("l", EntryKind::Symlink) };
        let hard = Entry { link: b"a/f".to_vec(), ..named("h", EntryKind::HardLink) };
        let bytes = archive(&[
            (named("a/", EntryKind::Directory), b""),
            (named("a/f", EntryKind::File), b"one"),
            (link, b""),
            (hard, b""),
            (named("implied/g", EntryKind::File), b"two"),
        ]);
        unpack(&scratch, &bytes, &Extract::default()).unwrap();
        unpack(&scratch, &bytes, &Extract::default()).unwrap();
        let read = |path: &str| std::fs::read_to_string(scratch.0.join("dest").join(path)).unwrap();
        assert_eq!(
            (read("a/f"), read("l"), read("h"), read("implied/g")),
            ("one".into(), "one".into(), "one".into(), "two".into())
        );
        let clash = archive(&[(named("a", EntryKind::File), b"x")]);
        let keep = Extract { keep_kinds: true, ..Extract::default() };
        let refusal = unpack(&scratch, &clash, &keep).unwrap_err().to_string();
        assert_eq!(refusal, "cannot overwrite directory \"/dest/a\" with non-directory \"/dest\"");
        unpack(&scratch, &clash, &Extract::default()).unwrap();
        assert_eq!(read("a"), "x");
    }

    #[test]
    fn nothing_leaves_the_folder_or_the_root() {
        let scratch = Scratch::new("escape");
        let outside = std::env::temp_dir().join(format!("wharf-extract-victim-{}", std::process::id()));
        for name in ["../x", "a/../../x", "/../x"] {
            let bytes = archive(&[(named(name, EntryKind::File), b"x")]);
            assert_eq!(
                base::Classify::kind(&unpack(&scratch, &bytes, &Extract::default()).unwrap_err()),
                Kind::InvalidArgument
            );
        }
        // A link to the host's root is a link to the container's root.
        let link = Entry { link: b"/".to_vec(), ..named("root", EntryKind::Symlink) };
        let name = format!("root{}", outside.display());
        let bytes = archive(&[(link, b""), (named(&name, EntryKind::File), b"x")]);
        unpack(&scratch, &bytes, &Extract::default()).unwrap();
        assert!(!outside.exists());
        assert!(scratch.0.join(outside.strip_prefix("/").unwrap()).exists());
    }

    #[test]
    fn users_are_found_in_the_containers_own_files() {
        let scratch = Scratch::new("user");
        std::fs::create_dir_all(scratch.0.join("etc")).unwrap();
        std::fs::write(scratch.0.join("etc/passwd"), "app:x:7:8::/:/bin/sh\n").unwrap();
        std::fs::write(scratch.0.join("etc/group"), "web:x:9:\n").unwrap();
        let root = sys::path::open_directory(&scratch.0).unwrap();
        for (text, expect) in [
            ("app", Some((7, 8))),
            ("app:web", Some((7, 9))),
            ("5:6", Some((5, 6))),
            ("5", Some((5, 0))),
            ("no", None),
        ] {
            assert_eq!(user(root.as_fd(), text), expect, "{text}");
        }
    }
}
