//! The end of a run, and what follows: another one, or the end for good.

use super::run::{End, Run};
use super::{DRAIN_LIMIT, FLUSH_LIMIT, LINGER_LIMIT, Phase, Supervisor, now};
use crate::foreign::Foreign;
use crate::protocol::{Event, ExitRecord, Reply, Rootfs};
use crate::{Error, restart};
use base::Timestamp;
use cgroups::Cgroup;
use oci::runtime::NamespaceKind;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use sys::pidfd::Exit;

/// `SIGKILL`, signal(7).
pub(super) const KILL: i32 = 9;

/// Returns the record of a container that never ran.
pub(super) fn never_ran() -> ExitRecord {
    ExitRecord {
        exit_code: 128,
        signal: None,
        oom_killed: false,
        started_at: Timestamp::ZERO,
        finished_at: Timestamp::ZERO,
        restart_count: 0,
        stopped_by_user: false,
        error: String::new(),
        health: None,
    }
}

impl Supervisor {
    /// The first process has ended: reaps it and reads its last output.
    pub(super) fn init_ended(&mut self) {
        let shares_pids = self.shares_pids();
        let Phase::Running(run) = &mut self.phase else { return };
        if run.end.is_some() {
            return;
        }
        let Ok(Some(exit)) = sys::pidfd::try_wait(run.pidfd.as_fd()) else { return };
        self.poller.remove(&run.pidfd);
        run.end = Some(End::new(exit, now(), DRAIN_LIMIT));
        if shares_pids {
            // No PID namespace has died with the first process: the others are killed one by one.
            run.cgroup.kill().ok();
        }
        let number = run.number;
        if self.drain(number) {
            self.finish_run();
        }
    }

    /// Says whether the container's processes survive its first one.
    fn shares_pids(&self) -> bool {
        let namespaces = self.launch.spec.linux.as_ref().map(|linux| linux.namespaces.as_slice());
        !namespaces
            .unwrap_or_default()
            .iter()
            .any(|namespace| namespace.kind == NamespaceKind::Pid && namespace.path.is_none())
    }

    /// Ends the present run, all its output being read, and decides what follows.
    fn finish_run(&mut self) {
        self.finish_all_execs();
        self.look_at_memory();
        self.end_memory_watch();
        let Phase::Running(run) = &mut self.phase else { return };
        let Some(end) = run.end else { return };
        let number = run.number;
        let record =
            record(run, end, &self.history, self.probes.as_ref().map(|probes| probes.status().clone()));
        let exit = restart::Exit {
            code: record.exit_code,
            by_user: run.by_user,
            ran: end.at.saturating_duration_since(run.begun),
        };
        let (cgroup, foreign) = (run.cgroup.clone(), run.foreign.take());
        let mounts = run.mounts.take();
        let asker = run.restart.take();
        let again = asker.is_some() || run.again;
        let waiting = run.stop.take().map(|stop| stop.waiting).unwrap_or_default();
        self.probes = None;
        let delay = restart::next_start(self.policy, exit, self.history);
        match (again, delay) {
            (true, _) => {
                self.pause_between(record, Duration::ZERO, number);
                drop(mounts);
                self.clean_up(foreign.as_deref(), &cgroup);
                let reply = self.start_again();
                if let Some(asker) = asker {
                    self.peers.reply(asker, reply, &self.poller);
                }
                self.answer_stops(waiting);
            }
            (false, Some(delay)) => {
                self.history.last_delay = Some(delay);
                self.history.restart_count = self.history.restart_count.saturating_add(1);
                self.pause_between(record, delay, number);
                drop(mounts);
                self.clean_up(foreign.as_deref(), &cgroup);
                self.answer_stops(waiting);
            }
            (false, None) => {
                self.end_for_good(record, Some(number));
                drop(mounts);
                self.clean_up(foreign.as_deref(), &cgroup);
                self.end_tenure();
                self.answer_stops(waiting);
            }
        }
    }

