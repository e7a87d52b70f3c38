//! From what was written to typed values: defaults, units, contradictions. Pure.

use super::cluster;
use super::parse::Given;
use super::remap::Accounts;
use super::values::{
    address_pool, bytes, cdi_folders, cgroup_parent, file, ip, level, mirror, oldest_api, pair, ulimit,
};
use crate::http::listen::TlsFiles;
use api::ApiVersion;
use base::paths::{self, DataPaths, ExecPaths};
use engine::{BUILT_IN_RUNTIMES, BridgeSettings, LogSettings, OciRuntime, Settings};
use network::IpNet;
use network::firewall::Mark;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A unix socket.
    Unix(PathBuf),
    /// TCP; an empty name means every address.
    Tcp {
        /// Name or address.
        name: String,
        /// The port.
        port: u16,
    },
    /// Sockets that the service manager passes: all (empty or `*`), or the one of this name or number.
    Activated(String),
}

/// How the daemon's own log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON documents.
    Json,
}

/// The daemon's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect.
    pub hosts: Vec<Host>,
    /// The group that may use the unix sockets.
    pub group: String,
    /// TLS for TCP.
    pub tls: Option<TlsFiles>,
    /// Where the process id is written; `None` if nowhere.
    pub pidfile: Option<PathBuf>,
    /// How much is logged.
    pub log_level: tracing::Level,
    /// How it looks.
    pub log_format: LogFormat,
    /// Whether log lines have no colours.
    pub raw_logs: bool,
    /// The oldest version of the API that is served.
    pub oldest_api: ApiVersion,
    /// Where to tell that clients are served.
    pub ready_fd: Option<i32>,
    /// Where metrics are served, as `host:port`.
    pub metrics: Option<String>,
    /// What the engine works by.
    pub engine: Settings,
}

/// What resolving needs to know of the host.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// This executable.
    pub executable: PathBuf,
    /// The folder of the user's client settings, where TLS files are by default.
    pub client_settings: PathBuf,
    /// Proxies that the environment names, for those that the configuration does not.
    pub proxies: distribution::Proxies,
    /// The oldest version of the API that the environment asks for (`DOCKER_MIN_API_VERSION`).
    pub oldest_api: Option<String>,
    /// The host's users.
    pub accounts: Accounts,
}

/// Why values make no configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub String);

pub(super) fn error<T>(message: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError(message.into()))
}

/// The MTU of the default bridge, as dockerd has it.
const DEFAULT_MTU: u32 = 1500;
/// Size of `/dev/shm`, as dockerd has it.
const DEFAULT_SHM_SIZE: u64 = 64 << 20;
/// How long a container gets to stop, as dockerd has it.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Makes the configuration.
///
/// # Errors
///
/// The first value that makes no sense.
pub fn resolve(given: &Given, facts: &HostFacts) -> Result<Config, ValueError> {
    if given.all("feature").iter().any(|feature| feature == "containerd-snapshotter=false") {
        return error(
            "the feature containerd-snapshotter cannot be switched off: image identifiers are digests of manifests",
        );
    }
    let debug = switch(given, "debug", false);
    Ok(Config {
        hosts: hosts(given)?,
        group: given.last("group").unwrap_or("docker").to_owned(),
        tls: tls(given, facts)?,
        pidfile: match given.last("pidfile") {
            None => Some(PathBuf::from(paths::DEFAULT_PIDFILE)),
            Some("") => None,
            Some(path) => Some(PathBuf::from(path)),
        },
        log_level: if debug {
            tracing::Level::DEBUG
        } else {
            level(given.last("log-level").unwrap_or("info"))?
        },
        log_format: match given.last("log-format").unwrap_or("text") {
            "" | "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return error(format!("invalid log format: {other}")),
        },
        raw_logs: switch(given, "raw-logs", false),
        oldest_api: oldest_api(given, facts)?,
        ready_fd: number(given, "ready-fd", -1)?.try_into().ok().filter(|fd| *fd >= 0),
        metrics: given.last("metrics-addr").filter(|text| !text.is_empty()).map(str::to_owned),
        engine: engine(given, facts, debug)?,
    })
}

