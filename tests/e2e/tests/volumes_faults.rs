//! Volumes and files of containers when things go wrong: first uses that are cut off or meet, a daemon that dies, a disk that
//! is full, and containers that swap folders for links meanwhile.
#![expect(clippy::unwrap_used, reason = "test code: a failed step ends the test")]

use std::path::Path;
use std::time::Duration;
use testkit::image::Entry;
use testkit::{Engine, Scratch, image, until};

const PATIENCE: Duration = Duration::from_secs(20);
/// Files of the image's volume.
const FILES: usize = 200;

/// Loads an image whose volume `/data` has files, with `padding` in each.
fn load_filled(engine: &Engine, padding: usize) {
    let contents: Vec<Vec<u8>> =
        (0..FILES).map(|number| format!("{number:>padding$}").into_bytes()).collect();
    let names: Vec<String> = (0..FILES).map(|number| format!("data/{number}")).collect();
    let files: Vec<Entry<'_>> =
        names.iter().zip(&contents).map(|(name, text)| Entry::File(name, 0o644, text)).collect();
    let archive = engine.folder().join("filled.tar");
    let config = serde_json::json!({ "Cmd": ["sh"], "Volumes": { "/data": {} } });
    image::write_archive(&archive, &["filled"], &[image::busybox_layer(), image::layer(&files)], &config);
    engine.wharf(&["load", "-q", "-i", &archive.display().to_string()]).ok();
}

/// The names in a volume's folder.
fn count(engine: &Engine, volume: &str) -> usize {
    let data = engine.folder().join("data/volumes").join(volume).join("_data");
    std::fs::read_dir(data).map(Iterator::count).unwrap_or(0)
}

fn nothing_wrong(engine: &Engine) {
    let said = engine.wharf(&["system", "check"]).ok();
    assert!(said.contains("No problems found"), "{said}");
}

#[test]
fn a_first_use_that_is_cut_off_leaves_an_empty_volume() {
    let mut engine = Engine::start();
    load_filled(&engine, 10);
    let create = |engine: &Engine, options: &[&str]| {
        engine.wharf(&[&["create", "-v", "named:/data"], options, &["filled", "true"]].concat())
    };
    for round in ["none was mounted", "a mounted one"] {
        engine.doom_daemon("volume.fill");
        assert_ne!(create(&engine, &[]).code, 0, "{round}: the daemon has died");
        let cut_off = count(&engine, "named");
        engine.replace_dead_daemon();
        if round.starts_with("none") {
            assert_eq!((cut_off, count(&engine, "named")), (FILES, 0), "{round}");
        }
        let ls = ["run", "--rm", "-v", "named:/data", "filled", "sh", "-c", "ls /data | wc -l; cat /data/7"];
        assert_eq!(engine.wharf(&ls).ok(), format!("{FILES}\n         7"), "{round}");
        // What is a user's stays, whatever dies.
        engine
            .wharf(&[
                "run",
                "--rm",
                "-v",
                "named:/data",
                "filled",
                "sh",
                "-c",
                "rm -r /data/1*; touch /data/own",
            ])
            .ok();
        let left = count(&engine, "named");
        engine.kill_daemon();
        engine.start_daemon();
        assert_eq!(count(&engine, "named"), left, "{round}");
        engine.wharf(&["volume", "rm", "named"]).ok();
        engine.wharf(&["volume", "create", "-o", "size=4m", "named"]).ok();
    }
    assert_eq!(engine.wharf(&["ps", "-aq"]).ok(), "");
}

#[test]
fn first_uses_of_one_volume_meet() {
    let engine = Engine::start();
    load_filled(&engine, 10);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|_| {
                let engine = &engine;
                let run = ["run", "--rm", "-v", "shared:/data", "filled", "sh", "-c", "ls /data | wc -l"];
                scope.spawn(move || engine.wharf(&run))
            })
            .collect();
        for one in all {
            assert_eq!(one.join().unwrap().ok(), format!("{FILES}\n"));
        }
    });
}

