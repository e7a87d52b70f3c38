//! Making a container's init, and letting it go.

use crate::channel::{self, Failure, Parent, Report, Signal};
use crate::child::{self, Between, Child};
use crate::finish::{Finish, Part};
use crate::listener::Agent;
use crate::prepare::{self, Extras, Prepared, UserNamespace, Wishes};
use crate::process::Program;
use crate::step::Step;
use crate::{Error, Launch, fault, hooks, inspect, net_devices};
use cgroups::systemd::{Instance, Scope};
use cgroups::{Cgroup, Hierarchy, Manager};
use oci::runtime::{DeviceRule, Hook, Hooks, Linux, Resources, State, Status, map_lines};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::path::PathBuf;
use sys::namespace::Visit;
use sys::process::Idle;
use sys::raw::{self, Cloned};

/// An init that stands ready before its program: mounts, cgroup and namespaces are done. Dropping it ends the init;
/// [`Created::abort`] removes its cgroup too.
#[derive(Debug)]
pub struct Created {
    child: ChildProcess,
    terminal: Option<OwnedFd>,
    program: Program,
    cgroup: Cgroup,
    agent: Option<Agent>,
    /// Those that are run once the program runs.
    poststart: Vec<Hook>,
    state: Option<State>,
}

/// A running init. It is a child of the caller, who reaps it.
#[derive(Debug)]
pub struct Init {
    /// Its number, as the caller sees it.
    pub pid: i32,
    /// Refers to it.
    pub pidfd: OwnedFd,
    /// The container's cgroup. The caller deletes it when the container has ended.
    pub cgroup: Cgroup,
}

/// Makes the container's init and returns when it is ready to execute its program.
///
/// The calling thread's namespaces are left as they were. On failure nothing is left behind.
///
/// # Errors
///
/// Any of [`Error`]; [`Error::exit_code`] tells what the container is said to have ended with.
pub fn create(launch: Launch) -> Result<Created, Error> {
    let written = || launch.spec.linux.as_ref().and_then(|linux| linux.cgroups_path.clone());
    let path = launch.cgroup.clone().or_else(written);
    let path = path.ok_or_else(|| Error::spec("the container has no cgroup path"))?;
    let hierarchy = Manager::detect().map_err(Error::Cgroup)?;
    let identity = launch.identity.clone();
    let state = identity.as_ref().map(|identity| identity.state(&launch.spec, Status::Creating, None));
    let extras = Extras { state: state.clone(), ..Extras::default() };
    prepare::refuse(&launch.spec, &extras)?;
    let root = prepare::open_root(&launch.rootfs)?;
    inspect::inspect(&launch.spec, root.as_fd())?;
    let (cgroup, holder) = if launch.systemd {
        let id = identity.as_ref().map(|identity| identity.id.as_str()).unwrap_or_default();
        let scope = Scope::parse(&path, id, Instance::System)
            .and_then(|scope| scope.with_annotations(&launch.spec.annotations))
            .map_err(Error::Cgroup)?;
        let none = Linux::default();
        let limits = resources(launch.spec.linux.as_ref().unwrap_or(&none), &Extras::default());
        let (cgroup, holder) = start_scope(&hierarchy, scope, &limits)?;
        (cgroup, Some(holder))
    } else {
        (Cgroup::create(&hierarchy, &path).map_err(Error::Cgroup)?, None)
    };
    let seccomp = launch.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let agent = Agent::of(seccomp, state.as_ref());
    let hooks = launch.spec.hooks.clone().unwrap_or_default();
    let made = build(launch, root, (&cgroup, None), &extras);
    drop(holder);
    if let Err(error) = &made {
        // The first error is the one to tell.
        cgroup.delete().ok();
        if let (Error::Hook { .. }, Some(state)) = (error, &state) {
            hooks::run(&hooks.poststop, &State { status: Status::Stopped, ..state.clone() }).ok();
        }
    }
    let (child, terminal, program) = made?;
    Ok(Created { child, terminal, program, cgroup, agent, poststart: hooks.poststart, state })
}

/// Starts a scope of a service manager; what holds it open is needed until the container's process is in it.
pub(crate) fn start_scope(
    hierarchy: &Hierarchy,
    scope: Scope,
    limits: &Resources,
) -> Result<(Cgroup, Idle), Error> {
    let holder = Idle::begin().map_err(Error::system("create new process"))?;
    fault::pass()?;
    let cgroup = Cgroup::start(hierarchy, scope, holder.pid(), limits).map_err(Error::Cgroup)?;
    if let Err(error) = fault::pass() {
        drop(holder);
        cgroup.delete().ok();
        return Err(error);
    }
    Ok((cgroup, holder))
}

