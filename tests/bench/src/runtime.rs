//! `wharf runtime` beside crun and runc: create, start and delete of `true`, with the same bundle, in turn.
//!
//! All run in a mount namespace without a version 2 cgroup mount, since crun refuses hosts that have both.

use serde_json::json;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use testkit::{Engine, Scratch};

/// The word by which this program is started again in the namespace.
pub(crate) const INSIDE: &str = "--runtime-inside";
const ROUNDS: usize = 40;

/// Runs the measurement in its namespace; it prints its table by itself.
pub(crate) fn measure() {
    let own = std::env::current_exe().expect("this program");
    let script = "for m in $(awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts); do \
                  grep -q ' cgroup ' /proc/mounts && umount $m; done; exec \"$0\" \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(own).arg(INSIDE);
    if !command.status().is_ok_and(|status| status.success()) {
        eprintln!("left out: the runtimes cannot be compared here");
    }
}

/// A runtime: its name, and how it is called.
type Runtime = (&'static str, Vec<String>);

/// Measures, inside.
pub(crate) fn inside() {
    let scratch = Scratch::new();
    bundle(&scratch);
    let own = vec![Engine::executable().display().to_string(), "runtime".to_owned()];
    let mut runtimes: Vec<Runtime> = vec![("wharf", own)];
    runtimes.extend(["crun", "runc"].map(|name| (name, vec![name.to_owned()])));
    // The first round warms up, and shows who can run here.
    runtimes.retain(|runtime| {
        let runs = round(runtime, &scratch).is_some();
        if !runs {
            eprintln!("cannot run a container here, left out: {}", runtime.0);
        }
        runs
    });
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); runtimes.len()];
    for _ in 0..ROUNDS {
        for (runtime, times) in runtimes.iter().zip(&mut times) {
            times.extend(round(runtime, &scratch));
        }
    }
    let names: Vec<&str> = runtimes.iter().map(|(name, _)| *name).collect();
    println!("| row | {} | ratio |", names.join(" | "));
    println!("|---|{}---|", "--:|".repeat(names.len()));
    let walls: Vec<String> = times
        .iter()
        .map(|times| format!("{:.1}", median(times.iter().map(Duration::as_secs_f64).collect()) * 1000.0))
        .collect();
    let own = times.first().cloned().unwrap_or_default();
    let ratios: Vec<String> = names
        .iter()
        .zip(&times)
        .skip(1)
        .map(|(name, times)| {
            let pairs = own.iter().zip(times).map(|(own, peer)| own.as_secs_f64() / peer.as_secs_f64());
            format!("{:.3} of {name}", median(pairs.collect()))
        })
        .collect();
    println!(
        "| runtime: create + start + delete of true (ms) | {} | {} |",
        walls.join(" | "),
        ratios.join(", ")
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One container from create to delete; `None` if a step failed.
fn round((name, program): &Runtime, scratch: &Scratch) -> Option<Duration> {
    let state = scratch.join(name);
    let run = |arguments: &[&str]| -> Option<ExitStatus> {
        let (first, rest) = program.split_first()?;
        let mut command = Command::new(first);
        command.args(rest).arg("--root").arg(&state).args(arguments).current_dir(scratch.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok()
    };
    let begin = Instant::now();
    let pid = scratch.join("pid").display().to_string();
    let made =
        run(&["create", "--pid-file", &pid, "bench"])?.success() && run(&["start", "bench"])?.success();
    let pid = std::fs::read_to_string(&pid).unwrap_or_default();
    // Its end, as an engine would see it through a descriptor; here the process is somebody else's child.
    while running(pid.trim()) {
        std::thread::yield_now();
    }
    let deleted = run(&["delete", "--force", "bench"])?.success();
    (made && deleted).then(|| begin.elapsed())
}

fn running(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !pid.is_empty()
        && status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Docker's usual document, without its filter: each runtime would compile it in its own way.
fn bundle(scratch: &Scratch) {
    let rootfs = scratch.join("rootfs");
    for directory in ["bin", "proc", "dev", "sys"] {
        std::fs::create_dir_all(rootfs.join(directory)).expect("make the root");
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/true")).expect("copy busybox");
    let mount = |destination: &str, kind: &str, options: &str| {
        let options: Vec<&str> = options.split(',').collect();
        json!({ "destination": destination, "type": kind, "source": kind, "options": options })
    };
    let capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_MKNOD"];
    let name = Path::new(scratch.path()).file_name().expect("a name");
    let cgroup = format!("/{}", name.to_string_lossy());
    let namespaces = ["mount", "network", "uts", "pid", "ipc"].map(|kind| json!({ "type": kind }));
    let document = json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": ["true"], "env": ["PATH=/bin"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs" },
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
            mount("/sys/fs/cgroup", "cgroup", "nosuid,noexec,nodev,ro"),
            mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
            mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": cgroup,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    std::fs::write(scratch.join("config.json"), document.to_string()).expect("write config.json");
}
