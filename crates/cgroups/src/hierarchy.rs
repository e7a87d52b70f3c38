//! Which hierarchies this host has, and where.

use crate::Error;
use std::path::PathBuf;
use sys::mount::Entry;

/// One mounted version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its controllers (`cpu`, `cpuacct`), or its name (`name=systemd`).
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub point: PathBuf,
}

/// The hierarchies of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchy {
    /// One hierarchy for each controller or group of them.
    V1 {
        /// All that are mounted.
        mounts: Vec<Mount>,
    },
    /// The unified hierarchy.
    V2 {
        /// Where it is mounted.
        root: PathBuf,
    },
}

/// Finds the hierarchies.
#[derive(Debug, Clone, Copy)]
pub struct Manager;

impl Manager {
    /// Reads which hierarchies this thread sees mounted.
    ///
    /// # Errors
    ///
    /// [`Error::NotMounted`] if there is none.
    pub fn detect() -> Result<Hierarchy, Error> {
        let table = sys::mount::table().map_err(Error::MountTable)?;
        from_table(&table).ok_or(Error::NotMounted)
    }
}

impl Hierarchy {
    /// Says whether this is the unified hierarchy.
    pub fn is_unified(&self) -> bool {
        matches!(self, Self::V2 { .. })
    }

    /// Returns the controllers that can be used, sorted; named hierarchies not among them.
    pub fn controllers(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::V1 { mounts } => {
                let all = mounts.iter().flat_map(|mount| mount.controllers.iter());
                all.filter(|name| !name.starts_with("name=")).cloned().collect()
            }
            Self::V2 { root } => {
                let text = sys::path::read_to_end(&root.join("cgroup.controllers")).unwrap_or_default();
                String::from_utf8_lossy(&text).split_whitespace().map(str::to_owned).collect()
            }
        };
        names.sort();
        names
    }

    /// Says whether swap can be limited.
    pub fn limits_swap(&self) -> bool {
        match self {
            Self::V1 { mounts } => mounts.iter().any(|mount| {
                mount.controllers.iter().any(|name| name == "memory")
                    && mount.point.join("memory.memsw.limit_in_bytes").exists()
            }),
            // The root has no limits: any other group shows whether swap is accounted.
            Self::V2 { root } => sys::path::read_to_end(std::path::Path::new("/proc/self/cgroup"))
                .ok()
                .and_then(|text| {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let own = text.lines().find_map(|line| line.strip_prefix("0::/").map(str::to_owned))?;
                    Some(root.join(own).join("memory.swap.max").exists())
                })
                .unwrap_or(false),
        }
    }
}

const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
    "rdma",
    "misc",
];

fn from_table(table: &[Entry]) -> Option<Hierarchy> {
    let mut mounts: Vec<Mount> = Vec::new();
    for entry in table.iter().filter(|entry| entry.kind == "cgroup") {
        let options = entry.super_options.split(',');
        let known = |option: &&str| CONTROLLERS.contains(option) || option.starts_with("name=");
        let controllers: Vec<String> = options.filter(known).map(str::to_owned).collect();
        let first_time = !mounts.iter().any(|mount| mount.controllers == controllers);
        if !controllers.is_empty() && first_time {
            mounts.push(Mount { controllers, point: entry.point.clone() });
        }
    }
    let limits = |mount: &Mount| mount.controllers.iter().any(|name| !name.starts_with("name="));
    if mounts.iter().any(limits) {
        return Some(Hierarchy::V1 { mounts });
    }
    let unified = table.iter().find(|entry| entry.kind == "cgroup2")?;
    Some(Hierarchy::V2 { root: unified.point.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, point: &str, options: &str) -> Entry {
        Entry {
            root: "/".into(),
            point: point.into(),
            options: "rw".into(),
            tags: Vec::new(),
            kind: kind.into(),
            source: kind.into(),
            super_options: options.into(),
        }
    }

    #[test]
    fn a_hybrid_host_is_version_1_and_a_named_hierarchy_alone_is_not() {
        let unified = entry("cgroup2", "/sys/fs/cgroup/unified", "rw");
        let systemd = entry("cgroup", "/sys/fs/cgroup/systemd", "rw,xattr,name=systemd");
        let cpu = entry("cgroup", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct");
        let twice = entry("cgroup", "/mnt/cpu", "rw,cpu,cpuacct");
        assert_eq!(from_table(&[]), None);
        let only_named = from_table(&[systemd.clone(), unified.clone()]);
        assert_eq!(only_named, Some(Hierarchy::V2 { root: "/sys/fs/cgroup/unified".into() }));
        let Some(Hierarchy::V1 { mounts }) = from_table(&[systemd, unified, cpu, twice]) else { panic!() };
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[1].controllers, ["cpu", "cpuacct"]);
        assert_eq!(mounts[1].point, std::path::Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    }
}
