//! A container to try things in: busybox, Docker's mounts, one cgroup for each test.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use cgroups::Cgroup;
use oci::runtime::{Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec};
use runtime::{Created, ImageUser, Init, Join, Launch, Overlay, RootSwitch, Rootfs, Stdio};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A root file system and the cgroup of one test.
pub(crate) struct Bench {
    pub(crate) base: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) switch: Switch,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Switch {
    Pivot,
    Empty,
}

/// What a finished process has said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new(switch: Switch) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wharf-runtime-{}-{number}", std::process::id());
        let base = std::env::temp_dir().join(&name);
        let lower = base.join("lower");
        for directory in ["bin", "etc", "tmp", "proc", "dev", "sys", "root"] {
            std::fs::create_dir_all(lower.join(directory)).unwrap();
        }
        std::fs::create_dir_all(base.join("upper")).unwrap();
        std::fs::create_dir_all(base.join("work")).unwrap();
        std::fs::hard_link("/bin/busybox", lower.join("bin/busybox"))
            .or_else(|_| std::fs::copy("/bin/busybox", lower.join("bin/busybox")).map(drop))
            .unwrap();
        let applets = [
            "sh", "ls", "cat", "id", "echo", "true", "false", "sleep", "pwd", "mount", "grep", "stat",
            "mknod", "hostname", "tty", "touch", "mkdir", "ps", "kill", "dd", "umount", "ln", "stty", "env",
            "head", "wc", "chroot", "unshare", "sort", "tr", "readlink", "test", "rm",
        ];
        for applet in applets {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        std::fs::write(
            lower.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n1234:x:0:0:trap:/:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(lower.join("etc/group"), "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann\n").unwrap();
        Self { base, cgroup: format!("/{name}/c"), switch }
    }

    pub(crate) fn lower(&self) -> PathBuf {
        self.base.join("lower")
    }

    pub(crate) fn rootfs(&self) -> Rootfs {
        Rootfs::Overlay(Overlay {
            lower: vec![self.lower()],
            upper: self.base.join("upper"),
            work: self.base.join("work"),
            volatile: true,
            owners: None,
        })
    }

    /// Docker's usual document for `arguments`.
    pub(crate) fn spec(&self, arguments: &[&str]) -> Spec {
        document(arguments)
    }

    pub(crate) fn launch(&self, spec: Spec, stdio: Stdio) -> Launch {
        Launch {
            spec,
            rootfs: self.rootfs(),
            stdio,
            root_switch: match self.switch {
                Switch::Pivot => RootSwitch::Pivot,
                Switch::Empty => RootSwitch::Empty(sys::namespace::empty_mount_namespace().unwrap()),
            },
            user: None,
            create_cwd: true,
            cgroup: Some(self.cgroup.clone()),
            systemd: false,
            identity: None,
        }
    }

    /// Runs `arguments` to the end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_spec(self.spec(arguments)).unwrap()
    }

    /// Runs a shell script to the end; it must say nothing on standard error.
    pub(crate) fn shell(&self, script: &str) -> String {
        let output = self.run(&["sh", "-c", script]);
        assert_eq!(output.stderr, "", "{script}: {output:?}");
        output.stdout
    }

    pub(crate) fn run_spec(&self, spec: Spec) -> Result<Output, runtime::Error> {
        self.run_as(spec, None)
    }

    pub(crate) fn run_as(&self, spec: Spec, user: Option<ImageUser>) -> Result<Output, runtime::Error> {
        let (stdio, streams) = pipes();
        let launch = Launch { user, ..self.launch(spec, stdio) };
        let init = runtime::create(launch).and_then(Created::start)?;
        Ok(finish(&init, streams))
    }

    /// Starts something that lasts.
    pub(crate) fn start(&self, spec: Spec) -> Init {
        let (stdio, _) = pipes();
        runtime::create(self.launch(spec, stdio)).unwrap().start().unwrap()
    }

    /// Ends what [`Bench::start`] began.
    pub(crate) fn stop(&self, init: &Init) {
        sys::pidfd::kill(init.pidfd.as_fd()).unwrap();
        sys::pidfd::wait(init.pidfd.as_fd()).unwrap();
        init.cgroup.delete().unwrap();
    }

    pub(crate) fn join<'a>(&self, init: &'a Init, process: Process, stdio: Stdio) -> Join<'a> {
        Join {
            init_pid: init.pid,
            init_pidfd: init.pidfd.as_fd(),
            process,
            seccomp: None,
            stdio,
            user: None,
            cgroup: &init.cgroup,
            identity: None,
        }
    }

    /// Runs `arguments` in a running container.
    pub(crate) fn exec(&self, init: &Init, process: Process) -> Result<Output, runtime::Error> {
        let (stdio, (out, err)) = pipes();
        let joined = runtime::exec(self.join(init, process, stdio))?;
        let stdout = read(&out);
        let stderr = read(&err);
        let code = sys::pidfd::wait(joined.pidfd.as_fd()).unwrap().code();
        Ok(Output { code, stdout, stderr })
    }

    pub(crate) fn process(&self, arguments: &[&str]) -> Process {
        self.spec(arguments).process.unwrap()
    }
}

