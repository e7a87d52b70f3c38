//! `wharf runtime`: what a document can ask for.

use e2e::bundle::{Bundle, in_terminal, output, skipped};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::time::Duration;

#[test]
fn a_container_lives_as_with_runc() {
    let mut bundle = Bundle::new();
    bundle.arguments(&["sleep", "100"]).write();
    let status = |bundle: &Bundle| -> String {
        let state: Value = serde_json::from_str(&bundle.runtime(&["state", "c"]).ok()).unwrap();
        assert_eq!((&state["id"], &state["annotations"]["a"]), (&json!("c"), &json!("b")));
        state["status"].as_str().unwrap().to_owned()
    };
    bundle.runtime(&["create", "--pid-file", "pid", "c"]).ok();
    assert_eq!(status(&bundle), "created");
    assert_eq!(std::fs::read_to_string(bundle.beside("pid")).unwrap(), bundle.pid().to_string());
    bundle.runtime(&["start", "c"]).ok();
    assert_eq!(status(&bundle), "running");
    assert!(bundle.runtime(&["list"]).ok().contains("running"));
    assert!(bundle.runtime(&["ps", "c"]).ok().contains("sleep 100"));
    let events: Value = serde_json::from_str(&bundle.runtime(&["events", "--stats", "c"]).ok()).unwrap();
    assert_eq!((&events["type"], &events["data"]["pids"]["current"]), (&json!("stats"), &json!(1)));
    bundle.runtime(&["pause", "c"]).ok();
    assert_eq!(status(&bundle), "paused");
    assert_ne!(bundle.runtime(&["exec", "c", "true"]).code, 0);
    bundle.runtime(&["resume", "c"]).ok();
    assert_eq!(bundle.runtime(&["exec", "--env", "A=7", "c", "sh", "-c", "exit $A"]).code, 7);
    assert_eq!(bundle.runtime(&["exec", "--user", "1000", "c", "id", "-u"]).line(), "1000");
    bundle.runtime(&["update", "--pids-limit", "50", "c"]).ok();
    let wrong = bundle.runtime(&["delete", "c"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("that is not stopped: running"), "{wrong:?}");
    bundle.runtime(&["kill", "c", "KILL"]).ok();
    testkit::until("its end", Duration::from_secs(10), || (status(&bundle) == "stopped").then_some(()));
    bundle.runtime(&["delete", "c"]).ok();
    assert!(bundle.runtime(&["state", "c"]).stderr.contains("container does not exist"));
}

#[test]
fn users_are_mapped() {
    let mut bundle = Bundle::new();
    let mounts = "cat /proc/self/uid_map; id -u; ls -ln /etc/passwd; echo hi > /dev/null && echo null; touch /tmp/made; \
                  cat /proc/mounts; mkdir /dev/shm/x && hostname";
    bundle.map_users().script(mounts);
    let said = bundle.run().ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert!(lines[1] == "0" && lines[2].contains(" 0        0 ") && lines[3] == "null", "{said}");
    assert!(said.ends_with("box\n"), "{said}");
    for line in ["proc /proc proc ", "tmpfs /dev tmpfs ", "devpts /dev/pts devpts ", "sysfs /sys sysfs "] {
        assert!(said.contains(&format!("\n{line}")), "{line}: {said}");
    }
    assert_eq!(std::fs::metadata(bundle.inside("tmp/made")).unwrap().uid(), 100_000);
    bundle.script("exec sleep 100").start();
    assert_eq!(
        bundle.runtime(&["exec", "c", "sh", "-c", "id -u; cat /proc/self/uid_map | wc -l"]).ok(),
        "0\n1\n"
    );
    // A second container in the namespaces of the first.
    let pid = bundle.pid();
    let mut other = Bundle::new();
    other.map_users();
    other.set("/linux", "uidMappings", json!([])).set("/linux", "gidMappings", json!([]));
    for (kind, name) in [("user", "user"), ("network", "net"), ("ipc", "ipc")] {
        let list = other.at("/linux/namespaces").as_array_mut().unwrap();
        list.retain(|one| one["type"] != kind);
        list.push(json!({ "type": kind, "path": format!("/proc/{pid}/ns/{name}") }));
    }
    other.script("id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net; ls /dev/null; hostname");
    let own =
        |name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string();
    assert_eq!(other.run().ok(), format!("0\n{}\n{}\n/dev/null\nbox\n", own("user"), own("net")));
}

#[test]
fn a_terminal_is_there_with_mapped_users_too() {
    for mapped in [false, true] {
        let mut bundle = Bundle::new();
        if mapped {
            bundle.map_users();
        }
        bundle.set("/process", "terminal", json!(true)).script("tty; ls /dev/console; test -t 0 && echo yes");
        bundle.write();
        let mut script = std::process::Command::new("script");
        script.current_dir(bundle.path());
        let said = in_terminal(script, &bundle.line(&["run", "c"]));
        assert_eq!(said.stdout.replace('\r', ""), "/dev/pts/0\n/dev/console\nyes\n", "{said:?}");
    }
}

#[test]
fn owners_of_a_bind_are_mapped() {
    let mut bundle = Bundle::new();
    let source = bundle.beside("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "x").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(7), Some(8)).unwrap();
    let map = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1000 }]);
    let options = json!(["bind", "idmap"]);
    bundle.push(
        "/mounts",
        json!({ "destination": "/mapped", "type": "bind", "source": source, "options": options,
            "uidMappings": map(5000), "gidMappings": map(6000) }),
    );
    bundle.script("stat -c '%u %g' /mapped/file");
    let said = bundle.run();
    if said.stderr.contains("invalid argument") {
        return skipped("the file system of the temporary directory has no id-mapped mounts");
    }
    assert_eq!(said.ok(), "5007 6008\n");
    // And with the container's own mappings: the host's numbers are seen inside as they are.
    let mut bundle = Bundle::new();
    bundle.map_users().push(
        "/mounts",
        json!({ "destination": "/mapped", "type": "bind", "source": source, "options": options }),
    );
    std::fs::create_dir_all(&source).unwrap();
    bundle.script("stat -c '%u %g' /mapped/file; touch /mapped/made");
    assert_eq!(bundle.run().ok(), "7 8\n");
    assert_eq!(std::fs::metadata(source.join("made")).unwrap().uid(), 0);
}

