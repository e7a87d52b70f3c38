//! What supervisors tell: ends, restarts, health. And taking care of what a daemon's death left.

use super::handle::{Handle, SUPERVISOR_END};
use super::record::{Container, Health, Probe};
use super::state::{Change, Exit, Run, State, next};
use super::{Containers, spec, start};
use crate::error::Result;
use crate::hub::News;
use base::{ContainerId, Timestamp};
use cgroups::systemd::{Instance, Scope};
use std::sync::Arc;
use supervisor::Connection;
use supervisor::protocol::{
    Event, ExitRecord, Health as Check, HealthState, HealthStatus, ImageUser, OnFailure, RestartName,
    RestartPolicy, Status, Target,
};

impl Containers {
    /// Begins to listen to supervisors, adopts the containers that run, and settles those that ended meanwhile.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be made or the packet filter cannot be changed.
    pub fn reconcile(self: &Arc<Self>) -> Result<()> {
        let weak = Arc::downgrade(self);
        self.hub.run(move |id, news| {
            if let Some(containers) = weak.upgrade() {
                containers.hear(id, news);
            }
        })?;
        let handles = self.table().all();
        let mut restart = Vec::new();
        for handle in handles {
            self.settle(&handle);
            let container = handle.get();
            let policy = container.host.restart_policy.name.as_str();
            let wanted = match policy {
                "always" => true,
                "unless-stopped" => !container.stopped_by_user,
                _ => false,
            };
            if wanted && matches!(container.state, State::Exited(_)) {
                restart.push(handle);
            } else if container.host.auto_remove && matches!(container.state, State::Exited(_)) {
                self.remove_in_background(&handle);
            }
        }
        self.settle_interfaces();
        self.sync_links(None)?;
        self.networks.sync_ports()?;
        self.sweep_namespaces();
        self.look_after_networks()?;
        self.look_after_cluster();
        self.volumes.sweep();
        // Who came and went while no daemon was there.
        let named = self.list();
        let named = named.iter().filter(|container| container.state.is_alive());
        let _told_later = self.announce(named.flat_map(|container| self.named_networks(container)).collect());
        self.sweep();
        self.settle_recreations()?;
        if !restart.is_empty() {
            let containers = Arc::clone(self);
            std::thread::spawn(move || containers.start_in_order(&restart));
        }
        Ok(())
    }

    /// Starts containers by their restart policy, each after those it needs; those of a wave a few at a time.
    fn start_in_order(self: &Arc<Self>, handles: &[Arc<Handle>]) {
        const TOGETHER: usize = 8;
        let records: Vec<Arc<Container>> = handles.iter().map(|handle| handle.get()).collect();
        let records: Vec<&Container> = records.iter().map(Arc::as_ref).collect();
        for wave in super::order::waves(&records) {
            let wave: Vec<&Arc<Handle>> = wave.iter().filter_map(|place| handles.get(*place)).collect();
            for some in wave.chunks(TOGETHER) {
                std::thread::scope(|scope| {
                    for handle in some {
                        scope.spawn(move || self.start_by_policy(handle));
                    }
                });
            }
        }
    }

    fn start_by_policy(self: &Arc<Self>, handle: &Arc<Handle>) {
        let _operation = handle.operate();
        // A client may have been quicker.
        if !matches!(handle.get().state, State::Exited(_)) {
            return;
        }
        if let Err(error) = self.start_now(handle, None) {
            tracing::warn!(container = %handle.id, error = %base::chain(&error), "starting by restart policy");
        }
    }

    /// Brings one container's record in line with what is there.
    fn settle(self: &Arc<Self>, handle: &Arc<Handle>) {
        let container = handle.get();
        if matches!(container.state, State::Removing(_)) {
            self.remove_in_background(handle);
            return;
        }
        if !container.state.is_alive() {
            return;
        }
        let path = self.settings.exec.supervisor_socket(&handle.id);
        match Connection::connect(&path).and_then(Connection::subscribe) {
            Ok((status, stream)) => {
                self.adopt(handle, status);
                if handle.get().state.is_alive()
                    && let Err(error) = self.hub.listen(handle.id, stream)
                {
                    tracing::error!(container = %handle.id, error = %base::chain(&error), "listening to a supervisor");
                }
            }
            Err(_gone) => self.ended(handle, None),
        }
    }

