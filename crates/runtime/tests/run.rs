//! Containers that are really run.

mod common;

use common::{Bench, Output, Switch, pipes};
use oci::runtime::{Memory, Mount, Namespace, NamespaceKind, Pids, Resources, Rlimit};
use runtime::{ImageUser, Launch, Stdio};
use std::os::fd::AsFd;

fn both(test: impl Fn(&Bench)) {
    for switch in [Switch::Pivot, Switch::Empty] {
        test(&Bench::new(switch));
    }
}

#[test]
#[ignore = "root: runs containers"]
fn a_program_runs_and_its_code_is_known() {
    both(|bench| {
        let output = bench.run(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!(output, Output { code: 7, stdout: "out\n".into(), stderr: "err\n".into() });
        assert_eq!(bench.run(&["sh", "-c", "echo $$; hostname"]).stdout, "1\nbox\n");
    });
}

#[test]
#[ignore = "root: runs containers"]
fn the_container_sees_its_own_root_and_nothing_else() {
    both(|bench| {
        assert_eq!(
            bench.shell("ls /; ls /proc/1/root/; pwd"),
            format!("{0}{0}/\n", "bin\ndev\netc\nproc\nroot\nsys\ntmp\n")
        );
        let mounts = bench.shell("cat /proc/self/mountinfo");
        assert!(mounts.lines().all(|line| !line.contains(" - ext4 ")), "{mounts}");
        assert_eq!(
            bench.shell("ls /dev"),
            "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
        );
        assert_eq!(bench.shell("echo x > /dev/null; head -c 2 /dev/zero | wc -c"), "2\n");
        assert_eq!(
            bench.shell("cat /proc/self/cgroup | grep pids").trim_start_matches(char::is_numeric),
            format!(":pids:{}\n", bench.cgroup)
        );
        assert_eq!(bench.shell("head -n 1 /sys/fs/cgroup/pids/cgroup.procs"), "1\n");
    });
}

#[test]
#[ignore = "root: runs containers"]
fn nothing_is_inherited_but_three_descriptors() {
    both(|bench| {
        // The fourth is the listing's own.
        assert_eq!(bench.shell("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3 ");
        let status = bench.run(&["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]).stdout;
        for line in status.lines() {
            assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{line}");
        }
    });
}

#[test]
#[ignore = "root: runs containers"]
fn capabilities_are_dockers() {
    both(|bench| {
        let text = bench.shell("grep Cap /proc/self/status");
        let value = |name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .split_whitespace()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        assert_eq!(value("CapInh"), "0000000000000000");
        assert_eq!(value("CapAmb"), "0000000000000000");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(value(set), "00000000a80425fb", "{set}");
        }
        let user = ImageUser { user: "ann".into(), groups: Vec::new() };
        let spec = bench.spec(&[
            "sh",
            "-c",
            "grep -E 'CapPrm|CapEff' /proc/self/status; id; echo $HOME; echo hi >/dev/stdout",
        ]);
        let output = bench.run_as(spec, Some(user)).unwrap();
        assert_eq!(
            output.stdout,
            "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
             uid=1000(ann) gid=100(users) groups=10(wheel),100(users)\n/home/ann\nhi\n"
        );
    });
}

#[test]
#[ignore = "root: runs containers"]
fn sensitive_paths_are_covered_and_read_only() {
    both(|bench| {
        assert_eq!(bench.shell("cat /proc/keys /proc/interrupts /proc/timer_list; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v :").trim(), "");
        for path in [
            "/proc/sys/kernel/domainname",
            "/proc/sysrq-trigger",
            "/sys/kernel/profiling",
            "/sys/fs/cgroup/pids/cgroup.procs",
        ] {
            let output = bench.run(&["sh", "-c", &format!("echo 1 > {path}")]);
            assert!(
                output.stderr.contains("Read-only file system") || output.stderr.contains("nonexistent"),
                "{path}: {output:?}"
            );
        }
        let mut spec = bench.spec(&["sh", "-c", "touch /x; touch /dev/shm/y && echo shm"]);
        spec.root.as_mut().unwrap().readonly = true;
        let output = bench.run_spec(spec).unwrap();
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("shm\n", "touch: /x: Read-only file system\n")
        );
    });
}

#[test]
#[ignore = "root: runs containers"]
fn volumes_are_bound_where_they_belong() {
    both(|bench| {
        let volume = bench.base.join("volume");
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        std::fs::write(bench.base.join("hosts"), "127.0.0.1 localhost\n").unwrap();
        std::os::unix::fs::symlink("../run/hosts", bench.lower().join("etc/hosts")).unwrap();
        let mut spec = bench.spec(&[
            "sh",
            "-c",
            "cat /etc/hosts /run/hosts; touch /data/made; ls /data /data/nested; touch /ro/x",
        ]);
        let bind = |source: &std::path::Path, destination: &str, options: &str| Mount {
            destination: destination.into(),
            kind: Some("bind".into()),
            source: Some(source.to_str().unwrap().into()),
            options: options.split(',').map(str::to_owned).collect(),
            ..Mount::default()
        };
        spec.mounts.push(bind(&bench.base.join("hosts"), "/etc/hosts", "rbind,rprivate"));
        spec.mounts.push(bind(&volume, "/data", "rbind,rprivate"));
        spec.mounts.push(bind(&volume, "/ro", "rbind,ro,rprivate"));
        spec.mounts.push(bind(&volume.join("sub"), "/data/nested", "rbind,rslave"));
        let output = bench.run_spec(spec.clone()).unwrap();
        assert_eq!(
            output.stdout,
            "127.0.0.1 localhost\n127.0.0.1 localhost\n/data:\nmade\nnested\nsub\n\n/data/nested:\n"
        );
        assert_eq!(output.stderr, "touch: /ro/x: Read-only file system\n");
        assert!(volume.join("made").exists() && volume.join("nested").is_dir());
        spec.mounts.push(bind(&volume, "/etc/passwd", "rbind"));
        let error = bench.run_spec(spec).unwrap_err();
        assert_eq!(error.exit_code(), 127, "{error}");
        assert!(error.to_string().contains("Are you trying to mount a directory onto a file"), "{error}");
    });
}

#[test]
#[ignore = "root: runs containers"]
fn programs_that_cannot_run_are_told_apart() {
    both(|bench| {
        std::fs::write(bench.lower().join("plain"), "data").unwrap();
        std::fs::write(bench.lower().join("nonsense"), "\0\0data").unwrap();
        std::fs::write(bench.lower().join("script"), "#!/nonexistent\n").unwrap();
        for name in ["nonsense", "script"] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(bench.lower().join(name), std::fs::Permissions::from_mode(0o755))
                .unwrap();
        }
        for (program, text, code) in [
            ("nosuch", "exec: \"nosuch\": executable file not found in $PATH", 127),
            ("/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory", 127),
            ("/etc", "exec: \"/etc\": is a directory", 126),
            ("/plain", "exec: \"/plain\": permission denied", 126),
            ("/plain/x", "exec: \"/plain/x\": stat /plain/x: not a directory", 127),
        ] {
            let error = bench.run_spec(bench.spec(&[program])).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.exit_code()), (text, code));
        }
        let output = bench.run(&["/nonsense"]);
        assert_eq!((output.code, output.stderr.as_str()), (255, "exec /nonsense: exec format error\n"));
        let output = bench.run(&["/script"]);
        assert_eq!((output.code, output.stderr.as_str()), (255, "exec /script: no such file or directory\n"));
        let user = ImageUser { user: "bob".into(), groups: Vec::new() };
        let error = bench.run_as(bench.spec(&["true"]), Some(user)).unwrap_err();
        assert_eq!(error.to_string(), "unable to find user bob: no matching entries in passwd file");
        assert_eq!(bench.run_spec(bench.spec(&[])).unwrap_err().to_string(), "no command specified");
    });
}

