//! The mounts of a container, in the order they are made.

use super::{Facts, INIT, wants_init};
use crate::container::idmap;
use crate::container::record::{Container, MountKind, MountPoint};
use crate::container::security::Options;
use oci::runtime::{IdMap, Mount};

/// Returns the kernel's file systems, the engine's files, then what was asked; what was asked replaces what is at its place.
pub(super) fn mounts(container: &Container, facts: &Facts, options: &Options) -> Vec<Mount> {
    let mut mounts = kernel(container, facts, options);
    let asked: Vec<&str> = container.mounts.iter().map(|point| point.destination.as_str()).collect();
    mounts.retain(|mount| !asked.contains(&mount.destination.as_str()));
    let host_files = ["resolv.conf", "hostname", "hosts"];
    for name in host_files {
        let destination = format!("/etc/{name}");
        if !asked.contains(&destination.as_str()) {
            let source = facts.files.join(name).display().to_string();
            let mut flags = vec!["rbind", "rprivate"];
            if container.host.readonly_rootfs {
                flags.push("ro");
            }
            mounts.push(shown_as(bind(&destination, &source, &flags), facts.owners.as_ref()));
        }
    }
    if wants_init(container, facts) {
        mounts.push(bind(INIT, &facts.executable.display().to_string(), &["bind", "ro", "rprivate"]));
    }
    mounts.extend(container.mounts.iter().map(|point| {
        let remapped = facts.owners.as_ref().filter(|_| facts.owned.contains(&point.destination));
        let own = idmap::of(&point.options);
        shown_as(user(point, facts), own.as_ref().or(remapped))
    }));
    mounts
}

fn kernel(container: &Container, facts: &Facts, options: &Options) -> Vec<Mount> {
    let host = &container.host;
    let writable = host.privileged;
    let cgroup_writable = writable || options.writable_cgroups;
    let access = |writable| if writable { "rw" } else { "ro" };
    let shm = if host.shm_size > 0 { host.shm_size.unsigned_abs() } else { facts.shm_size };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access(writable)]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", access(cgroup_writable)]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    let joined_shm = facts.joined.iter().find(|(kind, _)| *kind == oci::runtime::NamespaceKind::Ipc);
    match (host.ipc_mode.as_str(), joined_shm) {
        ("host", _) => {
            mounts.push(bind("/dev/shm", "/dev/shm", &["rbind", "rprivate"]));
            if facts.owners.is_some() {
                // The host's is not for a user namespace to mount.
                mounts.retain(|mount| mount.destination != "/dev/mqueue");
            }
        }
        ("none", _) => {}
        // The joined container's own /dev/shm, through its root.
        (_, Some((_, path))) => {
            let source = path.replace("/ns/ipc", "/root/dev/shm");
            let namespace = format!("x-wharf.namespace={}", path.replace("/ns/ipc", "/ns/mnt"));
            mounts.push(bind("/dev/shm", &source, &["rbind", "rprivate", &namespace]));
        }
        (_, None) => {
            let size = format!("size={shm}");
            mounts.push(mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &size],
            ));
        }
    }
    if host.network_mode == "host" {
        // sysfs shows the network of whoever mounts it, so the host's own is bound.
        mounts.retain(|mount| mount.destination != "/sys");
        let sys = bind("/sys", "/sys", &["rbind", "nosuid", "noexec", "nodev", access(writable), "rprivate"]);
        let place =
            mounts.iter().position(|mount| mount.destination == "/sys/fs/cgroup").unwrap_or(mounts.len());
        mounts.insert(place, sys);
    }
    mounts
}

fn user(point: &MountPoint, facts: &Facts) -> Mount {
    match point.kind {
        MountKind::Image => {
            let layers = facts.views.get(&point.destination).map(Vec::as_slice).unwrap_or_default();
            if let [single] = layers {
                return bind(&point.destination, &single.display().to_string(), &["bind", "ro", "rprivate"]);
            }
            let layers = layers.iter().map(|layer| format!("lowerdir+={}", layer.display()));
            let options: Vec<String> =
                ["ro".to_owned(), "rprivate".to_owned()].into_iter().chain(layers).collect();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            mount(&point.destination, "overlay", "overlay", &options)
        }
        MountKind::Tmpfs => {
            let mut options: Vec<&str> = vec!["noexec", "nosuid", "nodev", "rprivate"];
            for option in point.options.iter().map(String::as_str) {
                // What the user gives takes the place of its opposite.
                let opposite = match option {
                    "exec" => "noexec",
                    "suid" => "nosuid",
                    "dev" => "nodev",
                    _ => "",
                };
                options.retain(|old| *old != opposite && *old != option);
                options.push(option);
            }
            if !point.writable {
                options.push("ro");
            }
            mount(&point.destination, "tmpfs", "tmpfs", &options)
        }
        MountKind::Bind | MountKind::Volume => {
            let recursive = !point.options.iter().any(|option| option == "bind");
            let mut options = vec![if recursive { "rbind" } else { "bind" }];
            // With all below it, unless only the mount itself is asked for.
            let all = recursive && !point.options.iter().any(|option| option == "ro");
            if !point.writable {
                options.push(if all { "rro" } else { "ro" });
            }
            let part = format!("x-wharf.subpath={}", point.subpath);
            if !point.subpath.is_empty() {
                options.push(&part);
            }
            options.push(if point.propagation.is_empty() { "rprivate" } else { &point.propagation });
            bind(&point.destination, &point.source, &options)
        }
    }
}

/// Has the owners of a mount's files shown as others.
fn shown_as(mut mount: Mount, map: Option<&IdMap>) -> Mount {
    if let Some(map) = map {
        if mount.kind.as_deref() == Some("bind") {
            mount.options.push("idmap".to_owned());
        }
        (mount.uid_mappings, mount.gid_mappings) = (map.uids.clone(), map.gids.clone());
    }
    mount
}

fn bind(destination: &str, source: &str, options: &[&str]) -> Mount {
    mount(destination, "bind", source, options)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}
