//! Network namespaces by the names of their containers, for `ip netns` and its kin.
//!
//! `/run/netns/NAME` and `/run/netns/ID` lead to the namespace of the container's init, so that `ip netns exec NAME …` and
//! `ip link set … netns NAME` work. They are links into /proc rather than mounts: a mount would keep the namespace alive.
//! What somebody else has put there stays.

use super::Containers;
use super::record::Container;
use base::paths::NETNS;
use std::path::{Path, PathBuf};

impl Containers {
    /// Makes the namespace of a running container visible.
    pub(super) fn show_namespace(&self, container: &Container) {
        let Some(run) = container.state.run() else { return };
        if container.host.network_mode == "host" {
            return;
        }
        let target = PathBuf::from(format!("/proc/{}/ns/net", run.pid));
        for name in names(container) {
            let path = Path::new(NETNS).join(name);
            if is_ours(&path) {
                drop(std::fs::remove_file(&path));
            }
            let made = std::os::unix::fs::symlink(&target, &path).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    std::fs::create_dir_all(NETNS)?;
                    std::os::unix::fs::symlink(&target, &path)
                }
                _ => Err(error),
            });
            if let Err(error) = made {
                tracing::debug!(path = %path.display(), %error, "showing a network namespace");
            }
        }
    }

    /// Removes the names of a container whose processes have ended, or of one that is called otherwise now.
    pub(super) fn hide_namespace(&self, container: &Container) {
        let own = container.state.run().map(|run| PathBuf::from(format!("/proc/{}/ns/net", run.pid)));
        for name in names(container) {
            hide(&Path::new(NETNS).join(name), own.as_deref());
        }
    }

    /// Removes what the containers that ended without a daemon have left.
    pub(super) fn sweep_namespaces(&self) {
        let id = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let known: Vec<String> = self.list().iter().map(|container| container.name.clone()).collect();
        for entry in std::fs::read_dir(NETNS).into_iter().flatten().flatten() {
            let ours = entry
                .file_name()
                .to_str()
                .is_some_and(|name| id(name) || known.iter().any(|own| own == name));
            if ours {
                hide(&entry.path(), None);
            }
        }
    }
}

fn names(container: &Container) -> [String; 2] {
    [container.id.to_string(), container.name.clone()]
}

/// Says whether it is a link to a process's namespace, as we make them.
fn is_ours(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target.starts_with("/proc") && target.ends_with("ns/net"))
}

/// Removes a link to `own`, or to a process that is no more.
fn hide(path: &Path, own: Option<&Path>) {
    let dead = || !path.exists();
    if is_ours(path) && (dead() || std::fs::read_link(path).ok().as_deref() == own) {
        drop(std::fs::remove_file(path));
    }
}
