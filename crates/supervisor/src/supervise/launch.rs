//! Starting the container: the first time, and again by the restart policy.

use super::run::Run;
use super::{Phase, Supervisor, now};
use crate::foreign::{Foreign, Made, Order};
use crate::poller::{Interest, Source};
use crate::protocol::{ImageUser, Overlay, Reply, Resolver, Rootfs};
use crate::streams::{Ends, InputEnd, Streams, input_pipe, output_pipe};
use base::{Classify, Kind};
use cgroups::Cgroup;
use cgroups::systemd::{Instance, Scope};
use logs::{Defaults, Driver, Writer};
use oci::runtime::NamespaceKind;
use rustix::fs::Mode;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

/// Why a process could not be started, as the daemon is told.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) exit_code: i32,
}

/// Docker's exit code for what is neither "not found" nor "not executable".
const OTHER_FAILURE: i32 = 128;

impl Failure {
    pub(super) fn new(error: &(impl Classify + std::error::Error)) -> Self {
        Self { kind: error.kind(), message: base::chain(error), exit_code: OTHER_FAILURE }
    }

    pub(crate) fn system(what: &str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self {
            kind: Kind::Internal,
            message: format!("{what}: {}", sys::message(errno)),
            exit_code: OTHER_FAILURE,
        }
    }

