//! Builds that fail, are ended, or lose their daemon: what is said, what stays, and what goes on from there.

use e2e::building::{build, classic, context, in_image, text};
use std::process::Stdio;
use std::time::{Duration, Instant};
use testkit::{Engine, Scratch};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_wrong_has_a_place() {
    let engine = Engine::with_busybox();
    for (file, code, expect) in [
        (
            "FROM busybox\n  RUNN x\n",
            1,
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\n2:3\n2 |   RUNN x\n  |   ^",
        ),
        (
            "FROM busybox\nCOPY nope /x\n",
            1,
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist\n2 | COPY nope /x",
        ),
        (
            "FROM busybox\nRUN echo last words; exit 7\n",
            7,
            "The command '/bin/sh -c echo last words; exit 7' returned a non-zero code: 7",
        ),
        ("FROM busybox AS a\nCOPY --from=a /x /y\n", 1, "circular dependency detected on stage: a"),
        ("FROM busybox\nCOPY --from=5 /x /y\n", 1, "invalid stage index 5"),
        (
            "FROM busybox\nRUN --mount=type=secret,id=k,required true\n",
            1,
            "secret k: not found\n2 | RUN --mount=type=secret,id=k,required true",
        ),
        ("FROM busybox\nENV a=\"${b:?needed}\"\n", 1, "b: needed\n2 | ENV a=\"${b:?needed}\""),
        ("FROM busybox\nCOPY --chown=nobodyknows Dockerfile /x\n", 1, "can't find uid for user nobodyknows"),
        ("FROM busybox\nRUN --security=insecure true\n", 1, "security.insecure is not allowed"),
        (
            "FROM busybox\nADD --checksum=sha256:00 http://127.0.0.1:1/x /x\n",
            1,
            "failed to download remote url http://127.0.0.1:1/x",
        ),
        ("FROM no.such.host.invalid/image\n", 1, "no.such.host.invalid"),
    ] {
        let output = build(&engine, &context(&[("Dockerfile", file)]), &[]);
        assert!(output.stderr.contains(expect), "{file}: {}", output.stderr);
        assert_eq!(output.code, code, "{file}");
    }
    let output = build(&engine, &context(&[("Dockerfile", "FROM busybox AS web\n")]), &["--target", "wbe"]);
    assert!(
        output.stderr.contains("target stage \"wbe\" could not be found (did you mean web?)"),
        "{}",
        output.stderr
    );
    let failing = context(&[("Dockerfile", "FROM busybox\nRUN exit 3\n")]);
    assert_eq!(classic(&engine, &failing, &[]).code, 3, "the code of the command is the client's");
}

/// What there is besides the daemon itself: processes, mounts, links, control groups, folders of builds, containers.
fn left(engine: &Engine) -> Vec<String> {
    let count = |path: &str| std::fs::read_dir(engine.folder().join(path)).map_or(0, Iterator::count);
    let mounts = engine.run("cat", &["/proc/self/mountinfo"]).ok();
    let below = engine.folder().join("data/build").display().to_string();
    vec![
        format!("{} processes", engine.namespaces().processes().len()),
        format!("{} mounts of builds", mounts.lines().filter(|line| line.contains(&below)).count()),
        format!("{} mounts", mounts.lines().count()),
        format!("{} links", engine.namespaces().links().len()),
        format!("{:?} control groups", engine.cgroups()),
        format!("{} folders of steps", count("data/build/work")),
        format!("{} folders of runs", count("run/containers")),
        format!("{} containers", engine.wharf(&["ps", "-aq"]).ok().lines().count()),
    ]
}