#[test]
#[ignore = "root: runs containers"]
fn limits_hold() {
    both(|bench| {
        let mut spec = bench.spec(&[
            "sh",
            "-c",
            "cat /sys/fs/cgroup/pids/pids.max; ulimit -n; for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; true",
        ]);
        spec.linux.as_mut().unwrap().resources = Some(Resources {
            pids: Some(Pids { limit: Some(4) }),
            memory: Some(Memory { limit: Some(32 << 20), ..Memory::default() }),
            ..Resources::default()
        });
        spec.process.as_mut().unwrap().rlimits =
            vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 99, soft: 88 }];
        let output = bench.run_spec(spec).unwrap();
        assert!(output.stdout.starts_with("4\n88\n"), "{output:?}");
        assert!(output.stderr.contains("can't fork"), "{output:?}");
        // Devices that are not allowed cannot be opened, whatever nodes are made.
        let output = bench.run(&[
            "sh",
            "-c",
            "mknod /tmp/vda b 254 0; cat /tmp/vda; mknod /tmp/n c 1 3 && cat /tmp/n && echo fine",
        ]);
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("fine\n", "cat: can't open '/tmp/vda': Operation not permitted\n")
        );
    });
}

#[test]
#[ignore = "root: runs containers"]
fn running_out_of_memory_is_counted() {
    let bench = Bench::new(Switch::Empty);
    let mut spec = bench.spec(&["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"]);
    spec.linux.as_mut().unwrap().resources = Some(Resources {
        memory: Some(Memory { limit: Some(32 << 20), swap: Some(32 << 20), ..Memory::default() }),
        ..Resources::default()
    });
    let (stdio, streams) = pipes();
    let init = runtime::create(bench.launch(spec, stdio)).unwrap().start().unwrap();
    drop(streams);
    let code = sys::pidfd::wait(init.pidfd.as_fd()).unwrap().code();
    assert_eq!((code, init.cgroup.oom_kills()), (137, 1));
    init.cgroup.delete().unwrap();
}

