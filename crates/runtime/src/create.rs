//! Making a container's init, and letting it go.

use crate::channel::{self, Failure, Parent, Report, Signal};
use crate::child::{self, Child};
use crate::finish::{Finish, Part};
use crate::prepare::{self, Prepared};
use crate::process::Program;
use crate::step::Step;
use crate::{Error, Launch};
use cgroups::{Cgroup, Manager};
use oci::runtime::{DeviceRule, IdMapping, Linux, Resources};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::path::PathBuf;
use sys::namespace::{Namespace, Visit};
use sys::raw::{self, Cloned};

/// An init that stands ready before its program: mounts, cgroup and namespaces are done. Dropping it is [`Created::abort`].
#[derive(Debug)]
pub struct Created {
    child: ChildProcess,
    terminal: Option<OwnedFd>,
    program: Program,
    cgroup: Cgroup,
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
    let linux = launch.spec.linux.clone().unwrap_or_default();
    let oom_score_adj = launch.spec.process.as_ref().and_then(|process| process.oom_score_adj);
    let path = launch.cgroup.clone().or_else(|| linux.cgroups_path.clone());
    let path = path.ok_or_else(|| Error::spec("the container has no cgroup path"))?;
    let hierarchy = Manager::detect().map_err(Error::Cgroup)?;
    let cgroup = Cgroup::create(&hierarchy, &path).map_err(Error::Cgroup)?;
    let made = build(launch, &linux, oom_score_adj, (&cgroup, None));
    if made.is_err() {
        // The first error is the one to tell.
        cgroup.delete().ok();
    }
    let (child, terminal, program) = made?;
    Ok(Created { child, terminal, program, cgroup })
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
) -> Result<Detached, Error> {
    let linux = launch.spec.linux.clone().unwrap_or_default();
    let oom_score_adj = launch.spec.process.as_ref().and_then(|process| process.oom_score_adj);
    let (mut child, terminal, _) = build(launch, &linux, oom_score_adj, (cgroup, Some(listener.as_fd())))?;
    // It lives on by itself.
    drop(child.pidfd.take());
    Ok(Detached { pid: child.pid, terminal })
}

/// Asks an init made by [`create_detached`] to execute its program; `socket` is connected to its listener.
pub(crate) fn start_detached(socket: OwnedFd, program: &Program) -> Result<(), Error> {
    let channel = Parent::from_socket(socket);
    channel.send(Signal::Start);
    await_start(&channel, program)
}

type Built = (ChildProcess, Option<OwnedFd>, Program);

