//! What the engine finds out about the host once, when it starts.

use super::Containers;
use super::intent::Capacity;
use super::record::Container;
use super::security::Seccomp;
use super::spec::Facts;
use crate::Settings;
use crate::error::{Error, Result};
use oci::runtime::{Device, NamespaceKind};
use std::path::Path;

/// Facts that do not change while the daemon runs.
#[derive(Debug)]
pub(super) struct Host {
    /// What limits are checked against.
    pub(super) capacity: Capacity,
    /// Whether control groups are version 2 alone.
    pub(super) unified: bool,
    /// The hierarchies of control groups.
    pub(super) hierarchy: Option<cgroups::Hierarchy>,
    /// The seccomp profile of containers that name none.
    seccomp: Seccomp,
    /// Capabilities the daemon has.
    available: Vec<String>,
    /// Folders of thermal throttling counters, which are masked.
    thermal: Vec<String>,
    /// Whether it has `AppArmor`.
    apparmor: bool,
}

impl Host {
    /// Folders of thermal throttling counters.
    pub(super) fn thermal(&self) -> &[String] {
        &self.thermal
    }

    /// # Errors
    ///
    /// Fails if the daemon's seccomp profile cannot be read or is none.
    pub(super) fn detect(settings: &Settings) -> Result<Self> {
        let hierarchy = cgroups::Manager::detect().ok();
        let bounding = sys::capability::bounding();
        let held = sys::capability::current().map_or(bounding, |sets| sets.permitted.intersection(bounding));
        Ok(Self {
            capacity: Capacity::detect(),
            unified: hierarchy.as_ref().is_some_and(cgroups::Hierarchy::is_unified),
            hierarchy,
            seccomp: default_seccomp(&settings.seccomp_profile)?,
            available: held.names(),
            thermal: thermal(),
            apparmor: std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
        })
    }
}

/// Reads the profile that the daemon's configuration names.
fn default_seccomp(profile: &str) -> Result<Seccomp> {
    match profile {
        "" | "builtin" => Ok(Seccomp::BuiltIn),
        "unconfined" => Ok(Seccomp::Unconfined),
        path => {
            let failed =
                |reason: String| Error::invalid(format!("opening seccomp profile ({path}) failed: {reason}"));
            let text = std::fs::read_to_string(path).map_err(|error| failed(base::io_message(&error)))?;
            super::profile::parse(&text, &[]).map_err(|error| failed(error.to_string()))?;
            Ok(Seccomp::Profile(text))
        }
    }
}

fn thermal() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut folders: Vec<String> = entries
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|folder| folder.is_dir())
        .map(|folder| folder.display().to_string())
        .collect();
    folders.sort();
    folders
}

impl Containers {
    /// Returns the names of the devices that can be asked for by name (CDI).
    pub fn named_devices(&self) -> Vec<String> {
        super::cdi::names(&self.settings.cdi_folders)
    }

    /// Returns the devices that a build means by a name.
    pub(crate) fn build_devices(&self, name: &str) -> Vec<builder::FoundDevice> {
        super::cdi::meant(&self.settings.cdi_folders, name)
    }

    /// Gathers what a container's spec depends on besides its record.
    ///
    /// # Errors
    ///
    /// Fails if a container whose namespaces it joins does not run.
    pub(super) fn facts(&self, container: &Container, link_variables: &[String]) -> Result<Facts> {
        let settings = &self.settings;
        let devices = if container.host.privileged { all_devices(Path::new("/dev")) } else { Vec::new() };
        let images = container.mounts.iter().filter(|point| point.image.is_some());
        let views = images.map(|point| Ok((point.destination.clone(), self.view(point)?)));
        let named = container.host.resources.device_requests.iter().flatten();
        let named: Vec<String> =
            named.flat_map(|request| request.device_ids.iter().flatten()).cloned().collect();
        Ok(Facts {
            device_edits: super::cdi::edits(&settings.cdi_folders, &named)?,
            views: views.collect::<Result<_>>()?,
            unified: self.host.unified,
            available: self.host.available.clone(),
            no_new_privileges: settings.no_new_privileges,
            seccomp: self.host.seccomp.clone(),
            init: settings.init,
            executable: settings.init_path.clone().unwrap_or_else(|| settings.executable.clone()),
            ulimits: settings.ulimits.clone(),
            shm_size: settings.shm_size,
            cgroup_parent: settings.cgroup_parent.clone(),
            systemd_cgroups: settings.systemd_cgroups,
            files: settings.data.container(&container.id),
            link_variables: link_variables.to_vec(),
            joined: Vec::new(),
            owners: self.owners(&container.host).cloned(),
            owned: self.owned_places(container),
            devices,
            thermal: self.host.thermal.clone(),
            hostname: container.id.short(),
            apparmor: self.host.apparmor,
        })
    }

    /// Returns the namespaces of other containers that this one joins.
    ///
    /// # Errors
    ///
    /// Fails if one of them does not run.
    pub(super) fn joined(&self, container: &Container) -> Result<Vec<(NamespaceKind, String)>> {
        let modes =
            [(NamespaceKind::Pid, &container.host.pid_mode), (NamespaceKind::Ipc, &container.host.ipc_mode)];
        let mut joined = Vec::new();
        for (kind, mode) in modes {
            let Some(name) = mode.strip_prefix("container:") else { continue };
            let pid = self.running_pid(name)?;
            if kind == NamespaceKind::Ipc
                && matches!(self.get(name)?.host.ipc_mode.as_str(), "private" | "none")
            {
                return Err(Error::invalid(format!(
                    "container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                )));
            }
            let file = if kind == NamespaceKind::Pid { "pid" } else { "ipc" };
            joined.push((kind, format!("/proc/{pid}/ns/{file}")));
        }
        Ok(joined)
    }

    /// Returns the init's process id of a container that another one joins.
    ///
    /// # Errors
    ///
    /// Fails if it does not exist or run.
    pub(super) fn running_pid(&self, name: &str) -> Result<i32> {
        let other = self.get(name)?;
        match other.state.run() {
            Some(run) => Ok(run.pid),
            None => Err(Error::conflict(format!(
                "cannot join namespace of a non running container: container {} is {}",
                other.id,
                other.state.as_str()
            ))),
        }
    }
}

/// Returns every device below `folder` but terminals of other mounts (/dev/pts, /dev/shm, /dev/mqueue, /dev/console).
fn all_devices(folder: &Path) -> Vec<Device> {
    let mut devices = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        let name = entry.file_name();
        if folder == Path::new("/dev")
            && ["pts", "shm", "fd", "mqueue", "console", ".lxc"].iter().any(|skip| name == *skip)
        {
            continue;
        }
        if kind.is_dir() {
            devices.extend(all_devices(&path));
        } else if !kind.is_file() && !kind.is_symlink() {
            let found = path.to_str().and_then(|path| super::spec::host_devices(path).ok());
            devices.extend(found.into_iter().flatten());
        }
    }
    devices
}