#[test]
#[ignore = "root: runs containers"]
fn a_terminal_is_the_containers_own() {
    both(|bench| {
        let mut spec = bench.spec(&[
            "sh",
            "-c",
            "tty; stty size; ls /dev/console /dev/pts; test -t 0 && echo yes >/dev/tty",
        ]);
        let process = spec.process.as_mut().unwrap();
        process.terminal = true;
        process.console_size = Some(oci::runtime::ConsoleSize { height: 40, width: 120 });
        let mut created = runtime::create(bench.launch(spec, Stdio::Terminal)).unwrap();
        let terminal = created.take_terminal().unwrap();
        let init = created.start().unwrap();
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        // The end of a terminal is an error (EIO).
        while let Ok(length @ 1..) = rustix::io::read(&terminal, &mut buffer) {
            text.extend_from_slice(&buffer[..length]);
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "/dev/pts/0\r\n40 120\r\n/dev/console\r\n\r\n/dev/pts:\r\n0     ptmx\r\nyes\r\n");
        assert_eq!(sys::pidfd::wait(init.pidfd.as_fd()).unwrap().code(), 0);
        init.cgroup.delete().unwrap();
    });
}

#[test]
#[ignore = "root: runs containers"]
fn what_is_created_waits_and_can_be_given_up() {
    both(|bench| {
        let (stdio, (out, _err)) = pipes();
        let created = runtime::create(bench.launch(bench.spec(&["echo", "late"]), stdio)).unwrap();
        assert_eq!(created.cgroup().processes().unwrap(), [created.pid()]);
        assert!(
            !sys::event::readable_within(out.as_fd(), Some(std::time::Duration::from_millis(50))).unwrap()
        );
        created.abort();
        assert_eq!(common::read(&out), "");
        let (stdio, (out, _err)) = pipes();
        let created = runtime::create(bench.launch(bench.spec(&["echo", "late"]), stdio)).unwrap();
        let init = created.start().unwrap();
        assert_eq!(common::read(&out), "late\n");
        sys::pidfd::wait(init.pidfd.as_fd()).unwrap();
        init.cgroup.delete().unwrap();
    });
}

