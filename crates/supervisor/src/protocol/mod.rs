//! What the daemon and a supervisor say to each other.
//!
//! A connection is a `SOCK_SEQPACKET` socket. The daemon sends a [`Request`], the supervisor answers each with one
//! [`Reply`], in order but for [`Request::Stop`] (which is answered when the container has stopped). A connection that
//! has subscribed also gets [`Event`]s between the replies. See [`wire`](crate::wire) for the bytes.
//!
//! Descriptors travel beside the message that names them, in the order given there. The receiver owns its copies.
//!
//! Times are nanoseconds since the Unix epoch, durations milliseconds, signals numbers of signal(7).

mod launch;
mod text;

pub use launch::{
    AttachOptions, ForeignRuntime, Health, ImageUser, Launch, LivePort, LogConfig, OnFailure, Overlay,
    Protocol, ProxyPort, RestartName, RestartPolicy, Rootfs,
};

use base::{ExecId, Kind, Timestamp};
use oci::runtime::{Process, Resources};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What the daemon asks of a supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Starts the container; the first request of all, on the connection that the supervisor was born with.
    ///
    /// Descriptors: the network namespace if [`Launch::netns`], the user namespace if [`Launch::users`], then one socket for
    /// each of [`Launch::ports`], then one client for each of [`Launch::attach`].
    /// Answered by [`Reply::Started`] or [`Reply::Failed`]; after the latter the supervisor ends. The connection is
    /// subscribed from the start, so that no event is missed.
    Launch(Box<Launch>),
    /// Starts a further process in the container.
    ///
    /// Descriptors: the client, if [`Exec::attach`] is there. Answered by [`Reply::ExecStarted`], [`Reply::Failed`] or
    /// [`Reply::Error`] (`Conflict`: paused, or not running); its end is told by [`Event::ExecExited`].
    Exec(Box<Exec>),
    /// Attaches a client to the container's streams. Descriptors: the client. Answered by [`Reply::Done`].
    Attach(AttachOptions),
    /// Sends a signal to the container's init, as `docker kill` does.
    ///
    /// The restart policy does not bring back a container that ends after this, unless a stop signal is configured and
    /// this is another one (moby, `killWithSignal`). A paused container is resumed in the same cases.
    Signal {
        /// The signal.
        signal: i32,
    },
    /// Sends a signal to an exec's process.
    SignalExec {
        /// Which.
        #[serde(with = "text")]
        exec_id: ExecId,
        /// The signal.
        signal: i32,
    },
    /// Freezes all processes. `Conflict` if they are, or if the container is restarting.
    Pause,
    /// As `Pause`, for as long as this connection lasts: nobody has to thaw them for a daemon that dies meanwhile.
    Hold,
    /// Thaws them. `Conflict` if they are not frozen.
    Unpause,
    /// Writes all processes into an image, by CRIU. Answered by [`Reply::Done`], before the end that follows is told.
    Checkpoint {
        /// The folder of the image; must exist.
        image: PathBuf,
        /// Whether they go on.
        leave_running: bool,
    },
    /// Changes the size of a terminal. No effect on a process without one.
    Resize {
        /// Whose terminal.
        target: Target,
        /// Height in characters.
        rows: u16,
        /// Width in characters.
        columns: u16,
    },
    /// Changes limits or the restart policy of the living container.
    Update(Box<Update>),
    /// Lets names be resolved at 127.0.0.11 inside the container's network namespace, or replaces what is known there.
    ///
    /// May also come before [`Request::Launch`], on the same connection, so that the container finds it from its first
    /// instant. Needs [`Launch::netns`] (`Conflict` otherwise), with its `lo` up. Answered by [`Reply::Done`].
    Resolve(Box<Resolver>),
    /// Changes which ports of the host are held, and where they lead: those that are not named are closed.
    ///
    /// Descriptors: a socket for each that arrives. Answered by [`Reply::Done`]; on a failure nothing has changed.
    Ports(Vec<LivePort>),
    /// Sends `signal`, waits `timeout_ms` (`None`: for ever), then kills; ends a wait for the next restart.
    ///
    /// Answered by [`Reply::Done`] after the end was told to subscribers. The restart policy does not apply any more.
    Stop {
        /// The signal.
        signal: i32,
        /// How long it may take; 0 kills at once.
        timeout_ms: Option<u64>,
    },
    /// Ends the container's present run so that it starts again at once, whatever the restart policy: `docker restart`.
    ///
    /// Answered by [`Reply::Started`] or [`Reply::Failed`].
    Restart {
        /// The signal.
        signal: i32,
        /// How long the end may take.
        timeout_ms: Option<u64>,
    },
    /// Asks how things are. Answered by [`Reply::Status`].
    Status,
    /// Asks for events on this connection. Answered by [`Reply::Status`], after which each change is told.
    Subscribe,
}

