//! What goes wrong with images: damaged disks, a daemon that dies, hostile archives.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code: a failed step ends the test")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use testkit::image::Entry;
use testkit::{Engine, Random, Registry, Scratch, image, until};

/// Writes the archive of an image of busybox and some layers of noise.
fn write_layered(path: &Path, name: &str, layers: u64, size: usize) {
    let mut all = vec![image::busybox_layer()];
    for number in 0..layers {
        let file = format!("noise-{number}");
        all.push(image::layer(&[Entry::File(&file, 0o644, &Random::new(number + 1).bytes(size))]));
    }
    image::write_archive(path, &[name], &all, &serde_json::json!({"Cmd": ["sh"]}));
}

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

#[test]
fn a_daemon_that_dies_in_pulls_leaves_nothing_wrong() {
    let mut engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("image.tar");
    write_layered(&archive, "big:1", 6, 3 << 20);
    let registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    registry.push(engine.namespaces(), &archive, "big:1");
    let name = format!("{}/big:1", Registry::HOST);
    for round in 0..10 {
        let mut pull = engine.wharf_command();
        let mut pull =
            pull.args(["pull", "-q", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Another stage of the pull each time.
        std::thread::sleep(Duration::from_millis(15 + 35 * round));
        engine.kill_daemon();
        pull.wait().unwrap();
        engine.start_daemon();
        assert_eq!(engine.wharf(&["system", "check"]).ok(), "No problems found\n", "round {round}");
    }
    engine.wharf(&["pull", "-q", &name]).ok();
    assert_eq!(engine.wharf(&["system", "check"]).ok(), "No problems found\n");
    assert_eq!(engine.wharf(&["run", "--rm", &name, "ls", "/"]).ok().matches("noise-").count(), 6);
}

#[test]
fn what_a_killed_daemon_had_is_not_fetched_again() {
    let mut engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("image.tar");
    write_layered(&archive, "big:1", 8, 4 << 20);
    let registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    registry.push(engine.namespaces(), &archive, "big:1");
    let name = format!("{}/big:1", Registry::HOST);
    let kept = engine.folder().join("data/blobs");
    let whole = || -> Vec<PathBuf> {
        let large = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.len() > 1 << 20);
        files_below(&kept).into_iter().filter(large).collect()
    };
    let mut pull = engine.wharf_command();
    let mut pull =
        pull.args(["pull", "-q", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("some layers to be here", Duration::from_secs(30), || (whole().len() > 2).then_some(()));
    engine.kill_daemon();
    pull.wait().unwrap();
    // The registry loses what has come: it cannot be had a second time.
    let lost: Vec<String> = whole()
        .iter()
        .filter_map(|path| {
            path.file_name()?.to_str().map(|name| name.trim_start_matches("sha256-").to_owned())
        })
        .collect();
    assert!(lost.len() > 2, "{lost:?}");
    for digest in &lost {
        let folder = registry
            .folder()
            .join("docker/registry/v2/blobs/sha256")
            .join(digest.get(..2).unwrap())
            .join(digest);
        std::fs::remove_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
    engine.start_daemon();
    engine.wharf(&["pull", "-q", &name]).ok();
    assert_eq!(engine.wharf(&["system", "check"]).ok(), "No problems found\n");
    assert_eq!(engine.wharf(&["run", "--rm", &name, "ls", "/"]).ok().matches("noise-").count(), 8);
}

#[test]
fn what_is_damaged_is_found_and_fetched_again() {
    let engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("image.tar");
    write_layered(&archive, "box:1", 2, 50_000);
    let registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    registry.push(engine.namespaces(), &archive, "box:1");
    let name = format!("{}/box:1", Registry::HOST);
    engine.wharf(&["pull", "-q", &name]).ok();
    let blobs = files_below(&engine.folder().join("data/blobs"));
    assert!(blobs.len() >= 5, "{blobs:?}");
    for blob in &blobs {
        let mut bytes = std::fs::read(blob).unwrap();
        bytes[0] ^= 1;
        std::fs::write(blob, bytes).unwrap();
    }
    let found = engine.wharf(&["system", "check"]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(
        found.stdout.matches(" is damaged: its content has the digest ").count() >= blobs.len(),
        "{found:?}"
    );
    let repaired = engine.wharf(&["system", "check", "--repair"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    assert!(repaired.stdout.ends_with("No problems found\n"), "{repaired:?}");
    // A file of an unpacked layer.
    let layers = files_below(&engine.folder().join("data/layers"));
    let victim = layers.iter().find(|path| path.ends_with("noise-1")).unwrap();
    std::fs::write(victim, b"other").unwrap();
    let found = engine.wharf(&["system", "check"]);
    assert!(found.code == 1 && found.stdout.contains("layer sha256:"), "{found:?}");
    engine.wharf(&["system", "check", "--repair"]).ok();
    let size = engine.wharf(&["run", "--rm", &name, "stat", "-c", "%s", "/noise-1"]);
    assert_eq!(size.line(), "50000");
}

/// An entry's kind, name and link.
type RawEntry = (u8, String, String);

#[test]
fn hostile_archives_write_nothing_outside() {
    let engine = Engine::start();
    let files = Scratch::new();
    let outside = files.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("mine"), b"mine").unwrap();
    let target = outside.display().to_string();
    let up = format!("{}{}", "../".repeat(15), target.trim_start_matches('/'));
    let through = "escape/evil";
    // tar's own builder refuses some of these names, so they are written as they are.
    let cases: Vec<(&str, Vec<RawEntry>)> = vec![
        (
            "link out",
            vec![(b'2', "escape".to_owned(), target.clone()), (b'0', through.to_owned(), String::new())],
        ),
        (
            "relative link out",
            vec![(b'2', "escape".to_owned(), up.clone()), (b'0', through.to_owned(), String::new())],
        ),
        ("dots", vec![(b'0', format!("{up}/evil"), String::new())]),
        ("absolute", vec![(b'0', format!("{target}/evil"), String::new())]),
        ("hard link out", vec![(b'1', "stolen".to_owned(), format!("{target}/mine"))]),
        ("hard link with dots", vec![(b'1', "stolen".to_owned(), format!("{up}/mine"))]),
        (
            "link over a link",
            vec![
                (b'2', "a".to_owned(), "b".to_owned()),
                (b'2', "b".to_owned(), target.clone()),
                (b'0', "a/evil".to_owned(), String::new()),
            ],
        ),
    ];
    for (what, entries) in cases {
        let archive = files.join("evil.tar");
        std::fs::write(&archive, raw_tar(&entries)).unwrap();
        let imported = engine.wharf(&["import", &archive.display().to_string(), "evil:1"]);
        // Refused or kept within the layer: both are right.
        assert!(imported.code == 0 || !imported.stderr.is_empty(), "{what}: {imported:?}");
        let names: Vec<_> =
            std::fs::read_dir(&outside).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["mine"], "{what}");
        assert_eq!(std::fs::read(outside.join("mine")).unwrap(), b"mine", "{what}");
        let links = std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(outside.join("mine")).unwrap());
        assert_eq!(links, 1, "{what}");
    }
    assert_eq!(engine.wharf(&["version", "-f", "{{.Server.Os}}"]).line(), "linux", "the daemon lives");
}

/// Writes entries (kind, name, link) whatever they say; files hold `evil`.
fn raw_tar(entries: &[RawEntry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (kind, name, link) in entries {
        let data: &[u8] = if *kind == b'0' { b"evil" } else { b"" };
        let mut header = [0_u8; 512];
        let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        assert!(name.len() < 100 && link.len() < 100, "{name} {link}");
        field(0, name);
        field(100, "0000644\0");
        field(108, "0000000\0");
        field(116, "0000000\0");
        field(124, &format!("{:011o}\0", data.len()));
        field(136, "14524770400\0");
        field(148, "        ");
        field(157, link);
        field(257, "ustar\x0000");
        header[156] = *kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        if !data.is_empty() {
            archive.extend(data);
            archive.extend(vec![0; 512 - data.len()]);
        }
    }
    archive.extend([0; 1024]);
    archive
}

#[test]
fn layers_unpack_to_what_is_allowed() {
    let mut engine = Engine::start_with(&["--max-layer-size=1m"]);
    let files = Scratch::new();
    let archive = files.join("large.tar");
    write_layered(&archive, "large:1", 2, 2 << 20);
    let load = ["load", "-i", &archive.display().to_string()];
    let refused = engine.wharf(&load);
    assert!(refused.code == 1 && refused.stderr.contains("it has more than 1048576 bytes"), "{refused:?}");
    assert_eq!(engine.wharf(&["images", "-aq"]).ok(), "");
    engine.stop_daemon();
    engine.replace_flags(&["--max-layer-size=4m"]);
    engine.start_daemon();
    engine.wharf(&load).ok();
    let wrong = engine.wharf(&["daemon", "--max-layer-size=none"]);
    assert!(wrong.code != 0 && wrong.stderr.contains("invalid max-layer-size: none"), "{wrong:?}");
}
