//! Further processes in the container: starting them, and their ends.

use super::launch::{Failure, image_user, null};
use super::run::{End, Run};
use super::{DRAIN_LIMIT, Phase, REMEMBERED_EXECS, Sink, Supervisor, now, peers};
use crate::poller::{Interest, Number, Source};
use crate::protocol::{self, AttachOptions, Event, ExecExit, ImageUser, Reply};
use crate::streams::{Ends, InputEnd, Streams, input_pipe, output_pipe};
use base::{ExecId, Kind};
use oci::runtime::Process;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// An exec whose process runs, or whose last output is being read.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) id: ExecId,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Whether it is a health probe.
    pub(super) probe: bool,
    pub(super) end: Option<End>,
}

/// A process to start.
pub(super) struct Job<'a> {
    pub(super) id: ExecId,
    pub(super) process: &'a Process,
    pub(super) user: Option<&'a ImageUser>,
    pub(super) probe: bool,
}

impl Supervisor {
    /// Carries out [`protocol::Request::Exec`].
    pub(super) fn exec(&mut self, exec: &protocol::Exec, descriptors: Vec<OwnedFd>) -> Reply {
        let running = match self.running() {
            Ok(run) => run,
            Err(refusal) => return refusal,
        };
        if running.paused {
            let id = self.launch.id;
            return peers::conflict(format!("Container {id} is paused, unpause the container before exec"));
        }
        let mut descriptors = descriptors.into_iter();
        let client = exec.attach.as_ref().zip(descriptors.next());
        if exec.attach.is_some() && client.is_none() {
            return peers::refusal(Kind::InvalidArgument, "the client's descriptor is missing");
        }
        let options = exec.attach.clone().unwrap_or_default();
        let job = Job { id: exec.id, process: &exec.process, user: exec.user.as_ref(), probe: false };
        let started = exec_stdio(exec.process.terminal, &options)
            .and_then(|(stdio, ends)| self.start_job(&job, stdio, ends));
        let (number, pid) = match started {
            Ok(started) => started,
            Err(failure) => return failure.into_reply(),
        };
        if let Some((options, socket)) = client
            && let Err(errno) = self.attach(number, socket, options.clone())
        {
            // It runs; only its streams go nowhere.
            return peers::refusal(Kind::Internal, format!("attach client: {}", sys::message(errno)));
        }
        Reply::ExecStarted { pid }
    }

    /// Starts a process in the running container and watches it; returns its number and process.
    pub(super) fn start_job(
        &mut self,
        job: &Job<'_>,
        stdio: runtime::Stdio,
        ends: Ends,
    ) -> Result<(Number, i32), Failure> {
        let Phase::Running(run) = &self.phase else {
            return Err(Failure::conflict("the container is not running"));
        };
        let joined = if let Some(foreign) = &run.foreign {
            let user = job.user.map(image_user);
            let made = foreign.exec((run.pid, user.as_ref()), job.process, stdio)?;
            runtime::Joined { pid: made.pid, pidfd: made.pidfd, terminal: made.terminal }
        } else {
            runtime::exec(runtime::Join {
                init_pid: run.pid,
                init_pidfd: run.pidfd.as_fd(),
                process: job.process.clone(),
                seccomp: self.launch.spec.linux.as_ref().and_then(|linux| linux.seccomp.clone()),
                stdio,
                user: job.user.map(image_user),
                cgroup: &run.cgroup,
                identity: Some(self.identity()),
            })
            .map_err(|error| Failure::runtime(&error))?
        };
        let number = self.take_number();
        let ends = match joined.terminal {
            Some(master) => Ends::of_terminal(master).map_err(Failure::system("set up terminal"))?,
            None => ends,
        };
        let terminal = job.process.terminal;
        let streams = Streams::new(number, ends, terminal, InputEnd::WithClient, &self.poller)
            .map_err(Failure::system("watch output"))?;
        self.poller
            .add(&joined.pidfd, Source::Exit(number), Interest::READ)
            .map_err(Failure::system("watch for its end"))?;
        self.streams.insert(number, streams);
        let exec = Exec { id: job.id, pid: joined.pid, pidfd: joined.pidfd, probe: job.probe, end: None };
        self.execs.insert(number, exec);
        Ok((number, joined.pid))
    }

    /// Returns the present run, or why there is none, as dockerd words it.
    pub(super) fn running(&mut self) -> Result<&mut Run, Reply> {
        let id = self.launch.id;
        match &mut self.phase {
            Phase::Running(run) if run.end.is_none() => Ok(run),
            Phase::Waiting { .. } => Err(peers::conflict(format!(
                "Container {id} is restarting, wait until the container is running"
            ))),
            Phase::Running(_) | Phase::Ended { .. } => {
                Err(peers::conflict(format!("container {id} is not running")))
            }
        }
    }

