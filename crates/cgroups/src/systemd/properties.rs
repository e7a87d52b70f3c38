//! Resources as properties of a unit: what the manager is told, so that it does not undo what the files say.
//!
//! systemd.resource-control(5). The files are written afterwards all the same: they can say more.

use super::message::Value;
use crate::v2::weight_of_shares;
use oci::runtime::{Cpu, DeviceRule, Memory, Resources};

/// "No limit", as systemd has it.
const INFINITY: u64 = u64::MAX;
/// The kernel's period of a processor quota, in microseconds.
const PERIOD: u64 = 100_000;
/// systemd rounds a quota per second to this many microseconds.
const QUOTA_STEP: u64 = 10_000;

/// What of the host decides about properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether cgroups are of version 2.
    pub unified: bool,
    /// The manager's version.
    pub version: u32,
    /// What `/proc/devices` has.
    pub devices: String,
}

/// A property and its value.
pub type Property = (&'static str, Value);

/// Returns the properties that stand for `resources`; what those do not name stays as it is.
pub fn properties(resources: &Resources, facts: &Facts) -> Vec<Property> {
    let mut properties = Vec::new();
    if !resources.devices.is_empty() {
        devices(&resources.devices, &facts.devices, &mut properties);
    }
    if let Some(memory) = &resources.memory {
        memory_properties(memory, facts, &mut properties);
    }
    if let Some(cpu) = &resources.cpu {
        cpu_properties(cpu, facts, &mut properties);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        properties.push(("TasksMax", limit_value(limit)));
    }
    let weight = resources.block_io.as_ref().and_then(|io| io.weight).filter(|weight| *weight != 0);
    if let (Some(weight), false) = (weight, facts.unified) {
        properties.push(("BlockIOWeight", Value::Long(u64::from(weight))));
    }
    for (file, value) in resources.unified.iter().filter(|_| facts.unified) {
        unified(file, value, facts, &mut properties);
    }
    properties
}

fn limit_value(limit: i64) -> Value {
    Value::Long(u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(INFINITY))
}

fn memory_properties(memory: &Memory, facts: &Facts, properties: &mut Vec<Property>) {
    let limit = memory.limit.filter(|limit| *limit != 0);
    if let Some(limit) = limit {
        properties.push((if facts.unified { "MemoryMax" } else { "MemoryLimit" }, limit_value(limit)));
    }
    if !facts.unified {
        return;
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        properties.push(("MemoryLow", limit_value(reservation)));
    }
    let swap = memory.swap.filter(|swap| *swap != 0).or((limit == Some(-1)).then_some(-1));
    match (swap, limit) {
        (Some(-1), _) => properties.push(("MemorySwapMax", Value::Long(INFINITY))),
        // Version 1's number has the memory in it. A contradiction is refused where the files are written.
        (Some(swap), Some(limit)) if limit > 0 => {
            let alone = u64::try_from(swap.saturating_sub(limit)).unwrap_or(0);
            properties.push(("MemorySwapMax", Value::Long(alone)));
        }
        _ => {}
    }
}

fn cpu_properties(cpu: &Cpu, facts: &Facts, properties: &mut Vec<Property>) {
    let shares = cpu.shares.filter(|shares| *shares != 0);
    if facts.unified {
        // Since 252 a weight of 0 means idle.
        if cpu.idle == Some(1) && facts.version >= 252 {
            properties.push(("CPUWeight", Value::Long(0)));
        } else if let Some(shares) = shares {
            properties.push(("CPUWeight", Value::Long(weight_of_shares(shares))));
        }
    } else if let Some(shares) = shares {
        properties.push(("CPUShares", Value::Long(shares)));
    }
    let period = cpu.period.filter(|period| *period != 0);
    quota(cpu.quota.filter(|quota| *quota != 0), period, facts, properties);
    cpuset(cpu.cpus.as_deref(), "AllowedCPUs", facts, properties);
    cpuset(cpu.mems.as_deref(), "AllowedMemoryNodes", facts, properties);
}

fn quota(quota: Option<i64>, period: Option<u64>, facts: &Facts, properties: &mut Vec<Property>) {
    if let Some(period) = period.filter(|_| facts.version >= 242) {
        properties.push(("CPUQuotaPeriodUSec", Value::Long(period)));
    }
    if quota.is_none() && period.is_none() {
        return;
    }
    let per_second = quota.and_then(|quota| u64::try_from(quota).ok()).map_or(INFINITY, |quota| {
        let exact = quota.saturating_mul(1_000_000) / period.unwrap_or(PERIOD);
        exact.checked_next_multiple_of(QUOTA_STEP).unwrap_or(INFINITY)
    });
    properties.push(("CPUQuotaPerSecUSec", Value::Long(per_second)));
}

fn cpuset(list: Option<&str>, name: &'static str, facts: &Facts, properties: &mut Vec<Property>) {
    let list = list.filter(|list| !list.is_empty() && facts.version >= 244);
    // One that is no list is refused where the file is written.
    if let Some(bits) = list.and_then(bits) {
        properties.push((name, Value::Bytes(bits)));
    }
}

/// Returns a list of numbers (`0-1,3`) as bits, the lowest first.
fn bits(list: &str) -> Option<Vec<u8>> {
    const MOST: usize = 8192;
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last >= MOST {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0_u8);
        for number in first..=last {
            *bits.get_mut(number / 8)? |= 1 << (number % 8);
        }
    }
    Some(bits)
}

