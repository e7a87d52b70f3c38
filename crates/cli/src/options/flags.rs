//! The flags of `create` and `run` (and, in part, of `update`).

use super::{devices, environment, limits, mounts, networks};
use crate::flags::{Flag, Kind, list, switch, text};

const fn int(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Int, help)
}

const fn bytes(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Bytes, help)
}

const fn duration(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Duration, help).default("0s")
}

const fn checked(long: &'static str, check: fn(&str) -> Result<(), String>, help: &'static str) -> Flag {
    Flag::new(long, Kind::Checked("list", check), help)
}

/// What `run` has beyond `create`.
pub(crate) const RUN: &[Flag] = &[
    switch("detach", "Run container in background and print container ID").short('d'),
    text("detach-keys", "Override the key sequence for detaching a container"),
    switch("sig-proxy", "Proxy received signals to the process").default("true"),
];

/// The limits that `update` can change, too.
pub(crate) const LIMITS: &[Flag] = &[
    Flag::new(
        "blkio-weight",
        Kind::Uint16,
        "Block IO (relative weight), between 10 and 1000, or 0 to disable",
    )
    .default("0"),
    int("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    int("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    int("cpu-rt-period", "Limit CPU real-time period in microseconds"),
    int("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds"),
    int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::new("cpus", Kind::Decimal, "Number of CPUs"),
    text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    bytes("memory", "Memory limit").short('m'),
    bytes("memory-reservation", "Memory soft limit"),
    Flag::new(
        "memory-swap",
        Kind::SwapBytes,
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    ),
    int("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    bytes("kernel-memory", "Kernel memory limit").hidden(),
];

/// What `create` and `run` share, apart from [`LIMITS`].
pub(crate) const CREATE: &[Flag] = &[
    checked("add-host", networks::check_extra_host, "Add a custom host-to-IP mapping (host:ip)"),
    Flag::new(
        "annotation",
        Kind::Checked("map", environment::check_any),
        "Add an annotation to the container (passed through to the OCI runtime)",
    )
    .default("map[]"),
    checked("attach", super::container::check_attach, "Attach to STDIN, STDOUT or STDERR").short('a'),
    checked("blkio-weight-device", limits::check_weight_device, "Block IO weight (relative device weight)")
        .default("[]"),
    list("cap-add", "Add Linux capabilities"),
    list("cap-drop", "Drop Linux capabilities"),
    text("cgroup-parent", "Optional parent cgroup for the container"),
    text(
        "cgroupns",
        "Cgroup namespace to use (host|private)\n'host':    Run the container in the host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on the daemon (default)",
    ),
    text("cidfile", "Write the container ID to the file"),
    int("cpu-count", "CPU count (Windows only)").hidden(),
    int("cpu-percent", "CPU percent (Windows only)").hidden(),
    list("device", "Add a host device to the container"),
    checked("device-cgroup-rule", devices::check_rule, "Add a rule to the cgroup allowed devices list"),
    checked("device-read-bps", limits::check_rate_bytes, "Limit read rate (bytes per second) from a device")
        .default("[]"),
    checked("device-read-iops", limits::check_rate, "Limit read rate (IO per second) from a device")
        .default("[]"),
    checked("device-write-bps", limits::check_rate_bytes, "Limit write rate (bytes per second) to a device")
        .default("[]"),
    checked("device-write-iops", limits::check_rate, "Limit write rate (IO per second) to a device")
        .default("[]"),
    switch("disable-content-trust", "Skip image verification").default("true"),
    checked("dns", networks::check_ip, "Set custom DNS servers"),
    list("dns-opt", "Set DNS options").hidden(),
    list("dns-option", "Set DNS options"),
    checked("dns-search", networks::check_dns_search, "Set custom DNS search domains"),
    text("domainname", "Container NIS domain name"),
    text("entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    checked("env", environment::check, "Set environment variables").short('e'),
    list("env-file", "Read in a file of environment variables"),
    list("expose", "Expose a port or a range of ports"),
    Flag::new(
        "gpus",
        Kind::Checked("gpu-request", devices::check_gpus),
        "GPU devices to add to the container ('all' to pass all GPUs)",
    ),
    list("group-add", "Add additional groups to join"),
    text("health-cmd", "Command to run to check health"),
    duration("health-interval", "Time between running the check (ms|s|m|h)"),
    text("health-on-failure", "What to do once the container is unhealthy (none|kill|restart|stop)"),
    int("health-retries", "Consecutive failures needed to report unhealthy"),
    duration("health-start-interval", "Time between running the check during the start period (ms|s|m|h)"),
    duration(
        "health-start-period",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)",
    ),
    duration("health-timeout", "Maximum time to allow one check to run (ms|s|m|h)"),
    switch("help", "Print usage"),
    text("hostname", "Container host name").short('h'),
    switch("init", "Run an init inside the container that forwards signals and reaps processes"),
    switch("interactive", "Keep STDIN open even if not attached").short('i'),
    bytes("io-maxbandwidth", "Maximum IO bandwidth limit for the system drive (Windows only)").hidden(),
    Flag::new("io-maxiops", Kind::Uint, "Maximum IOps limit for the system drive (Windows only)").hidden(),
    text("ip", "IPv4 address (e.g., 172.30.100.104)"),
    text("ip6", "IPv6 address (e.g., 2001:db8::33)"),
    text("ipc", "IPC mode to use"),
    text("isolation", "Container isolation technology"),
    checked("label", environment::check_label, "Set meta data on a container").short('l'),
    list("label-file", "Read in a line delimited file of labels"),
    checked("link", networks::check_link, "Add link to another container"),
    list("link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    text("log-driver", "Logging driver for the container"),
    list("log-opt", "Log driver options"),
    text("mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    int("memory-swappiness", "Tune container memory swappiness (0 to 100)").default("-1"),
    Flag::new("mount", Kind::Checked("mount", mounts::check), "Attach a filesystem mount to the container"),
    text("name", "Assign a name to the container"),
    Flag::new("net", Kind::Checked("network", networks::check), "Connect a container to a network").hidden(),
    list("net-alias", "Add network-scoped alias for the container").hidden(),
    Flag::new("network", Kind::Checked("network", networks::check), "Connect a container to a network"),
    list("network-alias", "Add network-scoped alias for the container"),
    switch("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    switch("oom-kill-disable", "Disable OOM Killer"),
    int("oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    text("pid", "PID namespace to use"),
    text("platform", "Set platform if server is multi-platform capable"),
    switch("privileged", "Give extended privileges to this container"),
    list("publish", "Publish a container's port(s) to the host").short('p'),
    switch("publish-all", "Publish all exposed ports to random ports").short('P'),
    text("pull", "Pull image before running (\"always\", \"missing\", \"never\")").default("missing"),
    switch("quiet", "Suppress the pull output").short('q'),
    switch("read-only", "Mount the container's root filesystem as read only"),
    text("restart", "Restart policy to apply when a container exits").default("no"),
    switch("rm", "Automatically remove the container and its associated anonymous volumes when it exits"),
    text("runtime", "Runtime to use for this container"),
    list("security-opt", "Security Options"),
    bytes("shm-size", "Size of /dev/shm"),
    text("stop-signal", "Signal to stop the container"),
    int("stop-timeout", "Timeout (in seconds) to stop a container"),
    list("storage-opt", "Storage driver options for the container"),
    Flag::new("sysctl", Kind::Checked("map", limits::check_sysctl), "Sysctl options").default("map[]"),
    list("tmpfs", "Mount a tmpfs directory"),
    switch("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::new("ulimit", Kind::Checked("ulimit", limits::check_ulimit), "Ulimit options").default("[]"),
    text("user", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    text("userns", "User namespace to use"),
    text("uts", "UTS namespace to use"),
    list("volume", "Bind mount a volume").short('v'),
    text("volume-driver", "Optional volume driver for the container"),
    list("volumes-from", "Mount volumes from the specified container(s)"),
    text("workdir", "Working directory inside the container").short('w'),
];