/// A further process in a running container (`POST /containers/{id}/exec`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Its identifier.
    #[serde(with = "text")]
    pub id: ExecId,
    /// What to run; `terminal` and `console_size` count, `user` unless [`Exec::user`] is there.
    pub process: Process,
    /// As whom, looked up in the container's own files.
    pub user: Option<ImageUser>,
    /// The client whose descriptor comes along. Streams that it does not have are `/dev/null`.
    pub attach: Option<AttachOptions>,
}

/// What can be changed in a living container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Update {
    /// New limits; what is absent stays.
    pub resources: Option<Resources>,
    /// The new restart policy.
    pub restart: Option<RestartPolicy>,
}

/// What the resolver at 127.0.0.11 knows (`network::resolver`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resolver {
    /// Names with an address each; one name may come several times.
    pub names: Vec<(String, IpAddr)>,
    /// The name that stands for an address, for questions the other way round.
    pub pointers: Vec<(IpAddr, String)>,
    /// Name servers for everything else, in order.
    pub servers: Vec<NameServer>,
    /// Whether names without a dot are not asked for outside (`ndots` above 0).
    pub keep_single_labels: bool,
}

/// A name server outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it is asked from the host's network and not from the container's: a server on the host's loopback.
    pub from_host: bool,
}

/// A process of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The first one.
    Init,
    /// An exec's.
    Exec(#[serde(with = "text")] ExecId),
}

/// How a supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The container runs.
    Started {
        /// Its first process.
        pid: i32,
        /// When it was started.
        #[serde(with = "text::nanos")]
        started_at: Timestamp,
    },
    /// A program could not be started.
    Failed {
        /// What kind of error it is.
        #[serde(with = "text::kind")]
        kind: Kind,
        /// The error, in the words that users of Docker know.
        message: String,
        /// The exit code Docker gives it: 126, 127 or 128.
        exit_code: i32,
    },
    /// The exec's process runs.
    ExecStarted {
        /// Its number on the host.
        pid: i32,
    },
    /// It is done.
    Done,
    /// How things are.
    Status(Box<Status>),
    /// It was not done.
    Error {
        /// What kind of error it is.
        #[serde(with = "text::kind")]
        kind: Kind,
        /// The error.
        message: String,
    },
}

