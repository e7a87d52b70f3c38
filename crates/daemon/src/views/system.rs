//! `version` and `info`.

use super::container::DRIVER;
use api::registry::{IndexInfo, ServiceConfig};
use api::system::{
    AddressPool, Commit, Component, Device, Firewall, Info, Platform, Plugins, Runtime, Swarm, Version,
};
use api::{ApiVersion, StringMap};
use base::Timestamp;
use engine::Settings;
use engine::container::record::Container;
use engine::container::state::State;
use engine::system::HostInfo;
use std::collections::BTreeMap;
use std::sync::Arc;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Answers `GET /version`.
pub fn version(host: &HostInfo, experimental: bool, oldest: ApiVersion) -> Version {
    let details = [
        ("ApiVersion", ApiVersion::MAX.to_string()),
        ("Arch", architecture().to_owned()),
        ("Experimental", experimental.to_string()),
        ("KernelVersion", host.kernel.clone()),
        ("MinAPIVersion", oldest.to_string()),
        ("Os", "linux".to_owned()),
        // The command line prints these two whether they are there or not.
        ("BuildTime", String::new()),
        ("GitCommit", String::new()),
        ("GoVersion", String::new()),
    ];
    let details: StringMap = details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Version {
        platform: Platform { name: "Wharf".to_owned() },
        components: vec![Component { name: "Engine".to_owned(), version: VERSION.to_owned(), details }],
        version: VERSION.to_owned(),
        api_version: ApiVersion::MAX.to_string(),
        min_api_version: oldest.to_string(),
        os: "linux".to_owned(),
        arch: architecture().to_owned(),
        kernel_version: host.kernel.clone(),
        experimental,
        ..Default::default()
    }
}

/// Go's word for the architecture of this executable.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What `info` counts.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Every container.
    pub containers: Vec<Arc<Container>>,
    /// Images.
    pub images: usize,
    /// Devices that can be asked for by name.
    pub devices: Vec<String>,
    /// Listeners of events.
    pub listeners: usize,
    /// Open descriptors of this process.
    pub descriptors: usize,
    /// Threads of this process.
    pub threads: usize,
}

/// Returns what containers' init is.
fn init(settings: &Settings) -> String {
    settings.init_path.as_ref().map_or_else(|| "wharf".to_owned(), |path| path.display().to_string())
}

/// Returns the devices that can be asked for by name.
fn named(ids: &[String]) -> Vec<Device> {
    ids.iter().map(|id| Device { source: "cdi".to_owned(), id: id.clone() }).collect()
}

