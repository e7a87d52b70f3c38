//! Restart policy: is a container that exited started again, and after how long?
//!
//! Pure: the caller owns the clock and the timer. Engine API, `RestartPolicy`; the delays are dockerd's (100 ms, doubled
//! each time, at most one minute; a run of 10 s or more counts as a fresh start).

use crate::protocol::{RestartName, RestartPolicy};
use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// A run at least this long makes the next delay the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The exit code.
    pub(crate) code: i32,
    /// Whether a user asked for it (stop, kill).
    pub(crate) by_user: bool,
    /// How long the container ran.
    pub(crate) ran: Duration,
}

/// What the policy has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// How often it has started the container.
    pub(crate) restart_count: u32,
    /// The last delay; `None` before the first.
    pub(crate) last_delay: Option<Duration>,
}

/// Returns the delay before the next start, or `None` if the container stays down.
pub(crate) fn next_start(policy: RestartPolicy, exit: Exit, history: History) -> Option<Duration> {
    let wanted = match policy.name {
        _ if exit.by_user => false,
        RestartName::No => false,
        RestartName::OnFailure => {
            let max = policy.maximum_retry_count;
            exit.code != 0 && (max == 0 || history.restart_count < max)
        }
        RestartName::Always | RestartName::UnlessStopped => true,
    };
    let last = history.last_delay.filter(|_| exit.ran < STEADY);
    wanted.then(|| last.map_or(FIRST_DELAY, |last| last.saturating_mul(2).min(MAX_DELAY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: RestartName, max: u32, code: i32, (count, last): (u32, u64), expect: Option<u64>) {
        let policy = RestartPolicy { name, maximum_retry_count: max };
        let exit = Exit { code, by_user: false, ran: Duration::from_secs(1) };
        let last_delay = (last > 0).then(|| Duration::from_millis(last));
        let history = History { restart_count: count, last_delay };
        assert_eq!(
            next_start(policy, exit, history),
            expect.map(Duration::from_millis),
            "{name:?} {max} {code}"
        );
        assert_eq!(next_start(policy, Exit { by_user: true, ..exit }, history), None);
        let steady = Exit { ran: STEADY, ..exit };
        assert_eq!(next_start(policy, steady, history), expect.map(|_| FIRST_DELAY));
    }

    #[test]
    fn policies_count_and_back_off() {
        check(RestartName::No, 0, 1, (0, 0), None);
        check(RestartName::OnFailure, 2, 0, (0, 0), None);
        check(RestartName::OnFailure, 2, 1, (0, 0), Some(100));
        check(RestartName::OnFailure, 2, 1, (1, 100), Some(200));
        check(RestartName::OnFailure, 2, 1, (2, 200), None);
        check(RestartName::OnFailure, 0, 1, (50, 60_000), Some(60_000));
        check(RestartName::Always, 0, 0, (3, 400), Some(800));
        check(RestartName::UnlessStopped, 0, 0, (40, 40_000), Some(60_000));
    }
}
