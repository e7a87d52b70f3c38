//! Registries against each other: `wharf registry` and Debian's docker-registry.
//!
//! One large blob each way, and a small one again and again over kept connections; and, where `wrk` is installed, as many
//! downloads and uploads as go through in a few seconds.

use crate::peer::installed;
use crate::rows::{ROUNDS, rounds};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::{Namespaces, Random, Registry, Scratch};

/// The large blob's size in bytes, and how often the small one is fetched, by how many connections.
const LARGE: usize = 32 << 20;
const SMALL: usize = 2_000;
const CONNECTIONS: usize = 4;
/// The sizes of what wrk fetches and uploads.
const FETCHED: usize = 1 << 20;
const UPLOADED: usize = 64 << 10;

/// The rows, by name.
const ROWS: [&str; 3] =
    ["registry: PUT of 32 MiB", "registry: GET of 32 MiB", "registry: 2,000 × GET of 1 KiB"];
const WRK_ROWS: [&str; 2] =
    ["registry: GETs of 1 MiB in a second, by wrk", "registry: uploads of 64 KiB in a second, by wrk"];

/// Uploads in two requests each: whoever was given a place fills it next.
const UPLOADS: &str = r#"
local places, body, digest = {}, string.rep("x", SIZE), "DIGEST"
function request()
    local place = table.remove(places)
    if place then
        return wrk.format("PUT", place .. (place:find("?", 1, true) and "&" or "?") .. "digest=" .. digest, nil, body)
    end
    return wrk.format("POST", "/v2/a/blobs/uploads/")
end
function response(status, headers)
    for name, value in pairs(headers) do
        if status == 202 and name:lower() == "location" then
            places[#places + 1] = value:gsub("^https?://[^/]*", "")
        end
    end
end
"#;

/// Measures the rows that are `chosen` and returns their lines.
pub(crate) fn table(chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    if !ROWS.iter().chain(&WRK_ROWS).any(|name| chosen(name)) {
        return Vec::new();
    }
    let mut lines =
        vec!["| row | wharf registry | docker-registry | ratio |".to_owned(), "|---|--:|--:|---|".to_owned()];
    lines.extend(registries(chosen));
    lines
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

    /// Returns how many requests a second it answers.
    fn wrk(&self, arguments: &[&str]) -> f64 {
        let mut command = self.namespaces.command("wrk");
        let output =
            command.args(["-t", "2", "-c", "16", "-d", "3"]).args(arguments).output().expect("run wrk");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("Non-2xx"), "{}: {text}", self.name);
        let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
        rate.and_then(|rate| rate.trim().parse().ok()).expect("a rate")
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
    let digest = digest_of(&path);
    (path, digest)
}

fn digest_of(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("run sha256sum");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("sha256:{}", text.split_whitespace().next().unwrap_or_default())
}

/// Measures the rows of [`ROWS`] that are `chosen`.
fn registries(chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    let files = Scratch::new();
    let mut served = Served::all();
    let names: Vec<&'static str> = served.iter().map(|served| served.name).collect();
    let [put, get, small] = ROWS;
    let mut rows = Vec::new();
    if chosen(put) {
        // Content that is there already would only be linked: another blob each time.
        let count = (ROUNDS + 1) * served.len();
        let blobs: Vec<_> = (0..count).map(|number| noise(&files, number as u64, LARGE)).collect();
        let mut next = blobs.iter();
        let upload = |registry: &mut Served| {
            let (path, digest) = next.next().expect("a blob for each round");
            registry.put(path, digest);
        };
        rows.push(rounds(put, &names, &mut served, |_| {}, upload));
    }
    let (path, digest) = noise(&files, 999, LARGE);
    let (small_path, small_digest) = noise(&files, 1000, 1024);
    for registry in &served {
        registry.put(&path, &digest);
        registry.put(&small_path, &small_digest);
    }
    let address = format!("http://{}/v2/a/blobs/{digest}", Registry::HOST);
    if chosen(get) {
        rows.push(rounds(get, &names, &mut served, |_| {}, |registry| registry.curl(&[&address])));
    }
    if chosen(small) {
        rows.push(rounds(
            small,
            &names,
            &mut served,
            |_| {},
            |registry| fetch_often(registry, &small_digest),
        ));
    }
    let by_wrk = wrk_rows(&served, &files, chosen);
    let peaks: Vec<u64> = served.iter().map(|served| served.registry.peak_memory()).collect();
    let [own, other] = *peaks else { return Vec::new() };
    let mut lines: Vec<String> = rows.iter().map(ToString::to_string).chain(by_wrk).collect();
    lines.push(format!(
        "| registry: most memory during these (MiB) | {} | {} | {}.{:02} |",
        own >> 10,
        other >> 10,
        own / other,
        own * 100 / other % 100
    ));
    lines
}

/// Measures the rows of [`WRK_ROWS`] that are `chosen`: requests (or uploads) in a second, so that more is better.
fn wrk_rows(served: &[Served], files: &Scratch, chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    if !installed("wrk") {
        eprintln!("not installed, left out: wrk");
        return Vec::new();
    }
    let [get, put] = WRK_ROWS;
    let mut lines = Vec::new();
    let mut line = |name: &str, values: Vec<f64>| {
        let cells: Vec<String> = values.iter().map(|value| format!("{value:.0}")).collect();
        let ratio = values.first().zip(values.get(1)).map_or(f64::NAN, |(own, other)| own / other);
        lines.push(format!("| {name} | {} | {ratio:.2} of docker-registry |", cells.join(" | ")));
    };
    if chosen(get) {
        let (path, digest) = noise(files, 1001, FETCHED);
        let address = format!("http://{}/v2/a/blobs/{digest}", Registry::HOST);
        let rate = |registry: &Served| {
            registry.put(&path, &digest);
            registry.wrk(&[&address])
        };
        line(get, served.iter().map(rate).collect());
    }
    if chosen(put) {
        let path = files.join("body");
        std::fs::write(&path, vec![b'x'; UPLOADED]).expect("write a file");
        let script = UPLOADS.replace("SIZE", &UPLOADED.to_string()).replace("DIGEST", &digest_of(&path));
        let place = files.join("uploads.lua");
        std::fs::write(&place, script).expect("write a script");
        let (script, address) = (place.display().to_string(), format!("http://{}/", Registry::HOST));
        // Two requests make one upload.
        let rate = |registry: &Served| registry.wrk(&["-s", &script, &address]) / 2.0;
        line(put, served.iter().map(rate).collect());
    }
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