    /// A process has ended: reaps it and reads its last output.
    pub(super) fn process_ended(&mut self, number: Number) {
        if matches!(&self.phase, Phase::Running(run) if run.number == number) {
            self.init_ended();
            return;
        }
        let Some(exec) = self.execs.get_mut(&number).filter(|exec| exec.end.is_none()) else { return };
        let Ok(Some(exit)) = sys::pidfd::try_wait(exec.pidfd.as_fd()) else { return };
        self.poller.remove(&exec.pidfd);
        exec.end = Some(End::new(exit, now(), DRAIN_LIMIT));
        if self.drain(number) {
            self.finish_exec(number);
        }
    }

    /// Reads everything a process that has ended left behind; says whether that was all.
    pub(super) fn drain(&mut self, number: Number) -> bool {
        let Some(streams) = self.streams.get_mut(&number) else { return true };
        self.buffer.resize(super::READ_SIZE, 0);
        let is_init = matches!(&self.phase, Phase::Running(run) if run.number == number);
        let mut sink = Sink::choose(is_init, &mut self.log, self.probes.as_mut(), number);
        streams.drain(&self.poller, &mut self.buffer, &mut |stream, bytes| sink.take(stream, bytes))
    }

    /// Tells the end of an exec and lets its clients go.
    pub(super) fn finish_exec(&mut self, number: Number) {
        let Some(exec) = self.execs.remove(&number) else { return };
        let Some(end) = exec.end else { return };
        if exec.probe {
            self.probe_ended(exec.id, end.exit.code(), end.time);
        } else {
            let exit = ExecExit { exec_id: exec.id, exit_code: end.exit.code(), time: end.time };
            if self.ended_execs.len() >= REMEMBERED_EXECS {
                self.ended_execs.pop_front();
            }
            self.ended_execs.push_back(exit);
            self.peers.tell(Event::ExecExited(exit), &self.poller);
        }
        // Told first: a client asks for the exit code as soon as its stream has ended.
        if let Some(streams) = self.streams.get_mut(&number) {
            streams.finish(&self.poller);
        }
        self.let_go_of_empty(number);
    }

    /// Reaps and finishes every exec: the container has ended, and they with it.
    pub(super) fn finish_all_execs(&mut self) {
        let numbers: Vec<Number> = self.execs.keys().copied().collect();
        for number in numbers {
            if let Some(exec) = self.execs.get(&number) {
                // Those of a container that shares its PID namespace are not killed by the kernel.
                sys::pidfd::kill(exec.pidfd.as_fd()).ok();
                if exec.end.is_none()
                    && let Ok(true) = sys::pidfd::ended_within(exec.pidfd.as_fd(), DRAIN_LIMIT)
                {
                    self.process_ended(number);
                }
            }
            self.drain(number);
            self.finish_exec(number);
        }
    }

    /// Finishes the execs whose output was waited for long enough.
    pub(super) fn finish_late_execs(&mut self, now: Instant) {
        let late: Vec<Number> = self
            .execs
            .iter()
            .filter_map(|(number, exec)| exec.end.filter(|end| end.drain_until <= now).map(|_| *number))
            .collect();
        for number in late {
            self.drain(number);
            self.finish_exec(number);
        }
    }

    /// Returns the process of an exec.
    pub(super) fn exec_by_id(&self, id: ExecId) -> Option<(Number, &Exec)> {
        self.execs.iter().find(|(_, exec)| exec.id == id).map(|(number, exec)| (*number, exec))
    }
}

/// Makes the streams of an exec: those its client wants, `/dev/null` for the rest.
fn exec_stdio(terminal: bool, options: &AttachOptions) -> Result<(runtime::Stdio, Ends), Failure> {
    if terminal {
        return Ok((runtime::Stdio::Terminal, Ends::default()));
    }
    let failed = || Failure::system("make pipes");
    let (input, stdin) = if options.stdin {
        let (input, stdin) = input_pipe().map_err(failed())?;
        (Some(input), stdin)
    } else {
        (None, null()?)
    };
    let output = |wanted: bool| {
        if !wanted {
            return null().map(|null| (None, null));
        }
        output_pipe().map(|(ours, theirs)| (Some(ours), theirs)).map_err(failed())
    };
    let (output, stdout, error_output, stderr) = {
        let (ours, theirs) = output(options.stdout)?;
        let (errors, their_errors) = output(options.stderr)?;
        (ours, theirs, errors, their_errors)
    };
    Ok((runtime::Stdio::Streams { stdin, stdout, stderr }, Ends { input, output, error_output }))
}
