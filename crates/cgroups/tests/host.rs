//! Cgroups on the host's own hierarchies, below `/wharf-test-PID`.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use cgroups::{Cgroup, Error, Hierarchy, Manager};
use oci::runtime::{Cpu, DeviceRule, Memory, Pids, Resources};
use std::path::Path;
use sys::process::{Child, Command};

fn hierarchy() -> Hierarchy {
    Manager::detect().unwrap()
}

fn sleeper() -> Child {
    Command::new(Path::new("/bin/sleep")).argument("1000").spawn().unwrap()
}

fn path(name: &str) -> String {
    format!("/wharf-test-{}-{name}/inner", std::process::id())
}

/// Removes the cgroup and the one above it.
fn clean(group: &Cgroup) {
    group.delete().unwrap();
    assert!(!group.exists());
    let parent = Path::new(group.path()).parent().unwrap().to_str().unwrap().to_owned();
    Cgroup::open(&hierarchy(), &parent).unwrap().delete().unwrap();
}

#[test]
#[ignore = "root: makes cgroups"]
fn processes_are_attached_frozen_counted_and_killed() {
    let group = Cgroup::create(&hierarchy(), &path("life")).unwrap();
    assert_eq!(Cgroup::create(&hierarchy(), &path("life")).unwrap(), group);
    let child = sleeper();
    group.attach(child.pid).unwrap();
    assert_eq!(group.processes().unwrap(), [child.pid]);
    let statistics = group.statistics().unwrap();
    assert_eq!(statistics.pids.current, 1);
    assert!(statistics.memory.limit > 0 || !hierarchy().controllers().contains(&"memory".to_owned()));
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    group.freeze().unwrap();
    group.kill().unwrap();
    assert_eq!(child.wait().unwrap(), sys::pidfd::Exit::Signal(9));
    assert_eq!(group.oom_kills(), 0);
    clean(&group);
    group.delete().unwrap();
    assert_eq!(group.processes().unwrap(), [0; 0]);
    assert!(group.statistics().is_err());
}

#[test]
#[ignore = "root: makes cgroups"]
fn limits_are_written_and_changed() {
    let group = Cgroup::create(&hierarchy(), &path("limits")).unwrap();
    let resources = |memory, shares| Resources {
        memory: Some(Memory { limit: Some(memory), swap: Some(2 * memory), ..Memory::default() }),
        cpu: Some(Cpu {
            shares: Some(shares),
            quota: Some(50_000),
            period: Some(100_000),
            cpus: Some("0".into()),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: Some(20) }),
        devices: vec![
            DeviceRule { access: Some("rwm".into()), ..DeviceRule::default() },
            DeviceRule {
                allow: true,
                kind: Some("c".into()),
                major: Some(1),
                minor: Some(3),
                access: Some("rwm".into()),
            },
        ],
        ..Resources::default()
    };
    let read = |controller: &str, file: &str| {
        let path = group.directory(controller).unwrap().join(file);
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };
    for (memory, shares) in [(64 << 20, 512), (128 << 20, 2048), (32 << 20, 256)] {
        group.apply(&resources(memory, shares)).unwrap();
        let statistics = group.statistics().unwrap();
        assert_eq!(statistics.memory.limit, u64::try_from(memory).unwrap());
        assert_eq!(statistics.pids.limit, Some(20));
        if !hierarchy().is_unified() {
            assert_eq!(read("cpu", "cpu.shares"), shares.to_string());
            assert_eq!(read("devices", "devices.list"), "c 1:3 rwm");
            assert_eq!(read("cpuset", "cpuset.cpus"), "0");
        }
    }
    let wrong =
        Resources { cpu: Some(Cpu { cpus: Some("4000".into()), ..Cpu::default() }), ..Resources::default() };
    assert!(matches!(group.apply(&wrong), Err(Error::Write { .. })));
    clean(&group);
}

#[test]
#[ignore = "root: makes cgroups"]
fn nested_and_busy_cgroups_are_removed_when_they_can_be() {
    let group = Cgroup::create(&hierarchy(), &path("busy")).unwrap();
    let inner = Cgroup::create(&hierarchy(), &format!("{}/deeper/still", path("busy"))).unwrap();
    let child = sleeper();
    inner.attach(child.pid).unwrap();
    assert_eq!(group.processes().unwrap(), [child.pid]);
    assert!(matches!(group.delete(), Err(Error::Delete { .. })));
    group.kill().unwrap();
    child.wait().unwrap();
    clean(&group);
}

#[test]
fn paths_stay_below_the_root() {
    let hierarchy = Hierarchy::V2 { root: "/nonexistent".into() };
    for wrong in ["", "/", "/.", "../x", "/a/../../b"] {
        assert!(matches!(Cgroup::open(&hierarchy, wrong), Err(Error::InvalidPath(_))), "{wrong}");
    }
    assert_eq!(Cgroup::open(&hierarchy, "a//b/").unwrap().path(), "/a/b");
}
