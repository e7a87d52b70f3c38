//! A container on inspection and in lists.

use super::duration::human;
use api::container::{Port, Summary, SummaryHostConfig, SummaryNetworkSettings};
use api::host_config::{HostConfig, PortBinding};
use api::image::DriverData;
use api::inspect::{self, HealthcheckResult, InspectResponse, NetworkSettings};
use api::network::EndpointSettings;
use api::{ApiVersion, StringMap};
use base::Timestamp;
use base::paths::DataPaths;
use engine::container::record::{Container, Endpoint, Health, MountKind, MountPoint};
use engine::container::state::{Exit, Run, State};
use std::collections::BTreeMap;

/// The storage driver's name, as Docker's containerd image store has it.
pub const DRIVER: &str = "overlayfs";

/// How much a container takes on disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// What it has written.
    pub writable: i64,
    /// That and its image.
    pub total: i64,
}

/// What an answer needs besides the record.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// Where data lives.
    pub data: &'a DataPaths,
    /// The version of the API that the client speaks.
    pub version: ApiVersion,
    /// The identifiers of its execs.
    pub execs: Vec<String>,
    /// Its size, if it was asked for.
    pub size: Option<Size>,
    /// The names it has by others' links in a list, its own links in an inspection.
    pub links: Vec<String>,
}

/// What a container is doing, in the API's words.
pub fn state(record: &Container) -> inspect::State {
    let zero = Timestamp::ZERO.to_string();
    let mut state = inspect::State {
        status: record.state.as_str().to_owned(),
        started_at: zero.clone(),
        finished_at: zero,
        health: record.health.as_ref().map(health),
        ..Default::default()
    };
    // Docker holds a restarting and a paused container for running.
    match &record.state {
        State::Created(None) => {}
        State::Running(run) => running(&mut state, run),
        State::Paused(run) => {
            running(&mut state, run);
            state.paused = true;
        }
        State::Restarting(exit) => {
            ended(&mut state, exit);
            (state.running, state.restarting) = (true, true);
        }
        State::Created(Some(exit)) | State::Exited(exit) | State::Removing(exit) => ended(&mut state, exit),
        State::Dead(exit) => {
            ended(&mut state, exit);
            state.dead = true;
        }
    }
    state
}

fn running(state: &mut inspect::State, run: &Run) {
    state.running = true;
    state.pid = run.pid;
    state.started_at = Timestamp::from_nanos(run.started_at).to_string();
}

fn ended(state: &mut inspect::State, exit: &Exit) {
    state.exit_code = exit.code;
    state.oom_killed = exit.oom_killed;
    state.error.clone_from(&exit.error);
    if let Some(time) = exit.started_at {
        state.started_at = Timestamp::from_nanos(time).to_string();
    }
    if let Some(time) = exit.finished_at {
        state.finished_at = Timestamp::from_nanos(time).to_string();
    }
}

fn health(health: &Health) -> inspect::Health {
    let probes = health.log.iter().map(|probe| HealthcheckResult {
        start: Timestamp::from_nanos(probe.start).to_string(),
        end: Timestamp::from_nanos(probe.end).to_string(),
        exit_code: probe.exit_code,
        output: probe.output.clone(),
    });
    inspect::Health {
        status: health.status.clone(),
        failing_streak: health.failing_streak,
        log: Some(probes.collect()),
    }
}

/// Returns the `STATUS` of lists: `Up 2 minutes (healthy)`, `Exited (0) 3 days ago`.
pub fn status(record: &Container, now: Timestamp) -> String {
    let since = |time: i64| human(now.since(Timestamp::from_nanos(time)));
    match &record.state {
        State::Created(_) => "Created".to_owned(),
        State::Paused(run) => format!("Up {} (Paused)", since(run.started_at)),
        State::Running(run) => match record.health.as_ref().map(|health| health.status.as_str()) {
            None | Some("" | "none") => format!("Up {}", since(run.started_at)),
            Some("starting") => format!("Up {} (health: starting)", since(run.started_at)),
            Some(health) => format!("Up {} ({health})", since(run.started_at)),
        },
        State::Restarting(exit) => {
            format!("Restarting ({}) {} ago", exit.code, since(exit.finished_at.unwrap_or_default()))
        }
        State::Exited(exit) => match exit.finished_at {
            Some(time) => format!("Exited ({}) {} ago", exit.code, since(time)),
            None => "Created".to_owned(),
        },
        State::Removing(_) => "Removal In Progress".to_owned(),
        State::Dead(_) => "Dead".to_owned(),
    }
}

