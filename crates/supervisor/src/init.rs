//! The init of containers with `--init`: PID 1 that starts one program, passes signals on, and reaps.
//!
//! The engine binds the executable at `/sbin/docker-init` and runs `docker-init -- COMMAND…`, as Docker does; `wharf` picks
//! this role by that name. A PID 1 has no default signal actions and inherits every orphan, which programs do not expect.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// `SIGCHLD`, signal(7).
const CHILD: i32 = 17;
/// Signals that are not passed on: those of this process's own faults, and those nobody can catch.
const OWN: [i32; 8] = [4, 5, 6, 7, 8, 9, 11, 19];

/// Runs the program named after `--` and returns its exit status, 128 + n after signal n.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let command = match arguments {
        [_, dashes, command @ ..] if dashes == "--" => command,
        [_, command @ ..] => command,
        [] => &[],
    };
    let Some((program, rest)) = command.split_first() else {
        complain("usage: docker-init -- COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    match run(program, rest) {
        Ok(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        Err(error) => {
            complain(&format!("docker-init: {}", base::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(program: &str, arguments: &[String]) -> Result<i32, sys::Error> {
    let passed: Vec<i32> = (1..=sys::signal::MAX).filter(|signal| !OWN.contains(signal)).collect();
    let signals = sys::signal::descriptor(&passed)?;
    // The child begins with an empty mask and a process group of its own, which gets the terminal.
    let spawned = Command::new(program).args(arguments).process_group(0).spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(error) => {
            complain(&format!("docker-init: exec {program}: {error}"));
            return Ok(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(1) };
    if rustix::termios::isatty(std::io::stdin()) {
        // Without it the child would be stopped at its first read.
        rustix::termios::tcsetpgrp(std::io::stdin(), pid).ok();
    }
    loop {
        if let Some(code) = reap(pid) {
            return Ok(code);
        }
        let mut waiting = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(sys::Error::new("poll", "signals", errno)),
        }
        while let Some((signal, _sender)) = sys::signal::take(signals.as_fd())? {
            if signal != CHILD
                && let Some(signal) = Signal::from_named_raw(signal)
            {
                kill_process(pid, signal).ok();
            }
        }
    }
}

/// Reaps all that has ended; returns the exit code of `child` if it is among them.
fn reap(child: Pid) -> Option<i32> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            return Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (None, Some(signal)) => 128 + signal,
                (None, None) => continue,
            });
        }
    }
    None
}

fn complain(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
