//! Facts about the host that `info` and `version` show.

use std::collections::BTreeMap;

/// What `info` tells of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInfo {
    /// The kernel's release.
    pub kernel: String,
    /// `x86_64`, `aarch64`.
    pub machine: String,
    /// The host's name.
    pub hostname: String,
    /// The distribution's name for people.
    pub distribution: String,
    /// The distribution's version.
    pub distribution_version: String,
    /// Online processors.
    pub processors: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Whether control groups are version 2 alone.
    pub unified: bool,
    /// The controllers at hand.
    pub controllers: Vec<String>,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Whether the kernel forwards IPv4.
    pub forwarding: bool,
}

/// Looks at the host.
pub fn host() -> HostInfo {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let fields = os_release(&release);
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let hierarchy = cgroups::Manager::detect().ok();
    HostInfo {
        kernel: text(uname.release()),
        machine: text(uname.machine()),
        hostname: text(uname.nodename()),
        distribution: field("PRETTY_NAME"),
        distribution_version: field("VERSION_ID"),
        processors: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
        memory: crate::container::host_memory(),
        unified: hierarchy.as_ref().is_some_and(cgroups::Hierarchy::is_unified),
        controllers: hierarchy.as_ref().map(cgroups::Hierarchy::controllers).unwrap_or_default(),
        swap_limit: hierarchy.as_ref().is_some_and(cgroups::Hierarchy::limits_swap),
        forwarding: std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
            .is_ok_and(|text| text.trim() == "1"),
    }
}

/// Reads os-release(5).
fn os_release(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn os_release_is_read() {
        let fields = super::os_release("NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n");
        assert_eq!(fields["PRETTY_NAME"], "Debian GNU/Linux 12");
    }
}
