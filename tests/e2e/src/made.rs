//! What builds made, entry by entry: trees and configurations of several builders, and in what they differ.
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a failed set-up ends the test"
)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use testkit::{Engine, Scratch};

/// What a build made: entries of the tree and of the configuration, each as a line.
pub type Made = BTreeMap<String, String>;

/// What the engines themselves put into trees.
const ENGINES: [&str; 10] = [
    "",
    ".dockerenv",
    "dev",
    "dev/console",
    "dev/pts",
    "dev/shm",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
];

const KEYS: [&str; 12] = [
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
];

/// Adds the entries of an archive.
pub fn add_tree(all: &mut Made, tree: &[u8]) {
    let mut archive = tar::Archive::new(tree);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let name = name.trim_start_matches("./").trim_matches('/').to_owned();
        if ENGINES.contains(&name.as_str()) {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let link = entry
            .link_name_bytes()
            .map(|link| String::from_utf8_lossy(&link).trim_start_matches("./").to_owned());
        let kind = header.entry_type();
        let line = format!(
            "{kind:?} {:o} {}:{} {} {}",
            header.mode().unwrap_or(0) & 0o7777,
            header.uid().unwrap_or(0),
            header.gid().unwrap_or(0),
            link.unwrap_or_default(),
            String::from_utf8_lossy(&content[..content.len().min(200)])
        );
        all.insert(name, line);
    }
}

/// Adds the fields of an image's configuration.
pub fn add_config(all: &mut Made, config: &Value, author: &Value) {
    for key in KEYS {
        let value = &config[key];
        // Go and we differ in when nothing is null, empty or absent.
        let empty = value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty);
        let value = if empty || value.as_object().is_some_and(serde_json::Map::is_empty) {
            &Value::Null
        } else {
            value
        };
        // In the order of names, whoever wrote it.
        let sorted = value.as_object().map(|object| object.iter().collect::<BTreeMap<_, _>>());
        let text = sorted.map_or_else(|| value.to_string(), |sorted| format!("{sorted:?}"));
        all.insert(format!("config {key}"), text);
    }
    all.insert("author".to_owned(), author.as_str().unwrap_or_default().to_owned());
}

/// Builds through our own command line; the tree is the image's alone.
pub fn ours(engine: &Engine, context: &Path, flags: &[&str]) -> Made {
    let folder = context.display().to_string();
    let tree = engine.folder().join("made.tar").display().to_string();
    let output = format!("type=tar,dest={tree}");
    let command = ["build", "--network", "none", "-q", "-t", "made", "-o", &output];
    engine.wharf(&[&command[..], flags, &[folder.as_str()]].concat()).ok();
    let mut all = BTreeMap::new();
    add_tree(&mut all, &std::fs::read(&tree).unwrap());
    let inspected = engine.wharf(&["image", "inspect", "made"]).ok();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    add_config(&mut all, &inspected[0]["Config"], &inspected[0]["Author"]);
    all
}

/// The lines in which two results differ, but for those that are known to.
pub fn different(name: &str, ours: &Made, theirs: &Made, known: &dyn Fn(&str) -> bool) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let differs = |key: &&&String| ours.get(**key) != theirs.get(**key) && !known(key);
    keys.iter()
        .filter(differs)
        .map(|key| format!("{name}: {key}: ours {:?}, theirs {:?}", ours.get(*key), theirs.get(*key)))
        .collect()
}

/// Makes a context with this Dockerfile.
pub fn context(file: &str) -> Scratch {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.join("d/sub")).unwrap();
    for (name, text) in [("f", "one"), ("d/a", "a"), ("d/sub/b", "b"), ("d/x.o", "o"), ("Dockerfile", file)] {
        std::fs::write(scratch.join(name), text).unwrap();
    }
    std::os::unix::fs::symlink("a", scratch.join("d/l")).unwrap();
    let mut archive = tar::Builder::new(std::fs::File::create(scratch.join("a.tar")).unwrap());
    for (name, text, mode, user) in [("in/deep", "hi", 0o640, 3), ("top", "t", 0o600, 0)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        header.set_uid(user);
        header.set_gid(user);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    scratch
}
