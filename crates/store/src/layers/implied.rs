//! Directories that a layer's archive only implies, settled when the layers below are known.
//!
//! An archive may have `a/b` without an entry for `a`. Unpacked alone, `a` gets default metadata; over a layer that
//! has `a` with other metadata, overlayfs would show the default, where an engine that unpacks onto the lower layers
//! leaves `a` as it is. As a layer is unpacked once, whatever lies below, the difference becomes a tiny layer of its
//! own directly above it: directories only, with the metadata that counts. Most layers need none.

use super::Layer;
use super::extract::{OPAQUE_XATTR, is_allowed, open_beneath};
use super::name;
use crate::error::{At, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The metadata of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: (i64, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Metadata {
    /// Says whether a directory that is only implied looks like this anyway; times do not count.
    fn is_default(&self) -> bool {
        (self.mode, self.uid, self.gid) == (0o755, 0, 0) && self.xattrs.is_empty()
    }
}

/// What a layer has at a path.
enum Seen {
    /// A directory that the layer names itself.
    Directory(Metadata),
    /// Nothing that counts; the layers below do.
    Through,
    /// What lies below does not show here.
    Hidden,
}

/// The directories of the settling layer by name, parents first; empty if none is needed.
pub(crate) type Plan = BTreeMap<Vec<u8>, Metadata>;

/// Compares `layer` with the layers `below` it (nearest first).
pub(crate) fn plan(layer: &Layer, below: &[&Layer]) -> Result<Plan> {
    let mut needed = Plan::new();
    if below.is_empty() || layer.implied.is_empty() {
        return Ok(needed);
    }
    let own = open(&layer.path)?;
    let roots: Vec<(&Layer, OwnedFd)> =
        below.iter().map(|layer| Ok((*layer, open(&layer.path)?))).collect::<Result<_>>()?;
    for path in layer.implied.iter() {
        if let Some(metadata) = lookup(&own, path, &roots)?.filter(|metadata| !metadata.is_default()) {
            needed.insert(path.clone(), metadata);
        }
    }
    // Each of them needs its parents, with the metadata that shows.
    let paths: Vec<Vec<u8>> = needed.keys().cloned().collect();
    for path in paths {
        let mut rest = path.as_slice();
        while !rest.is_empty() {
            rest = name::split(rest).0;
            if needed.contains_key(rest) {
                continue;
            }
            let implied = layer.implied.iter().any(|implied| implied == rest);
            let found = if implied { lookup(&own, rest, &roots)? } else { None };
            let metadata = match found {
                Some(metadata) => metadata,
                None => read(&own, rest, &layer.path)?,
            };
            needed.insert(rest.to_vec(), metadata);
        }
    }
    Ok(needed)
}

/// Makes the settling layer in the empty directory `root`.
pub(crate) fn make(root: &Path, plan: &Plan) -> Result<()> {
    let top = open(root)?;
    for path in plan.keys().filter(|path| !path.is_empty()) {
        rustix::fs::mkdirat(&top, path.as_slice(), Mode::from_raw_mode(0o755)).at("settle", root)?;
    }
    for (path, metadata) in plan {
        let fd = open_beneath(&top, path, OFlags::RDONLY).at("settle", root)?;
        rustix::fs::fchown(&fd, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))
            .at("settle", root)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(metadata.mode)).at("settle", root)?;
        for (name, value) in &metadata.xattrs {
            rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty()).at("settle", root)?;
        }
        let time = Timespec { tv_sec: metadata.modified.0, tv_nsec: metadata.modified.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&fd, &times).at("settle", root)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

/// Finds the metadata that the layers below give to `path`, if they do.
fn lookup(own: &OwnedFd, path: &[u8], below: &[(&Layer, OwnedFd)]) -> Result<Option<Metadata>> {
    if is_hidden(own, path) {
        return Ok(None);
    }
    for (layer, root) in below {
        match see(layer, root, path)? {
            Seen::Directory(metadata) => return Ok(Some(metadata)),
            Seen::Hidden => return Ok(None),
            Seen::Through => {}
        }
    }
    Ok(None)
}

fn see(layer: &Layer, root: &OwnedFd, path: &[u8]) -> Result<Seen> {
    // From the root down: the first thing that is no directory, or is not there, decides.
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
    for end in ends.chain([path.len()]).filter(|end| *end > 0) {
        let part = path.get(..end).unwrap_or_default();
        match rustix::fs::statat(root, part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(_) => return Ok(Seen::Hidden),
            Err(Errno::NOENT) => {
                return Ok(if is_hidden(root, name::split(part).0) { Seen::Hidden } else { Seen::Through });
            }
            Err(error) => return Err(error).at("stat in", &layer.path),
        }
    }
    if layer.implied.iter().any(|implied| implied == path) {
        return Ok(if is_hidden(root, path) { Seen::Hidden } else { Seen::Through });
    }
    read(root, path, &layer.path).map(Seen::Directory)
}

/// Says whether a directory or one above it is opaque.
fn is_hidden(root: &OwnedFd, path: &[u8]) -> bool {
    let mut rest = path;
    while !rest.is_empty() {
        let mut value = [0; 1];
        let opaque = open_beneath(root, rest, OFlags::RDONLY)
            .is_ok_and(|fd| rustix::fs::fgetxattr(&fd, OPAQUE_XATTR, &mut value[..]) == Ok(1));
        if opaque && value == *b"y" {
            return true;
        }
        rest = name::split(rest).0;
    }
    false
}

fn read(root: &OwnedFd, path: &[u8], layer: &Path) -> Result<Metadata> {
    let fd = open_beneath(root, path, OFlags::RDONLY).at("open in", layer)?;
    let stat = rustix::fs::fstat(&fd).at("stat in", layer)?;
    let mut list = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(&fd, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        outcome => outcome.at("list attributes in", layer)?,
    };
    list.truncate(length);
    let mut xattrs = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| is_allowed(name)) {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::fgetxattr(&fd, name, &mut value[..]).at("read an attribute in", layer)?;
        value.truncate(length);
        xattrs.push((name.to_vec(), value));
    }
    Ok(Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        xattrs,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Archive, store};
    use crate::tar::{Entry, Kind};
    use oci::Digest;
    use std::os::unix::fs::MetadataExt;

    fn directory(name: &str, mode: u32) -> Entry {
        Entry { name: name.into(), kind: Kind::Directory, mode, ..Entry::default() }
    }

    #[test]
    fn metadata_below_shines_through_implied_directories() {
        let (_scratch, store) = store();
        let add = |archive: Archive| -> Digest {
            store.layers().unpack_unknown(&mut &*archive.finish()).unwrap().diff_id
        };
        let base = add(Archive::new()
            .entry(directory("./", 0o700), b"")
            .entry(directory("tmp", 0o1777), b"")
            .entry(directory("tmp/plain", 0o755), b"")
            .entry(directory("var", 0o711), b""));
        let implies = add(Archive::new().file("tmp/plain/x", b"x").file("new/y", b"y"));
        let explicit =
            add(Archive::new().entry(directory("./", 0o700), b"").entry(directory("tmp", 0o1777), b""));
        let lower = store.layers().lower_dirs(&[base.clone(), implies.clone()]).unwrap();
        assert_eq!(lower.len(), 3, "one settling layer: {lower:?}");
        let mode =
            |name: &str| lower[0].join(name).symlink_metadata().map(|metadata| metadata.mode() & 0o7777).ok();
        assert_eq!(
            [mode(""), mode("tmp"), mode("tmp/plain"), mode("new")],
            [Some(0o700), Some(0o1777), None, None]
        );
        assert_eq!(store.layers().lower_dirs(&[base.clone(), implies.clone()]).unwrap(), lower, "made once");
        assert_eq!(store.layers().lower_dirs(&[implies.clone(), base.clone()]).unwrap().len(), 2);
        assert_eq!(store.layers().lower_dirs(&[base.clone(), explicit]).unwrap().len(), 2);
        // Through a layer that implies the same, and not past a layer that removes it.
        let between = add(Archive::new().file("tmp/z", b"z"));
        let lower = store.layers().lower_dirs(&[base.clone(), between, implies.clone()]).unwrap();
        assert_eq!(lower[0].join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
        let replaced = add(Archive::new().entry(directory("./", 0o755), b"").file("tmp", b"a file"));
        assert_eq!(store.layers().lower_dirs(&[base, replaced, implies]).unwrap().len(), 3);
    }
}