fn engine(given: &Given, facts: &HostFacts, debug: bool) -> Result<Settings, ValueError> {
    let labels = labels(given)?;
    let text = |name: &str, default: &str| given.last(name).unwrap_or(default).to_owned();
    let (runtimes, default_runtime) = runtimes(given)?;
    let (cgroup_parent, systemd_cgroups) = cgroups(given)?;
    Ok(Settings {
        runtimes,
        default_runtime,
        data: DataPaths::new(text("data-root", paths::DEFAULT_DATA)),
        exec: ExecPaths::new(text("exec-root", paths::DEFAULT_EXEC)),
        executable: facts.executable.clone(),
        cgroup_parent,
        systemd_cgroups,
        bridge: bridge(given)?,
        cluster: cluster::cluster(given)?,
        address_pools: given
            .all("default-address-pool")
            .iter()
            .map(|pool| address_pool(pool))
            .collect::<Result<_, _>>()?,
        dns: given.all("dns").iter().map(|address| ip("dns", address)).collect::<Result<_, _>>()?,
        dns_options: given.all("dns-opt").to_vec(),
        dns_search: given.all("dns-search").to_vec(),
        log: LogSettings {
            driver: text("log-driver", "json-file"),
            options: given.all("log-opt").iter().map(|option| pair(option)).collect(),
        },
        ulimits: given.all("default-ulimit").iter().map(|limit| ulimit(limit)).collect::<Result<_, _>>()?,
        init: switch(given, "init", false),
        init_path: file(given, "init-path").or_else(|| file(given, "default-init")),
        cdi_folders: cdi_folders(given),
        resolv_conf: file(given, "resolv-conf"),
        remap: super::remap::mapping(given.last("userns-remap").unwrap_or_default(), &facts.accounts)?,
        no_new_privileges: switch(given, "no-new-privileges", false),
        seccomp_profile: text("seccomp-profile", ""),
        shareable_ipc: match given.last("default-ipc-mode").unwrap_or("private") {
            "private" => false,
            "shareable" => true,
            other => {
                return error(format!(
                    "invalid default-ipc-mode {other:?}: must be 'private' or 'shareable'"
                ));
            }
        },
        private_cgroupns: match given.last("default-cgroupns-mode") {
            None | Some("") => None,
            Some("private") => Some(true),
            Some("host") => Some(false),
            Some(other) => {
                return error(format!(
                    "invalid default-cgroupns-mode {other:?}: must be 'host' or 'private'"
                ));
            }
        },
        host_gateways: given
            .all("host-gateway-ip")
            .iter()
            .map(|address| ip("host-gateway-ip", address))
            .collect::<Result<_, _>>()?,
        shm_size: match given.last("default-shm-size") {
            None | Some("") => DEFAULT_SHM_SIZE,
            Some(size) => bytes(size).ok_or_else(|| ValueError(format!("invalid size: '{size}'")))?,
        },
        stop_timeout: stop_timeout(given)?,
        max_concurrent_downloads: positive(given, "max-concurrent-downloads", 3, "max concurrent downloads")?,
        max_concurrent_uploads: positive(given, "max-concurrent-uploads", 5, "max concurrent uploads")?,
        max_download_attempts: positive(given, "max-download-attempts", 5, "max download attempts")?,
        layer_archives: layer_archives(given)?,
        layer_size: layer_size(given)?,
        layer_limits: layer_limits(given)?,
        registry_mirrors: mirrors(given)?,
        insecure_registries: given.all("insecure-registry").to_vec(),
        build_cache: super::builder::rules(given.last("builder"))?,
        proxies: proxies(given, facts),
        labels,
        debug,
        experimental: switch(given, "experimental", false),
        strict: strict(given)?,
    })
}

