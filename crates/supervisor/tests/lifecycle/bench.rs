//! A zygote, a root file system, and containers to be.

use base::{ContainerId, ExecId};
use oci::runtime::{Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use supervisor::protocol::{
    AttachOptions, Event, Exec, ExitRecord, Launch, LogConfig, Overlay, Reply, Request, RestartPolicy, Rootfs,
};
use supervisor::{Connection, EventStream, StartError, Started, Zygote};
use sys::namespace::Namespace as Kind;

const APPLETS: [&str; 17] = [
    "sh", "true", "false", "cat", "echo", "sleep", "stty", "head", "yes", "kill", "id", "ls", "dd", "touch",
    "seq", "tty", "nslookup",
];

pub(crate) struct Bench {
    pub(crate) zygote: Zygote,
    directory: PathBuf,
    lower: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        // What the test mounts is seen by nobody else, and gone with it.
        sys::namespace::unshare(&[Kind::Mount]).expect("unshare");
        sys::mount::isolate().expect("isolate");
        let directory = std::env::temp_dir().join(format!("wharf-supervisor-{}", std::process::id()));
        let lower = directory.join("lower");
        fs::create_dir_all(lower.join("bin")).unwrap();
        for name in ["dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir(lower.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", lower.join("bin/busybox")).expect("a static busybox");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n")
            .unwrap();
        let zygote = Zygote::spawn(&std::env::current_exe().unwrap()).expect("zygote");
        Self { zygote, directory, lower }
    }

    /// Makes a container that runs `script`.
    pub(crate) fn container(&self, script: &str) -> Container<'_> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let id = ContainerId::from_bytes([NEXT.fetch_add(1, Ordering::Relaxed); 32]);
        let data = self.directory.join(id.short());
        let exec_dir = data.join("exec");
        for path in [data.join("upper"), data.join("work"), exec_dir.clone()] {
            fs::create_dir_all(path).unwrap();
        }
        let launch = Launch {
            restore: None,
            systemd: false,
            runtime: None,
            id,
            spec: spec(script, &format!("/wharf-supervisor-test-{}/{}", std::process::id(), id.short())),
            rootfs: Rootfs::Overlay(Overlay {
                lower: vec![self.lower.clone()],
                upper: data.join("upper"),
                work: data.join("work"),
                volatile: true,
                owners: None,
            }),
            user: None,
            create_cwd: true,
            netns: false,
            users: false,
            open_stdin: false,
            stdin_once: false,
            attach: Vec::new(),
            log: LogConfig { path: data.join("log"), ..LogConfig::default() },
            restart: RestartPolicy::default(),
            restart_count: 0,
            exec_dir,
            ports: Vec::new(),
            stop_signal: None,
            health: None,
        };
        Container {
            bench: self,
            launch,
            sockets: Vec::new(),
            clients: Vec::new(),
            netns: None,
            resolver: None,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let hierarchy = cgroups::Manager::detect().unwrap();
        let parent = format!("/wharf-supervisor-test-{}", std::process::id());
        cgroups::Cgroup::open(&hierarchy, &parent).unwrap().delete().expect("cgroups are left");
        fs::remove_dir_all(&self.directory).expect("files are left");
    }
}

fn mount(kind: &str, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(kind.to_owned()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

pub(crate) fn process(script: &str) -> Process {
    let capabilities = || vec!["CAP_KILL".to_owned(), "CAP_SETUID".to_owned(), "CAP_SETGID".to_owned()];
    Process {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned(), "TERM=xterm".to_owned()],
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: capabilities(),
            effective: capabilities(),
            permitted: capabilities(),
            ..Capabilities::default()
        }),
        ..Process::default()
    }
}