#[test]
fn a_tmpfs_takes_over_what_was_there() {
    for mapped in [false, true] {
        let mut bundle = Bundle::new();
        std::fs::create_dir_all(bundle.inside("data/sub")).unwrap();
        std::fs::write(bundle.inside("data/sub/file"), "content").unwrap();
        let mode = std::fs::Permissions::from_mode(0o1750);
        std::fs::set_permissions(bundle.inside("data"), mode).unwrap();
        if mapped {
            bundle.map_users();
        }
        for (destination, options) in
            [("/data", json!(["tmpcopyup"])), ("/new", json!([])), ("/own", json!(["mode=700"]))]
        {
            bundle.push(
                "/mounts",
                json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options }),
            );
        }
        bundle.script("cat /data/sub/file; echo; stat -c %a /data /new /own; rm -r /data/sub");
        assert_eq!(bundle.run().ok(), "content\n1750\n1777\n700\n", "mapped: {mapped}");
        assert!(bundle.inside("data/sub/file").exists());
    }
}

#[test]
fn hooks_run_in_order_and_know_the_state() {
    let mut bundle = Bundle::new();
    let log = bundle.beside("hooks");
    let hook = |name: &str| {
        let script = format!(
            "echo $NAME $(cat | tr , '\\n' | grep -E 'status|\"id\"' | tr -d '{{}}' | tr '\\n' ' ') >> {}",
            log.display()
        );
        json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": [format!("NAME={name}"), "PATH=/bin:/usr/bin"],
            "timeout": 10 })
    };
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        bundle.set("/hooks", name, json!([hook(name), hook(name)]));
    }
    // In the container it is the container's shell, and its files.
    let inner = json!({ "path": "/bin/sh", "env": ["PATH=/bin"],
        "args": ["sh", "-c", "grep -q '\"status\":\"created\"' && hostname > /tmp/inner"] });
    bundle.set("/hooks", "startContainer", json!([inner])).script("cat /tmp/inner");
    assert_eq!(bundle.run().ok(), "box\n");
    let said = std::fs::read_to_string(&log).unwrap();
    let expect: String = [
        ("prestart", "created"),
        ("createRuntime", "created"),
        ("createContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ]
    .iter()
    .flat_map(|(name, status)| [(name, status); 2])
    .map(|(name, status)| format!("{name} \"id\":\"c\" \"status\":\"{status}\"\n"))
    .collect();
    assert_eq!(said, expect);
    // The container's mounts are seen where its root is on the host.
    let mut bundle = Bundle::new();
    let seen = bundle.inside("proc/self/status");
    let test = json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("test -e {}", seen.display())] }]);
    bundle.set("/hooks", "createContainer", test);
    bundle.run().ok();
}