fn stop_timeout(given: &Given) -> Result<Duration, ValueError> {
    match number(given, "default-stop-timeout", -1)? {
        -1 => Ok(DEFAULT_STOP_TIMEOUT),
        seconds => match u64::try_from(seconds) {
            Ok(seconds) => Ok(Duration::from_secs(seconds)),
            Err(_) => error(format!("invalid default stop timeout: {seconds}")),
        },
    }
}

fn strict(given: &Given) -> Result<bool, ValueError> {
    match given.last("compat") {
        None | Some("") => Ok(false),
        Some("strict") => Ok(true),
        Some(other) => error(format!("invalid compat: {other}")),
    }
}

fn layer_limits(given: &Given) -> Result<store::Limits, ValueError> {
    let default = store::Limits::default();
    match given.last("max-layer-size") {
        None | Some("") => Ok(default),
        Some(size) => match bytes(size).filter(|bytes| *bytes > 0) {
            Some(bytes) => Ok(store::Limits { bytes, ..default }),
            None => error(format!("invalid max-layer-size: {size}")),
        },
    }
}

/// Reads the storage options (moby, *overlay2*, `parseOptions`).
fn layer_size(given: &Given) -> Result<Option<u64>, ValueError> {
    let mut size = None;
    for option in given.all("storage-opt") {
        let Some((key, value)) = option.split_once('=') else {
            return error(format!("unable to parse storage-opt key/value {option:?}"));
        };
        match key.to_ascii_lowercase().as_str() {
            "overlay2.size" | "overlay.size" => {
                size = Some(bytes(value).ok_or_else(|| ValueError(format!("invalid size: '{value}'")))?);
            }
            // No kernel that Wharf runs on is too old.
            "overlay2.override_kernel_check" | "overlay.override_kernel_check"
                if value.parse::<bool>().is_ok() => {}
            _ => return error(format!("overlay2: unknown option {key}")),
        }
    }
    Ok(size)
}

fn layer_archives(given: &Given) -> Result<store::Archives, ValueError> {
    match given.last("layer-archives") {
        None | Some("" | "keep") => Ok(store::Archives::Keep),
        Some("rebuild") => Ok(store::Archives::Rebuild),
        Some(other) => error(format!("invalid layer-archives: {other}")),
    }
}

/// The runtime of containers that name none.
const DEFAULT_RUNTIME: &str = "wharf";

/// Reads the runtimes as dockerd's `RuntimeOpt` does, and finds the default one.
fn runtimes(given: &Given) -> Result<(BTreeMap<String, OciRuntime>, String), ValueError> {
    let mut runtimes = BTreeMap::new();
    for text in given.all("add-runtime") {
        let mut parts = text.split('\0');
        let typed = parts.next().unwrap_or_default();
        let (name, path) = typed.split_once('=').unwrap_or((typed, ""));
        let (name, path) = (name.trim().to_ascii_lowercase(), path.trim().to_owned());
        if name.is_empty() || path.is_empty() {
            return error(format!("invalid runtime argument: {typed}"));
        }
        if BUILT_IN_RUNTIMES.contains(&name.as_str()) {
            return error(format!("runtime name '{name}' is reserved"));
        }
        if name.contains('/') || name.starts_with('.') {
            // It becomes a folder's name.
            return error(format!("invalid runtime name: {name}"));
        }
        let runtime = OciRuntime { path, arguments: parts.map(str::to_owned).collect() };
        if runtimes.insert(name.clone(), runtime).is_some() {
            return error(format!("runtime '{name}' was already defined"));
        }
    }
    let default = given.last("default-runtime").filter(|name| !name.is_empty()).unwrap_or(DEFAULT_RUNTIME);
    if !runtimes.contains_key(default) && !BUILT_IN_RUNTIMES.contains(&default) {
        return error(format!("specified default runtime '{default}' does not exist"));
    }
    Ok((runtimes, default.to_owned()))
}