/// An init that waits for its start without its parent.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) pid: i32,
    pub(crate) terminal: Option<OwnedFd>,
}

/// As [`create`], but the init waits for somebody to connect to `listener` and ask for the start ([`start_detached`]).
pub(crate) fn create_detached(
    launch: Launch,
    cgroup: &Cgroup,
    listener: &OwnedFd,
    extras: &Extras,
) -> Result<Detached, Error> {
    let root = prepare::open_root(&launch.rootfs)?;
    let (mut child, terminal, _) = build(launch, root, (cgroup, Some(listener.as_fd())), extras)?;
    // It lives on by itself.
    drop(child.pidfd.take());
    Ok(Detached { pid: child.pid, terminal })
}

/// Asks an init made by [`create_detached`] to execute its program; `socket` is connected to its listener, `process` is
/// the init and its number.
pub(crate) fn start_detached(
    socket: OwnedFd,
    program: &Program,
    agent: Option<&Agent>,
    (process, pid): (BorrowedFd<'_>, i32),
) -> Result<(), Error> {
    let channel = Parent::from_socket(socket);
    channel.send(Signal::Start);
    await_start(&channel, program, agent, (Some(process), pid))
}

type Built = (ChildProcess, Option<OwnedFd>, Program);

fn build(
    launch: Launch,
    root: OwnedFd,
    (cgroup, listener): (&Cgroup, Option<BorrowedFd<'_>>),
    extras: &Extras,
) -> Result<Built, Error> {
    let Launch { spec, rootfs, stdio, root_switch, user, create_cwd, .. } = launch;
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    let oom_score_adj = spec.process.as_ref().and_then(|process| process.oom_score_adj);
    fault::pass()?;
    let wishes = Wishes { spec: &spec, linux, rootfs: &rootfs, user: user.as_ref(), create_cwd };
    let prepared = prepare::container(wishes, root, stdio, root_switch, cgroup, extras)?;
    let into = cgroup.descriptor().map_err(Error::Cgroup)?;
    fault::pass()?;
    let mut child = clone(&prepared, into.as_ref().map(AsFd::as_fd), listener)?;
    let set_up = || {
        fault::pass()?;
        cgroup.apply(&resources(linux, extras)).map_err(Error::Cgroup)?;
        if cgroup.is_entered_by_manager() {
            cgroup.attach(child.pid).map_err(Error::Cgroup)?;
        }
        fault::pass()?;
        if let Some(score) = oom_score_adj {
            write_process_file(child.pid, "oom_score_adj", &score.to_string())?;
        }
        if matches!(prepared.user, UserNamespace::New) {
            write_process_file(child.pid, "uid_map", &map_lines(&linux.uid_mappings))?;
            write_process_file(child.pid, "gid_map", &map_lines(&linux.gid_mappings))?;
        }
        fault::pass()?;
        tell_hooks(&prepared, extras, child.pid)
    };
    if let Err(error) = set_up() {
        // A child that has failed meanwhile knows the reason better.
        return Err(child.complaint(&prepared).unwrap_or(error));
    }
    for _ in prepared.steps.iter().filter(|step| matches!(step, Step::WaitAttached)) {
        child.channel.send(Signal::Attached);
    }
    let state = state_of(extras, child.pid);
    let terminal = child.until_ready(&prepared.steps, &prepared.program, &mut || {
        fault::pass()?;
        run_hooks(spec.hooks.as_ref(), state.as_ref())
    })?;
    fault::pass()?;
    if !linux.net_devices.is_empty() {
        let failed = Error::system("find the network namespace");
        let path = PathBuf::from(format!("/proc/{}/ns/net", child.pid));
        let namespace = sys::namespace::open(&path).map_err(failed)?;
        // The last thing that can fail: nothing after it would have to bring them back.
        net_devices::move_in(&linux.net_devices, namespace.as_fd())?;
    }
    let Prepared { terminal: made, program, .. } = prepared;
    Ok((child, made.or(terminal), program))
}

fn run_hooks(hooks: Option<&Hooks>, state: Option<&State>) -> Result<(), Error> {
    let (Some(hooks), Some(state)) = (hooks, state) else { return Ok(()) };
    hooks::run(&hooks.prestart, state)?;
    hooks::run(&hooks.create_runtime, state)
}

/// What hooks are told: the environment has been made, which makes it "created" (runtime.md, *State* and *Lifecycle*).
fn state_of(extras: &Extras, pid: i32) -> Option<State> {
    extras.state.clone().map(|state| State { status: Status::Created, pid: Some(pid), ..state })
}

/// Lets the container's hooks know what they are told.
fn tell_hooks(prepared: &Prepared, extras: &Extras, pid: i32) -> Result<(), Error> {
    let Some(state) = state_of(extras, pid) else { return Ok(()) };
    let before = prepared.steps.iter().filter_map(|step| match step {
        Step::Hooks(hooks) => Some(hooks),
        _ => None,
    });
    before.chain(&prepared.finish.hooks).try_for_each(|hooks| hooks.tell(&state))
}

/// The document's limits, with the devices every container may use (runc, `AllowedDevices`).
pub(crate) fn resources(linux: &Linux, extras: &Extras) -> Resources {
    let mut resources = linux.resources.clone().unwrap_or_default();
    if extras.unprivileged.is_some() {
        // Whoever has no privileges has no devices to deny.
        resources.devices.clear();
        return resources;
    }
    let rule = |major: Option<i64>, minor: Option<i64>, kind: &str, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let deny = DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() };
    resources.devices.insert(0, deny);
    let open = resources.devices.iter().any(|rule| {
        rule.allow
            && rule.kind.as_deref().is_none_or(|kind| kind == "a")
            && rule.major.is_none()
            && rule.minor.is_none()
    });
    if !open {
        resources.devices.extend([rule(None, None, "c", "m"), rule(None, None, "b", "m")]);
        let numbers = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
        resources.devices.extend(numbers.map(|(major, minor)| rule(Some(major), Some(minor), "c", "rwm")));
        resources.devices.push(rule(Some(136), None, "c", "rwm"));
    }
    resources
}

fn write_process_file(pid: i32, name: &'static str, value: &str) -> Result<(), Error> {
    // The process is our own child and not reaped: the number is still its.
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    sys::path::write_value(None, &path, value.as_bytes())
        .map_err(Error::system("set up the container's process"))
}

/// A child that has not executed its program yet; it is killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    pub(crate) pid: i32,
    pidfd: Option<OwnedFd>,
    pub(crate) channel: Parent,
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            // There is nobody to tell, and nothing else to be done.
            sys::pidfd::kill(pidfd.as_fd()).ok();
            sys::pidfd::wait(pidfd.as_fd()).ok();
        }
    }
}

