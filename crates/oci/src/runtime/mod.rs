//! The runtime's `config.json` and state (runtime-spec 1.2: config.md, config-linux.md, runtime.md).
//!
//! Plain values: an absent list is empty, an absent number `None`. What only other operating systems have is ignored.

mod linux;
mod users;

pub use linux::*;
pub use users::{IdMap, map_lines};

use crate::lenient::null_default;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container to be: the content of `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The version of runtime-spec the document follows.
    pub oci_version: String,
    /// What to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name seen inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name seen inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Mounts besides the root, in order.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs to run at points of the life cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Free-form facts.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// What runs in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// It gets a terminal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// The size of the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// As whom.
    pub user: User,
    /// The program and its arguments.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// The capability sets; `None` leaves them alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Set-user-ID and file capabilities have no effect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    /// The `AppArmor` profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// How likely the kernel is to choose it when memory runs out, -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The scheduling policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The `SELinux` label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// The I/O priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// On which processors an additional process starts (1.2.1).
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// The identity of a process, in the container's own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// File mode creation mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// The five capability sets, by names as in capabilities(7).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// Bounding set.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    /// Effective set.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    /// Inheritable set.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    /// Permitted set.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    /// Ambient set.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// One resource limit, setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// Ceiling.
    pub hard: u64,
    /// In effect.
    pub soft: u64,
}

/// The scheduling policy, ``sched_setattr(2)``.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Scheduler {
    /// `SCHED_OTHER`, ….
    pub policy: String,
    /// Nice value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// Static priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// `SCHED_FLAG_…`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Deadline: run time in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u64>,
    /// Deadline: deadline in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Deadline: period in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
}

/// The I/O priority, ``ioprio_set(2)``.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `_BE` or `_IDLE`.
    pub class: String,
    /// Within the class.
    pub priority: i32,
}

/// Processor lists for an additional process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuAffinity {
    /// While it is set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// When it runs.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root {
    /// Where it is: absolute, or relative to the bundle.
    pub path: String,
    /// It is read-only inside.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where, absolute, inside.
    pub destination: String,
    /// The type of the file system.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A device, or a path on the host for a bind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Options as of mount(8).
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// User mappings of an ID-mapped mount.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group mappings of an ID-mapped mount.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// Programs to run at points of the life cycle.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// After the namespaces exist, on the host (deprecated).
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// During create, on the host.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// During create, in the container's namespaces.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// During start, before the program.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// After start, on the host.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// After delete, on the host.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hook {
    /// Absolute path on the host.
    pub path: String,
    /// Arguments, the zeroth included.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds after which it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// The state of a container, as hooks and `state` get it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// The version of runtime-spec the document follows.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// Where in its life it is.
    pub status: Status,
    /// Its first process, as the host numbers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Free-form facts.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    #[default]
    Creating,
    /// Made; the program has not started.
    Created,
    /// The program runs.
    Running,
    /// The program has ended.
    Stopped,
    /// Frozen (runc's addition).
    Paused,
}

/// The version of runtime-spec that documents made here follow.
pub const VERSION: &str = "1.2.0";

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{"ociVersion":"1.2.0","process":{"terminal":true,"user":{"uid":1,"gid":1,
        "additionalGids":[5]},"args":["sh"],"env":["TERM=xterm"],"cwd":"/","capabilities":{"bounding":["CAP_KILL"]},
        "rlimits":[{"type":"RLIMIT_CORE","hard":1024,"soft":1024}],"noNewPrivileges":true,"oomScoreAdj":100},
        "root":{"path":"rootfs","readonly":true},"hostname":"slartibartfast","mounts":[{"destination":"/proc",
        "type":"proc","source":"proc","options":["nosuid"]}],"hooks":{"poststop":[{"path":"/usr/sbin/x","args":["x","-f"],
        "timeout":5}]},"linux":{"uidMappings":[{"containerID":0,"hostID":1000,"size":32000}],
        "sysctl":{"net.ipv4.ip_forward":"1"},"resources":{"devices":[{"allow":false,"access":"rwm"}],
        "memory":{"limit":536870912,"disableOOMKiller":false},"cpu":{"shares":1024,"quota":-1},"pids":{"limit":32},
        "blockIO":{"weight":10,"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":600}]},
        "hugepageLimits":[{"pageSize":"2MB","limit":9223372036854772000}],"network":{"classID":1048577},
        "rdma":{"mlx5_1":{"hcaHandles":3}},"unified":{"memory.high":"1"}},"cgroupsPath":"/x",
        "namespaces":[{"type":"pid"},{"type":"network","path":"/proc/1/ns/net"}],
        "devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229,"fileMode":438,"uid":0}],
        "seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,
        "op":"SCMP_CMP_MASKED_EQ"}]}]},"rootfsPropagation":"slave","maskedPaths":["/proc/kcore"],
        "intelRdt":{"closID":"g","l3CacheSchema":"L3:0=f"},"timeOffsets":{"boottime":{"secs":5,"nanosecs":0}}}}"#;

    #[test]
    fn reads_and_writes_the_same_document() {
        let spec: Spec = serde_json::from_str(EXAMPLE).unwrap();
        let linux = spec.linux.as_ref().unwrap();
        assert_eq!(linux.namespaces.len(), 2);
        assert_eq!(linux.seccomp.as_ref().unwrap().syscalls[0].args[0].op, Operator::MaskedEqual);
        let value: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), value);
    }

    #[test]
    fn nulls_are_empty_and_unknown_actions_refused() {
        let spec: Spec =
            serde_json::from_str("{\"ociVersion\":\"1.0.0\",\"mounts\":null,\"windows\":{}}").unwrap();
        assert!(spec.mounts.is_empty());
        assert!(serde_json::from_str::<Seccomp>("{\"defaultAction\":\"SCMP_ACT_MAYBE\"}").is_err());
        assert!(serde_json::from_str::<Namespace>("{\"type\":\"moon\"}").is_err());
    }
}