#[test]
fn a_failed_hook_ends_the_container() {
    for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        for (script, timeout) in [("exit 3", 10), ("exec sleep 100", 1)] {
            let mut bundle = Bundle::new();
            let stopped = bundle.beside("stopped");
            let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], "timeout": timeout }]);
            bundle.set("/hooks", name, hook);
            bundle.set("/hooks", "poststop", json!([{ "path": "/bin/touch", "args": ["touch", stopped] }]));
            bundle.script("sleep 100");
            let said = bundle.run();
            assert!(said.code == 1 && said.stderr.contains("error running hook"), "{name}: {said:?}");
            assert!(said.stderr.contains("ran past specified timeout") == (timeout == 1), "{name}: {said:?}");
            assert!(stopped.exists(), "{name}");
            assert!(bundle.runtime(&["state", "c"]).stderr.contains("does not exist"), "{name}");
        }
    }
}

#[test]
fn descriptors_are_passed_on() {
    let mut bundle = Bundle::new();
    bundle.script("cat <&3; ls /proc/self/fd | tr '\\n' ' '; echo $LISTEN_FDS $LISTEN_PID").write();
    let run = |bundle: &Bundle, redirect: &str, flags: &[&str], environment: &str| {
        let mut words = vec!["run"];
        words.extend(flags);
        words.push("c");
        let line = bundle.line(&words);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("{environment} exec {line} {redirect}")]).current_dir(bundle.path());
        output(command)
    };
    std::fs::write(bundle.beside("three"), "third ").unwrap();
    // The listing has one of its own.
    assert_eq!(run(&bundle, "3<three", &["--preserve-fds", "1"], "").ok(), "third 0 1 2 3 4 \n");
    let said = run(&bundle, "3<three", &[], "LISTEN_FDS=1 LISTEN_PID=$$");
    assert_eq!(said.ok(), "third 0 1 2 3 4 1 1\n");
    let said = run(&bundle, "3<&-", &["--preserve-fds", "1"], "");
    assert!(said.code == 1 && said.stderr.contains("preserved-fd 3"), "{said:?}");
}

#[test]
fn readiness_is_passed_on() {
    let mut bundle = Bundle::new();
    let socket = bundle.beside("notify-host");
    let host = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    bundle.script("echo $NOTIFY_SOCKET > /tmp/socket; sleep 100").write();
    let mut command = bundle.command(&["run", "--detach", "c"]);
    let running = command.env("NOTIFY_SOCKET", &socket).spawn().unwrap();
    let inside = bundle.beside("state/c/notify/notify.sock");
    testkit::until("the socket", Duration::from_secs(10), || inside.exists().then_some(()));
    testkit::until("the program", Duration::from_secs(10), || {
        bundle.inside("tmp/socket").exists().then_some(())
    });
    let container = std::os::unix::net::UnixDatagram::unbound().unwrap();
    container.send_to(b"STATUS=x\nREADY=1", &inside).unwrap();
    let mut text = [0; 100];
    let length = host.recv(&mut text).unwrap();
    assert!(running.wait_with_output().unwrap().status.success());
    assert_eq!(String::from_utf8_lossy(&text[..length]), format!("READY=1\nMAINPID={}\n", bundle.pid()));
    assert_eq!(std::fs::read_to_string(bundle.inside("tmp/socket")).unwrap(), "/run/notify/notify.sock\n");
}

