//! Rows about files: copied into and out of containers, exported, committed, copied into volumes at first use, and written
//! in a container, where the bare host does the same job beside the engines.

use crate::peer::Peer;
use crate::rows::{Row, median, millis};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use testkit::Scratch;

/// Bytes of the large file.
const BIG: u64 = 500_000_000;
/// Files of the tree.
const FILES: usize = 30_000;

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "cp of 500 MB in",
        rounds: 3,
        before: holder,
        work: |peer| peer.ok(&["cp", &source("big"), "holder:/big"]),
        after: remove_holder,
    },
    Row {
        name: "cp of 500 MB out",
        rounds: 3,
        before: |peer| {
            holder(peer);
            peer.ok(&["cp", &source("big"), "holder:/big"]);
        },
        work: |peer| peer.ok(&["cp", "holder:/big", &source("out")]),
        after: remove_holder,
    },
    Row {
        name: "cp of 30,000 files in",
        rounds: 3,
        before: holder,
        work: |peer| peer.ok(&["cp", &source("tree"), "holder:/tree"]),
        after: remove_holder,
    },
    Row {
        name: "cp of 30,000 files out",
        rounds: 3,
        before: with_tree,
        work: |peer| peer.ok(&["cp", "holder:/tree", &source("out")]),
        after: remove_holder,
    },
    Row {
        name: "export of 30,000 files",
        rounds: 3,
        before: with_tree,
        work: |peer| peer.ok(&["export", "-o", &source("out.tar"), "holder"]),
        after: remove_holder,
    },
    Row {
        name: "commit of 500 MB",
        rounds: 3,
        before: |peer| {
            holder(peer);
            peer.ok(&["cp", &source("big"), "holder:/big"]);
        },
        work: |peer| peer.ok(&["commit", "holder", "committed"]),
        after: |peer| {
            remove_holder(peer);
            peer.ok(&["rmi", "committed"]);
        },
    },
    Row {
        name: "first use of a volume, 30,000 files",
        rounds: 3,
        before: |peer| {
            with_tree(peer);
            peer.ok(&["commit", "holder", "committed"]);
        },
        work: |peer| peer.ok(&["run", "--rm", "-v", "first:/tree", "committed", "true"]),
        after: |peer| {
            remove_holder(peer);
            peer.ok(&["volume", "rm", "first"]);
            peer.ok(&["rmi", "committed"]);
        },
    },
];

/// What is copied, made once.
static SOURCES: LazyLock<Scratch> = LazyLock::new(|| {
    let scratch = Scratch::new();
    let line: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
    let mut file = std::fs::File::create(scratch.join("big")).expect("make a file");
    for _ in 0..BIG >> 20 {
        std::io::Write::write_all(&mut file, &line).expect("write a file");
    }
    for number in 0..FILES {
        let folder = scratch.join(&format!("tree/{}", number % 100));
        std::fs::create_dir_all(&folder).expect("make a folder");
        std::fs::write(folder.join(number.to_string()), format!("file {number}\n")).expect("write a file");
    }
    scratch
});

fn source(name: &str) -> String {
    SOURCES.join(name).display().to_string()
}

fn holder(peer: &Peer) {
    LazyLock::force(&SOURCES);
    peer.ok(&["run", "-d", "--name", "holder", "busybox", "sleep", "1000"]);
}

fn with_tree(peer: &Peer) {
    holder(peer);
    peer.ok(&["cp", &source("tree"), "holder:/tree"]);
}

fn remove_holder(peer: &Peer) {
    peer.ok(&["rm", "-f", "holder"]);
    for left in ["out", "out.tar"] {
        let path = SOURCES.join(left);
        drop(if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) });
    }
}

/// What a container does with a folder, as a shell's command: much written, much synced, many files made and removed.
const JOBS: [(&str, &str); 3] = [
    ("1 GB written", "dd if=/dev/zero of=$0/f bs=1M count=1000 2>/dev/null; rm $0/f"),
    (
        "100 files synced",
        "i=0; while [ $i -lt 100 ]; do dd if=/dev/zero of=$0/f bs=4k count=1 conv=fsync 2>/dev/null; i=$((i+1)); done; rm $0/f",
    ),
    (
        "5,000 files made and removed",
        "i=0; while [ $i -lt 5000 ]; do echo x > $0/$i; i=$((i+1)); done; rm $0/[0-9]*",
    ),
];

/// Where it does it: a name, the flags of `exec`'s container, the folder.
const PLACES: [(&str, &str); 3] = [("overlay", "/own"), ("volume", "/volume"), ("tmpfs", "/memory")];

/// Times the jobs inside a running container, against the bare host's busybox.
pub(crate) fn jobs(peers: &[Peer], chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !chosen("jobs") {
        return lines;
    }
    for peer in peers {
        peer.ok(&[
            "run",
            "-d",
            "--name",
            "worker",
            "-v",
            "work:/volume",
            "--tmpfs",
            "/memory",
            "busybox",
            "sh",
            "-c",
            "mkdir /own; sleep 1000",
        ]);
    }
    for (job, script) in JOBS {
        for (place, folder) in PLACES {
            let mut times: Vec<Vec<Duration>> = vec![Vec::new(); peers.len() + 1];
            for _ in 0..3 {
                for (peer, times) in peers.iter().zip(&mut times) {
                    let begin = Instant::now();
                    peer.ok(&["exec", "worker", "sh", "-c", script, folder]);
                    times.push(begin.elapsed());
                }
                if let Some(times) = times.last_mut() {
                    times.push(on_the_host(script, place));
                }
            }
            let medians: Vec<f64> =
                times.into_iter().map(|times| median(times.into_iter().map(millis).collect())).collect();
            let shown: Vec<String> = medians.iter().map(|median| format!("{median:.0}")).collect();
            let (own, host) = (medians.first().copied().unwrap_or(f64::NAN), medians.last().copied());
            let ratio = own / host.unwrap_or(f64::NAN);
            lines.push(format!(
                "| {job}, {place} (ms; last: the host) | {} | {ratio:.2} of the host |",
                shown.join(" | ")
            ));
        }
    }
    for peer in peers {
        peer.ok(&["rm", "-f", "worker"]);
        peer.ok(&["volume", "rm", "work"]);
    }
    lines
}

/// Does a job with the host's busybox, on the disk that engines have their data on, or in memory.
fn on_the_host(script: &str, place: &str) -> Duration {
    let folder = if place == "tmpfs" { Scratch::below(Path::new("/dev/shm")) } else { Scratch::new() };
    let begin = Instant::now();
    let status = Command::new("busybox")
        .args(["sh", "-c", script])
        .arg(folder.path())
        .stdin(Stdio::null())
        .status()
        .expect("run busybox");
    assert!(status.success(), "{script}");
    begin.elapsed()
}
