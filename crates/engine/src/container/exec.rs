//! Further processes in a running container.

use super::handle::Handle;
use super::state::State;
use super::{Containers, attach, control, spec};
use crate::error::{Error, Result};
use crate::events::random_id;
use api::exec::Config;
use base::{ContainerId, ExecId};
use oci::runtime::ConsoleSize;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use supervisor::protocol::{self as say, AttachOptions, ExecExit, ImageUser, Reply, Request, Target};

/// Where an exec is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecState {
    /// Not started.
    Created,
    /// Being started.
    Starting,
    /// Running, with its process's number on the host.
    Running {
        /// The process.
        pid: i32,
    },
    /// Ended, or could not be started.
    Ended {
        /// 128 + n after signal n; 126 or 127 if it could not be executed.
        exit_code: i32,
        /// The process it had; 0 if none.
        pid: i32,
    },
}

/// An exec instance. It lives as long as the daemon and its container.
#[derive(Debug)]
pub struct Exec {
    /// Identifies it.
    pub id: ExecId,
    /// Whose it is.
    pub container: ContainerId,
    /// What was asked.
    pub config: Config,
    state: Mutex<ExecState>,
}

impl Exec {
    /// Returns where it is in its life.
    pub fn state(&self) -> ExecState {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ExecState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, exit_code: i32) {
        let mut state = self.lock();
        let pid = if let ExecState::Running { pid } = *state { pid } else { 0 };
        *state = ExecState::Ended { exit_code, pid };
    }

    fn command(&self) -> String {
        self.config.cmd.as_deref().unwrap_or_default().join(" ")
    }
}

/// Checks that an exec has not been started before.
fn unused(exec: &Exec, state: ExecState) -> Result<()> {
    match state {
        ExecState::Created => Ok(()),
        ExecState::Starting | ExecState::Running { .. } => {
            Err(Error::conflict(format!("exec command {} is already running", exec.id)))
        }
        ExecState::Ended { .. } => Err(Error::conflict(format!("exec command {} has already run", exec.id))),
    }
}

/// How many ended execs of one container are remembered.
const REMEMBERED: usize = 64;