fn build(
    launch: Launch,
    linux: &Linux,
    oom_score_adj: Option<i32>,
    (cgroup, listener): (&Cgroup, Option<BorrowedFd<'_>>),
) -> Result<Built, Error> {
    let prepared = prepare::container(launch, cgroup)?;
    let into = cgroup.descriptor().map_err(Error::Cgroup)?;
    let mut child = clone(&prepared, into.as_ref().map(AsFd::as_fd), listener)?;
    let set_up = || {
        cgroup.apply(&resources(linux)).map_err(Error::Cgroup)?;
        if let Some(score) = oom_score_adj {
            write_process_file(child.pid, "oom_score_adj", &score.to_string())?;
        }
        if prepared.user_namespace {
            write_process_file(child.pid, "uid_map", &mappings(&linux.uid_mappings))?;
            write_process_file(child.pid, "gid_map", &mappings(&linux.gid_mappings))?;
        }
        Ok(())
    };
    set_up()?;
    for _ in prepared.steps.iter().filter(|step| matches!(step, Step::WaitAttached)) {
        child.channel.send(Signal::Attached);
    }
    child.until_ready(&prepared.steps, &prepared.program)?;
    let Prepared { terminal, program, .. } = prepared;
    Ok((child, terminal, program))
}

/// The document's limits, with the devices every container may use (runc, `AllowedDevices`).
fn resources(linux: &Linux) -> Resources {
    let mut resources = linux.resources.clone().unwrap_or_default();
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

fn mappings(mappings: &[IdMapping]) -> String {
    let line = |one: &IdMapping| format!("{} {} {}\n", one.container_id, one.host_id, one.size);
    mappings.iter().map(line).collect()
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
    /// Waits until the child stands ready; returns the terminal it has opened, if it has.
    pub(crate) fn until_ready(
        &mut self,
        steps: &[Step],
        program: &Program,
    ) -> Result<Option<OwnedFd>, Error> {
        let mut terminal = None;
        loop {
            match self.channel.receive()? {
                Some((Report::Ready, _)) => return Ok(terminal),
                Some((Report::Terminal, master)) => terminal = master,
                Some((Report::Failed(failure), _)) => return Err(explain(failure, steps, program)),
                None => return Err(self.died()),
            }
        }
    }

    /// Lets the child execute its program; returns its descriptor when it has.
    pub(crate) fn start(mut self, program: &Program) -> Result<(i32, OwnedFd), Error> {
        self.channel.send(Signal::Start);
        await_start(&self.channel, program)?;
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

/// Waits until the child has executed its program, or says why it has not.
fn await_start(channel: &Parent, program: &Program) -> Result<(), Error> {
    match channel.receive()? {
        Some((Report::Failed(failure), _)) => Err(explain(failure, &[], program)),
        Some(_) => Err(Error::Died("unexpected message".to_owned())),
        // Its end was closed by exec, or by an end that is the program's own affair.
        None => Ok(()),
    }
}

fn explain(failure: Failure, steps: &[Step], program: &Program) -> Error {
    if failure.step != Failure::FINISH {
        let step = usize::try_from(failure.step).ok().and_then(|index| steps.get(index));
        return match step {
            Some(step) => step.failure(failure.part, failure.errno),
            None => Error::Init { what: format!("step {}", failure.step), errno: failure.errno },
        };
    }
    match Part::from_number(failure.part) {
        Some(Part::LookUp) => program.failure(failure.errno),
        Some(part) => Error::Init { what: part.describe().to_owned(), errno: failure.errno },
        None => Error::Init { what: "start the program".to_owned(), errno: failure.errno },
    }
}

fn clone(
    prepared: &Prepared,
    into: Option<BorrowedFd<'_>>,
    listener: Option<BorrowedFd<'_>>,
) -> Result<ChildProcess, Error> {
    let visit = match &prepared.pid_namespace {
        // Only children are born there; this thread stays where it is.
        Some(namespace) => Some(
            Visit::enter(namespace.as_fd(), Namespace::Pid)
                .map_err(|source| Error::System { what: "join the process namespace", source })?,
        ),
        None => None,
    };
    let work =
        Work { root: prepared.root.as_fd(), steps: &prepared.steps, finish: &prepared.finish, listener };
    let child = spawn(prepared.flags, into, work);
    drop(visit);
    child
}

/// What a child is to do.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) steps: &'a [Step],
    pub(crate) finish: &'a Finish,
    pub(crate) listener: Option<BorrowedFd<'a>>,
}

/// Clones a child that does `work`.
pub(crate) fn spawn(flags: i32, into: Option<BorrowedFd<'_>>, work: Work<'_>) -> Result<ChildProcess, Error> {
    let (channel, end) = channel::pair()?;
    let undumpable = Undumpable::begin();
    let flags = u64::from(flags.unsigned_abs());
    // SAFETY: no memory is shared; the child only runs `child::run`, which makes bare calls and never returns.
    let cloned = unsafe { raw::clone3(flags, libc::SIGCHLD, into) };
    match cloned {
        Ok(Cloned::Child) => {
            let Work { root, steps, finish, listener } = work;
            child::run(&Child { channel: end.as_fd(), root, steps, finish, listener })
        }
        Ok(Cloned::Parent { pid, pidfd }) => {
            drop(undumpable);
            Ok(ChildProcess { pid, pidfd: Some(pidfd), channel })
        }
        Err(errno) => Err(Error::System {
            what: "create new process",
            source: sys::Error::new("clone3", "init", errno),
        }),
    }
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
    /// [`Error::Executable`], [`Error::Init`]. Nothing is left behind then.
    pub fn start(self) -> Result<Init, Error> {
        let Self { child, program, cgroup, .. } = self;
        match child.start(&program) {
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
