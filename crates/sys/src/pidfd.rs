//! Processes by descriptor: no number that may be reused in between.

use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use std::time::Duration;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
}

impl Exit {
    /// Returns the code as shells show it: 128 + N for signal N.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    fn from_status(status: &WaitIdStatus) -> Option<Self> {
        let signal = || status.terminating_signal().map(Self::Signal);
        status.exit_status().map(Self::Code).or_else(signal)
    }
}

/// Opens a descriptor for the process `pid`.
///
/// # Errors
///
/// `SRCH` if there is none.
pub fn open(pid: i32) -> Result<OwnedFd> {
    let failed = |errno| Error::new("pidfd_open", pid, errno);
    let number = Pid::from_raw(pid).ok_or(Errno::SRCH).map_err(failed)?;
    rustix::process::pidfd_open(number, PidfdFlags::empty()).map_err(failed)
}

/// Sends `signal` (a number of signal(7), 0 to only ask) to the process.
///
/// # Errors
///
/// `SRCH` if it has been reaped, `INVAL` for an unknown signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    use rustix::fd::AsRawFd;
    // rustix's `Signal` has no zero and refuses the C library's reserved numbers; containers may use all.
    // SAFETY: no siginfo is passed, the rest are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    Err(Error::new("pidfd_send_signal", signal, errno))
}

/// Kills the process; one that is gone already is fine.
///
/// # Errors
///
/// Those of `pidfd_send_signal(2)` but `SRCH`.
pub fn kill(pidfd: BorrowedFd<'_>) -> Result<()> {
    match send_signal(pidfd, Signal::KILL.as_raw()) {
        Err(error) if error.errno() == Errno::SRCH => Ok(()),
        other => other,
    }
}

/// Duplicates descriptor `number` of the process into this one.
///
/// # Errors
///
/// Those of `pidfd_getfd(2)`.
pub fn get_fd(pidfd: BorrowedFd<'_>, number: i32) -> Result<OwnedFd> {
    rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
        .map_err(|errno| Error::new("pidfd_getfd", number, errno))
}

/// Returns the number of the process, as `/proc` shows it.
///
/// # Errors
///
/// `SRCH` if it has been reaped, those of reading `/proc/self/fdinfo`.
pub fn number(pidfd: BorrowedFd<'_>) -> Result<i32> {
    use rustix::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = crate::path::read_to_end(std::path::Path::new(&path))?;
    let text = String::from_utf8_lossy(&text);
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::new("read", path, Errno::SRCH))
}

/// Waits until the child has ended and reaps it.
///
/// # Errors
///
/// `CHILD` if it is not a child of this process.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                if let Some(exit) = Exit::from_status(&status) {
                    return Ok(exit);
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("waitid", "pidfd", errno)),
        }
    }
}

/// Reaps the child if it has ended; `None` if it still runs.
///
/// # Errors
///
/// `CHILD` if it is not a child of this process.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
        Ok(status) => Ok(status.as_ref().and_then(Exit::from_status)),
        Err(errno) => Err(Error::new("waitid", "pidfd", errno)),
    }
}

/// Waits until the process (of whatever parent) has ended, at most `limit`; says whether it has.
///
/// # Errors
///
/// Those of poll(2).
pub fn ended_within(pidfd: BorrowedFd<'_>, limit: Duration) -> Result<bool> {
    crate::event::readable_within(pidfd.as_fd(), Some(limit))
}
