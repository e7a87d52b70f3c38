//! Images against a registry, and registries against each other: rows that need more set up than one command.
//!
//! `pull`, `load` and `push` move an image of many files; each engine has a registry (Debian's, the same for all) in
//! its own namespaces. The registries' rows compare `wharf registry` with Debian's docker-registry: one large blob each
//! way, and a small one again and again over kept connections.

use crate::peer::Peer;
use crate::rows::{Measured, busy_time};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::image::Entry;
use testkit::{Namespaces, Random, Registry, Scratch, image};

/// Files of the image, in so many layers.
const FILES: usize = 4_000;
const LAYERS: usize = 4;
const ROUNDS: usize = 3;
/// The large blob's size in bytes, and how often the small one is fetched, by how many connections.
const LARGE: usize = 32 << 20;
const SMALL: usize = 2_000;
const CONNECTIONS: usize = 4;

/// The rows, by name.
const IMAGE_ROWS: [&str; 3] = ["pull, many files", "load, many files", "push, many files"];
const REGISTRY_ROWS: [&str; 3] =
    ["registry: PUT of 32 MiB", "registry: GET of 32 MiB", "registry: 2,000 × GET of 1 KiB"];

/// Measures the rows that `wanted` names (or all) and returns their lines.
pub(crate) fn table(peers: &[Peer], wanted: &[String]) -> Vec<String> {
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|want| name.contains(want.as_str()));
    let mut lines = Vec::new();
    if IMAGE_ROWS.iter().any(|name| chosen(name)) {
        lines.extend(engines(peers, &chosen).iter().map(ToString::to_string));
    }
    if REGISTRY_ROWS.iter().any(|name| chosen(name)) {
        lines.push("| row | wharf registry | docker-registry | ratio |".to_owned());
        lines.push("|---|--:|--:|---|".to_owned());
        lines.extend(registries(&chosen));
    }
    lines
}

/// Writes the archive of an image of busybox and many small files.
fn write_image(path: &Path) {
    let mut layers = vec![image::busybox_layer()];
    let content: Vec<u8> =
        (0..20_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for layer in 0..LAYERS {
        let names: Vec<String> =
            (0..FILES / LAYERS).map(|number| format!("tree/{layer}/{}/{number}", number % 64)).collect();
        let mut entries = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let start = (number * 37) % 40_000;
            entries.push(Entry::File(name, 0o644, content.get(start..start + 8_192).unwrap_or_default()));
        }
        layers.push(image::layer(&entries));
    }
    image::write_archive(
        path,
        &["docker.io/library/many:latest"],
        &layers,
        &serde_json::json!({"Cmd": ["sh"]}),
    );
}

/// Times `work` of each of `names` in turn, round by round; the first round does not count.
fn rounds(
    name: &'static str,
    names: &[&'static str],
    mut before: impl FnMut(usize),
    mut work: impl FnMut(usize),
) -> Measured {
    let mut measured: Vec<_> = names.iter().map(|name| (*name, Vec::new(), Duration::ZERO)).collect();
    for round in 0..=ROUNDS {
        for (index, (_, times, busy)) in measured.iter_mut().enumerate() {
            before(index);
            let (begin, used) = (Instant::now(), busy_time());
            work(index);
            let (wall, used) = (begin.elapsed(), busy_time().saturating_sub(used));
            if round > 0 {
                times.push(wall);
                *busy += used;
            }
        }
    }
    Measured { name, peers: measured }
}

/// Measures the rows of [`IMAGE_ROWS`] that are `chosen`.
fn engines(peers: &[Peer], chosen: &dyn Fn(&str) -> bool) -> Vec<Measured> {
    let files = Scratch::new();
    let archive = files.join("many.tar");
    write_image(&archive);
    let archive_name = archive.display().to_string();
    let names: Vec<&'static str> = peers.iter().map(Peer::name).collect();
    let reference = format!("{}/many:1", Registry::HOST);
    let mut registries: Vec<Option<Registry>> = peers
        .iter()
        .map(|peer| {
            let registry = Registry::start(peer.namespaces());
            registry.push(peer.namespaces(), &archive, "many:1");
            Some(registry)
        })
        .collect();
    let peer = |index: usize| peers.get(index).expect("a peer");
    let transfer = |index: usize, verb: &str| {
        let insecure: &[&str] = if peer(index).name() == "podman" { &["--tls-verify=false"] } else { &[] };
        peer(index).ok(&[&[verb], insecure, &["-q", &reference]].concat());
    };
    // What is not there cannot be removed: that is no failure.
    let clear = |index: usize| {
        drop(peer(index).command(&["rmi", "-f", &reference, "docker.io/library/many:latest"]).status());
        drop(peer(index).command(&["image", "prune", "-f"]).status());
    };
    let [pull, load, push] = IMAGE_ROWS;
    let mut rows = Vec::new();
    if chosen(pull) {
        rows.push(rounds(pull, &names, clear, |index| transfer(index, "pull")));
    }
    if chosen(load) {
        rows.push(rounds(load, &names, clear, |index| peer(index).ok(&["load", "-q", "-i", &archive_name])));
    }
    if !chosen(push) {
        (0..peers.len()).for_each(clear);
        return rows;
    }
    for peer in peers {
        peer.ok(&["load", "-q", "-i", &archive_name]);
        peer.ok(&["tag", "docker.io/library/many:latest", &reference]);
    }
    let fresh = |index: usize| {
        // An empty registry at the same port: the old one has to end first.
        if let Some(slot) = registries.get_mut(index) {
            drop(slot.take());
            *slot = Some(Registry::start(peer(index).namespaces()));
        }
    };
    rows.push(rounds(push, &names, fresh, |index| transfer(index, "push")));
    (0..peers.len()).for_each(clear);
    rows
}

/// A registry in namespaces of its own.
struct Served {
    name: &'static str,
    namespaces: Namespaces,
    registry: Registry,
}

impl Served {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        let namespaces = Namespaces::new();
        let registry = Registry::start_own(&namespaces, Registry::HOST, "");
        all.push(Self { name: "wharf registry", namespaces, registry });
        let namespaces = Namespaces::new();
        let registry = Registry::start(&namespaces);
        all.push(Self { name: "docker-registry", namespaces, registry });
        all
    }

    fn curl(&self, arguments: &[&str]) {
        let mut command: Command = self.namespaces.command("curl");
        let output =
            command.args(["-sS", "-f", "-o", "/dev/null"]).args(arguments).output().expect("run curl");
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
    }

    /// Uploads a file as its digest says, in two requests as clients do.
    fn put(&self, file: &Path, digest: &str) {
        let mut command = self.namespaces.command("curl");
        let begin = command
            .args(["-sS", "-i", "-X", "POST", &format!("http://{}/v2/a/blobs/uploads/", Registry::HOST)])
            .output()
            .expect("run curl");
        let text = String::from_utf8_lossy(&begin.stdout).into_owned();
        let line =
            text.lines().find(|line| line.to_lowercase().starts_with("location:")).expect("a location");
        let location = line.split_once(' ').expect("a value").1.trim();
        let mark = if location.contains('?') { '&' } else { '?' };
        self.curl(&[
            "-X",
            "PUT",
            "-T",
            &file.display().to_string(),
            &format!("{location}{mark}digest={digest}"),
        ]);
    }
}

