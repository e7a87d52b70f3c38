//! A container's files as the container sees them, for copying in and out.
//!
//! A running container's are reached through its init's root. One that does not run has no mounts; they are made in a
//! mount namespace of a thread that ends with the work: the overlay, and the volumes and folders of the host on it.
//! Either way there is one descriptor of the root, and whatever is named beneath it is resolved with `openat2` as if it
//! were `/`, so that no link leads out (CVE-2018-15664).

use super::Containers;
use super::idmap::IdMap;
use super::record::{Container, MountKind, MountPoint};
use crate::error::{Error, Result};
use base::Kind;
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::namespace::Namespace;
use sys::raw::MountAttributes;

/// A table of mounts longer than this is not read.
const MAX_MOUNTS: usize = 64 << 20;

impl Containers {
    /// Runs `work` with the container's root.
    ///
    /// A container that does not run cannot be started meanwhile.
    ///
    /// # Errors
    ///
    /// Those of `work`; that the files cannot be reached.
    pub(super) fn with_rootfs<T: Send>(
        &self,
        name: &str,
        work: impl FnOnce(&Container, BorrowedFd<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let handle = self.find(name)?;
        let container = handle.get();
        if let Some(root) = self.running_root(&container)? {
            return work(&container, root.as_fd());
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
            return work(&container, root.as_fd());
        }
        let layers = self.lower_dirs(&container)?;
        let _there = self.volumes.visit(container.volumes())?;
        let folder = self.settings.data.container(&container.id);
        let outcome = sys::namespace::fresh(&[Namespace::Mount], || {
            let root = self.assemble(&container, &layers, &folder).map_err(|error| {
                let text = format!("mount the files of container {}: {}", container.id, base::chain(&error));
                Error::known(Kind::Internal, text)
            })?;
            work(&container, root.as_fd())
        });
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
        let mounted = |layers: &[PathBuf]| -> sys::Result<OwnedFd> {
            sys::mount::isolate()?;
            let (upper, work) = (folder.join("upper"), folder.join("work"));
            sys::mount::clear_volatile(&work)?;
            let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
            let overlay = sys::mount::overlay(&layers, &upper, &work, false)?;
            sys::mount::attach_at(overlay.as_fd(), folder)?;
            sys::path::open_directory(folder)
        };
        let root = mounted(layers).map_err(|error| internal(&error))?;
        for point in &container.mounts {
            let Some(mount) = self.mount_of(point)? else { continue };
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
        let made = made.map_err(|error| internal(&error))?;
        let Some(map) = IdMap::of(&point.options) else { return Ok(Some(made)) };
        let shown = map.namespace().and_then(|users| {
            let attributes = MountAttributes {
                set: sys::mount::ATTR_IDMAP,
                userns_fd: u64::from(users.as_raw_fd().unsigned_abs()),
                ..MountAttributes::default()
            };
            sys::mount::set_attributes(made.as_fd(), &attributes, false)
        });
        shown.map(|()| Some(made)).map_err(|error| internal(&error))
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
