//! What daemons ask for.

use super::ending::KILL;
use super::peers::{conflict, refusal};
use super::run::Stop;
use super::{Phase, Supervisor};
use crate::protocol::{
    AttachOptions, Event, ExitRecord, Reply, Request, RunningExec, State, Status, Target, Update,
};
use base::{ExecId, Kind};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

impl Supervisor {
    /// Carries out a request of connection `index` and answers it.
    pub(super) fn request(&mut self, index: u32, request: Request, descriptors: Vec<OwnedFd>) {
        let reply = match request {
            Request::Launch(_) => Some(conflict("the container has been launched already")),
            Request::Exec(exec) => Some(self.exec(&exec, descriptors)),
            Request::Attach(options) => Some(self.attach_late(options, descriptors)),
            Request::Signal { signal } => Some(self.signal(signal)),
            Request::SignalExec { exec_id, signal } => Some(self.signal_exec(exec_id, signal)),
            Request::Pause => Some(self.pause(None)),
            Request::Hold => Some(self.pause(Some(index))),
            Request::Unpause => Some(self.unpause()),
            Request::Checkpoint { image, leave_running } => Some(self.checkpoint(&image, leave_running)),
            Request::Resize { target, rows, columns } => Some(self.resize(target, rows, columns)),
            Request::Update(update) => Some(self.update(&update)),
            Request::Resolve(known) => Some(self.resolve(*known)),
            Request::Ports(ports) => Some(self.change_ports(&ports, descriptors)),
            Request::Stop { signal, timeout_ms } => self.stop(index, signal, timeout_ms),
            Request::Restart { signal, timeout_ms } => self.restart(index, signal, timeout_ms),
            Request::Status => Some(self.status()),
            Request::Subscribe => {
                self.peers.subscribe(index);
                Some(self.status())
            }
        };
        if let Some(reply) = reply {
            self.peers.reply(index, reply, &self.poller);
        }
    }

    fn attach_late(&mut self, options: AttachOptions, descriptors: Vec<OwnedFd>) -> Reply {
        let number = match self.running() {
            Ok(run) => run.number,
            Err(refusal) => return refusal,
        };
        let Some(socket) = descriptors.into_iter().next() else {
            return refusal(Kind::InvalidArgument, "the client's descriptor is missing");
        };
        done(self.attach(number, socket, options), "attach client")
    }

    fn signal(&mut self, signal: i32) -> Reply {
        let configured = self.launch.stop_signal;
        let run = match self.running() {
            Ok(run) => run,
            Err(refusal) => return refusal,
        };
        if let Err(failure) = run.signal(signal) {
            return failure.into_refusal();
        }
        // moby, killWithSignal: any signal counts as the user's wish to end it, unless a stop signal is configured and
        // this is another one.
        if signal == KILL || configured.is_none_or(|configured| configured == signal) {
            run.by_user = true;
            run.again = false;
            self.thaw();
        }
        Reply::Done
    }

    fn signal_exec(&mut self, id: ExecId, signal: i32) -> Reply {
        match self.exec_by_id(id) {
            Some((_, exec)) => match sys::pidfd::send_signal(exec.pidfd.as_fd(), signal) {
                Ok(()) => Reply::Done,
                Err(error) => refusal(Kind::Internal, base::chain(&error)),
            },
            None => refusal(Kind::NotFound, format!("No such exec instance: {id}")),
        }
    }

    fn pause(&mut self, holder: Option<u32>) -> Reply {
        let id = self.launch.id;
        let run = match self.running() {
            Ok(run) => run,
            Err(refusal) => return refusal,
        };
        if run.paused {
            return conflict(format!("Container {id} is already paused"));
        }
        if let Err(failure) = run.freeze(holder) {
            return failure.into_refusal();
        }
        self.peers.tell(Event::Paused, &self.poller);
        Reply::Done
    }

    fn unpause(&mut self) -> Reply {
        let id = self.launch.id;
        let run = match self.running() {
            Ok(run) => run,
            Err(refusal) => return refusal,
        };
        if !run.paused {
            return conflict(format!("Container {id} is not paused"));
        }
        if let Err(failure) = run.thaw() {
            return failure.into_refusal();
        }
        self.peers.tell(Event::Unpaused, &self.poller);
        Reply::Done
    }

    /// Nobody is served meanwhile: the container stands still as well.
    fn checkpoint(&mut self, image: &Path, leave_running: bool) -> Reply {
        let (folder, id) = (self.launch.exec_dir.clone(), self.launch.id.to_string());
        let (spec, systemd) = (self.launch.spec.clone(), self.launch.systemd);
        let run = match self.running() {
            Ok(run) => run,
            Err(refusal) => return refusal,
        };
        match run.checkpoint((&folder, id), (spec, systemd), image, leave_running) {
            Ok(()) if leave_running => Reply::Done,
            Ok(()) => {
                // Its end is what was asked for.
                run.by_user = true;
                run.again = false;
                Reply::Done
            }
            Err(failure) => failure.into_refusal(),
        }
    }

    fn resize(&mut self, target: Target, rows: u16, columns: u16) -> Reply {
        let number = match (target, &self.phase) {
            (Target::Init, Phase::Running(run)) => Some(run.number),
            (Target::Init, Phase::Waiting { .. } | Phase::Ended { .. }) => None,
            (Target::Exec(id), _) => self.exec_by_id(id).map(|(number, _)| number),
        };
        let Some(number) = number else {
            return match target {
                Target::Init => conflict(format!("container {} is not running", self.launch.id)),
                Target::Exec(id) => refusal(Kind::NotFound, format!("No such exec instance: {id}")),
            };
        };
        if let Some(terminal) = self.streams.get(&number).and_then(|streams| streams.terminal())
            && let Err(error) = sys::terminal::resize(terminal.as_fd(), rows, columns)
        {
            return refusal(Kind::Internal, base::chain(&error));
        }
        Reply::Done
    }

