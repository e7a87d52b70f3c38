//! Resources as writes to version 1 files.

use crate::Setting;
use oci::runtime::{BlockIo, Cpu, DeviceRule, Memory, Resources};

/// Returns what to write for `resources`, in order. Memory is apart ([`memory`]): its order depends on the present limits.
pub fn settings(resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    settings.extend(resources.devices.iter().map(device));
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
        let file = format!("hugetlb.{}.limit_in_bytes", huge.page_size);
        settings.push(Setting::new("hugetlb", file, huge.limit));
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id {
            settings.push(Setting::new("net_cls", "net_cls.classid", class));
        }
        for priority in &network.priorities {
            let value = format!("{} {}", priority.name, priority.priority);
            settings.push(Setting::new("net_prio", "net_prio.ifpriomap", value));
        }
    }
    for (device, limits) in &resources.rdma {
        settings.push(Setting::new("rdma", "rdma.max", rdma(device, limits)));
    }
    settings
}

/// Returns the memory writes. `present_swap` is the limit of memory and swap in force now, in bytes.
///
/// The kernel keeps memory ≤ memory+swap at each write, so whichever grows goes first.
pub fn memory(memory: &Memory, present_swap: Option<u64>) -> Vec<Setting> {
    let mut settings = Vec::new();
    let limit = memory
        .limit
        .filter(|limit| *limit != 0)
        .map(|limit| Setting::new("memory", "memory.limit_in_bytes", limit));
    // Lifting the limit of memory lifts that of swap too, else the kernel would refuse.
    let swap = memory.swap.filter(|swap| *swap != 0).or((memory.limit == Some(-1)).then_some(-1));
    let swap_setting =
        swap.map(|swap| Setting::new("memory", "memory.memsw.limit_in_bytes", swap).optional());
    let grows = match (swap, present_swap) {
        (Some(-1), _) => true,
        (Some(swap), Some(present)) => u64::try_from(swap).is_ok_and(|swap| swap > present),
        _ => false,
    };
    if grows {
        settings.extend(swap_setting);
        settings.extend(limit);
    } else {
        settings.extend(limit);
        settings.extend(swap_setting);
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        settings.push(Setting::new("memory", "memory.soft_limit_in_bytes", reservation));
    }
    if let Some(limit) = memory.kernel_tcp.filter(|limit| *limit != 0) {
        settings.push(Setting::new("memory", "memory.kmem.tcp.limit_in_bytes", limit).optional());
    }
    if memory.disable_oom_killer == Some(true) {
        settings.push(Setting::new("memory", "memory.oom_control", 1));
    }
    if let Some(swappiness) = memory.swappiness.filter(|swappiness| *swappiness <= 100) {
        settings.push(Setting::new("memory", "memory.swappiness", swappiness));
    }
    settings
}

fn cpu_settings(cpu: &Cpu, settings: &mut Vec<Setting>) {
    let mut push = |controller, file: &str, value: Option<String>| {
        settings.extend(value.map(|value| Setting::new(controller, file, value)));
    };
    push("cpuset", "cpuset.cpus", cpu.cpus.clone().filter(|cpus| !cpus.is_empty()));
    push("cpuset", "cpuset.mems", cpu.mems.clone().filter(|mems| !mems.is_empty()));
    push("cpu", "cpu.shares", nonzero(cpu.shares));
    push("cpu", "cpu.cfs_period_us", nonzero(cpu.period));
    push("cpu", "cpu.cfs_quota_us", cpu.quota.filter(|quota| *quota != 0).map(|quota| quota.to_string()));
    push("cpu", "cpu.cfs_burst_us", nonzero(cpu.burst));
    push("cpu", "cpu.rt_period_us", nonzero(cpu.realtime_period));
    push(
        "cpu",
        "cpu.rt_runtime_us",
        cpu.realtime_runtime.filter(|time| *time != 0).map(|time| time.to_string()),
    );
    push("cpu", "cpu.idle", cpu.idle.map(|idle| idle.to_string()));
}

