//! One wrong thing at a time.

use super::*;
use serde_json::{Value, json};

/// A document with one change, at a place as in a JSON pointer.
fn document(pointer: &str, value: Value) -> Value {
    let mut document = json!({
        "ociVersion": "1.2.0",
        "process": { "args": ["sh"], "cwd": "/", "env": ["A=1"], "user": { "uid": 0, "gid": 0 },
            "capabilities": { "bounding": ["CAP_KILL"] }, "rlimits": [] },
        "root": { "path": "etc" },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "hooks": {},
        "linux": { "namespaces": [{ "type": "mount" }, { "type": "uts" }], "resources": {} },
    });
    if !pointer.is_empty() {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
            Value::Array(items) => items.push(value),
            _ => panic!("{parent}"),
        }
    }
    document
}

fn check_one(pointer: &str, value: Value, expect: &str) {
    let spec: Spec = serde_json::from_value(document(pointer, value)).unwrap();
    let said = check(&spec, Path::new("/")).err().map(|error| error.to_string()).unwrap_or_default();
    match expect {
        "" => assert_eq!(said, "", "{pointer}"),
        path => assert!(said.starts_with(&format!("{path}: ")), "{pointer}: {said:?}"),
    }
}

fn network(devices: &Value) -> Value {
    json!({ "namespaces": [{ "type": "mount" }, { "type": "network" }], "netDevices": devices })
}

fn map(container: u32, host: u32) -> Value {
    json!({ "containerID": container, "hostID": host, "size": 10 })
}

#[test]
fn the_place_of_what_is_wrong_is_told() {
    for (pointer, value, path) in [
        ("", Value::Null, ""),
        ("/ociVersion", json!("1.3.0-dev"), ""),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("1.0"), "ociVersion"),
        ("/ociVersion", json!(""), "ociVersion"),
        ("/root", json!({}), "root.path"),
        ("/root", json!({ "path": "nosuch" }), "root.path"),
        ("/process", json!({ "cwd": "/" }), "process.args"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/env/1", json!("=x"), "process.env[1]"),
        ("/process/capabilities/bounding/1", json!("KILL_ALL"), "process.capabilities.bounding[1]"),
        ("/process/capabilities/bounding/1", json!("CAP_OF_TOMORROW"), ""),
        (
            "/process/rlimits/0",
            json!({ "type": "RLIMIT_X", "soft": 1, "hard": 1 }),
            "process.rlimits[0].type",
        ),
        (
            "/process/rlimits/0",
            json!({ "type": "RLIMIT_CPU", "soft": 2, "hard": 1 }),
            "process.rlimits[0].soft",
        ),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("/process/scheduler", json!({ "policy": "SCHED_X" }), "process.scheduler"),
        ("/process/execCPUAffinity", json!({ "final": "x" }), "process.execCPUAffinity.final"),
        ("/hostname", json!("x".repeat(65)), "hostname"),
        ("/mounts/1", json!({ "destination": "relative", "type": "tmpfs" }), "mounts[1].destination"),
        ("/mounts/1", json!({ "destination": "/x" }), "mounts[1].type"),
        ("/mounts/1", json!({ "destination": "/x", "type": "bind" }), "mounts[1].source"),
        (
            "/mounts/1",
            json!({ "destination": "/x", "type": "bind", "source": "/etc", "uidMappings": [map(0, 0)] }),
            "mounts[1].uidMappings",
        ),
        (
            "/mounts/1",
            json!({ "destination": "/x", "type": "tmpfs", "options": ["idmap"] }),
            "mounts[1].options",
        ),
        ("/hooks/poststop", json!([{ "path": "relative" }]), "hooks.poststop[0].path"),
        ("/hooks/prestart", json!([{ "path": "/x", "timeout": 0 }]), "hooks.prestart[0].timeout"),
    ] {
        check_one(pointer, value, path);
    }
}