#[test]
#[ignore = "root: runs containers"]
fn namespaces_are_shared_when_asked() {
    both(|bench| {
        let mut spec = bench.spec(&[
            "sh",
            "-c",
            "hostname; kill -0 $OTHER && ps | grep -c '[s]leep 100'; cat /proc/sys/net/ipv4/ip_default_ttl",
        ]);
        let other = Bench::new(bench.switch);
        let mut other_spec = other.spec(&["sleep", "100"]);
        other_spec.hostname = Some("other".into());
        other_spec.linux.as_mut().unwrap().sysctl.insert("net.ipv4.ip_default_ttl".into(), "77".into());
        let init = other.start(other_spec);
        let linux = spec.linux.as_mut().unwrap();
        for kind in [NamespaceKind::Uts, NamespaceKind::Pid, NamespaceKind::Network] {
            let name = match kind {
                NamespaceKind::Uts => "uts",
                NamespaceKind::Pid => "pid",
                _ => "net",
            };
            linux.namespaces.retain(|one| one.kind != kind);
            linux.namespaces.push(Namespace { kind, path: Some(format!("/proc/{}/ns/{name}", init.pid)) });
        }
        spec.process.as_mut().unwrap().env.push("OTHER=1".into());
        let output = bench.run_spec(spec).unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("other\n1\n77\n", ""));
        other.stop(&init);
    });
}

#[test]
#[ignore = "root: runs containers"]
fn working_directories_are_made_but_never_outside() {
    both(|bench| {
        let mut spec = bench.spec(&["pwd"]);
        spec.process.as_mut().unwrap().cwd = "/work/deep".into();
        assert_eq!(bench.run_spec(spec).unwrap().stdout, "/work/deep\n");
        for number in 0..20 {
            for path in
                [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}"), "/proc/self/cwd".into()]
            {
                let mut spec = bench.spec(&["sh", "-c", "pwd; ls"]);
                spec.process.as_mut().unwrap().cwd = path.clone();
                let error = bench.run_spec(spec).unwrap_err();
                assert!(error.to_string().starts_with("error during container init: "), "{path}: {error}");
            }
        }
    });
}

#[test]
#[ignore = "root: runs containers"]
fn the_default_filter_is_in_force() {
    both(|bench| {
        for no_new_privileges in [false, true] {
            for user in ["root", "ann"] {
                let mut spec = bench.spec(&[
                    "sh",
                    "-c",
                    "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; unshare -U true; unshare -m true",
                ]);
                let granted = spec.process.as_ref().unwrap().capabilities.as_ref().unwrap().bounding.clone();
                spec.linux.as_mut().unwrap().seccomp = Some(runtime::default_seccomp(&granted));
                spec.process.as_mut().unwrap().no_new_privileges = no_new_privileges;
                let image = ImageUser { user: user.into(), groups: Vec::new() };
                let output = bench.run_as(spec, Some(image)).unwrap();
                let expect = format!("NoNewPrivs:\t{}\nSeccomp:\t2\n", u8::from(no_new_privileges));
                assert_eq!(output.stdout, expect, "{output:?}");
                assert_eq!(output.stderr.matches("Operation not permitted").count(), 2, "{output:?}");
            }
        }
    });
}