/// Makes a file of noise, another one for each number; returns its path and digest.
fn noise(files: &Scratch, number: u64, size: usize) -> (PathBuf, String) {
    let path = files.join(&format!("blob-{number}"));
    std::fs::write(&path, Random::new(number).bytes(size)).expect("write a file");
    let output = Command::new("sha256sum").arg(&path).output().expect("run sha256sum");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (path, format!("sha256:{}", text.split_whitespace().next().unwrap_or_default()))
}

/// Measures the rows of [`REGISTRY_ROWS`] that are `chosen`.
fn registries(chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    let files = Scratch::new();
    let served = Served::all();
    let names: Vec<&'static str> = served.iter().map(|served| served.name).collect();
    let one = |index: usize| served.get(index).expect("a registry");
    let [put, get, small] = REGISTRY_ROWS;
    let mut rows = Vec::new();
    if chosen(put) {
        // Content that is there already would only be linked: another blob each time.
        let count = (ROUNDS + 1) * served.len();
        let blobs: Vec<_> = (0..count).map(|number| noise(&files, number as u64, LARGE)).collect();
        let mut next = blobs.iter();
        let upload = |index: usize| {
            let (path, digest) = next.next().expect("a blob for each round");
            one(index).put(path, digest);
        };
        rows.push(rounds(put, &names, |_| {}, upload));
    }
    let (path, digest) = noise(&files, 999, LARGE);
    let (small_path, small_digest) = noise(&files, 1000, 1024);
    for registry in &served {
        registry.put(&path, &digest);
        registry.put(&small_path, &small_digest);
    }
    let address = format!("http://{}/v2/a/blobs/{digest}", Registry::HOST);
    if chosen(get) {
        rows.push(rounds(get, &names, |_| {}, |index| one(index).curl(&[&address])));
    }
    if chosen(small) {
        rows.push(rounds(small, &names, |_| {}, |index| fetch_often(one(index), &small_digest)));
    }
    let peak = |index: usize| one(index).registry.peak_memory();
    let (own, other) = (peak(0), peak(1));
    let mut lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
    lines.push(format!(
        "| registry: most memory during these (MiB) | {} | {} | {}.{:02} |",
        own >> 10,
        other >> 10,
        own / other,
        own * 100 / other % 100
    ));
    lines
}

/// Fetches a small blob over kept connections, each on a thread that lives in the registry's namespaces.
fn fetch_often(served: &Served, digest: &str) {
    let net =
        std::fs::File::open(format!("/proc/{}/ns/net", served.namespaces.pid())).expect("open a namespace");
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            let net = &net;
            scope.spawn(move || {
                rustix::thread::move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(net),
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )
                .expect("enter a namespace");
                let stream = TcpStream::connect(Registry::HOST).expect("connect to a registry");
                let mut writer = stream.try_clone().expect("a second handle");
                let mut reader = BufReader::new(stream);
                let request =
                    format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: {}\r\n\r\n", Registry::HOST);
                for _ in 0..SMALL / CONNECTIONS {
                    writer.write_all(request.as_bytes()).expect("send a request");
                    let length = answer_length(&mut reader);
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).expect("read a body");
                    assert_eq!(length, 1024);
                }
            });
        }
    });
}

/// Reads an answer's head and returns the length of its body.
fn answer_length(reader: &mut BufReader<TcpStream>) -> usize {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("read a head");
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            return length;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
}