/// A disk that is full in a first use, in `cp`, in a commit; and that takes everything again once there is room.
#[test]
fn a_full_disk_leaves_nothing_half_made() {
    let engine = Engine::on_small_disk(24);
    load_filled(&engine, 20_000);
    let files = Scratch::new();
    std::fs::write(files.join("big"), vec![7_u8; 12 << 20]).unwrap();
    let big = files.join("big").display().to_string();
    engine
        .wharf(&["run", "-d", "--name", "box", "--entrypoint", "sleep", "-v", "/data/none", "filled", "1000"])
        .ok();
    engine.wharf(&["volume", "create", "empty"]).ok();
    let full = |what: &[&str]| {
        let output = engine.wharf(what);
        assert!(
            output.code != 0 && output.stderr.to_lowercase().contains("no space left on device"),
            "{what:?}: {output:?}"
        );
    };
    let fill = "dd if=/dev/zero of=/fill bs=64k 2> /dev/null; true";
    engine.wharf(&["exec", "box", "sh", "-c", fill]).ok();
    engine.wharf(&["exec", "box", "sh", "-c", "truncate -s $(($(stat -c %s /fill) - 2000000)) /fill"]).ok();
    full(&["create", "-v", "named:/data", "filled"]);
    assert_eq!(count(&engine, "named"), 0, "half filled");
    full(&["cp", &big, "box:/big"]);
    assert_ne!(engine.wharf(&["exec", "box", "test", "-e", "/big"]).code, 0, "half a file");
    full(&["commit", "box", "made"]);
    assert!(!engine.wharf(&["images"]).ok().contains("made"));
    assert_eq!(engine.wharf(&["inspect", "-f", "{{.State.Status}}", "box"]).line(), "running");
    // Making room needs none, not even for the record of what had no contents.
    engine.wharf(&["exec", "box", "sh", "-c", fill]).ok();
    engine.wharf(&["volume", "rm", "empty"]).ok();
    engine.wharf(&["rm", "-f", "box"]).ok();
    engine.wharf(&["volume", "prune", "-af"]).ok();
    engine.wharf(&["system", "prune", "-f"]).ok();
    until("the room to be used", PATIENCE, || {
        let run = ["run", "--rm", "-v", "named:/data", "filled", "sh", "-c", "ls /data | wc -l"];
        let output = engine.wharf(&run);
        (output.code == 0 && output.stdout == format!("{FILES}\n")).then_some(())
    });
    nothing_wrong(&engine);
}