impl ChildProcess {
    /// Waits until the child stands ready; returns the terminal it has opened, if it has. `hooks` is called when it is time
    /// for those of the runtime's side.
    pub(crate) fn until_ready(
        &mut self,
        steps: &[Step],
        program: &Program,
        hooks: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Option<OwnedFd>, Error> {
        let mut terminal = None;
        loop {
            match self.channel.receive()? {
                Some((Report::Ready, _)) => return Ok(terminal),
                Some((Report::Terminal, master)) => terminal = master,
                Some((Report::Hooks, _)) => {
                    hooks()?;
                    self.channel.send(Signal::Hooks);
                }
                Some((Report::Failed(failure), _)) => return Err(explain(failure, steps, program)),
                Some((Report::Listener(_) | Report::Begun, _)) => return Err(unexpected()),
                None => return Err(self.died()),
            }
        }
    }

    /// What a child says that has failed on its own, without waiting for it.
    fn complaint(&mut self, prepared: &Prepared) -> Option<Error> {
        let heard = self.channel.has_word().then(|| self.channel.receive().ok().flatten())??;
        match heard {
            (Report::Failed(failure), _) => Some(explain(failure, &prepared.steps, &prepared.program)),
            _ => None,
        }
    }

    /// Lets the child execute its program; returns its descriptor when it has.
    pub(crate) fn start(mut self, program: &Program, agent: Option<&Agent>) -> Result<(i32, OwnedFd), Error> {
        self.channel.send(Signal::Start);
        let process = self.pidfd.as_ref().map(AsFd::as_fd);
        await_start(&self.channel, program, agent, (process, self.pid))?;
        match self.pidfd.take() {
            Some(pidfd) => Ok((self.pid, pidfd)),
            None => Err(Error::Died("no descriptor".to_owned())),
        }
    }

    fn died(&mut self) -> Error {
        let exit = self.pidfd.take().map(|pidfd| sys::pidfd::wait(pidfd.as_fd()));
        Error::Died(match exit {
            Some(Ok(sys::pidfd::Exit::Code(code))) => format!("exit code {code}"),
            Some(Ok(sys::pidfd::Exit::Signal(signal))) => sys::signal::name(signal),
            Some(Err(error)) => error.to_string(),
            None => "not known".to_owned(),
        })
    }
}

fn unexpected() -> Error {
    Error::Died("unexpected message".to_owned())
}

/// Waits until the child has executed its program, or says why it has not; meanwhile gives away its filter's listener.
fn await_start(
    channel: &Parent,
    program: &Program,
    agent: Option<&Agent>,
    (process, pid): (Option<BorrowedFd<'_>>, i32),
) -> Result<(), Error> {
    loop {
        match channel.receive()? {
            Some((Report::Failed(failure), _)) => return Err(explain(failure, &[], program)),
            Some((Report::Listener(number), _)) => {
                let (Some(agent), Some(process)) = (agent, process) else { return Err(unexpected()) };
                agent.give(process, pid, number)?;
                channel.send(Signal::Listener);
            }
            Some(_) => return Err(unexpected()),
            // Its end was closed by exec, or by an end that is the program's own affair.
            None => return Ok(()),
        }
    }
}

fn explain(failure: Failure, steps: &[Step], program: &Program) -> Error {
    if failure.step == Failure::USER_NAMESPACE {
        return Error::Init { what: "join the user namespace".to_owned(), errno: failure.errno };
    }
    if failure.step != Failure::FINISH {
        let step = usize::try_from(failure.step).ok().and_then(|index| steps.get(index));
        return match step {
            Some(step) => step.failure(failure.part, failure.errno),
            None => Error::Init { what: format!("step {}", failure.step), errno: failure.errno },
        };
    }
    match Part::from_number(failure.part) {
        Some(Part::LookUp) => program.failure(failure.errno),
        Some(Part::Hook) => {
            let problem = match failure.errno {
                Errno::TIMEDOUT => "hook ran past specified timeout".to_owned(),
                Errno::CHILD => "it did not end with exit status 0".to_owned(),
                errno => sys::message(errno),
            };
            Error::Hook { path: "startContainer".to_owned(), problem }
        }
        Some(part) => Error::Init { what: part.describe().to_owned(), errno: failure.errno },
        None => Error::Init { what: "start the program".to_owned(), errno: failure.errno },
    }
}

fn clone(
    prepared: &Prepared,
    into: Option<BorrowedFd<'_>>,
    listener: Option<BorrowedFd<'_>>,
) -> Result<ChildProcess, Error> {
    let mut visits = Vec::new();
    for (kind, namespace) in &prepared.visits {
        // Only for the clone: the child is born there, this thread comes back.
        let visit = Visit::enter(namespace.as_fd(), *kind)
            .map_err(|source| Error::System { what: "join a namespace", source })?;
        visits.push(visit);
    }
    let user = match &prepared.user {
        UserNamespace::Joined(namespace) => Some((namespace.as_fd(), libc::CLONE_NEWUSER)),
        _ => None,
    };
    let work = Work {
        root: prepared.root.as_fd(),
        steps: &prepared.steps,
        finish: &prepared.finish,
        listener,
        user,
    };
    let child = spawn(prepared.flags, into, work);
    // The last first: each goes back to where it came from.
    while let Some(visit) = visits.pop() {
        drop(visit);
    }
    child
}

/// What a child is to do.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) steps: &'a [Step],
    pub(crate) finish: &'a Finish,
    pub(crate) listener: Option<BorrowedFd<'a>>,
    /// A user namespace to begin in, or a process to join so; and what of it.
    pub(crate) user: Option<(BorrowedFd<'a>, i32)>,
}

/// Clones a child that does `work`.
pub(crate) fn spawn(flags: i32, into: Option<BorrowedFd<'_>>, work: Work<'_>) -> Result<ChildProcess, Error> {
    let (channel, end) = channel::pair()?;
    let undumpable = Undumpable::begin();
    let flags = u64::from(flags.unsigned_abs());
    let between = work.user.map(|(namespace, kinds)| Between { namespace, kinds, flags, into });
    let (first_flags, first_into) = if between.is_some() { (0, None) } else { (flags, into) };
    // SAFETY: no memory is shared; the child only runs `child::run`, which makes bare calls and never returns.
    let cloned = unsafe { raw::clone3(first_flags, libc::SIGCHLD, first_into) };
    match cloned {
        Ok(Cloned::Child) => {
            channel.close_in_child();
            let Work { root, steps, finish, listener, .. } = work;
            child::run(&Child { channel: end.as_fd(), root, steps, finish, listener, between })
        }
        Ok(Cloned::Parent { pid, pidfd }) => {
            drop(undumpable);
            let child = ChildProcess { pid, pidfd: Some(pidfd), channel };
            if between.is_some() { second(child) } else { Ok(child) }
        }
        Err(errno) => Err(Error::System {
            what: "create new process",
            source: sys::Error::new("clone3", "init", errno),
        }),
    }
}

/// Waits for the go-between, which ends, and takes over the init that it has begun.
fn second(mut between: ChildProcess) -> Result<ChildProcess, Error> {
    let failed = Error::system("create new process");
    let mut early = VecDeque::new();
    let pidfd = loop {
        match between.channel.receive()? {
            Some((Report::Begun, Some(pidfd))) => break pidfd,
            Some((Report::Failed(failure), _)) if failure.step == Failure::USER_NAMESPACE => {
                return Err(Error::Init { what: "join the user namespace".to_owned(), errno: failure.errno });
            }
            // The init may be quicker than the one that has begun it.
            Some(word) => early.push_back(word),
            None => return Err(between.died()),
        }
    };
    let pid = sys::pidfd::number(pidfd.as_fd()).map_err(failed)?;
    if let Some(first) = between.pidfd.take() {
        sys::pidfd::wait(first.as_fd()).map_err(Error::system("create new process"))?;
    }
    Ok(ChildProcess { pid, pidfd: Some(pidfd), channel: between.channel.again(early) })
}

/// Keeps this process from being traced while it clones: the child is born with that, and a container that it joins
/// cannot look into it (CVE-2016-9962).
struct Undumpable {
    before: u64,
}

impl Undumpable {
    fn begin() -> Self {
        // SAFETY: numbers only.
        let before = unsafe { raw::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0) };
        Self::set(0);
        Self { before: before.ok().and_then(|value| u64::try_from(value).ok()).unwrap_or(1) }
    }

    fn set(value: u64) {
        // SAFETY: numbers only.
        unsafe { raw::prctl(libc::PR_SET_DUMPABLE, value, 0, 0) }.ok();
    }
}

impl Drop for Undumpable {
    fn drop(&mut self) {
        // Only 0 and 1 can be set.
        Self::set(self.before.min(1));
    }
}

impl Created {
    /// Returns the init's number, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Returns the container's cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Takes the master of the terminal, if there is one and it has not been taken.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Lets the init execute its program, and returns when it has.
    ///
    /// An error of exec itself (not of finding the program) is not told here: as with runc the container counts as
    /// started, says `exec PATH: …` on its standard error and ends with 255.
    ///
    /// # Errors
    ///
    /// [`Error::Executable`], [`Error::Init`], [`Error::Hook`]. Nothing is left behind then.
    pub fn start(self) -> Result<Init, Error> {
        let Self { child, program, cgroup, agent, poststart, state, .. } = self;
        let pid = child.pid;
        let state = state.map(|state| State { status: Status::Created, pid: Some(pid), ..state });
        let agent = agent.zip(state.clone()).map(|(agent, state)| agent.about(state));
        let started = child.start(&program, agent.as_ref()).and_then(|(pid, pidfd)| {
            let running = state.map(|state| State { status: Status::Running, ..state });
            let told = running.map_or(Ok(()), |state| hooks::run(&poststart, &state));
            if told.is_err() {
                // A failed hook ends the container (runtime.md, *Lifecycle*).
                sys::pidfd::kill(pidfd.as_fd()).ok();
                sys::pidfd::wait(pidfd.as_fd()).ok();
            }
            told.map(|()| (pid, pidfd))
        });
        match started {
            Ok((pid, pidfd)) => Ok(Init { pid, pidfd, cgroup }),
            Err(error) => {
                cgroup.delete().ok();
                Err(error)
            }
        }
    }

    /// Ends the init before it was started, and removes its cgroup.
    pub fn abort(self) {
        let Self { child, cgroup, .. } = self;
        drop(child);
        cgroup.delete().ok();
    }
}

/// Says whether an error number means that a process is gone.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::SRCH | Errno::NOENT)
}
