//! The cgroup of a container: made directly, below the caller's own, or as a scope of systemd's.

use super::{Failure, unprivileged};
use crate::create::{resources, start_scope};
use crate::prepare::Extras;
use cgroups::systemd::{Instance, Scope};
use cgroups::{Cgroup, Manager};
use oci::runtime::{Linux, Spec};
use std::path::{Path, PathBuf};
use sys::process::Idle;

/// A cgroup that is there.
pub(super) struct Group {
    pub(super) cgroup: Cgroup,
    /// Its path.
    pub(super) path: String,
    /// As in [`super::record::Record`].
    pub(super) systemd: Option<PathBuf>,
    /// What holds a scope open: to be dropped when a process of the container is in it.
    pub(super) holder: Option<Idle>,
}

impl Group {
    /// Makes it; by the service manager `manager`, if that is given.
    pub(super) fn make(
        spec: &Spec,
        id: &str,
        manager: Option<PathBuf>,
        extras: &Extras,
    ) -> Result<Self, Failure> {
        let (cgroup, holder) = if let Some(manager) = &manager {
            let none = Linux::default();
            let limits = resources(spec.linux.as_ref().unwrap_or(&none), extras);
            let (cgroup, holder) = start_scope(&Manager::detect()?, scope(spec, id, manager)?, &limits)?;
            (cgroup, Some(holder))
        } else if extras.unprivileged.is_some() {
            (unprivileged::cgroup(id)?, None)
        } else {
            let given = given(spec);
            let path = if given.is_empty() { format!("/{id}") } else { given.to_owned() };
            (Cgroup::create(&Manager::detect()?, &path)?, None)
        };
        Ok(Self { path: cgroup.path().to_owned(), cgroup, systemd: manager, holder })
    }
}

fn given(spec: &Spec) -> &str {
    spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref()).unwrap_or_default()
}

/// Returns which manager is meant, if one is `wanted`: the caller's own, or the host's, which is an empty path.
pub(super) fn manager(wanted: bool) -> Result<Option<PathBuf>, Failure> {
    match (wanted, unprivileged::is_needed()) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(PathBuf::new())),
        (true, true) => match unprivileged::runtime_directory() {
            Some(directory) => Ok(Some(directory)),
            None => Err("XDG_RUNTIME_DIR is not set: it has the socket of the user's systemd".into()),
        },
    }
}

/// Returns the scope that the document names.
pub(super) fn scope(spec: &Spec, id: &str, manager: &Path) -> Result<Scope, Failure> {
    let instance = match manager {
        host if host.as_os_str().is_empty() => Instance::System,
        user => Instance::User(user.to_owned()),
    };
    Ok(Scope::parse(given(spec), id, instance)?.with_annotations(&spec.annotations)?)
}
