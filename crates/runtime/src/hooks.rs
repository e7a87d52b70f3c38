//! Hooks: programs that somebody wants run at points of a container's life (runtime-spec config.md, *POSIX-platform Hooks*).
//!
//! Those of the runtime's side (`prestart`, `createRuntime`, `poststart`, `poststop`) are run by [`run`], with everything a
//! process has. Those of the container's side are run by the init itself ([`Inside`]): `createContainer` before it changes
//! its root, so that the path is the host's and the mounts are the container's; `startContainer` as the last thing before
//! the program. There nothing may be allocated, so all texts are made beforehand and the state is in a memory file.

use crate::Error;
use crate::finish::Strings;
use crate::process::text;
use oci::runtime::{Hook, State};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::ffi::CString;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;
use sys::raw::{self, Cloned};

/// Runs hooks on the host, in order, each with the container's state on its standard input; stops at the first that fails.
///
/// # Errors
///
/// [`Error::Hook`].
pub(crate) fn run(hooks: &[Hook], state: &State) -> Result<(), Error> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state)
        .map_err(|error| Error::Hook { path: String::new(), problem: error.to_string() })?;
    hooks.iter().try_for_each(|hook| {
        run_one(hook, &state).map_err(|problem| Error::Hook { path: hook.path.clone(), problem })
    })
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let words = |error: &dyn std::error::Error| base::chain(error);
    let (stdin, mut ours) = std::io::pipe().map_err(|error| words(&error))?;
    let null = std::fs::File::options().write(true).open("/dev/null").map_err(|error| words(&error))?;
    let error_output = std::io::stderr();
    let mut command = sys::process::Command::new(Path::new(&hook.path));
    let mut arguments = hook.args.iter();
    if let Some(name) = arguments.next() {
        command.name(name);
    }
    arguments.for_each(|argument| {
        command.argument(argument);
    });
    hook.env.iter().for_each(|variable| {
        command.variable(variable);
    });
    command.descriptor(stdin.as_fd(), 0).descriptor(null.as_fd(), 1).descriptor(error_output.as_fd(), 2);
    let child = command.spawn().map_err(|error| words(&error))?;
    drop(command);
    drop(stdin);
    // One that does not read it has no need of it. A state is far smaller than a pipe.
    ours.write_all(state).ok();
    drop(ours);
    let limit = hook.timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    if !sys::event::readable_within(child.pidfd.as_fd(), limit).map_err(|error| words(&error))? {
        sys::pidfd::kill(child.pidfd.as_fd()).map_err(|error| words(&error))?;
        child.wait().map_err(|error| words(&error))?;
        return Err("hook ran past specified timeout".to_owned());
    }
    match child.wait().map_err(|error| words(&error))? {
        sys::pidfd::Exit::Code(0) => Ok(()),
        exit => Err(format!("exit status {}", exit.code())),
    }
}

/// Hooks that the init runs.
#[derive(Debug)]
pub(crate) struct Inside {
    hooks: Vec<Program>,
    /// The container's state.
    state: OwnedFd,
    /// Where the output goes.
    null: OwnedFd,
}

#[derive(Debug)]
struct Program {
    path: CString,
    arguments: Strings,
    environment: Strings,
    /// Seconds.
    timeout: Option<i64>,
}

