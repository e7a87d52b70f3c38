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

/// `system df` says what the files have: layers that images share once, and hard links once.
#[test]
fn df_is_what_the_file_system_says() {
    let engine = Engine::start();
    let files = Scratch::new();
    for (name, own) in [("one:1", "a"), ("two:1", "b")] {
        let archive = files.join(own);
        let layers = [
            image::busybox_layer(),
            image::layer(&[Entry::Folder("d", 0o755), Entry::File("d/f", 0o644, &[7; 30_000])]),
            // The same name twice: only the later file is there.
            image::layer(&[Entry::File(own, 0o644, &[1; 9_000]), Entry::File(own, 0o600, own.as_bytes())]),
        ];
        image::write_archive(&archive, &[name], &layers, &serde_json::json!({"Cmd": ["sh"]}));
        engine.wharf(&["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    }
    let script =
        "head -c 100000 /dev/zero > /f; ln /f /g; ln /f /v/h; head -c 5000 /dev/zero > /v/x; ln /v/x /v/y";
    engine.wharf(&["run", "--name", "user", "-v", "kept:/v", "one:1", "sh", "-c", script]);
    let socket = engine.host();
    let socket = socket.strip_prefix("unix://").unwrap();
    let text = engine.run("curl", &["-s", "--unix-socket", socket, "http://wharf/system/df"]).ok();
    let usage: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    // Bytes of regular files, each inode once.
    let measured = |folders: &[&str]| -> u64 {
        let script = "find \"$@\" -type f ! -name layer.json -printf '%i %s\\n' | sort -u | awk '{s += $2} END {print s + 0}'";
        let data = engine.folder().join("data");
        let folders: Vec<String> =
            folders.iter().map(|folder| data.join(folder).display().to_string()).collect();
        let mut arguments = vec!["-c", script, "sh"];
        arguments.extend(folders.iter().map(String::as_str));
        engine.run("sh", &arguments).line().parse().unwrap()
    };
    assert_eq!(number(&usage["LayersSize"]), measured(&["layers", "blobs", "recipes"]), "{usage:#}");
    let images = usage["Images"].as_array().unwrap();
    let unique: u64 = images.iter().map(|image| number(&image["Size"]) - number(&image["SharedSize"])).sum();
    let shared = number(&images[0]["SharedSize"]);
    assert_eq!(unique + shared, number(&usage["LayersSize"]), "{usage:#}");
    let upper = measured(&[&format!("containers/{}/upper", usage["Containers"][0]["Id"].as_str().unwrap())]);
    assert_eq!(number(&usage["Containers"][0]["SizeRw"]), upper, "{usage:#}");
    assert_eq!(upper, 100_000);
    assert_eq!(number(&usage["Volumes"][0]["UsageData"]["Size"]), 5_000);
    assert_eq!(measured(&["volumes/kept"]), 5_000);
}

/// What is damaged comes back from a registry that wants a password, of archives that were dropped too, or from a mirror.
#[test]
fn repairs_use_passwords_and_mirrors() {
    let engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("image.tar");
    write_image(&archive, "box:1");
    let further = Registry::passwords(&files);
    let origin = Registry::start_own(engine.namespaces(), Registry::HOST, &further);
    let name = format!("{}/box:1", Registry::HOST);
    engine.wharf(&["login", "-u", "alice", "-p", "secret", Registry::HOST]).ok();
    engine.wharf(&["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    engine.wharf(&["tag", "box:1", &name]).ok();
    engine.wharf(&["push", "-q", &name]).ok();
    engine.wharf(&["rmi", "-f", "box:1", &name]).ok();
    engine.wharf(&["pull", "-q", &name]).ok();
    let data = engine.folder().join("data");
    let damage = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.last_mut().unwrap();
        *last ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let repaired = || {
        assert_eq!(engine.wharf(&["system", "check"]).code, 1);
        let repaired = engine.wharf(&["system", "check", "--repair"]);
        assert!(repaired.code == 0 && repaired.stdout.contains("fetched again: "), "{repaired:?}");
    };
    files_below(&data.join("blobs")).iter().for_each(|path| damage(path));
    repaired();
    // A file that an archive is made of.
    let configure = |json: &str| {
        std::fs::write(engine.folder().join("daemon.json"), json).unwrap();
        engine.wharf(&["system", "reload"]).ok();
    };
    configure(r#"{"layer-archives": "rebuild"}"#);
    until("the archives to be dropped", Duration::from_secs(120), || {
        (files_below(&data.join("recipes")).len() == 2).then_some(())
    });
    let text =
        |path: &&PathBuf| path.ends_with("diff/d/text") && std::fs::metadata(path).unwrap().len() > 4096;
    damage(files_below(&data.join("layers")).iter().find(text).unwrap());
    repaired();
    // The registry is gone, and a mirror has what it had.
    let copy = origin.folder().join("docker");
    let mirror = Registry::start_own(engine.namespaces(), "127.0.0.1:5001", "");
    engine.run("cp", &["-a", copy.to_str().unwrap(), mirror.folder().to_str().unwrap()]).ok();
    drop(origin);
    let host = Registry::HOST;
    configure(&format!(
        r#"{{"registry-mirrors": {{"{host}": ["http://127.0.0.1:5001"]}}, "max-download-attempts": 1}}"#
    ));
    files_below(&data.join("blobs")).iter().for_each(|path| damage(path));
    repaired();
    assert_eq!(engine.wharf(&["run", "--rm", &name, "cat", "/d/text"]).line(), "later");
}
