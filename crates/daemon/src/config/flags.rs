//! The daemon's options: one definition each, from which the command line, daemon.json, `--help` and the check for
//! conflicts between the two come.
//!
//! Names, shorthands, types and daemon.json keys are dockerd's. An option is here only if it does what it says, or
//! if what it says is the only way the engine works (then [`Accept::Only`] names the values that fit).

/// How an option's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `--name` or `--name=true|false`; a boolean in daemon.json.
    Switch,
    /// One text.
    Text,
    /// A whole number.
    Number,
    /// Given any number of times; an array of texts in daemon.json.
    List,
    /// `key=value`, any number of times; an object of texts in daemon.json.
    Map,
    /// `key=true|false`, any number of times; an object of booleans in daemon.json.
    Switches,
    /// `NAME=SOFT[:HARD]`; an object of `{Name, Hard, Soft}` in daemon.json.
    Ulimits,
    /// `NAME=PATH`, any number of times; an object of `{path, runtimeArgs}` by name in daemon.json.
    Runtimes,
    /// An object of daemon.json, kept as text; not on the command line.
    Document,
    /// `DRIVER=OPTION=VALUE`, any number of times; an object of objects in daemon.json.
    NetworkOptions,
    /// `base=CIDR,size=N`; an array of `{base, size}` in daemon.json.
    Pools,
}

impl Kind {
    /// Says whether several occurrences add up (else the last one wins).
    pub fn accumulates(self) -> bool {
        !matches!(self, Self::Switch | Self::Text | Self::Number | Self::Document)
    }

    /// Returns the word that stands for the value in `--help`.
    fn placeholder(self) -> &'static str {
        match self {
            Self::Switch => "",
            Self::Text | Self::Document => "string",
            Self::Number => "int",
            Self::List => "list",
            Self::Map | Self::Switches => "map",
            Self::NetworkOptions => "mapmap",
            Self::Ulimits => "ulimit",
            Self::Runtimes => "runtime",
            Self::Pools => "pool-options",
        }
    }
}

/// Which values an option may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Any of its kind.
    Any,
    /// Only these, because the engine works in no other way; the second part says why.
    Only(&'static [&'static str], &'static str),
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The long name, without dashes.
    pub name: &'static str,
    /// The shorthand.
    pub short: Option<char>,
    /// How values are written.
    pub kind: Kind,
    /// The key in daemon.json (dots for nesting); empty if there is none.
    pub key: &'static str,
    /// Which values are allowed.
    pub accept: Accept,
    /// Whether a reload (SIGHUP) applies a change.
    pub reloads: bool,
    /// Whether only daemon.json has it.
    pub file_only: bool,
    /// One line for `--help`; empty hides the option.
    pub help: &'static str,
}

const fn flag(name: &'static str, kind: Kind, key: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, kind, key, accept: Accept::Any, reloads: false, file_only: false, help }
}

impl Flag {
    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn reloads(self) -> Self {
        Self { reloads: true, ..self }
    }

    const fn file_only(self) -> Self {
        Self { file_only: true, ..self }
    }

