//! Copying what was found in one tree into another: content, modes, owners, links, attributes, times.
//!
//! Everything is made by single names in descriptors; what is in the way of a file is replaced, a folder is merged.

use crate::error::{Error, Result};
use crate::owner::Modes;
use crate::place::{self, Make, kind, list, open_folder};
use crate::tree::{self, Found, attributes, is_left_out, open_file};
use dockerfile::Patterns;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is read at once; a file that is no longer is not worth asking the kernel to share or copy it.
const BUFFER: usize = 1 << 17;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The owner of everything; `None` keeps owners.
    pub(crate) owner: Option<(u32, u32)>,
    /// What modes become.
    pub(crate) modes: Option<Modes>,
    /// What is left out.
    pub(crate) exclude: Patterns,
    /// Whether the folders of the sources are kept.
    pub(crate) parents: bool,
    /// The latest time that files may have (seconds since 1970).
    pub(crate) latest: Option<i64>,
    /// Whether what the files of the source hold never changes, and no two of its names are one file: then a file that
    /// would be copied as it is may be the same file.
    pub(crate) shared: bool,
}

/// Copies `found` to the absolute path `target` beneath `root`. A target that ends in a slash is a folder.
///
/// # Errors
///
/// That something cannot be read or made.
pub(crate) fn copy(found: &[Found], root: BorrowedFd<'_>, target: &str, options: &Options) -> Result<()> {
    let (uid, gid) = options.owner.unwrap_or((0, 0));
    let make = Make { uid, gid };
    let is_folder = target.ends_with('/') || options.parents;
    let mut copier = Copier { options, links: HashMap::new(), buffer: vec![0; BUFFER] };
    if is_folder {
        drop(place::folder(root, target.as_bytes(), make).map_err(Error::name("create", target.as_bytes()))?);
    }
    for one in found {
        let name = String::from_utf8_lossy(&one.name()).into_owned();
        let source_is_folder = one.place.is_folder();
        if !source_is_folder && options.exclude.matches(&name) {
            continue;
        }
        let base = if options.parents { parent_target(target, one) } else { target.to_owned() };
        let failed = || Error::name("create", base.as_bytes());
        let mut place = place::find(root, base.as_bytes(), true, Some(make)).map_err(failed())?;
        if source_is_folder && place.stat.is_none() {
            // What a folder holds is copied, not the folder: a new one is like those above it.
            drop(place::folder(root, base.as_bytes(), make).map_err(failed())?);
            place = place::find(root, base.as_bytes(), true, None).map_err(failed())?;
        }
        if !source_is_folder && (place.is_folder() || is_folder) {
            let inner = format!("{}/{name}", base.trim_end_matches('/'));
            place = place::find(root, inner.as_bytes(), false, Some(make)).map_err(failed())?;
        }
        if source_is_folder && place.stat.is_some() && !place.is_folder() {
            return Err(Error::Invalid(format!("cannot copy to non-directory: {base}")));
        }
        copier.entry(
            (one.place.parent.as_fd(), &one.place.name),
            (place.parent.as_fd(), &place.name),
            &mut Vec::new(),
        )?;
    }
    Ok(())
}

/// With `--parents`, the folders of a source are kept: all, or those after the `/./` in it.
fn parent_target(target: &str, found: &Found) -> String {
    let mut path: Vec<String> =
        found.path.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    if !found.place.is_folder() {
        path.pop();
    }
    format!("{}/{}/", target.trim_end_matches('/'), path.join("/"))
}

/// A folder and a name in it.
type Name<'a> = (BorrowedFd<'a>, &'a [u8]);

struct Copier<'a> {
    options: &'a Options,
    /// Where the first name of a file with several was copied to.
    links: HashMap<(u64, u64), (OwnedFd, CString)>,
    /// For small files.
    buffer: Vec<u8>,
}