    /// Removes what a run has left. A group that cannot be removed is taken as it is by the next start.
    fn clean_up(&self, foreign: Option<&Foreign>, cgroup: &Cgroup) {
        if let Some(foreign) = foreign {
            foreign.delete();
        }
        cgroup.delete().ok();
        if foreign.is_none() {
            runtime::ended(&self.launch.spec, &self.identity());
        }
    }

    /// Lets the next start begin, unless files of the log are still to be compressed: that is done before this process ends.
    pub(super) fn end_tenure(&mut self) {
        if !self.log.has_work() {
            self.tenure = None;
        }
    }

    fn answer_stops(&mut self, waiting: Vec<u32>) {
        for asker in waiting {
            self.peers.reply(asker, Reply::Done, &self.poller);
        }
    }

    /// Tells that the container has ended and will start again.
    fn pause_between(&mut self, record: ExitRecord, delay: Duration, number: crate::poller::Number) {
        let start_at = Instant::now() + delay;
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.peers.tell(Event::Restarting { exit: record.clone(), delay_ms }, &self.poller);
        self.phase = Phase::Waiting { record, start_at };
        self.let_clients_go(number);
    }

    /// Starts the container again; tells, and returns the answer for who has asked for it.
    pub(super) fn start_again(&mut self) -> Reply {
        if let Rootfs::Overlay(overlay) = &self.launch.rootfs
            && overlay.volatile
        {
            // Left by the last mount; a second one is refused with it (kernel, overlayfs.rst, "Volatile mount").
            sys::mount::clear_volatile(&overlay.work).ok();
        }
        let started = self.start(Vec::new());
        let reply = match started {
            Ok(()) => self.started_reply(),
            Err(failure) => {
                // dockerd does not try again when a start fails.
                if let Phase::Waiting { record, .. } = &self.phase {
                    let record = ExitRecord {
                        exit_code: failure.exit_code,
                        signal: None,
                        error: failure.message.clone(),
                        restart_count: self.history.restart_count,
                        ..record.clone()
                    };
                    self.end_for_good(record, None);
                    self.end_tenure();
                }
                failure.into_reply()
            }
        };
        if let Reply::Started { pid, started_at } = &reply {
            let event =
                Event::Started { pid: *pid, time: *started_at, restart_count: self.history.restart_count };
            self.peers.tell(event, &self.poller);
            self.settle();
        }
        reply
    }

    /// Records the end, tells it, and lets go of everything.
    pub(super) fn end_for_good(&mut self, record: ExitRecord, number: Option<crate::poller::Number>) {
        // A record that cannot be written is told all the same; a daemon that is not there now will find none.
        write_record(&self.launch.exec_dir, &record).ok();
        // Free before the end is told, as the socket is.
        self.ports = None;
        self.held.clear();
        self.resolver = None;
        // Gone before the end is told: the next start may follow at once, with a socket of its own.
        self.remove_socket();
        self.phase = Phase::Ended { record: record.clone(), since: Instant::now() };
        self.peers.tell(Event::Exited(record), &self.poller);
        if let Some(number) = number {
            self.let_clients_go(number);
        }
        self.netns = None;
        self.users = None;
    }

    fn let_clients_go(&mut self, number: crate::poller::Number) {
        if let Some(streams) = self.streams.get_mut(&number) {
            streams.finish(&self.poller);
        }
        self.let_go_of_empty(number);
    }

    pub(super) fn remove_socket(&mut self) {
        if self.listener.take().is_some() {
            fs::remove_file(self.socket_path()).ok();
        }
    }