/// A file of version 2 by its name, where the manager has a property for it.
fn unified(file: &str, value: &str, facts: &Facts, properties: &mut Vec<Property>) {
    let value = value.trim();
    let limit = || if value == "max" { Some(INFINITY) } else { value.parse().ok() };
    let name = match file {
        "cpu.weight" => "CPUWeight",
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.max" => {
            let mut parts = value.split_whitespace();
            let most = parts.next().unwrap_or("max");
            let period = parts.next().and_then(|period| period.parse().ok()).or(Some(PERIOD));
            return quota(most.parse().ok(), period, facts, properties);
        }
        "cpuset.cpus" => return cpuset(Some(value), "AllowedCPUs", facts, properties),
        "cpuset.mems" => return cpuset(Some(value), "AllowedMemoryNodes", facts, properties),
        _ => return,
    };
    properties.extend(limit().map(|limit| (name, Value::Long(limit))));
}

/// What may be used after rules were followed in their order.
#[derive(Debug, Default)]
struct Allowed {
    /// Everything but some.
    all: bool,
    /// Kind, numbers, access.
    some: Vec<(char, Option<i64>, Option<i64>, String)>,
}

impl Allowed {
    fn follow(rules: &[DeviceRule]) -> Self {
        let mut allowed = Self::default();
        for rule in rules {
            let number = |number: Option<i64>| number.filter(|number| *number >= 0);
            let access = rule.access.clone().filter(|access| !access.is_empty());
            let access = access.unwrap_or_else(|| "rwm".to_owned());
            match rule.kind.as_deref().and_then(|kind| kind.chars().next()) {
                None | Some('a') => allowed = Self { all: rule.allow, some: Vec::new() },
                Some(kind) => {
                    let numbers = (number(rule.major), number(rule.minor));
                    // What is taken from a wider rule is the files' to refuse: they are exact.
                    allowed.some.retain(|one| (one.0, one.1, one.2) != (kind, numbers.0, numbers.1));
                    if rule.allow && !allowed.all {
                        allowed.some.push((kind, numbers.0, numbers.1, access));
                    }
                }
            }
        }
        allowed
    }
}

fn devices(rules: &[DeviceRule], registered: &str, properties: &mut Vec<Property>) {
    let allowed = Allowed::follow(rules);
    let policy = if allowed.all { "auto" } else { "strict" };
    properties.push(("DevicePolicy", Value::Text(policy.to_owned())));
    // An empty list takes back what was there.
    properties.push(("DeviceAllow", Value::Pairs(Vec::new())));
    let mut named = Vec::new();
    for (kind, major, minor, access) in allowed.some {
        let (word, folder) = if kind == 'b' { ("block", "block") } else { ("char", "char") };
        let name = match (major, minor) {
            (Some(major), Some(minor)) => Some(format!("/dev/{folder}/{major}:{minor}")),
            // A number without a driver has no device to be used.
            (Some(major), None) => driver(registered, kind, major).map(|driver| format!("{word}-{driver}")),
            (None, _) => Some(format!("{word}-*")),
        };
        named.extend(name.map(|name| (name, access)));
    }
    if !named.is_empty() {
        properties.push(("DeviceAllow", Value::Pairs(named)));
    }
}

