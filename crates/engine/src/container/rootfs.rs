//! A container's files as the container sees them, for copying in and out.
//!
//! A running container's are reached through its init's root. One that does not run has no mounts; they are made in a
//! mount namespace of a thread that ends with the work: the overlay, and the volumes and folders of the host on it.
//! Either way there is one descriptor of the root, and whatever is named beneath it is resolved with `openat2` as if it
//! were `/`, so that no link leads out (CVE-2018-15664).

use super::Containers;
use super::record::{Container, MountKind, MountPoint};
use crate::error::{Error, Result};
use base::Kind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::namespace::Namespace;
use sys::raw::MountAttributes;

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
        let folder = self.settings.data.container(&container.id);
        let outcome = sys::namespace::fresh(&[Namespace::Mount], || {
            let root = assemble(&container, &layers, &folder).map_err(|error| {
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
        let opened = sys::path::open_directory(Path::new(&format!("/proc/{}/root", run.pid)));
        // The number may have become another process's before it was opened, but not after the container still runs.
        let now = self.get(&container.id.to_string())?;
        if now.state.run() != Some(run) {
            return Ok(None);
        }
        opened.map(Some).map_err(|error| Error::known(Kind::Internal, base::chain(&error)))
    }
}

/// Mounts the container's files over its own folder, in this thread's mount namespace.
fn assemble(container: &Container, layers: &[PathBuf], folder: &Path) -> sys::Result<OwnedFd> {
    sys::mount::isolate()?;
    let (upper, work) = (folder.join("upper"), folder.join("work"));
    sys::mount::clear_volatile(&work)?;
    let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    let overlay = sys::mount::overlay(&layers, &upper, &work, false)?;
    sys::mount::attach_at(overlay.as_fd(), folder)?;
    let root = sys::path::open_directory(folder)?;
    for point in &container.mounts {
        mount(root.as_fd(), point)?;
    }
    Ok(root)
}

fn mount(root: BorrowedFd<'_>, point: &MountPoint) -> sys::Result<()> {
    let source = match point.kind {
        // What a memory file system held is gone.
        MountKind::Tmpfs => return Ok(()),
        MountKind::Bind | MountKind::Volume => Path::new(&point.source),
    };
    let Ok(metadata) = std::fs::metadata(source) else { return Ok(()) };
    let kind = if metadata.is_dir() { sys::path::Create::Directory } else { sys::path::Create::File };
    let target = sys::path::create_in_root(root, Path::new(&point.destination), kind, 0o755)?;
    let mount = sys::mount::bind(source, true)?;
    if !point.writable {
        let attributes = MountAttributes { set: sys::mount::ATTR_RDONLY, ..MountAttributes::default() };
        sys::mount::set_attributes(mount.as_fd(), &attributes, true)?;
    }
    sys::mount::attach(mount.as_fd(), target.as_fd())
}
