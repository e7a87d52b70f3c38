//! One reading of what a container uses.

use super::Containers;
use crate::error::{Error, Result};
use base::{Kind, Timestamp};
use std::collections::BTreeMap;

/// What a container uses, read at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// When.
    pub time: Option<Timestamp>,
    /// What its control group has used; zero while it does not run.
    pub cgroup: cgroups::Statistics,
    /// Counters of its network devices, by name inside.
    pub networks: BTreeMap<String, DeviceCounters>,
    /// Processor time of the whole host in nanoseconds.
    pub system_ns: u64,
    /// Online processors.
    pub processors: u32,
    /// Memory of the host in bytes: the limit of a container without one.
    pub host_memory: u64,
    /// Whether control groups are version 2.
    pub unified: bool,
}

/// Counters of one network device (proc(5), */proc/net/dev*).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Dropped instead of sent.
    pub tx_dropped: u64,
}

impl Containers {
    /// Reads what a container uses now. One that does not run uses nothing.
    ///
    /// # Errors
    ///
    /// Fails if its control group cannot be read.
    pub fn sample(&self, name: &str) -> Result<Sample> {
        let container = self.get(name)?;
        let Some(run) = container.state.run() else { return Ok(Sample::default()) };
        let hierarchy = self.host.hierarchy.as_ref().ok_or_else(|| {
            Error::known(Kind::NotImplemented, "no control groups are mounted on this host")
        })?;
        let group = cgroups::Cgroup::open(hierarchy, &self.cgroup_path(&container)?)?;
        let cgroup = match group.statistics() {
            Ok(statistics) => statistics,
            // It ended while we looked.
            Err(_error) if self.get(name)?.state.run().is_none() => return Ok(Sample::default()),
            Err(error) => return Err(error.into()),
        };
        let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        let own_network = container.host.network_mode != "host";
        Ok(Sample {
            time: Some(super::now()),
            cgroup,
            networks: if own_network {
                devices(&read(format!("/proc/{}/net/dev", run.pid)))
            } else {
                BTreeMap::new()
            },
            system_ns: system_ns(&read("/proc/stat".to_owned())),
            processors: self.host.capacity.processors,
            host_memory: host_memory(),
            unified: self.host.unified,
        })
    }
}

/// The host's memory in bytes.
pub(crate) fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit) * info.totalram
}

/// Reads /proc/net/dev, without loopback.
fn devices(text: &str) -> BTreeMap<String, DeviceCounters> {
    let mut devices = BTreeMap::new();
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let name = name.trim();
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        if name == "lo" {
            continue;
        }
        if let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = *numbers.as_slice()
        {
            let counters = DeviceCounters {
                rx_bytes,
                rx_packets,
                rx_errors,
                rx_dropped,
                tx_bytes,
                tx_packets,
                tx_errors,
                tx_dropped,
            };
            devices.insert(name.to_owned(), counters);
        }
    }
    devices
}

/// Sums the first line of /proc/stat (proc(5): ticks of 10 ms), as dockerd does: the first eight fields.
fn system_ns(text: &str) -> u64 {
    const TICK_NS: u64 = 10_000_000;
    let line = text.lines().next().unwrap_or_default();
    let ticks: u64 =
        line.split_whitespace().skip(1).take(8).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks * TICK_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";
        let devices = devices(text);
        assert_eq!(devices.len(), 1);
        let eth0 = devices["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.rx_dropped, eth0.tx_bytes, eth0.tx_dropped), (10, 4, 50, 8));
        assert_eq!(system_ns("cpu 1 2 3 4 5 6 7 8 100 100\n"), 36 * 10_000_000);
    }
}
