//! Copying out of and into a container, and exporting all of it (Engine API, `ContainerArchive`, `ContainerExport`).

use super::record::Container;
use super::rootfs::Files;
use super::{Containers, extract};
use crate::error::{Error, Result};
use base::{Kind, Timestamp};
use rustix::fs::{AtFlags, FileType, OFlags, Stat, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use store::pack;

pub use super::extract::Extract;

/// What is at a path (`X-Docker-Container-Path-Stat`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Type and permissions, in the bits of Go's `os.FileMode`.
    pub mode: u32,
    /// When it was last changed.
    pub modified: Timestamp,
    /// Where a symbolic link leads, as an absolute path; empty for anything else.
    pub link_target: String,
}

/// A path of a client's, taken apart as Docker does: links on the way are followed, one at the end is not unless a
/// slash follows it.
struct Asked {
    parent: PathBuf,
    /// The last part; `.` for a folder's contents and for the root.
    name: String,
    /// What the top of an archive is called.
    called: String,
}

impl Asked {
    fn new(path: &str) -> Self {
        let contents = path.ends_with("/.") || path == "." || path.is_empty();
        let clean = clean(path);
        let last = clean.file_name().map(|name| name.to_string_lossy().into_owned());
        match last {
            Some(last) if path.ends_with('/') || contents => Self {
                parent: clean,
                name: ".".to_owned(),
                called: if contents { ".".to_owned() } else { last },
            },
            Some(last) => {
                let parent = clean.parent().unwrap_or(Path::new("/")).to_owned();
                Self { parent, name: last.clone(), called: last }
            }
            // `/.` are the root's contents; `/` itself makes the names in its archive absolute.
            None => {
                let called = if contents { "." } else { "/" };
                Self { parent: clean, name: ".".to_owned(), called: called.to_owned() }
            }
        }
    }
}

/// Makes a path absolute, without `.` and `..` (which lead nowhere above the root).
pub(super) fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Docker's text for what is not there.
fn missing(container: &str, path: &str) -> Error {
    Error::not_found(format!("Could not find the file {path} in container {container}"))
}

fn failed(container: &str, path: &str, error: &sys::Error) -> Error {
    match error.errno() {
        Errno::NOENT | Errno::LOOP => missing(container, path),
        Errno::NOTDIR => Error::invalid(format!("lstat {path}: not a directory")),
        _ => Error::known(
            Kind::Internal,
            format!("open {path} in container {container}: {}", base::chain(error)),
        ),
    }
}

/// Opens the folder that an asked path lies in, and looks at what it names.
fn look(name: &str, root: BorrowedFd<'_>, path: &str, asked: &Asked) -> Result<(OwnedFd, Stat)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent =
        sys::path::open_in_root(root, &asked.parent, flags).map_err(|error| failed(name, path, &error))?;
    let stat = rustix::fs::statat(&parent, asked.name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed(name, path, &sys::Error::new("stat", path, errno)))?;
    Ok((parent, stat))
}

impl Containers {
    /// Looks at a path of a container.
    ///
    /// # Errors
    ///
    /// `Could not find the file X in container Y`.
    pub fn stat_path(&self, name: &str, path: &str) -> Result<PathStat> {
        let asked = Asked::new(path);
        self.with_rootfs(name, |Files { root, .. }| {
            let (parent, stat) = look(name, root, path, &asked)?;
            path_stat(root, &parent, &stat, &asked, path)
        })
    }

    /// Writes what is at a path of a container as an archive; `begin` gets a look at it before the first byte.
    ///
    /// # Errors
    ///
    /// `Could not find the file X in container Y`; that `writer` fails.
    pub fn read_archive(
        &self,
        name: &str,
        path: &str,
        begin: impl FnOnce(PathStat) + Send,
        writer: &mut (dyn Write + Send),
    ) -> Result<()> {
        let asked = Asked::new(path);
        let container = self.with_rootfs(name, |Files { container, root, owners }| {
            let (parent, stat) = look(name, root, path, &asked)?;
            begin(path_stat(root, &parent, &stat, &asked, path)?);
            let (name, called) = (asked.name.as_bytes(), asked.called.as_bytes());
            pack::pack_entry(parent.as_fd(), name, called, owners, writer)?;
            Ok(Container::clone(container))
        })?;
        self.tell(&container, "archive-path", &[]);
        Ok(())
    }

