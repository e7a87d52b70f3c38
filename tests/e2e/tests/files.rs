//! The files of containers: `cp`, `export`, `diff`, `commit`; with both command lines.
#![expect(clippy::unwrap_used, reason = "test code: a failed set-up ends the test")]

use e2e::{CommandLine, both, command_lines};
use std::path::Path;
use std::process::Stdio;
use testkit::{Engine, Output, Scratch};

/// A folder of the host with what is copied.
fn source() -> Scratch {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.join("src/sub")).unwrap();
    std::fs::write(scratch.join("src/a"), "alpha").unwrap();
    std::fs::write(scratch.join("src/sub/b"), "beta").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", scratch.join("src/link")).unwrap();
    scratch
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn ok(line: CommandLine, engine: &Engine, arguments: &[&str]) -> String {
    let output = line.run(engine, arguments);
    assert_eq!(output.code, 0, "{line:?} {arguments:?}: {}", output.stderr);
    output.stdout
}

/// Copies in and out of the container `c` in all forms.
fn round_trip(engine: &Engine, line: CommandLine) {
    let host = source();
    let (src, contents) = (text(&host.join("src")), text(&host.join("src/.")));
    let here = |name: &str| text(&host.join(name));
    let read = |name: &str| std::fs::read_to_string(host.join(name)).unwrap();
    let copy = |from: &str, to: &str| ok(line, engine, &["cp", from, to]);
    // A folder becomes a new folder, or one within a folder that is there; `/.` means what is in it.
    copy(&src, "box:/tmp/new");
    copy(&src, "box:/tmp/new");
    copy(&contents, "box:/tmp/new/sub");
    copy(&here("src/a"), "box:/tmp/renamed");
    copy("box:/tmp/new", &here("out"));
    assert_eq!(
        (read("out/a"), read("out/src/sub/b"), read("out/sub/sub/b")),
        ("alpha".into(), "beta".into(), "beta".into())
    );
    assert_eq!(std::fs::read_link(host.join("out/link")).unwrap(), Path::new("/etc/passwd"));
    std::fs::create_dir(host.join("into")).unwrap();
    copy("box:/tmp/new/.", &here("into"));
    copy("box:/tmp/renamed", &here("into"));
    assert_eq!((read("into/a"), read("into/renamed")), ("alpha".into(), "alpha".into()));
    // A link is copied as a link, or as what it leads to: within the container.
    copy("box:/tmp/new/link", &here("as-link"));
    assert!(host.join("as-link").is_symlink());
    ok(line, engine, &["cp", "-L", "box:/tmp/new/link", &here("as-file")]);
    assert!(read("as-file").starts_with("root:x:0:0:root:/root:/bin/sh\nnobody:"));
    // As a stream.
    let archive = ok(line, engine, &["cp", "box:/tmp/renamed", "-"]);
    assert!(archive.starts_with("renamed\0") && archive.contains("alpha"), "{archive}");
    ok(line, engine, &["cp", "box:/etc", &here("etc")]);
    assert!(read("etc/passwd").contains("alice"));
}

#[test]
fn copies_of_a_container_that_was_never_started() {
    let engine = Engine::with_busybox();
    for line in command_lines() {
        engine.wharf(&["create", "--name", "box", "busybox", "cat", "/tmp/new/sub/b"]).ok();
        round_trip(&engine, line);
        assert_eq!(engine.wharf(&["start", "-a", "box"]).stdout, "beta");
        round_trip_after_exit(&engine, line);
        engine.wharf(&["rm", "box"]).ok();
    }
}

fn round_trip_after_exit(engine: &Engine, line: CommandLine) {
    let host = Scratch::new();
    ok(line, engine, &["cp", "box:/tmp/new/sub/b", &text(&host.join("b"))]);
    assert_eq!(std::fs::read_to_string(host.join("b")).unwrap(), "beta");
}

#[test]
fn copies_of_a_running_container() {
    let engine = Engine::with_busybox();
    for line in command_lines() {
        engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
        round_trip(&engine, line);
        assert_eq!(engine.wharf(&["exec", "box", "cat", "/tmp/new/sub/b"]).stdout, "beta");
        engine.wharf(&["pause", "box"]).ok();
        round_trip_after_exit(&engine, line);
        engine.wharf(&["rm", "-f", "box"]).ok();
    }
}

