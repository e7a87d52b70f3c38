//! What a request asks for is done or refused, never passed over.

use e2e::both;
use std::time::Duration;
use testkit::{Engine, until};

fn refused(engine: &Engine, flags: &[&str], words: &str) {
    let output = both(engine, &[&["create"], flags, &["busybox", "true"]].concat());
    assert_ne!(output.code, 0, "{flags:?}");
    assert!(output.stderr.contains(words), "{flags:?}: {}", output.stderr);
}

#[test]
fn what_cannot_be_is_refused() {
    let engine = Engine::with_busybox();
    refused(&engine, &["--isolation", "hyperv"], "invalid isolation");
    refused(&engine, &["--storage-opt", "size=1g"], "--storage-opt is supported only for overlay over xfs");
    refused(&engine, &["--gpus", "all"], "could not select device driver \"\" with capabilities: [[gpu]]");
    refused(&engine, &["--volume-driver", "nosuch", "-v", "data:/data"], "plugin \"nosuch\" not found");
    refused(&engine, &["--log-opt", "labels-regex=("], "error parsing regexp");
    refused(&engine, &["--log-opt", "tag={{.Nosuch}}"], "Nosuch");
    engine.wharf(&["create", "--name", "box", "busybox", "true"]).ok();
    let link = both(&engine, &["rm", "--link", "/box"]);
    assert!(link.stderr.contains("cannot remove the default link name"), "{}", link.stderr);
    assert_eq!(engine.wharf(&["ps", "-aq"]).line().len(), 12, "the container is still there");
}

#[test]
fn a_read_only_bind_is_so_all_the_way_down() {
    let engine = Engine::with_busybox();
    let folder = engine.folder().join("tree");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    let source = folder.display().to_string();
    engine.run("mount", &["-t", "tmpfs", "tmpfs", &format!("{source}/sub")]).ok();
    let script = "touch /t/x 2>/dev/null || echo no; touch /t/sub/x 2>/dev/null || echo no";
    let run =
        |mount: &str| engine.wharf(&["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script]).line();
    assert_eq!(run(&format!("type=bind,source={source},target=/t,readonly")), "no\nno");
    let one = format!("type=bind,source={source},target=/t,readonly,bind-recursive=writable");
    assert_eq!(run(&one), "no");
}

#[test]
fn an_unhealthy_container_is_dealt_with() {
    let engine = Engine::with_busybox();
    let run = |name: &str, action: &str, policy: &str| {
        engine
            .wharf(&[
                "run",
                "-d",
                "--name",
                name,
                "--restart",
                policy,
                "--health-cmd",
                "test ! -e /sick",
                "--health-interval",
                "100ms",
                "--health-retries",
                "1",
                "--health-on-failure",
                action,
                "-t",
                "--stop-timeout",
                "1",
                "busybox",
                "sh",
                "-c",
                "trap 'exit 5' TERM; while :; do sleep 0.1; done",
            ])
            .ok();
    };
    let wait = |name: &str, format: &str, expect: &str| {
        until(&format!("{name} to be {expect}"), Duration::from_secs(20), || {
            (engine.wharf(&["inspect", "-f", format, name]).line() == expect).then_some(())
        });
    };
    for (name, action) in
        [("stopped", "stop"), ("killed", "kill"), ("restarted", "restart"), ("left", "none")]
    {
        run(name, action, "no");
        wait(name, "{{.State.Health.Status}}", "healthy");
        engine.wharf(&["exec", name, "touch", "/sick"]).ok();
    }
    wait("stopped", "{{.State.Status}} {{.State.ExitCode}}", "exited 5");
    wait("killed", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    wait("left", "{{.State.Status}} {{.State.Health.Status}}", "running unhealthy");
    // It comes up sick again and again, since its files stay; what counts is that it does.
    let started = |name: &str| engine.wharf(&["inspect", "-f", "{{.State.StartedAt}}", name]).line();
    let first = started("restarted");
    until("another start", Duration::from_secs(20), || (started("restarted") != first).then_some(()));
    engine.wharf(&["rm", "-f", "restarted"]).ok();
    let refused = engine.wharf(&["create", "--health-on-failure", "explode", "busybox", "true"]);
    assert!(refused.stderr.contains("must be none, kill, restart or stop"), "{}", refused.stderr);
}

#[test]
fn containers_come_up_after_those_they_need() {
    let mut engine = Engine::with_busybox();
    let run = |name: &str, label: &str| {
        engine
            .wharf(&[
                "run",
                "-d",
                "--name",
                name,
                "--restart",
                "always",
                "--label",
                label,
                "busybox",
                "sh",
                "-c",
                "sleep 1000",
            ])
            .ok();
    };
    run("web", "depends-on=app");
    run("app", "depends-on=db");
    run("db", "tier=data");
    // As after a reboot: nothing of the runs is left.
    let events = |engine: &Engine| {
        let now = engine.run("date", &["+%s"]).line();
        engine
            .docker(&[
                "events",
                "--since",
                "0",
                "--until",
                &now,
                "--filter",
                "event=start",
                "--format",
                "{{.Actor.Attributes.name}}",
            ])
            .ok()
    };
    engine.stop_daemon();
    let own = std::process::id().to_string();
    for pid in engine.namespaces().processes() {
        assert_ne!(pid.to_string(), own);
        drop(
            std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .stderr(std::process::Stdio::null())
                .status(),
        );
    }
    drop(std::fs::remove_dir_all(engine.folder().join("exec")));
    engine.start_daemon();
    until("all to run", Duration::from_secs(20), || {
        let running = engine.wharf(&["ps", "-q"]).line();
        (running.lines().count() == 3).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(events(&engine), "db\napp\nweb\n");
}
