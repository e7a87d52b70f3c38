//! The Linux part of the spec: namespaces, devices, sysctls, masks, seccomp.

use super::{Facts, host_devices, resources};
use crate::container::record::Container;
use crate::container::security::{Options, Seccomp};
use crate::error::{Error, Result};
use oci::runtime::{Device, Linux, Namespace, NamespaceKind};
use std::collections::BTreeMap;

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Returns the paths that are masked by default, with the host's folders of thermal counters.
pub(in crate::container) fn masked(thermal: &[String]) -> Vec<String> {
    MASKED.iter().map(|path| (*path).to_owned()).chain(thermal.iter().cloned()).collect()
}

/// Returns the paths that are read-only by default.
pub(in crate::container) fn read_only() -> Vec<String> {
    READ_ONLY.iter().map(|path| (*path).to_owned()).collect()
}

pub(super) fn linux(
    container: &Container,
    facts: &Facts,
    options: &Options,
    granted: &[String],
) -> Result<Linux> {
    let host = &container.host;
    let default_masks = || if host.privileged { Vec::new() } else { masked(&facts.thermal) };
    let default_read_only = || if host.privileged { Vec::new() } else { read_only() };
    Ok(Linux {
        sysctl: sysctls(container, facts)?,
        resources: Some(resources(host, facts)?),
        cgroups_path: Some(cgroup_path(container, &facts.cgroup_parent, facts.systemd_cgroups)),
        namespaces: namespaces(container, facts),
        devices: devices(container, facts)?,
        seccomp: seccomp(container, facts, options, granted)?,
        rootfs_propagation: None,
        masked_paths: host.masked_paths.clone().unwrap_or_else(default_masks),
        readonly_paths: host.readonly_paths.clone().unwrap_or_else(default_read_only),
        ..Linux::default()
    })
}

/// Returns the control group of a container, below `default_parent` unless it has a parent of its own: a path, or the name of
/// a scope of systemd's, as dockerd names it.
pub(in crate::container) fn cgroup_path(
    container: &Container,
    default_parent: &str,
    systemd: bool,
) -> String {
    let own = container.host.resources.cgroup_parent.as_str();
    let parent = if own.is_empty() { default_parent } else { own };
    if systemd {
        return format!("{parent}:docker:{}", container.id);
    }
    format!("/{}/{}", parent.trim_matches('/'), container.id)
}

fn namespaces(container: &Container, facts: &Facts) -> Vec<Namespace> {
    let host = &container.host;
    let mut namespaces = vec![Namespace::new(NamespaceKind::Mount)];
    let mut add = |kind: NamespaceKind, shared: bool| {
        let joined = facts.joined.iter().find(|(joined, _)| *joined == kind).map(|(_, path)| path.clone());
        if !shared {
            namespaces.push(Namespace { kind, path: joined });
        }
    };
    // The supervisor fills in the user and the network namespace that it was handed.
    add(NamespaceKind::User, facts.owners.is_none());
    add(NamespaceKind::Network, host.network_mode == "host");
    add(NamespaceKind::Uts, host.uts_mode == "host");
    add(NamespaceKind::Pid, host.pid_mode == "host");
    add(NamespaceKind::Ipc, host.ipc_mode == "host");
    let private = match host.cgroupns_mode.as_str() {
        "private" => true,
        "host" => false,
        _ => facts.unified && !host.privileged,
    };
    add(NamespaceKind::Cgroup, !private);
    namespaces
}

fn sysctls(container: &Container, facts: &Facts) -> Result<BTreeMap<String, String>> {
    let host = &container.host;
    let mut sysctls = BTreeMap::new();
    if host.network_mode != "host" {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        if facts.owners.is_none() {
            // Not all of these groups exist in a user namespace.
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
    }
    for (name, value) in &host.sysctls {
        // A name that smuggles another, or leaves its namespace, is refused (CVE-2022-0811).
        let clean = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
        if !clean || value.contains(['\n', '\0']) || name.contains("..") {
            return Err(Error::invalid(format!("invalid sysctl {name:?}")));
        }
        let ipc = [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
        ]
        .contains(&name.as_str())
            || ["kernel.shmmni", "kernel.shm_rmid_forced"].contains(&name.as_str())
            || name.starts_with("fs.mqueue.");
        let refused = |why: &str| Err(Error::invalid(format!("sysctl {name:?} not allowed in {why}")));
        if name.starts_with("net.") && host.network_mode == "host" {
            return refused("host network namespace");
        }
        if ipc && host.ipc_mode == "host" {
            return refused("host ipc namespace");
        }
        if !ipc && !name.starts_with("net.") && !matches!(name.as_str(), "kernel.domainname") {
            return Err(Error::invalid(format!("sysctl {name:?} is not in a separate kernel namespace")));
        }
        sysctls.insert(name.clone(), value.clone());
    }
    Ok(sysctls)
}

fn devices(container: &Container, facts: &Facts) -> Result<Vec<Device>> {
    if container.host.privileged {
        return Ok(facts.devices.clone());
    }
    let mut devices = Vec::new();
    for mapping in container.host.resources.devices.iter().flatten() {
        for mut device in host_devices(&mapping.path_on_host)? {
            if !mapping.path_in_container.is_empty() {
                // A folder of devices keeps its structure below the new name.
                let rest = device.path.strip_prefix(&mapping.path_on_host).unwrap_or_default().to_owned();
                device.path = format!("{}{rest}", mapping.path_in_container);
            }
            devices.push(device);
        }
    }
    Ok(devices)
}

fn seccomp(
    container: &Container,
    facts: &Facts,
    options: &Options,
    granted: &[String],
) -> Result<Option<oci::runtime::Seccomp>> {
    if container.host.privileged {
        return Ok(None);
    }
    let wanted = if options.seccomp == Seccomp::Default { &facts.seccomp } else { &options.seccomp };
    match wanted {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default | Seccomp::BuiltIn => Ok(Some(runtime::default_seccomp(granted))),
        Seccomp::Profile(text) => super::super::profile::parse(text, granted).map(Some),
    }
}
