//! Times create, start and exit of a program, part by part, and prints minimum and median in microseconds.
//!
//! `startup ROOTFS ROUNDS PROGRAM [ARGUMENT…]`, as root: ROOTFS is a directory, mounted as the only layer of an overlay on
//! the file system of the temporary directory.
#![expect(clippy::print_stdout, reason = "what it finds is for a person to read")]
#![expect(clippy::expect_used, reason = "a tool for developers may stop where it stands")]

#[path = "../tests/common/mod.rs"]
mod common;

use cgroups::Manager;
use oci::runtime::{NamespaceKind, Spec};
use runtime::{Launch, Overlay, RootSwitch, Rootfs, Stdio};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rootfs = PathBuf::from(arguments.next().expect("a root file system"));
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).expect("a number of rounds");
    let program: Vec<String> = arguments.collect();
    // What every container's cgroup is below is there before the first.
    let parent =
        Manager::detect().and_then(|hierarchy| cgroups::Cgroup::create(&hierarchy, "/wharf-startup"));
    let parent = parent.expect("a cgroup");
    for empty in [true, false] {
        let mut times: Vec<Vec<u128>> = vec![Vec::new(); 4];
        for round in 0..rounds {
            let taken = once(&rootfs, &program, empty, round);
            for (times, taken) in times.iter_mut().zip(taken) {
                times.push(taken);
            }
        }
        println!("{}", if empty { "from an empty mount namespace" } else { "by pivot_root" });
        for (name, mut times) in ["create", "start", "exit", "clean up"].into_iter().zip(times) {
            times.sort_unstable();
            let at = |place: usize| times.get(place).copied().unwrap_or_default();
            println!("  {name:9} min {:6}  p10 {:6}  median {:6}", at(0), at(rounds / 10), at(rounds / 2));
        }
    }
    parent.delete().expect("delete the parent");
}

fn once(rootfs: &Path, program: &[String], empty: bool, round: usize) -> [u128; 4] {
    let base = std::env::temp_dir().join(format!("wharf-startup-{}-{round}", std::process::id()));
    let (upper, work) = (base.join("upper"), base.join("work"));
    std::fs::create_dir_all(&upper).expect("upper");
    std::fs::create_dir_all(&work).expect("work");
    let null = || File::options().read(true).write(true).open("/dev/null").expect("/dev/null").into();
    let launch = Launch {
        systemd: false,
        identity: None,
        spec: spec(program),
        rootfs: Rootfs::Overlay(Overlay {
            lower: vec![rootfs.to_owned()],
            upper,
            work,
            volatile: true,
            owners: None,
        }),
        stdio: Stdio::Streams { stdin: null(), stdout: null(), stderr: null() },
        root_switch: if empty {
            RootSwitch::Empty(sys::namespace::empty_mount_namespace().expect("empty namespace"))
        } else {
            RootSwitch::Pivot
        },
        user: None,
        create_cwd: true,
        cgroup: Some(format!("/wharf-startup/{round}")),
    };
    let begin = Instant::now();
    let created = runtime::create(launch).expect("create");
    let ready = Instant::now();
    let init = created.start().expect("start");
    let started = Instant::now();
    sys::pidfd::wait(init.pidfd.as_fd()).expect("wait");
    let ended = Instant::now();
    init.cgroup.delete().expect("delete");
    std::fs::remove_dir_all(&base).expect("remove");
    let cleaned = Instant::now();
    let micros = |from: Instant, to: Instant| to.duration_since(from).as_micros();
    [micros(begin, ready), micros(ready, started), micros(started, ended), micros(ended, cleaned)]
}

/// The document of the tests, with Docker's filter; the network stays the host's, as the engine gives it one.
fn spec(program: &[String]) -> Spec {
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let mut spec = common::document(&program);
    let capabilities = spec.process.as_ref().and_then(|process| process.capabilities.clone());
    if let Some(linux) = &mut spec.linux {
        linux.namespaces.retain(|one| one.kind != NamespaceKind::Network);
        linux.seccomp = Some(runtime::default_seccomp(&capabilities.unwrap_or_default().bounding));
    }
    spec
}
