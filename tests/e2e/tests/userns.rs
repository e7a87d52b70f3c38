//! Containers whose root is nobody special outside: `userns-remap`.

use e2e::{both, building, command_lines};
use std::os::unix::fs::MetadataExt as _;
use testkit::{Engine, Scratch};

/// The host's identifiers that stand for the container's.
const FIRST: u32 = 700_000;

/// An engine with users remapped to a range of their own.
fn engine(scratch: &Scratch) -> Engine {
    let mut engine = Engine::with_busybox();
    own_accounts(&engine, scratch);
    let ranges = format!("nobody:{FIRST}:65536\n");
    for file in ["/etc/subuid", "/etc/subgid"] {
        engine.run("sh", &["-c", &format!("echo '{}' > {file}", ranges.trim())]).ok();
    }
    engine.stop_daemon();
    engine.replace_flags(&["--userns-remap", "nobody"]);
    engine.start_daemon();
    engine
}

/// Lets the engine's world have an /etc of its own.
fn own_accounts(engine: &Engine, scratch: &Scratch) {
    for folder in ["upper", "work"] {
        assert!(std::fs::create_dir(scratch.join(folder)).is_ok(), "make a folder");
    }
    let at = |name: &str| scratch.join(name).display().to_string();
    let options = format!("lowerdir=/etc,upperdir={},workdir={}", at("upper"), at("work"));
    engine.run("mount", &["-t", "overlay", "overlay", "-o", &options, "/etc"]).ok();
}

/// Where a container's own layer is.
fn upper(engine: &Engine, name: &str) -> std::path::PathBuf {
    let id = engine.wharf(&["inspect", "-f", "{{.Id}}", name]).line();
    engine.folder().join("data/containers").join(id).join("upper")
}

#[test]
fn root_inside_is_a_plain_user_outside() {
    let scratch = Scratch::new();
    let engine = engine(&scratch);
    assert!(both(&engine, &["info", "-f", "{{.SecurityOptions}}"]).line().contains("name=userns"));
    engine.wharf(&["run", "-d", "--name", "cc", "-p", "127.0.0.1::80", "busybox", "sleep", "1000"]).ok();
    let inside = |script: &str| engine.wharf(&["exec", "cc", "sh", "-c", script]).ok();
    assert_eq!(
        inside("id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u:%g / /etc/hosts /bin/busybox"),
        format!("0\n 0 {FIRST} 65536\n0:0\n0:0\n0:0\n")
    );
    let pid = engine.wharf(&["inspect", "-f", "{{.State.Pid}}", "cc"]).line();
    let status = engine.run("cat", &[&format!("/proc/{pid}/status")]).ok();
    assert!(status.contains(&format!("Uid:\t{FIRST}\t{FIRST}")), "{status}");
    // Its network is its own: root may do there what capabilities say.
    assert_eq!(
        inside("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net"),
        "0\neth0\nlo\n"
    );
    assert_eq!(
        inside("ip link 2>&1 | grep -c eth0; hostname; ping -c 1 -W 2 127.0.0.1 > /dev/null; echo $?")
            .lines()
            .next(),
        Some("1")
    );
    inside(
        "echo 10.1.2.3 extra >> /etc/hosts; grep -q extra /etc/hosts; mkdir /made; chown 7:8 /made; chmod u+s /bin/busybox",
    );
    // What it makes belongs, on disk, to whom it sees.
    let made = std::fs::symlink_metadata(upper(&engine, "cc").join("made")).expect("look");
    assert_eq!((made.uid(), made.gid()), (7, 8));
    assert_eq!(
        both(&engine, &["exec", "-u", "1000:1000", "cc", "id"]).line(),
        "uid=1000(alice) gid=1000(alice) groups=1000(alice)"
    );
    // Nothing of the host's is its own.
    let secret = scratch.join("secret");
    std::fs::write(&secret, "host's\n").expect("write a file");
    engine.run("chmod", &["600", &secret.display().to_string()]).ok();
    let bind = format!("{}:/secret", secret.display());
    let refused = engine.wharf(&["run", "--rm", "-v", &bind, "busybox", "cat", "/secret"]);
    assert!(refused.code != 0 && refused.stderr.contains("Permission denied"), "{refused:?}");
    let kernel = engine.wharf(&[
        "run",
        "--rm",
        "--cap-add",
        "ALL",
        "busybox",
        "sh",
        "-c",
        "mkdir /m && mount -t tmpfs t /m && echo mounted; echo 1 > /proc/sys/kernel/panic; mknod /n b 8 0; dmesg -c",
    ]);
    assert!(
        kernel.stdout.contains("mounted")
            && kernel.stderr.matches("denied\n").count() + kernel.stderr.matches("ermitted").count() >= 2,
        "{kernel:?}"
    );
    engine.wharf(&["rm", "-f", "cc"]).ok();
}

