//! `wharf runtime` where this machine cannot take it: with cgroup version 2 alone.
//!
//! Those tests run in a throw-away Linux guest. `WHARF_GUEST` names a program that runs a command in one which sees this
//! machine's files: `PROGRAM [-t SECONDS] [-u USER] [-k tcg] -- COMMAND…`, where `-k tcg` asks for a stock kernel of the
//! distribution, if need be emulated. The tests that are ignored here are what runs in it.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

use e2e::bundle::{Bundle, output, skipped};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::until;

/// Runs the ignored tests whose names begin with `prefix` in a guest.
fn in_guest(prefix: &str, flags: &[&str]) {
    in_guest_by(prefix, flags, &[]);
}

/// The same, by the program `wrapper` there.
fn in_guest_by(prefix: &str, flags: &[&str], wrapper: &[&str]) {
    let Some(guest) = std::env::var_os("WHARF_GUEST") else {
        return skipped("WHARF_GUEST names no program that runs a command in a Linux guest");
    };
    let mut command = Command::new(guest);
    command.args(["-t", "300"]).args(flags).arg("--").args(wrapper);
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--test-threads", "1", prefix]);
    command.env("VM_ENV", "WHARF RUST_BACKTRACE");
    let said = output(command);
    if said.code == 125 {
        return skipped(&format!("the guest cannot be had: {}", said.stderr));
    }
    assert!(said.code == 0 && said.stdout.contains("test result: ok"), "{}\n{}", said.stdout, said.stderr);
    assert!(!said.stdout.contains("running 0 tests"), "{}", said.stdout);
}

#[test]
fn with_the_unified_hierarchy() {
    in_guest("unified_", &[]);
}

#[test]
fn without_privileges() {
    in_guest("unprivileged_", &["-u", "1000"]);
}

#[test]
fn with_every_controller() {
    in_guest("every_", &["-k", "tcg"]);
}

#[test]
fn with_systemd() {
    if !std::path::Path::new("/usr/lib/systemd/systemd").exists() {
        return skipped("systemd is not installed");
    }
    // It begins as the first process of namespaces, with next to nothing to start; the tests join it there.
    let script = r#"unshare --pid --fork --mount --cgroup --mount-proc sh -c \
            'mount -t tmpfs run /run && mkdir -p /run/systemd/system &&
             container=wharf exec /usr/lib/systemd/systemd --system --unit=slices.target' > /dev/null 2>&1 &
        while ! first=$(pgrep -P $!) || ! [ -S /proc/$first/root/run/systemd/private ]; do sleep 0.1; done
        exec nsenter -t $first --pid --mount --cgroup -- "$@""#;
    in_guest_by("systemd_", &[], &["sh", "-c", script, "sh"]);
}