#[test]
fn volumes_and_memory_are_seen_and_read_only_is_respected() {
    let engine = Engine::with_busybox();
    let host = source();
    let (file, bound) = (text(&host.join("src/a")), host.join("bound"));
    std::fs::create_dir(&bound).unwrap();
    let binds = format!("{}:/bound:ro", bound.display());
    let flags = ["-v", "vol:/data", "-v", &binds, "--tmpfs", "/scratch", "--read-only", "busybox"];
    engine.wharf(&[&["run", "-d", "--name", "run"], &flags[..], &["sleep", "1000"]].concat()).ok();
    engine.wharf(&[&["create", "--name", "stopped"], &flags[..], &["cat", "/data/b"]].concat()).ok();
    for line in command_lines() {
        ok(line, &engine, &["cp", &file, "run:/data/b"]);
        ok(line, &engine, &["cp", &file, "run:/scratch/b"]);
        assert_eq!(engine.wharf(&["exec", "run", "cat", "/data/b", "/scratch/b"]).stdout, "alphaalpha");
        ok(line, &engine, &["cp", "run:/scratch/b", &text(&host.join("from-memory"))]);
        ok(line, &engine, &["cp", &file, "stopped:/data/c"]);
        ok(line, &engine, &["cp", "stopped:/data/b", &text(&host.join("from-volume"))]);
    }
    assert_eq!(engine.wharf(&["start", "-a", "stopped"]).stdout, "alpha");
    for container in ["run", "stopped"] {
        let refused = |path: &str, reason: &str| {
            let output = both(&engine, &["cp", &file, &format!("{container}:{path}")]);
            assert_eq!((output.code, output.stderr.contains(reason)), (1, true), "{path}: {}", output.stderr);
        };
        refused("/etc/", "container rootfs is marked read-only");
        refused("/new", "container rootfs is marked read-only");
        refused("/bound/x", "mounted volume is marked read-only");
    }
    assert_eq!(std::fs::read_dir(&bound).unwrap().count(), 0);
}

#[test]
fn refusals() {
    let engine = Engine::with_busybox();
    let host = source();
    engine.wharf(&["create", "--name", "box", "busybox"]).ok();
    let out = text(&host.join("out"));
    let src = text(&host.join("src"));
    let file = text(&host.join("src/a"));
    let refused = |arguments: &[&str], reason: &str| {
        let output = both(&engine, &[&["cp"], arguments].concat());
        assert_eq!(
            (output.code, output.stderr.contains(reason)),
            (1, true),
            "{arguments:?}: {}",
            output.stderr
        );
    };
    refused(&["box:/no/such", &out], "Could not find the file /no/such in container box");
    refused(&["box:/etc/passwd/", &out], "not a directory");
    refused(&[&file, "box:/no/such/x"], "Could not find the file /no/such in container box");
    for line in command_lines() {
        let output = line.run(&engine, &["cp", &src, "box:/etc/passwd"]);
        assert_eq!(
            (output.code, output.stderr.contains("cannot copy directory")),
            (1, true),
            "{}",
            output.stderr
        );
    }
    refused(&["nosuch:/etc", &out], "No such container: nosuch");
    engine.wharf(&["cp", &src, "box:/tmp/a"]).ok();
    engine.wharf(&["cp", &src, "box:/tmp/a"]).ok();
    std::fs::remove_dir_all(host.join("src/sub")).unwrap();
    std::fs::write(host.join("src/sub"), "a file").unwrap();
    refused(
        &[&format!("{src}/."), "box:/tmp/a"],
        "cannot overwrite directory \"/tmp/a/sub\" with non-directory \"/tmp/a\"",
    );
}

#[test]
fn users_of_copied_files() {
    let engine = Engine::with_busybox();
    let host = source();
    let file = host.join("src/a");
    std::os::unix::fs::chown(&file, Some(77), Some(88)).unwrap();
    engine.wharf(&["run", "-d", "--name", "box", "-u", "alice", "busybox", "sleep", "1000"]).ok();
    for line in command_lines() {
        ok(line, &engine, &["cp", &text(&file), "box:/tmp/plain"]);
        ok(line, &engine, &["cp", "-a", &text(&file), "box:/tmp/own"]);
        let owners =
            engine.wharf(&["exec", "-u", "0", "box", "stat", "-c", "%u:%g", "/tmp/plain", "/tmp/own"]).line();
        assert_eq!(owners, "77:88\n1000:1000", "{line:?}");
    }
}