/// Waits until nothing is left but what was there before.
fn settles(engine: &Engine, before: &[String]) {
    let begun = Instant::now();
    loop {
        let now = left(engine);
        if now == before {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{now:?}, not {before:?}: {}",
            engine.daemon_log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Steps side by side, with everything that can be mounted, none of which ends by itself: each sleeps twice.
fn endless(seconds: u32) -> Scratch {
    let mounts = "--mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=bind,target=/b,rw --mount=type=bind,from=busybox,target=/i";
    let stage = |name: &str| {
        format!("FROM busybox AS {name}\nRUN {mounts} : {name}; sleep {seconds} & sleep {seconds}; wait\n")
    };
    let file = format!("{}{}FROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n", stage("a"), stage("b"));
    context(&[("Dockerfile", &file)])
}

fn sleeping(engine: &Engine, seconds: u32) -> usize {
    engine.run("pgrep", &["-fx", &format!("sleep {seconds}")]).stdout.lines().count()
}

#[test]
fn a_build_ends_with_its_client_and_leaves_nothing() {
    let engine = Engine::with_busybox();
    let settled = left(&engine);
    let context = endless(1234);
    for signal in ["INT", "TERM", "KILL"] {
        // What runs in the background of a shell ignores INT, and so does what it starts.
        let mut client = engine.command("env");
        client.arg("--default-signal").arg(Engine::executable());
        client.args(["build", "--no-cache", "--progress", "plain"]).arg(context.path());
        let mut client = client.stderr(Stdio::null()).spawn().unwrap();
        until("the commands to run", || sleeping(&engine, 1234) == 4);
        engine.run("kill", &["-s", signal, &client.id().to_string()]).ok();
        assert!(!client.wait().unwrap().success());
        settles(&engine, &settled);
    }
}

#[test]
fn a_build_with_a_name_can_be_ended_by_others() {
    let engine = Engine::with_busybox();
    let settled = left(&engine);
    let folder = endless(1235);
    let archive = folder.join("context.tar");
    engine.run("tar", &["-cf", &text(&archive), "-C", &text(folder.path()), "Dockerfile"]).ok();
    let socket = engine.host().trim_start_matches("unix://").to_owned();
    let post = |path: &str, more: &[&str]| {
        let url = format!("http://d/v1.44{path}");
        let mut words = vec!["-s", "-X", "POST", "--unix-socket", &socket, "-w", "\n%{http_code}"];
        words.extend(more);
        words.push(&url);
        let mut command = engine.command("curl");
        command.args(words).stdout(Stdio::piped());
        command
    };
    let said = |path: &str| String::from_utf8(post(path, &[]).output().unwrap().stdout).unwrap();
    let data = format!("@{}", text(&archive));
    let header = "content-type: application/x-tar";
    let mut building =
        post("/build?buildid=one&nocache=1", &["-H", header, "--data-binary", &data]).spawn().unwrap();
    until("the commands to run", || sleeping(&engine, 1235) == 4);
    assert_eq!(said("/build/cancel"), "{\"message\":\"build ID not provided\"}\n\n400");
    assert_eq!(said("/build/cancel?id=another"), "\n200");
    assert_eq!(sleeping(&engine, 1235), 4);
    assert_eq!(said("/build/cancel?id=one"), "\n200");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut building.stdout.take().unwrap(), &mut told).unwrap();
    building.wait().unwrap();
    assert!(told.contains("context canceled"), "{told}");
    settles(&engine, &settled);
}

#[test]
fn a_daemon_killed_in_mid_build_leaves_a_cache_that_is_right() {
    let mut engine = Engine::with_busybox();
    let file =
        "FROM busybox\nRUN echo kept > /kept\nRUN --mount=type=tmpfs,target=/t test -e /go || sleep 4321\n";
    let context = context(&[("Dockerfile", file)]);
    let mut client = engine.wharf_command();
    client.args(["build", "--progress", "plain"]).arg(context.path());
    let mut client = client.stderr(Stdio::null()).spawn().unwrap();
    until("the command to run", || !engine.run("pgrep", &["-fx", "sleep 4321"]).stdout.is_empty());
    engine.kill_daemon();
    client.wait().unwrap();
    engine.start_daemon();
    until("the command to end", || engine.run("pgrep", &["-fx", "sleep 4321"]).stdout.is_empty());
    let work = engine.folder().join("data/build/work");
    until("the folders to go", || std::fs::read_dir(&work).unwrap().next().is_none());
    std::fs::write(context.join("Dockerfile"), file.replace("sleep 4321", "true")).unwrap();
    let again = build(&engine, &context, &[]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stderr.matches(" CACHED").count(), 1, "{}", again.stderr);
    assert_eq!(in_image(&engine, "cat /kept"), "kept");
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let engine = Engine::on_small_disk(24);
    engine.load_busybox("busybox:latest");
    let big = context(&[("Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100\n")]);
    let output = build(&engine, &big, &[]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("No space left on device"), "{}", output.stderr);
    let small = context(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    until("the space to be free again", || build(&engine, &small, &[]).code == 0);
    assert_eq!(in_image(&engine, "cat /x"), "x");
}
