//! The whole request of `create` and `run`.

use super::{devices, environment, limits, mounts, networks, ports, security};
use crate::error::{Error, Result, reason};
use crate::flags::Matches;
use api::container::{Config, CreateRequest, HealthConfig};
use api::host_config::{DeviceRequest, HostConfig, LogConfig};
use api::network::NetworkingConfig;
use std::path::Path;

/// `stdin`, `stdout` or `stderr`.
pub(crate) fn check_attach(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// Makes the request; the first argument is the image, the others the command.
pub(crate) fn request(matches: &Matches, proxy: Vec<(String, String)>) -> Result<CreateRequest> {
    // Without one only what names a relative source fails, at the daemon.
    let directory = std::env::current_dir().unwrap_or_default();
    let read = |path: &str| {
        std::fs::read_to_string(path).map_err(|error| format!("open {path}: {}", reason(&error)))
    };
    let mac = matches.text("mac-address");
    if !mac.is_empty() && !networks::is_mac(mac) {
        return Err(Error::message(format!("{mac} is not a valid mac address")));
    }
    let swappiness = matches.int("memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(Error::message(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )));
    }
    let volumes = mounts::volumes(matches.list("volume"), &directory).map_err(Error::Message)?;
    let ports = ports::parse(matches.list("publish"), matches.list("expose")).map_err(Error::Message)?;
    let mut variables = environment::variables(matches.list("env-file"), matches.list("env"))?;
    for (name, value) in proxy {
        if !variables.iter().any(|variable| variable.split('=').next() == Some(name.as_str())) {
            variables.push(format!("{name}={value}"));
        }
    }
    let labels = environment::labels(matches.list("label-file"), matches.list("label"))?;
    let host_config = host_config(matches, &directory, &read, (volumes.binds, ports.bindings))?;
    let networks = networks::networks(matches).map_err(Error::Message)?;
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let attached =
        |stream: &str| matches.list("attach").iter().any(|wanted| wanted.eq_ignore_ascii_case(stream));
    let all = matches.list("attach").is_empty();
    let open_stdin = matches.switch("interactive");
    let attach_stdin = open_stdin || attached("stdin");
    let config = Config {
        hostname: matches.text("hostname").to_owned(),
        domainname: matches.text("domainname").to_owned(),
        user: matches.text("user").to_owned(),
        attach_stdin,
        attach_stdout: all || attached("stdout"),
        attach_stderr: all || attached("stderr"),
        exposed_ports: ports.exposed,
        tty: matches.switch("tty"),
        open_stdin,
        // The container's input ends with the client that holds it.
        stdin_once: open_stdin && attach_stdin,
        env: some(variables),
        cmd: some(matches.args.iter().skip(1).cloned().collect()),
        healthcheck: health(matches)?,
        image: matches.arg(0).to_owned(),
        volumes: Some(volumes.anonymous),
        working_dir: matches.text("workdir").to_owned(),
        // `--entrypoint=` resets the image's: a list with one empty word.
        entrypoint: matches.given("entrypoint").map(|entrypoint| vec![entrypoint.to_owned()]),
        mac_address: mac.to_owned(),
        labels: Some(labels),
        stop_signal: matches.text("stop-signal").to_owned(),
        stop_timeout: matches.changed("stop-timeout").then(|| matches.int("stop-timeout")),
        ..Config::default()
    };
    let host_config = HostConfig { network_mode: networks.mode, ..host_config };
    let networking_config = NetworkingConfig { endpoints_config: Some(networks.endpoints) };
    Ok(CreateRequest { config, host_config, networking_config })
}

type Bound = (Vec<String>, api::host_config::PortMap);

fn host_config(
    matches: &Matches,
    directory: &Path,
    read: &dyn Fn(&str) -> Result<String, String>,
    (binds, port_bindings): Bound,
) -> Result<HostConfig> {
    let text = |name: &str| matches.text(name).to_owned();
    let some = |name: &str| Some(matches.list(name).to_vec()).filter(|list| !list.is_empty());
    security::check_modes(
        matches.text("pid"),
        matches.text("uts"),
        matches.text("userns"),
        matches.text("cgroupns"),
    )
    .map_err(Error::Message)?;
    let restart_policy = security::restart_policy(matches.text("restart")).map_err(Error::Message)?;
    let auto_remove = matches.switch("rm");
    if auto_remove && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err(Error::message("conflicting options: cannot specify both --restart and --rm"));
    }
    let driver = text("log-driver");
    let log_options = security::log_options(&driver, matches.list("log-opt")).map_err(Error::Message)?;
    let security = security::security(matches.list("security-opt"), read).map_err(Error::Message)?;
    let mounts = matches.list("mount").iter().map(|text| mounts::mount(text, directory));
    let (mappings, cdi) = devices::devices(matches.list("device")).map_err(Error::Message)?;
    let mut requests = devices::gpus(matches.list("gpus"));
    if !cdi.is_empty() {
        let driver = "cdi".to_owned();
        requests.push(DeviceRequest { driver, device_ids: Some(cdi), ..DeviceRequest::default() });
    }
    let (cap_add, cap_drop) = security::capabilities(matches.list("cap-add"), matches.list("cap-drop"));
    let mut resources = limits::create_resources(matches);
    resources.devices = Some(mappings);
    resources.device_cgroup_rules = some("device-cgroup-rule");
    resources.device_requests = Some(requests).filter(|requests| !requests.is_empty());
    let mut dns_options = matches.list("dns-option").to_vec();
    dns_options.extend_from_slice(matches.list("dns-opt"));
    Ok(HostConfig {
        binds: Some(binds).filter(|binds| !binds.is_empty()),
        container_id_file: text("cidfile"),
        log_config: LogConfig { driver, config: Some(log_options) },
        port_bindings: Some(port_bindings),
        restart_policy,
        auto_remove,
        volume_driver: text("volume-driver"),
        volumes_from: some("volumes-from"),
        annotations: crate::values::map(matches.list("annotation")),
        cap_add,
        cap_drop,
        cgroupns_mode: text("cgroupns"),
        dns: Some(matches.list("dns").to_vec()),
        dns_options: Some(dns_options),
        dns_search: Some(matches.list("dns-search").to_vec()),
        extra_hosts: some("add-host")
            .map(|hosts| hosts.iter().map(|host| networks::extra_host(host)).collect()),
        group_add: some("group-add"),
        ipc_mode: text("ipc"),
        links: some("link"),
        oom_score_adj: matches.int("oom-score-adj"),
        pid_mode: text("pid"),
        privileged: matches.switch("privileged"),
        publish_all_ports: matches.switch("publish-all"),
        readonly_rootfs: matches.switch("read-only"),
        security_opt: Some(security.options).filter(|options| !options.is_empty()),
        storage_opt: security::storage_options(matches.list("storage-opt")).map_err(Error::Message)?,
        tmpfs: mounts::tmpfs(matches.list("tmpfs")),
        uts_mode: text("uts"),
        userns_mode: text("userns"),
        shm_size: matches.bytes("shm-size"),
        sysctls: crate::values::map(matches.list("sysctl")),
        runtime: text("runtime"),
        isolation: text("isolation"),
        resources,
        mounts: mounts.collect::<Result<_, _>>().map_err(Error::Message)?,
        masked_paths: security.open_paths.then(Vec::new),
        readonly_paths: security.open_paths.then(Vec::new),
        init: matches.changed("init").then(|| matches.switch("init")),
        ..HostConfig::default()
    })
}

