//! Times what is decided before a container is made: reading and checking its document, and its seccomp program.
//!
//! `cargo bench -p runtime`. Each line is the median of rounds that take about a hundredth of a second each. Nothing but the
//! standard library: a bench must not make every test build wait for a framework.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use oci::runtime::Spec;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 51;
const ROUND: Duration = Duration::from_millis(10);

/// Prints the median time of one call of `work`.
fn time<T>(name: &str, mut work: impl FnMut() -> T) {
    let begin = Instant::now();
    let mut calls = 0_u32;
    while begin.elapsed() < ROUND {
        black_box(work());
        calls += 1;
    }
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..calls {
                black_box(work());
            }
            begin.elapsed() / calls
        })
        .collect();
    rounds.sort_unstable();
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{name:<48} {:>12.2} us", median.as_secs_f64() * 1e6);
}

const DOCUMENT: &str = r#"{
    "ociVersion": "1.2.0",
    "process": { "args": ["sh"], "cwd": "/", "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=x"],
        "user": { "uid": 0, "gid": 0, "additionalGids": [0, 10] },
        "capabilities": { "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN", "CAP_KILL"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"] } },
    "root": { "path": "etc" }, "hostname": "x",
    "mounts": [
        { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] },
        { "destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts", "options": ["rbind", "rprivate"] }
    ],
    "linux": {
        "namespaces": [{ "type": "mount" }, { "type": "uts" }, { "type": "pid" }, { "type": "ipc" }, { "type": "network" }],
        "maskedPaths": ["/proc/kcore", "/sys/firmware"], "readonlyPaths": ["/proc/sys"],
        "resources": { "memory": { "limit": 67108864 }, "pids": { "limit": 100 } }
    }
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let granted = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"].map(str::to_owned);
    let profile = runtime::default_seccomp(&granted);
    let instructions = runtime::measure::compile(&profile)?;
    let spec: Spec = serde_json::from_str(DOCUMENT)?;
    time("default profile: for a set of capabilities", || runtime::default_seccomp(&granted));
    time(&format!("seccomp: compile ({instructions} instructions)"), || runtime::measure::compile(&profile));
    time("seccomp: program from before", || runtime::measure::cached(&profile));
    time("document: read", || serde_json::from_str::<Spec>(DOCUMENT));
    runtime::measure::check(&spec, Path::new("/"))?;
    time("document: check", || runtime::measure::check(&spec, Path::new("/")));
    Ok(())
}
