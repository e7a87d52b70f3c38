//! What goes wrong around the engine: bad registries, full disks, wrong configurations, poor hosts. Each is told plainly
//! and leaves nothing half-made.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use e2e::both;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::image::{self, Entry, Parts};
use testkit::web::{Reply, Request, Web};
use testkit::{Engine, Output, Scratch, without_call};

/// An image whose only layer is `layer`, small and of no use.
fn parts(layer: &[Entry<'_>]) -> Parts {
    Parts::new(&[image::layer(layer)], &serde_json::json!({"Cmd": ["/x"]}))
}

/// A registry of one image that answers blobs as `blob` says.
fn registry(
    engine: &Engine,
    parts: Parts,
    blob: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> Web {
    Web::start(engine.namespaces(), move |request| match request.path.as_str() {
        "/v2/" => Reply::ok("application/json", "{}"),
        path if path.contains("/manifests/") => Reply::ok(Parts::MANIFEST, parts.manifest.clone()),
        path => match parts.blob(path) {
            Some(bytes) => blob(request, bytes),
            None => Reply::status(404),
        },
    })
}

/// Checks that a failed pull has left nothing.
fn nothing_pulled(engine: &Engine) {
    assert_eq!(engine.wharf(&["images", "-aq"]).line(), "");
    for folder in ["layers", "tmp"] {
        let listed =
            std::fs::read_dir(engine.folder().join("data").join(folder)).expect("read the data root");
        let mut entries: Vec<_> = listed.flatten().map(|entry| entry.path()).collect();
        // Interrupted downloads are kept to be resumed, and the trash is emptied in the background.
        entries.retain(|path| !path.ends_with("trash") && !path.ends_with("ingest"));
        assert!(entries.is_empty(), "{folder}: {entries:?}");
    }
}

fn name() -> String {
    format!("{}/faulty/image:1", Web::HOST)
}

#[test]
fn a_layer_with_another_digest_is_refused() {
    let engine = Engine::start();
    let parts = parts(&[Entry::File("x", 0o755, b"good")]);
    let _registry = registry(&engine, parts, |_, bytes| {
        let mut bytes = bytes.to_vec();
        if let Some(byte) = bytes.get_mut(512).filter(|byte| **byte == b'g') {
            *byte = b'f';
        }
        Reply::ok("application/octet-stream", bytes)
    });
    let output = engine.wharf(&["run", "--rm", &name()]);
    assert_eq!(output.code, 125, "{}", output.stderr);
    assert!(output.stderr.contains("expected sha256:"), "{}", output.stderr);
    nothing_pulled(&engine);
}

#[test]
fn a_layer_that_always_ends_early_is_refused_and_one_that_does_so_once_is_resumed() {
    let engine = Engine::start();
    let big = vec![7; 100_000];
    let cut = |request: &Request, bytes: &[u8], limit: usize| {
        let from = request.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        let from = from.and_then(|range| range.split('-').next()?.parse::<usize>().ok()).unwrap_or(0);
        let mut reply = Reply::ok("application/octet-stream", bytes.get(from..).unwrap_or_default());
        if from > 0 {
            reply.status = 206;
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            reply.headers.push(("Content-Range", range));
        }
        reply.cut_after = (bytes.len() > 10_000).then_some(limit);
        reply
    };
    {
        let parts = parts(&[Entry::File("x", 0o755, &big)]);
        let _registry = registry(&engine, parts, move |request, bytes| cut(request, bytes, 0));
        let output = engine.wharf(&["pull", &name()]);
        assert_eq!(output.code, 1, "{}", output.stderr);
        assert!(output.stderr.contains("sha256:"), "{}", output.stderr);
        nothing_pulled(&engine);
    }
    let parts = parts(&[Entry::File("x", 0o755, &big)]);
    let (length, total) = (parts.blobs[1].1.len(), std::sync::Arc::new(AtomicUsize::new(0)));
    let sent = std::sync::Arc::clone(&total);
    let _registry = registry(&engine, parts, move |request, bytes| {
        let reply = cut(request, bytes, 60_000);
        if bytes.len() > 10_000 {
            sent.fetch_add(reply.body.len().min(60_000), Ordering::Relaxed);
        }
        reply
    });
    engine.wharf(&["pull", "-q", &name()]).ok();
    assert_eq!(total.load(Ordering::Relaxed), length, "what had arrived is not fetched again");
}

#[test]
fn a_layer_cannot_climb_out_of_its_root() {
    let engine = Engine::start();
    let bait = engine.folder().join("bait");
    // The tar crate refuses to write such names, so the name is put in afterwards.
    let mut layer = image::layer(&[Entry::File("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0o644, b"evil")]);
    let climbing = format!("{}{}", "../".repeat(12), bait.display().to_string().trim_start_matches('/'));
    layer[..100].fill(0);
    layer[..climbing.len()].copy_from_slice(climbing.as_bytes());
    layer[148..156].fill(b' ');
    let sum: u32 = layer[..512].iter().map(|byte| u32::from(*byte)).sum();
    layer[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let parts = Parts::new(&[layer], &serde_json::json!({}));
    let _registry = registry(&engine, parts, |_, bytes| Reply::ok("application/octet-stream", bytes));
    let output = engine.wharf(&["pull", &name()]);
    assert!(!bait.exists(), "a file came into being outside");
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("../"), "{}", output.stderr);
    nothing_pulled(&engine);
}

#[test]
fn a_registry_that_denies_is_told() {
    let engine = Engine::start();
    let _registry = Web::start(engine.namespaces(), |_| {
        let mut reply = Reply::status(401);
        reply.headers.push(("WWW-Authenticate", "Basic realm=\"x\"".to_owned()));
        reply
    });
    let output = both(&engine, &["pull", &name()]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("no basic auth credentials"), "{}", output.stderr);
    let output = both(&engine, &["run", "--rm", &name()]);
    assert_eq!(output.code, 125);
    nothing_pulled(&engine);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_half_made() {
    let engine = Engine::on_small_disk(24);
    engine.load_busybox("busybox:latest");
    let files = Scratch::new();
    let archive = files.join("big.tar");
    let noise: Vec<u8> = (0..=250).cycle().take(30 << 20).collect();
    let layers = [
        image::layer(&[Entry::File("small", 0o644, b"1")]),
        image::layer(&[Entry::File("noise", 0o644, &noise)]),
    ];
    image::write_archive(&archive, &["big:1"], &layers, &serde_json::json!({}));
    let archive = archive.display().to_string();
    let free = |engine: &Engine| {
        engine.run("df", &["--output=avail", &engine.folder().join("data").display().to_string()]).line()
    };
    let before = free(&engine);
    let output = engine.wharf(&["load", "-i", &archive]);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("no space left on device"), "{}", output.stderr);
    assert_eq!(engine.wharf(&["images", "--format", "{{.Repository}}"]).line(), "busybox");
    testkit::until("the space to come back", std::time::Duration::from_secs(10), || {
        let left = |text: &str| text.lines().last()?.trim().parse::<i64>().ok();
        (left(&before)? - left(&free(&engine))? < 300).then_some(())
    });
    // A container that fills the disk gets the error itself; the engine goes on.
    let fill = "dd if=/dev/zero of=/fill bs=1M 2>/dev/null; echo $?; sleep 1000";
    engine.wharf(&["run", "-d", "--name", "filler", "busybox", "sh", "-c", fill]).ok();
    testkit::until("the disk to be full", std::time::Duration::from_secs(20), || {
        (engine.wharf(&["top", "filler"]).stdout.contains("sleep 1000")).then_some(())
    });
    assert!(engine.wharf(&["ps"]).ok().contains("filler"));
    let refused = engine.wharf(&["create", "--name", "one-more", "-l", &"x".repeat(100_000), "busybox"]);
    if refused.code != 0 {
        assert!(
            refused.stderr.contains("no space left on device") || refused.stderr.contains("full"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(engine.wharf(&["exec", "filler", "echo", "here"]).line(), "here");
    engine.wharf(&["rm", "-f", "filler"]).ok();
    engine.wharf(&["run", "--rm", "busybox", "true"]).ok();
}

/// Runs a second daemon with the folder's files, for a moment.
fn daemon(engine: &Engine, flags: &[(&str, &str)]) -> Output {
    command_output(&mut daemon_command(engine, flags))
}

fn daemon_command(engine: &Engine, flags: &[(&str, &str)]) -> Command {
    let folder = engine.folder().display();
    let own = [
        ("--data-root", format!("{folder}/data2")),
        ("--exec-root", format!("{folder}/exec2")),
        ("--pidfile", format!("{folder}/pid2")),
        ("-H", format!("unix://{folder}/sock2")),
        ("--config-file", format!("{folder}/daemon.json")),
    ];
    let mut command = engine.command("timeout");
    command.arg("10").arg(Engine::executable()).arg("daemon");
    for (flag, value) in own {
        let given = flags.iter().find(|(name, _)| *name == flag).map(|(_, value)| (*value).to_owned());
        command.arg(flag).arg(given.unwrap_or(value));
    }
    let further = flags.iter().filter(|(name, _)| !daemon_flag(name));
    for (flag, value) in further {
        command.arg(flag).args((!value.is_empty()).then_some(value));
    }
    command
}

fn daemon_flag(name: &str) -> bool {
    ["--data-root", "--exec-root", "--pidfile", "-H", "--config-file"].contains(&name)
}

fn command_output(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("run a command");
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

#[test]
fn two_daemons_do_not_meet() {
    let engine = Engine::start();
    let folder = engine.folder().display().to_string();
    let refused = |flag: &str, value: &str, text: &str| {
        let output = daemon(&engine, &[(flag, value)]);
        assert_eq!(output.code, 1, "{flag}: {}", output.stderr);
        assert!(
            output.stderr.contains(text) && output.stderr.contains(value.trim_start_matches("unix://")),
            "{flag}: {}",
            output.stderr
        );
    };
    refused("--data-root", &format!("{folder}/data"), "another daemon uses");
    refused("--pidfile", &format!("{folder}/pid"), "is still running");
    refused("-H", &format!("unix://{folder}/wharf.sock"), "is another daemon running?");
    engine.wharf(&["version"]).ok();
}

#[test]
fn a_wrong_configuration_is_refused_with_the_reason() {
    let engine = Engine::start();
    let file = engine.folder().join("wrong.json");
    let path = file.display().to_string();
    for (text, flags, expected) in [
        (
            r#"{"nosuch": 1, "other": 2}"#,
            [].as_slice(),
            "the following directives don't match any configuration option: nosuch, other",
        ),
        (r#"{"debug": "yes"}"#, &[], "cannot unmarshal string"),
        (r#"{"debug": true,"#, &[], "invalid JSON"),
        (
            r#"{"debug": true}"#,
            &[("-D", "")],
            "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)",
        ),
        ("{}", &[("--bip", "nonsense")], "nonsense"),
        ("{}", &[("--log-level", "loud")], "loud"),
        ("{}", &[("--nosuch", "")], "unknown flag: --nosuch"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = daemon(&engine, &[&[("--config-file", path.as_str())], flags].concat());
        assert_eq!(output.code, 1, "{text} {flags:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{text} {flags:?}: {}", output.stderr);
    }
}

#[test]
fn without_root_the_reason_is_told() {
    let engine = Engine::start();
    let program = engine.folder().join("wharf");
    std::fs::copy(Engine::executable(), &program).unwrap();
    let program = program.display().to_string();
    let user = ["--reuid", "1000", "--regid", "1000", "--clear-groups"];
    let run = |arguments: &[&str]| engine.run("setpriv", &[user.as_slice(), &[&program], arguments].concat());
    let output = run(&["daemon"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("needs to be started with root privileges"), "{}", output.stderr);
    let output = run(&["ps"]);
    assert_eq!(output.code, 1);
    assert!(
        output
            .stderr
            .contains("permission denied while trying to connect to the Docker daemon socket at unix://"),
        "{}",
        output.stderr
    );
}

#[test]
fn what_the_host_lacks_is_named() {
    let engine = Engine::start();
    // fsopen(2) on every architecture.
    let output = without_call(430, || daemon(&engine, &[]));
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("lacks the system call fsopen (Linux 5.2)"), "{}", output.stderr);
    let weak = daemon_command(&engine, &[]);
    let mut command = engine.command("setpriv");
    command
        .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
        .arg("sh")
        .arg("-c")
        .arg("exec \"$@\"")
        .arg("sh");
    // The daemon's own command line, without the way into the namespaces.
    command.args(weak.get_args().skip_while(|argument| *argument != "timeout"));
    let output = command_output(&mut command);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("lacks CAP_SYS_ADMIN"), "{}", output.stderr);
    assert!(!engine.folder().join("data2/wharf.db").exists(), "nothing was touched");
}
