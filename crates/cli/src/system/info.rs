//! `info`

use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::inspect::typed;
use crate::program::{Cli, print, print_line, warn};
use crate::units;
use api::ApiVersion;
use api::system::Info;
use gotemplate::{Template, docker_functions};
use serde_json::{Value, json};

/// `info`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let client = json!({
        "Debug": false,
        "Version": env!("CARGO_PKG_VERSION"),
        "DefaultAPIVersion": ApiVersion::MAX.to_string(),
        "Os": "linux",
        "Context": "default",
        "Plugins": [],
        "Warnings": null,
    });
    let answer = cli.client().and_then(|client| Ok(client.request("GET", "/info").bytes()?));
    let format = match matches.text("format") {
        "" => return show(answer),
        "json" => "{{json .}}",
        format => format,
    };
    let template = Template::parse("", format, docker_functions());
    let template = template
        .map_err(|error| Error::Usage { text: format!("template parsing error: {error}"), code: 64 })?;
    let parsed = answer.map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap_or_default());
    let (mut document, failed) = match parsed {
        Ok(Value::Object(document)) => (document, None),
        Ok(_) => (serde_json::Map::new(), None),
        Err(error) => {
            let errors = json!([error.to_string()]);
            (serde_json::Map::from_iter([("ServerErrors".to_owned(), errors)]), Some(error))
        }
    };
    document.insert("ClientInfo".to_owned(), client);
    let text = template.execute(&typed::INFO.value(&Value::Object(document)));
    // A template that fails has an empty line for output.
    print_line(text.as_deref().unwrap_or_default());
    text.map_err(|error| Error::message(error.to_string()))?;
    failed.map_or(Ok(()), Err)
}

fn show(answer: Result<Vec<u8>>) -> Result<()> {
    print(format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\nServer:\n",
        env!("CARGO_PKG_VERSION")
    ));
    let info: Info = api::decode(&answer?).map_err(|error| Error::message(error.to_string()))?;
    print(text(&info) + "\n");
    for warning in info.warnings.iter().flatten() {
        warn(warning);
    }
    Ok(())
}

/// Lines of the listing; those without a value are left out where Docker does so.
struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push_str(format!(" {name}: {value}").trim_end_matches('\n'));
        self.0.push('\n');
    }

    fn if_set(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.line(name, value);
        }
    }

    fn list(&mut self, name: &str, items: &[String]) {
        if items.is_empty() {
            return;
        }
        self.0.push_str(&format!(" {name}:\n"));
        for item in items {
            self.0.push_str(&format!("  {item}\n"));
        }
    }
}

fn text(info: &Info) -> String {
    let mut lines = Lines(String::new());
    counts(&mut lines, info);
    software(&mut lines, info);
    security(&mut lines, info);
    machine(&mut lines, info);
    network(&mut lines, info);
    lines.line("Live Restore Enabled", info.live_restore_enabled);
    lines.if_set("Product License", &info.product_license);
    if !info.default_address_pools.is_empty() {
        let pools =
            info.default_address_pools.iter().map(|pool| format!("Base: {}, Size: {}", pool.base, pool.size));
        lines.list("Default Address Pools", &pools.collect::<Vec<_>>());
    }
    if let Some(firewall) = &info.firewall_backend {
        lines.line("Firewall Backend", &firewall.driver);
        for [name, value] in &firewall.info {
            lines.0.push_str(&format!("  {name}: {value}\n"));
        }
    }
    lines.0
}

fn counts(lines: &mut Lines, info: &Info) {
    lines.line("Containers", info.containers);
    lines.line(" Running", info.containers_running);
    lines.line(" Paused", info.containers_paused);
    lines.line(" Stopped", info.containers_stopped);
    lines.line("Images", info.images);
    lines.if_set("Server Version", &info.server_version);
    lines.if_set("Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        lines.line(&format!(" {name}"), value);
    }
    lines.if_set("Logging Driver", &info.logging_driver);
    lines.if_set("Cgroup Driver", &info.cgroup_driver);
    lines.if_set("Cgroup Version", &info.cgroup_version);
}

fn software(lines: &mut Lines, info: &Info) {
    lines.0.push_str(" Plugins:\n");
    lines.line(" Volume", info.plugins.volume.join(" "));
    lines.line(" Network", info.plugins.network.join(" "));
    if let Some(plugins) = info.plugins.authorization.as_ref().filter(|plugins| !plugins.is_empty()) {
        lines.line(" Authorization", plugins.join(" "));
    }
    lines.line(" Log", info.plugins.log.join(" "));
    if !info.cdi_spec_dirs.is_empty() {
        lines.list("CDI spec directories", &info.cdi_spec_dirs);
    }
    lines.line("Swarm", &info.swarm.local_node_state);
    if !info.runtimes.is_empty() {
        lines.line("Runtimes", info.runtimes.keys().cloned().collect::<Vec<_>>().join(" "));
        lines.line("Default Runtime", &info.default_runtime);
    }
    if info.os_type == "linux" {
        lines.line("Init Binary", &info.init_binary);
        lines.line("containerd version", &info.containerd_commit.id);
        lines.line("runc version", &info.runc_commit.id);
        lines.line("init version", &info.init_commit.id);
    }
}

fn security(lines: &mut Lines, info: &Info) {
    if info.security_options.is_empty() {
        return;
    }
    lines.0.push_str(" Security Options:\n");
    for option in &info.security_options {
        // `name=seccomp,profile=builtin`; engines of old say only the name.
        let mut pairs = option.split(',').filter_map(|pair| pair.split_once('='));
        let name = pairs.next().map_or(option.as_str(), |(_, name)| name);
        lines.0.push_str(&format!("  {name}\n"));
        for (key, value) in pairs {
            let label = if key == "profile" { "Profile" } else { key };
            lines.0.push_str(&format!("   {label}: {value}\n"));
        }
    }
}

fn machine(lines: &mut Lines, info: &Info) {
    lines.if_set("Kernel Version", &info.kernel_version);
    lines.if_set("Operating System", &info.operating_system);
    lines.if_set("OSType", &info.os_type);
    lines.if_set("Architecture", &info.architecture);
    lines.line("CPUs", info.n_cpu);
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let memory = info.mem_total as f64;
    lines.line("Total Memory", units::binary_size(memory));
    lines.if_set("Name", &info.name);
    lines.if_set("ID", &info.id);
    lines.if_set("Docker Root Dir", &info.docker_root_dir);
    lines.line("Debug Mode", info.debug);
}

fn network(lines: &mut Lines, info: &Info) {
    lines.if_set("HTTP Proxy", &info.http_proxy);
    lines.if_set("HTTPS Proxy", &info.https_proxy);
    lines.if_set("No Proxy", &info.no_proxy);
    lines.list("Labels", &info.labels);
    lines.line("Experimental", info.experimental_build);
    let Some(registries) = &info.registry_config else { return };
    let mut insecure: Vec<String> = Vec::new();
    for (name, index) in registries.index_configs.iter().flatten() {
        if !index.secure {
            insecure.push(name.clone());
        }
    }
    insecure.extend(registries.insecure_registry_cidrs.iter().flatten().cloned());
    lines.list("Insecure Registries", &insecure);
    lines.list("Registry Mirrors", registries.mirrors.as_deref().unwrap_or_default());
}
