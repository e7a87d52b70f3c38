//! A container's files as the container sees them, for copying in and out.
//!
//! A running container's are reached through its init's root. One that does not run has no mounts; they are made in a
//! mount namespace of a thread that ends with the work: the overlay, and the volumes and folders of the host on it.
//! Either way there is one descriptor of the root, and whatever is named beneath it is resolved with `openat2` as if it
//! were `/`, so that no link leads out (CVE-2018-15664).

use super::Containers;
use super::idmap;
use super::owners::namespace_of;
use super::record::{Container, MountKind, MountPoint};
use crate::error::{Error, Result};
use base::Kind;
use oci::runtime::IdMap;
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::namespace::Namespace;
use sys::raw::MountAttributes;

/// A table of mounts longer than this is not read.
const MAX_MOUNTS: usize = 64 << 20;

/// A container's files.
pub(super) struct Files<'a> {
    /// Whose they are.
    pub(super) container: &'a Container,
    /// The root directory, with all that is mounted.
    pub(super) root: BorrowedFd<'a>,
    /// How the owners that the container sees are mapped to those that are seen here.
    pub(super) owners: Option<&'a IdMap>,
}

impl Containers {
    /// Runs `work` with the container's root, as somebody who can make files there.
    ///
    /// A container that does not run cannot be started meanwhile.
    ///
    /// # Errors
    ///
    /// Those of `work`; that the files cannot be reached.
    pub(super) fn with_rootfs<T: Send>(
        &self,
        name: &str,
        work: impl FnOnce(Files<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let handle = self.find(name)?;
        let container = handle.get();
        let owners = self.owners(&container.host);
        let work = |container: &Container, root: BorrowedFd<'_>| work(Files { container, root, owners });
        if let Some(root) = self.running_root(&container)? {
            return as_its_root(owners, || work(&container, root.as_fd()));
        }
        let operation = handle.operate();
        let container = handle.get();
        if container.state.is_alive() {
            drop(operation);
            let root = self.running_root(&container)?.ok_or_else(|| {
                Error::conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    container.id
                ))
            })?;
            return as_its_root(owners, || work(&container, root.as_fd()));
        }
        let layers = self.lower_dirs(&container)?;
        let _there = self.volumes.visit(container.volumes())?;
        let folder = self.settings.data.container(&container.id);
        let assembled = || {
            let root = self.assemble(&container, &layers, &folder).map_err(|error| {
                let text = format!("mount the files of container {}: {}", container.id, base::chain(&error));
                Error::known(Kind::Internal, text)
            })?;
            work(&container, root.as_fd())
        };
        let outcome = sys::namespace::fresh(&[Namespace::Mount], || as_its_root(owners, assembled));
        drop(operation);
        outcome.map_err(|error| Error::known(Kind::Internal, base::chain(&error)))?
    }

    /// Opens the root of a running container's init; `None` if it does not run.
    fn running_root(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let Some(run) = container.state.run() else { return Ok(None) };
        let failed = |error: sys::Error| {
            let text = format!("open the files of container {}: {}", container.id, base::chain(&error));
            Error::known(Kind::Internal, text)
        };
        let process = match sys::path::open_directory(Path::new(&format!("/proc/{}", run.pid))) {
            Err(error) if error.errno() == Errno::NOENT => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        // The init may have ended without our knowing, and its number may be another process's: only one that sees the
        // container's own overlay is it. The descriptor stays with the process that it was opened for.
        let look = || -> Result<OwnedFd, Errno> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let mounts = openat(&process, "mountinfo", flags, Mode::empty())?;
            let mounts = sys::path::read_fd_to_end(mounts.as_fd(), MAX_MOUNTS)?;
            if !shows_overlay_of(&String::from_utf8_lossy(&mounts), &container.id.to_string()) {
                return Err(Errno::SRCH);
            }
            openat(&process, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        };
        match look() {
            // `INVAL`: a process that has ended has no mounts.
            Err(Errno::NOENT | Errno::SRCH | Errno::INVAL) => Ok(None),
            looked => {
                looked.map(Some).map_err(|errno| failed(sys::Error::new("open", "/proc/PID/root", errno)))
            }
        }
    }

    /// Mounts the container's files over its own folder, in this thread's mount namespace.
    fn assemble(&self, container: &Container, layers: &[PathBuf], folder: &Path) -> Result<OwnedFd> {
        let owners = self.owners(&container.host);
        let owned = self.owned_places(container);
        let mounted = |layers: &[PathBuf]| -> sys::Result<OwnedFd> {
            sys::mount::isolate()?;
            let (upper, work) = (folder.join("upper"), folder.join("work"));
            sys::mount::clear_volatile(&work)?;
            let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
            let overlay = match owners {
                None => sys::mount::overlay(&layers, &upper, &work, false)?,
                Some(map) => {
                    let users = namespace_of(map)?;
                    let owners = sys::mount::Owners { users: users.as_fd(), root: root_of(map) };
                    sys::mount::overlay_owned(&layers, &upper, &work, false, owners)?
                }
            };
            sys::mount::attach_at(overlay.as_fd(), folder)?;
            sys::path::open_directory(folder)
        };
        let root = mounted(layers).map_err(|error| internal(&error))?;
        for point in &container.mounts {
            let Some(mount) = self.mount_of(point)? else { continue };
            let own = idmap::of(&point.options);
            let remapped = owners.filter(|_| owned.contains(&point.destination));
            if let Some(map) = own.as_ref().or(remapped) {
                show_as(mount.as_fd(), map).map_err(|error| internal(&error))?;
            }
            attach(root.as_fd(), point, &mount).map_err(|error| internal(&error))?;
        }
        Ok(root)
    }

    /// Makes the mount of a mount point, not yet attached; `None` if there is nothing to mount.
    fn mount_of(&self, point: &MountPoint) -> Result<Option<OwnedFd>> {
        let source = Path::new(&point.source);
        let made = match point.kind {
            // What a memory file system held is gone.
            MountKind::Tmpfs => return Ok(None),
            MountKind::Image => {
                let layers = self.view(point)?;
                let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
                sys::mount::overlay_view(&layers)
            }
            MountKind::Bind | MountKind::Volume if !source.exists() => return Ok(None),
            MountKind::Bind | MountKind::Volume if point.subpath.is_empty() => sys::mount::bind(source, true),
            MountKind::Bind | MountKind::Volume => sys::path::open_directory(source)
                .and_then(|folder| {
                    sys::path::open_beneath(
                        folder.as_fd(),
                        Path::new(&point.subpath),
                        OFlags::PATH | OFlags::CLOEXEC,
                    )
                })
                .and_then(|part| sys::mount::bind_fd(part.as_fd(), true)),
        };
        made.map(Some).map_err(|error| internal(&error))
    }
}