fn spec(script: &str, cgroup: &str) -> Spec {
    let kinds = [
        NamespaceKind::Pid,
        NamespaceKind::Mount,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Network,
    ];
    Spec {
        oci_version: oci::runtime::VERSION.to_owned(),
        process: Some(process(script)),
        root: Some(Root { path: String::new(), readonly: false }),
        hostname: Some("test".to_owned()),
        mounts: vec![
            mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "devpts",
                "/dev/pts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
        ],
        linux: Some(Linux {
            cgroups_path: Some(cgroup.to_owned()),
            namespaces: kinds.map(Namespace::new).to_vec(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// A container to be started.
pub(crate) struct Container<'a> {
    bench: &'a Bench,
    pub(crate) launch: Launch,
    /// Those of published ports.
    pub(crate) sockets: Vec<OwnedFd>,
    clients: Vec<OwnedFd>,
    pub(crate) netns: Option<OwnedFd>,
    pub(crate) resolver: Option<supervisor::protocol::Resolver>,
}

impl Container<'_> {
    /// Attaches a client from the start.
    pub(crate) fn client(&mut self, options: AttachOptions) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.launch.attach.push(options);
        self.clients.push(theirs.into());
        ours
    }

    /// Gives it a terminal.
    pub(crate) fn terminal(&mut self) {
        self.launch.spec.process.as_mut().unwrap().terminal = true;
    }

    pub(crate) fn try_start(self) -> Result<Running, StartError> {
        let (connection, control) = Connection::pair().unwrap();
        let supervisor = self.bench.zygote.supervise(control, &self.launch.id.short()).unwrap();
        if let Some(known) = self.resolver {
            connection.done(&Request::Resolve(Box::new(known)), &[]).unwrap();
        }
        let descriptors: Vec<BorrowedFd<'_>> =
            self.netns.iter().chain(&self.sockets).chain(&self.clients).map(AsFd::as_fd).collect();
        let exec_dir = self.launch.exec_dir.clone();
        let log = self.launch.log.path.clone();
        let pidfd = sys::pidfd::open(supervisor).unwrap();
        let start = Instant::now();
        let (started, events) = connection.launch(Box::new(self.launch), &descriptors)?;
        let took = start.elapsed();
        Ok(Running { started, events: Some(events), exec_dir, log, supervisor, pidfd, took })
    }

    pub(crate) fn start(self) -> Running {
        self.try_start().unwrap_or_else(|error| panic!("start: {}", base::chain(&error)))
    }
}

/// A container that was started.
pub(crate) struct Running {
    pub(crate) started: Started,
    pub(crate) events: Option<EventStream>,
    pub(crate) exec_dir: PathBuf,
    log: PathBuf,
    pub(crate) supervisor: i32,
    pidfd: OwnedFd,
    pub(crate) took: Duration,
}

impl Running {
    pub(crate) fn connect(&self) -> Connection {
        Connection::connect(&self.exec_dir.join("supervisor.sock")).expect("connect")
    }

    pub(crate) fn event(&self) -> Event {
        self.events.as_ref().unwrap().next().unwrap().expect("an event")
    }

    /// Waits for the end for good.
    pub(crate) fn exit(&self) -> ExitRecord {
        loop {
            if let Event::Exited(record) = self.event() {
                let written = fs::read(self.exec_dir.join("exit.json")).expect("exit.json");
                assert_eq!(serde_json::from_slice::<ExitRecord>(&written).unwrap(), record);
                return record;
            }
        }
    }

    /// Waits until the supervisor is gone.
    pub(crate) fn gone(&self) {
        let ended = sys::pidfd::ended_within(self.pidfd.as_fd(), Duration::from_secs(15)).unwrap();
        assert!(ended, "the supervisor does not end");
        assert!(!self.exec_dir.join("supervisor.sock").exists());
    }

    /// Returns what is in the log.
    pub(crate) fn logged(&self) -> String {
        let driver = logs::Driver::new("", &BTreeMap::new(), logs::Defaults::default()).unwrap();
        let entries = logs::Reader::open(&driver, &self.log, logs::Query::default()).unwrap();
        entries.map(|entry| String::from_utf8(entry.unwrap().line).unwrap()).collect()
    }

    /// Runs `script` in the container with a client attached.
    pub(crate) fn exec(
        &self,
        number: u8,
        script: &str,
        options: AttachOptions,
        terminal: bool,
    ) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut process = process(script);
        process.terminal = terminal;
        let exec = Exec { id: exec_id(number), process, user: None, attach: Some(options) };
        match self.connect().call(&Request::Exec(Box::new(exec)), &[theirs.as_fd()]).unwrap() {
            Reply::ExecStarted { .. } => ours,
            other => panic!("exec: {other:?}"),
        }
    }
}

pub(crate) fn exec_id(number: u8) -> ExecId {
    ExecId::from_bytes([number; 32])
}

pub(crate) fn all_output() -> AttachOptions {
    AttachOptions { stdout: true, stderr: true, ..AttachOptions::default() }
}

pub(crate) fn interactive() -> AttachOptions {
    AttachOptions { stdin: true, detach_keys: vec![0x10, 0x11], ..all_output() }
}

/// Reads a stream to its end.
pub(crate) fn read_all(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `text` has come.
pub(crate) fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let mut got = String::new();
    let mut buffer = [0; 4096];
    while !got.contains(text) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the stream ended after {got:?}");
        got.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap()));
    }
    got
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the proportional memory of a process in KiB, and its dirty part.
pub(crate) fn memory(pid: i32) -> (u64, u64) {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps_rollup")).unwrap();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (value("Pss:"), value("Private_Dirty:"))
}