    /// Unpacks an archive in a folder of a container.
    ///
    /// # Errors
    ///
    /// `Could not find the file X in container Y`; `InvalidArgument` if it is no folder or the archive would leave it;
    /// `Forbidden` in a root file system that is read-only.
    pub fn write_archive(
        &self,
        name: &str,
        path: &str,
        options: &Extract,
        reader: &mut (dyn BufRead + Send),
    ) -> Result<()> {
        let asked = Asked::new(&format!("{path}/"));
        let container = self.with_rootfs(name, |Files { container, root, owners }| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder =
                sys::path::open_in_root(root, &asked.parent, flags).map_err(|error| match error.errno() {
                    Errno::NOTDIR => Error::invalid("extraction point is not a directory"),
                    _ => failed(name, path, &error),
                })?;
            refuse_read_only(container, root, folder.as_fd())?;
            let owner = match options.owner.as_str() {
                "" => options.copy_owner.then(|| extract::user(root, &container.config.user)).flatten(),
                text => Some(extract::user(root, text).ok_or_else(|| {
                    Error::invalid(format!(
                        "unable to find user {text}: no matching entries in passwd or group file"
                    ))
                })?),
            };
            let place = extract::Place::new(root, &asked.parent, options);
            place.owned_by(owner, owners).extract(reader)?;
            Ok(Container::clone(container))
        })?;
        self.tell(&container, "extract-to-dir", &[]);
        Ok(())
    }

    /// Writes all files of a container as an archive, without what is mounted in it.
    ///
    /// # Errors
    ///
    /// That the files cannot be read or `writer` fails.
    pub fn export(&self, name: &str, writer: &mut (dyn Write + Send)) -> Result<()> {
        let container = self.get(name)?;
        let lower = self.lower_dirs(&container)?;
        let upper = self.settings.data.container(&container.id).join("upper");
        // The upper directory as one more read-only layer: this works beside a running container, too.
        let layers: Vec<&Path> =
            std::iter::once(upper.as_path()).chain(lower.iter().map(PathBuf::as_path)).collect();
        let view = sys::mount::overlay_view(&layers).map_err(|error| {
            Error::known(
                Kind::Internal,
                format!("look at the files of container {name}: {}", base::chain(&error)),
            )
        })?;
        pack::pack_contents(view.as_fd(), writer)?;
        self.tell(&container, "export", &[]);
        Ok(())
    }
}

/// Refuses a folder on a mount that is read-only, or in a root file system that is to be.
fn refuse_read_only(container: &Container, root: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> Result<()> {
    let mount = |fd: BorrowedFd<'_>| -> rustix::io::Result<(u64, bool)> {
        let status = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        let read_only = rustix::fs::fstatvfs(fd)?.f_flag.contains(StatVfsMountFlags::RDONLY);
        Ok((status.stx_mnt_id, read_only))
    };
    let looked = |errno| {
        Error::known(
            Kind::Internal,
            format!("look at the mounts of {}: {}", container.id, sys::message(errno)),
        )
    };
    let (root, root_is_read_only) = mount(root).map_err(looked)?;
    let (mount, is_read_only) = mount(folder).map_err(looked)?;
    if mount == root && (root_is_read_only || container.host.readonly_rootfs) {
        return Err(Error::known(Kind::Forbidden, "container rootfs is marked read-only"));
    }
    if is_read_only {
        return Err(Error::known(Kind::Forbidden, "mounted volume is marked read-only"));
    }
    Ok(())
}

fn path_stat(
    root: BorrowedFd<'_>,
    parent: &OwnedFd,
    stat: &Stat,
    asked: &Asked,
    path: &str,
) -> Result<PathStat> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let link_target =
        if kind == FileType::Symlink { target(root, parent, asked, path)? } else { String::new() };
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Ok(PathStat {
        name: asked.called.clone(),
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        modified: Timestamp::from_nanos(stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos)),
        link_target,
    })
}

/// Where a link leads in the end, or its own words if that is nowhere.
fn target(root: BorrowedFd<'_>, parent: &OwnedFd, asked: &Asked, path: &str) -> Result<String> {
    let name = |fd: BorrowedFd<'_>| std::fs::read_link(sys::path::of_descriptor(fd)).ok();
    let whole = asked.parent.join(&asked.name);
    let end = sys::path::open_in_root(root, &whole, OFlags::PATH | OFlags::CLOEXEC).ok();
    if let Some(end) = end.and_then(|end| name(end.as_fd()))
        && let Some(root) = name(root)
        && let Ok(inside) = end.strip_prefix(&root)
    {
        return Ok(Path::new("/").join(inside).display().to_string());
    }
    let link = rustix::fs::readlinkat(parent, asked.name.as_str(), Vec::new())
        .map_err(|errno| Error::known(Kind::Internal, format!("read the link {path}: {errno}")))?;
    let link = Path::new(std::ffi::OsStr::from_bytes(link.as_bytes()));
    Ok(clean(&asked.parent.join(link).to_string_lossy()).display().to_string())
}

/// Translates a mode to the bits of Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::RegularFile | FileType::Unknown => 0,
    };
    let bit = |bit: u32, go: u32| if mode & bit == 0 { 0 } else { 1 << go };
    kind | bit(0o4000, 23) | bit(0o2000, 22) | bit(0o1000, 20) | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_as_docker_does() {
        for (path, parent, name, called) in [
            ("/tmp/x", "/tmp", "x", "x"),
            ("tmp/x", "/tmp", "x", "x"),
            ("/tmp/x/", "/tmp/x", ".", "x"),
            ("/tmp/x/.", "/tmp/x", ".", "."),
            ("/../../x", "/", "x", "x"),
            ("/", "/", ".", "/"),
            ("/.", "/", ".", "."),
            ("", "/", ".", "."),
        ] {
            let asked = Asked::new(path);
            assert_eq!(
                (asked.parent.to_str().unwrap(), asked.name.as_str(), asked.called.as_str()),
                (parent, name, called),
                "{path}"
            );
        }
    }

    #[test]
    fn modes_are_gos() {
        for (mode, expect) in [
            (0o100_644, 0o644),
            (0o040_755, 1 << 31 | 0o755),
            (0o120_777, 1 << 27 | 0o777),
            (0o104_755, 1 << 23 | 0o755),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
            (0o020_666, 1 << 26 | 1 << 21 | 0o666),
        ] {
            assert_eq!(go_mode(mode), expect, "{mode:o}");
        }
    }
}