    const fn only(self, values: &'static [&'static str], why: &'static str) -> Self {
        Self { accept: Accept::Only(values, why), ..self }
    }

    /// Returns the option as messages of the flag parser name it: `-D, --debug` or `--mtu`.
    pub fn display(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

use Kind::{Document, List, Map, NetworkOptions, Number, Pools, Runtimes, Switch, Switches, Text, Ulimits};

const NO_CONTAINERD: &str = "containers and images are the engine's own; there is no containerd";

/// Every option.
pub const FLAGS: &[Flag] = &[
    flag("add-runtime", Runtimes, "runtimes", "Register an additional OCI compatible runtime").reloads(),
    flag(
        "allow-direct-routing",
        Switch,
        "allow-direct-routing",
        "Allow remote access to published ports on container IP addresses",
    ),
    flag("builder", Document, "builder", "").file_only(),
    flag("bip", Text, "bip", "IPv4 address for the default bridge"),
    flag("bip6", Text, "bip6", "IPv6 address for the default bridge"),
    flag(
        "bridge-accept-fwmark",
        Text,
        "bridge-accept-fwmark",
        "In bridge networks, accept packets with this firewall mark/mask",
    ),
    flag("bridge", Text, "bridge", "Attach containers to a network bridge").short('b'),
    flag("cluster-advertise", Text, "cluster-advertise", "Address or interface name to advertise"),
    flag("cluster-store", Text, "cluster-store", "URL of the distributed storage backend"),
    flag("cluster-store-opt", Map, "cluster-store-opts", "Set cluster store options"),
    flag("allow-nondistributable-artifacts", List, "allow-nondistributable-artifacts", "")
        .only(&[], "every layer is pushed like any other since OCI image-spec 1.1"),
    flag("api-cors-header", Text, "api-cors-header", "")
        .only(&[""], "browsers must not reach the API; put a proxy in front of it"),
    flag("cdi-spec-dir", List, "cdi-spec-dirs", "CDI specification directories to use"),
    flag("cgroup-parent", Text, "cgroup-parent", "Set parent cgroup for all containers"),
    flag("compat", Text, "compat", "\"strict\": every default is Docker's"),
    flag("containerd", Text, "containerd", "").only(&[""], NO_CONTAINERD),
    flag("containerd-namespace", Text, "containerd-namespace", "").only(&["", "moby"], NO_CONTAINERD),
    flag("cpu-rt-period", Number, "cpu-rt-period", "")
        .only(&["0"], "set cpu.rt_period_us of the group that --cgroup-parent names"),
    flag("cpu-rt-runtime", Number, "cpu-rt-runtime", "")
        .only(&["0"], "set cpu.rt_runtime_us of the group that --cgroup-parent names"),
    flag("cri-containerd", Switch, "cri-containerd", "").only(&["false"], NO_CONTAINERD),
    flag("config-file", Text, "", "Daemon configuration file"),
    flag("data-root", Text, "data-root", "Root directory of persistent state"),
    flag("debug", Switch, "debug", "Enable debug mode").short('D').reloads(),
    flag("default-address-pool", Pools, "default-address-pools", "Default address pools for local networks"),
    flag(
        "default-gateway",
        Text,
        "default-gateway",
        "Default gateway IPv4 address for the default bridge network",
    ),
    flag(
        "default-cgroupns-mode",
        Text,
        "default-cgroupns-mode",
        "Default mode for containers cgroup namespace (\"host\" | \"private\")",
    )
    .reloads(),
    flag(
        "default-ipc-mode",
        Text,
        "default-ipc-mode",
        "Default mode for containers ipc (\"shareable\" | \"private\")",
    )
    .reloads(),
    flag(
        "default-stop-timeout",
        Number,
        "default-stop-timeout",
        "Default stop timeout (in seconds) for containers that do not say",
    )
    .reloads(),
    flag(
        "default-gateway-v6",
        Text,
        "default-gateway-v6",
        "Default gateway IPv6 address for the default bridge network",
    ),
    flag("default-network-opt", NetworkOptions, "default-network-opts", "Default network options"),
    flag("default-runtime", Text, "default-runtime", "Default OCI runtime for containers").reloads(),
    flag("default-shm-size", Text, "default-shm-size", "Default shm size for containers").reloads(),
    flag("default-ulimit", Ulimits, "default-ulimits", "Default ulimits for containers"),
    flag("dns", List, "dns", "DNS server to use"),
    flag("dns-opt", List, "dns-opts", "DNS options to use"),
    flag("dns-search", List, "dns-search", "DNS search domains to use"),
    flag("exec-opt", List, "exec-opts", "Runtime execution options").only(
        &["native.cgroupdriver=cgroupfs", "native.cgroupdriver=systemd"],
        "cgroups are made directly (cgroupfs) or by systemd",
    ),
    flag("exec-root", Text, "exec-root", "Root directory for execution state files"),
    flag("experimental", Switch, "experimental", "Enable experimental features"),
    flag("feature", Switches, "features", "Enable feature in the daemon"),
    flag("firewall-backend", Text, "firewall-backend", "Firewall backend to use")
        .only(&["", "nftables"], "packet filter rules are nftables rules"),
    flag("fixed-cidr", Text, "fixed-cidr", "IPv4 subnet for fixed IPs"),
    flag("fixed-cidr-v6", Text, "fixed-cidr-v6", "IPv6 subnet for fixed IPs"),
    flag("group", Text, "group", "Group for the unix socket").short('G'),
    flag("host", List, "hosts", "Daemon socket(s) to connect to").short('H'),
    flag(
        "host-gateway-ip",
        List,
        "host-gateway-ips",
        "IP address that the special 'host-gateway' string in --add-host resolves to",
    ),
    flag("icc", Switch, "icc", "Enable inter-container communication for the default bridge network"),
    flag("init", Switch, "init", "Run an init in the container to forward signals and reap processes"),
    flag("init-path", Text, "init-path", "Path to an init for containers instead of the built-in one"),
    flag("default-init", Text, "default-init", "").file_only(),
    flag("insecure-registry", List, "insecure-registries", "Enable insecure registry communication")
        .reloads(),
    flag("ip", Text, "ip", "Host IP for port publishing from the default bridge network"),
    flag("ip-forward", Switch, "ip-forward", "Enable IP forwarding in system configuration"),
    flag("ip-forward-no-drop", Switch, "ip-forward-no-drop", "")
        .only(&["true"], "packets that are not for containers are forwarded as the host's own rules say"),
    flag("ip-masq", Switch, "ip-masq", "Enable IP masquerading for the default bridge network"),
    flag("iptables", Switch, "iptables", "Enable addition of packet filter rules"),
    flag("ip6tables", Switch, "ip6tables", "Enable addition of packet filter rules for IPv6"),
    flag("ipv6", Switch, "ipv6", "Enable IPv6 networking for the default bridge network"),
    flag("label", List, "labels", "Set key=value labels to the daemon").reloads(),
    flag(
        "layer-archives",
        Text,
        "layer-archives",
        "Archives of unpacked layers: \"keep\", or \"rebuild\" when they are needed again",
    )
    .reloads(),
    flag("live-restore", Switch, "live-restore", "Containers outlive the daemon (always so)"),
    flag("log-driver", Text, "log-driver", "Default driver for container logs"),
    flag("log-format", Text, "log-format", "Set the logging format (\"text\"|\"json\")"),
    flag(
        "log-level",
        Text,
        "log-level",
        "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")",
    )
    .short('l'),
    flag("log-opt", Map, "log-opts", "Default log driver options for containers"),
    flag(
        "max-layer-size",
        Text,
        "max-layer-size",
        "Largest size that a layer of an image may unpack to (default 4t)",
    ),
    flag("max-concurrent-downloads", Number, "max-concurrent-downloads", "Set the max concurrent downloads")
        .reloads(),
    flag("max-concurrent-uploads", Number, "max-concurrent-uploads", "Set the max concurrent uploads")
        .reloads(),
    flag(
        "max-download-attempts",
        Number,
        "max-download-attempts",
        "Set the max download attempts for each pull",
    )
    .reloads(),
    flag("metrics-addr", Text, "metrics-addr", "Set default address and port to serve the metrics api on"),
    flag("min-api-version", Text, "min-api-version", "").file_only(),
    flag("mtu", Number, "mtu", "Set the MTU for the default \"bridge\" network"),
    flag(
        "no-new-privileges",
        Switch,
        "no-new-privileges",
        "Set no-new-privileges by default for new containers",
    ),
    flag("pidfile", Text, "pidfile", "Path to use for daemon PID file").short('p'),
    flag("resolv-conf", Text, "resolv-conf", "").file_only(),
    flag("restart", Switch, "", "").short('r').only(&["true"], "use restart policies of containers"),
    flag("rootless", Switch, "rootless", "")
        .only(&["false"], "`wharf runtime` runs without privileges, the daemon does not yet"),
    flag("raw-logs", Switch, "raw-logs", "Full timestamps without ANSI coloring"),
    flag("registry-mirror", List, "registry-mirrors", "Preferred registry mirror").reloads(),
    flag(
        "seccomp-profile",
        Text,
        "seccomp-profile",
        "Path to seccomp profile. Set to \"unconfined\" to disable the default seccomp profile",
    ),
    flag("selinux-enabled", Switch, "selinux-enabled", "Enable selinux support")
        .only(&["false"], "there is no selinux support"),
    flag(
        "shutdown-timeout",
        Number,
        "shutdown-timeout",
        "Set the default shutdown timeout (containers go on)",
    ),
    flag("storage-driver", Text, "storage-driver", "Storage driver to use")
        .short('s')
        .only(&["", "overlay2", "overlayfs", "overlay"], "layers are directories for overlayfs"),
    flag("storage-opt", List, "storage-opts", "Storage driver options"),
    flag("tls", Switch, "tls", "Use TLS; implied by --tlsverify"),
    flag("tlscacert", Text, "tlscacert", "Trust certs signed only by this CA"),
    flag("tlscert", Text, "tlscert", "Path to TLS certificate file"),
    flag("tlskey", Text, "tlskey", "Path to TLS key file"),
    flag("tlsverify", Switch, "tlsverify", "Use TLS and verify the remote"),
    flag("http-proxy", Text, "proxies.http-proxy", "HTTP proxy URL to use for outgoing traffic").reloads(),
    flag("https-proxy", Text, "proxies.https-proxy", "HTTPS proxy URL to use for outgoing traffic").reloads(),
    flag(
        "no-proxy",
        Text,
        "proxies.no-proxy",
        "Comma-separated list of hosts or IP addresses for which the proxy is skipped",
    )
    .reloads(),
    flag(
        "ports-through-input",
        Switch,
        "ports-through-input",
        "Let the host's own firewall decide who reaches published ports (containers see the host's address)",
    ),
    flag("userland-proxy", Switch, "userland-proxy", "Use userland proxy for loopback traffic"),
    flag("userland-proxy-path", Text, "userland-proxy-path", "")
        .only(&[""], "each container's supervisor is its proxy"),
    flag("userns-remap", Text, "userns-remap", "User/Group setting for user namespaces"),
    flag("validate", Switch, "", "Validate daemon configuration and exit"),
    flag("version", Switch, "", "Print version information and quit").short('v'),
    flag("help", Switch, "", "Print usage").short('h'),
    // What the command line passes to a daemon that it starts itself.
    flag("ready-fd", Number, "", ""),
];