/// What a supervisor tells its subscribers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The container has started (again, by its restart policy or by [`Request::Restart`]). The first start is told by
    /// the reply to [`Request::Launch`] alone.
    Started {
        /// Its first process.
        pid: i32,
        /// When.
        #[serde(with = "text::nanos")]
        time: Timestamp,
        /// How often the restart policy has started it.
        restart_count: u32,
    },
    /// The container has ended and will start again by its restart policy.
    Restarting {
        /// How it ended.
        exit: ExitRecord,
        /// How long it waits.
        delay_ms: u64,
    },
    /// The container has ended for good; the record is on the disk. The supervisor goes away.
    Exited(ExitRecord),
    /// The kernel killed a process of the container for want of memory.
    Oom,
    /// An exec's process has ended, and its output has been passed on.
    ExecExited(ExecExit),
    /// All processes are frozen.
    Paused,
    /// They run again.
    Unpaused,
    /// A health probe has started (`exec_create`, `exec_start`).
    ProbeStarted {
        /// Its exec.
        #[serde(with = "text")]
        exec_id: ExecId,
        /// When.
        #[serde(with = "text::nanos")]
        time: Timestamp,
    },
    /// A health probe has ended (`exec_die`).
    Probed {
        /// Its exec.
        #[serde(with = "text")]
        exec_id: ExecId,
        /// How it went.
        result: ProbeResult,
        /// What follows from it.
        health: HealthStatus,
        /// Whether `health.state` is another one than before (`health_status: …`).
        changed: bool,
    },
    /// A client typed the detach keys, or went away.
    Detached {
        /// Whether by the keys.
        by_keys: bool,
        /// From which process.
        target: Target,
    },
}

/// How a container ended: what `exit.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The exit code; 128 + N for signal N, 126 to 128 if a restart failed.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// When the last run began.
    #[serde(with = "text::nanos")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(with = "text::nanos")]
    pub finished_at: Timestamp,
    /// How often the restart policy has started it.
    pub restart_count: u32,
    /// Whether it was asked to end (stop, kill): `unless-stopped` then does not start it with the daemon.
    pub stopped_by_user: bool,
    /// Why it could not be started again; empty otherwise.
    pub error: String,
    /// The last state of its health check.
    pub health: Option<HealthStatus>,
}

/// How an exec ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    /// Which.
    #[serde(with = "text")]
    pub exec_id: ExecId,
    /// Its exit code; 128 + N for signal N.
    pub exit_code: i32,
    /// When.
    #[serde(with = "text::nanos")]
    pub time: Timestamp,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where in its life the container is.
    pub state: State,
    /// How often the restart policy has started it.
    pub restart_count: u32,
    /// The execs that run.
    pub execs: Vec<RunningExec>,
    /// The execs that ended lately, the oldest first: for a daemon that was not there.
    pub ended_execs: Vec<ExecExit>,
    /// The health check, if there is one.
    pub health: Option<HealthStatus>,
    /// Its control group, as the path below each hierarchy.
    pub cgroup: String,
}

/// Where in its life a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// [`Request::Launch`] has not come, or is being carried out.
    Starting,
    /// It runs.
    Running {
        /// Its first process.
        pid: i32,
        /// Since when.
        #[serde(with = "text::nanos")]
        started_at: Timestamp,
        /// Whether its processes are frozen.
        paused: bool,
    },
    /// It has ended and waits for its next start.
    Restarting {
        /// How it ended.
        exit: ExitRecord,
    },
    /// It has ended for good.
    Exited(ExitRecord),
}

/// An exec whose process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningExec {
    /// Which.
    #[serde(with = "text")]
    pub exec_id: ExecId,
    /// Its process on the host.
    pub pid: i32,
}

/// What health probes have shown (Engine API, *Health*).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HealthStatus {
    /// The state.
    pub state: HealthState,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five results, the oldest first.
    pub log: Vec<ProbeResult>,
}

/// The states of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HealthState {
    /// No probe has succeeded yet, and not too many have failed.
    #[default]
    Starting,
    /// The last probe succeeded, or not too many have failed since.
    Healthy,
    /// Too many have failed in a row.
    Unhealthy,
}

/// The result of one probe (Engine API, `HealthcheckResult`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began.
    #[serde(with = "text::nanos")]
    pub start: Timestamp,
    /// When it ended.
    #[serde(with = "text::nanos")]
    pub end: Timestamp,
    /// Its exit code; -1 if it took too long or could not be started.
    pub exit_code: i32,
    /// What it printed, at most 4096 bytes.
    pub output: String,
}
