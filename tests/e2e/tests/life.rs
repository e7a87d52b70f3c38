//! A container's life through the command line, and what is left when it is over.

use e2e::both;
use std::time::Duration;
use testkit::{Engine, until};

#[test]
fn from_creation_to_removal() {
    let engine = Engine::with_busybox();
    let state =
        |name: &str| engine.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]).line();
    let id = engine.wharf(&["create", "--name", "c1", "busybox", "sleep", "1000"]).line();
    assert_eq!(id.len(), 64);
    assert_eq!(state("c1"), "created 0");
    assert_eq!(engine.wharf(&["start", "c1"]).line(), "c1");
    assert_eq!(state("c1"), "running 0");
    engine.wharf(&["pause", "c1"]).ok();
    assert_eq!(state("c1"), "paused 0");
    engine.docker(&["unpause", "c1"]).ok();
    engine.wharf(&["rename", "c1", "c2"]).ok();
    let top = engine.docker(&["top", "c2"]);
    assert!(top.stdout.contains("sleep 1000"), "{}", top.stdout);
    engine.docker(&["restart", "-t", "0", "c2"]).ok();
    assert_eq!(state("c2"), "running 0");
    engine.wharf(&["kill", "c2"]).ok();
    assert_eq!(engine.wharf(&["wait", "c2"]).line(), "137");
    assert_eq!(state("c2"), "exited 137");
    let refused = both(&engine, &["kill", "c2"]);
    assert_eq!((refused.code, refused.stderr.contains("is not running")), (1, true));
    engine.wharf(&["start", "c2"]).ok();
    let refused = both(&engine, &["rm", "c2"]);
    assert!(
        refused.stderr.contains("container is running: stop the container before removing or force remove")
    );
    engine.wharf(&["stop", "-t", "1", "c2"]).ok();
    engine.wharf(&["rm", "c2"]).ok();
    assert_eq!(engine.wharf(&["ps", "-aq"]).line(), "");
}

#[test]
fn exec_and_logs() {
    let engine = Engine::with_busybox();
    engine
        .wharf(&["run", "-d", "--name", "box", "busybox", "sh", "-c", "echo one; echo two >&2; sleep 1000"])
        .ok();
    until("both lines", Duration::from_secs(10), || {
        let logs = engine.wharf(&["logs", "box"]);
        (logs.stdout == "one\n" && logs.stderr == "two\n").then_some(())
    });
    both(&engine, &["logs", "box"]);
    assert_eq!(both(&engine, &["logs", "--tail", "0", "box"]).stdout, "");
    let exec = |arguments: &[&str]| both(&engine, &[&["exec"], arguments].concat());
    assert_eq!(exec(&["box", "echo", "hi"]).stdout, "hi\n");
    assert_eq!(exec(&["box", "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(
        exec(&["-w", "/tmp", "-e", "Q=q", "-u", "alice", "box", "sh", "-c", "pwd; echo $Q; id -un"]).stdout,
        "/tmp\nq\nalice\n"
    );
    assert_eq!(exec(&["box", "nosuch"]).code, 127);
    let refused = exec(&["nosuch", "true"]);
    assert_eq!((refused.code, refused.stderr.contains("No such container: nosuch")), (1, true));
}

#[test]
fn nothing_is_left() {
    let engine = Engine::with_busybox();
    let (links, processes) = (engine.namespaces().links(), engine.namespaces().processes().len());
    for _ in 0..3 {
        engine.wharf(&["run", "--rm", "-v", "/data", "-p", "127.0.0.1::80", "busybox", "true"]).ok();
    }
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    assert!(!engine.cgroups().is_empty());
    engine.wharf(&["rm", "-f", "box"]).ok();
    until("everything to be as before", Duration::from_secs(10), || {
        let same = engine.namespaces().links() == links
            && engine.namespaces().processes().len() == processes
            && engine.cgroups().is_empty();
        same.then_some(())
    });
    let containers = std::fs::read_dir(engine.folder().join("data/containers")).unwrap().count();
    let runs = std::fs::read_dir(engine.folder().join("exec/containers")).unwrap().count();
    let volumes = engine.wharf(&["volume", "ls", "-q"]).line();
    assert_eq!((containers, runs, volumes.as_str()), (0, 0, ""));
}

#[test]
fn the_zygote_sees_no_mount_of_the_host() {
    let engine = Engine::with_busybox();
    let command = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let zygotes: Vec<u32> =
        engine.namespaces().processes().into_iter().filter(|pid| command(pid).contains("zygote")).collect();
    assert_eq!(zygotes.len(), 1, "{zygotes:?}");
    assert_eq!(std::fs::read_dir(format!("/proc/{}/root/", zygotes[0])).unwrap().count(), 0);
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", zygotes[0])).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    // What it spawns is back among the host's mounts, and a container is not.
    let own = engine.wharf(&["run", "--rm", "busybox", "cat", "/proc/self/mountinfo"]).ok();
    assert!(
        own.lines().count() > 5 && !own.contains(&engine.folder().join("daemon.json").display().to_string())
    );
}

/// What `ps` shows of more containers than are asked for.
#[test]
fn listings_are_cut_as_asked() {
    let engine = Engine::with_busybox();
    for name in ["one", "two", "three"] {
        engine.wharf(&["create", "--name", name, "busybox", "true"]).ok();
    }
    engine.wharf(&["run", "-d", "--name", "four", "busybox", "sleep", "1000"]).ok();
    for (flags, expect) in [
        (&["--last", "2"][..], "four three"),
        (&["-n", "9"], "four three two one"),
        (&["-n", "0"], "four"),
        (&["--latest"], "four"),
        (&["-l", "--filter", "status=created"], "three"),
        (&["--all", "--last", "3", "--filter", "name=o"], "four two one"),
    ] {
        let shown = both(&engine, &[&["ps", "--format", "{{.Names}}"], flags].concat()).ok();
        assert_eq!(shown.split_whitespace().collect::<Vec<_>>().join(" "), expect, "{flags:?}");
    }
    let quiet = both(&engine, &["ps", "--all", "--quiet"]).ok();
    assert!(quiet.lines().count() == 4 && quiet.lines().all(|line| line.len() == 12), "{quiet}");
    let whole = both(&engine, &["ps", "--quiet", "--no-trunc"]).ok();
    assert_eq!(whole, engine.wharf(&["inspect", "-f", "{{.Id}}", "four"]).ok());
    engine.wharf(&["exec", "four", "dd", "if=/dev/zero", "of=/five", "bs=1000", "count=5"]).ok();
    let size = both(&engine, &["ps", "--size", "--format", "{{.Size}}"]).ok();
    assert!(size.starts_with("5kB (virtual "), "{size}");
    let header = both(&engine, &["ps", "--size", "--filter", "name=none"]).ok();
    assert!(header.ends_with("SIZE\n"), "{header}");
}
