//! Stopping, killing, pausing, resizing, changing a container that runs.

use super::handle::{Handle, WaitCondition, Waiter};
use super::record::Container;
use super::state::State;
use super::{Containers, finish, intent, ports, spec};
use crate::error::{Error, Result};
use api::container::UpdateRequest;
use base::Kind;
use std::sync::Arc;
use std::time::Duration;
use store::Durability;
use supervisor::Connection;
use supervisor::protocol::{Reply, Request, Target, Update};

impl Containers {
    /// Stops a container: its signal, a wait, then KILL. `timeout` is in seconds; negative waits for ever.
    ///
    /// # Errors
    ///
    /// [`Kind::NotModified`] if it does not run.
    pub fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let handle = self.find(name)?;
        let container = handle.get();
        if !container.state.is_alive() {
            return Err(Error::known(
                Kind::NotModified,
                format!("container {} is not running", container.id),
            ));
        }
        let request = Request::Stop {
            signal: stop_signal(&container, signal)?,
            timeout_ms: self.stop_timeout(&container, timeout),
        };
        let waiter = Waiter::new(&handle, WaitCondition::NotRunning);
        match self.supervisor(&handle)?.call(&request, &[]) {
            Ok(Reply::Done) | Err(supervisor::Error::Closed { .. }) => {}
            Ok(reply) => return Err(refused(&container, "stop", reply)),
            Err(error) => return Err(error.into()),
        }
        block_on(waiter.wait());
        self.tell(&handle.get(), "stop", &[]);
        Ok(())
    }

    /// Stops a container if it runs and starts it again.
    ///
    /// # Errors
    ///
    /// As for stop and start.
    pub fn restart(self: &Arc<Self>, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let handle = self.find(name)?;
        // Automatic removal must not strike between the two halves.
        let operation = handle.operate();
        match self.stop(name, signal, timeout) {
            Err(error) if base::Classify::kind(&error) == Kind::NotModified => {}
            other => other?,
        }
        let state = handle.get().state.clone();
        if matches!(state, State::Removing(_) | State::Dead(_)) {
            return Err(Error::conflict("container is marked for removal and cannot be started"));
        }
        let started = self.start_now(&handle, None);
        drop(operation);
        started?;
        self.tell(&handle.get(), "restart", &[]);
        Ok(())
    }

    /// Sends a signal to a container's init.
    ///
    /// # Errors
    ///
    /// Fails for an unknown signal and for a container that does not run.
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let handle = self.find(name)?;
        let container = handle.get();
        let number = sys::signal::parse(if signal.is_empty() { "KILL" } else { signal })
            .ok_or_else(|| Error::invalid(format!("Invalid signal: {signal}")))?;
        if container.state.run().is_none() {
            return Err(Error::conflict(format!(
                "cannot kill container: {name}: container {} is not running",
                container.id
            )));
        }
        let waiter = (number == 9).then(|| Waiter::new(&handle, WaitCondition::NotRunning));
        self.ask(&handle, "kill", &Request::Signal { signal: number })?;
        self.tell(&container, "kill", &[("signal", &number.to_string())]);
        if let Some(waiter) = waiter {
            // As in Docker, KILL answers when the container has ended.
            block_on(waiter.wait());
        }
        Ok(())
    }

    /// Freezes a container's processes.
    ///
    /// # Errors
    ///
    /// Fails unless it runs.
    pub fn pause(&self, name: &str) -> Result<()> {
        let handle = self.find(name)?;
        let container = handle.get();
        match &container.state {
            State::Running(_) => {}
            State::Paused(_) => {
                return Err(Error::conflict(format!("container {} is already paused", container.id)));
            }
            State::Restarting(_) => return Err(restarting(&container)),
            _ => return Err(not_running(&container)),
        }
        self.ask(&handle, "pause", &Request::Pause)?;
        await_state(&handle, |state| !matches!(state, State::Running(_)));
        Ok(())
    }

    /// Has a container stand still while `work` is done, if it runs; should this process die meanwhile, it goes on.
    pub fn held<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let hold = || {
            let handle = self.find(name)?;
            let connection = self.supervisor(&handle)?;
            connection.done(&Request::Hold, &[])?;
            await_state(&handle, |state| !matches!(state, State::Running(_)));
            Ok::<_, Error>((handle, connection))
        };
        // One that does not run, or stands still already, does not change.
        let Ok((handle, connection)) = hold() else { return work() };
        let outcome = work();
        drop(connection);
        await_state(&handle, |state| !matches!(state, State::Paused(_)));
        outcome
    }

    /// Thaws a container's processes.
    ///
    /// # Errors
    ///
    /// Fails unless it is paused.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let handle = self.find(name)?;
        let container = handle.get();
        if !matches!(container.state, State::Paused(_)) {
            return Err(Error::conflict(format!("Container {} is not paused", container.id)));
        }
        self.ask(&handle, "unpause", &Request::Unpause)?;
        await_state(&handle, |state| !matches!(state, State::Paused(_)));
        Ok(())
    }

    /// Changes the size of a container's terminal, in characters.
    ///
    /// # Errors
    ///
    /// Fails unless it runs.
    pub fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let handle = self.find(name)?;
        let container = handle.get();
        if container.state.run().is_none() {
            return Err(not_running(&container));
        }
        self.ask(&handle, "resize", &Request::Resize { target: Target::Init, rows, columns })?;
        self.tell(&container, "resize", &[("height", &rows.to_string()), ("width", &columns.to_string())]);
        Ok(())
    }

    /// Changes limits and restart policy, of a running container at once. Returns warnings.
    ///
    /// # Errors
    ///
    /// Fails with Docker's text for limits that cannot be; nothing has changed then.
    pub fn update(&self, name: &str, request: &UpdateRequest) -> Result<Vec<String>> {
        let handle = self.find(name)?;
        let _operation = handle.operate();
        let container = handle.get();
        if matches!(container.state, State::Removing(_) | State::Dead(_)) {
            return Err(Error::conflict("Container is marked for removal and cannot be \"update\"."));
        }
        let mut changed = Container::clone(&container);
        overlay(&mut changed.host.resources, &request.resources)?;
        let policy = &request.restart_policy;
        if !policy.name.is_empty() {
            intent::check_restart(policy, changed.host.auto_remove)?;
            changed.host.restart_policy = policy.clone();
        }
        intent::check_limits(&changed.host, &self.host.capacity)?;
        let publishing = ports::change(&mut changed, request)?;
        if container.state.is_alive() {
            let facts = self.facts(&changed, &[])?;
            let mut resources = spec::resources(&changed.host, &facts)?;
            resources.devices.clear();
            let update = Update {
                resources: Some(resources),
                restart: (!policy.name.is_empty()).then(|| finish::restart_policy(policy)),
            };
            self.ask(&handle, "update", &Request::Update(Box::new(update)))?;
        }
        let published = match publishing {
            Some(publishing) if container.state.is_alive() => self.republish(&handle, &publishing)?,
            _ => container.ports.clone(),
        };
        let container = handle.update(self.store.database(), Durability::Durable, |container| {
            container.host = changed.host;
            container.config.exposed_ports = changed.config.exposed_ports;
            container.ports = published;
            Ok(())
        })?;
        self.tell(&container, "update", &[]);
        Ok(Vec::new())
    }

    /// Connects to a container's supervisor.
    ///
    /// # Errors
    ///
    /// Fails if the container does not run.
    pub(super) fn supervisor(&self, handle: &Handle) -> Result<Connection> {
        let path = self.settings.exec.supervisor_socket(&handle.id);
        match Connection::connect(&path) {
            Ok(connection) => Ok(connection),
            Err(supervisor::Error::Closed { .. }) => Err(not_running(&handle.get())),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a request whose good answer says nothing.
    ///
    /// # Errors
    ///
    /// Fails with the supervisor's reason.
    pub(super) fn ask(&self, handle: &Handle, operation: &str, request: &Request) -> Result<()> {
        match self.supervisor(handle)?.call(request, &[])? {
            Reply::Done => Ok(()),
            reply => Err(refused(&handle.get(), operation, reply)),
        }
    }

    pub(super) fn stop_timeout(&self, container: &Container, asked: Option<i64>) -> Option<u64> {
        let default = i64::try_from(self.defaults().stop_timeout.as_secs()).unwrap_or(10);
        let seconds = asked.or(container.config.stop_timeout).unwrap_or(default);
        u64::try_from(seconds).ok().map(|seconds| seconds.saturating_mul(1000))
    }
}

pub(super) fn not_running(container: &Container) -> Error {
    Error::conflict(format!("container {} is not running", container.id))
}

pub(super) fn restarting(container: &Container) -> Error {
    Error::conflict(format!("Container {} is restarting, wait until the container is running", container.id))
}

pub(super) fn refused(container: &Container, operation: &str, reply: Reply) -> Error {
    match reply {
        Reply::Error { kind, message } | Reply::Failed { kind, message, .. } => {
            Error::known(kind, format!("cannot {operation} container: {}: {message}", container.id))
        }
        reply => Error::known(
            Kind::Internal,
            format!("{operation} container {}: unexpected {reply:?}", container.id),
        ),
    }
}

fn stop_signal(container: &Container, asked: Option<&str>) -> Result<i32> {
    let text = match asked.filter(|text| !text.is_empty()) {
        Some(text) => text,
        None if container.config.stop_signal.is_empty() => "TERM",
        None => &container.config.stop_signal,
    };
    sys::signal::parse(text).ok_or_else(|| Error::invalid(format!("Invalid signal: {text}")))
}

/// Waits on a thread that may block. The daemon calls the engine on such threads.
pub(super) fn block_on<T>(wait: impl Future<Output = T>) -> Option<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => Some(runtime.block_on(wait)),
        // Outside a runtime (tests, threads of the engine's own) one for this wait alone.
        Err(_) => {
            Some(tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?.block_on(wait))
        }
    }
}