impl Containers {
    /// Creates an exec in a running container.
    ///
    /// # Errors
    ///
    /// Fails if the container does not run, or no command is given.
    pub fn create_exec(&self, name: &str, config: Config) -> Result<ExecId> {
        let handle = self.find(name)?;
        self.runs(&handle, name)?;
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("no exec command specified"));
        }
        attach::detach_keys(Some(&config.detach_keys))?;
        if let Some(variable) =
            config.env.iter().flatten().find(|variable| variable.split('=').next() == Some(""))
        {
            return Err(Error::invalid(format!("invalid environment variable: {variable}")));
        }
        let exec = Arc::new(Exec {
            id: random_id(),
            container: handle.id,
            config,
            state: Mutex::new(ExecState::Created),
        });
        let mut execs = self.execs();
        let ended: Vec<String> = execs
            .iter()
            .filter(|(_, exec)| {
                exec.container == handle.id && matches!(exec.state(), ExecState::Ended { .. })
            })
            .map(|(id, _)| id.clone())
            .collect();
        for old in ended.iter().skip(REMEMBERED) {
            execs.remove(old);
        }
        execs.insert(exec.id.to_string(), Arc::clone(&exec));
        drop(execs);
        let action = format!("exec_create: {}", exec.command());
        self.tell(&handle.get(), &action, &[("execID", &exec.id.to_string())]);
        Ok(exec.id)
    }

    /// Returns an exec.
    ///
    /// # Errors
    ///
    /// `No such exec instance: X`.
    pub fn exec(&self, id: &str) -> Result<Arc<Exec>> {
        self.execs().get(id).cloned().ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// Returns an exec with its state as the supervisor knows it now: a client that has seen the end of the stream and
    /// asks for the exit code must not be told that the process runs.
    ///
    /// # Errors
    ///
    /// `No such exec instance: X`.
    pub fn inspect_exec(&self, id: &str) -> Result<Arc<Exec>> {
        let exec = self.exec(id)?;
        if matches!(exec.state(), ExecState::Starting | ExecState::Running { .. })
            && let Some(handle) = self.handle(&exec.container)
        {
            let ended = |exits: Vec<ExecExit>| exits.into_iter().find(|exit| exit.exec_id == exec.id);
            match self.supervisor(&handle).and_then(|supervisor| Ok(supervisor.status()?)) {
                Ok(status) => {
                    if let Some(exit) = ended(status.ended_execs) {
                        exec.end(exit.exit_code);
                    }
                }
                // Its end and the container's are being told.
                Err(_gone) => exec.end(137),
            }
        }
        Ok(exec)
    }

    /// Returns the execs of a container that run or may be started.
    pub fn execs_of(&self, container: &ContainerId) -> Vec<ExecId> {
        let execs = self.execs();
        let current = execs.values().filter(|exec| exec.container == *container);
        current.filter(|exec| !matches!(exec.state(), ExecState::Ended { .. })).map(|exec| exec.id).collect()
    }

    /// Checks whether an exec can be started, before a connection is hijacked for it.
    ///
    /// # Errors
    ///
    /// Fails if it was started before or its container does not run.
    pub fn check_exec(&self, id: &str) -> Result<Arc<Exec>> {
        let exec = self.exec(id)?;
        unused(&exec, exec.state())?;
        self.home_of(&exec)?;
        Ok(exec)
    }

    /// Returns the container of an exec, which must run.
    fn home_of(&self, exec: &Exec) -> Result<Arc<Handle>> {
        let name = exec.container.to_string();
        let handle = self.find(&name)?;
        self.runs(&handle, &name)?;
        Ok(handle)
    }

    /// Starts an exec; its streams go to `client`, or nowhere.
    ///
    /// # Errors
    ///
    /// Fails if it was started before, the container does not run, or the program cannot be executed.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the connection is closed here once the supervisor has it"
    )]
    pub fn start_exec(
        &self,
        id: &str,
        console_size: Option<[u32; 2]>,
        client: Option<OwnedFd>,
    ) -> Result<()> {
        let exec = self.exec(id)?;
        {
            let mut state = exec.lock();
            unused(&exec, *state)?;
            *state = ExecState::Starting;
        }
        // From here on it has been used: whoever asks for the exit code of one that failed is given one.
        let outcome = self
            .home_of(&exec)
            .and_then(|handle| self.start_exec_now(&exec, &handle, console_size, client.as_ref()));
        match &outcome {
            Ok(pid) => {
                let mut state = exec.lock();
                // A short process may have ended before the answer came.
                if *state == ExecState::Starting {
                    *state = ExecState::Running { pid: *pid };
                }
            }
            Err(error) => {
                let exit_code = if let Error::Start { exit_code, .. } = error { *exit_code } else { 126 };
                *exec.lock() = ExecState::Ended { exit_code, pid: 0 };
            }
        }
        outcome.map(drop)
    }

    fn start_exec_now(
        &self,
        exec: &Exec,
        handle: &Handle,
        console_size: Option<[u32; 2]>,
        client: Option<&OwnedFd>,
    ) -> Result<i32> {
        let container = handle.get();
        let config = &exec.config;
        let variables: Vec<String> =
            self.follow_links(&container)?.into_iter().flat_map(|link| link.variables).collect();
        let facts = self.facts(&container, &variables)?;
        let mut process = spec::process(&container, &facts)?;
        process.args = config.cmd.clone().unwrap_or_default();
        process.terminal = config.tty;
        let size = console_size.or(config.console_size).filter(|[height, width]| *height > 0 && *width > 0);
        process.console_size = size.map(|[height, width]| ConsoleSize { height, width });
        if config.tty && !process.env.iter().any(|variable| variable.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        spec::override_variables(&mut process.env, config.env.as_deref().unwrap_or_default());
        if !config.working_dir.is_empty() {
            process.cwd.clone_from(&config.working_dir);
        }
        if config.privileged {
            process.capabilities = Some(spec::capability_sets(&facts.available));
        }
        let user = if config.user.is_empty() { container.config.user.clone() } else { config.user.clone() };
        let groups = container.host.group_add.clone().unwrap_or_default();
        let attach = match client {
            Some(_) => Some(AttachOptions {
                stdin: config.attach_stdin,
                stdout: config.attach_stdout,
                stderr: config.attach_stderr,
                multiplexed: !config.tty,
                detach_keys: attach::detach_keys(Some(&config.detach_keys))?,
            }),
            None => None,
        };
        let request = say::Exec { id: exec.id, process, user: Some(ImageUser { user, groups }), attach };
        let descriptors: Vec<BorrowedFd<'_>> = client.iter().map(|client| client.as_fd()).collect();
        let action = format!("exec_start: {}", exec.command());
        self.tell(&container, &action, &[("execID", &exec.id.to_string())]);
        match self.supervisor(handle)?.call(&Request::Exec(Box::new(request)), &descriptors)? {
            Reply::ExecStarted { pid } => Ok(pid),
            Reply::Failed { message, exit_code, .. } => {
                let message = format!(
                    "OCI runtime exec failed: exec failed: unable to start container process: {message}"
                );
                Err(Error::Start { exit_code, message })
            }
            Reply::Error { kind, message } => Err(Error::known(kind, message)),
            reply => Err(Error::known(
                base::Kind::Internal,
                format!("start exec {}: unexpected {reply:?}", exec.id),
            )),
        }
    }

    /// Changes the size of an exec's terminal, in characters.
    ///
    /// # Errors
    ///
    /// Fails unless it runs.
    pub fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let exec = self.exec(id)?;
        if matches!(exec.state(), ExecState::Ended { .. } | ExecState::Created) {
            return Err(Error::conflict(format!("Exec {id} is not running")));
        }
        let handle = self.find(&exec.container.to_string())?;
        self.ask(&handle, "resize", &Request::Resize { target: Target::Exec(exec.id), rows, columns })
    }

    pub(super) fn exec_ended(&self, handle: &Handle, exit: &ExecExit) {
        let id = exit.exec_id.to_string();
        if let Ok(exec) = self.exec(&id) {
            exec.end(exit.exit_code);
        }
        let code = exit.exit_code.to_string();
        self.tell_at(&handle.get(), "exec_die", &[("execID", &id), ("exitCode", &code)], exit.time);
    }

    /// Forgets the execs of a container that is gone.
    pub(super) fn forget_execs(&self, container: &ContainerId) {
        self.execs().retain(|_, exec| exec.container != *container);
    }

    fn runs(&self, handle: &Handle, name: &str) -> Result<()> {
        let container = handle.get();
        match &container.state {
            State::Running(_) => Ok(()),
            State::Paused(_) => {
                Err(Error::conflict(format!("Container {name} is paused, unpause the container before exec")))
            }
            State::Restarting(_) => Err(control::restarting(&container)),
            _ => Err(control::not_running(&container)),
        }
    }

    fn execs(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<String, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