fn block_io_settings(block_io: &BlockIo, settings: &mut Vec<Setting>) {
    if let Some(weight) = block_io.weight.filter(|weight| *weight != 0) {
        settings.push(Setting::new("blkio", "blkio.weight", weight));
    }
    if let Some(weight) = block_io.leaf_weight.filter(|weight| *weight != 0) {
        settings.push(Setting::new("blkio", "blkio.leaf_weight", weight));
    }
    for device in &block_io.weight_device {
        if let Some(weight) = device.weight {
            let value = format!("{}:{} {weight}", device.major, device.minor);
            settings.push(Setting::new("blkio", "blkio.weight_device", value));
        }
        if let Some(weight) = device.leaf_weight {
            let value = format!("{}:{} {weight}", device.major, device.minor);
            settings.push(Setting::new("blkio", "blkio.leaf_weight_device", value));
        }
    }
    let files = [
        "blkio.throttle.read_bps_device",
        "blkio.throttle.write_bps_device",
        "blkio.throttle.read_iops_device",
        "blkio.throttle.write_iops_device",
    ];
    for (file, device, rate) in throttles(block_io, files) {
        settings.push(Setting::new("blkio", file, format!("{device} {rate}")));
    }
}

/// Walks the limits of block devices: bytes read and written, then operations, by the names that a version has for these
/// four; each with its device as `MAJOR:MINOR`.
pub(crate) fn throttles<'a>(
    block_io: &'a BlockIo,
    names: [&'static str; 4],
) -> impl Iterator<Item = (&'static str, String, u64)> + 'a {
    let lists = [
        &block_io.throttle_read_bps_device,
        &block_io.throttle_write_bps_device,
        &block_io.throttle_read_iops_device,
        &block_io.throttle_write_iops_device,
    ];
    names.into_iter().zip(lists).flat_map(|(name, list)| {
        list.iter().map(move |device| (name, format!("{}:{}", device.major, device.minor), device.rate))
    })
}

/// Returns the write for one device rule.
fn device(rule: &DeviceRule) -> Setting {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    let number = |number: Option<i64>| {
        number.filter(|number| *number >= 0).map_or_else(|| "*".to_owned(), |number| number.to_string())
    };
    let kind = rule.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("a");
    let access = rule.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    let value = match kind {
        // "a" takes no numbers: it stands for everything.
        "a" if rule.major.is_none() && rule.minor.is_none() => "a".to_owned(),
        kind => format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor)),
    };
    Setting::new("devices", file, value)
}

pub(crate) fn rdma(device: &str, limits: &oci::runtime::Rdma) -> String {
    let part =
        |name: &str, limit: Option<u32>| limit.map(|limit| format!(" {name}={limit}")).unwrap_or_default();
    format!("{device}{}{}", part("hca_handle", limits.hca_handles), part("hca_object", limits.hca_objects))
}

pub(crate) fn maximum(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

fn nonzero(value: Option<u64>) -> Option<String> {
    value.filter(|value| *value != 0).map(|value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::{Pids, ThrottleDevice};

    fn lines(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn whichever_limit_grows_goes_first() {
        let asked = |limit, swap| Memory { limit: Some(limit), swap, ..Memory::default() };
        let check = |limit, swap, present, expect: &[&str]| {
            assert_eq!(lines(&memory(&asked(limit, swap), present)), expect, "{limit} {swap:?} {present:?}");
        };
        let unlimited = Some(9_223_372_036_854_771_712);
        check(100, Some(200), unlimited, &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=200"]);
        check(100, Some(200), Some(50), &["memory.memsw.limit_in_bytes=200", "memory.limit_in_bytes=100"]);
        check(100, Some(-1), Some(50), &["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=100"]);
        check(-1, None, Some(50), &["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=-1"]);
        check(100, None, None, &["memory.limit_in_bytes=100"]);
    }

    #[test]
    fn each_option_has_its_file() {
        let resources = Resources {
            devices: vec![
                DeviceRule { access: Some("rwm".into()), ..DeviceRule::default() },
                DeviceRule {
                    allow: true,
                    kind: Some("c".into()),
                    major: Some(136),
                    access: Some("rw".into()),
                    minor: None,
                },
            ],
            cpu: Some(Cpu {
                shares: Some(512),
                quota: Some(50_000),
                period: Some(100_000),
                cpus: Some("0-1".into()),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: Some(-1) }),
            block_io: Some(BlockIo {
                weight: Some(300),
                throttle_read_bps_device: vec![ThrottleDevice { major: 8, minor: 0, rate: 1_048_576 }],
                ..BlockIo::default()
            }),
            ..Resources::default()
        };
        let expect = [
            "devices.deny=a",
            "devices.allow=c 136:* rw",
            "cpuset.cpus=0-1",
            "cpu.shares=512",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "pids.max=max",
            "blkio.weight=300",
            "blkio.throttle.read_bps_device=8:0 1048576",
        ];
        assert_eq!(lines(&settings(&resources)), expect);
    }
}