    /// Takes over a container that runs.
    fn adopt(self: &Arc<Self>, handle: &Handle, status: Status) {
        use supervisor::protocol::State as Found;
        let container = handle.get();
        let id = handle.id.to_string();
        self.volumes.adopt(&id, container.volumes());
        for (name, endpoint) in
            container.endpoints.iter().filter(|(_, endpoint)| !endpoint.endpoint_id.is_empty())
        {
            let Ok(network) = self.networks.get(name) else { continue };
            let member = start::member(&container.name, endpoint);
            self.networks.adopt(&network.id, &id, member);
        }
        let published: Vec<_> = container.ports.iter().filter_map(start::published).collect();
        self.networks.adopt_ports(self.port_member(&container).as_ref(), &published);
        let state = match status.state {
            Found::Running { pid, started_at, paused } => {
                let run = Run { pid, started_at: started_at.as_nanos() };
                hold_network(handle, pid);
                if paused { State::Paused(run) } else { State::Running(run) }
            }
            Found::Restarting { exit } => State::Restarting(exit_of(&exit)),
            Found::Exited(record) => return self.ended(handle, Some(record)),
            Found::Starting => return,
        };
        for exec in status.ended_execs {
            self.exec_ended(handle, &exec);
        }
        self.record(handle, |container| {
            container.state = state;
            container.restart_count = status.restart_count;
            if let Some(health) = status.health {
                container.health = Some(health_of(&health));
            }
            Ok(())
        });
        self.show_namespace(&handle.get());
    }

    /// Settles a container whose supervisor is gone: by its exit record, or by what can be known without one.
    fn ended(self: &Arc<Self>, handle: &Handle, told: Option<ExitRecord>) {
        let path = self.settings.exec.exit_record(&handle.id);
        let read = || serde_json::from_slice::<ExitRecord>(&std::fs::read(&path).ok()?).ok();
        let container = handle.get();
        let known = told.or_else(read);
        if known.is_none() {
            // It died with its supervisor, unless it is frozen: then it would stay so for ever.
            self.remove_cgroup(&container);
        }
        let record = known.unwrap_or_else(|| ExitRecord {
            // dockerd's code for an end that nobody saw.
            exit_code: 255,
            signal: None,
            oom_killed: false,
            started_at: container.state.started_at(),
            finished_at: super::now(),
            restart_count: container.restart_count,
            stopped_by_user: false,
            error: String::new(),
            health: None,
        });
        self.exited(handle, &record);
    }

    fn hear(self: &Arc<Self>, id: ContainerId, news: News) {
        let Some(handle) = self.handle(&id) else { return };
        match news {
            News::Lost => self.lost(&handle),
            News::Event(event) => self.event(&handle, event),
        }
    }

    /// The connection ended without a word: either the supervisor was killed, or it gave up on a slow daemon.
    fn lost(self: &Arc<Self>, handle: &Arc<Handle>) {
        tracing::warn!(container = %handle.id, "lost the supervisor");
        if handle.get().state.is_alive() {
            self.settle(handle);
        }
    }

    fn event(self: &Arc<Self>, handle: &Arc<Handle>, event: Event) {
        match event {
            Event::Exited(record) => {
                self.exited(handle, &record);
                let container = handle.get();
                if container.host.auto_remove {
                    self.remove_in_background(handle);
                }
            }
            Event::Restarting { exit, delay_ms } => {
                tracing::debug!(container = %handle.id, delay_ms, "restarting");
                self.tell_death(&handle.get(), &exit);
                self.record_end(handle, &exit, Change::WillRestart(exit_of(&exit)));
            }
            Event::Started { pid, time, restart_count } => {
                let run = Run { pid, started_at: time.as_nanos() };
                self.record(handle, |container| {
                    // `docker restart` replaces a run without an end in between.
                    if container.state.run().is_some() {
                        container.state = State::Running(run);
                    } else {
                        container.state = next(container.state.clone(), Change::Started(run))
                            .map_err(|error| start::unfit(&error))?;
                    }
                    container.restart_count = restart_count;
                    container.health = first_health(container);
                    Ok(())
                });
                // This daemon may have found it between two runs.
                hold_network(handle, pid);
                self.show_namespace(&handle.get());
                self.tell_at(&handle.get(), "start", &[], time);
            }
            Event::Oom => self.tell(&handle.get(), "oom", &[]),
            Event::ExecExited(exit) => self.exec_ended(handle, &exit),
            Event::Paused => {
                self.change(handle, Change::Paused);
                self.tell(&handle.get(), "pause", &[]);
            }
            Event::Unpaused => {
                self.change(handle, Change::Unpaused);
                self.tell(&handle.get(), "unpause", &[]);
            }
            Event::ProbeStarted { exec_id, time } => {
                let container = handle.get();
                let command = probe_command(&container);
                for action in ["exec_create", "exec_start"] {
                    self.tell_at(
                        &container,
                        &format!("{action}: {command}"),
                        &[("execID", &exec_id.to_string())],
                        time,
                    );
                }
            }
            Event::Probed { exec_id, result, health, changed } => {
                let code = result.exit_code.to_string();
                let id = exec_id.to_string();
                self.tell_at(&handle.get(), "exec_die", &[("execID", &id), ("exitCode", &code)], result.end);
                self.record(handle, |container| {
                    container.health = Some(health_of(&health));
                    Ok(())
                });
                if changed {
                    self.tell(&handle.get(), &format!("health_status: {}", health_word(health.state)), &[]);
                }
            }
            Event::Detached { by_keys: true, target: Target::Init } => {
                self.tell(&handle.get(), "detach", &[]);
            }
            Event::Detached { by_keys: true, target: Target::Exec(exec_id) } => {
                self.tell(&handle.get(), "exec_detach", &[("execID", &exec_id.to_string())]);
            }
            Event::Detached { by_keys: false, .. } => {}
        }
    }

