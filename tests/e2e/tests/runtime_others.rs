//! The engine on other OCI runtimes: `--add-runtime`, `run --runtime`. runc and crun where they are installed, and our own
//! as a program of its own. And what the engine hands over to ours.

use e2e::bundle::{in_terminal, skipped};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::{Engine, Output, Scratch, until};

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    places.map(|folder| folder.join(name)).find(|place| place.exists())
}

/// Runs containers of every kind with the runtime at `path`.
fn check(path: &Path) {
    let engine = Engine::start_with(&["--add-runtime", &format!("other={}", path.display())]);
    engine.load_busybox("busybox:latest");
    if path.ends_with("crun") {
        // It refuses hosts that have version 1 and 2 side by side.
        let script = "for m in $(awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts); do \
                      grep -q ' cgroup ' /proc/mounts && umount $m; done; true";
        engine.run("sh", &["-c", script]).ok();
    }
    assert!(engine.wharf(&["info"]).ok().contains(" Runtimes: other runc wharf\n"));
    let run = |flags: &[&str], command: &[&str]| {
        engine.wharf(&[&["run", "--runtime", "other"], flags, &["busybox"], command].concat())
    };
    streams_and_failures(&run);
    surroundings(&run);
    life(&engine, &run);
    terminals(&engine);
    restarts(&engine, &run);
    let left = engine.wharf(&["ps", "--all", "--quiet"]).line();
    assert_eq!(left, "", "{}", engine.daemon_log());
    until("the groups to be gone", Duration::from_secs(10), || engine.cgroups().is_empty().then_some(()));
    let state = engine.folder().join("exec/runtimes/other");
    let kept = std::fs::read_dir(&state).map(Iterator::count).unwrap_or_default();
    assert_eq!(kept, 0, "the runtime has no containers left in {}", state.display());
}

type Run<'a> = &'a dyn Fn(&[&str], &[&str]) -> Output;

fn streams_and_failures(run: Run<'_>) {
    let said = run(&["--rm"], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str(), said.code), ("out\n", "err\n", 7));
    let said = run(&["--rm"], &["nosuch"]);
    assert!(said.code == 127 && said.stderr.contains("OCI runtime create failed"), "{said:?}");
    let said = run(&["--rm"], &["/etc"]);
    assert_eq!(said.code, 126, "{said:?}");
    assert_eq!(run(&["--rm"], &["sh", "-c", "kill -KILL $$; sleep 1; exit 3"]).code, 3);
    let said = run(&["--rm", "--volume", "/tmp:/x:shared"], &["true"]);
    assert!(said.stderr.contains("shared mounts need the built-in runtime"), "{said:?}");
}

fn surroundings(run: Run<'_>) {
    let inside =
        |flags: &[&str], script: &str| run(&[&["--rm"], flags].concat(), &["sh", "-c", script]).line();
    assert_eq!(inside(&["--user", "alice", "--group-add", "wheel"], "id -un; id -G"), "alice\n1000 10");
    assert_eq!(inside(&["--workdir", "/made/here"], "pwd; echo $HOME"), "/made/here\n/root");
    assert_eq!(inside(&["--hostname", "there"], "hostname; cat /etc/hostname"), "there\nthere");
    assert_eq!(
        inside(&["--read-only", "--tmpfs", "/t"], "touch /x 2>/dev/null || touch /t/x && echo t"),
        "t"
    );
    let limits = ["--memory", "64m", "--pids-limit", "20", "--cpus", "0.5"];
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max";
    assert_eq!(inside(&limits, script), "67108864\n20");
    assert_eq!(inside(&[], "grep -c eth0 /proc/net/dev; grep Seccomp: /proc/self/status"), "1\nSeccomp:\t2");
    assert_eq!(inside(&["--cap-drop", "ALL"], "grep CapEff /proc/self/status"), "CapEff:\t0000000000000000");
}

fn life(engine: &Engine, run: Run<'_>) {
    let ok = |arguments: &[&str]| engine.wharf(arguments).ok();
    run(&["--detach", "--name", "lasting"], &["sh", "-c", "echo begun; exec sleep 1000"]).ok();
    assert_eq!(ok(&["logs", "lasting"]), "begun\n");
    assert_eq!(ok(&["inspect", "--format", "{{.HostConfig.Runtime}}", "lasting"]), "other\n");
    assert_eq!(ok(&["exec", "--user", "1000", "lasting", "id", "-u"]), "1000\n");
    assert_eq!(
        ok(&["exec", "--workdir", "/etc", "lasting", "sh", "-c", "pwd; hostname | wc -c"]),
        "/etc\n13\n"
    );
    assert_eq!(engine.wharf(&["exec", "lasting", "sh", "-c", "exit 5"]).code, 5);
    assert!(matches!(engine.wharf(&["exec", "lasting", "nosuch"]).code, 126 | 127));
    ok(&["pause", "lasting"]);
    assert!(ok(&["ps"]).contains("(Paused)"));
    assert!(engine.wharf(&["exec", "lasting", "true"]).stderr.contains("is paused"));
    ok(&["unpause", "lasting"]);
    ok(&["update", "--memory", "50m", "--memory-swap", "50m", "lasting"]);
    assert!(ok(&["stats", "--no-stream", "lasting"]).contains("50MiB"));
    assert!(ok(&["top", "lasting"]).contains("sleep 1000"));
    let said = engine.wharf(&["cp", "lasting:/etc/hostname", "-"]);
    assert!(said.stdout.contains("hostname"), "{said:?}");
    ok(&["kill", "--signal", "KILL", "lasting"]);
    assert_eq!(ok(&["wait", "lasting"]), "137\n");
    ok(&["start", "lasting"]);
    ok(&["stop", "--time", "0", "lasting"]);
    ok(&["rm", "lasting"]);
}