#[test]
fn owners_of_choice_and_sparse_files() {
    let engine = Engine::with_busybox();
    let host = source();
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    engine.wharf(&["create", "--name", "still", "busybox"]).ok();
    for container in ["box", "still"] {
        for (owner, expected) in [("alice", "1000:1000"), ("7:8", "7:8"), ("alice:9", "1000:9")] {
            let source = text(&host.join("src"));
            engine.wharf(&["cp", "--chown", owner, &source, &format!("{container}:/own{expected}")]).ok();
        }
    }
    let owners =
        engine.wharf(&["exec", "box", "stat", "-c", "%u:%g", "/own1000:1000", "/own7:8/a", "/own1000:9/sub"]);
    assert_eq!(owners.line(), "1000:1000\n7:8\n1000:9");
    let nobody = engine.wharf(&["cp", "--chown", "nobody-here", &text(&host.join("src")), "box:/x"]);
    assert!(nobody.code == 1 && nobody.stderr.contains("unable to find user nobody-here"), "{nobody:?}");
    let out = engine.wharf(&["cp", "--chown", "1", "box:/etc/passwd", &text(&host.join("x"))]);
    assert!(
        out.code == 1 && out.stderr.contains("--chown is for what is copied into a container"),
        "{out:?}"
    );
    // 64 MiB with a line in the middle and a hole at the end.
    let sparse = std::fs::File::create(host.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"line", 32 << 20).unwrap();
    engine.wharf(&["cp", &text(&host.join("sparse")), "box:/sparse"]).ok();
    engine.wharf(&["cp", "box:/sparse", &text(&host.join("back"))]).ok();
    let blocks = engine.wharf(&["exec", "box", "stat", "-c", "%s %b", "/sparse"]).line();
    let (size, blocks) = blocks.split_once(' ').unwrap();
    assert_eq!(size, "67108864");
    assert!(blocks.parse::<u64>().unwrap() < 2048, "{blocks} blocks");
    let back = std::fs::metadata(host.join("back")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&back) < 2048);
    assert_eq!(std::fs::read(host.join("back")).unwrap(), std::fs::read(host.join("sparse")).unwrap());
}

/// The place of a secret outside, as the container would name it through its links.
fn links_out(victim: &Path) -> String {
    format!("ln -s {0} /leak; ln -s / /root/up; ln -s ../../../../../../..{0} /tmp/up", victim.display())
}

#[test]
fn links_lead_nowhere_outside() {
    let engine = Engine::with_busybox();
    let (host, victim) = (source(), Scratch::new());
    std::fs::write(victim.join("secret"), "secret").unwrap();
    let script = links_out(victim.path());
    engine
        .wharf(&["run", "-d", "--name", "box", "busybox", "sh", "-c", &format!("{script}; sleep 1000")])
        .ok();
    engine.wharf(&["run", "--name", "ended", "busybox", "sh", "-c", &script]).ok();
    let (file, out) = (text(&host.join("src/a")), text(&host.join("out")));
    for container in ["box", "ended"] {
        for path in ["/leak/secret", "/tmp/up/secret", "/proc/1/root/etc/hostname", "/proc/self/root/etc"] {
            let output = both(&engine, &["cp", &format!("{container}:{path}"), &out]);
            assert_eq!(output.code, 1, "{path}: {}", output.stderr);
            assert!(output.stderr.contains("Could not find the file"), "{path}: {}", output.stderr);
        }
        for path in ["/leak/new", "/tmp/up/new", "/leak/"] {
            engine.docker(&["cp", &file, &format!("{container}:{path}")]);
            engine.wharf(&["cp", &file, &format!("{container}:{path}")]);
        }
    }
    assert_eq!(std::fs::read_dir(victim.path()).unwrap().count(), 1);
    assert!(!host.join("out").exists());
}

/// CVE-2018-15664: a container swaps a folder for a link to the host while files are copied through it.
#[test]
fn a_race_with_links_is_lost() {
    let engine = Engine::with_busybox();
    let (host, victim) = (source(), Scratch::new());
    std::fs::create_dir(victim.join("sub")).unwrap();
    std::fs::write(victim.join("secret"), "secret").unwrap();
    let script = format!(
        "mkdir -p /w/real/sub; echo mine > /w/real/secret; cd /w; ln -s {} link; \
         while :; do mv real place; mv place real; mv link place; mv place link; done",
        victim.path().display()
    );
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sh", "-c", &script]).ok();
    let source = text(&host.join("src/."));
    let mut got = 0;
    for _ in 0..60 {
        let output = engine.wharf(&["cp", "box:/w/place/secret", &text(&host.join("got"))]);
        if output.code == 0 {
            got += 1;
            assert_eq!(std::fs::read_to_string(host.join("got")).unwrap(), "mine\n");
        }
        engine.wharf(&["cp", &source, "box:/w/place"]);
        assert!(!victim.join("a").exists() && !victim.join("sub/b").exists());
    }
    println!("{got} of 60 copies met the folder");
    assert_eq!(engine.wharf(&["exec", "box", "true"]).code, 0);
}