#[test]
fn files_go_in_and_out_as_the_container_sees_them() {
    let scratch = Scratch::new();
    let engine = engine(&scratch);
    let file = scratch.join("file");
    std::fs::write(&file, "text\n").expect("write a file");
    std::os::unix::fs::chown(&file, Some(12), Some(34)).expect("change the owner");
    let file = file.display().to_string();
    engine.wharf(&["create", "--name", "cc", "-v", "data:/data", "busybox", "sleep", "1000"]).ok();
    for state in ["stopped", "running"] {
        for line in command_lines() {
            for (flags, target, owner) in
                [(&["-a"][..], "/new/", "12:34"), (&[], "/new/", "12:34"), (&[], "/data/", "12:34")]
            {
                let target = format!("{target}{state}");
                engine.wharf(&["start", "cc"]).ok();
                engine.wharf(&["exec", "cc", "mkdir", "-p", "/new"]).ok();
                if state == "stopped" {
                    engine.wharf(&["stop", "-t", "0", "cc"]).ok();
                }
                let place = format!("cc:{target}");
                line.run(&engine, &[&["cp"], flags, &[&file, &place]].concat()).ok();
                let back = scratch.join("back").display().to_string();
                engine.wharf(&["cp", "-a", &place, &back]).ok();
                let found = std::fs::metadata(&back).expect("look at the copy");
                assert_eq!(
                    format!("{}:{}", found.uid(), found.gid()),
                    owner,
                    "{state} {target} {flags:?} {line:?}"
                );
                engine.wharf(&["start", "cc"]).ok();
                assert_eq!(engine.wharf(&["exec", "cc", "stat", "-c", "%u:%g", &target]).line(), owner);
            }
        }
        engine.wharf(&["stop", "-t", "0", "cc"]).ok();
    }
    // An owner that does not exist inside.
    std::os::unix::fs::chown(&file, Some(80_000), Some(0)).expect("change the owner");
    let refused = engine.wharf(&["cp", &file, "cc:/new/"]);
    assert!(refused.code == 1 && refused.stderr.contains("cannot be mapped to a host ID"), "{refused:?}");
    // What the volume holds is anybody's, with mapped identifiers or without.
    engine.wharf(&["rm", "-f", "cc"]).ok();
    let look = ["busybox", "stat", "-c", "%u:%g", "/data/running"];
    for mode in [&[][..], &["--userns", "host"]] {
        let run = [&["run", "--rm", "-v", "data:/data"], mode, &look].concat();
        assert_eq!(both(&engine, &run).line(), "12:34");
    }
    // So does an image that is made of it, and one that is built.
    engine.wharf(&["run", "--name", "cc", "busybox", "sh", "-c", "touch /mine; chown 5:6 /mine"]).ok();
    assert_eq!(both(&engine, &["diff", "cc"]).line(), "A /mine");
    engine.wharf(&["commit", "cc", "committed"]).ok();
    let context = building::context(&[(
        "Dockerfile",
        "FROM committed\nRUN id -u > /who; touch /built; chown 9:9 /built; cat /proc/self/uid_map >> /who\n\
         RUN --mount=type=cache,target=/cache touch /cache/file && stat -c %u /cache/file >> /who\n",
    )]);
    building::build(&engine, &context, &["-t", "built"]).ok();
    for mode in [&[][..], &["--userns", "host"]] {
        let look = ["built", "sh", "-c", "stat -c %u:%g /mine /built; cat /who | tr -s ' '"];
        let shown = engine.wharf(&[&["run", "--rm"], mode, &look].concat()).ok();
        assert_eq!(shown, format!("5:6\n9:9\n0\n 0 {FIRST} 65536\n0\n"));
    }
    let exported = engine.wharf(&[
        "run",
        "--rm",
        "--mount",
        "type=image,source=built,target=/i",
        "busybox",
        "stat",
        "-c",
        "%u",
        "/i/built",
        "/i/bin/busybox",
    ]);
    assert_eq!(exported.ok(), "9\n0\n");
    engine.wharf(&["rm", "-f", "cc"]).ok();
}

