//! Whose a container's files are where identifiers are remapped (`userns-remap`).
//!
//! The container has a user namespace: its root is an ordinary user of the host's. Its layers and volumes keep the owners
//! that the container sees; mounts show them as the host's users (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`). So nothing on disk
//! depends on the setting, and each container can have the host's identifiers again (`--userns host`).

use super::Containers;
use super::record::{Container, MountKind, MountPoint};
use crate::error::{Error, Result};
use api::host_config::HostConfig;
use base::Kind;
use oci::runtime::{IdMap, map_lines};
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use sys::namespace::Namespace;

/// The namespaces that a container's processes are born into.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// Users; `None` for the host's.
    pub(super) users: Option<OwnedFd>,
    /// The network; `None` for the host's.
    pub(super) network: Option<OwnedFd>,
}

impl Containers {
    /// Returns how a container's identifiers are mapped; `None` if they are the host's.
    pub(super) fn owners(&self, host: &HostConfig) -> Option<&IdMap> {
        self.settings.remap.as_ref().filter(|_| host.userns_mode != "host")
    }

    /// Refuses what takes more than a user namespace gives.
    ///
    /// # Errors
    ///
    /// dockerd's texts (moby, `verifyPlatformContainerSettings`).
    pub(super) fn check_owners(&self, host: &HostConfig) -> Result<()> {
        if self.owners(host).is_none() {
            return Ok(());
        }
        let refused = |text: &str| Err(Error::invalid(text));
        if host.privileged {
            return refused(
                "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
            );
        }
        if host.network_mode == "host" {
            return refused("cannot share the host's network namespace when user namespaces are enabled");
        }
        if host.pid_mode == "host" {
            return refused("cannot share the host PID namespace when user namespaces are enabled");
        }
        Ok(())
    }

    /// Returns the places of the mounts whose files lie as the container sees them: its own volumes, and images. What is the
    /// host's or a plugin's is the host's users', as in Docker.
    pub(super) fn owned_places(&self, container: &Container) -> BTreeSet<String> {
        let own = |point: &&MountPoint| match point.kind {
            MountKind::Volume => self.volumes.is_own(&point.name),
            MountKind::Image => true,
            MountKind::Bind | MountKind::Tmpfs => false,
        };
        container.mounts.iter().filter(own).map(|point| point.destination.clone()).collect()
    }

    /// Makes or finds the namespaces that a container's processes are born into.
    ///
    /// # Errors
    ///
    /// A container that is joined does not run, or has the host's users where this one has not.
    pub(super) fn surroundings(&self, container: &Container) -> Result<Surroundings> {
        let host = &container.host;
        let joined = |mode: &str| mode.strip_prefix("container:").map(str::to_owned);
        let users = match self.owners(host) {
            None => None,
            // Namespaces that are joined belong to the users of whoever they were made for.
            Some(map) => match [&host.network_mode, &host.pid_mode, &host.ipc_mode]
                .into_iter()
                .find_map(|mode| joined(mode))
            {
                None => Some(namespace_of(map).map_err(|error| internal("make a user namespace", &error))?),
                Some(other) => Some(self.users_of(&other)?),
            },
        };
        let network = match (host.network_mode.as_str(), &users) {
            ("host", _) => None,
            (mode, users) => Some(match (joined(mode), users) {
                (Some(other), _) => {
                    let path = PathBuf::from(format!("/proc/{}/ns/net", self.running_pid(&other)?));
                    sys::namespace::open(&path)
                        .map_err(|error| internal(&format!("join the network of {other}"), &error))?
                }
                (None, None) => ::network::netns::create()?,
                (None, Some(users)) => sys::namespace::create_owned(Namespace::Network, users.as_fd())
                    .map_err(|error| internal("make a network namespace", &error))?,
            }),
        };
        Ok(Surroundings { users, network })
    }

    fn users_of(&self, name: &str) -> Result<OwnedFd> {
        let pid = self.running_pid(name)?;
        if self.owners(&self.get(name)?.host).is_none() {
            return Err(Error::conflict(format!(
                "container {name} has the host's users: to join its namespaces takes --userns host"
            )));
        }
        sys::namespace::open(&PathBuf::from(format!("/proc/{pid}/ns/user")))
            .map_err(|error| internal(&format!("join the users of {name}"), &error))
    }
}

/// Makes the user namespace that tells the kernel of a map.
pub(super) fn namespace_of(map: &IdMap) -> sys::Result<OwnedFd> {
    sys::namespace::user(&map_lines(&map.uids), &map_lines(&map.gids))
}

fn internal(what: &str, error: &sys::Error) -> Error {
    Error::known(Kind::Internal, format!("{what}: {}", base::chain(error)))
}
