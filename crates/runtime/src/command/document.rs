//! `spec` and `features`: documents about documents.

use super::arguments::{Flag, Parsed};
use super::{Failure, Globals};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

pub(super) const SPEC_FLAGS: &[Flag] = &[
    Flag::value("bundle", "directory of the bundle (default: the present one)").short('b'),
    Flag::switch("rootless", "config.json for a user without privileges"),
];

pub(super) fn spec(_globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let path = Path::new(flags.value("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(format!("File {} exists. Remove it first", path.display()).into());
    }
    std::fs::write(&path, serde_json::to_string_pretty(&document(flags.has("rootless")))? + "\n")?;
    Ok(ExitCode::SUCCESS)
}

/// A document to begin with, as runc's; `rootless`: for a user without privileges (runc, `ToRootless`).
fn document(rootless: bool) -> serde_json::Value {
    let mut document = example();
    if !rootless {
        return document;
    }
    let user = serde_json::json!({ "type": "user" });
    if let Some(linux) = document.get_mut("linux").and_then(serde_json::Value::as_object_mut) {
        // Without privileges there are no cgroups to limit, and the network can only be the host's.
        linux.remove("resources");
        let own = |id: u32| serde_json::json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        linux.insert("uidMappings".to_owned(), own(rustix::process::geteuid().as_raw()));
        linux.insert("gidMappings".to_owned(), own(rustix::process::getegid().as_raw()));
        if let Some(namespaces) = linux.get_mut("namespaces").and_then(serde_json::Value::as_array_mut) {
            namespaces.retain(|one| one["type"] != "network");
            namespaces.push(user);
        }
    }
    if let Some(mounts) = document.get_mut("mounts").and_then(serde_json::Value::as_array_mut) {
        mounts.retain(|mount| mount["type"] != "cgroup");
        for mount in mounts {
            let group =
                |option: &serde_json::Value| option.as_str().is_some_and(|text| text.starts_with("gid="));
            if let Some(options) = mount.get_mut("options").and_then(serde_json::Value::as_array_mut) {
                options.retain(|option| !group(option));
            }
            if mount["type"] == "sysfs" {
                let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
                *mount = serde_json::json!({
                    "destination": "/sys", "type": "none", "source": "/sys", "options": options,
                });
            }
        }
    }
    document
}

fn example() -> serde_json::Value {
    let capabilities = serde_json::json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| serde_json::json!({ "destination": destination, "type": kind, "source": source, "options": options });
    serde_json::json!({
        "ociVersion": oci::runtime::VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "wharf",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// Mount options that are understood, sorted.
const OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// What this runtime can do (runtime-spec features.md).
pub(super) fn features(_globals: &Globals, _flags: &Parsed) -> Result<ExitCode, Failure> {
    let document = serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": sys::capability::Set::ALL.names(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE",
                ],
                "archs": [
                    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
                ],
                "knownFlags": [
                    "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
                ],
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": { "org.opencontainers.runc.checkpoint.enabled": "true" },
    });
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&document)?)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_document() {
        let spec: oci::runtime::Spec = serde_json::from_value(example()).unwrap();
        assert_eq!(spec.mounts.len(), 7);
        assert_eq!(spec.linux.unwrap().namespaces.len(), 5);
        let spec: oci::runtime::Spec = serde_json::from_value(document(true)).unwrap();
        let linux = spec.linux.unwrap();
        assert_eq!((spec.mounts.len(), linux.namespaces.len(), linux.uid_mappings.len()), (6, 5, 1));
        assert_eq!(linux.resources, None);
    }
}
