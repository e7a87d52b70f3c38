//! Commands about containers that are there.

use super::arguments::{Flag, Parsed};
use super::record::Record;
use super::{Failure, Globals};
use crate::hooks;
use oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources, Status};
use rustix::fd::AsFd;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(super) const LIST_FLAGS: &[Flag] = &[
    Flag::value("format", "table or json (default: \"table\")").short('f'),
    Flag::switch("quiet", "names only").short('q'),
];
pub(super) const KILL_FLAGS: &[Flag] = &[Flag::switch("all", "every process of the container").short('a')];
pub(super) const DELETE_FLAGS: &[Flag] =
    &[Flag::switch("force", "kill the container first if it runs").short('f')];
pub(super) const PS_FLAGS: &[Flag] =
    &[Flag::value("format", "table or json (default: \"table\")").short('f')];
pub(super) const UPDATE_FLAGS: &[Flag] = &[
    Flag::value(
        "resources",
        "file with the limits as in config.json, or - for standard input; other flags do not count then",
    )
    .short('r'),
    Flag::value("blkio-weight", "share of the block devices, from 10 to 1000"),
    Flag::value("cpu-period", "period of the processor quota in microseconds"),
    Flag::value("cpu-quota", "processor time in a period in microseconds"),
    Flag::value("cpu-burst", "unused processor time that may be saved up, in microseconds"),
    Flag::value("cpu-share", "share of the processors, 1024 being usual"),
    Flag::value("cpu-rt-period", "period of the real-time quota in microseconds"),
    Flag::value("cpu-rt-runtime", "real-time processor time in a period in microseconds"),
    Flag::value("cpuset-cpus", "processors to run on"),
    Flag::value("cpuset-mems", "memory nodes to use"),
    Flag::value("memory", "most memory in bytes"),
    Flag::value("memory-reservation", "memory in bytes that is left when it is short"),
    Flag::value("memory-swap", "most memory and swap together in bytes; -1 for any"),
    Flag::value("pids-limit", "most processes and threads"),
    Flag::value("cpu-idle", "1 to run only when nothing else does, 0 as usual"),
    Flag::value("l3-cache-schema", "refused: Intel RDT is not supported"),
    Flag::value("mem-bw-schema", "refused: Intel RDT is not supported"),
];

fn print(text: &str) -> Result<ExitCode, Failure> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Creating => "creating",
        Status::Created => "created",
        Status::Running => "running",
        Status::Stopped => "stopped",
        Status::Paused => "paused",
    }
}

/// What `state` and `list` show, in runc's order.
fn shown(record: &Record, directory: &Path, owner: &str) -> Value {
    let status = record.status(directory);
    serde_json::json!({
        "ociVersion": record.spec.oci_version,
        "id": record.id,
        "pid": if status == Status::Stopped { 0 } else { record.pid },
        "status": status_word(status),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "annotations": record.spec.annotations,
        "owner": owner,
    })
}