/// Docker's usual document for `arguments`.
pub(crate) fn document(arguments: &[&str]) -> Spec {
    let mount = |destination: &str, kind: &str, options: &str| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(kind.into()),
        options: options.split(',').map(str::to_owned).collect(),
        ..Mount::default()
    };
    let names: Vec<String> = DEFAULT_CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
    Spec {
        oci_version: oci::runtime::VERSION.into(),
        process: Some(Process {
            args: arguments.iter().map(|&one| one.into()).collect(),
            env: vec!["PATH=/usr/bin:/bin".into()],
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: names.clone(),
                effective: names.clone(),
                permitted: names,
                ..Capabilities::default()
            }),
            oom_score_adj: Some(0),
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        hostname: Some("box".into()),
        mounts: vec![
            mount("/proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
            mount("/sys/fs/cgroup", "cgroup", "nosuid,noexec,nodev,ro"),
            mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
            mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        ],
        linux: Some(Linux {
            namespaces: [
                NamespaceKind::Mount,
                NamespaceKind::Network,
                NamespaceKind::Uts,
                NamespaceKind::Pid,
                NamespaceKind::Ipc,
            ]
            .into_iter()
            .map(Namespace::new)
            .collect(),
            masked_paths: MASKED.iter().map(|&path| path.into()).collect(),
            readonly_paths: READ_ONLY.iter().map(|&path| path.into()).collect(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let hierarchy = cgroups::Manager::detect().unwrap();
        let parent = Path::new(&self.cgroup).parent().unwrap().to_str().unwrap().to_owned();
        let group = Cgroup::open(&hierarchy, &parent).unwrap();
        if std::thread::panicking() {
            group.kill().ok();
            group.delete().ok();
            std::fs::remove_dir_all(&self.base).ok();
            return;
        }
        assert!(!Cgroup::open(&hierarchy, &self.cgroup).unwrap().exists(), "a cgroup was left behind");
        group.delete().unwrap();
        std::fs::remove_dir_all(&self.base).unwrap();
    }
}

/// Reads to the end, and ends.
pub(crate) fn finish(init: &Init, (out, err): (OwnedFd, OwnedFd)) -> Output {
    let stdout = read(&out);
    let stderr = read(&err);
    let code = sys::pidfd::wait(init.pidfd.as_fd()).unwrap().code();
    init.cgroup.delete().unwrap();
    Output { code, stdout, stderr }
}

pub(crate) fn read(fd: &OwnedFd) -> String {
    String::from_utf8_lossy(&sys::path::read_fd_to_end(fd.as_fd(), 1 << 20).unwrap()).into_owned()
}

/// Pipes for a process, and our ends.
pub(crate) fn pipes() -> (Stdio, (OwnedFd, OwnedFd)) {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (out, stdout) = pipe();
    let (err, stderr) = pipe();
    let (stdin, _) = pipe();
    (Stdio::Streams { stdin, stdout, stderr }, (out, err))
}

pub(crate) const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