#[test]
#[ignore = "guest: systemd as the first process, with cgroup version 2 alone"]
fn systemd_makes_the_cgroup() {
    let mut bundle = Bundle::new();
    *bundle.at("/linux/cgroupsPath") = json!("one-two.slice:wharf:c");
    bundle.set(
        "/linux",
        "resources",
        json!({ "memory": { "limit": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000 }, "pids": { "limit": 30 } }),
    );
    let annotations = json!({
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.TimeoutStopSec": "uint64 7",
    });
    bundle.set("", "annotations", annotations);
    bundle.script("cat /proc/self/cgroup; exec sleep 1000").write();
    let log = File::create(bundle.beside("log")).expect("make a log");
    let mut command = bundle.command(&["--systemd-cgroup", "run", "--detach", "c"]);
    command.stdout(log.try_clone().expect("a second end")).stderr(log);
    assert!(command.status().is_ok_and(|status| status.success()), "{}", bundle.log());
    let path = "/one.slice/one-two.slice/wharf-c.scope";
    until("a line", Duration::from_secs(20), || (!bundle.log().is_empty()).then_some(()));
    assert_eq!(bundle.log(), format!("0::{path}\n"));
    let shown = |property: &str| {
        let mut command = Command::new("systemctl");
        command.args(["show", "--value", "--property", property, "wharf-c.scope"]);
        output(command).line()
    };
    let expect = [
        ("ActiveState", "active"),
        ("Slice", "one-two.slice"),
        ("Delegate", "yes"),
        ("MemoryMax", "67108864"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("TasksMax", "30"),
        ("DevicePolicy", "strict"),
        ("CollectMode", "inactive-or-failed"),
        ("TimeoutStopUSec", "7s"),
    ];
    for (property, value) in expect {
        assert_eq!(shown(property), value, "{property}");
    }
    let file = |name: &str| {
        let path = PathBuf::from(format!("/sys/fs/cgroup{path}")).join(name);
        std::fs::read_to_string(path).expect("a file of the cgroup").trim().to_owned()
    };
    assert_eq!((file("memory.max").as_str(), file("cpu.max").as_str()), ("67108864", "50000 100000"));
    // A change is the manager's as well: it does not undo it when it reads its units again.
    bundle.runtime(&["update", "--memory", "128M", "--pids-limit", "40", "c"]).ok();
    let mut reload = Command::new("systemctl");
    reload.arg("daemon-reload");
    output(reload).ok();
    assert_eq!((shown("MemoryMax").as_str(), file("memory.max").as_str()), ("134217728", "134217728"));
    assert_eq!((shown("TasksMax").as_str(), file("pids.max").as_str()), ("40", "40"));
    let said =
        bundle.runtime(&["exec", "c", "sh", "-c", "cat /proc/self/cgroup; echo x > /dev/null && echo null"]);
    assert_eq!(said.ok(), format!("0::{path}\nnull\n"));
    bundle.runtime(&["delete", "--force", "c"]).ok();
    assert_eq!(shown("ActiveState"), "inactive");
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup{path}")).exists());
    // One that fails leaves no scope.
    bundle.arguments(&["/nonexistent"]).write();
    assert_ne!(bundle.runtime(&["--systemd-cgroup", "run", "c"]).code, 0);
    assert_eq!(shown("ActiveState"), "inactive");
    *bundle.at("/linux/cgroupsPath") = json!("/not/a/scope");
    bundle.write();
    let said = bundle.runtime(&["--systemd-cgroup", "run", "c"]);
    assert!(said.stderr.contains("is not of the form \"slice:prefix:name\" for systemd cgroups"), "{said:?}");
}

#[test]
#[ignore = "guest: cgroup version 2 with cpuset and hugetlb"]
fn every_controller_takes_its_limits() {
    let mut bundle = Bundle::new();
    bundle.set(
        "/linux",
        "resources",
        json!({
            "cpu": { "cpus": "1", "mems": "0", "idle": 1, "quota": 50_000, "period": 100_000, "burst": 10_000 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }],
            "pids": { "limit": 30 },
        }),
    );
    bundle.script("exec sleep 1000").start();
    let expect = [
        ("cpuset.cpus", "1"),
        ("cpuset.mems", "0"),
        ("cpu.idle", "1"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
        ("hugetlb.2MB.max", "4194304"),
        ("pids.max", "30"),
    ];
    for (name, value) in expect {
        assert_eq!(file(&bundle, name), value, "{name}");
    }
    assert_eq!(
        bundle
            .runtime(&["exec", "c", "grep", "Cpus_allowed_list", "/proc/self/status"])
            .line()
            .split_whitespace()
            .last(),
        Some("1")
    );
    bundle.runtime(&["update", "--cpuset-cpus", "0-1", "c"]).ok();
    assert_eq!(file(&bundle, "cpuset.cpus"), "0-1");
}

#[test]
fn checkpoint_and_restore() {
    let check = Command::new("criu").arg("check").output();
    match check {
        Err(_) => skipped("criu is not installed"),
        Ok(check) if check.status.success() => criu_takes_a_container_away_and_brings_it_back(),
        // An old criu and a new kernel do not get on.
        Ok(_) => in_guest("criu_", &["-t", "600", "-k", "tcg"]),
    }
}

#[test]
#[ignore = "guest: a kernel that criu works with"]
fn criu_takes_a_container_away_and_brings_it_back() {
    let mut bundle = Bundle::new();
    let shared = bundle.beside("shared");
    std::fs::create_dir(&shared).expect("make a folder");
    std::fs::create_dir(bundle.inside("shared")).expect("make a place");
    bundle.push(
        "/mounts",
        json!({ "destination": "/shared", "type": "bind", "source": shared, "options": ["rbind"] }),
    );
    let script = "exec </dev/null >/tmp/out 2>&1; i=0; while :; do i=$((i+1)); echo $i > /shared/count; sleep 0.1; done";
    bundle.script(script).start();
    let count = || {
        let text = std::fs::read_to_string(shared.join("count")).unwrap_or_default();
        text.trim().parse::<u32>().unwrap_or(0)
    };
    let grows = |beyond: u32| {
        until("the container to count", Duration::from_secs(60), || (count() > beyond).then_some(()));
    };
    grows(3);
    let first = bundle.beside("first").display().to_string();
    let second = bundle.beside("second").display().to_string();
    bundle.runtime(&["checkpoint", "--leave-running", "--image-path", &first, "c"]).ok();
    grows(count());
    let said = bundle.runtime(&["checkpoint", "--image-path", &second, "c"]);
    assert_eq!(said.code, 0, "{}\n{}", said.stderr, log(&second, "dump"));
    assert!(bundle.runtime(&["state", "c"]).stderr.contains("container does not exist"));
    let last = count();
    let pid = bundle.beside("pid").display().to_string();
    let told = bundle.beside("told");
    let script = format!("cat > {}", told.display());
    bundle.set("/hooks", "poststart", json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])).write();
    let arguments = ["restore", "--detach", "--image-path", &second, "--pid-file", &pid, "c"];
    let said = bundle.runtime(&arguments);
    assert_eq!(said.code, 0, "{}\n{}", said.stderr, log(&second, "restore"));
    // It goes on where it was, not from the beginning.
    grows(last);
    assert_eq!(std::fs::read_to_string(&pid).expect("a pid file"), bundle.pid().to_string());
    let told: Value =
        serde_json::from_slice(&std::fs::read(told).expect("what the hook was told")).expect("a state");
    assert_eq!((&told["status"], &told["pid"]), (&json!("running"), &json!(bundle.pid())));
    assert!(bundle.runtime(&["state", "c"]).ok().contains("\"running\""));
    assert!(
        bundle
            .runtime(&["exec", "c", "cat", "/shared/count"])
            .line()
            .parse::<u32>()
            .is_ok_and(|now| now > last)
    );
    let again = bundle.runtime(&arguments);
    assert!(again.stderr.contains("container with given ID already exists"), "{again:?}");
    bundle.runtime(&["kill", "c", "KILL"]).ok();
    until("its end", Duration::from_secs(20), || {
        bundle.runtime(&["state", "c"]).ok().contains("\"stopped\"").then_some(())
    });
    bundle.runtime(&["delete", "c"]).ok();
    let said = bundle.runtime(&["--criu", "/nonexistent/criu", "restore", "--image-path", &second, "c"]);
    assert!(said.stderr.contains("/nonexistent/criu is not there: it is in the package criu"), "{said:?}");
}

