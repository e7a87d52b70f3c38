//! The life of a container as one pure state machine.
//!
//! Engine API, `ContainerState`: created, running, paused, restarting, removing, exited, dead.

use base::Timestamp;
use serde::{Deserialize, Serialize};

/// The facts of the present run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The init's process id in the daemon's pid namespace.
    pub pid: i32,
    /// When the init was started, in nanoseconds since the epoch.
    pub started_at: i64,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status; 128 + n after signal n; 125–128 if it never started.
    pub code: i32,
    /// Whether the kernel killed a process for lack of memory.
    pub oom_killed: bool,
    /// When the run began, in nanoseconds since the epoch; `None` if it never did.
    pub started_at: Option<i64>,
    /// When it ended; `None` if it never began.
    pub finished_at: Option<i64>,
    /// Why it could not be started; empty otherwise.
    pub error: String,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Never ran. The exit tells of a start that failed.
    Created(Option<Exit>),
    /// The init runs.
    Running(Run),
    /// All processes are frozen.
    Paused(Run),
    /// Ended; the supervisor starts it again after a delay.
    Restarting(Exit),
    /// Ended for now.
    Exited(Exit),
    /// Being removed.
    Removing(Exit),
    /// Removal failed; only another removal is possible.
    Dead(Exit),
}

/// What happens to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The init was started (first, again, or by the restart policy).
    Started(Run),
    /// A start failed.
    StartFailed(Exit),
    /// All processes were frozen.
    Paused,
    /// All processes were thawed.
    Unpaused,
    /// The init ended and nobody starts it again.
    Exited(Exit),
    /// The init ended; the restart policy will start it again.
    WillRestart(Exit),
    /// The removal has begun.
    Remove,
    /// The removal failed.
    RemoveFailed,
}

/// The change does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a container that is {state} cannot take {change}")]
pub struct Unfit {
    state: &'static str,
    change: String,
}

/// Returns the state after `change`.
///
/// # Errors
///
/// Returns [`Unfit`] if `change` cannot happen in `state`.
pub fn next(state: State, change: Change) -> Result<State, Unfit> {
    use State::{Created, Dead, Exited, Paused, Removing, Restarting, Running};
    match (state, change) {
        (Created(_) | Exited(_) | Restarting(_), Change::Started(run)) | (Paused(run), Change::Unpaused) => {
            Ok(Running(run))
        }
        (Created(_), Change::StartFailed(exit)) => Ok(Created(Some(exit))),
        (Exited(_) | Restarting(_), Change::StartFailed(exit))
        | (Running(_) | Paused(_) | Restarting(_), Change::Exited(exit)) => Ok(Exited(exit)),
        (Running(run), Change::Paused) => Ok(Paused(run)),
        (Running(_) | Paused(_) | Restarting(_), Change::WillRestart(exit)) => Ok(Restarting(exit)),
        (Created(exit), Change::Remove) => Ok(Removing(exit.unwrap_or_default())),
        (Exited(exit) | Dead(exit) | Removing(exit), Change::Remove) => Ok(Removing(exit)),
        (Removing(exit), Change::RemoveFailed) => Ok(Dead(exit)),
        (state, change) => Err(Unfit { state: state.as_str(), change: format!("{change:?}") }),
    }
}

impl State {
    /// Returns the API's word for the state.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Restarting(_) => "restarting",
            Self::Exited(_) => "exited",
            Self::Removing(_) => "removing",
            Self::Dead(_) => "dead",
        }
    }

    /// Returns the present run, if there is one.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Running(run) | Self::Paused(run) => Some(run),
            _ => None,
        }
    }

    /// Says whether a supervisor looks after the container: it runs, is paused, or waits to be started again.
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Paused(_) | Self::Restarting(_))
    }

    /// Returns how the last run ended, if one did and no other runs.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Created(exit) => exit.as_ref(),
            Self::Restarting(exit) | Self::Exited(exit) | Self::Removing(exit) | Self::Dead(exit) => {
                Some(exit)
            }
            Self::Running(_) | Self::Paused(_) => None,
        }
    }

    /// Returns when the present or last run began; [`Timestamp::ZERO`] if none did.
    pub fn started_at(&self) -> Timestamp {
        let nanos = match self.run() {
            Some(run) => Some(run.started_at),
            None => self.exit().and_then(|exit| exit.started_at),
        };
        nanos.map_or(Timestamp::ZERO, Timestamp::from_nanos)
    }

    /// Returns when the last run ended; [`Timestamp::ZERO`] if none did or one goes on.
    pub fn finished_at(&self) -> Timestamp {
        self.exit().and_then(|exit| exit.finished_at).map_or(Timestamp::ZERO, Timestamp::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run { pid: 7, started_at: 1 }
    }

    fn check(state: State, change: Change, expect: Option<&str>) {
        let label = format!("{state:?} + {change:?}");
        assert_eq!(next(state, change).ok().as_ref().map(State::as_str), expect, "{label}");
    }

    #[test]
    fn only_what_can_happen_happens() {
        let exit = Exit { code: 3, ..Exit::default() };
        check(State::Created(None), Change::Started(run()), Some("running"));
        check(State::Created(None), Change::StartFailed(exit.clone()), Some("created"));
        check(State::Exited(exit.clone()), Change::StartFailed(exit.clone()), Some("exited"));
        check(State::Running(run()), Change::Paused, Some("paused"));
        check(State::Paused(run()), Change::Paused, None);
        check(State::Paused(run()), Change::Exited(exit.clone()), Some("exited"));
        check(State::Running(run()), Change::WillRestart(exit.clone()), Some("restarting"));
        check(State::Restarting(exit.clone()), Change::Started(run()), Some("running"));
        check(State::Running(run()), Change::Remove, None);
        check(State::Exited(exit.clone()), Change::Remove, Some("removing"));
        check(State::Removing(exit), Change::RemoveFailed, Some("dead"));
        check(State::Dead(Exit::default()), Change::Started(run()), None);
    }
}
