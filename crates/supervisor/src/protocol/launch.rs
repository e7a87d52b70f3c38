//! Everything a supervisor needs to know to run a container without a daemon.

use super::text;
use base::ContainerId;
use oci::runtime::{IdMap, Process, Spec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A container to start and look after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the container's config, by name")]
pub struct Launch {
    /// The container.
    #[serde(with = "text")]
    pub id: ContainerId,
    /// What to run and in what surroundings. `process.terminal` decides between pipes and a terminal;
    /// `linux.cgroups_path` is the control group. The path of a `network` namespace is replaced by the one that comes
    /// along if [`Launch::netns`].
    pub spec: Spec,
    /// Whether the control group is a scope of systemd's; its path has the form `SLICE:PREFIX:NAME` then.
    #[serde(default)]
    pub systemd: bool,
    /// The program that runs the container; `None`: our own runtime.
    pub runtime: Option<ForeignRuntime>,
    /// The root file system; mounted afresh for each run.
    pub rootfs: Rootfs,
    /// As whom, looked up in the container's own files; overrides `spec.process.user`.
    pub user: Option<ImageUser>,
    /// Whether to make the working directory if it is missing.
    pub create_cwd: bool,
    /// Whether a network namespace comes along as the first descriptor. It is held until the container has ended for
    /// good.
    pub netns: bool,
    /// Whether a user namespace comes along as the next descriptor; held as long. It takes the place of the document's.
    #[serde(default)]
    pub users: bool,
    /// Whether standard input is a pipe that clients can write to (`OpenStdin`); otherwise it is `/dev/null`.
    pub open_stdin: bool,
    /// Whether standard input ends with that of the first client (`StdinOnce`).
    pub stdin_once: bool,
    /// The clients whose descriptors come along, in this order.
    pub attach: Vec<AttachOptions>,
    /// Where output is logged.
    pub log: LogConfig,
    /// Whether to start again after the end.
    pub restart: RestartPolicy,
    /// How often the restart policy has started it before (a supervisor lost in between).
    pub restart_count: u32,
    /// `EXEC/containers/ID`: must exist; gets `supervisor.sock` and in the end `exit.json`.
    pub exec_dir: PathBuf,
    /// Published ports, for what does not pass through the host's packet filter. Their bound sockets come along.
    pub ports: Vec<ProxyPort>,
    /// The configured stop signal, if there is one.
    pub stop_signal: Option<i32>,
    /// The health check.
    pub health: Option<Health>,
    /// The folder with the image of a checkpoint (CRIU's): the first run goes on from there, later ones begin anew.
    #[serde(default)]
    pub restore: Option<PathBuf>,
}

/// An OCI runtime that is another program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignRuntime {
    /// The program; one without a slash is looked for where programs are.
    pub path: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
    /// Where it keeps its state (`--root`).
    pub root: PathBuf,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// A directory that is there.
    Path(PathBuf),
    /// Layers.
    Overlay(Overlay),
}

/// Layers mounted as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only directories, the topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// The kernel's work directory, beside `upper`.
    pub work: PathBuf,
    /// Whether changes need not survive a crash of the host.
    pub volatile: bool,
    /// As whose the files are shown; `None`: as they are.
    #[serde(default)]
    pub owners: Option<IdMap>,
}

/// A user as images and command lines name it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageUser {
    /// `""`, `1000`, `name`, `name:group`, `1:2`.
    pub user: String,
    /// Further groups, names or numbers.
    pub groups: Vec<String>,
}

/// How a client is attached. The descriptor is a connected stream socket (the hijacked connection itself); it is closed
/// when the streams have ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the API's attach call, by name")]
pub struct AttachOptions {
    /// Whether what the client sends is standard input.
    pub stdin: bool,
    /// Whether it gets standard output.
    pub stdout: bool,
    /// Whether it gets standard error.
    pub stderr: bool,
    /// Whether output has the 8-byte headers of `application/vnd.docker.multiplexed-stream`; otherwise it is raw.
    pub multiplexed: bool,
    /// The bytes that detach a client of a terminal; empty: none.
    pub detach_keys: Vec<u8>,
}

/// Where a container's output is logged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogConfig {
    /// The driver's name; empty: the default.
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
    /// Whether Docker's defaults hold instead of Wharf's bounded ones.
    pub docker_defaults: bool,
    /// The file, for drivers that have one.
    pub path: PathBuf,
    /// Which container it is, and what each entry carries.
    pub origin: logs::Origin,
}

/// Whether a container that ended starts again (Engine API, `RestartPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub name: RestartName,
    /// How often, for [`RestartName::OnFailure`]; 0: without limit.
    pub maximum_retry_count: u32,
}

/// When a container that ended starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartName {
    /// Never.
    #[default]
    No,
    /// Always, unless it was stopped.
    Always,
    /// As `Always`; differs only when a daemon starts.
    UnlessStopped,
    /// If its exit code is not 0.
    OnFailure,
}

/// A published port. Its descriptor is a socket bound to it (`network::proxy::Listener`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyPort {
    /// The protocol.
    pub protocol: Protocol,
    /// Where to connect to, in the container; `None` if the socket only keeps others from the port.
    pub container: Option<SocketAddr>,
}

/// A published port of a container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePort {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address and port.
    pub host: SocketAddr,
    /// Where to connect to, in the container; `None` if the socket only keeps others from the port.
    pub container: Option<SocketAddr>,
    /// Whether its socket comes along; otherwise it is there already.
    pub arrives: bool,
}

/// Protocols with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A health check (Engine API, `HealthConfig`), its defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// What to run as a probe, complete (environment, working directory, capabilities).
    pub process: Process,
    /// As whom, looked up in the container's own files.
    pub user: Option<ImageUser>,
    /// From the end of a probe to the beginning of the next one.
    pub interval_ms: u64,
    /// How long a probe may take.
    pub timeout_ms: u64,
    /// How long after the start failures do not count.
    pub start_period_ms: u64,
    /// As `interval_ms`, in the start period.
    pub start_interval_ms: u64,
    /// So many failures in a row are one too many.
    pub retries: u32,
    /// What is done with a container that has become unhealthy.
    pub on_failure: OnFailure,
}

/// What is done with a container that has become unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnFailure {
    /// Nothing: it is told.
    #[default]
    None,
    /// It is killed; the restart policy holds.
    Kill,
    /// It is stopped and started again, whatever the restart policy.
    Restart {
        /// The signal that asks it to end.
        signal: i32,
        /// How long the end may take; `None`: for ever.
        timeout_ms: Option<u64>,
    },
    /// It is stopped as by a user: the restart policy does not hold.
    Stop {
        /// The signal that asks it to end.
        signal: i32,
        /// How long the end may take; `None`: for ever.
        timeout_ms: Option<u64>,
    },
}
