//! Limits and device rules: `HostConfig` → runtime-spec resources (compat/runtime.md's table).

use super::Facts;
use crate::error::{Error, Result};
use api::host_config::HostConfig;
use oci::runtime::{BlockIo, Cpu, Device, DeviceRule, Memory, Pids, Resources, ThrottleDevice, WeightDevice};
use rustix::fs::{FileType, major, minor, stat};
use std::path::Path;

/// Returns the resources of a container.
///
/// # Errors
///
/// Fails for a device that does not exist and for a device rule that cannot be read.
pub(in crate::container) fn resources(host: &HostConfig, facts: &Facts) -> Result<Resources> {
    let limits = &host.resources;
    Ok(Resources {
        devices: device_rules(host)?,
        memory: Some(memory(host, facts.unified)),
        cpu: Some(cpu(host)),
        pids: limits.pids_limit.filter(|limit| *limit != 0).map(|limit| Pids { limit: Some(limit.max(-1)) }),
        block_io: block_io(host)?,
        ..Resources::default()
    })
}

fn memory(host: &HostConfig, unified: bool) -> Memory {
    let limits = &host.resources;
    let set = |value: i64| (value != 0).then_some(value);
    // Docker gives a container with a limit as much swap again.
    let swap = match (limits.memory, limits.memory_swap) {
        (0, 0) => None,
        (memory, 0) if memory > 0 => Some(memory.saturating_mul(2)),
        (_, swap) => Some(swap),
    };
    Memory {
        limit: set(limits.memory),
        reservation: set(limits.memory_reservation),
        swap,
        swappiness: limits.memory_swappiness.and_then(|value| u64::try_from(value).ok()).filter(|_| !unified),
        disable_oom_killer: limits.oom_kill_disable.filter(|_| !unified),
        ..Memory::default()
    }
}

fn cpu(host: &HostConfig) -> Cpu {
    const PERIOD: i64 = 100_000;
    let limits = &host.resources;
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let (quota, period) = if limits.nano_cpus > 0 {
        (Some(limits.nano_cpus / (1_000_000_000 / PERIOD)), positive(PERIOD))
    } else {
        ((limits.cpu_quota != 0).then_some(limits.cpu_quota), positive(limits.cpu_period))
    };
    Cpu {
        shares: positive(limits.cpu_shares),
        quota,
        period,
        realtime_runtime: (limits.cpu_realtime_runtime != 0).then_some(limits.cpu_realtime_runtime),
        realtime_period: positive(limits.cpu_realtime_period),
        cpus: text(&limits.cpuset_cpus),
        mems: text(&limits.cpuset_mems),
        ..Cpu::default()
    }
}

fn block_io(host: &HostConfig) -> Result<Option<BlockIo>> {
    let limits = &host.resources;
    let throttle = |list: &Option<Vec<api::host_config::ThrottleDevice>>| -> Result<Vec<ThrottleDevice>> {
        list.iter()
            .flatten()
            .map(|device| {
                let (major, minor) = numbers(&device.path)?;
                Ok(ThrottleDevice { major, minor, rate: device.rate })
            })
            .collect()
    };
    let weight_device: Result<Vec<WeightDevice>> = limits
        .blkio_weight_device
        .iter()
        .flatten()
        .map(|device| {
            let (major, minor) = numbers(&device.path)?;
            Ok(WeightDevice { major, minor, weight: Some(device.weight), leaf_weight: None })
        })
        .collect();
    let block_io = BlockIo {
        weight: (limits.blkio_weight > 0).then_some(limits.blkio_weight),
        leaf_weight: None,
        weight_device: weight_device?,
        throttle_read_bps_device: throttle(&limits.blkio_device_read_bps)?,
        throttle_write_bps_device: throttle(&limits.blkio_device_write_bps)?,
        throttle_read_iops_device: throttle(&limits.blkio_device_read_iops)?,
        throttle_write_iops_device: throttle(&limits.blkio_device_write_iops)?,
    };
    Ok((block_io != BlockIo::default()).then_some(block_io))
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: Some(kind.to_owned()), major, minor, access: Some(access.to_owned()) }
}

