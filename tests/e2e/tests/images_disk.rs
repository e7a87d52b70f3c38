//! What images take on the disk, and how that is made less.
#![expect(clippy::unwrap_used, reason = "test code: a failed step ends the test")]

use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::image::Entry;
use testkit::{Engine, Registry, Scratch, image, until};

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files_below(&path)),
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

/// An image of busybox, a layer of text, and one that replaces a file of the one before.
fn write_image(path: &Path, name: &str) {
    let text: String = (0..20_000).map(|number| format!("line {number} of {:x}\n", number * 7919)).collect();
    let layers = [
        image::busybox_layer(),
        image::layer(&[Entry::Folder("d", 0o755), Entry::File("d/text", 0o644, text.as_bytes())]),
        image::layer(&[Entry::File("d/text", 0o600, b"later")]),
    ];
    image::write_archive(path, &[name], &layers, &serde_json::json!({"Cmd": ["sh"]}));
}

/// Archives of layers are dropped once asked for, and are there again for push, save and check, bit for bit.
#[test]
fn archives_are_dropped_and_made_again() {
    let engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("image.tar");
    write_image(&archive, "box:1");
    let registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    registry.push(engine.namespaces(), &archive, "box:1");
    let name = format!("{}/box:1", Registry::HOST);
    engine.wharf(&["pull", "-q", &name]).ok();
    engine.wharf(&["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    let save = |name: &str, file: &str| {
        let path = files.join(file);
        engine.wharf(&["save", "-o", path.to_str().unwrap(), name]).ok();
        std::fs::read(path).unwrap()
    };
    let before = (save(&name, "pulled"), save("box:1", "loaded"));
    let data = engine.folder().join("data");
    let large = || {
        let large = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.len() > 4096);
        files_below(&data.join("blobs")).into_iter().filter(large).count()
    };
    // busybox and the text, each as downloaded and as loaded.
    assert_eq!(large(), 4);
    std::fs::write(engine.folder().join("daemon.json"), r#"{"layer-archives": "rebuild"}"#).unwrap();
    assert_eq!(engine.wharf(&["system", "reload"]).ok(), "Changed: layer-archives\n");
    until("the archives to be dropped", Duration::from_secs(120), || (large() == 0).then_some(()));
    assert_eq!(files_below(&data.join("recipes")).len(), 4);
    assert!(before == (save(&name, "pulled"), save("box:1", "loaded")), "saved as before");
    assert!(engine.wharf(&["system", "check"]).ok().ends_with("No problems found\n"));
    // A registry that has nothing of it checks every digest.
    let _other = Registry::start_own(engine.namespaces(), "127.0.0.1:5001", "");
    for (image, there) in [(&*name, "127.0.0.1:5001/pulled:1"), ("box:1", "127.0.0.1:5001/loaded:1")] {
        engine.wharf(&["tag", image, there]).ok();
        engine.wharf(&["push", "-q", there]).ok();
        engine.wharf(&["rmi", there]).ok();
        engine.wharf(&["pull", "-q", there]).ok();
    }
    let all = engine.wharf(&["images", "-aq", "--no-trunc"]).ok();
    let all: Vec<&str> = all.lines().collect();
    engine.wharf(&[&["rmi", "-f"], all.as_slice()].concat()).ok();
    assert_eq!(files_below(&data.join("recipes")), Vec::<PathBuf>::new());
}
