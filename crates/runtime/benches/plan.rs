//! Times what is decided before a container is made: reading and checking its document, and its seccomp program.
//!
//! `cargo bench -p runtime`; Criterion keeps the figures of a run in `target/criterion` and compares the next one with them.

use criterion::{Criterion, criterion_group, criterion_main};
use oci::runtime::Spec;
use std::path::Path;

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

#[expect(clippy::unwrap_used, reason = "what is timed is known to be right")]
fn plan(criterion: &mut Criterion) {
    let granted = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"].map(str::to_owned);
    let profile = runtime::default_seccomp(&granted);
    let instructions = runtime::measure::compile(&profile).unwrap();
    let spec: Spec = serde_json::from_str(DOCUMENT).unwrap();
    runtime::measure::check(&spec, Path::new("/")).unwrap();
    let mut time = |name: &str, work: &mut dyn FnMut()| {
        criterion.bench_function(name, |bench| bench.iter(&mut *work));
    };
    time("default profile: for a set of capabilities", &mut || {
        std::hint::black_box(runtime::default_seccomp(&granted));
    });
    time(&format!("seccomp: compile ({instructions} instructions)"), &mut || {
        std::hint::black_box(runtime::measure::compile(&profile)).unwrap();
    });
    time("seccomp: program from before", &mut || {
        std::hint::black_box(runtime::measure::cached(&profile)).unwrap();
    });
    time("document: read", &mut || {
        std::hint::black_box(serde_json::from_str::<Spec>(DOCUMENT)).unwrap();
    });
    time("document: check", &mut || {
        std::hint::black_box(runtime::measure::check(&spec, Path::new("/"))).unwrap();
    });
}

criterion_group!(benches, plan);
criterion_main!(benches);