#[test]
fn scheduling_is_as_asked() {
    let mut bundle = Bundle::new();
    bundle.set("/process", "scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 }));
    bundle.set("/process", "ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 }));
    bundle.script("cut -d' ' -f19,41 /proc/self/stat; ionice; exec sleep 100").start();
    testkit::until("both lines", Duration::from_secs(10), || {
        (bundle.log().lines().count() == 2).then_some(())
    });
    assert_eq!(bundle.log(), "5 3\nidle\n");
    let list = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = list.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
    let first = allowed.split([',', '-']).next().unwrap();
    let process = json!({ "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "user": {},
        "env": ["PATH=/bin"], "execCPUAffinity": { "initial": first, "final": first } });
    std::fs::write(bundle.beside("process.json"), process.to_string()).unwrap();
    let said = bundle.runtime(&["exec", "--process", "process.json", "c"]).ok();
    assert_eq!(said, format!("Cpus_allowed_list:\t{first}\n"));
}

#[test]
fn mounts_are_the_hosts_without_a_namespace_until_it_is_deleted() {
    let mut bundle = Bundle::new();
    bundle.at("/linux/namespaces").as_array_mut().unwrap().retain(|one| one["type"] != "mount");
    bundle.script("readlink /proc/self/ns/mnt; exec sleep 100").start();
    let root = bundle.inside("").display().to_string();
    let mounted =
        || std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(root.trim_end_matches('/'));
    assert!(mounted());
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    testkit::until("a line", Duration::from_secs(10), || {
        (bundle.log().lines().next() == Some(own.as_str())).then_some(())
    });
    bundle.runtime(&["delete", "--force", "c"]).ok();
    assert!(!mounted());
}

#[test]
fn mounts_of_another_container_can_be_joined() {
    let mut first = Bundle::new();
    first.arguments(&["sleep", "100"]).start();
    let path = format!("/proc/{}/ns/mnt", first.pid());
    let mut second = Bundle::new();
    let namespaces = second.at("/linux/namespaces").as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "mount");
    namespaces.push(json!({ "type": "mount", "path": path }));
    second.script("readlink /proc/self/ns/mnt; ls / | wc -l");
    let own = std::fs::read_link(&path).unwrap().display().to_string();
    let said = second.run().ok();
    assert_eq!(said.lines().next(), Some(own.as_str()), "{said}");
}

#[test]
fn a_listener_is_asked_about_calls() {
    let mut bundle = Bundle::new();
    let path = bundle.beside("agent");
    let agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    bundle.set(
        "/linux",
        "seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "about",
            "syscalls": [{ "names": ["sethostname"], "action": "SCMP_ACT_NOTIFY" }] }),
    );
    bundle.script("echo ready; exec sleep 100");
    let waiting = std::thread::spawn(move || {
        let (mut socket, _) = agent.accept().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut socket, &mut text).unwrap();
        text
    });
    bundle.start();
    let message: Value = serde_json::from_str(&waiting.join().unwrap()).unwrap();
    assert_eq!((&message["metadata"], &message["fds"]), (&json!("about"), &json!(["seccompFd"])));
    assert_eq!((&message["pid"], &message["state"]["id"]), (&json!(bundle.pid()), &json!("c")));
    testkit::until("the program", Duration::from_secs(10), || (bundle.log() == "ready\n").then_some(()));
    assert!(
        std::fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap().contains("Seccomp:\t2")
    );
}

