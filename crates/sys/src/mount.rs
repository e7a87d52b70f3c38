//! Mounts as descriptors: made detached, changed while nobody sees them, attached in one step.
//!
//! fsopen(2), `open_tree(2)` and `mount_setattr(2)`, kernel ≥ 5.12. A detached mount disappears with its last descriptor.

use crate::raw::{self, MountAttributes};
use crate::{Error, Result};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};
use std::path::{Path, PathBuf};

pub use crate::overlay::{Owners, clear_volatile, overlay, overlay_owned, overlay_view, overlay_view_owned};

/// `MOUNT_ATTR_RDONLY`.
pub const ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub const ATTR_NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const ATTR_NODEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub const ATTR_NOEXEC: u64 = 0x8;
/// `MOUNT_ATTR__ATIME`: the bits of the access-time setting, cleared together.
pub const ATTR_ATIME: u64 = 0x70;
/// `MOUNT_ATTR_NOATIME`.
pub const ATTR_NOATIME: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`.
pub const ATTR_STRICTATIME: u64 = 0x20;
/// `MOUNT_ATTR_NODIRATIME`.
pub const ATTR_NODIRATIME: u64 = 0x80;
/// `MOUNT_ATTR_NOSYMFOLLOW`.
pub const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;
/// `MOUNT_ATTR_IDMAP`.
pub const ATTR_IDMAP: u64 = 0x10_0000;

/// How mount events travel (`mount_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Only in.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and cannot be bound.
    Unbindable,
}

impl Propagation {
    /// Returns the `MS_*` value.
    pub fn flag(self) -> u64 {
        match self {
            Self::Shared => 1 << 20,
            Self::Slave => 1 << 19,
            Self::Private => 1 << 18,
            Self::Unbindable => 1 << 17,
        }
    }
}

/// Makes a detached mount of a new file system of type `kind`; a parameter without value is a flag.
///
/// `attributes` are `ATTR_*`.
///
/// # Errors
///
/// `NODEV` for an unknown type, `INVAL` for an unknown parameter (named in the error), those of the file system.
pub fn new(kind: &str, parameters: &[(&str, Option<&str>)], attributes: u64) -> Result<OwnedFd> {
    let context =
        rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(Error::on("fsopen", kind))?;
    for (key, value) in parameters {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, *key, *value),
            None => rustix::mount::fsconfig_set_flag(&context, *key),
        }
        .map_err(|errno| failure(&context, kind, &format!("{key}={}", value.unwrap_or_default()), errno))?;
    }
    rustix::mount::fsconfig_create(&context).map_err(|errno| failure(&context, kind, "create", errno))?;
    let attributes = u32::try_from(attributes).unwrap_or(u32::MAX);
    rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attributes),
    )
    .map_err(Error::on("fsmount", kind))
}

/// What the kernel says about a failed step, with the file system's own words if it left any.
pub(crate) fn failure(context: &OwnedFd, kind: &str, step: &str, errno: Errno) -> Error {
    let mut text = [0; 256];
    let object = match rustix::io::read(context, &mut text) {
        Ok(length) => {
            let said = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).trim_end().to_owned();
            format!("{kind} {step} ({said})")
        }
        Err(_) => format!("{kind} {step}"),
    };
    Error::new("fsconfig", object, errno)
}

/// Makes a detached tmpfs.
///
/// # Errors
///
/// As [`new`].
pub fn tmpfs(parameters: &[(&str, &str)], attributes: u64) -> Result<OwnedFd> {
    let parameters: Vec<_> = parameters.iter().map(|(key, value)| (*key, Some(*value))).collect();
    new("tmpfs", &parameters, attributes)
}

/// Makes a detached copy of the mount that shows `path`, as by a bind mount; with all below it if `recursive`.
///
/// # Errors
///
/// Those of `open_tree(2)`.
pub fn bind(path: &Path, recursive: bool) -> Result<OwnedFd> {
    rustix::mount::open_tree(CWD, path, clone_flags(recursive)).map_err(Error::at("open_tree", path))
}

/// As [`bind`], of what the descriptor refers to.
///
/// # Errors
///
/// Those of `open_tree(2)`.
pub fn bind_fd(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    rustix::mount::open_tree(fd, c"", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
        .map_err(Error::on("open_tree", "descriptor"))
}

/// As [`bind_fd`] of a single mount, cut off from the one it is a copy of: what is mounted on it later is seen nowhere else.
///
/// # Errors
///
/// Those of `open_tree(2)` and `mount_setattr(2)`.
pub fn bind_private(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mount = bind_fd(fd, false)?;
    let private = MountAttributes { propagation: Propagation::Private.flag(), ..MountAttributes::default() };
    set_attributes(mount.as_fd(), &private, false)?;
    Ok(mount)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Changes the attributes of a mount; of all below it too if `recursive`.
///
/// # Errors
///
/// Those of `mount_setattr(2)`.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: &MountAttributes, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    raw::mount_setattr(mount, c"", flags, attributes).map_err(Error::on("mount_setattr", "descriptor"))
}

/// Attaches a detached mount where `target` refers to.
///
/// # Errors
///
/// Those of `move_mount(2)`; `NOTDIR` if one is a directory and the other is not.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::move_mount(
        mount,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(Error::on("move_mount", "descriptor"))
}