/// How long to wait for a supervisor's event after its answer.
const EVENT_DELAY: Duration = Duration::from_secs(1);

/// Waits a little for the supervisor's event, so that the answer comes after the record has changed.
fn await_state(handle: &Handle, reached: impl Fn(&State) -> bool) {
    let mut changes = handle.watch();
    block_on(async {
        let reached = changes.wait_for(|snapshot| snapshot.removed || reached(&snapshot.container.state));
        drop(tokio::time::timeout(EVENT_DELAY, reached).await);
    });
}

/// Puts what is set in `new` over `old`.
///
/// # Errors
///
/// Fails for a combination that dockerd refuses.
fn overlay(old: &mut api::host_config::Resources, new: &api::host_config::Resources) -> Result<()> {
    fn set<T: PartialEq + Default + Clone>(old: &mut T, new: &T) {
        if *new != T::default() {
            old.clone_from(new);
        }
    }
    if new.nano_cpus > 0 && (old.cpu_period > 0 || old.cpu_quota > 0) {
        return Err(Error::invalid(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ));
    }
    if (new.cpu_period > 0 || new.cpu_quota > 0) && old.nano_cpus > 0 {
        return Err(Error::invalid(
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ));
    }
    if new.memory > 0 && new.memory_swap == 0 && old.memory_swap > 0 && new.memory > old.memory_swap {
        return Err(Error::invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    set(&mut old.cpu_shares, &new.cpu_shares);
    set(&mut old.memory, &new.memory);
    set(&mut old.memory_swap, &new.memory_swap);
    set(&mut old.memory_reservation, &new.memory_reservation);
    set(&mut old.nano_cpus, &new.nano_cpus);
    set(&mut old.cpu_period, &new.cpu_period);
    set(&mut old.cpu_quota, &new.cpu_quota);
    set(&mut old.cpu_realtime_period, &new.cpu_realtime_period);
    set(&mut old.cpu_realtime_runtime, &new.cpu_realtime_runtime);
    set(&mut old.cpuset_cpus, &new.cpuset_cpus);
    set(&mut old.cpuset_mems, &new.cpuset_mems);
    set(&mut old.blkio_weight, &new.blkio_weight);
    set(&mut old.pids_limit, &new.pids_limit);
    Ok(())
}