#[test]
fn the_place_in_the_linux_part_is_told() {
    for (pointer, value, path) in [
        ("/linux/namespaces/2", json!({ "type": "uts" }), "linux.namespaces[2].type"),
        (
            "/linux/namespaces/2",
            json!({ "type": "pid", "path": "proc/1/ns/pid" }),
            "linux.namespaces[2].path",
        ),
        ("/linux/namespaces/2", json!({ "type": "pid", "path": "/nonexistent" }), "linux.namespaces[2].path"),
        (
            "/linux/namespaces/2",
            json!({ "type": "pid", "path": "/proc/self/ns/net" }),
            "linux.namespaces[2].path",
        ),
        ("/linux/namespaces/2", json!({ "type": "pid", "path": "/proc/self/ns/pid" }), ""),
        ("/linux/namespaces/2", json!({ "type": "user" }), "linux.uidMappings"),
        ("/linux/gidMappings", json!([map(0, 0)]), "linux.gidMappings"),
        ("/linux/uidMappings", json!([map(0, 0), map(5, 100)]), "linux.uidMappings[1].containerID"),
        ("/linux/uidMappings", json!([map(0, 0), map(10, 9)]), "linux.uidMappings[1].hostID"),
        ("/linux/devices", json!([{ "path": "dev/x", "type": "c" }]), "linux.devices[0].path"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "x" }]), "linux.devices[0].type"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "c", "major": -1 }]), "linux.devices[0].major"),
        ("/linux/sysctl", json!({ "kernel.panic": "1" }), "linux.sysctl[\"kernel.panic\"]"),
        ("/linux/maskedPaths", json!(["/a", "b"]), "linux.maskedPaths[1]"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/linux/personality", json!({ "domain": "SVR4" }), "linux.personality.domain"),
        ("/linux/timeOffsets", json!({ "realtime": {} }), "linux.timeOffsets[\"realtime\"]"),
        ("/linux/timeOffsets", json!({ "boottime": {} }), "linux.timeOffsets[\"boottime\"]"),
        ("/linux/intelRdt", json!({ "closID": "x" }), "linux.intelRdt"),
        ("/linux/netDevices", json!({ "eth1": {} }), "linux.netDevices"),
        ("/linux", network(&json!({ "eth1": {}, "eth2": { "name": "x" } })), ""),
        ("/linux", network(&json!({ "a/b": {} })), "linux.netDevices[\"a/b\"]"),
        ("/linux", network(&json!({ "eth1": { "name": "1234567890123456" } })), "linux.netDevices[\"eth1\"]"),
        ("/linux", network(&json!({ "eth1": { "name": "x" }, "x": {} })), "linux.netDevices[\"x\"]"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "linux.seccomp"),
        ("/linux/resources/memory", json!({ "limit": 100, "swap": 50 }), "linux.resources.memory.swap"),
        ("/linux/resources/memory", json!({ "swappiness": 101 }), "linux.resources.memory.swappiness"),
        ("/linux/resources/cpu", json!({ "cpus": "0-2147483647" }), "linux.resources.cpu.cpus"),
        ("/linux/resources/blockIO", json!({ "weight": 9 }), "linux.resources.blockIO.weight"),
        ("/linux/resources/unified", json!({ "../x": "1" }), "linux.resources.unified[\"../x\"]"),
        (
            "/linux/resources/devices",
            json!([{ "allow": true, "type": "x" }]),
            "linux.resources.devices[0].type",
        ),
    ] {
        check_one(pointer, value, path);
    }
}

#[test]
fn quotas_are_given_once() {
    let resources = json!({ "cpu": { "quota": 1000 }, "unified": { "cpu.max": "1 2" } });
    check_one("/linux/resources", resources, "linux.resources.unified[\"cpu.max\"]");
}

#[test]
fn the_place_of_what_cannot_be_read_is_told() {
    for (pointer, value, path) in [
        ("/process/args", json!("sh"), Some("process.args")),
        ("/linux/namespaces/2", json!({ "type": "moon" }), Some("linux.namespaces[2]")),
        ("/mounts/1", json!({ "destination": 7 }), Some("mounts[1].destination")),
        ("/root", json!("/"), Some("root")),
    ] {
        let text = serde_json::to_vec(&document(pointer, value)).unwrap();
        assert_eq!(culprit(&text).as_deref(), path, "{pointer}");
    }
    assert_eq!(culprit(b"{"), None);
}