/// Has a bundle with one change refused before anything is made.
fn check(change: fn(&mut Bundle), expect: &str) {
    let mut bundle = Bundle::new();
    change(&mut bundle);
    bundle.write();
    // A place for the state that cannot be made: to make it would be the error.
    for root in ["state", "config.json/state"] {
        let root = bundle.beside(root).display().to_string();
        let said = bundle.runtime(&["--root", &root, "create", "c"]);
        assert!(said.code == 1 && said.stderr.contains(expect), "{expect}: {said:?}");
    }
    assert!(!bundle.beside("state").exists(), "{expect}");
}

#[test]
fn what_is_wrong_is_told_before_anything_is_made() {
    check(|bundle| *bundle.at("/ociVersion") = json!("3.0.0"), "failed: ociVersion: ");
    check(|bundle| *bundle.at("/process/cwd") = json!("x"), "failed: process.cwd: ");
    check(|bundle| *bundle.at("/process/args") = json!("sh"), "failed: process.args: invalid type: string");
    check(
        |bundle| {
            bundle.push("/linux/namespaces", json!({ "type": "pid" }));
        },
        "failed: linux.namespaces[5].type: ",
    );
    check(
        |bundle| {
            bundle.set("/linux", "intelRdt", json!({}));
        },
        "failed: linux.intelRdt: is not supported",
    );
    check(
        |bundle| {
            bundle.set("/linux", "netDevices", json!({ "e/f": {} }));
        },
        "failed: linux.netDevices[\"e/f\"]: \"e/f\" is no name of a device",
    );
    let executable = "failed: process.args[0]: exec: \"nosuch\": executable file not found in $PATH";
    check(
        |bundle| {
            bundle.arguments(&["nosuch"]);
        },
        executable,
    );
    check(
        |bundle| {
            bundle.arguments(&["/etc/passwd"]);
        },
        "failed: process.args[0]: exec: \"/etc/passwd\": permission denied",
    );
    check(
        |bundle| {
            bundle.push("/mounts", json!({ "destination": "/x", "type": "bind", "source": "/nonexistent" }));
        },
        "failed: mounts[6]: error mounting \"/nonexistent\" to rootfs at \"/x\": no such file or directory",
    );
    check(
        |bundle| {
            std::fs::remove_dir(bundle.inside("proc")).expect("an empty folder");
            std::os::unix::fs::symlink("/tmp", bundle.inside("proc")).expect("a link");
        },
        "failed: mounts[0]: error mounting \"proc\" to rootfs at \"/proc\"",
    );
    check(
        |bundle| {
            let options = json!(["bind"]);
            let file =
                json!({ "destination": "/etc/passwd", "type": "none", "source": "/", "options": options });
            bundle.push("/mounts", file);
        },
        "failed: mounts[6]: error mounting \"/\" to rootfs at \"/etc/passwd\": not a directory",
    );
    check(
        |bundle| {
            bundle.arguments(&["/etc"]);
        },
        "failed: process.args[0]: exec: \"/etc\": is a directory",
    );
}

#[test]
fn contradictions_are_told_before_anything_is_made() {
    check(|bundle| *bundle.at("/root/path") = json!("nosuch"), "failed: root.path: ");
    check(
        |bundle| {
            bundle.push("/linux/namespaces", json!({ "type": "user", "path": "/nonexistent" }));
        },
        "failed: linux.namespaces[5].path: ",
    );
    check(
        |bundle| {
            let map =
                |inside: u32, outside: u32| json!({ "containerID": inside, "hostID": outside, "size": 10 });
            bundle.map_users();
            *bundle.at("/linux/uidMappings") = json!([map(0, 0), map(5, 100)]);
        },
        "failed: linux.uidMappings[1].containerID: ",
    );
    check(
        |bundle| *bundle.at("/process/capabilities/bounding") = json!(["NOT_ONE"]),
        "failed: process.capabilities.bounding[0]: ",
    );
    check(
        |bundle| {
            let limits = json!({ "cpu": { "quota": 1000 }, "unified": { "cpu.max": "1 2" } });
            bundle.set("/linux", "resources", limits);
        },
        "failed: linux.resources.unified[\"cpu.max\"]: ",
    );
}

