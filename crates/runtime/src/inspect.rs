//! Is what a document names there? Asked before anything is made, of the host and of the root file system as it lies.
//!
//! Only what is certain is refused. A mount may cover what is looked at, and a hook may bring it: then the child, which sees
//! the finished root, has the word. What is there costs one system call; the way to it is only walked when something is not.

use crate::mount::{clean, mount_error};
use crate::process::{self, Program};
use crate::{Error, Problem};
use oci::runtime::{Mount, Spec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, FileType, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// How often a link is followed, as in the kernel.
const MAX_LINKS: usize = 40;

/// Refuses a document whose namespaces, mount sources, mount targets or program are known not to be there or not to fit.
///
/// # Errors
///
/// [`Error::Invalid`], [`Error::Mount`], [`Error::Executable`].
pub(crate) fn inspect(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), Error> {
    namespaces(spec)?;
    for (index, mount) in spec.mounts.iter().enumerate() {
        let earlier = spec.mounts.get(..index).unwrap_or_default();
        check_mount(root, mount, earlier)?;
    }
    program(spec, root)
}

fn namespaces(spec: &Spec) -> Result<(), Error> {
    let all = spec.linux.as_ref().map(|linux| linux.namespaces.as_slice()).unwrap_or_default();
    for (index, namespace) in all.iter().enumerate() {
        let Some(path) = namespace.path.as_deref().filter(|path| !path.is_empty()) else { continue };
        if let Err(errno) = rustix::fs::access(path, Access::EXISTS) {
            let problem = format!("open {path}: {}", sys::message(errno));
            return Err(Error::Invalid { path: format!("linux.namespaces[{index}].path"), problem });
        }
    }
    Ok(())
}

fn check_mount(root: BorrowedFd<'_>, mount: &Mount, earlier: &[Mount]) -> Result<(), Error> {
    let kind = mount.kind.as_deref().unwrap_or_default();
    let mut is_directory = true;
    if is_bind(mount) {
        let source = mount.source.as_deref().unwrap_or_default();
        match rustix::fs::stat(source) {
            Ok(status) => is_directory = is_directory_mode(status.st_mode),
            Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)) => {
                return Err(mount_error(mount, &sys::Error::new("stat", source, errno)));
            }
            // Somebody else may be allowed to.
            Err(_) => return Ok(()),
        }
    }
    // Those of the kernel's answers are not led elsewhere by an image's links (CVE-2019-19921).
    let ordinary = matches!(kind, "proc" | "sysfs");
    let resolve = if ordinary { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
    let destination = clean(&mount.destination);
    let problem = match open(root, Path::new(&destination), OFlags::empty(), resolve) {
        // A part of a source may be of another type.
        Ok(_) if mount.options.iter().any(|option| option.starts_with("x-")) => return Ok(()),
        Ok(there) => match rustix::fs::fstat(&there) {
            Ok(status) if is_directory_mode(status.st_mode) != is_directory => Problem::WrongType,
            _ => return Ok(()),
        },
        Err(errno @ (Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)) => Problem::Errno(errno),
        Err(_) => return Ok(()),
    };
    if is_covered(root, Path::new(&destination), earlier) {
        return Ok(());
    }
    let origin = mount.source.clone().unwrap_or_else(|| kind.to_owned());
    Err(Error::Mount { origin, destination: mount.destination.clone(), problem })
}

fn is_bind(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("bind") || mount.options.iter().any(|one| one == "bind" || one == "rbind")
}

fn is_directory_mode(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

/// Looks for the program as the child will: as it is named, or in each directory of the process's `PATH`.
fn program(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), Error> {
    let Some(process) = spec.process.as_ref() else { return Ok(()) };
    let Some(name) = process.args.first() else { return Ok(()) };
    let (direct, paths) = process::candidates(name, &process.env);
    let paths: Vec<PathBuf> = paths.iter().map(|path| Path::new(&process.cwd).join(path)).collect();
    let mut reason = Errno::NOENT;
    for path in &paths {
        match executable(root, path) {
            Err(errno @ (Errno::ACCESS | Errno::NOENT | Errno::NOTDIR | Errno::ISDIR)) => {
                // Of a bare name it is only said that it is in no directory.
                reason = if direct { errno } else { reason };
            }
            // It is there; or this process may not look, but another may.
            Ok(()) | Err(_) => return Ok(()),
        }
    }
    let brought = spec.hooks.as_ref().is_some_and(|hooks| {
        [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container]
            .iter()
            .any(|hooks| !hooks.is_empty())
    });
    if brought || paths.iter().any(|path| is_covered(root, path, &spec.mounts)) {
        return Ok(());
    }
    Err(Program::new(process).failure(reason))
}

/// Whether anybody at all may execute `path`; what only some may not is found out by them.
fn executable(root: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let program = match open(root, path, OFlags::empty(), ResolveFlags::empty()) {
        // Of a directory on the way: those who may enter it will see.
        Err(Errno::ACCESS) => return Err(Errno::PERM),
        other => other?,
    };
    let mode = rustix::fs::fstat(&program)?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::Directory => Err(Errno::ISDIR),
        _ if mode & 0o111 == 0 => Err(Errno::ACCESS),
        _ => Ok(()),
    }
}

fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    sys::path::resolve_bare(root, path, flags | OFlags::PATH, resolve)
}

/// Says whether one of `mounts` may lie on the way to `path`.
fn is_covered(root: BorrowedFd<'_>, path: &Path, mounts: &[Mount]) -> bool {
    let mut places: Vec<PathBuf> = Vec::new();
    let mut foreign: Vec<PathBuf> = Vec::new();
    for mount in mounts {
        // Where a link in what is mounted leads is not known.
        let Some(place) = walk(root, Path::new(&clean(&mount.destination)), &foreign) else { return true };
        let empty = matches!(
            mount.kind.as_deref(),
            Some("tmpfs" | "devpts" | "sysfs" | "mqueue" | "cgroup" | "cgroup2")
        );
        if !empty || is_bind(mount) {
            foreign.push(place.clone());
        }
        places.push(place);
    }
    walk(root, path, &places).is_none()
}

/// Returns where in the root `path` is, links followed; `None` if the way there leads through one of `places`.
fn walk(root: BorrowedFd<'_>, path: &Path, places: &[PathBuf]) -> Option<PathBuf> {
    let mut place = PathBuf::from("/");
    let names = |path: &Path| -> Vec<_> { path.iter().rev().map(std::ffi::OsStr::to_owned).collect() };
    let mut rest = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        match name.to_str() {
            Some("/") => place = "/".into(),
            Some(".") => {}
            Some("..") => drop(place.pop()),
            _ => place.push(&name),
        }
        if places.contains(&place) {
            return None;
        }
        let link = open(root, &place, OFlags::NOFOLLOW, ResolveFlags::empty());
        let target = link.and_then(|link| rustix::fs::readlinkat(link.as_fd(), c"", Vec::new()));
        if let Ok(target) = target {
            links += 1;
            if links > MAX_LINKS {
                // Those seen so far lead through none.
                return Some(place);
            }
            place.pop();
            rest.extend(names(Path::new(target.to_str().ok()?)));
        }
    }
    Some(place)
}

#[cfg(test)]
mod tests;
