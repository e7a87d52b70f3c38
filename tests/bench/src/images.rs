//! Images against a registry: rows that need more set up than one command.
//!
//! `pull`, `load` and `push` move an image of many files, a last row one large layer; each engine has a registry (Debian's,
//! the same for all) in its own namespaces. containerd, which runs nothing here, takes part.

use crate::memory::field;
use crate::peer::Peer;
use crate::rows::{Measured, rounds};
use std::path::Path;
use testkit::image::Entry;
use testkit::{Random, Registry, Scratch, image};

/// Files of the image, in so many layers.
const FILES: usize = 4_000;
const LAYERS: usize = 4;
/// What the image is called in its archive.
const NAME: &str = "docker.io/library/many:latest";
/// The size of the large layer in bytes.
const LARGE: usize = 128 << 20;

/// The rows, by name.
const IMAGE_ROWS: [&str; 4] =
    ["pull, many files", "load, many files", "push, many files", "pull, a layer of 128 MiB"];
/// Measures the rows that are `chosen` and returns their lines.
pub(crate) fn table(peers: &[Peer], chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    if !IMAGE_ROWS.iter().any(|name| chosen(name)) {
        return Vec::new();
    }
    let containerd = Peer::containerd();
    if containerd.is_none() {
        eprintln!("not installed, left out: containerd");
    }
    let peers: Vec<&Peer> = peers.iter().chain(&containerd).collect();
    let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();
    let head = [
        format!("| row | {} | ratio |", names.join(" | ")),
        format!("|---|{}---|", "--:|".repeat(names.len())),
    ];
    head.into_iter().chain(engines(&peers, chosen)).collect()
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
    image::write_archive(path, &[NAME], &layers, &serde_json::json!({"Cmd": ["sh"]}));
}

/// An engine with the registry it moves images from and to.
struct Side<'a> {
    peer: &'a Peer,
    registry: Option<Registry>,
    reference: String,
}

impl<'a> Side<'a> {
    fn new(peer: &'a Peer, archive: &Path) -> Self {
        let registry = Registry::start(peer.namespaces());
        registry.push(peer.namespaces(), archive, "many:1");
        Self { peer, registry: Some(registry), reference: format!("{}/many:1", Registry::HOST) }
    }

    fn is(&self, name: &str) -> bool {
        self.peer.name() == name
    }

    /// Pulls or pushes.
    fn transfer(&self, verb: &str) {
        let words: &[&str] = match self.peer.name() {
            "podman" => &[verb, "--tls-verify=false", "-q"],
            "containerd" => &["images", verb, "--plain-http"],
            _ => &[verb, "-q"],
        };
        self.peer.ok(&[words, &[&self.reference]].concat());
    }

    fn load(&self, archive: &str) {
        let words: &[&str] =
            if self.is("containerd") { &["images", "import"] } else { &["load", "-q", "-i"] };
        self.peer.ok(&[words, &[archive]].concat());
    }

    fn tag(&self) {
        let words: &[&str] = if self.is("containerd") { &["images", "tag"] } else { &["tag"] };
        self.peer.ok(&[words, &[NAME, &self.reference]].concat());
    }

    /// Removes the image; what is not there cannot be removed, and that is no failure.
    fn clear(&self) {
        let commands: &[&[&str]] = if self.is("containerd") {
            &[&["images", "rm", "--sync", &self.reference], &["images", "rm", "--sync", NAME]]
        } else {
            &[&["rmi", "-f", &self.reference, NAME], &["image", "prune", "-f"]]
        };
        for command in commands {
            drop(self.peer.command(command).status());
        }
    }

    /// An empty registry at the same port: the old one has to end first.
    fn renew(&mut self) {
        drop(self.registry.take());
        self.registry = Some(Registry::start(self.peer.namespaces()));
    }

    /// The engine's daemons: all that runs in its namespaces but the registry.
    fn daemons(&self) -> Vec<u32> {
        let is_registry = |pid: &u32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("docker-registry")
        };
        self.peer.namespaces().processes().into_iter().filter(|pid| !is_registry(pid)).collect()
    }
}

/// Measures the rows of [`IMAGE_ROWS`] that are `chosen`.
fn engines(peers: &[&Peer], chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    let files = Scratch::new();
    let archive = files.join("many.tar");
    write_image(&archive);
    let archive_name = archive.display().to_string();
    let names: Vec<&'static str> = peers.iter().map(|peer| peer.name()).collect();
    let mut sides: Vec<Side<'_>> = peers.iter().map(|peer| Side::new(peer, &archive)).collect();
    let [pull, load, push, large] = IMAGE_ROWS;
    let mut rows: Vec<Measured> = Vec::new();
    if chosen(pull) {
        rows.push(rounds(pull, &names, &mut sides, |side| side.clear(), |side| side.transfer("pull")));
    }
    if chosen(load) {
        rows.push(rounds(load, &names, &mut sides, |side| side.clear(), |side| side.load(&archive_name)));
    }
    if chosen(push) {
        for side in &sides {
            side.clear();
            side.load(&archive_name);
            side.tag();
        }
        rows.push(rounds(push, &names, &mut sides, Side::renew, |side| side.transfer("push")));
        sides.iter().for_each(Side::clear);
    }
    let mut memory = None;
    if chosen(large) {
        let layer = image::layer(&[Entry::File("large", 0o644, &Random::new(1).bytes(LARGE))]);
        image::write_archive(&archive, &[NAME], &[image::busybox_layer(), layer], &serde_json::json!({}));
        for side in &mut sides {
            side.renew();
            if let Some(registry) = &side.registry {
                registry.push(side.peer.namespaces(), &archive, "many:1");
            }
            // The peak counts from here on, proc(5).
            for pid in side.daemons() {
                std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("forget a peak");
            }
        }
        rows.push(rounds(large, &names, &mut sides, |side| side.clear(), |side| side.transfer("pull")));
        let peak = |side: &Side<'_>| {
            let pids = side.daemons();
            let peaks = pids.iter().map(|pid| field(&format!("/proc/{pid}/status"), "VmHWM:"));
            if pids.is_empty() { "–".to_owned() } else { format!("{:.1}", peaks.sum::<f64>() / 1024.0) }
        };
        let cells: Vec<String> = sides.iter().map(peak).collect();
        memory = Some(format!("| most memory of the daemons during that (MiB) | {} | |", cells.join(" | ")));
        sides.iter().for_each(Side::clear);
    }
    rows.iter().map(ToString::to_string).chain(memory).collect()
}
