//! Each place fails in turn, and nothing may be left of the container that was not made.

use super::after;
use crate::common::{Bench, Switch, pipes};
use oci::runtime::{Hook, Hooks, IdMapping, Namespace, NamespaceKind, Spec};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a container could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    mounts: String,
    children: String,
    /// Which ones this thread is in.
    namespaces: BTreeSet<PathBuf>,
    cgroup: bool,
    files: BTreeSet<String>,
}

fn traces(bench: &Bench) -> Traces {
    let list = |path: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path().display().to_string()).collect()
    };
    let group = cgroups::Cgroup::open(&cgroups::Manager::detect().unwrap(), &bench.cgroup).unwrap();
    let own = std::fs::read_dir("/proc/thread-self/ns");
    Traces {
        mounts: std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap(),
        children: std::fs::read_to_string("/proc/thread-self/children").unwrap(),
        namespaces: own.unwrap().map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap()).collect(),
        cgroup: group.exists(),
        files: list(&bench.base).union(&list(&bench.base.join("state"))).cloned().collect(),
    }
}

/// Makes a container with each place failing until none does; returns how many there were.
fn each(bench: &Bench, arm: impl Fn(u32), mut make: impl FnMut() -> bool) -> u32 {
    let before = traces(bench);
    for count in 0..200 {
        arm(count);
        let made = make();
        after(None, None);
        if made {
            return count;
        }
        assert_eq!(traces(bench), before, "place {count}");
    }
    panic!("no end of places");
}

fn mapped(mut spec: Spec) -> Spec {
    let linux = spec.linux.as_mut().unwrap();
    linux.namespaces.push(Namespace::new(NamespaceKind::User));
    linux.uid_mappings = vec![IdMapping { container_id: 0, host_id: 0, size: 65536 }];
    linux.gid_mappings = linux.uid_mappings.clone();
    spec
}

#[test]
#[ignore = "root: runs containers"]
fn nothing_is_left_of_what_the_library_did_not_make() {
    for switch in [Switch::Pivot, Switch::Empty] {
        for user in [false, true] {
            let bench = Bench::new(switch);
            let make = || {
                let spec = bench.spec(&["true"]);
                let spec = if user { mapped(spec) } else { spec };
                crate::create(bench.launch(spec, pipes().0)).map(crate::Created::abort).is_ok()
            };
            let parents = each(&bench, |count| after(Some(count), None), make);
            let steps = each(&bench, |count| after(None, Some(count)), make);
            assert!(parents >= 5 && steps >= 20, "{parents} {steps}");
        }
    }
}

#[test]
#[ignore = "root: runs containers"]
fn nothing_is_left_of_what_the_command_line_did_not_make() {
    let bench = Bench::new(Switch::Pivot);
    let (root, bundle) = (bench.base.join("state"), bench.base.join("bundle"));
    for directory in [&root, &bundle] {
        std::fs::create_dir_all(directory).unwrap();
    }
    let hook = Hook { path: "/bin/true".into(), ..Hook::default() };
    let mut spec = mapped(bench.spec(&["true"]));
    spec.root.as_mut().unwrap().path = bench.lower().display().to_string();
    spec.linux.as_mut().unwrap().cgroups_path = Some(bench.cgroup.clone());
    spec.hooks = Some(Hooks {
        prestart: vec![hook.clone()],
        create_container: vec![hook.clone()],
        start_container: vec![hook],
        ..Hooks::default()
    });
    std::fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    let run = |line: &[&str]| {
        let globals = ["--log", "/dev/null", "--log-format", "json", "--root", root.to_str().unwrap()];
        let words: Vec<String> = globals.iter().chain(line).map(|&word| word.to_owned()).collect();
        format!("{:?}", crate::command::main(&words)) == format!("{:?}", std::process::ExitCode::SUCCESS)
    };
    let make = || {
        let made = run(&["create", "--bundle", bundle.to_str().unwrap(), "c"]);
        made && run(&["delete", "--force", "c"])
    };
    let parents = each(&bench, |count| after(Some(count), None), make);
    let steps = each(&bench, |count| after(None, Some(count)), make);
    assert!(parents >= 6 && steps >= 20, "{parents} {steps}");
}

#[test]
#[ignore = "root: mounts a root file system"]
fn nothing_is_left_of_a_scope_that_was_not_started() {
    let bench = Bench::new(Switch::Pivot);
    let before = traces(&bench);
    let make = || {
        let launch = bench.launch(bench.spec(&["true"]), pipes().0);
        let launch = crate::Launch { systemd: true, cgroup: Some("a.slice:wharf:c".to_owned()), ..launch };
        crate::create(launch).map(crate::Created::abort).map_err(|error| error.to_string())
    };
    // The process that would hold the scope open is there by then.
    after(Some(0), None);
    let failed = make();
    after(None, None);
    assert_eq!(failed, Err("injected".to_owned()));
    assert_eq!(traces(&bench), before);
    if !Path::new("/run/systemd/private").exists() {
        let reason = "systemd not running on this host, cannot use systemd cgroups manager";
        assert_eq!(make(), Err(reason.to_owned()));
        assert_eq!(traces(&bench), before);
        return;
    }
    // With one at hand: whatever fails after the scope has been started, it goes again.
    let scope = || {
        let hierarchy = cgroups::Manager::detect().unwrap();
        cgroups::Cgroup::open(&hierarchy, "/a.slice/wharf-c.scope").unwrap().exists()
    };
    let began = std::cell::Cell::new(0);
    let make = || {
        let made = make();
        // The kernel tells systemd of the empty group a moment later than it is gone for us.
        assert!(!scope(), "{made:?}");
        began.set(began.get() + u32::from(made != Err("injected".to_owned())));
        made.is_ok()
    };
    let parents = each(&bench, |count| after(Some(count), None), make);
    let steps = each(&bench, |count| after(None, Some(count)), make);
    assert!(parents >= 6 && steps >= 20 && began.get() >= 20, "{parents} {steps}");
}
