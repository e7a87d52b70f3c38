//! Health checks: when is the next probe, and what follows from its result?
//!
//! Pure: the caller owns the clock, the timer and the probes. Spans are counted from the start by a clock that nobody sets; the
//! stamps of the results are only kept. Engine API, `HealthConfig`; the transitions are dockerd's
//! (a success at any time makes the container healthy; failures in the start period do not count until the first success).

use crate::protocol::{Health, HealthState, HealthStatus, ProbeResult};
use std::time::Duration;

/// So many results are kept.
const KEPT: usize = 5;
/// So much of a probe's output is kept, in bytes.
pub(crate) const OUTPUT_LIMIT: usize = 4096;

/// The health of one run of a container.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    /// Whether a probe has succeeded, which ends the start period.
    succeeded: bool,
    status: HealthStatus,
}

impl Monitor {
    /// Returns what is known.
    pub(crate) fn status(&self) -> &HealthStatus {
        &self.status
    }

    /// Returns the time from now, the start or the end of the last probe, to the next probe. The container is `age` old.
    pub(crate) fn delay(&self, config: &Health, age: Duration) -> Duration {
        let millis = if self.in_start_period(config, age) && self.status.state == HealthState::Starting {
            config.start_interval_ms.min(config.interval_ms)
        } else {
            config.interval_ms
        };
        Duration::from_millis(millis)
    }

    /// Takes the result of a probe that began when the container was `age` old; says whether the state is another one now.
    pub(crate) fn record(&mut self, config: &Health, age: Duration, result: ProbeResult) -> bool {
        let before = self.status.state;
        if result.exit_code == 0 {
            self.succeeded = true;
            self.status.failing_streak = 0;
            self.status.state = HealthState::Healthy;
        } else if self.succeeded || !self.in_start_period(config, age) {
            self.status.failing_streak = self.status.failing_streak.saturating_add(1);
            if self.status.failing_streak >= config.retries {
                self.status.state = HealthState::Unhealthy;
            }
        }
        if self.status.log.len() >= KEPT {
            self.status.log.remove(0);
        }
        self.status.log.push(result);
        before != self.status.state
    }

    fn in_start_period(&self, config: &Health, age: Duration) -> bool {
        !self.succeeded && age < Duration::from_millis(config.start_period_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Health = Health {
        process: oci::runtime::Process {
            terminal: false,
            console_size: None,
            user: oci::runtime::User { uid: 0, gid: 0, umask: None, additional_gids: Vec::new() },
            args: Vec::new(),
            env: Vec::new(),
            cwd: String::new(),
            capabilities: None,
            rlimits: Vec::new(),
            no_new_privileges: false,
            apparmor_profile: None,
            oom_score_adj: None,
            scheduler: None,
            selinux_label: None,
            io_priority: None,
            exec_cpu_affinity: None,
        },
        user: None,
        interval_ms: 30_000,
        timeout_ms: 30_000,
        start_period_ms: 60_000,
        start_interval_ms: 5_000,
        retries: 3,
        on_failure: crate::protocol::OnFailure::None,
    };

    /// The result of a probe, of a wall clock that jumps for and back with each.
    fn result(number: usize, exit_code: i32) -> ProbeResult {
        let day = 86_400_000_000_000;
        let stamp = |days: i64| base::Timestamp::from_nanos((20_000 + days) * day);
        let (start, end) =
            if number.is_multiple_of(2) { (stamp(300), stamp(0)) } else { (stamp(-300), stamp(1)) };
        ProbeResult { start, end, exit_code, output: String::new() }
    }

    /// Runs probes with these (second, exit code) and returns the states.
    fn states(config: &Health, probes: &[(u64, i32)]) -> String {
        let mut monitor = Monitor::default();
        let mut states = String::new();
        for (number, (second, exit_code)) in probes.iter().enumerate() {
            let before = monitor.status().state;
            let age = Duration::from_secs(*second);
            let changed = monitor.record(config, age, result(number, *exit_code));
            assert_eq!(changed, before != monitor.status().state);
            states.push(match monitor.status().state {
                HealthState::Starting => 's',
                HealthState::Healthy => 'h',
                HealthState::Unhealthy => 'u',
            });
        }
        states
    }

    #[test]
    fn states_follow_the_probes() {
        let check = |probes: &[(u64, i32)], expect| assert_eq!(states(&CONFIG, probes), expect, "{probes:?}");
        check(&[(5, 1), (10, 1), (15, 1), (20, 1)], "ssss");
        check(&[(5, 1), (10, 0), (15, 1), (20, 1), (25, 1), (30, 0)], "shhhuh");
        check(&[(61, 1), (62, 1), (63, 1)], "ssu");
        check(&[(5, 1), (61, -1), (62, 0), (63, 1)], "sshh");
        assert_eq!(states(&Health { start_period_ms: 0, retries: 1, ..CONFIG }, &[(1, 7)]), "u");
    }

    #[test]
    fn the_start_period_has_its_own_interval() {
        let seconds = Duration::from_secs;
        let mut monitor = Monitor::default();
        assert_eq!(monitor.delay(&CONFIG, seconds(0)), seconds(5));
        assert_eq!(monitor.delay(&CONFIG, seconds(60)), seconds(30));
        for number in 0..9 {
            monitor.record(&CONFIG, seconds(5), result(number, 0));
        }
        assert_eq!(monitor.delay(&CONFIG, seconds(6)), seconds(30));
        assert_eq!(monitor.status().log.len(), KEPT);
    }
}