    /// Records the final end of a run and gives back what belonged to it.
    ///
    /// The record comes last: it wakes those who may start the container again at once. The folder of the run, with the
    /// exit record, stays until the next start or the removal, so that no crash in between loses the exit.
    fn exited(self: &Arc<Self>, handle: &Handle, record: &ExitRecord) {
        if handle.get().state.is_alive() {
            self.tell_death(&handle.get(), record);
            self.give_networks_back(handle);
            self.volumes.unmount(&handle.id.to_string());
            let _told_later = self.announce(self.named_networks(&handle.get()));
            self.record_end(handle, record, Change::Exited(exit_of(record)));
        }
    }

    fn record_end(&self, handle: &Handle, record: &ExitRecord, change: Change) {
        self.record(handle, |container| {
            if matches!(change, Change::Exited(_)) {
                start::clear_addresses(container);
            }
            container.state = next(container.state.clone(), change).map_err(|error| start::unfit(&error))?;
            container.restart_count = record.restart_count;
            container.stopped_by_user = record.stopped_by_user;
            Ok(())
        });
    }

    fn tell_death(&self, container: &Container, record: &ExitRecord) {
        let seconds = record.finished_at.since(record.started_at).as_secs().to_string();
        let code = record.exit_code.to_string();
        let further = [("execDuration", seconds.as_str()), ("exitCode", code.as_str())];
        self.tell_at(container, "die", &further, record.finished_at);
    }

    fn change(&self, handle: &Handle, change: Change) {
        self.record(handle, |container| {
            container.state = next(container.state.clone(), change).map_err(|error| start::unfit(&error))?;
            Ok(())
        });
    }

    /// Records a fact.
    fn record(&self, handle: &Handle, change: impl FnOnce(&mut Container) -> Result<()>) {
        if let Err(error) = handle.note(self.store.database(), change) {
            tracing::error!(container = %handle.id, error = %base::chain(&error), "recording a container's state");
        }
    }

    /// Removes what containers that are gone left behind: folders of runs and of data, control groups.
    fn sweep(&self) {
        let known: Vec<String> = self.list().iter().map(|container| container.id.to_string()).collect();
        let running: Vec<String> = self
            .list()
            .iter()
            .filter(|container| container.state.is_alive())
            .map(|container| container.id.to_string())
            .collect();
        let strays = |folder: std::path::PathBuf, keep: &[String]| -> Vec<std::path::PathBuf> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .filter(|entry| !keep.iter().any(|id| entry.file_name() == **id))
                .map(|entry| entry.path())
                .collect()
        };
        for folder in strays(self.settings.exec.containers(), &running) {
            super::step::end_stray(&folder);
            // The lock of one that tidies up just now would go with its folder.
            supervisor::tidied_up_within(&folder, SUPERVISOR_END);
            drop(std::fs::remove_dir_all(folder));
        }
        for folder in strays(self.settings.data.containers(), &known) {
            let id = folder
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| ContainerId::parse(name).ok());
            if let Some(id) = id {
                tracing::info!(container = %id, "removing the folders of a container that was never recorded");
                if let Err(error) = self.remove_folders(&id) {
                    tracing::warn!(container = %id, error = %base::chain(&error), "removing leftover folders");
                }
            }
        }
        for container in self.list().iter().filter(|container| !container.state.is_alive()) {
            self.remove_cgroup(container);
        }
    }

    /// Deletes the control group of a container that does not run; there is none as a rule.
    pub(super) fn remove_cgroup(&self, container: &Container) {
        let Some(hierarchy) = &self.host.hierarchy else { return };
        let group = self.cgroup_path(container).and_then(|path| cgroups::Cgroup::open(hierarchy, &path));
        let removed = group.and_then(|group| match group.exists() {
            true => group.kill().and(group.delete()),
            false => Ok(()),
        });
        if let Err(error) = removed {
            tracing::warn!(container = %container.id, error = %base::chain(&error), "deleting a leftover control group");
        }
    }

    /// Returns the control group of a container, from the root of each hierarchy.
    ///
    /// # Errors
    ///
    /// [`cgroups::Error::Scope`] for a parent that is no slice, from before systemd made the groups.
    pub(super) fn cgroup_path(&self, container: &Container) -> std::result::Result<String, cgroups::Error> {
        let systemd = self.settings.systemd_cgroups;
        let path = spec::cgroup_path(container, &self.settings.cgroup_parent, systemd);
        if systemd { Scope::parse(&path, "", Instance::System)?.path() } else { Ok(path) }
    }
}