impl Copier<'_> {
    fn entry(&mut self, from: Name<'_>, to: Name<'_>, path: &mut Vec<Vec<u8>>) -> Result<()> {
        let shown = path.join(&b'/');
        let stat = statat(from.0, from.1, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::name("stat", &shown))?;
        match kind(&stat) {
            FileType::Directory => self.folder(from, to, &stat, path),
            FileType::RegularFile => self.file(from, to, &stat, &shown),
            FileType::Symlink => {
                make_room(to).map_err(Error::name("replace", to.1))?;
                let target = readlinkat(from.0, from.1, Vec::new()).map_err(Error::name("read", &shown))?;
                symlinkat(target, to.0, to.1).map_err(Error::name("create", to.1))?;
                self.settle(to, &stat)
            }
            // Nobody can read from it.
            FileType::Socket | FileType::Unknown => Ok(()),
            other => {
                make_room(to).map_err(Error::name("replace", to.1))?;
                let mode = self.mode(&stat);
                mknodat(to.0, to.1, other, mode, stat.st_rdev).map_err(Error::name("create", to.1))?;
                self.settle(to, &stat)
            }
        }
    }

    fn folder(&mut self, from: Name<'_>, to: Name<'_>, stat: &Stat, path: &mut Vec<Vec<u8>>) -> Result<()> {
        let shown = path.join(&b'/');
        if path.len() > 500 {
            return Err(Error::Invalid(format!("the tree is too deep: {}", String::from_utf8_lossy(&shown))));
        }
        let source = open_folder(from.0, from.1).map_err(Error::name("open", &shown))?;
        let there = match statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Some(kind(&there)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(Error::name("stat", to.1)(errno)),
        };
        match there {
            Some(FileType::Directory) => {}
            Some(_) => {
                let to = String::from_utf8_lossy(to.1).into_owned();
                return Err(Error::Invalid(format!("cannot copy to non-directory: {to}")));
            }
            None => mkdirat(to.0, to.1, Mode::RWXU).map_err(Error::name("create", to.1))?,
        }
        let target = open_folder(to.0, to.1).map_err(Error::name("open", to.1))?;
        for name in list(source.as_fd()).map_err(Error::name("list", &shown))? {
            path.push(name.clone());
            if !is_left_out(&self.options.exclude, path, source.as_fd(), &name) {
                self.entry((source.as_fd(), &name), (target.as_fd(), &name), path)?;
            }
            path.pop();
        }
        // At the top the folder keeps what it is; below, the source decides.
        if !path.is_empty() {
            self.finish(&target, source.as_fd(), stat, to.1)?;
        }
        Ok(())
    }

    fn file(&mut self, from: Name<'_>, to: Name<'_>, stat: &Stat, shown: &[u8]) -> Result<()> {
        // Where it cannot be linked (another file system, too many links, something in the way) it is copied.
        if self.options.shared
            && self.stays_as_it_is(stat)
            && linkat(from.0, from.1, to.0, to.1, AtFlags::empty()).is_ok()
        {
            return Ok(());
        }
        make_room(to).map_err(Error::name("replace", to.1))?;
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 && !self.options.shared {
            if let Some((folder, first)) = self.links.get(&identity) {
                return linkat(folder, first.as_c_str(), to.0, to.1, AtFlags::empty())
                    .map_err(Error::name("link", to.1));
            }
            let folder =
                openat(to.0, c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(Error::name("open", b"."))?;
            if let Ok(name) = CString::new(to.1) {
                self.links.insert(identity, (folder, name));
            }
        }
        let source = open_file(from.0, from.1, shown)?;
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target =
            openat(to.0, to.1, create, Mode::RUSR | Mode::WUSR).map_err(Error::name("create", to.1))?;
        let is_small = usize::try_from(stat.st_size).is_ok_and(|size| size <= BUFFER);
        let copied =
            if is_small { through(&source, &target, &mut self.buffer) } else { contents(&source, &target) };
        copied.map_err(Error::name("write", to.1))?;
        self.finish(&target, source.as_fd(), stat, to.1)
    }

    /// Whether a copy of a file differs from it in nothing.
    fn stays_as_it_is(&self, stat: &Stat) -> bool {
        let time =
            Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        self.options.owner.is_none_or(|owner| owner == (stat.st_uid, stat.st_gid))
            && self.mode(stat) == Mode::from_raw_mode(stat.st_mode & 0o7777)
            && self.times(stat).last_modification == time
    }

    /// Owner, mode, attributes, times: in this order, since a change of owner clears set-ID bits and capabilities.
    fn finish(&self, target: &OwnedFd, source: BorrowedFd<'_>, stat: &Stat, name: &[u8]) -> Result<()> {
        let (uid, gid) = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        fchown(target, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(Error::name("chown", name))?;
        fchmod(target, self.mode(stat)).map_err(Error::name("chmod", name))?;
        for (attribute, value) in attributes(source)? {
            match fsetxattr(target, attribute.as_slice(), &value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(Error::name("set an attribute of", name)(errno)),
            }
        }
        futimens(target, &self.times(stat)).map_err(Error::name("set the time of", name))
    }

    /// Owner and times of what has no descriptor.
    fn settle(&self, to: Name<'_>, stat: &Stat) -> Result<()> {
        let (uid, gid) = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(to.0, to.1, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::name("chown", to.1))?;
        if !matches!(kind(stat), FileType::Symlink) {
            rustix::fs::chmodat(to.0, to.1, self.mode(stat), AtFlags::empty())
                .map_err(Error::name("chmod", to.1))?;
        }
        utimensat(to.0, to.1, &self.times(stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::name("set the time of", to.1))
    }

    fn mode(&self, stat: &Stat) -> Mode {
        let mode = stat.st_mode & 0o7777;
        let is_folder = kind(stat) == FileType::Directory;
        Mode::from_raw_mode(self.options.modes.as_ref().map_or(mode, |modes| modes.apply(mode, is_folder)))
    }

    fn times(&self, stat: &Stat) -> Timestamps {
        let time = |seconds: i64, nanos: u64| match self.options.latest {
            Some(latest) if seconds >= latest => Timespec { tv_sec: latest, tv_nsec: 0 },
            _ => Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) },
        };
        let modified = time(stat.st_mtime, stat.st_mtime_nsec);
        Timestamps { last_access: modified, last_modification: modified }
    }
}