    /// Returns when something is to be done though nothing happens.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Running(run) => {
                let kill_at = run.stop.as_ref().and_then(|stop| stop.kill_at);
                let memory = run.memory.as_ref().and_then(super::memory::MemoryWatch::deadline);
                earlier(earlier(kill_at, memory), run.end.map(|end| end.drain_until))
            }
            Phase::Waiting { start_at, .. } => Some(*start_at),
            Phase::Ended { since, .. } => {
                let linger = *since + LINGER_LIMIT;
                Some(if linger > Instant::now() { linger } else { *since + FLUSH_LIMIT })
            }
        };
        let execs = self.execs.values().filter_map(|exec| exec.end.map(|end| end.drain_until)).min();
        let probes = self.probes.as_ref().and_then(super::Probes::deadline);
        earlier(earlier(phase, execs), probes)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.finish_late_execs(now);
        self.tend_probes(now);
        self.tend_memory(now);
        match &mut self.phase {
            Phase::Running(run) => {
                if run.end.is_some_and(|end| end.drain_until <= now || self_drained(&self.streams, run)) {
                    let number = run.number;
                    self.drain(number);
                    self.finish_run();
                } else if let Some(stop) = &mut run.stop
                    && stop.kill_at.is_some_and(|at| at <= now)
                {
                    stop.kill_at = None;
                    self.kill();
                }
            }
            Phase::Waiting { start_at, .. } if *start_at <= now => drop(self.start_again()),
            Phase::Waiting { .. } => {}
            Phase::Ended { since, .. } => {
                let age = now.saturating_duration_since(*since);
                if age >= FLUSH_LIMIT {
                    self.streams.clear();
                } else if age >= LINGER_LIMIT {
                    for streams in self.streams.values_mut() {
                        streams.drop_finished_clients(&self.poller);
                    }
                    self.streams.retain(|_, streams| streams.has_clients());
                }
            }
        }
    }

    /// Kills the first process, and lets it die if it is frozen.
    pub(super) fn kill(&mut self) {
        let Phase::Running(run) = &mut self.phase else { return };
        // One that has just ended needs no signal; and one that another runtime does not kill is killed all the same.
        if run.signal(KILL).is_err() {
            sys::pidfd::send_signal(run.pidfd.as_fd(), KILL).ok();
        }
        self.thaw();
    }

    /// Lets a paused container go on; tells if it was paused.
    pub(super) fn thaw(&mut self) {
        let Phase::Running(run) = &mut self.phase else { return };
        if run.paused && run.thaw().is_ok() {
            self.peers.tell(Event::Unpaused, &self.poller);
        }
    }

    /// Lets a container go on that was frozen for a connection which has ended.
    pub(super) fn end_hold(&mut self) {
        let holder = if let Phase::Running(run) = &self.phase { run.held_by } else { None };
        if holder.is_some_and(|holder| !self.peers.has(holder)) {
            self.thaw();
        }
    }
}

/// Says whether all output of a run that has ended was read.
fn self_drained(
    streams: &std::collections::BTreeMap<crate::poller::Number, crate::streams::Streams>,
    run: &Run,
) -> bool {
    streams.get(&run.number).is_none_or(crate::streams::Streams::has_ended)
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn record(
    run: &Run,
    end: End,
    history: &restart::History,
    health: Option<crate::protocol::HealthStatus>,
) -> ExitRecord {
    ExitRecord {
        exit_code: end.exit.code(),
        signal: match end.exit {
            Exit::Signal(signal) => Some(signal),
            Exit::Code(_) => None,
        },
        oom_killed: run.cgroup.oom_kills() > 0,
        started_at: run.started_at,
        finished_at: end.time,
        restart_count: history.restart_count,
        stopped_by_user: run.by_user,
        error: String::new(),
        health,
    }
}

/// Writes the exit record so that it is there as a whole or not at all.
fn write_record(directory: &std::path::Path, record: &ExitRecord) -> Result<(), Error> {
    let bytes = serde_json::to_vec(record).map_err(Error::Malformed)?;
    let unfinished = directory.join("exit.json.tmp");
    let path = directory.join("exit.json");
    fs::write(&unfinished, bytes).map_err(Error::io("write", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(Error::io("rename", &path))
}