    pub(crate) fn io(what: &str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::system(what)(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// As [`Failure::system`], for a call that says itself what it was about.
    pub(crate) fn call(what: &str) -> impl FnOnce(sys::Error) -> Self {
        let what = what.to_owned();
        move |error| Self::internal(format!("{what}: {}", base::chain(&error)))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { kind: Kind::Internal, message: message.into(), exit_code: OTHER_FAILURE }
    }

    pub(crate) fn invalid(message: String) -> Self {
        Self { kind: Kind::InvalidArgument, message, exit_code: OTHER_FAILURE }
    }

    pub(super) fn conflict(message: &str) -> Self {
        Self { kind: Kind::Conflict, message: message.to_owned(), exit_code: OTHER_FAILURE }
    }

    pub(crate) fn runtime(error: &runtime::Error) -> Self {
        Self { kind: error.kind(), message: base::chain(error), exit_code: error.exit_code() }
    }

    pub(super) fn into_reply(self) -> Reply {
        Reply::Failed { kind: self.kind, message: self.message, exit_code: self.exit_code }
    }

    /// The answer to a request that starts nothing.
    pub(super) fn into_refusal(self) -> Reply {
        Reply::Error { kind: self.kind, message: self.message }
    }
}

impl Supervisor {
    /// Does what is done once: takes the descriptors, opens the log, listens. Returns the clients.
    pub(super) fn prepare(
        &mut self,
        descriptors: Vec<OwnedFd>,
        resolver: Option<Resolver>,
    ) -> Result<Vec<OwnedFd>, Failure> {
        let mut descriptors = descriptors.into_iter();
        if self.launch.netns {
            self.netns = descriptors.next();
        }
        if self.launch.users {
            self.users = descriptors.next();
        }
        let sockets: Vec<OwnedFd> = descriptors.by_ref().take(self.launch.ports.len()).collect();
        let clients: Vec<OwnedFd> = descriptors.collect();
        if sockets.len() != self.launch.ports.len()
            || clients.len() != self.launch.attach.len()
            || self.launch.netns != self.netns.is_some()
            || self.launch.users != self.users.is_some()
        {
            return Err(Failure {
                kind: Kind::InvalidArgument,
                message: "descriptors do not match the launch message".to_owned(),
                exit_code: OTHER_FAILURE,
            });
        }
        self.open_log()?;
        if let Some(known) = resolver {
            self.set_resolver(known)?;
        }
        self.listen_on_ports(sockets)?;
        self.listen()?;
        if let Some(runtime) = self.launch.runtime.clone() {
            let id = self.launch.id.to_string();
            self.foreign = Some(Rc::new(Foreign::prepare(runtime, &self.launch.exec_dir, id)?));
        }
        Ok(clients)
    }

    fn open_log(&mut self) -> Result<(), Failure> {
        let log = &self.launch.log;
        let defaults = if log.docker_defaults { Defaults::Docker } else { Defaults::Bounded };
        // Docker's words: "failed to create task for container: failed to initialize logging driver: …".
        let failed = |error: logs::Error| Failure {
            message: format!("failed to initialize logging driver: {}", base::chain(&error)),
            ..Failure::new(&error)
        };
        let driver = Driver::new(&log.driver, &log.options, defaults).map_err(failed)?;
        self.log = Writer::open(&driver, &log.path, log.origin.clone()).map_err(failed)?;
        Ok(())
    }

    fn listen(&mut self) -> Result<(), Failure> {
        let path = self.socket_path();
        let failed = |error: sys::Error| Failure {
            kind: Kind::Internal,
            message: format!("listen for daemons: {}", base::chain(&error)),
            exit_code: OTHER_FAILURE,
        };
        // Only for root, from the moment it is there.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = sys::socket::listen_seqpacket(&path);
        rustix::process::umask(before);
        let listener = listener.map_err(failed)?;
        self.poller
            .add(&listener, Source::Listener, Interest::READ)
            .map_err(Failure::system("watch for daemons"))?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Returns where daemons find this supervisor.
    pub(super) fn socket_path(&self) -> std::path::PathBuf {
        self.launch.exec_dir.join("supervisor.sock")
    }

    /// Starts the container with these clients attached.
    pub(super) fn start(&mut self, clients: Vec<OwnedFd>) -> Result<(), Failure> {
        let number = self.take_number();
        let terminal = self.launch.spec.process.as_ref().is_some_and(|process| process.terminal);
        let (stdio, mut ends) = stdio(terminal, self.launch.open_stdin)?;
        let mut created = self.create(stdio)?;
        let pid = created.pid();
        let foreign = created.foreign();
        let master = created.take_terminal();
        if let Some(master) = master {
            ends = Ends::of_terminal(master).map_err(Failure::system("set up terminal"))?;
        }
        let input_end = if self.launch.stdin_once { InputEnd::WithClient } else { InputEnd::WithProcess };
        let streams = Streams::new(number, ends, terminal, input_end, &self.poller)
            .map_err(Failure::system("watch output"))?;
        self.streams.insert(number, streams);
        let options = self.launch.attach.clone();
        for (socket, options) in clients.into_iter().zip(options) {
            self.attach(number, socket, options).map_err(Failure::system("attach client"))?;
        }
        let (started_at, begun) = (now(), Instant::now());
        let init = match created.start() {
            Ok(init) => init,
            Err(error) => {
                self.streams.remove(&number);
                return Err(error);
            }
        };
        if let Err(errno) = self.poller.add(&init.pidfd, Source::Exit(number), Interest::READ) {
            // Nobody would notice its end.
            sys::pidfd::kill(init.pidfd.as_fd()).ok();
            self.streams.remove(&number);
            return Err(Failure::system("watch for the container's end")(errno));
        }
        self.phase = Phase::Running(Box::new(Run {
            number,
            pid,
            pidfd: init.pidfd,
            cgroup: init.cgroup,
            foreign,
            mounts: None,
            memory: None,
            started_at,
            begun,
            paused: false,
            held_by: None,
            stop: None,
            by_user: false,
            restart: None,
            again: false,
            end: None,
        }));
        Ok(())
    }

    /// Does what a start needs but nobody waits for.
    pub(super) fn settle(&mut self) {
        let Phase::Running(run) = &mut self.phase else { return };
        // It may have ended already: its namespaces are gone then.
        run.mounts = sys::namespace::open(Path::new(&format!("/proc/{}/ns/mnt", run.pid))).ok();
        let begun = run.begun;
        self.watch_memory();
        self.begin_probes(begun);
    }

    /// Attaches a client to the streams `number`.
    pub(super) fn attach(
        &mut self,
        number: crate::poller::Number,
        socket: OwnedFd,
        options: crate::protocol::AttachOptions,
    ) -> Result<(), Errno> {
        let index = self.take_client_number();
        match self.streams.get_mut(&number) {
            Some(streams) => streams.attach(index, socket, options, &self.poller),
            None => Ok(()),
        }
    }

    /// Makes the container, by our own runtime or by another. Once only, it goes on from an image if there is one.
    fn create(&mut self, stdio: runtime::Stdio) -> Result<Created, Failure> {
        let image = self.launch.restore.take();
        if let (Some(image), None) = (&image, &self.foreign) {
            return self.restore(image, stdio).map(Created::Restored);
        }
        let Some(foreign) = &self.foreign else {
            let created = runtime::create(self.runtime_launch(stdio)?);
            return created
                .map(|made| Created::Ours(Box::new(made)))
                .map_err(|error| Failure::runtime(&error));
        };
        let order = Order {
            spec: &self.launch.spec,
            rootfs: &self.launch.rootfs,
            user: self.launch.user.as_ref().map(image_user),
            create_cwd: self.launch.create_cwd,
            netns: self.netns.as_ref().map(AsFd::as_fd),
            restore: image.as_deref(),
        };
        let made = foreign.create(&order, stdio)?;
        let linux = self.launch.spec.linux.as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path.as_deref()).unwrap_or_default();
        let id = self.launch.id.to_string();
        let place = if self.launch.systemd {
            Scope::parse(path, &id, Instance::System).and_then(|scope| scope.path())
        } else {
            Ok(path.to_owned())
        };
        let cgroup = place
            .and_then(|path| Cgroup::open(&cgroups::Manager::detect()?, &path))
            .map_err(|error| Failure::new(&runtime::Error::Cgroup(error)));
        match cgroup {
            Ok(cgroup) => {
                Ok(Created::Foreign { foreign: Rc::clone(foreign), made, cgroup, runs: image.is_some() })
            }
            Err(failure) => {
                foreign.delete();
                Err(failure)
            }
        }
    }

    /// Has our own runtime make the container's processes from an image.
    fn restore(&self, image: &Path, stdio: runtime::Stdio) -> Result<runtime::Init, Failure> {
        let runtime::Stdio::Streams { stdin, stdout, stderr } = stdio else {
            return Err(Failure::invalid("a container with a terminal cannot be restored".to_owned()));
        };
        // The root is mounted for CRIU where the host does not see it.
        let failed = || Failure::call("prepare to restore");
        sys::namespace::unshare(&[sys::namespace::Namespace::Mount]).map_err(failed())?;
        sys::mount::follow().map_err(failed())?;
        let order = runtime::command::Restore {
            image: image.to_owned(),
            work: self.launch.exec_dir.clone(),
            identity: self.identity(),
            spec: self.spec_here(),
            rootfs: rootfs(&self.launch.rootfs),
            systemd: self.launch.systemd,
            streams: [stdin, stdout, stderr],
        };
        runtime::command::restore(order).map_err(|error| Failure::runtime(&error))
    }

    /// The document with the namespaces that this process holds.
    fn spec_here(&self) -> oci::runtime::Spec {
        let mut spec = self.launch.spec.clone();
        for namespace in spec.linux.iter_mut().flat_map(|linux| &mut linux.namespaces) {
            let held = match namespace.kind {
                NamespaceKind::Network => &self.netns,
                NamespaceKind::User => &self.users,
                _ => continue,
            };
            if let Some(held) = held {
                namespace.path = Some(format!("/proc/self/fd/{}", held.as_raw_fd()));
            }
        }
        spec
    }

    /// What the container is called, for hooks and listeners.
    pub(super) fn identity(&self) -> runtime::Identity {
        runtime::Identity { id: self.launch.id.to_string(), bundle: self.launch.exec_dir.clone() }
    }

    fn runtime_launch(&self, stdio: runtime::Stdio) -> Result<runtime::Launch, Failure> {
        let empty = self.empty.try_clone().map_err(Failure::io("hand over mount namespace"))?;
        Ok(runtime::Launch {
            spec: self.spec_here(),
            rootfs: rootfs(&self.launch.rootfs),
            stdio,
            root_switch: runtime::RootSwitch::Empty(empty),
            user: self.launch.user.as_ref().map(image_user),
            create_cwd: self.launch.create_cwd,
            cgroup: None,
            systemd: self.launch.systemd,
            identity: Some(self.identity()),
        })
    }
}

/// A container whose program has not begun.
enum Created {
    Ours(Box<runtime::Created>),
    /// By our own runtime; it runs already.
    Restored(runtime::Init),
    /// `runs` if it was restored.
    Foreign {
        foreign: Rc<Foreign>,
        made: Made,
        cgroup: Cgroup,
        runs: bool,
    },
}

impl Created {
    fn pid(&self) -> i32 {
        match self {
            Self::Ours(created) => created.pid(),
            Self::Restored(init) => init.pid,
            Self::Foreign { made, .. } => made.pid,
        }
    }

    fn foreign(&self) -> Option<Rc<Foreign>> {
        match self {
            Self::Ours(_) | Self::Restored(_) => None,
            Self::Foreign { foreign, .. } => Some(Rc::clone(foreign)),
        }
    }

    fn take_terminal(&mut self) -> Option<OwnedFd> {
        match self {
            Self::Ours(created) => created.take_terminal(),
            Self::Restored(_) => None,
            Self::Foreign { made, .. } => made.terminal.take(),
        }
    }

    /// Lets the program begin.
    fn start(self) -> Result<runtime::Init, Failure> {
        match self {
            Self::Ours(created) => created.start().map_err(|error| Failure::runtime(&error)),
            Self::Restored(init) => Ok(init),
            Self::Foreign { foreign, made, cgroup, runs } => {
                match if runs { Ok(()) } else { foreign.start() } {
                    Ok(()) => Ok(runtime::Init { pid: made.pid, pidfd: made.pidfd, cgroup }),
                    Err(failure) => {
                        foreign.delete();
                        Err(failure)
                    }
                }
            }
        }
    }
}

fn rootfs(rootfs: &Rootfs) -> runtime::Rootfs {
    match rootfs {
        Rootfs::Path(path) => runtime::Rootfs::Path(path.clone()),
        Rootfs::Overlay(Overlay { lower, upper, work, volatile, owners }) => {
            runtime::Rootfs::Overlay(runtime::Overlay {
                lower: lower.clone(),
                upper: upper.clone(),
                work: work.clone(),
                volatile: *volatile,
                owners: owners.clone(),
            })
        }
    }
}

pub(super) fn image_user(user: &ImageUser) -> runtime::ImageUser {
    runtime::ImageUser { user: user.user.clone(), groups: user.groups.clone() }
}

/// Makes the streams of a process: what it gets, and our ends.
fn stdio(terminal: bool, open_stdin: bool) -> Result<(runtime::Stdio, Ends), Failure> {
    if terminal {
        return Ok((runtime::Stdio::Terminal, Ends::default()));
    }
    let failed = || Failure::system("make pipes");
    let (output, stdout) = output_pipe().map_err(failed())?;
    let (error_output, stderr) = output_pipe().map_err(failed())?;
    let (input, stdin) = if open_stdin {
        let (input, stdin) = input_pipe().map_err(failed())?;
        (Some(input), stdin)
    } else {
        (None, null()?)
    };
    let ends = Ends { input, output: Some(output), error_output: Some(error_output) };
    Ok((runtime::Stdio::Streams { stdin, stdout, stderr }, ends))
}

pub(super) fn null() -> Result<OwnedFd, Failure> {
    crate::zygote::null()
        .map_err(|error| Failure::system("open /dev/null")(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}
