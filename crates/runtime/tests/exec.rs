//! Further processes in running containers.

mod common;

use common::{Bench, Switch};
use runtime::Stdio;
use std::os::fd::AsFd;

fn both(test: impl Fn(&Bench, &runtime::Init)) {
    for switch in [Switch::Pivot, Switch::Empty] {
        let bench = Bench::new(switch);
        let init = bench.start(bench.spec(&["sleep", "100"]));
        test(&bench, &init);
        bench.stop(&init);
    }
}

#[test]
#[ignore = "root: runs containers"]
fn a_process_joins_everything() {
    both(|bench, init| {
        let script = "hostname; ls /; ps | grep -v ps; cat /proc/self/cgroup | grep memory; grep -E 'CapEff|CapInh' /proc/self/status; \
                      for n in mnt uts ipc net pid cgroup; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo differ $n; done; exit 5";
        let output = bench.exec(init, bench.process(&["sh", "-c", script])).unwrap();
        assert_eq!(output.code, 5);
        assert_eq!(output.stderr, "");
        assert!(output.stdout.starts_with("box\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n"), "{output:?}");
        assert!(output.stdout.contains(&format!(":memory:{}\n", bench.cgroup)), "{output:?}");
        assert!(
            output.stdout.contains("CapInh:\t0000000000000000\nCapEff:\t00000000a80425fb\n"),
            "{output:?}"
        );
        assert!(!output.stdout.contains("differ"), "{output:?}");
    });
}

#[test]
#[ignore = "root: runs containers"]
fn failures_and_users_are_as_in_create() {
    both(|bench, init| {
        let error = bench.exec(init, bench.process(&["nosuch"])).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            ("exec: \"nosuch\": executable file not found in $PATH", 127)
        );
        let error = bench.exec(init, bench.process(&["/etc"])).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("exec: \"/etc\": is a directory", 126));
        let (stdio, (out, _err)) = common::pipes();
        let mut join =
            bench.join(init, bench.process(&["sh", "-c", "id; echo $HOME; echo x > /proc/self/fd/1"]), stdio);
        join.user = Some(runtime::ImageUser { user: "ann:0".into(), groups: vec!["10".into()] });
        let joined = runtime::exec(join).unwrap();
        assert_eq!(common::read(&out), "uid=1000(ann) gid=0(root) groups=0(root),10(wheel)\n/home/ann\nx\n");
        sys::pidfd::wait(joined.pidfd.as_fd()).unwrap();
    });
}

#[test]
#[ignore = "root: runs containers"]
fn a_terminal_comes_from_the_containers_devpts() {
    both(|bench, init| {
        let mut process = bench.process(&["sh", "-c", "tty; stty size"]);
        process.console_size = Some(oci::runtime::ConsoleSize { height: 10, width: 20 });
        let joined = runtime::exec(bench.join(init, process, Stdio::Terminal)).unwrap();
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = rustix::io::read(joined.terminal.as_ref().unwrap(), &mut buffer) {
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        assert_eq!(text, "/dev/pts/0\r\n10 20\r\n");
        assert_eq!(sys::pidfd::wait(joined.pidfd.as_fd()).unwrap().code(), 0);
    });
}

#[test]
#[ignore = "root: runs containers"]
fn nothing_leaks_into_the_process() {
    both(|bench, init| {
        let output =
            bench.exec(init, bench.process(&["sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"])).unwrap();
        assert_eq!(output.stdout, "0 1 2 3 ");
        for number in 0..20 {
            let mut process = bench.process(&["ls"]);
            process.cwd = format!("/proc/self/fd/{number}");
            assert!(bench.exec(init, process).is_err());
        }
    });
}

#[test]
#[ignore = "root: runs containers"]
fn a_container_that_is_gone_cannot_be_joined() {
    let bench = Bench::new(Switch::Empty);
    let init = bench.start(bench.spec(&["true"]));
    sys::pidfd::ended_within(init.pidfd.as_fd(), std::time::Duration::from_secs(5)).unwrap();
    assert!(bench.exec(&init, bench.process(&["true"])).is_err());
    sys::pidfd::wait(init.pidfd.as_fd()).unwrap();
    assert!(bench.exec(&init, bench.process(&["true"])).is_err());
    init.cgroup.delete().unwrap();
}
