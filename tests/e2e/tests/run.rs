//! `run` and what it makes of exit codes, streams, users, environment and limits; with both command lines.

use e2e::both;
use testkit::Engine;

#[test]
fn exit_codes_and_streams() {
    let engine = Engine::with_busybox();
    let run = |arguments: &[&str]| both(&engine, &[&["run", "--rm", "busybox"], arguments].concat());
    assert_eq!(run(&["true"]).code, 0);
    assert_eq!(run(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(
        run(&["sh", "-c", "kill -TERM $$; sleep 1"]).code,
        0,
        "PID 1 ignores signals without handlers"
    );
    let output = run(&["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let output = run(&["/no/such"]);
    assert_eq!(output.code, 127);
    assert!(output.stderr.contains("stat /no/such: no such file or directory"), "{}", output.stderr);
    let output = run(&["nosuch"]);
    assert_eq!(output.code, 127);
    assert!(
        output.stderr.contains("exec: \"nosuch\": executable file not found in $PATH"),
        "{}",
        output.stderr
    );
    assert_eq!(run(&["/etc"]).code, 126);
    assert_eq!(run(&["/etc/passwd"]).code, 126);
    assert_eq!(engine.wharf(&["ps", "-aq"]).line(), "", "--rm removes also what did not start");
}

#[test]
fn user_environment_and_place() {
    let engine = Engine::with_busybox();
    let run = |flags: &[&str], command: &[&str]| {
        both(&engine, &[&["run", "--rm"], flags, &["busybox"], command].concat()).line()
    };
    assert_eq!(run(&[], &["id"]), "uid=0(root) gid=0(root) groups=0(root),10(wheel)");
    assert_eq!(
        run(&["-u", "alice"], &["id"]),
        "uid=1000(alice) gid=1000(alice) groups=10(wheel),1000(alice)"
    );
    assert_eq!(run(&["-u", "1234:99"], &["id", "-u"]), "1234");
    assert_eq!(run(&["-e", "A=x y"], &["sh", "-c", "echo $A $HOME"]), "x y /root");
    assert_eq!(run(&["-w", "/made/here"], &["pwd"]), "/made/here");
    assert_eq!(run(&["-h", "there"], &["hostname"]), "there");
    assert_eq!(run(&["--entrypoint", "echo"], &["a"]), "a");
    let output = both(&engine, &["run", "--rm", "-u", "nobodyknows", "busybox", "true"]);
    assert!(output.stderr.contains("unable to find user nobodyknows: no matching entries in passwd file"));
}

#[test]
fn limits_and_privileges() {
    let engine = Engine::with_busybox();
    let run = |flags: &[&str], script: &str| {
        both(&engine, &[&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat()).line()
    };
    assert_eq!(run(&["-m", "64m"], "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"), "67108864");
    assert_eq!(run(&["--cpus", "0.5"], "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us"), "50000");
    assert_eq!(run(&["--pids-limit", "33"], "cat /sys/fs/cgroup/pids/pids.max"), "33");
    let status = run(&[], "grep -E 'CapEff|CapBnd|CapInh|Seccomp:|NoNewPrivs' /proc/self/status");
    assert_eq!(
        status.split_whitespace().collect::<Vec<_>>(),
        [
            "CapInh:",
            "0000000000000000",
            "CapEff:",
            "00000000a80425fb",
            "CapBnd:",
            "00000000a80425fb",
            "NoNewPrivs:",
            "0",
            "Seccomp:",
            "2"
        ]
    );
    assert_eq!(run(&["--read-only"], "touch /x 2>/dev/null || echo refused"), "refused");
    assert_eq!(run(&[], "echo x > /proc/sys/kernel/domainname 2>/dev/null || echo refused"), "refused");
    assert_eq!(run(&[], "cat /proc/kcore | wc -c"), "0");
    let killed = both(&engine, &["run", "--rm", "-m", "8m", "busybox", "tail", "/dev/zero"]);
    assert_eq!(killed.code, 137);
}

#[test]
fn bad_requests_are_refused_in_dockers_words() {
    let engine = Engine::with_busybox();
    let refused = |arguments: &[&str], code: i32, text: &str| {
        let output = both(&engine, arguments);
        assert_eq!(output.code, code, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(text), "{arguments:?}: {}", output.stderr);
    };
    refused(&["run", "-m", "1m", "busybox"], 125, "Minimum memory limit allowed is 6MB");
    refused(&["run", "--cpus", "1000", "busybox"], 125, "range of CPUs is from 0.01 to");
    refused(
        &["run", "--cap-add", "BOGUS", "busybox"],
        125,
        "invalid CapAdd: unknown capability: \"CAP_BOGUS\"",
    );
    refused(&["run", "--nosuch", "busybox"], 125, "unknown flag: --nosuch");
    refused(&["run", "-v", "/a:/b:bogus", "busybox"], 125, "invalid mode: bogus");
    refused(&["run", "--restart", "bogus", "busybox"], 125, "invalid restart policy");
    refused(&["run", "Bad_Name", "true"], 125, "repository name (library/Bad_Name) must be lowercase");
    refused(&["start", "nosuch"], 1, "No such container: nosuch");
    refused(&["rm", "nosuch"], 1, "No such container: nosuch");
    refused(&["rmi", "nosuch"], 1, "No such image: nosuch:latest");
    engine.wharf(&["create", "--name", "taken", "busybox"]).ok();
    refused(
        &["create", "--name", "taken", "busybox"],
        1,
        "The container name \"/taken\" is already in use by container",
    );
    refused(&["create", "--name", "-x", "busybox"], 1, "Invalid container name");
}

#[test]
fn the_daemons_defaults_are_used_and_can_be_overridden() {
    let profile = testkit::Scratch::new();
    let path = profile.join("no-chmod.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let engine = Engine::start_with(&[
        "--seccomp-profile",
        &path,
        "--default-ipc-mode",
        "shareable",
        "--default-cgroupns-mode",
        "private",
        "--host-gateway-ip",
        "192.0.2.7",
        "--default-stop-timeout",
        "0",
    ]);
    engine.load_busybox("busybox:latest");
    let run = |flags: &[&str], script: &str| {
        both(&engine, &[&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat()).line()
    };
    let chmod = "chmod 600 /etc/passwd 2>/dev/null && echo changed || echo refused";
    assert_eq!(run(&[], chmod), "refused");
    assert_eq!(run(&["--security-opt", "seccomp=builtin"], chmod), "changed");
    assert_eq!(run(&["--security-opt", "seccomp=unconfined"], chmod), "changed");
    assert!(engine.wharf(&["info"]).ok().contains(&format!("Profile: {path}")));
    assert_eq!(run(&["--add-host", "up:host-gateway"], "grep up /etc/hosts"), "192.0.2.7\tup");
    assert_eq!(run(&[], "cat /proc/self/cgroup | grep -c :/docker; true"), "0");
    let slow = "trap 'sleep 3; exit 5' TERM; while :; do sleep 1; done";
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sh", "-c", slow]).ok();
    let modes = ["{{.HostConfig.IpcMode}} {{.HostConfig.CgroupnsMode}}", "box"];
    assert_eq!(engine.wharf(&["inspect", "-f", modes[0], modes[1]]).line(), "shareable private");
    engine.wharf(&["stop", "box"]).ok();
    // With Docker's ten seconds it would have ended by itself.
    assert_eq!(engine.wharf(&["inspect", "-f", "{{.State.ExitCode}}", "box"]).line(), "137");
}
