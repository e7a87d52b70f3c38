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

#[test]
fn devices_by_name_bring_what_their_files_say() {
    let folder = testkit::Scratch::new();
    let specs = folder.join("cdi");
    std::fs::create_dir_all(&specs).expect("a folder");
    let flag = format!("--cdi-spec-dir={}", specs.display());
    let engine = Engine::start_with(&[&flag]);
    engine.load_busybox("busybox:latest");
    let host = folder.join("library");
    std::fs::write(&host, "of the vendor").expect("write");
    let text = format!(
        "cdiVersion: 0.6.0\nkind: vendor.com/class\ncontainerEdits:\n  env: [COMMON=1]\ndevices:\n- name: zero\n  containerEdits:\n    env: [DEVICE=zero]\n    deviceNodes:\n    - {{path: /dev/vendor, hostPath: /dev/zero, permissions: rw}}\n    mounts:\n    - {{hostPath: {}, containerPath: /lib/vendor, options: [ro]}}\n    additionalGids: [4242]\n",
        host.display()
    );
    std::fs::write(specs.join("vendor.yaml"), text).expect("write");
    let script = "echo $COMMON $DEVICE; cat /lib/vendor; echo; id -G; head -c 3 /dev/vendor | wc -c; touch /lib/vendor";
    for client in [Engine::wharf, Engine::docker] {
        let output = client(
            &engine,
            &["run", "--rm", "--device", "vendor.com/class=zero", "busybox", "sh", "-c", script],
        );
        assert_eq!(output.stdout, "1 zero\nof the vendor\n0 10 4242\n3\n", "{}", output.stderr);
        assert_ne!(output.code, 0, "a read-only mount was written to");
    }
    let missing = engine.wharf(&["run", "--rm", "--device", "vendor.com/class=one", "busybox", "true"]);
    assert!(
        missing.stderr.contains("CDI device injection failed: unresolvable CDI devices vendor.com/class=one"),
        "{missing:?}"
    );
    assert_eq!(engine.wharf(&["ps", "-aq"]).line(), "");
    let shown = "{{range .DiscoveredDevices}}{{.Source}} {{.ID}}{{end}} {{json .CDISpecDirs}}";
    let info = engine.wharf(&["info", "-f", shown]).line();
    assert_eq!(info, format!("cdi vendor.com/class=zero [\"{}\"]", specs.display()));
}

#[test]
fn an_oldest_version_an_init_and_a_resolv_conf_of_ones_own() {
    let folder = testkit::Scratch::new();
    let (resolv, config) = (folder.join("resolv.conf"), folder.join("daemon.json"));
    std::fs::write(&resolv, "nameserver 192.0.2.1\nsearch here.test\n").expect("write");
    let text = serde_json::json!({
        "min-api-version": "1.44", "resolv-conf": resolv, "init-path": "/bin/busybox", "init": true
    });
    std::fs::write(&config, text.to_string()).expect("write");
    let engine = Engine::start_with(&[&format!("--config-file={}", config.display())]);
    engine.load_busybox("busybox:latest");
    let socket = engine.folder().join("wharf.sock").display().to_string();
    let get =
        |path: &str| engine.run("curl", &["-s", "--unix-socket", &socket, &format!("http://d{path}")]).ok();
    assert!(
        get("/v1.43/info").contains("client version 1.43 is too old. Minimum supported API version is 1.44")
    );
    assert!(get("/version").contains("\"MinAPIVersion\":\"1.44\""));
    let conf = engine.wharf(&["run", "--rm", "--init=false", "busybox", "cat", "/etc/resolv.conf"]).ok();
    assert!(conf.contains("nameserver 192.0.2.1\n") && conf.contains("search here.test"), "{conf}");
    // The program at that path is the first process: this one takes its arguments for a command of its own.
    let shown = engine.wharf(&["run", "--rm", "busybox", "true"]);
    assert!(shown.stderr.contains("docker-init: applet not found"), "{shown:?}");
    for (refused, why) in [
        ("--storage-opt=dm.basesize=1G", "overlay2: unknown option dm.basesize"),
        ("--containerd=/run/x.sock", "there is no containerd"),
    ] {
        let output = engine.wharf(&["daemon", refused]);
        assert!(output.code != 0 && output.stderr.contains(why), "{refused}: {output:?}");
    }
}