#[test]
fn the_session_keyring_is_new_unless_it_is_not_wanted() {
    if std::fs::read("/proc/keys").is_err() {
        return skipped("this kernel has no keys");
    }
    let mut bundle = Bundle::new();
    bundle.at("/linux/maskedPaths").as_array_mut().unwrap().clear();
    // Each has its own name: the kernel lets go of a dead process's keyring a little later.
    for (name, flags, found) in [("new", [].as_slice(), "1\n"), ("old", &["--no-new-keyring"], "0\n")] {
        let id = format!("keyring-{name}-{}", std::process::id());
        bundle.script(&format!("grep -c _ses.{id} /proc/keys"));
        bundle.write();
        assert_eq!(bundle.runtime(&[&["run"], flags, &[&id]].concat()).stdout, found, "{name}");
    }
}

#[test]
fn it_is_there_under_runcs_name() {
    let bundle = Bundle::new();
    let mut command = std::process::Command::new(testkit::Engine::executable());
    command.arg0("runc").arg("--version");
    let said = output(command);
    // A script in the executable's place has no other name.
    if std::fs::read(testkit::Engine::executable()).unwrap().starts_with(b"#!") {
        return skipped("the executable is a script");
    }
    assert!(said.stdout.starts_with("wharf runtime version "), "{said:?}");
    let features: Value = serde_json::from_str(&bundle.runtime(&["features"]).ok()).unwrap();
    assert_eq!(features["hooks"].as_array().map(Vec::len), Some(6));
    bundle.runtime(&["spec", "--bundle", bundle.path().to_str().unwrap()]).ok();
}

#[test]
fn a_user_without_privileges_runs_containers() {
    let mut bundle = Bundle::new();
    let user = |bundle: &Bundle, arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "--inh-caps=-all"]);
        command.arg(bundle.beside("wharf")).arg("runtime").args(arguments);
        command.env("XDG_RUNTIME_DIR", bundle.beside("run")).current_dir(bundle.path());
        output(command)
    };
    std::fs::copy(testkit::Engine::executable(), bundle.beside("wharf")).unwrap();
    std::fs::create_dir(bundle.beside("run")).unwrap();
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    bundle.set("/linux", "uidMappings", map.clone()).set("/linux", "gidMappings", map);
    // A group that is not mapped cannot own terminals.
    bundle.at("/mounts/2/options").as_array_mut().unwrap().retain(|option| option != "gid=5");
    bundle.script("id -u; echo x > /dev/null && touch /tmp/made; hostname").write();
    let owned = std::process::Command::new("chown").args(["-hR", "1000:1000"]).arg(bundle.path()).status();
    assert!(owned.unwrap().success());
    let said = user(&bundle, &["run", "c"]);
    assert!(said.stderr.contains("linux.uidMappings: need a user namespace"), "{said:?}");
    bundle.push("/linux/namespaces", json!({ "type": "user" })).write();
    assert_eq!(user(&bundle, &["run", "c"]).ok(), "0\nbox\n");
    assert_eq!(std::fs::metadata(bundle.inside("tmp/made")).unwrap().uid(), 1000);
    // What nobody may keep is said.
    bundle.set("/linux", "resources", json!({ "pids": { "limit": 20 } })).write();
    let said = user(&bundle, &["run", "c"]);
    if !said.stderr.is_empty() {
        assert!(said.stderr.contains("the pids cgroup controller is not available"), "{said:?}");
    }
    bundle.arguments(&["sleep", "100"]).set("/linux", "resources", json!({})).write();
    user(&bundle, &["run", "--detach", "c"]).ok();
    assert_eq!(user(&bundle, &["exec", "c", "id", "-u"]).ok(), "0\n");
    for command in ["checkpoint", "restore"] {
        let said = user(&bundle, &[command, "c"]);
        let reason = "checkpoint and restore need root: criu fills namespaces that belong to the host";
        assert_eq!((said.code, said.stderr), (1, format!("runc {command} failed: {reason}\n")));
    }
    user(&bundle, &["delete", "--force", "c"]).ok();
    assert_eq!(user(&bundle, &["list", "--quiet"]).ok(), "");
}