#[test]
#[ignore = "guest: a kernel that criu works with"]
fn criu_gives_a_terminal_back_and_hooks_are_run() {
    let mut bundle = Bundle::new();
    let image = bundle.beside("image").display().to_string();
    let socket = bundle.beside("console");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let socket = socket.display().to_string();
    bundle.set("/process", "terminal", json!(true));
    bundle.script("i=0; while read line; do i=$((i+1)); echo \"$i: $line\"; done").write();
    bundle.runtime(&["run", "--detach", "--console-socket", &socket, "c"]).ok();
    let mut terminal = receive(&listener);
    terminal.write_all(b"one\n").expect("type");
    read_to(&mut terminal, "1: one\r\n");
    let said = bundle.runtime(&["checkpoint", "--image-path", &image, "c"]);
    assert_eq!(said.code, 0, "{}\n{}", said.stderr, log(&image, "dump"));

    // One that fails undoes it all.
    let restore = ["restore", "--detach", "--console-socket", &socket, "--image-path", &image, "c"];
    bundle.set("", "hooks", json!({ "createRuntime": [{ "path": "/bin/false" }] })).write();
    let said = bundle.runtime(&restore);
    assert!(said.code == 1 && said.stderr.contains("/bin/false"), "{said:?}");
    assert!(bundle.runtime(&["state", "c"]).stderr.contains("container does not exist"));

    let told = bundle.beside("told");
    let mut hooks = json!({});
    for kind in ["prestart", "createRuntime", "poststart"] {
        let script = format!("echo {kind} $(cat) >> {}", told.display());
        hooks[kind] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    }
    bundle.set("", "hooks", hooks).write();
    let said = bundle.runtime(&restore);
    assert_eq!(said.code, 0, "{}\n{}", said.stderr, log(&image, "restore"));
    let mut terminal = receive(&listener);
    terminal.write_all(b"two\n").expect("type");
    read_to(&mut terminal, "2: two\r\n");
    let told = std::fs::read_to_string(told).expect("what the hooks were told");
    let told: Vec<(String, Value, Value)> = told
        .lines()
        .map(|line| {
            let (kind, state) = line.split_once(' ').expect("a kind and a state");
            let state: Value = serde_json::from_str(state).expect("a state");
            (kind.to_owned(), state["status"].clone(), state["pid"].clone())
        })
        .collect();
    let pid = json!(bundle.pid());
    let expect = [("prestart", "creating"), ("createRuntime", "creating"), ("poststart", "running")];
    assert_eq!(told, expect.map(|(kind, status)| (kind.to_owned(), json!(status), pid.clone())));
    bundle.runtime(&["delete", "--force", "c"]).ok();

    // In the foreground it is copied to and from ours.
    bundle.set("", "hooks", json!({})).write();
    let mut script = Command::new("script");
    let line = bundle.line(&["restore", "--image-path", &image, "c"]);
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(bundle.path());
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run script");
    let (mut keys, mut screen) =
        (script.stdin.take().expect("keys"), script.stdout.take().expect("a screen"));
    keys.write_all(b"three\n").expect("type");
    read_to(&mut screen, "2: three\r\n");
    keys.write_all(b"\x04").expect("type");
    assert!(script.wait().expect("its end").success());
    assert!(bundle.runtime(&["state", "c"]).stderr.contains("container does not exist"));
}

