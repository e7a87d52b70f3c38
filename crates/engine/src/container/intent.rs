//! The effective intent: what was asked, with the image's defaults where nothing was asked; checked.
//!
//! Pure. The merging rules are dockerd's (Engine API, `ContainerCreate`): what the user gives wins, lists of ports, volumes,
//! variables and labels are united, and an entry point of the user's own discards the image's command.

use crate::error::{Error, Result};
use api::container::{Config, HealthConfig};
use api::host_config::{DeviceRequest, HostConfig, RestartPolicy};
use oci::image::ContainerDefaults;

/// What the host can give, as far as limits are checked against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capacity {
    /// How many processors there are to use.
    pub(super) processors: u32,
    /// The online processors, as a list (`0-3,7`).
    pub(super) cpus: String,
    /// The memory nodes, the same way.
    pub(super) nodes: String,
}

impl Capacity {
    /// Looks at the host.
    pub(super) fn detect() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let online = |what: &str| std::fs::read_to_string(format!("/sys/devices/system/{what}/online"));
        let list = |what: &str, default: String| online(what).map_or(default, |list| list.trim().to_owned());
        Self {
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            cpus: list("cpu", format!("0-{}", processors - 1)),
            // A kernel without NUMA has one.
            nodes: list("node", "0".to_owned()),
        }
    }
}

const MINIMUM_MEMORY: i64 = 6 << 20;

