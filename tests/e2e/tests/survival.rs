//! The daemon dies; containers, their logs, ports and restart policies do not.

use std::time::Duration;
use testkit::{Engine, until};

#[test]
fn a_killed_daemon_loses_nothing() {
    let mut engine = Engine::with_busybox();
    let script = "mkdir /www; echo page > /www/index.html; (i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done) & exec httpd -f -p 80 -h /www";
    engine.wharf(&["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", script]).ok();
    engine.wharf(&["run", "-d", "--name", "short", "busybox", "sh", "-c", "sleep 1; exit 42"]).ok();
    engine
        .wharf(&[
            "run",
            "-d",
            "--name",
            "again",
            "--restart",
            "always",
            "busybox",
            "sh",
            "-c",
            "echo up; sleep 0.5",
        ])
        .ok();
    let page = |engine: &Engine| engine.run("curl", &["-s", "-m", "2", "http://127.0.0.1:8080/"]).stdout;
    until("the page", Duration::from_secs(10), || (page(&engine) == "page\n").then_some(()));
    let log = std::fs::read_dir(engine.folder().join("data/containers")).unwrap().flatten().count();
    assert_eq!(log, 3);
    engine.kill_daemon();
    assert_eq!(page(&engine), "page\n", "the published port answers without a daemon");
    std::thread::sleep(Duration::from_millis(2500));
    engine.start_daemon();
    assert_eq!(page(&engine), "page\n");
    let inspect = |format: &str, name: &str| engine.wharf(&["inspect", "-f", format, name]).line();
    assert_eq!(inspect("{{.State.Status}}", "web"), "running");
    assert_eq!(inspect("{{.State.Status}} {{.State.ExitCode}}", "short"), "exited 42");
    assert!(inspect("{{.State.Running}}{{.State.Restarting}}", "again").contains("true"));
    assert!(inspect("{{.RestartCount}}", "again").parse::<u32>().unwrap() >= 2);
    let lines = engine.wharf(&["logs", "web"]).ok();
    let numbers: Vec<u32> =
        lines.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    let expected: Vec<u32> = (1..=u32::try_from(numbers.len()).unwrap()).collect();
    assert_eq!(numbers, expected, "no line is lost");
    assert!(numbers.len() >= 20, "logging went on: {}", numbers.len());
    engine.wharf(&["exec", "web", "true"]).ok();
    engine.wharf(&["stop", "-t", "0", "web", "again"]).ok();
}

#[test]
fn an_attached_client_survives_the_daemon() {
    let mut engine = Engine::with_busybox();
    let mut command = engine.wharf_command();
    command.args([
        "run",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done",
    ]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    until("the container to run", Duration::from_secs(10), || {
        engine.wharf(&["logs", "box"]).stdout.contains('2').then_some(())
    });
    engine.kill_daemon();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n2\n3\n4\n5\n6\n");
    engine.start_daemon();
}

/// Every command comes back, and what it says is true: a restart and an exec that succeeded left a container that runs, or
/// one that is known to have died with its supervisor.
#[test]
fn a_supervisor_may_die_at_any_moment_of_a_restart() {
    let engine = Engine::with_busybox();
    let id = engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).line();
    let title = format!("wharf: {}", id.get(..12).unwrap());
    let supervisors = || {
        let is_its = |pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|command| command.split(|byte| *byte == 0).any(|word| word == title.as_bytes()))
        };
        engine.namespaces().processes().into_iter().filter(is_its).collect::<Vec<u32>>()
    };
    let state = || engine.wharf(&["inspect", "-f", "{{.State.Status}}", "box"]).line();
    for round in 0..24 {
        std::thread::scope(|scope| {
            scope.spawn(|| engine.wharf(&["restart", "-t", "0", "box"]));
            std::thread::sleep(Duration::from_millis(round * 2));
            for pid in supervisors() {
                drop(std::process::Command::new("kill").args(["-9", &pid.to_string()]).output());
            }
        });
        // One that was killed last is told to be gone within moments.
        until("the engine to know", Duration::from_secs(10), || {
            (state() == "exited" || engine.wharf(&["exec", "box", "true"]).code == 0).then_some(())
        });
        let (state, code) = (state(), engine.wharf(&["exec", "box", "true"]).code);
        assert_eq!(state == "running", code == 0, "round {round}: {state}, exec gave {code}");
        if state != "running" {
            engine.wharf(&["start", "box"]).ok();
        }
    }
}