#[test]
#[ignore = "root: runs containers"]
fn hooks_are_run_in_order_and_a_listener_is_given_away() {
    use oci::runtime::{Action, Hook, Hooks, Seccomp, Syscall};
    both(|bench| {
        let (log, path) = (bench.base.join("hooks"), bench.base.join("agent"));
        let hook = |name: &str| Hook {
            path: "/bin/sh".into(),
            args: vec![
                "sh".into(),
                "-c".into(),
                format!("grep -q '\"id\":\"named\"' && echo {name} >> {}", log.display()),
            ],
            ..Hook::default()
        };
        let mut spec = bench.spec(&["sleep", "100"]);
        let hooks = Hooks {
            prestart: vec![hook("prestart")],
            create_runtime: vec![hook("createRuntime")],
            poststart: vec![hook("poststart")],
            poststop: vec![hook("poststop")],
            ..Hooks::default()
        };
        spec.hooks = Some(hooks);
        let rule =
            Syscall { names: vec!["sethostname".into()], action: Action::Notify, ..Syscall::default() };
        spec.linux.as_mut().unwrap().seccomp = Some(Seccomp {
            default_action: Action::Allow,
            listener_path: Some(path.display().to_string()),
            syscalls: vec![rule],
            ..Seccomp::default()
        });
        let refused = runtime::create(bench.launch(spec.clone(), pipes().0)).unwrap_err().to_string();
        assert!(refused.contains("hooks"), "{refused}");
        let agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let waiting = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut agent.accept().unwrap().0, &mut text).unwrap();
            text
        });
        let identity = runtime::Identity { id: "named".into(), bundle: bench.base.clone() };
        let launch = Launch { identity: Some(identity.clone()), ..bench.launch(spec.clone(), pipes().0) };
        let init = runtime::create(launch).unwrap().start().unwrap();
        let told = waiting.join().unwrap();
        assert!(told.contains("seccompFd") && told.contains(&format!("\"pid\":{}", init.pid)), "{told}");
        bench.stop(&init);
        runtime::ended(&spec, &identity);
        let order = std::fs::read_to_string(&log).unwrap();
        assert_eq!(order, "prestart\ncreateRuntime\npoststart\npoststop\n");
        std::fs::remove_file(log).unwrap();
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
#[ignore = "root: makes network devices"]
fn network_devices_come_with_their_addresses_or_stay() {
    let outcome = sys::namespace::fresh(&[sys::namespace::Namespace::Network], || {
        let ip = |words: &str| {
            let output = std::process::Command::new("ip").args(words.split(' ')).output().unwrap();
            assert!(output.status.success(), "{words}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        ip("link add one type veth peer name two");
        ip("address add 10.9.8.7/24 dev one");
        ip("address add fd00::7/64 dev one nodad");
        let bench = Bench::new(Switch::Pivot);
        let mut spec = bench.spec(&["busybox", "ip", "address", "show", "eth7"]);
        let linux = spec.linux.as_mut().unwrap();
        linux.namespaces.retain(|one| one.kind != NamespaceKind::Network);
        linux.namespaces.push(Namespace::new(NamespaceKind::Network));
        let device = |name: &str| oci::runtime::NetDevice { name: Some(name.into()) };
        linux.net_devices = [("one".into(), device("eth7")), ("zero".into(), device("eth8"))].into();
        let refused = bench.run_spec(spec.clone()).unwrap_err().to_string();
        assert!(refused.contains("zero as eth8") || refused.contains("network device"), "{refused}");
        // The first one is back, with what it had.
        assert!(ip("address show one").contains("10.9.8.7/24"));
        spec.linux.as_mut().unwrap().net_devices.remove("zero");
        let said = bench.run_spec(spec).unwrap().stdout;
        assert!(["10.9.8.7/24", "fd00::7/64", "UP"].iter().all(|part| said.contains(part)), "{said}");
        assert!(!ip("link show").contains(" one"));
    });
    outcome.unwrap();
}

#[test]
#[ignore = "root: mounts a root file system"]
fn what_is_missing_is_told_before_the_cgroup_is_made() {
    both(|bench| {
        let missing = |spec: oci::runtime::Spec| {
            let (stdio, _) = pipes();
            // A cgroup that cannot be: to make it would be the error.
            let launch = Launch { cgroup: Some("/../x".to_owned()), ..bench.launch(spec, stdio) };
            runtime::create(launch).unwrap_err().to_string()
        };
        let missed = missing(bench.spec(&["nosuch"]));
        assert_eq!(missed, "exec: \"nosuch\": executable file not found in $PATH");
        let mut spec = bench.spec(&["true"]);
        let bind = Mount {
            destination: "/data".into(),
            kind: Some("bind".into()),
            source: Some("/nonexistent".into()),
            ..Default::default()
        };
        spec.mounts.push(bind);
        let missed = missing(spec);
        let expect = "error mounting \"/nonexistent\" to rootfs at \"/data\": no such file or directory";
        assert_eq!(missed, expect);
        let otherwise = missing(bench.spec(&["true"]));
        assert_eq!(otherwise, "invalid cgroup path \"/../x\"");
    });
}
