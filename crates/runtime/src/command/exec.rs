//! `exec`.

use super::arguments::{Flag, Parsed};
use super::record::Record;
use super::{Failure, Globals, console, notify, unprivileged, write_atomically};
use crate::prepare::{Extras, Unprivileged};
use crate::{ImageUser, Join, Stdio, validate};
use oci::runtime::{Process, Status};
use rustix::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("console-socket", "unix socket that is sent the master of the terminal"),
    Flag::value("cwd", "working directory in the container"),
    Flag::value("env", "set a variable of the environment, as NAME=VALUE").short('e'),
    Flag::switch("tty", "give the process a terminal").short('t'),
    Flag::value("user", "user, and group, as UID[:GID]").short('u'),
    Flag::value("additional-gids", "a further group").short('g'),
    Flag::value("process", "file with the whole process, as in config.json").short('p'),
    Flag::switch("detach", "do not wait for the end of the process").short('d'),
    Flag::value("pid-file", "file to write the number of the process to"),
    Flag::value("process-label", "SELinux label of the process"),
    Flag::value("apparmor", "AppArmor profile of the process"),
    Flag::switch("no-new-privs", "never let the process gain privileges"),
    Flag::value("cap", "a capability to add").short('c'),
    Flag::value(
        "preserve-fds",
        "how many descriptors beyond the standard streams and $LISTEN_FDS the process keeps (default: 0)",
    ),
    Flag::value("cgroup", "a cgroup below the container's that is there already, as [CONTROLLER[,...]:]PATH"),
    Flag::switch("ignore-paused", "also in a paused container"),
    Flag::value("pidfd-socket", "unix socket that is sent a pidfd of the process"),
];

pub(super) fn exec(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let (passed, preserved) = notify::preserved(flags)?;
    let directory = globals.container(flags)?;
    let record = Record::load(&directory)?;
    match record.status(&directory) {
        Status::Stopped => return Err("cannot exec in a stopped container".into()),
        Status::Paused if !flags.has("ignore-paused") => {
            return Err("cannot exec in a paused container".into());
        }
        _ => {}
    }
    let mut process = process(&record, flags)?;
    notify::announce(passed, &mut process.env);
    validate::check_process(&process)?;
    let detach = flags.has("detach");
    console::check(flags, process.terminal, detach)?;
    let pidfd = record.process().ok_or("cannot exec in a stopped container")?;
    let parts: Vec<&str> = flags.all("cgroup").collect();
    let cgroup = record.cgroup()?.below(&parts)?;
    let stdio = if process.terminal { Stdio::Terminal } else { console::own_streams()? };
    let seccomp = record.spec.linux.as_ref().and_then(|linux| linux.seccomp.clone());
    let extras = Extras {
        state: Some(record.state(Status::Running)),
        preserved,
        unprivileged: unprivileged::is_needed().then_some(Unprivileged { fixed_groups: record.fixed_groups }),
        ..Extras::default()
    };
    let join = Join {
        init_pid: record.pid,
        init_pidfd: pidfd.as_fd(),
        process,
        seccomp,
        stdio,
        user: None::<ImageUser>,
        cgroup: &cgroup,
        identity: None,
    };
    let joined = crate::exec::exec_with(join, &extras)?;
    if let Some(path) = flags.value("pid-file") {
        write_atomically(Path::new(path), joined.pid.to_string().as_bytes())?;
    }
    console::send_process(flags, joined.pidfd.as_fd())?;
    let master = joined.terminal;
    if detach {
        if let (Some(path), Some(master)) = (flags.value("console-socket"), &master) {
            console::send(Path::new(path), master.as_fd())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let exit = console::attend(joined.pidfd.as_fd(), master.as_ref().map(AsFd::as_fd))?;
    Ok(ExitCode::from(u8::try_from(exit.code()).unwrap_or(255)))
}

/// The container's process with what the flags change, or the one of a file.
fn process(record: &Record, flags: &Parsed) -> Result<Process, Failure> {
    if let Some(path) = flags.value("process") {
        return Ok(serde_json::from_slice(&std::fs::read(path)?)?);
    }
    let mut process = record.spec.process.clone().unwrap_or_default();
    process.args = flags.positional.get(1..).unwrap_or_default().to_vec();
    if process.args.is_empty() {
        return Err("exec args cannot be empty".into());
    }
    process.terminal = flags.has("tty");
    process.env.extend(flags.all("env").map(str::to_owned));
    if let Some(cwd) = flags.value("cwd") {
        cwd.clone_into(&mut process.cwd);
    }
    if let Some(user) = flags.value("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid =
            uid.parse().map_err(|error| format!("parsing {uid} as int for uid failed: {error}"))?;
        if let Some(gid) = gid {
            process.user.gid =
                gid.parse().map_err(|error| format!("parsing {gid} as int for gid failed: {error}"))?;
        }
    }
    for gid in flags.all("additional-gids") {
        process.user.additional_gids.push(gid.parse()?);
    }
    if flags.has("no-new-privs") {
        process.no_new_privileges = true;
    }
    process.apparmor_profile = flags.value("apparmor").map(str::to_owned).or(process.apparmor_profile);
    process.selinux_label = flags.value("process-label").map(str::to_owned).or(process.selinux_label);
    if let Some(sets) = &mut process.capabilities {
        for name in flags.all("cap").map(str::to_owned) {
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted, &mut sets.ambient] {
                set.push(name.clone());
            }
        }
    }
    Ok(process)
}
