//! What a cgroup has used.

use crate::Error;
use std::collections::BTreeMap;
use std::path::Path;

/// Everything that Docker's `stats` shows of a cgroup. What the kernel does not tell is 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Processor time.
    pub cpu: CpuStatistics,
    /// Memory.
    pub memory: MemoryStatistics,
    /// Processes.
    pub pids: PidsStatistics,
    /// Block devices.
    pub blkio: BlockIo,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuStatistics {
    /// All of it.
    pub total_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// By processor; empty with version 2.
    pub percpu_ns: Vec<u64>,
    /// How often the quota ran out.
    pub throttling: Throttling,
}

/// How often the quota ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttling {
    /// Periods that passed.
    pub periods: u64,
    /// Periods in which it ran out.
    pub throttled_periods: u64,
    /// Time waited, in nanoseconds.
    pub throttled_ns: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryStatistics {
    /// Used now, with page cache.
    pub usage: u64,
    /// Most that was used.
    pub max_usage: u64,
    /// The limit; the largest number if there is none.
    pub limit: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// The lines of `memory.stat`.
    pub stats: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PidsStatistics {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` without a limit.
    pub limit: Option<u64>,
}

/// Block devices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockIo {
    /// Bytes by device and operation.
    pub service_bytes: Vec<BlockIoEntry>,
    /// Operations by device and operation.
    pub serviced: Vec<BlockIoEntry>,
}

/// One number about one device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockIoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`; lower case with version 2.
    pub operation: String,
    /// How much.
    pub value: u64,
}

pub(crate) fn text(path: &Path) -> Result<String, Error> {
    let bytes =
        sys::path::read_to_end(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number in a file; 0 if there is no such file, the largest for `max` and `-1`.
pub(crate) fn number(path: &Path) -> u64 {
    parse_number(&text(path).unwrap_or_default()).unwrap_or(0)
}

fn parse_number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" | "-1" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// The lines `KEY NUMBER` of a file.
pub(crate) fn table(path: &Path) -> BTreeMap<String, u64> {
    parse_table(&text(path).unwrap_or_default())
}

fn parse_table(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect()
}

fn get(table: &BTreeMap<String, u64>, key: &str) -> u64 {
    table.get(key).copied().unwrap_or(0)
}

/// Reads version 1; `directory` finds a controller's directory of the cgroup.
pub(crate) fn v1<'a>(directory: impl Fn(&str) -> Option<&'a Path>) -> Statistics {
    let file = |controller: &str, name: &str| directory(controller).map(|path| path.join(name));
    let one = |controller: &str, name: &str| file(controller, name).map_or(0, |path| number(&path));
    let many =
        |controller: &str, name: &str| file(controller, name).map_or_else(BTreeMap::new, |path| table(&path));
    let content = |controller: &str, name: &str| {
        file(controller, name).and_then(|path| text(&path).ok()).unwrap_or_default()
    };
    let throttling = many("cpu", "cpu.stat");
    let percpu = content("cpuacct", "cpuacct.usage_percpu");
    let blkio = |name: &str, fallback: &str| {
        let entries = parse_block_io(&content("blkio", name));
        if entries.is_empty() { parse_block_io(&content("blkio", fallback)) } else { entries }
    };
    Statistics {
        cpu: CpuStatistics {
            total_ns: one("cpuacct", "cpuacct.usage"),
            user_ns: one("cpuacct", "cpuacct.usage_user"),
            system_ns: one("cpuacct", "cpuacct.usage_sys"),
            percpu_ns: percpu.split_whitespace().filter_map(|value| value.parse().ok()).collect(),
            throttling: Throttling {
                periods: get(&throttling, "nr_periods"),
                throttled_periods: get(&throttling, "nr_throttled"),
                throttled_ns: get(&throttling, "throttled_time"),
            },
        },
        memory: MemoryStatistics {
            usage: one("memory", "memory.usage_in_bytes"),
            max_usage: one("memory", "memory.max_usage_in_bytes"),
            limit: one("memory", "memory.limit_in_bytes"),
            failcnt: one("memory", "memory.failcnt"),
            stats: many("memory", "memory.stat"),
        },
        pids: PidsStatistics {
            current: one("pids", "pids.current"),
            limit: Some(one("pids", "pids.max")).filter(|limit| !matches!(*limit, 0 | u64::MAX)),
        },
        blkio: BlockIo {
            service_bytes: blkio(
                "blkio.throttle.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes",
            ),
            serviced: blkio("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"),
        },
    }
}

/// Lines `8:0 Read 4096`; the sum over all devices (`Total 4096`) has no device and is left out.
fn parse_block_io(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let operation = words.next()?.to_owned();
        let value = words.next()?.parse().ok()?;
        Some(BlockIoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, operation, value })
    };
    text.lines().filter_map(entry).collect()
}

/// Reads version 2.
pub(crate) fn v2(directory: &Path) -> Statistics {
    let one = |name: &str| number(&directory.join(name));
    let many = |name: &str| table(&directory.join(name));
    let cpu = many("cpu.stat");
    let micro = |key: &str| get(&cpu, key).saturating_mul(1000);
    let (service_bytes, serviced) = parse_io_stat(&text(&directory.join("io.stat")).unwrap_or_default());
    Statistics {
        cpu: CpuStatistics {
            total_ns: micro("usage_usec"),
            user_ns: micro("user_usec"),
            system_ns: micro("system_usec"),
            percpu_ns: Vec::new(),
            throttling: Throttling {
                periods: get(&cpu, "nr_periods"),
                throttled_periods: get(&cpu, "nr_throttled"),
                throttled_ns: micro("throttled_usec"),
            },
        },
        memory: MemoryStatistics {
            usage: one("memory.current"),
            max_usage: one("memory.peak"),
            limit: one("memory.max"),
            failcnt: get(&many("memory.events"), "max"),
            stats: many("memory.stat"),
        },
        pids: PidsStatistics {
            current: one("pids.current"),
            limit: Some(one("pids.max")).filter(|limit| !matches!(*limit, 0 | u64::MAX)),
        },
        blkio: BlockIo { service_bytes, serviced },
    }
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn parse_io_stat(text: &str) -> (Vec<BlockIoEntry>, Vec<BlockIoEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let entry =
                |operation: &str| BlockIoEntry { major, minor, operation: operation.to_owned(), value };
            match key {
                "rbytes" => bytes.push(entry("read")),
                "wbytes" => bytes.push(entry("write")),
                "rios" => operations.push(entry("read")),
                "wios" => operations.push(entry("write")),
                _ => {}
            }
        }
    }
    (bytes, operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_are_understood() {
        assert_eq!(parse_number("max\n"), Some(u64::MAX));
        assert_eq!(parse_number("12\n"), Some(12));
        assert_eq!(parse_table("cache 5\nrss 7\n")["rss"], 7);
        let entries = parse_block_io("8:0 Read 4096\n8:0 Write 1\nTotal 4097\n");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].major, entries[0].operation.as_str(), entries[0].value), (8, "Read", 4096));
        let (bytes, operations) = parse_io_stat("254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n");
        assert_eq!((bytes[1].value, operations[0].value), (20, 1));
    }
}
