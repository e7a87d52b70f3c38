//! Resources as writes to version 2 files.

use crate::v1::{maximum, rdma, throttles};
use crate::{Error, Setting};
use oci::runtime::{BlockIo, Cpu, Memory, Resources};

/// Returns what to write for `resources`, in order. Devices are a program ([`crate::device_program`]), not files.
///
/// # Errors
///
/// [`Error::Invalid`] for a swap limit below the memory limit, or without one.
pub fn settings(resources: &Resources) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    if let Some(memory) = &resources.memory {
        memory_settings(memory, &mut settings)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, &mut settings);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        settings.push(Setting::new("pids", "pids.max", maximum(limit)));
    }
    if let Some(block_io) = &resources.block_io {
        block_io_settings(block_io, &mut settings);
    }
    for huge in &resources.hugepage_limits {
        settings.push(Setting::new("hugetlb", format!("hugetlb.{}.max", huge.page_size), huge.limit));
    }
    for (device, limits) in &resources.rdma {
        settings.push(Setting::new("rdma", "rdma.max", rdma(device, limits)));
    }
    for (file, value) in &resources.unified {
        if file.contains('/') || file.starts_with("cgroup.") {
            return Err(Error::Invalid("unified resource must be a file of a controller"));
        }
        settings.push(Setting::new("unified", file.clone(), value));
    }
    Ok(settings)
}

fn memory_settings(memory: &Memory, settings: &mut Vec<Setting>) -> Result<(), Error> {
    let limit = memory.limit.filter(|limit| *limit != 0);
    let swap = memory.swap.filter(|swap| *swap != 0).or((limit == Some(-1)).then_some(-1));
    let swap = match (swap, limit) {
        (None, _) => None,
        (Some(-1), _) => Some("max".to_owned()),
        (Some(swap), Some(limit)) if limit > 0 && swap >= limit => Some((swap - limit).to_string()),
        (Some(_), Some(limit)) if limit > 0 => {
            return Err(Error::Invalid("memory+swap limit should be >= memory limit"));
        }
        (Some(_), _) => return Err(Error::Invalid("unable to set swap limit without memory limit")),
    };
    // A host without swap accounting has no such file.
    settings.extend(swap.map(|swap| Setting::new("memory", "memory.swap.max", swap).optional()));
    settings.extend(limit.map(|limit| Setting::new("memory", "memory.max", maximum(limit))));
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        settings.push(Setting::new("memory", "memory.low", maximum(reservation)));
    }
    Ok(())
}

fn cpu_settings(cpu: &Cpu, settings: &mut Vec<Setting>) {
    if let Some(idle) = cpu.idle {
        settings.push(Setting::new("cpu", "cpu.idle", idle));
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        settings.push(Setting::new("cpu", "cpu.weight", weight_of_shares(shares)));
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let period = cpu.period.filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let value = format!("{} {}", maximum(quota.unwrap_or(-1)), period.unwrap_or(100_000));
        settings.push(Setting::new("cpu", "cpu.max", value));
    }
    if let Some(burst) = cpu.burst {
        settings.push(Setting::new("cpu", "cpu.max.burst", burst));
    }
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            settings.push(Setting::new("cpuset", file, list));
        }
    }
}

/// Converts version 1 shares (2 to 262144, 1024 is normal) to a weight (1 to 10000, 100 is normal).
///
/// runc's curve since 1.3: a quadratic in log2 that keeps 2 → 1, 1024 → 100 and 262144 → 10000.
pub fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let shares = f64::from(u32::try_from(shares).unwrap_or(u32::MAX));
    let log = shares.log2();
    let weight = 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil();
    (1_u32..=10_000).find(|candidate| f64::from(*candidate) >= weight).map_or(10_000, u64::from)
}

/// Converts a version 1 block weight (10 to 1000) to `io.weight` (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn block_io_settings(block_io: &BlockIo, settings: &mut Vec<Setting>) {
    if let Some(weight) = block_io.weight.filter(|weight| *weight != 0) {
        // BFQ takes the old scale; the general file is tried where there is no BFQ.
        settings.push(Setting::new("io", "io.bfq.weight", weight).optional());
        settings.push(Setting::new("io", "io.weight", io_weight(weight)).optional());
    }
    for device in &block_io.weight_device {
        if let Some(weight) = device.weight {
            let value = format!("{}:{} {weight}", device.major, device.minor);
            settings.push(Setting::new("io", "io.bfq.weight", value));
        }
    }
    for (key, device, rate) in throttles(block_io, ["rbps", "wbps", "riops", "wiops"]) {
        settings.push(Setting::new("io", "io.max", format!("{device} {key}={rate}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in
            [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (512, 59), (1_000_000, 10_000)]
        {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert_eq!((io_weight(10), io_weight(1000), io_weight(500)), (1, 10_000, 4950));
    }

    #[test]
    fn swap_is_what_goes_beyond_memory() {
        let check = |limit, swap, expect: &[(&str, &str)]| {
            let memory = Memory { limit, swap, ..Memory::default() };
            let resources = Resources { memory: Some(memory), ..Resources::default() };
            let settings = settings(&resources).unwrap();
            let got: Vec<_> = settings.iter().map(|one| (one.file.as_str(), one.value.as_str())).collect();
            assert_eq!(got, expect, "{limit:?} {swap:?}");
        };
        check(Some(100), Some(300), &[("memory.swap.max", "200"), ("memory.max", "100")]);
        check(Some(100), Some(100), &[("memory.swap.max", "0"), ("memory.max", "100")]);
        check(Some(100), Some(-1), &[("memory.swap.max", "max"), ("memory.max", "100")]);
        check(Some(-1), None, &[("memory.swap.max", "max"), ("memory.max", "max")]);
        let wrong = Memory { limit: Some(100), swap: Some(50), ..Memory::default() };
        assert!(settings(&Resources { memory: Some(wrong), ..Resources::default() }).is_err());
    }

    #[test]
    fn quotas_and_raw_files() {
        let mut resources =
            Resources { cpu: Some(Cpu { quota: Some(50_000), ..Cpu::default() }), ..Resources::default() };
        resources.unified.insert("memory.high".into(), "1".into());
        let got = settings(&resources).unwrap();
        assert_eq!((got[0].file.as_str(), got[0].value.as_str()), ("cpu.max", "50000 100000"));
        assert_eq!((got[1].file.as_str(), got[1].value.as_str()), ("memory.high", "1"));
        resources.unified.insert("../x".into(), "1".into());
        assert!(settings(&resources).is_err());
    }
}
