//! A further process in a running container.

use crate::channel::Signal;
use crate::create::{Work, is_gone, spawn};
use crate::listener::Agent;
use crate::mount::enter_cgroups;
use crate::prepare::{Extras, size};
use crate::process::{self, Program, Surroundings};
use crate::step::Step;
use crate::user::Files;
use crate::{Error, Identity, ImageUser, Stdio};
use cgroups::Cgroup;
use oci::runtime::{Process, Seccomp, Spec, Status};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use sys::namespace::{Namespace, Visit};

/// What to run in which container.
#[derive(Debug)]
pub struct Join<'a> {
    /// The container's init, as the caller numbers it.
    pub init_pid: i32,
    /// Refers to it.
    pub init_pidfd: BorrowedFd<'a>,
    /// What to run.
    pub process: Process,
    /// The container's filter.
    pub seccomp: Option<Seccomp>,
    /// Descriptors of the process.
    pub stdio: Stdio,
    /// As whom, in Docker's words, looked up in the container's own files; overrides `process.user`.
    pub user: Option<ImageUser>,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
    /// What the listener of the filter is told; a filter that has one is refused without it.
    pub identity: Option<Identity>,
}

/// A process that runs in a container. It is a child of the caller, who reaps it.
#[derive(Debug)]
pub struct Joined {
    /// Its number, as the caller sees it.
    pub pid: i32,
    /// Refers to it.
    pub pidfd: OwnedFd,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Runs a process in all namespaces and cgroups of a container; returns when its program has been executed.
///
/// # Errors
///
/// As [`crate::create`]; [`Error::System`] if the container is gone.
pub fn exec(join: Join<'_>) -> Result<Joined, Error> {
    let state = join.identity.as_ref().map(|identity| {
        let running = Status::Running;
        identity.state(&Spec::default(), running, Some(join.init_pid))
    });
    exec_with(join, &Extras { state, ..Extras::default() })
}

/// As [`exec`], with what only the command line gives.
pub(crate) fn exec_with(join: Join<'_>, extras: &Extras) -> Result<Joined, Error> {
    let Join { init_pid, init_pidfd, process, seccomp, stdio, user, cgroup, .. } = join;
    let gone = |source: sys::Error| Error::System { what: "join the container", source };
    let root = sys::path::open_directory(&PathBuf::from(format!("/proc/{init_pid}/root"))).map_err(gone)?;
    let (flags, own_user) = namespaces_to_join(init_pid, extras.unprivileged.is_some())?;
    // Only now is it sure that the number was the init's when the paths were opened.
    if sys::pidfd::ended_within(init_pidfd, Duration::ZERO).map_err(gone)? {
        let errno = rustix::io::Errno::SRCH;
        return Err(gone(sys::Error::new("join", format_args!("process {init_pid}"), errno)));
    }
    let files = Files::read(root.as_fd());
    let streams = process::streams(stdio)?;
    // First of all: what it does in the container counts as the container's.
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    let first = affinity.initial.as_deref().filter(|list| !list.is_empty());
    let mut steps = vec![Step::Session];
    steps.extend(first.map(process::processors).transpose()?.map(Step::Affinity));
    steps.push(enter_cgroups(cgroup)?);
    let namespace = duplicate(init_pidfd)?;
    steps.push(Step::Join { namespace, flags, name: "the container's namespaces".to_owned() });
    if own_user {
        steps.push(Step::BecomeRoot);
    }
    let mut labels = process::label_steps(&process)?;
    if !labels.is_empty() {
        steps.push(Step::PrivateProc);
        steps.append(&mut labels);
    }
    if streams.is_none() {
        steps.push(Step::Terminal { size: size(&process), console: false });
    }
    let agent = Agent::of(seccomp.as_ref(), extras.state.as_ref());
    if agent.is_none() && seccomp.as_ref().is_some_and(crate::seccomp::notifies) {
        return Err(Error::Unsupported("seccomp notification".to_owned()));
    }
    let surroundings =
        Surroundings { seccomp: seccomp.as_ref(), preserved: extras.preserved, ..Surroundings::default() };
    let terminal_wanted = streams.is_none();
    let mut finish = process::finish(&process, user.as_ref(), &files, streams, surroundings)?;
    finish.terminal = terminal_wanted;
    if extras.unprivileged.is_some_and(|maker| maker.fixed_groups) {
        finish.fix_groups();
    }
    let last = affinity.last.as_deref().filter(|list| !list.is_empty());
    finish.affinity = last.map(process::processors).transpose()?;
    let program = Program::new(&process);
    let into = cgroup.descriptor().map_err(Error::Cgroup)?;
    let child = if extras.unprivileged.is_some() {
        // Only in the container's user namespace may its process namespace be entered.
        let user = Some((init_pidfd, Namespace::User.flag() | Namespace::Pid.flag()));
        let work = Work { root: root.as_fd(), steps: &steps, finish: &finish, listener: None, user };
        spawn(0, into.as_ref().map(AsFd::as_fd), work)
    } else {
        // Its process namespace is entered here: only children are born in it.
        let visit = Visit::enter(init_pidfd, Namespace::Pid).map_err(gone)?;
        let work = Work { root: root.as_fd(), steps: &steps, finish: &finish, listener: None, user: None };
        let child = spawn(0, into.as_ref().map(AsFd::as_fd), work);
        drop(visit);
        child
    };
    let mut child = child?;
    if cgroup.is_entered_by_manager() {
        cgroup.attach(child.pid).map_err(Error::Cgroup)?;
        child.channel.send(Signal::Attached);
    }
    if let Some(score) = process.oom_score_adj {
        let path = PathBuf::from(format!("/proc/{}/oom_score_adj", child.pid));
        match sys::path::write_value(None, &path, score.to_string().as_bytes()) {
            Err(error) if is_gone(error.errno()) => {}
            other => other.map_err(Error::system("set the OOM score"))?,
        }
    }
    let terminal = child.until_ready(&steps, &program, &mut || Ok(()))?;
    let (pid, pidfd) = child.start(&program, agent.as_ref())?;
    Ok(Joined { pid, pidfd, terminal })
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|errno| Error::System {
        what: "duplicate a descriptor",
        source: sys::Error::new("fcntl", "pidfd", errno),
    })
}

/// Returns the `CLONE_NEW*` flags of what the child joins by itself, and whether the user namespace is among them.
///
/// Without privileges those that are the caller's own are left out, being the host's; and the user namespace, which is
/// joined before. The time namespace is entered by exec (kernel ≥ 6.3) or not at all, as joining it needs a thread of its own.
fn namespaces_to_join(pid: i32, unprivileged: bool) -> Result<(i32, bool), Error> {
    let identity = |who: &str, kind: Namespace| {
        let path = PathBuf::from(format!("/proc/{who}/ns/{}", kind.name()));
        rustix::fs::stat(&path).map(|status| (status.st_dev, status.st_ino)).map_err(|errno| Error::System {
            what: "join the container",
            source: sys::Error::new("stat", path.display(), errno),
        })
    };
    let pid = pid.to_string();
    let mut flags = 0;
    for kind in [Namespace::Mount, Namespace::Uts, Namespace::Ipc, Namespace::Network, Namespace::Cgroup] {
        if !unprivileged || identity(&pid, kind)? != identity("self", kind)? {
            flags |= kind.flag();
        }
    }
    // One's own user namespace cannot be joined again (EINVAL).
    let other_user = identity(&pid, Namespace::User)? != identity("self", Namespace::User)?;
    if other_user && !unprivileged {
        flags |= Namespace::User.flag();
    }
    Ok((flags, other_user))
}