impl Inside {
    /// Lays out `hooks`; `None` if there are none.
    pub(crate) fn new(hooks: &[Hook]) -> Result<Option<Self>, Error> {
        if hooks.is_empty() {
            return Ok(None);
        }
        let program = |hook: &Hook| {
            let texts = |list: &[String]| {
                list.iter().map(|one| text("hook", one.as_str())).collect::<Result<Vec<_>, _>>()
            };
            let path = text("hook", hook.path.as_str())?;
            let arguments = if hook.args.is_empty() { vec![path.clone()] } else { texts(&hook.args)? };
            Ok(Program {
                path,
                arguments: Strings::new(arguments),
                environment: Strings::new(texts(&hook.env)?),
                timeout: hook.timeout.filter(|seconds| *seconds > 0),
            })
        };
        let failed = |call: &'static str| {
            move |errno| Error::system("prepare hooks")(sys::Error::new(call, "hooks", errno))
        };
        let state = rustix::fs::memfd_create("state", MemfdFlags::CLOEXEC).map_err(failed("memfd_create"))?;
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).map_err(failed("open"))?;
        let hooks = hooks.iter().map(program).collect::<Result<_, Error>>()?;
        Ok(Some(Self {
            hooks,
            state: crate::channel::above_stdio(state)?,
            null: crate::channel::above_stdio(null)?,
        }))
    }

    /// Lets the hooks know the container's state; called by the parent once it knows the init's number.
    pub(crate) fn tell(&self, state: &State) -> Result<(), Error> {
        let failed = |errno| Error::system("prepare hooks")(sys::Error::new("write", "state", errno));
        let text = serde_json::to_vec(state)
            .map_err(|error| Error::Hook { path: String::new(), problem: error.to_string() })?;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&self.state, rest).map_err(failed)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// The descriptors that must stay open until they have run.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.state.as_fd(), self.null.as_fd()]
    }

    /// The path of a hook, for messages.
    pub(crate) fn path(&self, index: u32) -> String {
        let hook = usize::try_from(index).ok().and_then(|index| self.hooks.get(index));
        hook.map(|hook| hook.path.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Runs them in the child, in order; on failure says which, and why: `TIMEDOUT`, `CHILD` (an exit status other than 0),
    /// or what a call answered. Allocates nothing.
    pub(crate) fn run(&self, state: BorrowedFd<'_>, null: BorrowedFd<'_>) -> Result<(), (u32, Errno)> {
        for (hook, index) in self.hooks.iter().zip(0..) {
            hook.run(state, null).map_err(|errno| (index, errno))?;
        }
        Ok(())
    }

    /// As [`Inside::run`], with its own descriptors.
    pub(crate) fn run_here(&self) -> Result<(), (u32, Errno)> {
        self.run(self.state.as_fd(), self.null.as_fd())
    }
}

impl Program {
    fn run(&self, state: BorrowedFd<'_>, null: BorrowedFd<'_>) -> Result<(), Errno> {
        rustix::fs::seek(state, SeekFrom::Start(0))?;
        // SAFETY: this process has one thread, and the child makes bare calls only.
        let pidfd = match unsafe { raw::fork() }? {
            Cloned::Child => self.execute(state, null),
            Cloned::Parent { pidfd, .. } => pidfd,
        };
        let limit = self.timeout.map(|seconds| rustix::event::Timespec { tv_sec: seconds, tv_nsec: 0 });
        loop {
            let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
            match rustix::event::poll(&mut polled, limit.as_ref()) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok(0) => {
                    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL)?;
                    rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
                    return Err(Errno::TIMEDOUT);
                }
                Ok(_) => break,
            }
        }
        let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
        if status.and_then(|status| status.exit_status()) == Some(0) { Ok(()) } else { Err(Errno::CHILD) }
    }

    fn execute(&self, state: BorrowedFd<'_>, null: BorrowedFd<'_>) -> ! {
        // SAFETY: this process is a copy that only executes the hook; nothing in it owns descriptors 0 and 1 for later.
        let done = unsafe { libc::dup2(state.as_raw_fd(), 0) };
        // SAFETY: as above.
        let done = done | unsafe { libc::dup2(null.as_raw_fd(), 1) };
        if done >= 0 && raw::mark_close_on_exec(3).is_ok() {
            // SAFETY: both lists end with null and point to strings that live as long as `self`.
            unsafe { raw::execve(&self.path, self.arguments.as_ptr(), self.environment.as_ptr()) };
        }
        raw::exit_now(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["A=1".into()],
            timeout,
        }
    }

    #[test]
    fn the_hosts_hooks_get_the_state_and_are_given_a_time() {
        let state = State { id: "x".into(), ..State::default() };
        let run = |script: &str, timeout| {
            run(&[hook(script, timeout)], &state).map_err(|error| error.to_string()).err()
        };
        assert_eq!(run("test $A = 1 && grep -q '\"id\":\"x\"'", None), None);
        assert_eq!(run("true", None), None);
        assert_eq!(run("exit 3", None).unwrap(), "error running hook \"/bin/sh\": exit status 3");
        let text = "error running hook \"/bin/sh\": hook ran past specified timeout";
        assert_eq!(run("exec sleep 100", Some(1)).unwrap(), text);
        assert!(Inside::new(&[]).unwrap().is_none());
    }

    #[test]
    fn the_containers_hooks_are_run_without_a_helper() {
        let state = State { id: "x".into(), ..State::default() };
        let run = |hooks: &[Hook]| {
            let inside = Inside::new(hooks).unwrap().unwrap();
            inside.tell(&state).unwrap();
            inside.run_here()
        };
        let good = hook("test $A = 1 && grep -q '\"id\":\"x\"'", Some(10));
        assert_eq!(run(&[good.clone(), good.clone()]), Ok(()));
        assert_eq!(run(&[good.clone(), hook("exit 1", None)]), Err((1, Errno::CHILD)));
        assert_eq!(run(&[hook("exec sleep 100", Some(1))]), Err((0, Errno::TIMEDOUT)));
        assert_eq!(run(&[Hook { path: "/nonexistent".into(), ..Hook::default() }]), Err((0, Errno::CHILD)));
    }
}
