//! Rows about building: the same Dockerfiles and contexts through each engine (Docker's with its classic builder).

use crate::peer::Peer;
use crate::rows::{Row, measure, nothing};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::Scratch;

/// Files of the large context.
const FILES: usize = 30_000;

/// Bytes of the layer that is saved.
const BIG: u64 = 60_000_000;

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "build, 6 steps, cold",
        rounds: 5,
        before: nothing,
        work: |peer| small(peer, true),
        after: nothing,
    },
    Row {
        name: "build, 6 steps, all cached",
        rounds: 10,
        before: |peer| small(peer, false),
        work: |peer| small(peer, false),
        after: nothing,
    },
    Row {
        name: "build, 6 steps, one file changed",
        rounds: 5,
        before: |_peer| change(&CONTEXTS.join("small/source")),
        work: |peer| small(peer, false),
        after: nothing,
    },
    Row {
        name: "build, RUN true, cold",
        rounds: 10,
        before: nothing,
        work: |peer| build(peer, "true", true),
        after: nothing,
    },
    Row {
        name: "build, ten stages",
        rounds: 3,
        before: nothing,
        work: |peer| build(peer, "stages", true),
        after: nothing,
    },
    Row {
        name: "build, 30,000 files, unchanged",
        rounds: 3,
        before: |peer| build(peer, "large", false),
        work: |peer| build(peer, "large", false),
        after: nothing,
    },
    Row {
        name: "build, 30,000 files, one changed",
        rounds: 3,
        before: |_peer| change(&CONTEXTS.join("large/7/42")),
        work: |peer| build(peer, "large", false),
        after: nothing,
    },
    Row {
        name: "build, one layer of 60 MB, and save",
        rounds: 3,
        before: nothing,
        work: |peer| peer.build(&CONTEXTS.join("big"), true, Some(&CONTEXTS.join("saved.tar"))),
        after: nothing,
    },
];

/// Measures the rows, beside engines that only build, too.
pub(crate) fn table(peers: &mut Vec<Peer>, chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| chosen(row.name)).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let before = peers.len();
    for (name, builder) in [("buildah", Peer::buildah()), ("buildkit", Peer::buildkit())] {
        match builder {
            Some(builder) => peers.push(builder),
            None => eprintln!("not installed, left out: {name}"),
        }
    }
    let names: Vec<&str> = peers.iter().map(Peer::name).collect();
    let mut lines = vec![
        String::new(),
        format!("| builds | {} | ratio |", names.join(" | ")),
        format!("|---|{}---|", "--:|".repeat(names.len())),
    ];
    lines.extend(rows.into_iter().map(|row| {
        let line = measure(row, peers).to_string();
        eprintln!("{line}");
        line
    }));
    peers.truncate(before);
    lines
}

/// The contexts, made once.
static CONTEXTS: LazyLock<Scratch> = LazyLock::new(|| {
    let scratch = Scratch::new();
    let write = |name: &str, text: &str| {
        let path = scratch.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        std::fs::write(path, text).expect("write a file");
    };
    write(
        "small/Dockerfile",
        "FROM busybox\nENV A=1\nRUN echo one > /one\nCOPY source /source\nRUN cat /one /source > /two\nCMD [\"cat\", \"/two\"]\n",
    );
    write("small/source", "source");
    write("true/Dockerfile", "FROM busybox\nRUN true\n");
    let mut stages = String::new();
    for number in 0..10 {
        stages.push_str(&format!("FROM busybox AS s{number}\nRUN echo {number} > /out\n"));
    }
    stages.push_str("FROM busybox\n");
    for number in 0..10 {
        stages.push_str(&format!("COPY --from=s{number} /out /out{number}\n"));
    }
    write("stages/Dockerfile", &stages);
    write("large/Dockerfile", "FROM busybox\nCOPY . /files\n");
    write("big/Dockerfile", "FROM busybox\nCOPY data /data\n");
    let lines: String = (0..BIG / 60).map(|number| format!("{number:>8} {:>50}\n", number * 7919)).collect();
    write("big/data", &lines);
    for number in 0..FILES {
        write(&format!("large/{}/{}", number % 100, number / 100), &format!("file {number}\n"));
    }
    scratch
});

fn build(peer: &Peer, context: &str, cold: bool) {
    peer.build(&CONTEXTS.join(context), cold, None);
}

fn small(peer: &Peer, cold: bool) {
    build(peer, "small", cold);
}

/// Gives a file content that it never had.
fn change(file: &PathBuf) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::fs::write(file, format!("changed {number}\n")).expect("change a file");
}
