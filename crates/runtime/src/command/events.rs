//! `events`: what a container uses, and that its memory ran out, as lines of JSON (runc's *types*).

use super::arguments::{Flag, Parsed};
use super::record::Record;
use super::{Failure, Globals};
use cgroups::{BlockIoEntry, Cgroup, Statistics};
use rustix::fd::AsFd;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("interval", "time between two lines, as 500ms, 5s, 1m (default: 5s)"),
    Flag::switch("stats", "one line, then end"),
];

pub(super) fn events(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let record = Record::load(&globals.container(flags)?)?;
    let process = record.process().ok_or("container is not running")?;
    let cgroup = record.cgroup()?;
    let interval = flags.value("interval").map_or(Ok(Duration::from_secs(5)), duration)?;
    if interval.is_zero() {
        return Err("duration interval must be greater than 0".into());
    }
    let mut killed = cgroup.oom_kills();
    loop {
        say("stats", &record.id, Some(&document(&cgroup.statistics()?, &Further::read(&cgroup))))?;
        if flags.has("stats") || sys::pidfd::ended_within(process.as_fd(), interval)? {
            return Ok(ExitCode::SUCCESS);
        }
        let now = cgroup.oom_kills();
        if now > killed {
            say("oom", &record.id, None)?;
        }
        killed = now;
    }
}

fn say(kind: &str, id: &str, data: Option<&Value>) -> Result<(), Failure> {
    let mut event = json!({ "type": kind, "id": id });
    if let (Some(data), Some(fields)) = (data, event.as_object_mut()) {
        fields.insert("data".to_owned(), data.clone());
    }
    Ok(writeln!(std::io::stdout(), "{event}")?)
}

/// A duration as Go writes it, in one unit: `5s`, `500ms`, `1m`.
fn duration(text: &str) -> Result<Duration, Failure> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let wrong = || format!("invalid value {text:?} for flag -interval");
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_parse| wrong())?;
    Ok(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        "h" => Duration::from_secs(number.saturating_mul(3600)),
        _ => return Err(wrong().into()),
    })
}

/// What runc shows beyond what `stats` of Docker does.
#[derive(Debug, Default)]
struct Further {
    /// By processor: in the kernel, in user mode (version 1).
    percpu: Vec<(u64, u64)>,
    cpuset: Map<String, Value>,
    /// Memory and swap, the kernel's memory, that of its TCP buffers.
    memory: Vec<(&'static str, Value)>,
    /// By page size.
    huge: Map<String, Value>,
}

impl Further {
    fn read(cgroup: &Cgroup) -> Self {
        let text = |controller: &str, file: &str| -> Option<String> {
            let path = cgroup.directory(controller)?.join(file);
            std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
        };
        let number = |controller: &str, file: &str| -> u64 {
            match text(controller, file).as_deref() {
                Some("max") => u64::MAX,
                other => other.and_then(|text| text.parse().ok()).unwrap_or(0),
            }
        };
        let usage = |prefix: &str| {
            let one = |file: &str| number("memory", &format!("{prefix}.{file}"));
            used(one("limit_in_bytes"), one("usage_in_bytes"), one("max_usage_in_bytes"), one("failcnt"))
        };
        let mut further = Self::default();
        let unified = cgroup.places().iter().any(|(controllers, _, _)| controllers.is_empty());
        if unified {
            // As runc: both together, as version 1 counts them.
            let both = |file: &str| {
                number("memory", &format!("memory.{file}"))
                    .saturating_add(number("memory", &format!("memory.swap.{file}")))
            };
            further.memory.push(("swap", used(both("max"), both("current"), 0, 0)));
        } else {
            let prefixes =
                [("swap", "memory.memsw"), ("kernel", "memory.kmem"), ("kernelTCP", "memory.kmem.tcp")];
            further.memory.extend(prefixes.map(|(name, prefix)| (name, usage(prefix))));
        }
        let table = text("cpuacct", "cpuacct.usage_all").unwrap_or_default();
        further.percpu = table.lines().skip(1).filter_map(processor).collect();
        for name in CPUSET {
            let value = text("cpuset", &format!("cpuset.{name}")).unwrap_or_default();
            let value = match *name {
                "cpus" | "mems" => numbers(&value).into(),
                _ => value.parse::<i64>().unwrap_or(0).into(),
            };
            if value != json!([]) {
                further.cpuset.insert((*name).to_owned(), value);
            }
        }
        let listed = cgroup.directory("hugetlb").and_then(|directory| std::fs::read_dir(directory).ok());
        let current = if unified { ".current" } else { ".usage_in_bytes" };
        for file in
            listed.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
        {
            let size = file.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(current));
            if let Some(size) = size.filter(|size| !size.contains('.')) {
                let one = |file: &str| number("hugetlb", &format!("hugetlb.{size}.{file}"));
                let used = used(0, number("hugetlb", &file), one("max_usage_in_bytes"), one("failcnt"));
                further.huge.insert(size.to_owned(), used);
            }
        }
        further
    }
}

