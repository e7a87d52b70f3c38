//! Terminals on this side: handed to whoever asked for them, or copied to our own.

use super::Failure;
use super::arguments::Parsed;
use crate::Stdio;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};
use std::path::Path;
use sys::pidfd::Exit;

/// Checks before anything is made that a terminal has somewhere to go, and only a terminal that is left to itself.
pub(super) fn check(flags: &Parsed, terminal: bool, detach: bool) -> Result<(), Failure> {
    match flags.value("console-socket") {
        None if detach && terminal => {
            Err("cannot allocate tty if runc will detach without setting console socket".into())
        }
        Some(_) if !detach || !terminal => {
            Err("cannot use console socket if runc will not detach or allocate tty".into())
        }
        _ => Ok(()),
    }
}

/// Sends the master over the socket at `path`, as runc's *terminals.md* says.
pub(super) fn send(path: &Path, master: BorrowedFd<'_>) -> Result<(), Failure> {
    let socket = sys::socket::connect_stream(path)?;
    Ok(sys::socket::send_with_fds(socket.as_fd(), b"/dev/ptmx", &[master])?)
}

/// Sends a pidfd of a process over the socket that is named for it, if one is.
pub(super) fn send_process(flags: &Parsed, process: BorrowedFd<'_>) -> Result<(), Failure> {
    let Some(path) = flags.value("pidfd-socket") else { return Ok(()) };
    let socket = sys::socket::connect_stream(Path::new(path))?;
    Ok(sys::socket::send_with_fds(socket.as_fd(), b"pidfd", &[process])?)
}

/// This process's own descriptors 0, 1 and 2, for a container.
pub(super) fn own_streams() -> Result<Stdio, Failure> {
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
    Ok(Stdio::Streams {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}

/// Our own terminal in raw mode, until dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn begin() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = rustix::termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before).ok();
    }
}

/// Waits for the end of `process`, passing on our signals and, if there is one, copying between its terminal and ours.
pub(super) fn attend(process: BorrowedFd<'_>, master: Option<BorrowedFd<'_>>) -> Result<Exit, Failure> {
    const PASSED: [i32; 7] = [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
    ];
    let signals = sys::signal::descriptor(&PASSED)?;
    let _raw = master.and_then(|_| Raw::begin());
    if let Some(master) = master {
        copy_size(master);
    }
    let mut open = master;
    let mut input = master.is_some();
    loop {
        let stdin = std::io::stdin();
        let mut polled = vec![
            PollFd::from_borrowed_fd(process, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        if let Some(master) = open {
            polled.push(PollFd::from_borrowed_fd(master, PollFlags::IN));
            if input {
                polled.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
            }
        }
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Box::new(std::io::Error::from(errno))),
        }
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        let is = |place: usize| ready.get(place).copied().unwrap_or(false);
        if is(1) {
            pass_signal(signals.as_fd(), process, master)?;
        }
        if let Some(terminal) = open {
            if is(2) && !copy(terminal, std::io::stdout().as_fd()) {
                open = None;
            }
            if is(3) && !copy(stdin.as_fd(), terminal) {
                input = false;
            }
        }
        if is(0) && !(is(2) && open.is_some()) {
            return Ok(sys::pidfd::wait(process)?);
        }
    }
}

fn pass_signal(
    signals: BorrowedFd<'_>,
    process: BorrowedFd<'_>,
    master: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    while let Some((signal, _)) = sys::signal::take(signals)? {
        match (signal, master) {
            (libc::SIGWINCH, Some(master)) => copy_size(master),
            (libc::SIGWINCH, None) => {}
            // One that has ended needs none.
            (signal, _) => {
                sys::pidfd::send_signal(process, signal).ok();
            }
        }
    }
    Ok(())
}

fn copy_size(master: BorrowedFd<'_>) {
    if let Ok((rows, columns)) = sys::terminal::size(std::io::stdin().as_fd()) {
        sys::terminal::resize(master, rows, columns).ok();
    }
}

/// Copies what is there; `false` at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 8192];
    let length = match rustix::io::read(from, &mut buffer) {
        Ok(0) => return false,
        Ok(length) => length,
        Err(Errno::INTR | Errno::AGAIN) => return true,
        // A terminal whose last user is gone.
        Err(_) => return false,
    };
    let mut rest = buffer.get(..length).unwrap_or_default();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}