/// Attaches a detached mount at `path`, a path of the host that nobody else can change.
///
/// # Errors
///
/// As [`attach`].
pub fn attach_at(mount: BorrowedFd<'_>, path: &Path) -> Result<()> {
    rustix::mount::move_mount(mount, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Error::at("move_mount", path))
}

/// Unmounts what is on top at `path` and lets it go when its last user does. Nothing mounted there is fine.
///
/// # Errors
///
/// Those of umount2(2).
pub fn detach(path: &Path) -> Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::new("umount2", path.display(), errno)),
    }
}

/// Makes the whole tree of this mount namespace private, so that nothing travels out or in.
///
/// # Errors
///
/// Those of mount(2).
pub fn isolate() -> Result<()> {
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Error::on("mount", "/ as private"))
}

/// Lets what is mounted elsewhere come into this mount namespace, and nothing of it travel out.
///
/// # Errors
///
/// Those of mount(2).
pub fn follow() -> Result<()> {
    rustix::mount::mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(Error::on("mount", "/ as slave"))
}

/// One line of `/proc/PID/mountinfo` (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Root of the mount within its file system.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Options of the mount.
    pub options: String,
    /// `shared:N`, `master:N` and so on.
    pub tags: Vec<String>,
    /// Type of the file system.
    pub kind: String,
    /// Source, as the file system names it.
    pub source: String,
    /// Options of the file system.
    pub super_options: String,
}

/// Reads the mounts that this thread sees, in the order they were made.
///
/// # Errors
///
/// Those of reading `/proc/thread-self/mountinfo`.
pub fn table() -> Result<Vec<Entry>> {
    let path = Path::new("/proc/thread-self/mountinfo");
    let text = crate::path::read_to_end(path)?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(parse_entry).collect())
}

fn parse_entry(line: &str) -> Option<Entry> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let mut right = right.split(' ');
    Some(Entry {
        root: unescape(left.next()?).into(),
        point: unescape(left.next()?).into(),
        options: left.next()?.to_owned(),
        tags: left.map(str::to_owned).collect(),
        kind: right.next()?.to_owned(),
        source: unescape(right.next()?),
        super_options: right.next().unwrap_or_default().to_owned(),
    })
}

/// Undoes the kernel's `\040` for space, tab, line feed and backslash.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let octal = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (octal, part.get(3..)) {
            (Some(byte), Some(rest)) => {
                plain.push(char::from(byte));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Namespace, fresh};
    use rustix::fd::AsFd;

    #[test]
    fn mountinfo_lines_are_understood() {
        let entry = parse_entry(
            "36 35 98:0 /a\\040b /mnt\\0412 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue",
        )
        .unwrap();
        assert_eq!(entry.root, Path::new("/a b"));
        assert_eq!(entry.point, Path::new("/mnt!2"));
        assert_eq!(entry.tags, ["master:1", "shared:7"]);
        assert_eq!((entry.kind.as_str(), entry.super_options.as_str()), ("ext3", "rw,errors=continue"));
        assert_eq!(parse_entry("nonsense"), None);
        assert!(!table().unwrap().is_empty());
    }

    #[test]
    #[ignore = "root: overlay mount"]
    fn an_overlay_is_made_detached_and_attached() {
        fresh(&[Namespace::Mount], || {
            isolate().unwrap();
            let base = std::env::temp_dir().join(format!("wharf-sys-overlay-{}", std::process::id()));
            let directory = |name: &str| {
                let path = base.join(name);
                std::fs::create_dir_all(&path).unwrap();
                path
            };
            let (one, two, upper, work, merged) = (
                directory("one"),
                directory("t:w,o"),
                directory("upper"),
                directory("work"),
                directory("merged"),
            );
            std::fs::write(one.join("file"), "top").unwrap();
            std::fs::write(two.join("file"), "bottom").unwrap();
            std::fs::write(two.join("other"), "bottom").unwrap();
            for _ in 0..2 {
                let mount = overlay(&[&one, &two], &upper, &work, true).unwrap();
                attach_at(mount.as_fd(), &merged).unwrap();
                assert_eq!(std::fs::read(merged.join("file")).unwrap(), b"top");
                std::fs::write(merged.join("other"), "changed").unwrap();
                assert_eq!(std::fs::read(upper.join("other")).unwrap(), b"changed");
                drop(mount);
                detach(&merged).unwrap();
                clear_volatile(&work).unwrap();
            }
            let view = overlay_view(&[&one, &two]).unwrap();
            attach_at(view.as_fd(), &merged).unwrap();
            assert!(std::fs::write(merged.join("file"), "no").is_err());
            detach(&merged).unwrap();
            let error = overlay(&[&base.join("missing")], &upper, &work, false).unwrap_err();
            assert_eq!(error.errno(), Errno::NOENT, "{error}");
            std::fs::remove_dir_all(&base).unwrap();
        })
        .unwrap();
    }
}