/// Mirrors: `URL` of Docker Hub, as in Docker, or `REGISTRY=URL`.
fn mirrors(given: &Given) -> Result<Vec<distribution::Mirror>, ValueError> {
    let mirror = |text: &String| {
        let (registry, url) = match text.split_once('=') {
            Some((registry, url)) if !registry.contains("://") => (registry, url),
            _ => ("docker.io", text.as_str()),
        };
        if registry.is_empty() || registry.contains('/') {
            return error(format!("invalid mirror: {registry:?} in {text:?} is not a registry"));
        }
        Ok(distribution::Mirror { registry: registry.to_owned(), url: mirror(url)? })
    };
    given.all("registry-mirror").iter().map(mirror).collect()
}

/// Proxies of the configuration, and those of the environment for what it leaves open.
fn proxies(given: &Given, facts: &HostFacts) -> distribution::Proxies {
    let text = |name: &str, default: &str| given.last(name).unwrap_or(default).to_owned();
    distribution::Proxies {
        http: text("http-proxy", &facts.proxies.http),
        https: text("https-proxy", &facts.proxies.https),
        no: text("no-proxy", &facts.proxies.no),
    }
}

fn bridge(given: &Given) -> Result<BridgeSettings, ValueError> {
    let name = given.last("bridge").unwrap_or_default();
    let address = given.last("bip").filter(|bip| !bip.is_empty());
    if !name.is_empty() && address.is_some() {
        return error("You specified -b & --bip, mutually exclusive options. Please specify only one");
    }
    let (icc, firewall) = (switch(given, "icc", true), switch(given, "iptables", true));
    if !icc && !firewall {
        return error(
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true",
        );
    }
    let masquerade = switch(given, "ip-masq", true);
    let net = |name: &str| match given.last(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            IpNet::from_str(text).map(Some).or_else(|_| error(format!("invalid CIDR address: {text}")))
        }
    };
    let gateway = given.last("default-gateway").filter(|text| !text.is_empty());
    Ok(BridgeSettings {
        name: match name {
            "none" => None,
            "" => Some("docker0".to_owned()),
            name => Some(name.to_owned()),
        },
        existing: !matches!(name, "" | "none" | "docker0"),
        address: net("bip")?,
        fixed_cidr: net("fixed-cidr")?,
        default_gateway: gateway.map(|text| ip("default-gateway", text)).transpose()?,
        mtu: match number(given, "mtu", 0)? {
            0 => DEFAULT_MTU,
            mtu => u32::try_from(mtu).or_else(|_| error(format!("invalid default MTU value: {mtu}")))?,
        },
        icc,
        // dockerd switches masquerading off together with its packet filter rules.
        masquerade: masquerade && firewall,
        firewall,
        ip_forward: switch(given, "ip-forward", true),
        host_ip: match given.last("ip").filter(|text| !text.is_empty()) {
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some(text) => ip("ip", text)?,
        },
        userland_proxy: switch(given, "userland-proxy", true),
        ipv6: switch(given, "ipv6", false),
        address6: net("bip6")?,
        accepted_mark: accepted_mark(given.last("bridge-accept-fwmark").unwrap_or_default())?,
        fixed_cidr6: fixed_cidr6(net("fixed-cidr-v6")?, net("bip6")?)?,
        default_gateway6: given
            .last("default-gateway-v6")
            .filter(|text| !text.is_empty())
            .map(|text| ip("default-gateway-v6", text))
            .transpose()?,
        firewall6: switch(given, "ip6tables", true),
        direct_routing: switch(given, "allow-direct-routing", false),
        ports_through_input: through_input(given)?,
        network_options: network_options(given),
    })
}

/// Where both are given, one is the part of the other that containers get addresses of.
fn fixed_cidr6(range: Option<IpNet>, bridge: Option<IpNet>) -> Result<Option<IpNet>, ValueError> {
    match (range, bridge) {
        (Some(range), Some(bridge)) if !bridge.contains_net(range) => {
            error(format!("fixed-cidr-v6 {range} is not within bip6 {bridge}"))
        }
        (range, _) => Ok(range),
    }
}

