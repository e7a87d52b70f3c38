//! Makes a container that the library has made known to the commands, for what only they do: `checkpoint`.

use super::now;
use super::record::{Record, process_times};
use oci::runtime::Spec;
use std::io;
use std::path::{Path, PathBuf};

/// A container that runs, made by [`create`](crate::create).
#[derive(Debug)]
pub struct Known {
    /// What the commands are to call it.
    pub id: String,
    /// Its first process.
    pub pid: i32,
    /// Its folder.
    pub bundle: PathBuf,
    /// The document; a network namespace that was joined has a path that is valid now.
    pub spec: Spec,
    /// The control group's path from the root of each hierarchy.
    pub cgroup: String,
    /// Whether that is a scope of the host's systemd.
    pub systemd: bool,
}

/// Writes what the commands read, below `root` (their `--root`). The folder `root/ID` is theirs then: `checkpoint` removes it
/// with the container, and whoever leaves the container running removes it afterwards.
///
/// # Errors
///
/// If the process has ended or the files cannot be written.
pub fn adopt(root: &Path, known: Known) -> io::Result<()> {
    let Known { id, pid, bundle, spec, cgroup, systemd } = known;
    let ended = || io::Error::new(io::ErrorKind::NotFound, "the container's process has ended");
    let (start_time, _) = process_times(pid).ok_or_else(ended)?;
    let directory = root.join(&id);
    std::fs::create_dir_all(&directory)?;
    let record = Record {
        id,
        pid,
        start_time,
        bundle,
        rootfs: format!("/proc/{pid}/root").into(),
        created: now(),
        cgroup,
        systemd: systemd.then(PathBuf::new),
        host_mounts: false,
        fixed_groups: false,
        spec,
    };
    record.save(&directory).map_err(|failure| io::Error::other(failure.to_string()))
}