/// Answers `GET /info`.
pub fn info(settings: &Settings, host: &HostInfo, counts: &Counts, id: &str, now: Timestamp) -> Info {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let those = |fits: fn(&State) -> bool| {
        number(counts.containers.iter().filter(|container| fits(&container.state)).count())
    };
    let running = those(|state| matches!(state, State::Running(_) | State::Restarting(_)));
    let paused = those(|state| matches!(state, State::Paused(_)));
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let pools = settings.address_pools.iter();
    let has = |name: &str| host.controllers.iter().any(|controller| controller == name);
    Info {
        id: id.to_owned(),
        containers: number(counts.containers.len()),
        containers_running: running,
        containers_paused: paused,
        containers_stopped: number(counts.containers.len()) - running - paused,
        images: number(counts.images),
        driver: DRIVER.to_owned(),
        // Clients look for this line to learn that image identifiers are digests of manifests.
        driver_status: vec![["driver-type".to_owned(), "io.containerd.snapshotter.v1".to_owned()]],
        plugins: Plugins {
            volume: words(&["local"]),
            network: words(&["bridge", "host", "null"]),
            authorization: None,
            log: words(&["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"]),
        },
        memory_limit: has("memory"),
        swap_limit: host.swap_limit,
        cpu_cfs_period: has("cpu"),
        cpu_cfs_quota: has("cpu"),
        cpu_shares: has("cpu"),
        cpu_set: has("cpuset"),
        pids_limit: has("pids"),
        ipv4_forwarding: host.forwarding,
        debug: settings.debug,
        n_fd: number(counts.descriptors),
        oom_kill_disable: !host.unified && has("memory"),
        n_goroutines: number(counts.threads),
        system_time: now.to_string(),
        logging_driver: settings.log.driver.clone(),
        cgroup_driver: (if settings.systemd_cgroups { "systemd" } else { "cgroupfs" }).to_owned(),
        cgroup_version: (if host.unified { "2" } else { "1" }).to_owned(),
        n_events_listener: number(counts.listeners),
        kernel_version: host.kernel.clone(),
        operating_system: host.distribution.clone(),
        os_version: host.distribution_version.clone(),
        os_type: "linux".to_owned(),
        architecture: host.machine.clone(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(registries(settings)),
        http_proxy: without_password(&settings.proxies.http),
        https_proxy: without_password(&settings.proxies.https),
        no_proxy: settings.proxies.no.clone(),
        n_cpu: i64::from(host.processors),
        mem_total: i64::try_from(host.memory).unwrap_or(i64::MAX),
        docker_root_dir: settings.data.root().display().to_string(),
        name: host.hostname.clone(),
        labels: settings.labels.clone(),
        experimental_build: settings.experimental,
        server_version: VERSION.to_owned(),
        runtimes: runtimes(settings),
        default_runtime: settings.default_runtime.clone(),
        swarm: Swarm::default(),
        live_restore_enabled: true,
        init_binary: init(settings),
        cdi_spec_dirs: settings.cdi_folders.iter().map(|folder| folder.display().to_string()).collect(),
        discovered_devices: named(&counts.devices),
        containerd_commit: Commit::default(),
        runc_commit: Commit::default(),
        init_commit: Commit::default(),
        security_options: security_options(settings),
        default_address_pools: pools
            .map(|(base, size)| AddressPool { base: base.to_string(), size: *size })
            .collect(),
        firewall_backend: Some(Firewall { driver: "nftables".to_owned(), info: Vec::new() }),
        ..Default::default()
    }
}

/// The built-in runtime under each of its names, and those that were added.
fn runtimes(settings: &Settings) -> BTreeMap<String, Runtime> {
    let built_in = ["runc", "wharf"].map(|name| (name, "wharf", Vec::new()));
    let added = settings
        .runtimes
        .iter()
        .map(|(name, runtime)| (name.as_str(), runtime.path.as_str(), runtime.arguments.clone()));
    let all = built_in.into_iter().chain(added);
    all.map(|(name, path, runtime_args)| {
        (name.to_owned(), Runtime { path: path.to_owned(), runtime_args, ..Runtime::default() })
    })
    .collect()
}

/// What keeps containers apart from the host by default, in moby's words and order.
fn security_options(settings: &Settings) -> Vec<String> {
    let profile =
        Some(settings.seccomp_profile.as_str()).filter(|name| !name.is_empty()).unwrap_or("builtin");
    let further = [
        ("name=userns", settings.remap.is_some()),
        ("name=cgroupns", settings.private_cgroupns == Some(true)),
        ("name=no-new-privileges", settings.no_new_privileges),
    ];
    let further = further.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned());
    std::iter::once(format!("name=seccomp,profile={profile}")).chain(further).collect()
}

/// Hides who somebody is to a proxy, as dockerd does.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => url.to_owned(),
    }
}

fn registries(settings: &Settings) -> ServiceConfig {
    let mirrors_of = |registry: &str| -> Vec<String> {
        let own = settings.registry_mirrors.iter().filter(|mirror| mirror.registry == registry);
        own.map(|mirror| mirror.url.clone()).collect()
    };
    let mirrors = Some(mirrors_of("docker.io"));
    let hub =
        IndexInfo { name: "docker.io".to_owned(), mirrors: mirrors.clone(), secure: true, official: true };
    let (ranges, hosts): (Vec<_>, Vec<_>) =
        settings.insecure_registries.iter().cloned().partition(|text| text.contains('/'));
    let mut cidrs = ranges;
    // Registries on this host are always insecure.
    for loopback in ["::1/128", "127.0.0.0/8"] {
        if !cidrs.iter().any(|range| range == loopback) {
            cidrs.push(loopback.to_owned());
        }
    }
    let mut indexes = BTreeMap::from([("docker.io".to_owned(), hub)]);
    let index = |name: &str, secure| {
        let mirrors = Some(mirrors_of(name));
        (name.to_owned(), IndexInfo { name: name.to_owned(), mirrors, secure, official: false })
    };
    let mirrored = settings.registry_mirrors.iter().map(|mirror| mirror.registry.as_str());
    indexes
        .extend(mirrored.filter(|registry| *registry != "docker.io").map(|registry| index(registry, true)));
    indexes.extend(hosts.iter().map(|name| index(name, false)));
    ServiceConfig {
        insecure_registry_cidrs: Some(cidrs),
        index_configs: Some(indexes),
        mirrors,
        ..Default::default()
    }
}
