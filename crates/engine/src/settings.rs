//! What the engine needs to know of the daemon's configuration, as typed values.

use base::paths::{DataPaths, ExecPaths};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The engine's configuration.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of daemon.json, by name")]
pub struct Settings {
    /// What survives a reboot.
    pub data: DataPaths,
    /// What does not.
    pub exec: ExecPaths,
    /// The executable that plays zygote and supervisor.
    pub executable: PathBuf,
    /// The parent of containers' control groups, from the root of each hierarchy (`/wharf`).
    pub cgroup_parent: String,
    /// Whether control groups are scopes that systemd makes; the parent is a slice then (`system.slice`).
    pub systemd_cgroups: bool,
    /// The default bridge network.
    pub bridge: BridgeSettings,
    /// The store that several hosts share, by which they have networks in common.
    pub cluster: Option<ClusterSettings>,
    /// Pools that new networks get their subnets of, as (pool, prefix length); empty means Docker's.
    pub address_pools: Vec<(network::IpNet, u8)>,
    /// Name servers of containers that are given none.
    pub dns: Vec<IpAddr>,
    /// Resolver options of containers that are given none.
    pub dns_options: Vec<String>,
    /// Search domains of containers that are given none.
    pub dns_search: Vec<String>,
    /// Log driver and options of containers that are given none.
    pub log: LogSettings,
    /// Resource limits of every container, by name (`nofile`): soft and hard.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// Whether containers get an init process that reaps unless they say otherwise.
    pub init: bool,
    /// The init of containers that get one; `None` is our own.
    pub init_path: Option<PathBuf>,
    /// Folders of the Container Device Interface; the last one wins.
    pub cdi_folders: Vec<PathBuf>,
    /// The resolv.conf that containers' files are made from; `None` is the host's.
    pub resolv_conf: Option<PathBuf>,
    /// How containers' identifiers are mapped unless they ask for the host's.
    pub remap: Option<oci::runtime::IdMap>,
    /// Whether containers get `no_new_privs` unless they say otherwise.
    pub no_new_privileges: bool,
    /// The seccomp profile of containers that name none: empty or `builtin`, `unconfined`, or a file.
    pub seccomp_profile: String,
    /// Whether containers that do not say share their IPC namespace with those that ask (`shareable`).
    pub shareable_ipc: bool,
    /// Whether containers that do not say get a cgroup namespace of their own; `None` decides as dockerd does.
    pub private_cgroupns: Option<bool>,
    /// What `host-gateway` stands for in `--add-host`; the default bridge's address if empty.
    pub host_gateways: Vec<IpAddr>,
    /// OCI runtimes that are other programs, by name.
    pub runtimes: BTreeMap<String, OciRuntime>,
    /// The runtime of containers that name none: one of `runtimes`, or one of [`BUILT_IN_RUNTIMES`].
    pub default_runtime: String,
    /// How much a layer of an image may unpack to.
    pub layer_limits: store::Limits,
    /// How many bytes a container's writable layer holds at most unless it says otherwise.
    pub layer_size: Option<u64>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// How long `stop` waits for a container that does not say.
    pub stop_timeout: Duration,
    /// Layers downloaded at the same time.
    pub max_concurrent_downloads: usize,
    /// Blobs uploaded at the same time.
    pub max_concurrent_uploads: usize,
    /// Attempts for a download.
    pub max_download_attempts: u32,
    /// What becomes of layers' archives once they are unpacked.
    pub layer_archives: store::Archives,
    /// Mirrors of registries.
    pub registry_mirrors: Vec<distribution::Mirror>,
    /// Registries spoken to without verified TLS: hosts or CIDR ranges.
    pub insecure_registries: Vec<String>,
    /// How the build cache is collected; empty for not at all.
    pub build_cache: Vec<crate::builds::Rule>,
    /// Proxies on the way to registries.
    pub proxies: distribution::Proxies,
    /// Labels of the daemon, as `info` shows them.
    pub labels: Vec<String>,
    /// Whether debug output is on.
    pub debug: bool,
    /// Whether experimental features are on.
    pub experimental: bool,
    /// Whether defaults that differ from Docker's are Docker's.
    pub strict: bool,
}

