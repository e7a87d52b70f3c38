//! Resident memory of idle daemons, and what stands beside a sleeping container.

use crate::peer::Peer;
use std::fs;
use std::time::Duration;

/// How long a container sleeps before what stands beside it is measured.
const SETTLING: Duration = Duration::from_secs(6);

/// Returns the table's lines.
pub(crate) fn table(peers: &[Peer]) -> Vec<String> {
    let idle: Vec<f64> = peers.iter().map(|peer| resident(&peer.namespaces().processes())).collect();
    for peer in peers {
        peer.ok(&["run", "-d", "--name", "sleeper", "busybox", "sleep", "1000"]);
    }
    // What a start needs for a moment is given back soon after.
    std::thread::sleep(SETTLING);
    let beside: Vec<f64> = peers.iter().map(beside).collect();
    for peer in peers {
        peer.ok(&["rm", "-f", "sleeper"]);
    }
    let line = |name: &str, values: &[f64]| {
        let cells: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
        format!("| {name} | {} | |", cells.join(" | "))
    };
    vec![line("idle daemons, resident (MiB)", &idle), line("beside a sleeping container (PSS, MiB)", &beside)]
}

/// Sum of the resident memory of processes, in MiB.
fn resident(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| field(&format!("/proc/{pid}/status"), "VmRSS:")).sum::<f64>() / 1024.0
}

/// Proportional memory of the processes that were started for one container but are not in it, in MiB: supervisors,
/// shims and monitors, which outlive their parents.
fn beside(peer: &Peer) -> f64 {
    let names = ["wharf: ", "containerd-shim", "conmon", "docker-proxy"];
    let is_one = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        names.iter().any(|name| command.contains(name))
    };
    let pids: Vec<u32> = peer.namespaces().processes().into_iter().filter(is_one).collect();
    pids.iter().map(|pid| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum::<f64>() / 1024.0
}

/// A value in KiB of a file of `NAME: VALUE kB` lines.
pub(crate) fn field(path: &str, name: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.split_whitespace().next()).and_then(|value| value.parse().ok()).unwrap_or(0.0)
}
