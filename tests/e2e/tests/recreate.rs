//! `container recreate`: the same container of another image, and what is left if that fails.

#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use std::time::Duration;
use testkit::image::{Entry, busybox_layer, layer, write_archive};
use testkit::{Engine, until};

/// An image of busybox with a file that says which one it is; `web:latest` is its name.
fn load(engine: &Engine, version: &str, command: &[&str]) {
    let path = engine.folder().join(format!("web-{version}.tar"));
    let marked = layer(&[Entry::File("version", 0o644, version.as_bytes())]);
    let config =
        serde_json::json!({"Cmd": command, "Volumes": {"/kept": {}}, "Env": [format!("V={version}")]});
    write_archive(&path, &["web:latest"], &[busybox_layer(), marked], &config);
    engine.wharf(&["load", "-q", "-i", path.to_str().expect("a path")]).ok();
}

fn inspect(engine: &Engine, format: &str, name: &str) -> String {
    engine.wharf(&["inspect", "-f", format, name]).line()
}

#[test]
fn a_container_gets_a_newer_image_and_keeps_the_rest() {
    let engine = Engine::start();
    load(&engine, "1", &["sleep", "1000"]);
    let flags = ["-p", "8080:80", "-e", "OWN=x", "-v", "/data", "--label", "l=1", "-m", "64m", "-h", "host"];
    let old = engine.wharf(&[&["run", "-d", "--name", "web"], &flags[..], &["web"]].concat()).line();
    engine.wharf(&["exec", "web", "sh", "-c", "echo one > /kept/a; echo two > /data/b; echo x > /gone"]).ok();
    engine.wharf(&["network", "create", "more"]).ok();
    engine.wharf(&["network", "connect", "--alias", "other", "more", "web"]).ok();
    engine.wharf(&["update", "-m", "128m", "--memory-swap", "128m", "web"]).ok();
    load(&engine, "2", &["sleep", "2000"]);
    assert_eq!(engine.wharf(&["container", "recreate", "-t", "0", "web"]).line(), "web");
    assert_ne!(inspect(&engine, "{{.Id}}", "web"), old);
    assert_eq!(engine.wharf(&["exec", "web", "cat", "/version", "/kept/a", "/data/b"]).ok(), "2one\ntwo\n");
    assert_ne!(engine.wharf(&["exec", "web", "cat", "/gone"]).code, 0, "the file system is the image's");
    let shown =
        "{{.Config.Hostname}} {{.HostConfig.Memory}} {{.Config.Labels.l}} {{.Path}} {{index .Args 0}}";
    assert_eq!(inspect(&engine, shown, "web"), "host 134217728 1 sleep 2000");
    let env = engine.wharf(&["exec", "web", "env"]).ok();
    assert!(env.contains("OWN=x\n") && env.contains("V=2\n"), "{env}");
    assert_eq!(engine.wharf(&["port", "web", "80/tcp"]).ok().lines().next(), Some("0.0.0.0:8080"));
    assert!(inspect(&engine, "{{json .NetworkSettings.Networks}}", "web").contains("\"other\""));
    assert_eq!(engine.wharf(&["ps", "-aq"]).ok().lines().count(), 1);
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).ok().lines().count(), 2);
    // One that does not run is not started; its anonymous volumes still go with it in the end.
    engine.wharf(&["stop", "-t", "0", "web"]).ok();
    engine.wharf(&["container", "recreate", "--image", "web:latest", "web"]).ok();
    assert_eq!(inspect(&engine, "{{.State.Status}}", "web"), "created");
    engine.wharf(&["rm", "-v", "web"]).ok();
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn what_cannot_be_recreated_stays_as_it_was() {
    let engine = Engine::start();
    load(&engine, "1", &["sleep", "1000"]);
    let old = engine.wharf(&["run", "-d", "--name", "web", "-v", "/data", "web"]).line();
    load(&engine, "2", &["/no/such/program"]);
    let refused = engine.wharf(&["container", "recreate", "-t", "0", "web"]);
    assert!(refused.code != 0 && refused.stderr.contains("no such file or directory"), "{refused:?}");
    assert_eq!(inspect(&engine, "{{.Id}} {{.State.Status}}", "web"), format!("{old} running"));
    let refused = engine.wharf(&["container", "recreate", "--pull", "never", "--image", "absent", "web"]);
    assert!(refused.code != 0 && refused.stderr.contains("No such image: absent"), "{refused:?}");
    assert_eq!(inspect(&engine, "{{.Id}} {{.State.Status}}", "web"), format!("{old} running"));
    engine.wharf(&["run", "-d", "--rm", "--name", "short", "web", "sleep", "1000"]).ok();
    let refused = engine.wharf(&["container", "recreate", "short"]);
    assert!(refused.stderr.contains("it is removed when it ends (--rm)"), "{refused:?}");
    engine.wharf(&["pause", "web"]).ok();
    let refused = engine.wharf(&["container", "recreate", "web"]);
    assert!(refused.stderr.contains("it is paused, unpause it first"), "{refused:?}");
    assert_eq!(engine.wharf(&["ps", "-aq"]).ok().lines().count(), 2);
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).ok().lines().count(), 3);
}

/// The daemon dies at any moment: afterwards there is one container of the name, and it runs.
#[test]
fn a_recreation_that_is_cut_short_is_finished_or_undone() {
    let mut engine = Engine::start();
    load(&engine, "1", &["sleep", "1000"]);
    engine.wharf(&["run", "-d", "--name", "web", "web"]).ok();
    engine.wharf(&["exec", "web", "sh", "-c", "echo here > /kept/a"]).ok();
    for delay in [5, 15, 25, 35, 50, 80] {
        let mut command = engine.wharf_command();
        command.args(["container", "recreate", "-t", "0", "web"]);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("the command line");
        std::thread::sleep(Duration::from_millis(delay));
        engine.kill_daemon();
        child.wait().expect("its end");
        engine.start_daemon();
        until("one container that runs", Duration::from_secs(10), || {
            let all = engine.wharf(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
            (all == "web running\n").then_some(())
        });
        assert_eq!(engine.wharf(&["exec", "web", "cat", "/kept/a"]).ok(), "here\n", "after {delay} ms");
    }
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).ok().lines().count(), 1);
}
