//! Limits: ulimits, block devices, sysctls, and the flags that `update` shares.

use crate::flags::Matches;
use crate::values;
use api::host_config::{Resources, ThrottleDevice, ULIMITS, Ulimit, WeightDevice};

/// Sysctls that have their own namespace; `net.` and `fs.mqueue.` belong to it as a whole.
const SYSCTLS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(crate) fn check_ulimit(text: &str) -> Result<(), String> {
    parse_ulimit(text).map(drop)
}

/// `name=soft[:hard]`; −1 means unlimited.
fn parse_ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, values) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_no_number| {
            format!("strconv.ParseInt: parsing {}: invalid syntax", values::quote(text))
        })
    };
    let (soft, hard) = match values.split_once(':') {
        Some((_, hard)) if hard.contains(':') => {
            return Err(format!(
                "too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
            ));
        }
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return match soft {
            -1 => Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            )),
            _ => Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")),
        };
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// Returns the ulimits, the last of each name, sorted by name.
pub(crate) fn ulimits(texts: &[String]) -> Vec<Ulimit> {
    let mut ulimits: Vec<Ulimit> = Vec::new();
    for ulimit in texts.iter().filter_map(|text| parse_ulimit(text).ok()) {
        ulimits.retain(|known| known.name != ulimit.name);
        ulimits.push(ulimit);
    }
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    ulimits
}

pub(crate) fn check_weight_device(text: &str) -> Result<(), String> {
    parse_weight_device(text).map(drop)
}

fn parse_weight_device(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_and(text)?;
    let invalid = || format!("invalid weight for device: {text}");
    let weight: u16 = weight.parse().map_err(|_no_number| invalid())?;
    if weight > 0 && !(10..=1000).contains(&weight) {
        return Err(invalid());
    }
    Ok(WeightDevice { path: path.to_owned(), weight })
}

fn device_and(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if path.starts_with("/dev/") {
        Ok((path, value))
    } else {
        Err(format!("bad format for device path: {text}"))
    }
}

pub(crate) fn check_rate_bytes(text: &str) -> Result<(), String> {
    parse_rate_bytes(text).map(drop)
}

fn parse_rate_bytes(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let rate = values::bytes(rate).ok().and_then(|rate| u64::try_from(rate).ok());
    let rate = rate.ok_or_else(|| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

pub(crate) fn check_rate(text: &str) -> Result<(), String> {
    parse_rate(text).map(drop)
}

fn parse_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let rate = rate.parse().map_err(|_no_number| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

pub(crate) fn check_sysctl(text: &str) -> Result<(), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let known = SYSCTLS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    if known && !value.is_empty() { Ok(()) } else { Err(format!("sysctl '{text}' is not allowed")) }
}

/// Returns the limits that the flags of `update` set.
pub(crate) fn resources(matches: &Matches) -> Resources {
    Resources {
        blkio_weight: u16::try_from(matches.int("blkio-weight")).unwrap_or(0),
        cpu_period: matches.int("cpu-period"),
        cpu_quota: matches.int("cpu-quota"),
        cpu_realtime_period: matches.int("cpu-rt-period"),
        cpu_realtime_runtime: matches.int("cpu-rt-runtime"),
        cpu_shares: matches.int("cpu-shares"),
        nano_cpus: matches.given("cpus").and_then(|cpus| values::nano_cpus(cpus).ok()).unwrap_or(0),
        cpuset_cpus: matches.text("cpuset-cpus").to_owned(),
        cpuset_mems: matches.text("cpuset-mems").to_owned(),
        memory: matches.bytes("memory"),
        memory_reservation: matches.bytes("memory-reservation"),
        memory_swap: matches.bytes("memory-swap"),
        kernel_memory: matches.bytes("kernel-memory"),
        ..Resources::default()
    }
}

/// Adds the limits that only `create` and `run` set.
pub(crate) fn create_resources(matches: &Matches) -> Resources {
    let rates = |name: &str, parse: fn(&str) -> Result<ThrottleDevice, String>| {
        Some(matches.list(name).iter().filter_map(|text| parse(text).ok()).collect())
    };
    let weights = matches.list("blkio-weight-device").iter();
    Resources {
        cgroup_parent: matches.text("cgroup-parent").to_owned(),
        blkio_weight_device: Some(weights.filter_map(|text| parse_weight_device(text).ok()).collect()),
        blkio_device_read_bps: rates("device-read-bps", parse_rate_bytes),
        blkio_device_write_bps: rates("device-write-bps", parse_rate_bytes),
        blkio_device_read_iops: rates("device-read-iops", parse_rate),
        blkio_device_write_iops: rates("device-write-iops", parse_rate),
        memory_swappiness: Some(matches.int("memory-swappiness")),
        oom_kill_disable: Some(matches.switch("oom-kill-disable")),
        pids_limit: Some(matches.int("pids-limit")),
        ulimits: Some(ulimits(matches.list("ulimit"))),
        cpu_count: matches.int("cpu-count"),
        cpu_percent: matches.int("cpu-percent"),
        io_maximum_iops: u64::try_from(matches.int("io-maxiops")).unwrap_or(0),
        io_maximum_bandwidth: u64::try_from(matches.bytes("io-maxbandwidth")).unwrap_or(0),
        ..resources(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_are_checked() {
        let check = |text: &str, expect: Result<(i64, i64), &str>| {
            let parsed = parse_ulimit(text).map(|ulimit| (ulimit.soft, ulimit.hard));
            assert_eq!(parsed, expect.map_err(str::to_owned), "{text}");
        };
        check("nofile=10", Ok((10, 10)));
        check("nofile=10:20", Ok((10, 20)));
        check("core=-1", Ok((-1, -1)));
        check("nofile", Err("invalid ulimit argument: nofile"));
        check("x=1", Err("invalid ulimit type: x"));
        check("nofile=2:1", Err("ulimit soft limit must be less than or equal to hard limit: 2 > 1"));
        check(
            "nofile=1:2:3",
            Err("too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`"),
        );
    }

    #[test]
    fn devices_are_checked() {
        assert_eq!(parse_rate_bytes("/dev/sda:1mb").map(|device| device.rate), Ok(1 << 20));
        assert!(parse_rate("/dev/sda:x").is_err());
        assert_eq!(
            parse_weight_device("/dev/sda:5"),
            Err("invalid weight for device: /dev/sda:5".to_owned())
        );
        assert_eq!(parse_weight_device("sda:50"), Err("bad format for device path: sda:50".to_owned()));
        assert_eq!(check_sysctl("net.core.somaxconn=1"), Ok(()));
        assert_eq!(check_sysctl("a=b"), Err("sysctl 'a=b' is not allowed".to_owned()));
    }
}