/// Takes the master that is sent to a console socket.
fn receive(listener: &UnixListener) -> File {
    let (connection, _) = listener.accept().expect("a connection");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(&connection, &mut [IoSliceMut::new(&mut name)], &mut control, flags)
        .expect("a message");
    let received = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    received.expect("a terminal").into()
}

/// Reads until what was read ends with `text`.
fn read_to(from: &mut impl Read, text: &str) {
    let mut read = Vec::new();
    while !read.ends_with(text.as_bytes()) {
        let mut byte = [0];
        let length = from.read(&mut byte).expect("read");
        assert_eq!(length, 1, "{}", String::from_utf8_lossy(&read));
        read.extend(byte);
    }
}

/// The end of criu's log.
fn log(image: &str, action: &str) -> String {
    let text = std::fs::read(PathBuf::from(image).join(format!("{action}.log"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// A file of the container's cgroup.
fn file(bundle: &Bundle, name: &str) -> String {
    let path = PathBuf::from(format!("/sys/fs/cgroup{}", bundle.cgroup())).join(name);
    std::fs::read_to_string(path).expect("a file of the cgroup").trim().to_owned()
}

#[test]
#[ignore = "guest: cgroup version 2 alone"]
fn unified_limits_are_kept_and_changed() {
    let mut bundle = Bundle::new();
    bundle.set(
        "/linux",
        "resources",
        json!({
            "memory": { "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 },
            "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 },
            "pids": { "limit": 30 },
            "unified": { "memory.high": "60000000" },
        }),
    );
    bundle.script("exec sleep 1000").start();
    let expect = [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.high", "59998208"),
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "30"),
    ];
    for (name, value) in expect {
        assert_eq!(file(&bundle, name), value, "{name}");
    }
    bundle
        .runtime(&[
            "update",
            "--memory",
            "128M",
            "--memory-swap",
            "256M",
            "--pids-limit",
            "40",
            "--cpu-quota",
            "20000",
            "c",
        ])
        .ok();
    for (name, value) in
        [("memory.max", "134217728"), ("pids.max", "40"), ("cpu.max", "20000 100000"), ("cpu.weight", "59")]
    {
        assert_eq!(file(&bundle, name), value, "{name}");
    }
    let events: Value =
        serde_json::from_str(&bundle.runtime(&["events", "--stats", "c"]).ok()).expect("an event");
    assert_eq!(
        (&events["data"]["pids"]["current"], &events["data"]["pids"]["limit"]),
        (&json!(1), &json!(40))
    );
    assert_eq!(events["data"]["memory"]["usage"]["limit"], json!(128 << 20));
    assert!(events["data"]["cpu"]["usage"]["total"].as_u64().is_some_and(|total| total > 0), "{events}");
}

#[test]
#[ignore = "guest: cgroup version 2 alone"]
fn unified_groups_freeze_kill_and_are_joined() {
    let mut bundle = Bundle::new();
    bundle.push("/linux/namespaces", json!({ "type": "cgroup" }));
    bundle.script("sleep 1000 & sleep 1000 & exec sleep 1000").start();
    until("three processes", Duration::from_secs(20), || {
        (file(&bundle, "cgroup.procs").lines().count() == 3).then_some(())
    });
    bundle.runtime(&["pause", "c"]).ok();
    assert!(file(&bundle, "cgroup.events").contains("frozen 1"));
    assert!(bundle.runtime(&["state", "c"]).ok().contains("\"paused\""));
    bundle.runtime(&["resume", "c"]).ok();
    assert!(file(&bundle, "cgroup.events").contains("frozen 0"));
    // What joins is in the group, and sees it as the root; the mount shows the group alone.
    let script = "cat /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs; grep -c . /sys/fs/cgroup/cgroup.procs; grep cgroup /proc/mounts";
    let said = bundle.runtime(&["exec", "c", "sh", "-c", script]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[1]), ("0::/", "/sys/fs/cgroup/cgroup.procs"), "{said}");
    assert!(
        lines[3].starts_with("cgroup /sys/fs/cgroup cgroup2 ro,") || lines[3].contains(" cgroup2 ro,"),
        "{said}"
    );
    bundle.runtime(&["kill", "--all", "c", "KILL"]).ok();
    until("its end", Duration::from_secs(20), || {
        bundle.runtime(&["state", "c"]).ok().contains("stopped").then_some(())
    });
    bundle.runtime(&["delete", "c"]).ok();
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup{}", bundle.cgroup())).exists());
}

#[test]
#[ignore = "guest: cgroup version 2 alone"]
fn unified_devices_are_a_program() {
    let mut bundle = Bundle::new();
    bundle.set(
        "/linux",
        "resources",
        json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
    ] }),
    );
    let script = "mknod /tmp/kmsg c 1 11; dd if=/tmp/kmsg of=/dev/null count=0 && echo read; echo x > /tmp/kmsg; \
                  mknod /tmp/mem c 1 1; dd if=/tmp/mem of=/dev/null count=0; echo x > /dev/null && echo null";
    let said = bundle.script(script).run();
    assert_eq!(said.stdout, "read\nnull\n", "{said:?}");
    assert_eq!(said.stderr.matches("Operation not permitted").count(), 2, "{said:?}");
}

