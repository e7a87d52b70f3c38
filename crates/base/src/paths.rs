//! Every path that Wharf uses on a host, relative to its two roots.

use crate::ContainerId;
use std::path::{Path, PathBuf};

/// The default data root.
pub const DEFAULT_DATA: &str = "/var/lib/wharf";
/// The default root of what is gone at the next boot.
pub const DEFAULT_EXEC: &str = "/run/wharf";
/// The default API socket.
pub const DEFAULT_SOCKET: &str = "/run/wharf.sock";
/// The default pid file.
pub const DEFAULT_PIDFILE: &str = "/run/wharf.pid";
/// The daemon's configuration file.
pub const DEFAULT_CONFIG: &str = "/etc/wharf/daemon.json";

/// Where `ip netns` looks for network namespaces by name.
pub const NETNS: &str = "/run/netns";

/// Where plugins have their sockets: Docker's place, which they know.
pub const PLUGIN_SOCKETS: &str = "/run/docker/plugins";
/// Where files tell of plugins that listen elsewhere.
pub const PLUGIN_SPECIFICATIONS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];

/// What must survive a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPaths {
    root: PathBuf,
}

impl DataPaths {
    /// Takes `root` as the data root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The data root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The metadata database.
    pub fn database(&self) -> PathBuf {
        self.root.join("wharf.db")
    }

    /// Content by digest, as downloaded: `blobs/ALGORITHM/HEX`.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// How to make blobs that were dropped: `recipes/ALGORITHM/HEX`.
    pub fn recipes(&self) -> PathBuf {
        self.root.join("recipes")
    }

    /// Unpacked layers: `layers/DIFF_ID_HEX/diff`.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The layer below all others: empty files and folders that every container has.
    pub fn init(&self) -> PathBuf {
        self.root.join("init")
    }

    /// Everything unfinished; emptied at start.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// One container: `upper`, `work`, logs, `hosts`, `resolv.conf`, `hostname`.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.to_string())
    }

    /// A container's log, as the json-file driver names it.
    pub fn log(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join(format!("{id}-json.log"))
    }

    /// What builds keep and work with.
    pub fn build(&self) -> PathBuf {
        self.root.join("build")
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The lock that keeps a second daemon off the same data.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
}

/// What is gone after a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecPaths {
    root: PathBuf,
}

impl ExecPaths {
    /// Takes `root` as the root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All running containers.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The present run of a container: its supervisor's socket and records.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.to_string())
    }

    /// The socket of a container's supervisor.
    pub fn supervisor_socket(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("supervisor.sock")
    }

    /// What a supervisor leaves behind when its container has ended for good.
    pub fn exit_record(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("exit.json")
    }

    /// The state of the OCI runtime called `name`, which is another program.
    pub fn runtime(&self, name: &str) -> PathBuf {
        self.root.join("runtimes").join(name)
    }

    /// The log of a daemon that a command line started by itself.
    pub fn daemon_log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }
}