/// A store that several hosts share (`--cluster-store` and its companions).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The store as the user named it.
    pub store: String,
    /// Host and port of each of its members.
    pub members: Vec<String>,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// The address or interface, with or without a port, by which other hosts reach this one.
    pub advertise: String,
    /// The authority of the store's certificates; this or an identity means TLS.
    pub authority: Option<PathBuf>,
    /// The certificate and key that are shown to the store.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How often this host says that it lives.
    pub heartbeat: Duration,
    /// After what time without that it is dead for the others.
    pub ttl: Duration,
}

/// Names of the built-in runtime: our own, and Docker's, which scripts and clients give.
pub const BUILT_IN_RUNTIMES: [&str; 3] = ["wharf", "runc", "io.containerd.runc.v2"];

/// An OCI runtime that is another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciRuntime {
    /// The program.
    pub path: String,
    /// Its first arguments.
    pub arguments: Vec<String>,
}

/// What containers get that do not say; can change while the engine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Whether they share their IPC namespace with those that ask.
    pub shareable_ipc: bool,
    /// Whether they get a cgroup namespace of their own; `None` decides as dockerd does.
    pub private_cgroupns: Option<bool>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// How long `stop` waits.
    pub stop_timeout: Duration,
    /// OCI runtimes that are other programs, by name.
    pub runtimes: BTreeMap<String, OciRuntime>,
    /// The runtime of containers that name none.
    pub default_runtime: String,
}

impl Defaults {
    /// Returns those of a configuration.
    pub fn of(settings: &Settings) -> Self {
        Self {
            shareable_ipc: settings.shareable_ipc,
            private_cgroupns: settings.private_cgroupns,
            shm_size: settings.shm_size,
            stop_timeout: settings.stop_timeout,
            runtimes: settings.runtimes.clone(),
            default_runtime: settings.default_runtime.clone(),
        }
    }

    /// Puts them into a configuration.
    pub fn put(self, settings: &mut Settings) {
        settings.shareable_ipc = self.shareable_ipc;
        settings.private_cgroupns = self.private_cgroupns;
        settings.shm_size = self.shm_size;
        settings.stop_timeout = self.stop_timeout;
        settings.runtimes = self.runtimes;
        settings.default_runtime = self.default_runtime;
    }
}

/// The default bridge network's configuration (daemon.json `bridge`, `bip`, …).
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of daemon.json, by name")]
pub struct BridgeSettings {
    /// The device; `None` for no default network at all (`--bridge none`).
    pub name: Option<String>,
    /// Whether the administrator made the device (`--bridge NAME`): it is then used as found, never made or removed.
    pub existing: bool,
    /// The device's own address and subnet (`--bip`).
    pub address: Option<network::IpNet>,
    /// The part of the subnet that containers get addresses of.
    pub fixed_cidr: Option<network::IpNet>,
    /// The gateway, if it is not the bridge itself.
    pub default_gateway: Option<IpAddr>,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Whether containers may reach each other.
    pub icc: bool,
    /// Whether traffic to outside gets the host's address.
    pub masquerade: bool,
    /// Whether packet filter rules are kept at all (`--iptables`).
    pub firewall: bool,
    /// Whether forwarding is switched on.
    pub ip_forward: bool,
    /// The address that ports are published on by default.
    pub host_ip: IpAddr,
    /// Whether the supervisor listens on published ports for local traffic.
    pub userland_proxy: bool,
    /// Whether the default network has IPv6 addresses, too.
    pub ipv6: bool,
    /// The device's own IPv6 address and subnet (`--bip6`).
    pub address6: Option<network::IpNet>,
    /// Its IPv6 subnet, or the part of that of `address6` that containers get addresses of.
    pub fixed_cidr6: Option<network::IpNet>,
    /// Its IPv6 gateway, if that is not the bridge itself.
    pub default_gateway6: Option<IpAddr>,
    /// Whether IPv6 packets are filtered and translated (`--ip6tables`).
    pub firewall6: bool,
    /// The mark of packets that reach containers by any of their ports (`--bridge-accept-fwmark`).
    pub accepted_mark: Option<network::firewall::Mark>,
    /// Whether published ports are reached by the containers' own addresses, too.
    pub direct_routing: bool,
    /// Whether published ports are subject to what the host lets in: the host itself takes the connections then, and
    /// containers see its address.
    pub ports_through_input: bool,
    /// Options of new networks that do not have them, by driver.
    pub network_options: BTreeMap<String, BTreeMap<String, String>>,
}

/// A log driver and its options.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The driver's name (`json-file`).
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}