/// Returns the command as Docker splits it: a path, and its arguments.
fn command(record: &Container) -> (String, Vec<String>) {
    let words = [&record.config.entrypoint, &record.config.cmd];
    let mut words = words.into_iter().flatten().flatten().cloned();
    (words.next().unwrap_or_default(), words.collect())
}

/// Answers `GET /containers/{id}/json`.
pub fn inspect(record: &Container, context: &Context<'_>) -> InspectResponse {
    let (path, args) = command(record);
    let folder = context.data.container(&record.id);
    let ever_started = !matches!(record.state, State::Created(None));
    let file = |name: &str| {
        if ever_started { folder.join(name).display().to_string() } else { String::new() }
    };
    let log_path = match record.log.driver.as_str() {
        "json-file" if ever_started => context.data.log(&record.id).display().to_string(),
        _ => String::new(),
    };
    let mut config = record.config.clone();
    if context.version < ApiVersion::new(1, 44) {
        config.mac_address =
            record.endpoints.values().map(|endpoint| endpoint.mac.clone()).next().unwrap_or_default();
    }
    InspectResponse {
        id: record.id.to_string(),
        created: Timestamp::from_nanos(record.created).to_string(),
        path,
        args,
        state: state(record),
        image: record.image.id.to_string(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path,
        name: format!("/{}", record.name),
        restart_count: record.restart_count,
        driver: DRIVER.to_owned(),
        platform: "linux".to_owned(),
        exec_ids: Some(context.execs.clone()).filter(|execs| !execs.is_empty()),
        host_config: HostConfig {
            links: Some(context.links.clone()).filter(|links| !links.is_empty()),
            ..record.host.clone()
        },
        graph_driver: DriverData { data: None, name: DRIVER.to_owned() },
        size_rw: context.size.map(|size| size.writable),
        size_root_fs: context.size.map(|size| size.total),
        mounts: mounts(record),
        config,
        network_settings: network_settings(record, context.version),
        ..Default::default()
    }
}

/// Docker does not list what `--tmpfs` asks for.
fn mounts(record: &Container) -> Vec<inspect::MountPoint> {
    let plain = |point: &&MountPoint| {
        let is_there = |path: &String| path.trim_end_matches('/') == point.destination;
        point.kind != MountKind::Tmpfs || !record.host.tmpfs.keys().any(is_there)
    };
    record.mounts.iter().filter(plain).map(mount).collect()
}

fn mount(mount: &MountPoint) -> inspect::MountPoint {
    let (kind, driver) = match mount.kind {
        MountKind::Bind => ("bind", ""),
        MountKind::Volume => ("volume", "local"),
        MountKind::Tmpfs => ("tmpfs", ""),
        MountKind::Image => ("image", ""),
    };
    inspect::MountPoint {
        kind: kind.to_owned(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: driver.to_owned(),
        mode: mount.mode.clone(),
        rw: mount.writable,
        propagation: mount.propagation.clone(),
    }
}

fn network_settings(record: &Container, version: ApiVersion) -> NetworkSettings {
    let mut settings = NetworkSettings {
        networks: record
            .endpoints
            .iter()
            .map(|(name, point)| (name.clone(), endpoint(record, name, point, version)))
            .collect(),
        ..Default::default()
    };
    if let State::Running(run) | State::Paused(run) = &record.state {
        settings.sandbox_id = record.id.to_string();
        settings.sandbox_key = format!("/proc/{}/ns/net", run.pid);
        settings.ports = ports(record);
    }
    if let Some(bridge) = settings.networks.get("bridge").cloned() {
        settings.endpoint_id = bridge.endpoint_id;
        settings.gateway = bridge.gateway;
        settings.ip_address = bridge.ip_address;
        settings.ip_prefix_len = bridge.ip_prefix_len;
        settings.ipv6_gateway = bridge.ipv6_gateway;
        settings.global_ipv6_address = bridge.global_ipv6_address;
        settings.global_ipv6_prefix_len = bridge.global_ipv6_prefix_len;
        settings.mac_address = bridge.mac_address;
    }
    settings
}

/// Every exposed port, with where it is published; `null` if nowhere.
fn ports(record: &Container) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let mut ports: BTreeMap<_, Option<Vec<PortBinding>>> =
        record.config.exposed_ports.keys().map(|port| (with_protocol(port), None)).collect();
    for port in &record.ports {
        let bindings = ports.entry(format!("{}/{}", port.container_port, port.protocol)).or_default();
        bindings
            .get_or_insert_default()
            .push(PortBinding { host_ip: port.host_ip.clone(), host_port: port.host_port.to_string() });
    }
    ports
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

fn endpoint(record: &Container, network: &str, endpoint: &Endpoint, version: ApiVersion) -> EndpointSettings {
    // Until the first start the address is the one that was asked for.
    let wished = endpoint.settings.mac_address.clone();
    let mac = if matches!(record.state, State::Created(_)) { wished } else { endpoint.mac.clone() };
    let mut settings = EndpointSettings {
        network_id: endpoint.network_id.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: endpoint.gateway.clone(),
        ip_address: endpoint.address.clone(),
        ip_prefix_len: endpoint.prefix_len,
        ipv6_gateway: endpoint.gateway6.clone(),
        global_ipv6_address: endpoint.address6.clone(),
        global_ipv6_prefix_len: endpoint.prefix_len6,
        mac_address: mac,
        dns_names: Some(endpoint.dns_names.clone()).filter(|names| !names.is_empty()),
        ..endpoint.settings.clone()
    };
    // Before 1.45 the aliases of user-defined networks had the short identifier among them.
    if version < ApiVersion::new(1, 45) && !matches!(network, "bridge" | "host" | "none") {
        let aliases = settings.aliases.get_or_insert_default();
        if !aliases.contains(&record.id.short()) {
            aliases.push(record.id.short());
        }
    }
    settings
}

/// Answers one entry of `GET /containers/json`.
///
/// `image` is what the list shows as the image: the reference as long as it means the same image, else its identifier.
pub fn summary(record: &Container, image: String, now: Timestamp, context: &Context<'_>) -> Summary {
    let networks = record.endpoints.iter().map(|(name, point)| {
        let point = endpoint(record, name, point, ApiVersion::MAX);
        // Lists show facts, not wishes.
        let facts =
            EndpointSettings { links: None, aliases: None, driver_opts: None, dns_names: None, ..point };
        (name.clone(), facts)
    });
    Summary {
        id: record.id.to_string(),
        names: [format!("/{}", record.name)].into_iter().chain(context.links.iter().cloned()).collect(),
        image,
        image_id: record.image.id.to_string(),
        image_manifest_descriptor: None,
        command: command_line(record),
        created: Timestamp::from_nanos(record.created).as_secs(),
        ports: summary_ports(record),
        size_rw: context.size.map_or(0, |size| size.writable),
        size_root_fs: context.size.map_or(0, |size| size.total),
        labels: record.config.labels.clone().unwrap_or_default(),
        state: record.state.as_str().to_owned(),
        status: status(record, now),
        host_config: SummaryHostConfig {
            network_mode: record.host.network_mode.clone(),
            annotations: StringMap::new(),
        },
        network_settings: Some(SummaryNetworkSettings { networks: Some(networks.collect()) }),
        mounts: mounts(record),
    }
}

fn command_line(record: &Container) -> String {
    let (mut line, args) = command(record);
    for arg in args {
        line.push(' ');
        if arg.contains(' ') {
            line.push_str(&format!("'{arg}'"));
        } else {
            line.push_str(&arg);
        }
    }
    line
}

fn summary_ports(record: &Container) -> Vec<Port> {
    if !matches!(record.state, State::Running(_) | State::Paused(_)) {
        return Vec::new();
    }
    let mut all = Vec::new();
    for (port, bindings) in ports(record) {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let private_port = number.parse().unwrap_or(0);
        let plain = Port { private_port, protocol: protocol.to_owned(), ..Default::default() };
        match bindings {
            None => all.push(plain),
            Some(bindings) => all.extend(bindings.into_iter().map(|binding| Port {
                ip: binding.host_ip,
                public_port: binding.host_port.parse().unwrap_or(0),
                ..plain.clone()
            })),
        }
    }
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use base::ContainerId;
    use engine::container::record::{ImageUse, LogChoice, PublishedPort};

    const SECOND: i64 = 1_000_000_000;

    pub(in super::super) fn record(state: State) -> Container {
        Container {
            id: ContainerId::from_bytes([0xab; 32]),
            name: "web".to_owned(),
            created: 1_700_000_000 * SECOND,
            config: serde_json::from_str(
                r#"{"Image":"nginx","Entrypoint":["/init"],"Cmd":["-c","a b"],"ExposedPorts":{"80/tcp":{},"81/tcp":{}},
                    "Labels":{"a":"b"}}"#,
            )
            .unwrap(),
            host: Default::default(),
            image: ImageUse {
                reference: "nginx".to_owned(),
                id: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
                layers: Vec::new(),
                platform: "linux/amd64".to_owned(),
            },
            state,
            restart_count: 0,
            stopped_by_user: false,
            endpoints: BTreeMap::from([(
                "bridge".to_owned(),
                Endpoint { address: "172.17.0.2".to_owned(), prefix_len: 16, ..Default::default() },
            )]),
            ports: vec![PublishedPort {
                protocol: "tcp".to_owned(),
                host_ip: "0.0.0.0".to_owned(),
                host_port: 8080,
                container_port: 80,
            }],
            mounts: Vec::new(),
            log: LogChoice { driver: "json-file".to_owned(), options: BTreeMap::new() },
            links: Vec::new(),
            health: None,
        }
    }

    pub(in super::super) fn up() -> State {
        State::Running(Run { pid: 7, started_at: 1_700_000_000 * SECOND })
    }

    pub(in super::super) fn down(code: i32) -> State {
        let finished_at = Some(1_700_000_000 * SECOND);
        State::Exited(Exit { code, started_at: Some(0), finished_at, ..Exit::default() })
    }

    fn context(data: &DataPaths, minor: u16) -> Context<'_> {
        Context { data, version: ApiVersion::new(1, minor), execs: Vec::new(), size: None, links: Vec::new() }
    }

    #[test]
    fn status_is_worded_as_in_docker_ps() {
        let now = Timestamp::from_nanos(1_700_000_120 * SECOND);
        let State::Running(run) = up() else { unreachable!() };
        let State::Exited(exit) = down(3) else { unreachable!() };
        for (state, expect) in [
            (up(), "Up 2 minutes"),
            (State::Paused(run), "Up 2 minutes (Paused)"),
            (down(3), "Exited (3) 2 minutes ago"),
            (State::Restarting(exit.clone()), "Restarting (3) 2 minutes ago"),
            (State::Created(None), "Created"),
            (State::Created(Some(Exit { code: 127, ..Exit::default() })), "Created"),
            (State::Removing(exit.clone()), "Removal In Progress"),
            (State::Dead(exit), "Dead"),
        ] {
            assert_eq!(status(&record(state), now), expect);
        }
        for (health, expect) in
            [("starting", "Up 2 minutes (health: starting)"), ("healthy", "Up 2 minutes (healthy)")]
        {
            let health = Some(Health { status: health.to_owned(), ..Health::default() });
            assert_eq!(status(&Container { health, ..record(up()) }, now), expect);
        }
    }

    #[test]
    fn inspection_of_a_running_container() {
        let data = DataPaths::new("/d");
        let answer = inspect(&record(up()), &context(&data, 51));
        assert_eq!(
            (answer.path.as_str(), answer.args.as_slice()),
            ("/init", &["-c".to_owned(), "a b".to_owned()][..])
        );
        assert_eq!(answer.log_path, format!("/d/containers/{0}/{0}-json.log", answer.id));
        let ports = serde_json::to_string(&answer.network_settings.ports).unwrap();
        assert_eq!(ports, r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"81/tcp":null}"#);
        assert_eq!(answer.network_settings.ip_address, "172.17.0.2");
        assert_eq!((answer.state.running, answer.state.pid), (true, 7));
        assert_eq!(answer.state.finished_at, "0001-01-01T00:00:00Z");
    }

    #[test]
    fn what_never_ran_has_no_files_and_no_ports() {
        let data = DataPaths::new("/d");
        let answer = inspect(&record(State::Created(None)), &context(&data, 51));
        assert_eq!((answer.hosts_path.as_str(), answer.log_path.as_str()), ("", ""));
        assert!(answer.network_settings.ports.is_empty());
    }

    #[test]
    fn old_clients_see_the_short_identifier_among_the_aliases() {
        let mut record = record(up());
        record.endpoints.insert("mine".to_owned(), Endpoint::default());
        let data = DataPaths::new("/d");
        let aliases = |minor, network: &str| {
            inspect(&record, &context(&data, minor)).network_settings.networks[network].aliases.clone()
        };
        assert_eq!(aliases(44, "mine"), Some(vec!["abababababab".to_owned()]));
        assert_eq!(aliases(45, "mine"), None);
        assert_eq!(aliases(44, "bridge"), None);
    }

    #[test]
    fn a_list_entry() {
        let data = DataPaths::new("/d");
        let now = Timestamp::from_nanos(1_700_000_005 * SECOND);
        let entry = summary(&record(up()), "nginx".to_owned(), now, &context(&data, 51));
        assert_eq!(entry.command, "/init -c 'a b'");
        assert_eq!((entry.status.as_str(), entry.created), ("Up 5 seconds", 1_700_000_000));
        let ports = serde_json::to_string(&entry.ports).unwrap();
        assert_eq!(
            ports,
            r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":81,"Type":"tcp"}]"#
        );
        assert!(summary(&record(down(0)), String::new(), now, &context(&data, 51)).ports.is_empty());
    }
}