/// Has the owners of a mount's files shown as others.
fn show_as(mount: BorrowedFd<'_>, map: &IdMap) -> sys::Result<()> {
    let users = namespace_of(map)?;
    let attributes = MountAttributes {
        set: sys::mount::ATTR_IDMAP,
        userns_fd: u64::from(users.as_raw_fd().unsigned_abs()),
        ..MountAttributes::default()
    };
    sys::mount::set_attributes(mount, &attributes, false)
}

fn root_of(map: &IdMap) -> (u32, u32) {
    map.outside((0, 0)).unwrap_or_default()
}

/// Runs `work` as somebody whom the container's files know.
fn as_its_root<T: Send>(owners: Option<&IdMap>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match owners {
        None => work(),
        Some(map) => sys::identity::making_files_as(root_of(map), work).map_err(|error| internal(&error))?,
    }
}

fn internal(error: &sys::Error) -> Error {
    Error::known(Kind::Internal, base::chain(error))
}

fn attach(root: BorrowedFd<'_>, point: &MountPoint, mount: &OwnedFd) -> sys::Result<()> {
    let status = rustix::fs::fstat(mount).map_err(sys::Error::on("stat", &point.destination))?;
    let kind = match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => sys::path::Create::Directory,
        _ => sys::path::Create::File,
    };
    let target = sys::path::create_in_root(root, Path::new(&point.destination), kind, 0o755)?;
    if !point.writable {
        let attributes = MountAttributes { set: sys::mount::ATTR_RDONLY, ..MountAttributes::default() };
        sys::mount::set_attributes(mount.as_fd(), &attributes, true)?;
    }
    sys::mount::attach(mount.as_fd(), target.as_fd())
}

/// Says whether a table of mounts (proc(5), mountinfo) has the overlay whose upper directory is a container's.
fn shows_overlay_of(mounts: &str, id: &str) -> bool {
    let upper = format!("/{id}/upper");
    mounts.lines().filter_map(|line| line.split_once(" - overlay ")).any(|(_, right)| {
        right
            .split([' ', ','])
            .filter_map(|option| option.strip_prefix("upperdir="))
            .any(|path| path.ends_with(&upper))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_own_overlay_counts() {
        let overlay = "60 59 0:44 / / rw - overlay overlay rw,lowerdir+=/d/layers/a/diff,upperdir=/d/containers/abc/upper,workdir=/d/containers/abc/work";
        assert!(shows_overlay_of(overlay, "abc"));
        assert!(!shows_overlay_of(overlay, "bc"));
        assert!(!shows_overlay_of(overlay, "abd"));
        // A bind mount of the folder is none.
        assert!(!shows_overlay_of("60 59 8:1 /d/containers/abc/upper /x rw - ext4 /dev/sda rw", "abc"));
        assert!(!shows_overlay_of("", ""));
    }
}