/// Who made the container: the owner of its state, by name if the host knows one.
fn owner(directory: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(uid) = std::fs::metadata(directory).map(|status| status.uid().to_string()) else {
        return String::new();
    };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(&uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

pub(super) fn state(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let record = Record::load(&directory)?;
    print(&format!("{}\n", serde_json::to_string_pretty(&shown(&record, &directory, ""))?))
}

pub(super) fn list(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    match std::fs::read_dir(&globals.root) {
        Ok(entries) => {
            for entry in entries {
                let directory = entry?.path();
                if let Ok(record) = Record::load(&directory) {
                    found.push((record, directory));
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    found.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    if flags.has("quiet") {
        return print(&found.iter().map(|(record, _)| format!("{}\n", record.id)).collect::<String>());
    }
    if flags.value("format") == Some("json") {
        let all: Vec<_> =
            found.iter().map(|(record, directory)| shown(record, directory, &owner(directory))).collect();
        return print(&serde_json::to_string(&all)?);
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for (record, directory) in &found {
        let status = record.status(directory);
        let pid = if status == Status::Stopped { 0 } else { record.pid };
        let bundle = record.bundle.to_string_lossy().into_owned();
        let word = status_word(status).to_owned();
        rows.push([
            record.id.clone(),
            pid.to_string(),
            word,
            bundle,
            record.created.clone(),
            owner(directory),
        ]);
    }
    print(&table(&rows))
}

/// Columns of at least 9 characters, three blanks apart, as Go's tabwriter makes them for runc.
fn table(rows: &[[String; 6]]) -> String {
    let mut widths = [9; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: String =
            row.iter().zip(widths).take(5).map(|(cell, width)| format!("{cell:<width$}   ")).collect();
        text.push_str(&cells);
        text.push_str(row.last().map(String::as_str).unwrap_or_default());
        text.push('\n');
    }
    text
}

pub(super) fn kill(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let record = Record::load(&directory)?;
    let name = flags.positional.get(1).map_or("SIGTERM", String::as_str);
    let signal = sys::signal::parse(name).ok_or_else(|| format!("unknown signal {name:?}"))?;
    if flags.has("all") {
        for pid in record.cgroup()?.processes()? {
            if let Ok(process) = sys::pidfd::open(pid) {
                sys::pidfd::send_signal(process.as_fd(), signal).ok();
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let process = record.process().ok_or("container not running")?;
    sys::pidfd::send_signal(process.as_fd(), signal)?;
    // A frozen process would keep its death to itself.
    if signal == libc::SIGKILL && record.status(&directory) == Status::Paused {
        record.cgroup()?.thaw()?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn delete(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let force = flags.has("force");
    let record = match Record::load(&directory) {
        Err(_) if force && !directory.exists() => return Ok(ExitCode::SUCCESS),
        Err(_) if force => {
            std::fs::remove_dir_all(&directory)?;
            return Ok(ExitCode::SUCCESS);
        }
        other => other?,
    };
    match record.status(&directory) {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => {
            let text =
                format!("cannot delete container {} that is not stopped: {}", record.id, status_word(status));
            return Err(text.into());
        }
    }
    destroy(&record, &directory)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends what still runs and removes all traces.
pub(super) fn destroy(record: &Record, directory: &Path) -> Result<(), Failure> {
    let cgroup = record.cgroup()?;
    if let Some(process) = record.process() {
        sys::pidfd::kill(process.as_fd())?;
        if cgroup.is_frozen().unwrap_or(false) {
            cgroup.thaw()?;
        }
        // Ours if this command made it; somebody else's otherwise.
        sys::pidfd::ended_within(process.as_fd(), Duration::from_secs(10))?;
        sys::pidfd::try_wait(process.as_fd()).ok();
    }
    // With a shared process namespace the end of the init does not end the rest.
    cgroup.kill()?;
    cgroup.delete()?;
    if record.host_mounts {
        sys::mount::detach(&record.rootfs)?;
    }
    std::fs::remove_dir_all(directory)?;
    let hooks = record.spec.hooks.clone().unwrap_or_default();
    // The container is gone: a failing hook changes nothing about that (runtime.md, *Lifecycle*).
    hooks::run(&hooks.poststop, &record.state(Status::Stopped)).ok();
    Ok(())
}

pub(super) fn ps(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let record = Record::load(&globals.container(flags)?)?;
    let pids = record.cgroup()?.processes()?;
    if flags.value("format") == Some("json") {
        return print(&format!("{}\n", serde_json::to_string(&pids)?));
    }
    let (output, into) = std::io::pipe()?;
    let mut command = sys::process::Command::new(Path::new("/bin/ps"));
    command.descriptor(into.as_fd(), 1).inherit_environment();
    match flags.positional.get(1..).filter(|given| !given.is_empty()) {
        Some(given) => given.iter().for_each(|argument| {
            command.argument(argument);
        }),
        None => {
            command.argument("-ef");
        }
    }
    let child = command.spawn()?;
    drop(command);
    drop(into);
    let text = sys::path::read_fd_to_end(output.as_fd(), 64 << 20)?;
    child.wait()?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or("couldn't find PID field in ps output")?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|text| text.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let rest: String = lines.filter(ours).map(|line| format!("{line}\n")).collect();
    print(&format!("{title}\n{rest}"))
}

pub(super) fn pause(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let record = Record::load(&directory)?;
    match record.status(&directory) {
        Status::Running | Status::Created => record.cgroup()?.freeze()?,
        _ => return Err("container not running or created".into()),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn resume(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let record = Record::load(&directory)?;
    if record.status(&directory) != Status::Paused {
        return Err("container not paused".into());
    }
    record.cgroup()?.thaw()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn update(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let mut record = Record::load(&directory)?;
    for name in ["l3-cache-schema", "mem-bw-schema"] {
        if flags.value(name).is_some() {
            return Err(format!("--{name}: linux.intelRdt is not supported").into());
        }
    }
    let resources = match flags.value("resources") {
        Some("-") => serde_json::from_reader(std::io::stdin())?,
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None => from_flags(flags)?,
    };
    record.cgroup()?.update(&resources)?;
    let linux = record.spec.linux.get_or_insert_default();
    linux.resources = Some(merged(linux.resources.take().unwrap_or_default(), &resources)?);
    record.save(&directory)?;
    Ok(ExitCode::SUCCESS)
}

/// All limits that hold after `asked` were set beside those that are `known`.
fn merged(known: Resources, asked: &Resources) -> Result<Resources, Failure> {
    /// What is named replaces, in objects part by part.
    fn put(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    put(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }
    let mut pages = known.hugepage_limits.clone();
    pages.retain(|one| asked.hugepage_limits.iter().all(|other| other.page_size != one.page_size));
    pages.extend_from_slice(&asked.hugepage_limits);
    let mut all = serde_json::to_value(known)?;
    put(&mut all, serde_json::to_value(asked)?);
    Ok(Resources { hugepage_limits: pages, ..serde_json::from_value(all)? })
}

fn from_flags(flags: &Parsed) -> Result<Resources, Failure> {
    fn number<T: std::str::FromStr>(flags: &Parsed, name: &str) -> Result<Option<T>, Failure> {
        let wrong = |text: &str| format!("invalid value for {name}: {text:?}");
        flags.value(name).map(|text| text.parse().map_err(|_parse| wrong(text).into())).transpose()
    }
    fn bytes(flags: &Parsed, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = flags.value(name) else { return Ok(None) };
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = match text.get(digits.len()..).unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "b" => 1_i64,
            "k" | "kb" => 1 << 10,
            "m" | "mb" => 1 << 20,
            "g" | "gb" => 1 << 30,
            _ => return Err(format!("invalid value for {name}: {text:?}").into()),
        };
        Ok(Some(digits.parse::<i64>()?.saturating_mul(unit)))
    }
    Ok(Resources {
        memory: Some(Memory {
            limit: bytes(flags, "memory")?,
            swap: bytes(flags, "memory-swap")?,
            reservation: bytes(flags, "memory-reservation")?,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: number(flags, "cpu-share")?,
            quota: number(flags, "cpu-quota")?,
            period: number(flags, "cpu-period")?,
            burst: number(flags, "cpu-burst")?,
            idle: number(flags, "cpu-idle")?,
            realtime_period: number(flags, "cpu-rt-period")?,
            realtime_runtime: number(flags, "cpu-rt-runtime")?,
            cpus: flags.value("cpuset-cpus").map(str::to_owned),
            mems: flags.value("cpuset-mems").map(str::to_owned),
        }),
        pids: number(flags, "pids-limit")?.map(|limit| Pids { limit: Some(limit) }),
        block_io: number(flags, "blkio-weight")?
            .map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..Resources::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_are_kept_beside_new_ones() {
        let check = |known: Value, asked: Value, expect: Value| {
            let [known, asked, expect] =
                [known, asked, expect].map(|one| serde_json::from_value::<Resources>(one).unwrap());
            assert_eq!(merged(known, &asked).unwrap(), expect);
        };
        let memory = json!({ "memory": { "limit": 5, "swap": 9 }, "pids": { "limit": 3 } });
        check(json!({}), memory.clone(), memory.clone());
        check(memory.clone(), json!({}), memory.clone());
        check(
            memory,
            json!({ "memory": { "limit": 6 }, "cpu": { "quota": -1 } }),
            json!({ "memory": { "limit": 6, "swap": 9 }, "pids": { "limit": 3 }, "cpu": { "quota": -1 } }),
        );
        check(
            json!({ "unified": { "a": "1", "b": "2" }, "hugepageLimits": [{ "pageSize": "2MB", "limit": 1 }, { "pageSize": "1GB", "limit": 1 }] }),
            json!({ "unified": { "b": "3" }, "hugepageLimits": [{ "pageSize": "2MB", "limit": 7 }] }),
            json!({ "unified": { "a": "1", "b": "3" }, "hugepageLimits": [{ "pageSize": "1GB", "limit": 1 }, { "pageSize": "2MB", "limit": 7 }] }),
        );
    }

    #[test]
    fn columns_line_up() {
        let row = |id: &str| [id, "1", "running", "/b", "now", "root"].map(str::to_owned);
        let text = table(&[row("ID"), row("a-long-identifier")]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("running"), lines[1].find("running"));
    }
}