/// Finds who has a major number in `/proc/devices` (proc(5)): two lists, characters first.
fn driver(registered: &str, kind: char, major: i64) -> Option<&str> {
    let (characters, blocks) = registered.split_once("Block devices:").unwrap_or((registered, ""));
    let list = if kind == 'b' { blocks } else { characters };
    list.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::Pids;

    fn check(resources: &Resources, unified: bool, version: u32, expect: &[Property]) {
        let devices = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n".to_owned();
        assert_eq!(properties(resources, &Facts { unified, version, devices }), expect, "{resources:?}");
    }

    #[test]
    fn limits_have_their_properties() {
        let long = Value::Long;
        let resources = Resources {
            memory: Some(Memory {
                limit: Some(100),
                swap: Some(150),
                reservation: Some(50),
                ..Memory::default()
            }),
            cpu: Some(Cpu {
                shares: Some(1024),
                quota: Some(50_001),
                period: Some(100_000),
                cpus: Some("0-1,9".into()),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: Some(-1) }),
            ..Resources::default()
        };
        let cpus = Value::Bytes(vec![3, 2]);
        let expect = [
            ("MemoryMax", long(100)),
            ("MemoryLow", long(50)),
            ("MemorySwapMax", long(50)),
            ("CPUWeight", long(100)),
            ("CPUQuotaPeriodUSec", long(100_000)),
            ("CPUQuotaPerSecUSec", long(510_000)),
            ("AllowedCPUs", cpus),
            ("TasksMax", long(INFINITY)),
        ];
        check(&resources, true, 252, &expect);
        let old = [
            ("MemoryLimit", long(100)),
            ("CPUShares", long(1024)),
            ("CPUQuotaPerSecUSec", long(510_000)),
            ("TasksMax", long(INFINITY)),
        ];
        check(&resources, false, 241, &old);
        let given = |file: &str, value: &str| Resources {
            unified: [(file.to_owned(), value.to_owned())].into(),
            ..Resources::default()
        };
        check(&given("memory.high", "max"), true, 252, &[("MemoryHigh", long(INFINITY))]);
        let quota = [("CPUQuotaPeriodUSec", long(20_000)), ("CPUQuotaPerSecUSec", long(500_000))];
        check(&given("cpu.max", "10000 20000"), true, 252, &quota);
        check(&given("hugetlb.2MB.max", "1"), true, 252, &[]);
        let idle = Resources { cpu: Some(Cpu { idle: Some(1), ..Cpu::default() }), ..Resources::default() };
        check(&idle, true, 252, &[("CPUWeight", long(0))]);
        check(&Resources::default(), true, 252, &[]);
    }

    #[test]
    fn device_rules_become_a_list_where_they_can() {
        let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
            allow,
            kind: Some(kind.to_owned()).filter(|kind| !kind.is_empty()),
            major,
            minor,
            access: Some(access.to_owned()),
        };
        let with = |devices| Resources { devices, ..Resources::default() };
        let text = |text: &str| Value::Text(text.to_owned());
        let pairs = |list: &[(&str, &str)]| {
            Value::Pairs(list.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect())
        };
        let strict = |list: &[(&str, &str)]| {
            vec![("DevicePolicy", text("strict")), ("DeviceAllow", pairs(&[])), ("DeviceAllow", pairs(list))]
        };
        let usual = vec![
            rule(false, "", None, None, "rwm"),
            rule(true, "c", Some(1), Some(3), "rwm"),
            rule(true, "c", Some(136), None, "rwm"),
            rule(true, "b", None, None, "m"),
            rule(true, "c", Some(77), None, "m"),
            rule(true, "b", Some(8), Some(0), "r"),
            rule(false, "b", Some(8), Some(0), "r"),
        ];
        let list = [("/dev/char/1:3", "rwm"), ("char-pts", "rwm"), ("block-*", "m")];
        check(&with(usual), true, 252, &strict(&list));
        let open = vec![rule(true, "a", None, None, "rwm"), rule(false, "c", Some(1), Some(3), "w")];
        check(&with(open), true, 252, &[("DevicePolicy", text("auto")), ("DeviceAllow", pairs(&[]))]);
    }

    #[test]
    fn lists_of_processors_become_bits() {
        for (list, expect) in [
            ("0", Some(vec![1])),
            ("0-7,8", Some(vec![0xff, 1])),
            ("1, 3", Some(vec![10])),
            ("3-1", None),
            ("x", None),
            ("99999", None),
        ] {
            assert_eq!(bits(list), expect, "{list}");
        }
    }
}