/// A mark, and after a slash the bits of it that count: `0x1/0x3`.
fn accepted_mark(text: &str) -> Result<Option<Mark>, ValueError> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    };
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    match (number(value), number(mask)) {
        _ if text.is_empty() => Ok(None),
        (Some(value), Some(mask)) => Ok(Some(Mark { value, mask })),
        _ => error(format!("invalid bridge-accept-fwmark: {text:?}")),
    }
}

/// Ports that pass the host's input rules are taken by a socket of the host's, which the proxy serves.
fn through_input(given: &Given) -> Result<bool, ValueError> {
    let wanted = switch(given, "ports-through-input", false);
    if wanted && !switch(given, "userland-proxy", true) {
        return error("ports-through-input needs the userland-proxy");
    }
    Ok(wanted)
}

fn network_options(given: &Given) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for text in given.all("default-network-opt") {
        if let Some((driver, option)) = text.split_once('=') {
            let (name, value) = pair(option);
            all.entry(driver.to_owned()).or_default().insert(name, value);
        }
    }
    all
}

fn switch(given: &Given, name: &str, default: bool) -> bool {
    given.last(name).map_or(default, |text| text == "true")
}

fn number(given: &Given, name: &str, default: i64) -> Result<i64, ValueError> {
    given.last(name).map_or(Ok(default), |text| {
        text.parse().or_else(|_| error(format!("invalid value for {name}: {text}")))
    })
}

/// A number that must be at least one; 0 means the default.
fn positive<T: TryFrom<i64>>(given: &Given, name: &str, default: i64, what: &str) -> Result<T, ValueError> {
    let asked = number(given, name, default)?;
    let value = if asked == 0 { default } else { asked };
    T::try_from(value).or_else(|_| error(format!("invalid {what}: {value}")))
}

fn labels(given: &Given) -> Result<Vec<String>, ValueError> {
    let labels = given.all("label");
    match labels.iter().find(|label| !label.contains('=')) {
        Some(label) => error(format!("bad attribute format: {label}")),
        None => Ok(labels.to_vec()),
    }
}

/// The parent of control groups, and whether systemd makes them: then that is a slice.
fn cgroups(given: &Given) -> Result<(String, bool), ValueError> {
    let text = given.last("cgroup-parent").unwrap_or_default();
    if given.last("exec-opt") != Some("native.cgroupdriver=systemd") {
        return Ok((cgroup_parent(text)?, false));
    }
    match if text.is_empty() { "system.slice" } else { text } {
        slice if engine::is_slice(slice) => Ok((slice.to_owned(), true)),
        _ => error("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\""),
    }
}

fn hosts(given: &Given) -> Result<Vec<Host>, ValueError> {
    let secure = given.has("tls") || given.has("tlsverify");
    match given.all("host") {
        [] => Ok(vec![Host::Unix(PathBuf::from(paths::DEFAULT_SOCKET))]),
        hosts => hosts.iter().map(|text| host(text, secure)).collect(),
    }
}

/// The port of the API over plain TCP.
const PLAIN_PORT: u16 = 2375;
/// The port of the API over TLS.
const TLS_PORT: u16 = 2376;

fn host(text: &str, secure: bool) -> Result<Host, ValueError> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some(parts) => parts,
        None if text.is_empty() => ("unix", paths::DEFAULT_SOCKET),
        None => ("tcp", text),
    };
    match scheme {
        "unix" if rest.is_empty() => Ok(Host::Unix(PathBuf::from(paths::DEFAULT_SOCKET))),
        "unix" => Ok(Host::Unix(PathBuf::from(rest))),
        "fd" => Ok(Host::Activated(rest.to_owned())),
        "tcp" => {
            let rest = rest.trim_end_matches('/');
            let default = if secure { TLS_PORT } else { PLAIN_PORT };
            let (name, port) = match rest.rsplit_once(':') {
                // A colon inside brackets belongs to an address.
                Some((name, port)) if !port.ends_with(']') => (name, port),
                _ => (rest, ""),
            };
            let port = if port.is_empty() { Ok(default) } else { port.parse() };
            let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
            match port {
                Ok(port) if !rest.contains('/') => {
                    let name = if name.is_empty() && rest.is_empty() { "localhost".to_owned() } else { name };
                    Ok(Host::Tcp { name, port })
                }
                _ => error(format!("invalid bind address ({text}): should be host:port")),
            }
        }
        _ => error(format!("invalid bind address ({text}): unsupported proto '{scheme}'")),
    }
}