/// The daemon dies while it commits, copies and prunes: what was acknowledged is there, the rest leaves nothing, and a
/// container that stood still for a commit goes on.
#[test]
fn deaths_in_commit_copy_and_prune() {
    let mut engine = Engine::with_busybox();
    let files = Scratch::new();
    std::fs::create_dir(files.join("tree")).unwrap();
    for number in 0..400 {
        std::fs::write(files.join(&format!("tree/{number}")), vec![b'x'; 5000]).unwrap();
    }
    let tree = files.join("tree").display().to_string();
    let setup = "dd if=/dev/urandom of=/big bs=1M count=8 2> /dev/null; sleep 1000";
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sh", "-c", setup]).ok();
    until("the file", PATIENCE, || {
        (engine.wharf(&["exec", "box", "stat", "-c", "%s", "/big"]).line() == "8388608").then_some(())
    });
    for round in 0..8_u64 {
        let (image, volume) = (format!("made{round}"), format!("volume{round}"));
        engine.wharf(&["volume", "create", &volume]).ok();
        let (committed, copied) = std::thread::scope(|scope| {
            let commit = scope.spawn(|| engine.wharf(&["commit", "box", &image]).code);
            let copy = scope.spawn(|| engine.wharf(&["cp", &tree, &format!("box:/tree{round}")]).code);
            let prune = scope.spawn(|| engine.wharf(&["volume", "prune", "-af"]).code);
            std::thread::sleep(Duration::from_millis(15 * round));
            let pid = std::fs::read_to_string(engine.folder().join("pid")).unwrap();
            drop(std::process::Command::new("kill").args(["-9", pid.trim()]).status());
            drop(prune.join());
            (commit.join().unwrap(), copy.join().unwrap())
        });
        engine.replace_dead_daemon();
        until("the container to go on", PATIENCE, || {
            (engine.wharf(&["exec", "box", "true"]).code == 0).then_some(())
        });
        assert_eq!(engine.wharf(&["inspect", "-f", "{{.State.Status}}", "box"]).line(), "running");
        let exists = engine.wharf(&["image", "inspect", &image]).code == 0;
        assert!(exists || committed != 0, "round {round}: an image that was made is gone");
        if exists {
            let size = engine.wharf(&["run", "--rm", &image, "stat", "-c", "%s", "/big"]).line();
            assert_eq!(size, "8388608", "round {round}: half an image");
        }
        if copied == 0 {
            let whole = format!("cat /tree{round}/* | wc -c");
            assert_eq!(engine.wharf(&["exec", "box", "sh", "-c", &whole]).line(), "2000000", "round {round}");
        }
        // Either it is there and of use, or it is gone.
        engine.wharf(&["run", "--rm", "-v", &format!("{volume}:/v"), "busybox", "touch", "/v/x"]).ok();
    }
    nothing_wrong(&engine);
}

/// A container that shares a volume swaps folders in it for links to the host, while the volume's parts are mounted
/// (CVE-2023-0778's class), other volumes are mounted below it (CVE-2021-30465) and files are copied into it.
#[test]
fn races_with_links_in_a_shared_volume() {
    const ROUNDS: usize = 40;
    let engine = Engine::with_busybox();
    let victim = Scratch::new();
    std::fs::write(victim.join("secret"), "secret").unwrap();
    std::fs::create_dir(victim.join("sub")).unwrap();
    let before = tree(victim.path());
    let file = engine.folder().join("daemon.json").display().to_string();
    let swap = format!(
        "mkdir -p /v/real/sub; echo mine > /v/real/secret; ln -s {0} /v/link; ln -s ../../../../../../..{0} /v/far; cd /v; \
         while :; do mv real place; usleep 9000; mv place real; mv link place; mv place link; mv far place; mv place far; done",
        victim.path().display()
    );
    engine.wharf(&["run", "-d", "--name", "swapper", "-v", "shared:/v", "busybox", "sh", "-c", &swap]).ok();
    let (mut mounted, mut nested) = (0, 0);
    for round in 0..ROUNDS {
        let part = "type=volume,src=shared,dst=/m,volume-subpath=place";
        let seen = engine.wharf(&["run", "--rm", "--mount", part, "busybox", "cat", "/m/secret"]);
        assert!(!seen.stdout.contains("secret"), "round {round}: {seen:?}");
        mounted += usize::from(seen.code == 0);
        let below = ["-v", "shared:/v", "-v", "other:/v/place/sub", "--tmpfs", "/v/place/new"];
        let run = [&["run", "--rm"], &below[..], &["busybox", "touch", "/v/place/sub/file"]].concat();
        nested += usize::from(engine.wharf(&run).code == 0);
        engine.wharf(&["cp", &file, "swapper:/v/place/"]);
        assert_eq!(tree(victim.path()), before, "round {round}: something came out");
    }
    assert_eq!(std::fs::read_to_string(victim.join("secret")).unwrap(), "secret");
    println!("of {ROUNDS} rounds {mounted} met the folder, {nested} could mount below");
    engine.wharf(&["exec", "swapper", "true"]).ok();
}

/// All names below a folder.
fn tree(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        names.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            names.extend(tree(&entry.path()));
        }
    }
    names.sort();
    names
}