#[test]
#[ignore = "guest: cgroup version 2 alone"]
fn unified_memory_ends_what_takes_too_much() {
    let mut bundle = Bundle::new();
    bundle.set("/linux", "resources", json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } }));
    let said = bundle.arguments(&["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]).run();
    assert_eq!(said.code, 137, "{said:?}");
}

#[test]
#[ignore = "guest: cgroup version 2 alone"]
fn unified_users_are_mapped_too() {
    let mut bundle = Bundle::new();
    bundle.map_users().push("/linux/namespaces", json!({ "type": "cgroup" }));
    bundle.script(
        "id -u; cat /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs; echo x > /dev/null && echo null",
    );
    assert_eq!(bundle.run().ok(), "0\n0::/\n/sys/fs/cgroup/cgroup.procs\nnull\n");
}

#[test]
#[ignore = "guest: a user without privileges, with granted ids and a delegated cgroup"]
fn unprivileged_ids_are_granted_and_limits_kept() {
    let mut bundle = Bundle::new();
    let map = json!([
        { "containerID": 0, "hostID": 1000, "size": 1 },
        { "containerID": 1, "hostID": 100_000, "size": 65535 },
    ]);
    bundle.push("/linux/namespaces", json!({ "type": "user" }));
    bundle.set("/linux", "uidMappings", map.clone()).set("/linux", "gidMappings", map);
    bundle.set("/linux", "resources", json!({ "pids": { "limit": 20 } }));
    bundle.script("cat /proc/self/uid_map | wc -l; id -u; touch /tmp/made; exec sleep 1000").start();
    until("three lines", Duration::from_secs(20), || (bundle.log().lines().count() == 2).then_some(()));
    assert_eq!(bundle.log(), "2\n0\n");
    let group = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).expect("its cgroup");
    assert_eq!(group, "0::/user-1000/c\n");
    assert_eq!(std::fs::read_to_string("/sys/fs/cgroup/user-1000/c/pids.max").expect("a limit"), "20\n");
    assert_eq!(bundle.runtime(&["exec", "--user", "5:6", "c", "id", "-u"]).ok(), "5\n");
    bundle.runtime(&["pause", "c"]).ok();
    bundle.runtime(&["resume", "c"]).ok();
    bundle.runtime(&["kill", "c", "KILL"]).ok();
    until("its end", Duration::from_secs(20), || {
        bundle.runtime(&["state", "c"]).ok().contains("stopped").then_some(())
    });
    bundle.runtime(&["delete", "c"]).ok();
    assert!(!std::path::Path::new("/sys/fs/cgroup/user-1000/c").exists());
}
