//! `events`: what a container uses, and that its memory ran out, as lines of JSON (runc's *types*).

use super::arguments::{Flag, Parsed};
use super::record::Record;
use super::{Failure, Globals};
use cgroups::{BlockIoEntry, Statistics};
use rustix::fd::AsFd;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

pub(super) const FLAGS: &[Flag] = &[Flag::value("interval"), Flag::switch("stats")];

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
        say("stats", &record.id, Some(&document(&cgroup.statistics()?)))?;
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

fn say(kind: &str, id: &str, data: Option<&serde_json::Value>) -> Result<(), Failure> {
    let mut event = serde_json::json!({ "type": kind, "id": id });
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

fn document(statistics: &Statistics) -> serde_json::Value {
    let Statistics { cpu, memory, pids, blkio } = statistics;
    let entries = |entries: &[BlockIoEntry]| -> Vec<serde_json::Value> {
        let entry = |one: &BlockIoEntry| serde_json::json!({ "major": one.major, "minor": one.minor, "op": one.operation, "value": one.value });
        entries.iter().map(entry).collect()
    };
    serde_json::json!({
        "cpu": {
            "usage": {
                "total": cpu.total_ns, "percpu": cpu.percpu_ns, "kernel": cpu.system_ns, "user": cpu.user_ns,
            },
            "throttling": {
                "periods": cpu.throttling.periods,
                "throttledPeriods": cpu.throttling.throttled_periods,
                "throttledTime": cpu.throttling.throttled_ns,
            },
        },
        "memory": {
            "cache": memory.stats.get("cache").or_else(|| memory.stats.get("file")).copied().unwrap_or(0),
            "usage": {
                "limit": memory.limit, "usage": memory.usage, "max": memory.max_usage, "failcnt": memory.failcnt,
            },
            "raw": memory.stats,
        },
        "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
        "blkio": {
            "ioServiceBytesRecursive": entries(&blkio.service_bytes),
            "ioServicedRecursive": entries(&blkio.serviced),
        },
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
}