#[test]
fn export_is_the_root_without_what_is_mounted() {
    let engine = Engine::with_busybox();
    let host = Scratch::new();
    engine
        .wharf(&[
            "run",
            "-d",
            "--name",
            "box",
            "-v",
            "vol:/data",
            "busybox",
            "sh",
            "-c",
            "echo x > /mine; echo y > /data/theirs; rm /bin/ls; sleep 1000",
        ])
        .ok();
    testkit::until("the files", std::time::Duration::from_secs(10), || {
        (engine.wharf(&["exec", "box", "test", "-e", "/data/theirs", "-a", "!", "-e", "/bin/ls"]).code == 0)
            .then_some(())
    });
    for line in command_lines() {
        let archive = text(&host.join("export.tar"));
        ok(line, &engine, &["export", "-o", &archive, "box"]);
        let listed = engine.run("tar", &["-tf", &archive]).ok();
        let names: Vec<&str> = listed.lines().collect();
        for (name, there) in [
            ("bin/busybox", true),
            ("mine", true),
            (".dockerenv", true),
            ("data/theirs", false),
            ("bin/ls", false),
            ("./", false),
        ] {
            assert_eq!(names.contains(&name), there, "{line:?}: {name}");
        }
        ok(line, &engine, &["import", "-c", "CMD [\"cat\", \"/mine\"]", &archive, "again:1"]);
        assert_eq!(engine.wharf(&["run", "--rm", "again:1"]).stdout, "x\n");
    }
    let refused = both(&engine, &["export", "-o", &text(&host.join("no")), "nosuch"]);
    assert!(refused.stderr.contains("No such container: nosuch"), "{}", refused.stderr);
}

#[test]
fn diff_and_commit() {
    let engine = Engine::with_busybox();
    engine
        .wharf(&[
            "run",
            "--name",
            "box",
            "-e",
            "A=b",
            "-v",
            "/vol",
            "busybox",
            "sh",
            "-c",
            "echo x > /new; rm /etc/group; echo y > /vol/f",
        ])
        .ok();
    assert_eq!(both(&engine, &["diff", "box"]).stdout, "C /etc\nD /etc/group\nA /new\nA /vol\n");
    for line in command_lines() {
        let changes = [
            "-c",
            "CMD [\"cat\", \"/new\"]",
            "-c",
            "ENV Z=1 Y=\"a b\"",
            "-c",
            "LABEL l=m",
            "-c",
            "EXPOSE 80",
        ];
        let further = [
            "-c",
            "WORKDIR /tmp",
            "-c",
            "USER alice",
            "-c",
            "STOPSIGNAL SIGINT",
            "-c",
            "VOLUME /more",
            "-a",
            "me",
            "-m",
            "why",
        ];
        let id = ok(line, &engine, &[&["commit"], &changes[..], &further, &["box", "made:1"]].concat());
        assert!(id.starts_with("sha256:"), "{id}");
        assert_eq!(engine.wharf(&["run", "--rm", "made:1"]).stdout, "x\n");
        let format = "{{.Author}} {{.Comment}} {{.Config.Env}} {{.Config.Labels}} {{.Config.ExposedPorts}} {{.Config.WorkingDir}} \
                      {{.Config.User}} {{.Config.StopSignal}} {{.Config.Volumes}}";
        let shown = engine.docker(&["image", "inspect", "-f", format, "made:1"]).line();
        assert!(shown.starts_with("me why [A=b "), "{shown}");
        assert!(
            shown.ends_with("Z=1 Y=a b] map[l:m] map[80/tcp:{}] /tmp alice SIGINT map[/more:{} /vol:{}]"),
            "{shown}"
        );
        let refused = line.run(&engine, &["commit", "-c", "RUN x", "box"]);
        assert!(refused.stderr.contains("RUN is not a valid change command"), "{}", refused.stderr);
    }
    engine.wharf(&["run", "-d", "--name", "running", "busybox", "sleep", "1000"]).ok();
    engine.wharf(&["commit", "running", "made:2"]).ok();
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Status}}", "running"]).line(), "running");
    // In whole seconds, as the client rounds "now" down.
    let until = (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1).to_string();
    let window = ["events", "--since", "1", "--until", &until, "--filter", "container=running"];
    let events = engine.docker(&[&window[..], &["--format", "{{.Action}}"]].concat()).ok();
    for action in ["pause", "unpause", "commit"] {
        assert!(events.lines().any(|line| line == action), "{action}: {events}");
    }
}

/// Copies an archive that is bigger than the daemon may grow by.
#[test]
fn streams_need_little_memory() {
    let engine = Engine::with_busybox();
    let host = Scratch::new();
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let big = std::fs::File::create(host.join("big")).unwrap();
    big.set_len(300 << 20).unwrap();
    engine.wharf(&["cp", &text(&host.join("big")), "box:/big"]).ok();
    let output: Output = {
        let mut command = engine.wharf_command();
        let status = command.args(["cp", "box:/big", "-"]).stdout(Stdio::null()).status().unwrap();
        Output { stdout: String::new(), stderr: String::new(), code: status.code().unwrap_or(-1) }
    };
    assert_eq!(output.code, 0);
    let pid = std::fs::read_to_string(engine.folder().join("pid")).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 100_000, "the daemon grew to {kilobytes} kB");
}
