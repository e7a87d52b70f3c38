//! systemd as the maker of cgroups, where it does not run. Where it does: `runtime_guest.rs`.

use e2e::bundle::{Bundle, output};
use std::process::Command;
use testkit::{Engine, Scratch};

const WITHOUT: &str = "systemd not running on this host, cannot use systemd cgroups manager";

/// `command`, where no systemd can be seen even if one runs.
fn without_systemd(command: &Command) -> Command {
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-c"]);
    hidden.arg("if [ -d /run/systemd ]; then mount -t tmpfs hidden /run/systemd || exit; fi; exec \"$@\"");
    hidden.arg("sh").arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        hidden.current_dir(directory);
    }
    hidden
}

#[test]
fn the_runtime_says_so_and_makes_nothing() {
    let mut bundle = Bundle::new();
    *bundle.at("/linux/cgroupsPath") = "one.slice:wharf:c".into();
    bundle.write();
    for command in ["run", "create"] {
        let said = output(without_systemd(&bundle.command(&["--systemd-cgroup", command, "c"])));
        assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
        assert_eq!(said.stderr, format!("runc {command} failed: {WITHOUT}\n"));
    }
    assert!(!bundle.beside("state/c").exists());
}

#[test]
fn the_daemon_says_so() {
    let scratch = Scratch::new();
    let mut daemon = Command::new(Engine::executable());
    let path = |name: &str| scratch.join(name).display().to_string();
    daemon.args(["daemon", "--data-root", &path("data"), "--exec-root", &path("exec")]);
    daemon.args(["--host", &format!("unix://{}", path("sock")), "--pidfile", &path("pid")]);
    let with = |options: &[&str]| {
        let mut daemon = without_systemd(&daemon);
        daemon.args(options);
        output(daemon)
    };
    let said = with(&["--exec-opt", "native.cgroupdriver=systemd"]);
    assert!(said.code != 0 && said.stderr.contains(WITHOUT), "{said:?}");
    let said = with(&["--exec-opt", "native.cgroupdriver=systemd", "--cgroup-parent", "/docker"]);
    let expect = "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"";
    assert!(said.code != 0 && said.stderr.contains(expect), "{said:?}");
}