fn health(matches: &Matches) -> Result<Option<HealthConfig>> {
    const TIMES: [&str; 4] =
        ["health-interval", "health-timeout", "health-start-period", "health-start-interval"];
    let command = matches.text("health-cmd");
    let retries = matches.int("health-retries");
    let on_failure = matches.text("health-on-failure").to_owned();
    let set = !command.is_empty()
        || retries != 0
        || !on_failure.is_empty()
        || TIMES.iter().any(|name| matches.duration(name) != 0);
    if matches.switch("no-healthcheck") {
        if set {
            return Err(Error::message("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() }));
    }
    if !set {
        return Ok(None);
    }
    if let Some(name) = TIMES.iter().find(|name| matches.duration(name) < 0) {
        return Err(Error::message(format!("--{name} cannot be negative")));
    }
    if retries < 0 {
        return Err(Error::message("--health-retries cannot be negative"));
    }
    let test = match command {
        "" => Vec::new(),
        command => vec!["CMD-SHELL".to_owned(), command.to_owned()],
    };
    Ok(Some(HealthConfig {
        test,
        interval: matches.duration("health-interval"),
        timeout: matches.duration("health-timeout"),
        start_period: matches.duration("health-start-period"),
        start_interval: matches.duration("health-start-interval"),
        retries,
        on_failure,
    }))
}