fn device_rules(host: &HostConfig) -> Result<Vec<DeviceRule>> {
    if host.privileged {
        return Ok(vec![rule(true, "a", None, None, "rwm")]);
    }
    let mut rules = vec![
        rule(false, "a", None, None, "rwm"),
        rule(true, "c", None, None, "m"),
        rule(true, "b", None, None, "m"),
    ];
    let usual =
        [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(1))];
    rules.extend(usual.into_iter().map(|(major, minor)| rule(true, "c", Some(major), minor, "rwm")));
    rules.push(rule(true, "c", Some(5), Some(2), "rwm"));
    rules.push(rule(true, "c", Some(136), None, "rwm"));
    rules.push(rule(false, "c", Some(10), Some(229), "rwm"));
    for mapping in host.resources.devices.iter().flatten() {
        let access = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
        for device in host_devices(&mapping.path_on_host)? {
            rules.push(rule(true, &device.kind, Some(device.major), Some(device.minor), access));
        }
    }
    for text in host.resources.device_cgroup_rules.iter().flatten() {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

/// Parses `TYPE MAJOR:MINOR ACCESS`, as in `c 42:* rmw` (kernel cgroup-v1/devices.rst).
fn parse_rule(text: &str) -> Result<DeviceRule> {
    let wrong = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = parts.as_slice() else { return Err(wrong()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|value| Some(i64::from(value))).map_err(|_error| wrong()),
    };
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|byte| b"rwm".contains(&byte)) {
        return Err(wrong());
    }
    Ok(rule(true, kind, number(major)?, number(minor)?, access))
}

fn numbers(path: &str) -> Result<(i64, i64)> {
    let status = stat(path).map_err(|error| gathering(path, error))?;
    Ok((i64::from(major(status.st_rdev)), i64::from(minor(status.st_rdev))))
}

/// Returns the device at `path`, or all below it if it is a folder.
///
/// # Errors
///
/// Fails if there is nothing, or something that is no device.
pub(in crate::container) fn host_devices(path: &str) -> Result<Vec<Device>> {
    let status = stat(path).map_err(|error| gathering(path, error))?;
    let kind = match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        FileType::Directory => return folder(path),
        _ => {
            return Err(Error::known(
                base::Kind::Internal,
                format!(
                    "error gathering device information while adding custom device \"{path}\": not a device node"
                ),
            ));
        }
    };
    Ok(vec![Device {
        path: path.to_owned(),
        kind: kind.to_owned(),
        major: i64::from(major(status.st_rdev)),
        minor: i64::from(minor(status.st_rdev)),
        file_mode: Some(status.st_mode & 0o777),
        uid: Some(status.st_uid),
        gid: Some(status.st_gid),
    }])
}

fn folder(path: &str) -> Result<Vec<Device>> {
    let entries = std::fs::read_dir(path).map_err(Error::file("read the device folder", Path::new(path)))?;
    let mut devices = Vec::new();
    for entry in entries.flatten() {
        // What is not a device in a folder of devices is left out, as in Docker.
        if let Some(found) = entry.path().to_str().and_then(|path| host_devices(path).ok()) {
            devices.extend(found);
        }
    }
    Ok(devices)
}

fn gathering(path: &str, error: rustix::io::Errno) -> Error {
    let reason = if error == rustix::io::Errno::NOENT {
        "no such file or directory".to_owned()
    } else {
        error.to_string()
    };
    Error::known(
        base::Kind::Internal,
        format!("error gathering device information while adding custom device \"{path}\": {reason}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_follows_memory() {
        let with = |memory: i64, swap: i64| {
            let mut host = HostConfig::default();
            host.resources.memory = memory;
            host.resources.memory_swap = swap;
            super::memory(&host, false).swap
        };
        assert_eq!(
            (with(0, 0), with(100, 0), with(100, -1), with(100, 150)),
            (None, Some(200), Some(-1), Some(150))
        );
    }

    #[test]
    fn cpus_become_quota_and_period() {
        let mut host = HostConfig::default();
        host.resources.nano_cpus = 1_500_000_000;
        let cpu = cpu(&host);
        assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
    }

    #[test]
    fn device_rules_are_read_or_refused() {
        assert_eq!(parse_rule("c 42:* rm").unwrap(), rule(true, "c", Some(42), None, "rm"));
        for bad in ["", "c 42 rm", "x 1:2 r", "c 1:2 rx", "c -1:2 r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}
