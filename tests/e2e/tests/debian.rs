//! A new user's first afternoon: a Debian from a registry, a shell in it, a web server that others reach, and a daemon that
//! dies meanwhile.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use e2e::bundle::in_terminal;
use std::process::Command;
use std::time::Duration;
use testkit::{Engine, Registry, Scratch, image, until};

/// Makes a Debian with nginx; `None`, which is said, where its packages cannot be had.
fn debian(folder: &Scratch) -> Option<Vec<u8>> {
    let tar = folder.join("debian.tar");
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--include=nginx-light", "bookworm"])
        .arg(&tar)
        .output();
    match made {
        Ok(output) if output.status.success() => Some(std::fs::read(&tar).expect("read the tree")),
        Ok(output) => {
            say(&format!("skipped: mmdebstrap failed: {}", String::from_utf8_lossy(&output.stderr)));
            None
        }
        Err(error) => {
            say(&format!("skipped: mmdebstrap: {error}"));
            None
        }
    }
}

#[expect(clippy::print_stderr, reason = "what is skipped is said")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[test]
fn a_web_server_from_a_registry_outlives_the_daemon() {
    let files = Scratch::new();
    let Some(tree) = debian(&files) else { return };
    let mut engine = Engine::start();
    let registry = Registry::start(engine.namespaces());
    let archive = files.join("image.tar");
    let config = serde_json::json!({"Cmd": ["bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
    image::write_archive(&archive, &["debian:12"], &[tree], &config);
    registry.push(engine.namespaces(), &archive, "debian:12");
    let name = format!("{}/debian:12", Registry::HOST);
    engine.wharf(&["pull", "-q", &name]).ok();
    let script = "set -e; . /etc/os-release; dpkg --verify base-passwd; echo $ID $(id -un) $(ls /var/lib/dpkg | wc -l)";
    let shell = engine.wharf(&["run", "--rm", "-h", "box", &name, "bash", "-c", script]).ok();
    assert!(shell.starts_with("debian root "), "{shell}");
    // A terminal of its own, as a user at a keyboard has it.
    let session = format!(
        "{} run -it --rm -h box {name} bash -c 'tty; stty size; exit 3'",
        Engine::executable().display()
    );
    let session = in_terminal(engine.command("script"), &session);
    assert_eq!((session.code, session.stdout.lines().next()), (3, Some("/dev/pts/0")), "{session:?}");
    let serve = "echo 'a page' > /var/www/html/index.html; exec nginx -g 'daemon off;'";
    engine.wharf(&["run", "-d", "--name", "web", "-p", "8080:80", &name, "bash", "-c", serve]).ok();
    let neighbour = engine.namespaces().neighbour();
    let page = || {
        let mut curl = neighbour.command("curl");
        let output = curl.args(["-s", "-m", "2", "http://10.99.0.2:8080/"]).output().expect("run curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    until("the page from another host", Duration::from_secs(20), || (page() == "a page\n").then_some(()));
    engine.kill_daemon();
    assert_eq!(page(), "a page\n", "without a daemon");
    engine.start_daemon();
    assert_eq!(page(), "a page\n", "with the next daemon");
    let logged = engine.wharf(&["exec", "web", "wc", "-l", "/var/log/nginx/access.log"]).line();
    assert!(logged.starts_with(char::is_numeric) && !logged.starts_with('0'), "{logged}");
    engine.wharf(&["stop", "web"]).ok();
    assert_eq!(engine.wharf(&["inspect", "-f", "{{.State.ExitCode}}", "web"]).line(), "0");
}