#[test]
fn namespaces_are_shared_among_mapped_containers() {
    let scratch = Scratch::new();
    let mut engine = engine(&scratch);
    engine
        .wharf(&[
            "run",
            "-d",
            "--name",
            "cc",
            "--ipc",
            "shareable",
            "--restart",
            "always",
            "--health-cmd",
            "test $(id -u) = 0",
            "--health-interval",
            "100ms",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    for flags in [&["--network", "container:cc"][..], &["--pid", "container:cc"], &["--ipc", "container:cc"]]
    {
        let users = [&["run", "--rm"], flags, &["busybox", "readlink", "/proc/self/ns/user"]].concat();
        let expected = engine.wharf(&["exec", "cc", "readlink", "/proc/self/ns/user"]).line();
        assert_eq!(both(&engine, &users).line(), expected, "{flags:?}");
    }
    // Started again by its supervisor, without a daemon, it has the same.
    let pid = engine.wharf(&["inspect", "-f", "{{.State.Pid}}", "cc"]).line();
    engine.kill_daemon();
    engine.run("kill", &["-9", &pid]).ok();
    engine.start_daemon();
    testkit::until("the container to be healthy", std::time::Duration::from_secs(20), || {
        let shown = engine
            .wharf(&["inspect", "-f", "{{.State.Status}} {{.State.Health.Status}} {{.RestartCount}}", "cc"])
            .line();
        (shown == "running healthy 1").then_some(())
    });
    assert_eq!(engine.wharf(&["exec", "cc", "head", "-c", "15", "/proc/self/uid_map"]).ok().trim(), "0");
    engine.wharf(&["network", "create", "other"]).ok();
    engine.wharf(&["network", "connect", "other", "cc"]).ok();
    assert_eq!(engine.wharf(&["exec", "cc", "ls", "/sys/class/net"]).ok(), "eth0\neth1\nlo\n");
    engine.wharf(&["rm", "-f", "cc"]).ok();
}

#[test]
fn what_needs_the_hosts_users_says_so() {
    let scratch = Scratch::new();
    let engine = engine(&scratch);
    engine.wharf(&["run", "-d", "--name", "hh", "--userns", "host", "busybox", "sleep", "1000"]).ok();
    for (flags, reason) in [
        (
            &["--privileged"][..],
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        ),
        (
            &["--network", "host"],
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (&["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
        (
            &["--network", "container:hh"],
            "container hh has the host's users: to join its namespaces takes --userns host",
        ),
        (&["-u", "70000"], "setuid: invalid argument"),
    ] {
        let refused = both(&engine, &[&["run", "--rm"], flags, &["busybox", "true"]].concat());
        assert!(refused.code > 124 && refused.stderr.contains(reason), "{flags:?}: {refused:?}");
    }
    let shared = [
        "run",
        "--rm",
        "--userns",
        "host",
        "--privileged",
        "--network",
        "host",
        "busybox",
        "head",
        "-c",
        "23",
        "/proc/self/uid_map",
    ];
    assert_eq!(both(&engine, &shared).ok().split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert_eq!(
        both(
            &engine,
            &[
                "run",
                "--rm",
                "--ipc",
                "host",
                "busybox",
                "sh",
                "-c",
                "touch /dev/shm/wharf-test; rm /dev/shm/wharf-test; grep -c mqueue /proc/mounts || true"
            ]
        )
        .line(),
        "0"
    );
    engine.wharf(&["rm", "-f", "hh"]).ok();
}

#[test]
fn the_default_user_is_made() {
    let scratch = Scratch::new();
    let mut engine = Engine::with_busybox();
    own_accounts(&engine, &scratch);
    engine.stop_daemon();
    engine.replace_flags(&["--userns-remap", "default"]);
    for _again in 0..2 {
        engine.start_daemon();
        let accounts = engine.run(
            "sh",
            &["-c", "grep -h dockremap /etc/passwd /etc/subuid /etc/subgid | cut -d: -f1 | tr '\\n' ' '"],
        );
        assert_eq!(accounts.ok().trim(), "dockremap dockremap dockremap");
        let range = engine.run("sh", &["-c", "grep dockremap /etc/subuid | cut -d: -f2"]).line();
        let map = both(&engine, &["run", "--rm", "busybox", "cat", "/proc/self/uid_map"]).ok();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", &range, "65536"]);
        engine.stop_daemon();
    }
    for (value, reason) in
        [("nowho", "no such user"), ("nobody", "no subuid ranges found"), ("root", "Cannot remap root")]
    {
        let output = engine.wharf(&["daemon", "--validate", "--userns-remap", value]);
        assert!(output.code == 1 && output.stderr.contains(reason), "{output:?}");
    }
    engine.start_daemon();
}