/// Takes hold of the network of a container that runs, unless it is held.
fn hold_network(handle: &Handle, pid: i32) {
    if handle.get().host.network_mode == "host" || handle.live().netns.is_some() {
        return;
    }
    let path = std::path::PathBuf::from(format!("/proc/{pid}/ns/net"));
    handle.live().netns = sys::namespace::open(&path).ok();
}

fn exit_of(record: &ExitRecord) -> Exit {
    let nanos = |time: Timestamp| (!time.is_zero()).then(|| time.as_nanos());
    Exit {
        code: record.exit_code,
        oom_killed: record.oom_killed,
        started_at: nanos(record.started_at),
        finished_at: nanos(record.finished_at),
        error: record.error.clone(),
    }
}

/// Returns the policy in the supervisor's words.
pub(super) fn restart_policy(policy: &api::host_config::RestartPolicy) -> RestartPolicy {
    let name = match policy.name.as_str() {
        "always" => RestartName::Always,
        "unless-stopped" => RestartName::UnlessStopped,
        "on-failure" => RestartName::OnFailure,
        _ => RestartName::No,
    };
    RestartPolicy { name, maximum_retry_count: u32::try_from(policy.maximum_retry_count).unwrap_or(0) }
}

/// Health before the first probe; `None` without a check.
pub(super) fn first_health(container: &Container) -> Option<Health> {
    let test = &container.config.healthcheck.as_ref()?.test;
    let checked = test.first().is_some_and(|kind| !kind.is_empty() && kind != "NONE");
    checked.then(|| Health { status: "starting".to_owned(), ..Health::default() })
}

/// Returns the health check with its defaults (Engine API, `HealthConfig`); `None` without one.
pub(super) fn health_check(
    container: &Container,
    spec: &oci::runtime::Spec,
    stop_timeout_ms: Option<u64>,
) -> Option<Check> {
    first_health(container)?;
    let config = container.config.healthcheck.as_ref()?;
    let mut process = spec.process.clone()?;
    process.terminal = false;
    process.console_size = None;
    process.args = match config.test.split_first() {
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            let shell =
                container.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            [shell, rest.to_vec()].concat()
        }
        Some((_, rest)) => rest.to_vec(),
        None => return None,
    };
    let millis = |nanos: i64, default: u64| match u64::try_from(nanos) {
        Ok(0) | Err(_) => default,
        Ok(nanos) => nanos.div_ceil(1_000_000),
    };
    Some(Check {
        process,
        user: Some(ImageUser {
            user: container.config.user.clone(),
            groups: container.host.group_add.clone().unwrap_or_default(),
        }),
        interval_ms: millis(config.interval, 30_000),
        timeout_ms: millis(config.timeout, 30_000),
        start_period_ms: millis(config.start_period, 0),
        start_interval_ms: millis(config.start_interval, 5_000),
        on_failure: on_failure(container, &config.on_failure, stop_timeout_ms),
        retries: u32::try_from(config.retries).ok().filter(|retries| *retries > 0).unwrap_or(3),
    })
}

/// What is done with a container that has become unhealthy.
fn on_failure(container: &Container, action: &str, timeout_ms: Option<u64>) -> OnFailure {
    const TERM: i32 = 15;
    let signal = sys::signal::parse(&container.config.stop_signal).unwrap_or(TERM);
    match action {
        "kill" => OnFailure::Kill,
        "restart" => OnFailure::Restart { signal, timeout_ms },
        "stop" => OnFailure::Stop { signal, timeout_ms },
        _ => OnFailure::None,
    }
}

fn probe_command(container: &Container) -> String {
    let test = container.config.healthcheck.as_ref().map(|check| check.test.as_slice()).unwrap_or_default();
    match test.split_first() {
        Some((kind, rest)) if kind == "CMD-SHELL" => format!("/bin/sh -c {}", rest.join(" ")),
        Some((_, rest)) => rest.join(" "),
        None => String::new(),
    }
}

fn health_word(state: HealthState) -> &'static str {
    match state {
        HealthState::Starting => "starting",
        HealthState::Healthy => "healthy",
        HealthState::Unhealthy => "unhealthy",
    }
}

fn health_of(status: &HealthStatus) -> Health {
    Health {
        status: health_word(status.state).to_owned(),
        failing_streak: status.failing_streak,
        log: status
            .log
            .iter()
            .map(|probe| Probe {
                start: probe.start.as_nanos(),
                end: probe.end.as_nanos(),
                exit_code: probe.exit_code,
                output: probe.output.clone(),
            })
            .collect(),
    }
}
