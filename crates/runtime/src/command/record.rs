//! What is known of a container between two commands: `ROOT/ID/state.json`.

use super::{Failure, group, write_atomically};
use cgroups::{Cgroup, Manager};
use oci::runtime::{Spec, State, Status};
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A container as `create` left it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pid: i32,
    /// When the process began, in clock ticks since boot: tells it from a later one of the same number.
    pub(super) start_time: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) cgroup: String,
    /// Of a scope of systemd's: the runtime directory of the user whose manager looks after it; empty for the host's.
    #[serde(default)]
    pub(super) systemd: Option<PathBuf>,
    /// Whether its mounts are among the host's, to be undone with it.
    #[serde(default)]
    pub(super) host_mounts: bool,
    /// Whether supplementary groups cannot be changed in its user namespace.
    #[serde(default)]
    pub(super) fixed_groups: bool,
    pub(super) spec: Spec,
}

/// Refuses what is no container name, as runc does.
pub(super) fn check_id(id: &str) -> Result<(), Failure> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
    if id.is_empty() || id.len() > 1024 || matches!(id, "." | "..") || !id.chars().all(allowed) {
        return Err(format!("invalid container ID format: {id}").into());
    }
    Ok(())
}

impl Record {
    pub(super) fn load(directory: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read(directory.join("state.json")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err("container does not exist".into());
            }
            other => other?,
        };
        Ok(serde_json::from_slice(&text)?)
    }

    pub(super) fn save(&self, directory: &Path) -> Result<(), Failure> {
        write_atomically(&directory.join("state.json"), &serde_json::to_vec(self)?)
    }

    /// The cgroup of the container.
    pub(super) fn cgroup(&self) -> Result<Cgroup, Failure> {
        if self.cgroup.is_empty() {
            return Ok(Cgroup::none());
        }
        let cgroup = Cgroup::open(&Manager::detect()?, &self.cgroup)?;
        match &self.systemd {
            Some(manager) => Ok(cgroup.of(group::scope(&self.spec, &self.id, manager)?)),
            None => Ok(cgroup),
        }
    }

    /// Opens the init, if it is still the same process and has not ended.
    pub(super) fn process(&self) -> Option<OwnedFd> {
        let pidfd = sys::pidfd::open(self.pid).ok()?;
        // Read after opening: if it is the right one now, the descriptor is the right one's.
        let (start_time, state) = process_times(self.pid)?;
        (start_time == self.start_time && !matches!(state, 'Z' | 'X')).then_some(pidfd)
    }

    pub(super) fn status(&self, directory: &Path) -> Status {
        if self.process().is_none() {
            return Status::Stopped;
        }
        if socket(directory).exists() {
            return Status::Created;
        }
        match self.cgroup().and_then(|group| Ok(group.is_frozen()?)) {
            Ok(true) => Status::Paused,
            _ => Status::Running,
        }
    }

    /// The state as runtime-spec defines it, for hooks.
    pub(super) fn state(&self, status: Status) -> State {
        State {
            oci_version: oci::runtime::VERSION.to_owned(),
            id: self.id.clone(),
            status,
            pid: (status != Status::Stopped).then_some(self.pid),
            bundle: self.bundle.to_string_lossy().into_owned(),
            annotations: self.spec.annotations.clone(),
        }
    }
}

/// Where a created init waits for its start.
pub(super) fn socket(directory: &Path) -> PathBuf {
    directory.join("start.sock")
}

/// Start time in clock ticks and state letter of a process (proc(5), `/proc/PID/stat`).
pub(super) fn process_times(pid: i32) -> Option<(u64, char)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have anything in it.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_be_paths() {
        for (id, fits) in
            [("a", true), ("a.b_c-d+e", true), ("", false), ("..", false), ("a/b", false), ("a b", false)]
        {
            assert_eq!(check_id(id).is_ok(), fits, "{id}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (start, state) = process_times(own).unwrap();
        assert!(start > 0 && "RSD".contains(state));
        assert_eq!(process_times(0), None);
    }
}