/// Takes away what a file is to replace; a folder stays in the way.
fn make_room(to: Name<'_>) -> Result<(), Errno> {
    match unlinkat(to.0, to.1, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Copies bytes: shares them if the file system can, else lets the kernel copy, else through memory.
fn contents(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    loop {
        match rustix::fs::copy_file_range(from, None, to, None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    through(from, to, &mut vec![0; BUFFER])
}

/// Copies bytes through memory.
fn through(from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> Result<(), Errno> {
    loop {
        let count = rustix::io::read(from, &mut *buffer)?;
        let Some(mut rest) = buffer.get(..count).filter(|rest| !rest.is_empty()) else { return Ok(()) };
        while !rest.is_empty() {
            let written = rustix::io::write(to, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

/// A file that comes from no tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewFile<'a> {
    /// The name it gets in a folder.
    pub(crate) name: &'a str,
    /// Its permissions, unless they are said.
    pub(crate) mode: u32,
    /// When it was last changed (seconds since 1970); now if that is not known.
    pub(crate) time: Option<i64>,
}

/// Makes a file of what `from` holds at `target` beneath `root`; in it, if it is a folder.
///
/// # Errors
///
/// That it cannot be made.
pub(crate) fn write(
    root: BorrowedFd<'_>,
    target: &str,
    new: NewFile<'_>,
    from: &mut dyn std::io::Read,
    options: &Options,
) -> Result<()> {
    let NewFile { name, mode, time } = new;
    let (uid, gid) = options.owner.unwrap_or((0, 0));
    let make = Make { uid, gid };
    if target.ends_with('/') {
        drop(place::folder(root, target.as_bytes(), make).map_err(Error::name("create", target.as_bytes()))?);
    }
    let failed = || Error::name("create", target.as_bytes());
    let mut place = place::find(root, target.as_bytes(), true, Some(make)).map_err(failed())?;
    if place.is_folder() {
        let inner = format!("{}/{name}", target.trim_end_matches('/'));
        place = place::find(root, inner.as_bytes(), false, Some(make)).map_err(failed())?;
    }
    let to = (place.parent.as_fd(), place.name.as_slice());
    make_room(to).map_err(Error::name("replace", to.1))?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(to.0, to.1, create, Mode::RUSR | Mode::WUSR).map_err(Error::name("create", to.1))?;
    let mut file = std::fs::File::from(fd);
    std::io::copy(from, &mut file).map_err(Error::name("write", to.1))?;
    fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(Error::name("chown", to.1))?;
    let mode = options.modes.as_ref().map_or(mode, |modes| modes.apply(mode, false));
    fchmod(&file, Mode::from_raw_mode(mode)).map_err(Error::name("chmod", to.1))?;
    if let Some(seconds) = time.or(options.latest) {
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: time, last_modification: time })
            .map_err(Error::name("set the time of", to.1))?;
    }
    Ok(())
}

/// Sets the times of everything in a tree that is later to `latest`.
///
/// # Errors
///
/// That something cannot be looked at or changed.
pub(crate) fn limit_times(folder: BorrowedFd<'_>, latest: i64, depth: usize) -> Result<()> {
    let time = Timespec { tv_sec: latest, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for name in list(folder).map_err(Error::name("list", b"."))? {
        let stat =
            statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(Error::name("stat", &name))?;
        if kind(&stat) == FileType::Directory && depth < 500 {
            let inner = open_folder(folder, &name).map_err(Error::name("open", &name))?;
            limit_times(inner.as_fd(), latest, depth + 1)?;
        }
        if stat.st_mtime >= latest {
            utimensat(folder, name.as_slice(), &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(Error::name("set the time of", &name))?;
        }
    }
    Ok(())
}

/// Finds the sources of one instruction in a tree. `--parents` cuts paths at `/./`.
///
/// # Errors
///
/// That one is not there.
pub(crate) fn sources(root: BorrowedFd<'_>, paths: &[String], parents: bool) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for path in paths {
        let found = tree::find(root, path)?;
        let cut = match path.split_once("/./") {
            Some((before, _)) if parents => tree::clip(before).len(),
            _ => 0,
        };
        all.extend(found.into_iter().map(|mut one| {
            one.path.drain(..cut.min(one.path.len()));
            one
        }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;
    use std::fs::File;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    struct Trees {
        scratch: Scratch,
    }

    impl Trees {
        fn new() -> Self {
            let scratch = Scratch::new();
            let from = scratch.path().join("from");
            std::fs::create_dir_all(from.join("dir/sub")).unwrap();
            std::fs::create_dir_all(scratch.path().join("to/etc")).unwrap();
            std::fs::write(from.join("file"), "file").unwrap();
            std::fs::write(from.join("dir/one"), "one").unwrap();
            std::fs::hard_link(from.join("dir/one"), from.join("dir/two")).unwrap();
            std::fs::write(from.join("dir/sub/deep.o"), "deep").unwrap();
            std::os::unix::fs::symlink("one", from.join("dir/link")).unwrap();
            std::os::unix::fs::symlink("file", from.join("alias")).unwrap();
            std::os::unix::fs::symlink("/etc", scratch.path().join("to/conf")).unwrap();
            Self { scratch }
        }

        fn copy(&self, paths: &[&str], target: &str, options: &Options) -> Result<()> {
            let from = File::open(self.scratch.path().join("from")).unwrap();
            let to = File::open(self.scratch.path().join("to")).unwrap();
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let found = sources(from.as_fd(), &paths, options.parents)?;
            copy(&found, to.as_fd(), target, options)
        }

        fn at(&self, path: &str) -> std::path::PathBuf {
            self.scratch.path().join("to").join(path)
        }

        fn listing(&self) -> Vec<String> {
            fn walk(folder: &std::path::Path, prefix: &str, all: &mut Vec<String>) {
                let mut names: Vec<_> =
                    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                names.sort();
                for name in names {
                    let path = folder.join(&name);
                    let shown = format!("{prefix}{}", name.to_str().unwrap());
                    if path.symlink_metadata().unwrap().is_dir() {
                        walk(&path, &format!("{shown}/"), all);
                    } else {
                        all.push(shown);
                    }
                }
            }
            let mut all = Vec::new();
            walk(&self.at(""), "", &mut all);
            all
        }
    }

    #[test]
    fn where_things_go() {
        for (paths, target, expect) in [
            (&["file"][..], "/x", &["conf", "x"][..]),
            (&["file"], "/x/", &["conf", "x/file"]),
            (&["file"], "/etc", &["conf", "etc/file"]),
            (&["file"], "/conf/", &["conf", "etc/file"]),
            (&["file"], "/conf/new/x", &["conf", "etc/new/x"]),
            (&["alias"], "/x/", &["conf", "x/alias"]),
            (&["dir"], "/x", &["conf", "x/link", "x/one", "x/sub/deep.o", "x/two"]),
            (&["dir", "file"], "/x/", &["conf", "x/file", "x/link", "x/one", "x/sub/deep.o", "x/two"]),
            (&["dir/sub/*.o"], "/x/", &["conf", "x/deep.o"]),
        ] {
            let trees = Trees::new();
            trees.copy(paths, target, &Options::default()).unwrap();
            assert_eq!(trees.listing(), expect, "{paths:?} {target}");
        }
        let trees = Trees::new();
        trees.copy(&["file"], "/x", &Options::default()).unwrap();
        let error = trees.copy(&["dir"], "/x", &Options::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot copy to non-directory: /x");
    }

    #[test]
    fn links_modes_and_exclusions() {
        let trees = Trees::new();
        let options = Options {
            modes: Some(Modes::parse("u=rwX,go=").unwrap()),
            exclude: Patterns::new(["**/*.o"]).unwrap(),
            ..Options::default()
        };
        trees.copy(&["dir"], "/x", &options).unwrap();
        assert_eq!(trees.listing(), ["conf", "x/link", "x/one", "x/two"]);
        let (one, two) = (trees.at("x/one").metadata().unwrap(), trees.at("x/two").metadata().unwrap());
        assert_eq!(one.ino(), two.ino());
        assert_eq!(one.permissions().mode() & 0o7777, 0o600);
        assert_eq!(trees.at("x/sub").metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::read_link(trees.at("x/link")).unwrap().to_str(), Some("one"));
    }

    #[test]
    fn files_that_stay_as_they_are_are_shared() {
        let trees = Trees::new();
        let inode = |path: &str| trees.at(path).metadata().unwrap().ino();
        let source = trees.scratch.path().join("from/dir/sub/deep.o").metadata().unwrap().ino();
        let later = i64::MAX;
        for (name, options, expect) in [
            ("plain", Options { shared: true, ..Options::default() }, true),
            ("private", Options::default(), false),
            (
                "mode",
                Options { modes: Some(Modes::parse("0604").unwrap()), shared: true, ..Options::default() },
                false,
            ),
            ("time", Options { latest: Some(7), shared: true, ..Options::default() }, false),
            ("later", Options { latest: Some(later), shared: true, ..Options::default() }, true),
        ] {
            trees.copy(&["dir/sub"], &format!("/{name}"), &options).unwrap();
            assert_eq!(inode(&format!("{name}/deep.o")) == source, expect, "{name}");
        }
        // What replaces a shared file leaves it alone.
        trees.copy(&["file"], "/plain/deep.o", &Options::default()).unwrap();
        assert_eq!(
            std::fs::read_to_string(trees.scratch.path().join("from/dir/sub/deep.o")).unwrap(),
            "deep"
        );
    }

    #[test]
    fn folders_of_sources_can_be_kept() {
        for (paths, expect) in [
            (&["dir/sub/deep.o"][..], &["conf", "x/dir/sub/deep.o"][..]),
            (&["dir/./sub/deep.o"], &["conf", "x/sub/deep.o"]),
            (&["dir/sub"], &["conf", "x/dir/sub/deep.o"]),
            (&["**/*.o"], &["conf", "x/dir/sub/deep.o"]),
        ] {
            let trees = Trees::new();
            trees.copy(paths, "/x/", &Options { parents: true, ..Options::default() }).unwrap();
            assert_eq!(trees.listing(), expect, "{paths:?}");
        }
    }
}
