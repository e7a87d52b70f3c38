//! What of a container is not its own, and is told to CRIU by its place: mounts of the host's, and a network namespace that others
//! made.

use super::super::Failure;
use super::super::record::Record;
use cgroups::Cgroup;
use oci::runtime::{NamespaceKind, Spec};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a network namespace that was given is called in the image, as runc calls it.
pub(super) const NETWORK: &str = "extRootNetNS";

/// The places in the container where something of the host is mounted, with what is mounted there again.
fn host_mounts<'a>(spec: &'a Spec, group: Option<&'a Path>) -> Vec<(String, String)> {
    let is_bind = |mount: &oci::runtime::Mount| {
        mount.kind.as_deref() == Some("bind")
            || mount.options.iter().any(|one| one == "bind" || one == "rbind")
    };
    let clean = |path: &str| format!("/{}", path.trim_matches('/'));
    let mut found = Vec::new();
    for mount in &spec.mounts {
        let place = clean(&mount.destination);
        if is_bind(mount) {
            found.push((place, mount.source.clone().unwrap_or_default()));
        } else if let (Some("cgroup" | "cgroup2"), Some(group)) = (mount.kind.as_deref(), group) {
            found.push((place, group.display().to_string()));
        }
    }
    found
}

/// What of the container is not its own, for a dump.
pub(super) fn external(record: &Record) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut add = |what: String| found.push(what);
    let cgroup = record.cgroup()?;
    for (place, _) in host_mounts(&record.spec, unified(&cgroup)) {
        add(format!("mnt[{place}]:{place}"));
    }
    let inside = PathBuf::from(format!("/proc/{}/root", record.pid));
    for path in masked(&record.spec) {
        let status = std::fs::symlink_metadata(inside.join(path.trim_start_matches('/')));
        if status.is_ok_and(|status| !status.is_dir()) {
            add(format!("mnt[{path}]:{path}"));
        }
    }
    if let Some(path) = network_path(&record.spec) {
        let inode = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?.ino();
        add(format!("net[{inode}]:{NETWORK}"));
    }
    Ok(found)
}

/// The same for a restore: what is mounted at which of the places.
pub(super) fn sources(spec: &Spec, cgroup: &Cgroup) -> Vec<String> {
    let masks = masked(spec).iter().map(|path| (path.clone(), "/dev/null".to_owned()));
    let all = host_mounts(spec, unified(cgroup)).into_iter().chain(masks);
    all.map(|(place, source)| format!("mnt[{place}]:{source}")).collect()
}

fn masked(spec: &Spec) -> &[String] {
    spec.linux.as_ref().map(|linux| linux.masked_paths.as_slice()).unwrap_or_default()
}

/// The group's directory, where version 2 is alone.
fn unified(cgroup: &Cgroup) -> Option<&Path> {
    match cgroup.places().as_slice() {
        [([], _, directory)] => Some(directory),
        _ => None,
    }
}

pub(super) fn network_path(spec: &Spec) -> Option<&str> {
    let namespaces = spec.linux.as_ref().map(|linux| linux.namespaces.as_slice()).unwrap_or_default();
    let network = namespaces.iter().find(|one| one.kind == NamespaceKind::Network);
    network.and_then(|one| one.path.as_deref()).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::{Linux, Mount, Namespace};

    #[test]
    fn what_is_the_hosts_is_told_by_its_place() {
        let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
            destination: destination.to_owned(),
            kind: Some(kind.to_owned()),
            source: Some(source.to_owned()),
            options: options.iter().map(|&one| one.to_owned()).collect(),
            ..Mount::default()
        };
        let network = Namespace { kind: NamespaceKind::Network, path: Some("/ns".to_owned()) };
        let spec = Spec {
            mounts: vec![
                mount("/proc", "proc", "proc", &[]),
                mount("/data/", "none", "/host/data", &["rbind"]),
                mount("/sys/fs/cgroup", "cgroup", "cgroup", &[]),
            ],
            linux: Some(Linux { namespaces: vec![network], ..Linux::default() }),
            ..Spec::default()
        };
        let pair = |place: &str, source: &str| (place.to_owned(), source.to_owned());
        assert_eq!(host_mounts(&spec, None), [pair("/data", "/host/data")]);
        let all = host_mounts(&spec, Some(Path::new("/group")));
        assert_eq!(all, [pair("/data", "/host/data"), pair("/sys/fs/cgroup", "/group")]);
        assert_eq!(network_path(&spec), Some("/ns"));
    }
}
