//! Health probes: started by the timer, killed when they take too long, judged by [`crate::health`].

use super::exec::Job;
use super::launch::{Failure, null};
use super::{Phase, Supervisor, now};
use crate::health::{Monitor, OUTPUT_LIMIT};
use crate::poller::Number;
use crate::protocol::{Event, Health, HealthState, HealthStatus, OnFailure, ProbeResult};
use crate::streams::{Ends, output_pipe};
use base::{ExecId, Timestamp};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The health check of the present run.
#[derive(Debug)]
pub(super) struct Probes {
    monitor: Monitor,
    /// When the container started.
    begun: Instant,
    next: Instant,
    running: Option<Running>,
}

/// A probe under way.
#[derive(Debug)]
struct Running {
    number: Number,
    start: Timestamp,
    /// How old the container was then.
    age: Duration,
    kill_at: Option<Instant>,
    output: Vec<u8>,
}

impl Probes {
    /// Says whether `number` is the probe under way.
    pub(super) fn is_running(&self, number: Number) -> bool {
        self.running.as_ref().is_some_and(|running| running.number == number)
    }

    /// Keeps the beginning of a probe's output.
    pub(super) fn capture(&mut self, bytes: &[u8]) {
        if let Some(running) = &mut self.running {
            let room = OUTPUT_LIMIT.saturating_sub(running.output.len());
            running.output.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    /// Returns when something is to be done.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.running {
            Some(running) => running.kill_at,
            None => Some(self.next),
        }
    }

    /// Returns what is known.
    pub(super) fn status(&self) -> &HealthStatus {
        self.monitor.status()
    }
}

impl Supervisor {
    /// Begins the health check of a run, if there is one.
    pub(super) fn begin_probes(&mut self, begun: Instant) {
        self.probes = self.launch.health.as_ref().map(|config| {
            let monitor = Monitor::default();
            let next = Instant::now() + monitor.delay(config, Duration::ZERO);
            Probes { monitor, begun, next, running: None }
        });
    }

    /// Starts the probe that is due, or kills the one that takes too long.
    pub(super) fn tend_probes(&mut self, now: Instant) {
        let paused = matches!(&self.phase, Phase::Running(run) if run.paused || run.end.is_some());
        let Some(probes) = &mut self.probes else { return };
        if probes.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let late = probes.running.as_mut().map(|running| {
            running.kill_at = None;
            running.number
        });
        match late {
            Some(number) => {
                if let Some(exec) = self.execs.get(&number) {
                    sys::pidfd::kill(exec.pidfd.as_fd()).ok();
                }
            }
            // dockerd's probes of a paused container fail to start and count as failures; here they wait.
            None if paused => probes.next = now + Duration::from_secs(1),
            None => self.start_probe(now),
        }
    }

    fn start_probe(&mut self, at: Instant) {
        let Some(config) = self.launch.health.clone() else { return };
        let start = now();
        let id = random_id();
        let started = probe_stdio().and_then(|(stdio, ends)| {
            let job = Job { id, process: &config.process, user: config.user.as_ref(), probe: true };
            self.start_job(&job, stdio, ends)
        });
        let age = self.probes.as_ref().map(|probes| at.saturating_duration_since(probes.begun));
        let running = |number, output| Running {
            number,
            start,
            age: age.unwrap_or_default(),
            kill_at: Some(at + Duration::from_millis(config.timeout_ms)),
            output,
        };
        match started {
            Ok((number, _)) => {
                if let Some(probes) = &mut self.probes {
                    probes.running = Some(running(number, Vec::new()));
                }
                self.peers.tell(Event::ProbeStarted { exec_id: id, time: start }, &self.poller);
            }
            Err(failure) => {
                if let Some(probes) = &mut self.probes {
                    probes.running = Some(running(0, failure.message.into_bytes()));
                }
                self.probe_ended(id, -1, now());
            }
        }
    }

    /// Judges the probe that has ended, and tells.
    pub(super) fn probe_ended(&mut self, id: ExecId, exit_code: i32, time: Timestamp) {
        let (Some(config), Some(probes)) = (&self.launch.health, &mut self.probes) else { return };
        let Some(running) = probes.running.take() else { return };
        let (exit_code, output) = if running.kill_at.is_none() {
            (-1, too_long(config))
        } else {
            (exit_code, String::from_utf8_lossy(&running.output).into_owned())
        };
        let result = ProbeResult { start: running.start, end: time, exit_code, output };
        let changed = probes.monitor.record(config, running.age, result.clone());
        let now = Instant::now();
        probes.next = now + probes.monitor.delay(config, now.saturating_duration_since(probes.begun));
        let health = probes.status().clone();
        let failed = changed && health.state == HealthState::Unhealthy;
        let on_failure = config.on_failure;
        self.peers.tell(Event::Probed { exec_id: id, result, health, changed }, &self.poller);
        if failed {
            self.unhealthy(on_failure);
        }
    }

    /// Does what is to be done with a container that has become unhealthy.
    fn unhealthy(&mut self, on_failure: OnFailure) {
        let Phase::Running(run) = &mut self.phase else { return };
        match on_failure {
            OnFailure::None => {}
            OnFailure::Kill => self.kill(),
            OnFailure::Restart { signal, timeout_ms } => {
                run.again = true;
                self.begin_stop(None, signal, timeout_ms);
            }
            OnFailure::Stop { signal, timeout_ms } => {
                run.by_user = true;
                self.begin_stop(None, signal, timeout_ms);
            }
        }
    }
}

/// dockerd's words for a probe that was killed.
fn too_long(config: &Health) -> String {
    let timeout = Duration::from_millis(config.timeout_ms);
    format!("Health check exceeded timeout ({timeout:?})")
}

/// Makes the streams of a probe: both outputs into one pipe, as they come.
fn probe_stdio() -> Result<(runtime::Stdio, Ends), Failure> {
    let (output, stdout) = output_pipe().map_err(Failure::system("make pipe"))?;
    let stderr = rustix::io::fcntl_dupfd_cloexec(&stdout, 3).map_err(Failure::system("make pipe"))?;
    let stdio = runtime::Stdio::Streams { stdin: null()?, stdout, stderr };
    Ok((stdio, Ends { input: None, output: Some(output), error_output: None }))
}

fn random_id() -> ExecId {
    let mut bytes = [0; 32];
    // The kernel's generator is ready long before a container runs; an identifier of zeros would do no harm.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok();
    ExecId::from_bytes(bytes)
}