/// Finds an option by its long name.
pub fn by_name(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// Finds an option of the command line.
pub fn typed(name: &str) -> Option<&'static Flag> {
    by_name(name).filter(|flag| !flag.file_only)
}

/// Finds an option by its shorthand.
pub fn by_short(short: char) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.short == Some(short))
}

/// Finds an option by its daemon.json key.
pub fn by_key(key: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| !flag.key.is_empty() && flag.key == key)
}

/// Returns the text of `--help`.
pub fn usage() -> String {
    let mut text = String::from(
        "\nUsage:  wharf daemon [OPTIONS]\n\nA self-sufficient runtime for containers.\n\nOptions:\n",
    );
    for flag in FLAGS.iter().filter(|flag| !flag.help.is_empty()) {
        let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let name = format!("--{} {}", flag.name, flag.kind.placeholder());
        text.push_str(&format!("  {short}{name:<37} {}\n", flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_shorthands_and_keys_are_unique() {
        let mut names = BTreeSet::new();
        let mut shorts = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for flag in FLAGS {
            assert!(names.insert(flag.name), "{}", flag.name);
            assert!(flag.short.is_none_or(|short| shorts.insert(short)), "{}", flag.name);
            assert!(flag.key.is_empty() || keys.insert(flag.key), "{}", flag.name);
        }
    }
}
