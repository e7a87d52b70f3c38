//! The daemon's own sockets and settings: metrics, debug endpoints, reloads.

use std::time::Duration;
use testkit::{Engine, until};

#[test]
fn metrics_and_debug_endpoints() {
    let engine = Engine::start_with(&["--metrics-addr", "127.0.0.1:9323"]);
    engine.load_busybox("busybox:latest");
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    engine.wharf(&["create", "busybox", "true"]).ok();
    let get =
        |path: &str| engine.run("curl", &["-s", "-m", "5", &format!("http://127.0.0.1:9323{path}")]).ok();
    let text = get("/metrics");
    for line in [
        "# TYPE engine_daemon_container_states_containers gauge\n",
        "engine_daemon_container_states_containers{state=\"running\"} 1\n",
        "engine_daemon_container_states_containers{state=\"stopped\"} 1\n",
        "process_open_fds ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("} \n"));
    assert_eq!(get("/other"), "404 page not found\n");
    let socket = engine.folder().join("wharf.sock").display().to_string();
    let debug = |path: &str| {
        engine.run("curl", &["-s", "--unix-socket", &socket, &format!("http://d/debug/{path}")]).ok()
    };
    let variables: serde_json::Value = serde_json::from_str(&debug("vars")).expect("JSON");
    assert!(variables["memstats"]["Sys"].as_u64().is_some_and(|bytes| bytes > 0), "{variables}");
    assert!(debug("pprof/cmdline").contains("--metrics-addr"));
    assert!(debug("pprof/heap").contains("message"));
}

#[test]
fn a_reload_changes_what_containers_get_that_do_not_say() {
    let engine = Engine::with_busybox();
    let shown = |name: &str| {
        engine.wharf(&["inspect", "-f", "{{.HostConfig.ShmSize}} {{.HostConfig.IpcMode}}", name]).line()
    };
    engine.wharf(&["create", "--name", "before", "busybox", "true"]).ok();
    assert_eq!(shown("before"), "67108864 private");
    let config = engine.folder().join("daemon.json");
    std::fs::write(&config, r#"{"default-shm-size": "1m", "default-ipc-mode": "shareable"}"#).expect("write");
    let pid = std::fs::read_to_string(engine.folder().join("pid")).expect("the pid file");
    engine.run("kill", &["-HUP", pid.trim()]).ok();
    let mut number = 0;
    until("the reload", Duration::from_secs(10), || {
        number += 1;
        let name = format!("after{number}");
        engine.wharf(&["create", "--name", &name, "busybox", "true"]).ok();
        (shown(&name) == "1048576 shareable").then_some(())
    });
    assert_eq!(shown("before"), "67108864 private");
    // One that makes no sense changes nothing and is told in the log.
    std::fs::write(&config, r#"{"default-shm-size": "1x"}"#).expect("write");
    engine.run("kill", &["-HUP", pid.trim()]).ok();
    until("the refusal", Duration::from_secs(10), || {
        engine.daemon_log().contains("daemon.json is not reloaded").then_some(())
    });
    engine.wharf(&["create", "--name", "last", "busybox", "true"]).ok();
    assert_eq!(shown("last"), "1048576 shareable");
}