#[test]
fn what_a_restore_cannot_do_is_refused() {
    let mut bundle = Bundle::new();
    let image = bundle.beside("image");
    std::fs::create_dir(&image).expect("make a folder");
    let image = image.display().to_string();
    let check = |bundle: &Bundle, flags: &[&str], expect: &str| {
        bundle.write();
        let said = bundle.runtime(&[&["restore", "--image-path", &image], flags, &["c"]].concat());
        assert_eq!(
            (said.code, said.stderr.as_str()),
            (1, format!("runc restore failed: {expect}\n").as_str())
        );
        assert!(!bundle.beside("state/c").exists());
    };
    check(
        &bundle,
        &["--no-pivot"],
        "--no-pivot cannot be had at a restore: criu changes the root by pivot_root",
    );
    let socket = ["--console-socket", "/nonexistent"];
    check(&bundle, &socket, "cannot use console socket if runc will not detach or allocate tty");
    for kind in ["createContainer", "startContainer"] {
        bundle.set("", "hooks", json!({ kind: [{ "path": "/bin/true" }] }));
        check(&bundle, &[], &format!("hooks.{kind} cannot be run at a restore: the program runs already"));
    }
    bundle.set("", "hooks", json!({}));
    bundle.set("/process", "terminal", json!(true));
    let reason = "cannot allocate tty if runc will detach without setting console socket";
    check(&bundle, &["--detach"], reason);
}

#[test]
fn a_terminal_without_a_place_is_refused_before_anything_is_made() {
    let mut bundle = Bundle::new();
    let state = bundle.beside("state/c");
    let expect = |said: testkit::Output, command: &str, text: &str| {
        assert_eq!(said.stderr, format!("runc {command} failed: {text}\n"), "{said:?}");
        assert!(!state.exists());
    };
    bundle.write();
    let no_terminal = "cannot use console socket if runc will not detach or allocate tty";
    expect(bundle.runtime(&["create", "--console-socket", "/x", "c"]), "create", no_terminal);
    bundle.set("/process", "terminal", json!(true));
    bundle.write();
    let no_socket = "cannot allocate tty if runc will detach without setting console socket";
    expect(bundle.runtime(&["create", "c"]), "create", no_socket);
    expect(bundle.runtime(&["run", "--detach", "c"]), "run", no_socket);
    expect(bundle.runtime(&["run", "--console-socket", "/x", "c"]), "run", no_terminal);
    // The same of a further process; none has begun.
    bundle.set("/process", "terminal", json!(false));
    bundle.arguments(&["sleep", "1000"]).start();
    for (flags, text) in [
        (&["--console-socket", "/x"][..], no_terminal),
        (&["--detach", "--console-socket", "/x"], no_terminal),
        (&["--tty", "--console-socket", "/x"], no_terminal),
        (&["--tty", "--detach"], no_socket),
    ] {
        let said = bundle.runtime(&[&["exec"], flags, &["c", "touch", "/begun"]].concat());
        assert_eq!((said.code, said.stderr), (255, format!("runc exec failed: {text}\n")), "{flags:?}");
    }
    assert!(!bundle.inside("begun").exists());
}

#[test]
fn a_device_stays_the_hosts_if_the_program_is_missing() {
    let mut bundle = Bundle::new();
    bundle.set("/linux", "netDevices", json!({ "dev0": {} }));
    bundle.arguments(&["nosuch"]).write();
    for create in ["create", "run"] {
        let line = bundle.line(&[create, "c"]);
        let script = format!("ip link add dev0 type veth peer name dev1 && ! {line} && ip -o link show dev0");
        let mut command = std::process::Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]).current_dir(bundle.path());
        let said = output(command);
        assert!(said.stderr.contains("executable file not found in $PATH"), "{said:?}");
        assert!(said.code == 0 && said.stdout.contains(" dev0@"), "{said:?}");
    }
}