/// Fills `config` with what the image says where the user said nothing.
pub(super) fn merge(config: &mut Config, image: &ContainerDefaults) {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    for port in &image.exposed_ports {
        config.exposed_ports.entry(port.clone()).or_default();
    }
    let env = config.env.get_or_insert_default();
    let key = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = env.iter().map(|variable| key(variable)).collect();
    env.extend(image.env.iter().filter(|variable| !given.contains(&key(variable))).cloned());
    let labels = config.labels.get_or_insert_default();
    for (name, value) in &image.labels {
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    // `--entrypoint ""` clears the image's entry point.
    if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = None;
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if !image.volumes.is_empty() {
        let volumes = config.volumes.get_or_insert_default();
        volumes.extend(image.volumes.iter().map(|path| (path.clone(), api::Empty::default())));
    }
    if config.stop_signal.is_empty() {
        config.stop_signal = image.stop_signal.clone().unwrap_or_default();
    }
    if config.shell.is_none() {
        config.shell.clone_from(&image.shell);
    }
    merge_health(&mut config.healthcheck, image);
}

fn merge_health(wanted: &mut Option<HealthConfig>, image: &ContainerDefaults) {
    let Some(default) = &image.healthcheck else { return };
    let wanted = wanted.get_or_insert_default();
    if wanted.test.is_empty() {
        wanted.test.clone_from(&default.test);
    }
    let inherit = |own: &mut i64, default: i64| {
        if *own == 0 {
            *own = default;
        }
    };
    inherit(&mut wanted.interval, default.interval);
    inherit(&mut wanted.timeout, default.timeout);
    inherit(&mut wanted.start_period, default.start_period);
    inherit(&mut wanted.start_interval, default.start_interval);
    inherit(&mut wanted.retries, default.retries);
}

/// Checks an intent that has been merged. Returns warnings, in dockerd's words.
///
/// # Errors
///
/// Fails with dockerd's text for what cannot be.
pub(super) fn check(config: &Config, host: &HostConfig, capacity: &Capacity) -> Result<Vec<String>> {
    let command = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).next();
    if command.is_none_or(String::is_empty) {
        return Err(Error::invalid("no command specified"));
    }
    if config.hostname.len() > 64 {
        return Err(Error::invalid(format!("invalid hostname format: {}", config.hostname)));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if let Some(variable) =
        config.env.iter().flatten().find(|variable| variable.split('=').next() == Some(""))
    {
        return Err(Error::invalid(format!("invalid environment variable: {variable}")));
    }
    if !config.stop_signal.is_empty() && sys::signal::parse(&config.stop_signal).is_none() {
        return Err(Error::invalid(format!("Invalid signal: {}", config.stop_signal)));
    }
    check_health(config.healthcheck.as_ref())?;
    check_restart(&host.restart_policy, host.auto_remove)?;
    check_absent(host)?;
    check_limits(host, capacity)?;
    check_modes(host)?;
    super::capabilities::normalize("CapAdd", host.cap_add.as_deref().unwrap_or_default())?;
    super::capabilities::normalize("CapDrop", host.cap_drop.as_deref().unwrap_or_default())?;
    super::security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let mut warnings = Vec::new();
    for (given, what) in [
        (host.resources.kernel_memory > 0, "kernel memory limits"),
        (host.resources.kernel_memory_tcp > 0, "kernel memory TCP limit"),
    ] {
        if given {
            warnings.push(format!("Your kernel does not support {what}. Limitation discarded."));
        }
    }
    let published = host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    if published && matches!(host.network_mode.as_str(), "host") {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

/// Refuses what is not there, in dockerd's words for hosts that do not have it either.
fn check_absent(host: &HostConfig) -> Result<()> {
    if !matches!(host.isolation.as_str(), "" | "default") {
        let isolation = &host.isolation;
        return Err(Error::invalid(format!(
            "invalid isolation ({isolation}): linux only supports 'default'"
        )));
    }
    let by_name = |request: &&DeviceRequest| {
        let names = request.device_ids.as_deref().unwrap_or_default();
        request.driver == "cdi" && !names.is_empty() && names.iter().all(|name| super::cdi::is_name(name))
    };
    if let Some(request) = host.resources.device_requests.iter().flatten().find(|request| !by_name(request)) {
        let groups = request.capabilities.iter().flatten();
        let groups: Vec<String> = groups.map(|group| format!("[{}]", group.join(" "))).collect();
        return Err(Error::invalid(format!(
            "could not select device driver {:?} with capabilities: [{}]",
            request.driver,
            groups.join(" ")
        )));
    }
    Ok(())
}

fn check_health(health: Option<&HealthConfig>) -> Result<()> {
    let Some(health) = health else { return Ok(()) };
    let times = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, nanos) in times {
        if nanos != 0 && nanos < 1_000_000 {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    if !matches!(health.on_failure.as_str(), "" | "none" | "kill" | "restart" | "stop") {
        let action = &health.on_failure;
        return Err(Error::invalid(format!(
            "invalid health check action {action:?}: must be none, kill, restart or stop"
        )));
    }
    match health.test.first().map(String::as_str) {
        None | Some("NONE" | "CMD" | "CMD-SHELL" | "") => Ok(()),
        Some(other) => Err(Error::invalid(format!("Unknown health check type {other:?}"))),
    }
}

/// Checks a restart policy.
///
/// # Errors
///
/// Fails for an unknown name, a count that does not go with it, and together with automatic removal.
pub(super) fn check_restart(policy: &RestartPolicy, auto_remove: bool) -> Result<()> {
    let name = policy.name.as_str();
    match name {
        "always" | "unless-stopped" | "no" if policy.maximum_retry_count != 0 => {
            let hint = if policy.maximum_retry_count < 0 { " and cannot be negative" } else { "" };
            return Err(Error::invalid(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'{hint}"
            )));
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            return Err(Error::invalid("invalid restart policy: maximum retry count cannot be negative"));
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" => {}
        other => {
            return Err(Error::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            )));
        }
    }
    if auto_remove && !matches!(name, "" | "no") {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

/// Checks limits; also used by live updates.
///
/// # Errors
///
/// Fails with dockerd's text for the first that cannot be.
pub(super) fn check_limits(host: &HostConfig, capacity: &Capacity) -> Result<()> {
    let limits = &host.resources;
    if limits.memory != 0 && limits.memory < MINIMUM_MEMORY {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if limits.memory > 0 && limits.memory_swap > 0 && limits.memory_swap < limits.memory {
        return Err(Error::invalid("Minimum memoryswap limit should be larger than memory limit, see usage"));
    }
    if limits.memory == 0 && limits.memory_swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if limits.memory_reservation > 0 && limits.memory > 0 && limits.memory < limits.memory_reservation {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    if limits.memory_swappiness.is_some_and(|value| !(-1..=100).contains(&value)) {
        let value = limits.memory_swappiness.unwrap_or_default();
        return Err(Error::invalid(format!(
            "Invalid value: {value}, valid memory swappiness range is 0-100"
        )));
    }
    if limits.nano_cpus != 0 {
        if limits.cpu_period > 0 || limits.cpu_quota > 0 {
            let field = if limits.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
            return Err(Error::invalid(format!(
                "Conflicting options: Nano CPUs and {field} cannot both be set"
            )));
        }
        let most = i64::from(capacity.processors) * 1_000_000_000;
        if limits.nano_cpus < 0 || limits.nano_cpus > most {
            let count = capacity.processors;
            return Err(Error::invalid(format!(
                "range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
            )));
        }
    }
    if limits.cpu_period != 0 && !(1_000..=1_000_000).contains(&limits.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if limits.cpu_quota > 0 && limits.cpu_quota < 1_000 {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if limits.cpu_shares < 0 {
        let shares = limits.cpu_shares;
        return Err(Error::invalid(format!(
            "invalid CPU shares ({shares}): value must be a positive integer"
        )));
    }
    check_list("CPUs", "cpuset cpus", &limits.cpuset_cpus, &capacity.cpus)?;
    check_list("memory nodes", "cpuset mems", &limits.cpuset_mems, &capacity.nodes)?;
    if limits.blkio_weight > 0 && !(10..=1000).contains(&limits.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        let score = host.oom_score_adj;
        return Err(Error::invalid(format!(
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    Ok(())
}

/// Refuses a list of processors or memory nodes that is none, or that names some which are not there.
fn check_list(kind: &str, what: &str, list: &str, available: &str) -> Result<()> {
    let wrong = |why: &str| Error::invalid(format!("Invalid value {list} for {what}: {why}"));
    let wanted = ranges(list).ok_or_else(|| wrong(&format!("invalid format: {list}")))?;
    if wanted.iter().any(|(_, last)| *last >= MOST_PROCESSORS) {
        return Err(wrong(&format!("value of out range, maximum is {}", MOST_PROCESSORS - 1)));
    }
    let there = ranges(available).unwrap_or_default();
    let has = |number: u32| there.iter().any(|(first, last)| (*first..=*last).contains(&number));
    if wanted.iter().all(|(first, last)| (*first..=*last).all(has)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Requested {kind} are not available - requested {list}, available: {available}"
    )))
}

/// Numbers of processors that no machine has (CVE-2018-20699).
const MOST_PROCESSORS: u32 = 8193;

/// Reads a list like `0-3,7`; `None` if it is none.
fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    let parts = list.split(',').filter(|_| !list.is_empty());
    parts
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        })
        .collect()
}

/// Refuses what contradicts namespaces that are another's, of what the user has given: an image's ports are no contradiction
/// (moby, `validateNetMode`).
pub(super) fn check_shared(config: &Config, host: &HostConfig) -> Result<()> {
    let conflict = |what: &str| Err(Error::invalid(format!("conflicting options: {what}")));
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    let mode = host.network_mode.as_str();
    if !mode.starts_with("container:") {
        return Ok(());
    }
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let published = host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    let exposed = !config.exposed_ports.is_empty();
    for (given, what) in [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (some(&host.dns), "dns and the network mode"),
        (some(&host.extra_hosts), "custom host-to-IP mapping and the network mode"),
        (published || host.publish_all_ports, "port publishing and the container type network mode"),
        (exposed, "port exposing and the container type network mode"),
    ] {
        if given {
            return conflict(what);
        }
    }
    Ok(())
}

fn check_modes(host: &HostConfig) -> Result<()> {
    let one_of = |what: &str, mode: &str, allowed: &[&str]| {
        let joins = mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
        if allowed.contains(&mode) || (joins && allowed.contains(&"container:")) {
            Ok(())
        } else {
            Err(Error::invalid(format!("invalid {what} mode: {mode}")))
        }
    };
    one_of("PID", &host.pid_mode, &["", "host", "container:"])?;
    one_of("UTS", &host.uts_mode, &["", "host"])?;
    one_of("IPC", &host.ipc_mode, &["", "none", "private", "shareable", "host", "container:"])?;
    one_of("cgroup namespace", &host.cgroupns_mode, &["", "private", "host"])?;
    one_of("userns", &host.userns_mode, &["", "host"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn an_own_entry_point_discards_the_images_command() {
        let image = ContainerDefaults {
            entrypoint: words(&["/entry"]),
            cmd: words(&["default"]),
            env: vec!["A=image".to_owned(), "B=image".to_owned()],
            ..ContainerDefaults::default()
        };
        let mut config = Config { env: words(&["A=user"]), ..Config::default() };
        merge(&mut config, &image);
        assert_eq!((config.entrypoint, config.cmd), (words(&["/entry"]), words(&["default"])));
        assert_eq!(config.env, words(&["A=user", "B=image"]));
        let mut config = Config { entrypoint: words(&["/own"]), ..Config::default() };
        merge(&mut config, &image);
        assert_eq!((config.entrypoint, config.cmd), (words(&["/own"]), None));
        let mut config = Config { entrypoint: words(&[""]), cmd: words(&["x"]), ..Config::default() };
        merge(&mut config, &image);
        assert_eq!((config.entrypoint, config.cmd), (None, words(&["x"])));
    }

    #[test]
    fn wrong_limits_are_refused_in_dockers_words() {
        let capacity = Capacity { processors: 2, cpus: "0-1".to_owned(), nodes: "0".to_owned() };
        let check = |change: fn(&mut HostConfig), expect: &str| {
            let mut host = HostConfig::default();
            change(&mut host);
            let error = check_limits(&host, &capacity).unwrap_err().to_string();
            assert_eq!(error, expect);
        };
        check(|host| host.resources.memory = 4 << 20, "Minimum memory limit allowed is 6MB");
        check(
            |host| host.resources.nano_cpus = 3_000_000_000,
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        );
        check(
            |host| host.resources.cpuset_cpus = "0-2147483647".to_owned(),
            "Invalid value 0-2147483647 for cpuset cpus: value of out range, maximum is 8192",
        );
        check(
            |host| host.resources.cpuset_mems = "x".to_owned(),
            "Invalid value x for cpuset mems: invalid format: x",
        );
        check(
            |host| host.resources.cpuset_cpus = "0,9".to_owned(),
            "Requested CPUs are not available - requested 0,9, available: 0-1",
        );
        check(
            |host| host.resources.memory_swap = 1 << 30,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
}