fn terminals(engine: &Engine) {
    let socket = engine.host();
    let wharf = Engine::executable().display().to_string();
    let line = format!("{wharf} --host {socket} run --rm -t --runtime other busybox sh -c 'tty; stty size'");
    let said = in_terminal(engine.command("script"), &line);
    assert!(said.stdout.contains("/dev/pts/0"), "{said:?}");
}

fn restarts(engine: &Engine, run: Run<'_>) {
    let script = "echo run >> /count; test $(wc -l < /count) = 3";
    run(&["--detach", "--name", "again", "--restart", "on-failure:5"], &["sh", "-c", script]).ok();
    assert_eq!(engine.wharf(&["wait", "again"]).line(), "0");
    let count = engine.wharf(&["inspect", "--format", "{{.RestartCount}} {{.State.ExitCode}}", "again"]);
    assert_eq!(count.line(), "2 0");
    engine.wharf(&["rm", "again"]).ok();
}

#[test]
fn runc() {
    match program("runc") {
        Some(path) => check(&path),
        None => skipped("runc is not installed"),
    }
}

#[test]
fn crun() {
    match program("crun") {
        Some(path) => check(&path),
        None => skipped("crun is not installed"),
    }
}

#[test]
fn our_own_as_a_program() {
    let scratch = Scratch::new();
    let path = scratch.join("wharf-runtime");
    symlink(Engine::executable(), &path).expect("link the runtime");
    check(&path);
}

#[test]
fn a_runtime_is_known_or_refused() {
    let engine =
        Engine::start_with(&["--add-runtime", "broken=/nonexistent/runtime", "--default-runtime", "broken"]);
    engine.load_busybox("busybox:latest");
    assert!(engine.wharf(&["info"]).ok().contains(" Default Runtime: broken\n"));
    let said = engine.wharf(&["create", "--runtime", "nosuch", "busybox"]);
    assert!(said.stderr.contains("unknown or invalid runtime name: nosuch"), "{said:?}");
    let said = engine.wharf(&["run", "--rm", "busybox", "true"]);
    assert!(said.code == 127 && said.stderr.contains("fork/exec /nonexistent/runtime"), "{said:?}");
    engine.wharf(&["run", "--rm", "--runtime", "runc", "busybox", "true"]).ok();
}

#[test]
fn runtimes_are_read_again() {
    let engine = Engine::with_busybox();
    let configure = |json: &str| {
        std::fs::write(engine.folder().join("daemon.json"), json).unwrap();
        engine.wharf(&["system", "reload"])
    };
    let other = r#"{"runtimes": {"other": {"path": "/nonexistent/other"}}, "default-runtime": "other"}"#;
    assert_eq!(configure(other).ok(), "Changed: defaults\n");
    assert_eq!(engine.wharf(&["info", "-f", "{{.DefaultRuntime}}"]).line(), "other");
    let said = engine.wharf(&["run", "--rm", "busybox", "true"]);
    assert!(said.code == 127 && said.stderr.contains("fork/exec /nonexistent/other"), "{said:?}");
    // One that does not exist changes nothing.
    let said = configure(r#"{"default-runtime": "gone"}"#);
    assert!(said.stderr.contains("gone"), "{said:?}");
    assert_eq!(engine.wharf(&["info", "-f", "{{.DefaultRuntime}}"]).line(), "other");
    assert_eq!(configure("{}").ok(), "Changed: defaults\n");
    engine.wharf(&["run", "--rm", "busybox", "true"]).ok();
}

#[test]
fn a_filters_listener_is_given_away() {
    let engine = Engine::with_busybox();
    let path = engine.folder().join("agent.sock");
    let agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let profile = engine.folder().join("profile.json");
    let text = serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
        "syscalls": [{ "names": ["sethostname"], "action": "SCMP_ACT_NOTIFY" }] });
    std::fs::write(&profile, text.to_string()).unwrap();
    let waiting = std::thread::spawn(move || {
        let mut told = String::new();
        std::io::Read::read_to_string(&mut agent.accept().unwrap().0, &mut told).unwrap();
        told
    });
    let option = format!("seccomp={}", profile.display());
    let id = engine.wharf(&["run", "--detach", "--security-opt", &option, "busybox", "sleep", "1000"]).line();
    let told = waiting.join().unwrap();
    assert!(told.contains("seccompFd") && told.contains(&id), "{told}");
    engine.wharf(&["rm", "--force", &id]).ok();
}
