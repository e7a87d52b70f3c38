//! Containers where openat2(2) is denied, as by the filters of older engines around this one, or unknown.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]

mod common;

use common::{Bench, Output, Switch};
use oci::runtime::{Mount, Process};
use runtime::Stdio;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use sys::seccomp::Instruction;

const OPENAT2: u32 = 437;

/// Runs `test` on a thread for which openat2(2) fails with `errno`, and for all that it starts.
fn denied(errno: u32, test: impl FnOnce() + Send + 'static) {
    let run = move || {
        let instruction = |code, jump_false, k| Instruction { code, jump_true: 0, jump_false, k };
        // seccomp(2): the number of the call, compared, and what is done then.
        let filter = [
            instruction(0x20, 0, 0),
            instruction(0x15, 1, OPENAT2),
            instruction(0x06, 0, 0x0005_0000 | errno),
            instruction(0x06, 0, 0x7fff_0000),
        ];
        sys::seccomp::install(&filter, 0).unwrap();
        let root = sys::path::open_directory("/".as_ref()).unwrap();
        let (flags, resolve) = (rustix::fs::OFlags::PATH, rustix::fs::ResolveFlags::IN_ROOT);
        let opened = rustix::fs::openat2(&root, "etc", flags, rustix::fs::Mode::empty(), resolve);
        assert_eq!(opened.unwrap_err().raw_os_error().cast_unsigned(), errno);
        test();
    };
    std::thread::spawn(run).join().unwrap();
}

#[test]
#[ignore = "root: runs containers"]
fn containers_run_and_are_joined_without_openat2() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        for switch in [Switch::Pivot, Switch::Empty] {
            denied(errno.cast_unsigned(), move || one_container(switch));
        }
    }
}

fn one_container(switch: Switch) {
    let bench = Bench::new(switch);
    let lower = bench.lower();
    std::fs::create_dir_all(lower.join("data/inner")).unwrap();
    symlink("../../../../data", lower.join("etc/link")).unwrap();
    symlink("/data/inner", lower.join("work")).unwrap();
    symlink("/dangling/deep", lower.join("hole")).unwrap();
    let volume = bench.base.join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("here"), "yes\n").unwrap();
    let bind = |destination: &str| Mount {
        destination: destination.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(volume.display().to_string()),
        options: vec!["rbind".to_owned()],
        ..Mount::default()
    };
    // Links lead beneath the root, whatever they say; what is missing is made there.
    let script = "cat /data/volume/here /dangling/deep/here; pwd; cat /proc/interrupts";
    let mut spec = bench.spec(&["sh", "-c", script]);
    spec.mounts.extend([bind("/etc/link/volume"), bind("/hole")]);
    spec.process.as_mut().unwrap().cwd = "/work".to_owned();
    let output = bench.run_spec(spec.clone()).unwrap();
    assert_eq!(output, Output { code: 0, stdout: "yes\nyes\n/data/inner\n".into(), stderr: String::new() });
    spec.process.as_mut().unwrap().cwd = "/proc/self/cwd".to_owned();
    let error = bench.run_spec(spec).unwrap_err().to_string();
    assert!(error.starts_with("error during container init: "), "{error}");
    let init = bench.start(bench.spec(&["sleep", "100"]));
    let process = Process { cwd: "/work/..".to_owned(), ..bench.process(&["sh", "-c", "pwd; tty"]) };
    let joined = runtime::exec(bench.join(&init, process, Stdio::Terminal)).unwrap();
    let mut buffer = [0; 1024];
    let mut text = String::new();
    while let Ok(length @ 1..) = rustix::io::read(joined.terminal.as_ref().unwrap(), &mut buffer) {
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    assert_eq!(text, "/data\r\n/dev/pts/0\r\n");
    sys::pidfd::wait(joined.pidfd.as_fd()).unwrap();
    bench.stop(&init);
}