    fn update(&mut self, update: &Update) -> Reply {
        if let Some(resources) = &update.resources {
            match &self.phase {
                Phase::Running(run) if run.end.is_none() => {
                    if let Err(failure) = run.apply(resources) {
                        return failure.into_refusal();
                    }
                }
                Phase::Running(_) | Phase::Waiting { .. } | Phase::Ended { .. } => {}
            }
            self.remember(resources);
        }
        if let Some(policy) = update.restart {
            self.policy = policy;
        }
        Reply::Done
    }

    /// Lets the next start have the changed limits too.
    fn remember(&mut self, changed: &oci::runtime::Resources) {
        let linux = self.launch.spec.linux.get_or_insert_default();
        let resources = linux.resources.get_or_insert_default();
        if !changed.devices.is_empty() {
            resources.devices.clone_from(&changed.devices);
        }
        if let Some(memory) = &changed.memory {
            let known = resources.memory.get_or_insert_default();
            known.limit = memory.limit.or(known.limit);
            known.swap = memory.swap.or(known.swap);
            known.reservation = memory.reservation.or(known.reservation);
            known.swappiness = memory.swappiness.or(known.swappiness);
        }
        if let Some(cpu) = &changed.cpu {
            let known = resources.cpu.get_or_insert_default();
            known.shares = cpu.shares.or(known.shares);
            known.quota = cpu.quota.or(known.quota);
            known.period = cpu.period.or(known.period);
            known.realtime_runtime = cpu.realtime_runtime.or(known.realtime_runtime);
            known.realtime_period = cpu.realtime_period.or(known.realtime_period);
            known.cpus = cpu.cpus.clone().or(known.cpus.take());
            known.mems = cpu.mems.clone().or(known.mems.take());
        }
        if changed.pids.is_some() {
            resources.pids.clone_from(&changed.pids);
        }
        if let Some(block_io) = &changed.block_io {
            let known = resources.block_io.get_or_insert_default();
            known.weight = block_io.weight.or(known.weight);
        }
    }

    /// Begins to stop the container; the answer comes when it has ended.
    fn stop(&mut self, index: u32, signal: i32, timeout_ms: Option<u64>) -> Option<Reply> {
        match &mut self.phase {
            Phase::Running(run) => {
                run.by_user = true;
                run.again = false;
                if let Some(asker) = run.restart.take() {
                    self.peers.reply(asker, conflict("the container was stopped meanwhile"), &self.poller);
                }
                self.begin_stop(Some(index), signal, timeout_ms);
                None
            }
            Phase::Waiting { record, .. } => {
                let record = ExitRecord { stopped_by_user: true, ..record.clone() };
                self.end_for_good(record, None);
                self.end_tenure();
                Some(Reply::Done)
            }
            Phase::Ended { .. } => Some(Reply::Done),
        }
    }

    /// Begins to restart the container; the answer comes when it has started again.
    fn restart(&mut self, index: u32, signal: i32, timeout_ms: Option<u64>) -> Option<Reply> {
        match &mut self.phase {
            Phase::Running(run) => {
                run.restart = Some(index);
                self.begin_stop(None, signal, timeout_ms);
                None
            }
            Phase::Waiting { .. } => Some(self.start_again()),
            Phase::Ended { .. } => Some(conflict(format!("container {} is not running", self.launch.id))),
        }
    }

    pub(super) fn begin_stop(&mut self, waiting: Option<u32>, signal: i32, timeout_ms: Option<u64>) {
        let Phase::Running(run) = &mut self.phase else { return };
        let stop = run.stop.get_or_insert_with(Stop::default);
        stop.waiting.extend(waiting);
        if run.end.is_some() {
            return;
        }
        let kill_at = timeout_ms.map(|millis| Instant::now() + Duration::from_millis(millis));
        // The most impatient of several stops wins.
        stop.kill_at = match (stop.kill_at, kill_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        // A process that is just ending needs no signal, one that cannot be signalled is killed.
        let sent = run.signal(signal);
        if timeout_ms == Some(0) || sent.is_err() {
            self.kill();
        } else {
            self.thaw();
        }
    }

    fn status(&self) -> Reply {
        let mut cgroup = String::new();
        let state = match &self.phase {
            Phase::Running(run) => {
                run.cgroup.path().clone_into(&mut cgroup);
                State::Running { pid: run.pid, started_at: run.started_at, paused: run.paused }
            }
            Phase::Waiting { record, .. } => State::Restarting { exit: record.clone() },
            Phase::Ended { record, .. } => State::Exited(record.clone()),
        };
        let execs = self.execs.values().filter(|exec| !exec.probe);
        Reply::Status(Box::new(Status {
            state,
            restart_count: self.history.restart_count,
            execs: execs.map(|exec| RunningExec { exec_id: exec.id, pid: exec.pid }).collect(),
            ended_execs: self.ended_execs.iter().copied().collect(),
            health: self.probes.as_ref().map(|probes| probes.status().clone()),
            cgroup,
        }))
    }
}

fn done(result: Result<(), Errno>, what: &str) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(errno) => refusal(Kind::Internal, format!("{what}: {}", sys::message(errno))),
    }
}
