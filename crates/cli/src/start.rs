//! Starts a daemon when a command needs one and none is there.
//!
//! Whoever holds the lock file starts it; the others wait for it to answer. The daemon gets a session of its own by
//! way of a hidden command ([`DETACHED`]), and its output goes to a log beside its run-time state.

use crate::error::{Error, Result};
use base::paths::{DEFAULT_EXEC, ExecPaths};
use client::Client;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The hidden command that leaves the session and becomes the daemon.
pub(crate) const DETACHED: &str = "__start-daemon";
/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether it answers.
const PAUSE: Duration = Duration::from_millis(5);
/// Lines of its log that are shown if it fails.
const LAST_LINES: usize = 10;

/// Starts a daemon at the default socket, unless another process is just doing so, and waits until it answers.
pub(crate) fn daemon(client: &Client) -> Result<()> {
    let paths = ExecPaths::new(DEFAULT_EXEC);
    let shown = |path: &std::path::Path| path.display().to_string();
    std::fs::create_dir_all(paths.root()).map_err(|_unwritable| cannot_connect(client))?;
    let lock_path = paths.root().join("start.lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(|_unwritable| cannot_connect(client))?;
    lock.lock().map_err(Error::file("lock", shown(&lock_path)))?;
    // The lock may have been waited for: meanwhile another process has started one.
    if client.ping().is_ok() {
        return Ok(());
    }
    let log_path = paths.daemon_log();
    let log = OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.map_err(Error::file("open", shown(&log_path)))?;
    let before = log.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let mut child = spawn(&log)?;
    let deadline = Instant::now() + PATIENCE;
    while client.ping().is_err() {
        let ended = child.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > deadline {
            let what = match ended {
                Some(status) => format!("the daemon ended with {status}"),
                None => format!("the daemon did not answer within {} s", PATIENCE.as_secs()),
            };
            let last = last_lines(&std::fs::read(&log_path).unwrap_or_default(), before);
            return Err(Error::message(format!("{what}; {}:\n{last}", shown(&log_path))));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn cannot_connect(client: &Client) -> Error {
    Error::message(format!(
        "Cannot connect to the Docker daemon at {}. Is the docker daemon running?",
        client.host()
    ))
}

fn spawn(log: &File) -> Result<Child> {
    let executable = std::env::current_exe().map_err(Error::file("find", "this executable"))?;
    let output = || log.try_clone().map(Stdio::from).map_err(Error::file("open", "the daemon's log"));
    Command::new(&executable)
        .arg0("wharf")
        .arg(DETACHED)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output()?)
        .stderr(output()?)
        .spawn()
        .map_err(Error::file("start", executable.display().to_string()))
}

/// Leaves the session of the command that started it and becomes `wharf daemon`; returns only on failure.
pub(crate) fn become_daemon() -> Error {
    let executable = match std::env::current_exe() {
        Ok(executable) => executable,
        Err(error) => return Error::file("find", "this executable")(error),
    };
    // Fails only for the leader of a process group, which then has what it wants.
    let _session = rustix::process::setsid();
    let error = Command::new(&executable).arg0("wharf").arg("daemon").exec();
    Error::file("execute", executable.display().to_string())(error)
}

fn last_lines(log: &[u8], from: u64) -> String {
    let new = log.get(usize::try_from(from).unwrap_or(0)..).unwrap_or(log);
    let text = String::from_utf8_lossy(new);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LAST_LINES);
    lines.into_iter().skip(skipped).collect::<Vec<_>>().join("\n")
}