fn tls(given: &Given, facts: &HostFacts) -> Result<Option<TlsFiles>, ValueError> {
    // As in dockerd, saying anything about verification, even `false`, asks for TLS.
    let verify = given.last("tlsverify");
    if !switch(given, "tls", false) && verify.is_none() {
        return Ok(None);
    }
    let file = |name: &str, default: &str| match given.last(name).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => facts.client_settings.join(default),
    };
    Ok(Some(TlsFiles {
        certificate: file("tlscert", "cert.pem"),
        key: file("tlskey", "key.pem"),
        clients: (verify == Some("true")).then(|| file("tlscacert", "ca.pem")),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn resolved(arguments: &[&str]) -> Result<Config, String> {
        let given = parse::command_line(arguments.iter().map(|&text| text.to_owned())).unwrap();
        let facts = HostFacts {
            executable: "/bin/wharf".into(),
            client_settings: "/root/.docker".into(),
            proxies: Default::default(),
            oldest_api: None,
            accounts: Accounts::default(),
        };
        resolve(&given, &facts).map_err(|error| error.0)
    }

    #[test]
    fn defaults_are_dockerds_with_own_paths() {
        let config = resolved(&[]).unwrap();
        assert_eq!(config.hosts, [Host::Unix("/run/wharf.sock".into())]);
        assert_eq!((config.group.as_str(), config.tls, config.ready_fd), ("docker", None, None));
        assert_eq!(config.pidfile, Some("/run/wharf.pid".into()));
        assert_eq!((config.log_level, config.log_format), (tracing::Level::INFO, LogFormat::Text));
        let engine = config.engine;
        assert_eq!(engine.data.root().to_str(), Some("/var/lib/wharf"));
        assert_eq!((engine.cgroup_parent.as_str(), engine.shm_size), ("/docker", 64 << 20));
        assert_eq!((engine.max_concurrent_downloads, engine.max_concurrent_uploads), (3, 5));
        assert_eq!(engine.bridge.name.as_deref(), Some("docker0"));
        assert_eq!((engine.bridge.mtu, engine.bridge.icc, engine.bridge.existing), (1500, true, false));
    }

    #[test]
    fn hosts_are_read_as_dockerd_reads_them() {
        let tcp = |name: &str, port| Host::Tcp { name: name.to_owned(), port };
        for (text, expect) in [
            ("unix:///tmp/x.sock", Host::Unix("/tmp/x.sock".into())),
            ("unix://", Host::Unix("/run/wharf.sock".into())),
            ("fd://", Host::Activated(String::new())),
            ("fd://docker.socket", Host::Activated("docker.socket".to_owned())),
            ("tcp://127.0.0.1:99", tcp("127.0.0.1", 99)),
            ("tcp://[::1]:99", tcp("::1", 99)),
            ("tcp://[::1]", tcp("::1", 2375)),
            ("tcp://:99", tcp("", 99)),
            ("tcp://", tcp("localhost", 2375)),
            ("1.2.3.4:5", tcp("1.2.3.4", 5)),
        ] {
            assert_eq!(resolved(&["-H", text]).unwrap().hosts, [expect], "{text}");
        }
        assert_eq!(resolved(&["-H", "tcp://a", "--tls"]).unwrap().hosts, [tcp("a", 2376)]);
        for (text, expect) in [
            ("ftp://x", "invalid bind address (ftp://x): unsupported proto 'ftp'"),
            ("tcp://a:b", "invalid bind address (tcp://a:b): should be host:port"),
            ("tcp://a:1/x", "invalid bind address (tcp://a:1/x): should be host:port"),
        ] {
            assert_eq!(resolved(&["-H", text]).unwrap_err(), expect);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (arguments, expect) in [
            (
                &["-b", "br0", "--bip", "10.0.0.1/8"][..],
                "You specified -b & --bip, mutually exclusive options. Please specify only one",
            ),
            (&["--bip", "x"], "invalid CIDR address: x"),
            (&["--bip6", "fd00::1"], "invalid CIDR address: fd00::1"),
            (
                &["--bip6", "fd00::1/64", "--fixed-cidr-v6", "fd01::/80"],
                "fixed-cidr-v6 fd01::/80 is not within bip6 fd00::1/64",
            ),
            (&["--bridge-accept-fwmark", "1/x"], "invalid bridge-accept-fwmark: \"1/x\""),
            (&["-l", "loud"], "invalid logging level: loud"),
            (&["--log-format", "xml"], "invalid log format: xml"),
            (&["--label", "x"], "bad attribute format: x"),
            (&["--add-runtime", "x"], "invalid runtime argument: x"),
            (&["--add-runtime", "runc=/x"], "runtime name 'runc' is reserved"),
            (&["--add-runtime", "a=/x", "--add-runtime", "A=/y"], "runtime 'a' was already defined"),
            (&["--add-runtime", "../a=/x"], "invalid runtime name: ../a"),
            (&["--default-runtime", "x"], "specified default runtime 'x' does not exist"),
            (&["--max-concurrent-downloads=-1"], "invalid max concurrent downloads: -1"),
            (&["--default-shm-size", "1x"], "invalid size: '1x'"),
            (
                &["--default-ulimit", "nofile=2:1"],
                "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
            ),
        ] {
            assert_eq!(resolved(arguments).unwrap_err(), expect);
        }
        assert!(resolved(&["--icc=false", "--iptables=false"]).is_err());
        assert!(resolved(&["--registry-mirror", "a.example"]).is_err());
        assert!(resolved(&["--registry-mirror", "quay.io=a.example"]).is_err());
        let of_others = resolved(&["--registry-mirror", "quay.io=https://a.example"]).unwrap();
        let [mirror] = of_others.engine.registry_mirrors.as_slice() else { panic!("one mirror") };
        assert_eq!((mirror.registry.as_str(), mirror.url.as_str()), ("quay.io", "https://a.example/"));
    }

    #[test]
    fn values_have_their_units() {
        let config = resolved(&[
            "-D",
            "--default-shm-size=1g",
            "--default-ulimit=nofile=1:2",
            "--default-ulimit=core=0",
            "--default-address-pool=base=10.0.0.0/8,size=24",
            "--bridge=none",
            "--registry-mirror=http://m:5000",
            "--log-opt=max-size=1m",
            "--cgroup-parent=a/b/",
            "--ready-fd=7",
            "-p=",
            "--tlsverify",
            "--tlscert=/c",
        ])
        .unwrap();
        let engine = config.engine;
        assert_eq!(config.log_level, tracing::Level::DEBUG);
        assert_eq!((engine.shm_size, engine.debug), (1 << 30, true));
        assert_eq!(engine.ulimits["nofile"], (1, 2));
        assert_eq!(engine.ulimits["core"], (0, 0));
        assert_eq!(engine.address_pools, [("10.0.0.0/8".parse().unwrap(), 24)]);
        let mirror = distribution::Mirror { registry: "docker.io".into(), url: "http://m:5000/".into() };
        assert_eq!((engine.bridge.name, engine.registry_mirrors), (None, vec![mirror]));
        assert_eq!(engine.log.options["max-size"], "1m");
        assert_eq!((engine.cgroup_parent.as_str(), config.ready_fd, config.pidfile), ("/a/b", Some(7), None));
        let tls = config.tls.unwrap();
        assert_eq!((tls.certificate, tls.key), ("/c".into(), "/root/.docker/key.pem".into()));
        assert_eq!(tls.clients, Some("/root/.docker/ca.pem".into()));
    }
}