const CPUSET: &[&str] = &[
    "cpus",
    "cpu_exclusive",
    "mems",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
];

/// What is used of something; without a limit, as Go leaves a number out that is 0.
fn used(limit: u64, usage: u64, max: u64, failcnt: u64) -> Value {
    let mut value = json!({ "limit": limit, "usage": usage, "max": max, "failcnt": failcnt });
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, number| name == "failcnt" || *number != json!(0));
    }
    value
}

/// A line `PROCESSOR USER SYSTEM`: the last two, turned round.
fn processor(line: &str) -> Option<(u64, u64)> {
    let mut numbers = line.split_whitespace().skip(1).map(|word| word.parse::<u64>().ok());
    let (user, kernel) = (numbers.next()??, numbers.next()??);
    Some((kernel, user))
}

/// A list as `0-3,7`, each number of it.
fn numbers(list: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// What runc calls the statistics; what is 0 or empty is left out where it leaves it out.
fn document(statistics: &Statistics, further: &Further) -> Value {
    let Statistics { cpu, memory, pids, blkio } = statistics;
    let entries = |entries: &[BlockIoEntry]| -> Vec<Value> {
        let entry = |one: &BlockIoEntry| json!({ "major": one.major, "minor": one.minor, "op": one.operation, "value": one.value });
        entries.iter().map(entry).collect()
    };
    let filled = |mut value: Value| {
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, field| {
                let always = matches!(name.as_str(), "kernel" | "user");
                always || *field != json!(0) && *field != json!([])
            });
        }
        value
    };
    let (kernel, user): (Vec<u64>, Vec<u64>) = further.percpu.iter().copied().unzip();
    let usage = filled(json!({
        "total": cpu.total_ns, "percpu": cpu.percpu_ns, "percpu_kernel": kernel, "percpu_user": user,
        "kernel": cpu.system_ns, "user": cpu.user_ns,
    }));
    let mut shown_memory = filled(json!({
        "cache": memory.stats.get("cache").or_else(|| memory.stats.get("file")).copied().unwrap_or(0),
        "usage": used(memory.limit, memory.usage, memory.max_usage, memory.failcnt),
        "raw": memory.stats,
    }));
    if let Some(fields) = shown_memory.as_object_mut() {
        fields.extend(further.memory.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    }
    json!({
        "cpu": {
            "usage": usage,
            "throttling": filled(json!({
                "periods": cpu.throttling.periods,
                "throttledPeriods": cpu.throttling.throttled_periods,
                "throttledTime": cpu.throttling.throttled_ns,
            })),
        },
        "cpuset": further.cpuset,
        "memory": shown_memory,
        "pids": filled(json!({ "current": pids.current, "limit": pids.limit.unwrap_or(0) })),
        "blkio": filled(json!({
            "ioServiceBytesRecursive": entries(&blkio.service_bytes),
            "ioServicedRecursive": entries(&blkio.serviced),
        })),
        "hugetlb": further.huge,
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        let millis = |text: &str| duration(text).map(|duration| duration.as_millis()).ok();
        for (text, expect) in
            [("500ms", Some(500)), ("5s", Some(5000)), ("1m", Some(60_000)), ("5", None), ("", None)]
        {
            assert_eq!(millis(text), expect, "{text}");
        }
    }

    #[test]
    fn lists_and_lines_are_read() {
        assert_eq!(numbers("0-2,7"), [0, 1, 2, 7]);
        assert!(numbers("").is_empty());
        assert_eq!(processor("1 20 30"), Some((30, 20)));
        assert_eq!(used(0, 5, 0, 0), json!({ "usage": 5, "failcnt": 0 }));
    }
}
