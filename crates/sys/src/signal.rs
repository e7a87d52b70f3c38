//! Signals: names and numbers, masks, signal descriptors.

use crate::raw::{self, MaskChange};
use crate::{Error, Result};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// The names of signal(7) for Linux on x86-64 and aarch64, without `SIG`.
const NAMES: [(&str, i32); 37] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
    // Second names come last, so that the first is the one shown.
    ("IOT", 6),
    ("CLD", 17),
    ("POLL", 29),
    ("UNUSED", 31),
];

/// The highest signal number.
pub const MAX: i32 = 64;

/// Parses "15", "TERM", "SIGTERM", "term", "RTMIN+3" or "SIGRTMAX-1"; `None` for anything else (also 0).
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN+") {
        return offset
            .parse::<i32>()
            .ok()
            .filter(|offset| (0..=30).contains(offset))
            .map(|offset| 34 + offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX-") {
        return offset
            .parse::<i32>()
            .ok()
            .filter(|offset| (0..=30).contains(offset))
            .map(|offset| 64 - offset);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// Returns the name of a signal with its `SIG` ("SIGTERM"), or the number of one without a name.
pub fn name(signal: i32) -> String {
    match NAMES.iter().find(|(_, number)| *number == signal) {
        Some((name, _)) => format!("SIG{name}"),
        None if (35..=49).contains(&signal) => format!("SIGRTMIN+{}", signal - 34),
        None if (50..64).contains(&signal) => format!("SIGRTMAX-{}", 64 - signal),
        None => signal.to_string(),
    }
}

/// Returns the mask of a set of signals (bit N-1 is signal N).
pub fn mask(signals: &[i32]) -> u64 {
    signals
        .iter()
        .filter(|signal| (1..=MAX).contains(*signal))
        .fold(0, |mask, signal| mask | 1 << (signal - 1))
}

/// Blocks `signals` in this thread; returns the old mask.
///
/// # Errors
///
/// Those of `rt_sigprocmask(2)`.
pub fn block(signals: &[i32]) -> Result<u64> {
    raw::sigprocmask(MaskChange::Block, mask(signals)).map_err(Error::on("rt_sigprocmask", "block"))
}

/// Replaces this thread's mask; returns the old one.
///
/// # Errors
///
/// Those of `rt_sigprocmask(2)`.
pub fn set_mask(mask: u64) -> Result<u64> {
    raw::sigprocmask(MaskChange::Set, mask).map_err(Error::on("rt_sigprocmask", "set"))
}

/// Blocks `signals` in this thread and returns a descriptor that is readable when one is pending. Not blocking.
///
/// # Errors
///
/// Those of `rt_sigprocmask(2)` and signalfd4(2).
pub fn descriptor(signals: &[i32]) -> Result<OwnedFd> {
    block(signals)?;
    raw::signalfd(mask(signals)).map_err(Error::on("signalfd4", "signals"))
}

/// Takes one pending signal from a signal descriptor: its number and sender; `None` if none is pending.
///
/// # Errors
///
/// Those of read(2).
pub fn take(descriptor: BorrowedFd<'_>) -> Result<Option<(i32, u32)>> {
    // struct signalfd_siginfo: 128 bytes; ssi_signo at 0, ssi_pid at 12.
    let mut info = [0_u8; 128];
    match rustix::io::read(descriptor, &mut info) {
        Ok(128) => {
            let [a, b, c, d, ..] = info;
            let signal = i32::from_ne_bytes([a, b, c, d]);
            let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] = info;
            Ok(Some((signal, u32::from_ne_bytes([a, b, c, d]))))
        }
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(Error::new("read", "signalfd", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_docker_parses() {
        for (text, number) in [
            ("15", Some(15)),
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("sigterm", Some(15)),
            ("kill", Some(9)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-14", Some(50)),
            ("RTMIN", Some(34)),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("NOPE", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }

    #[test]
    fn every_number_has_a_name_that_parses_back() {
        for number in 1..=MAX {
            assert_eq!(parse(&name(number)), Some(number), "{number}");
        }
        assert_eq!(name(6), "SIGABRT");
    }

    #[test]
    fn a_blocked_signal_is_read_from_its_descriptor() {
        use rustix::fd::AsFd;
        std::thread::spawn(|| {
            let descriptor = descriptor(&[libc::SIGUSR2]).unwrap();
            assert_eq!(take(descriptor.as_fd()).unwrap(), None);
            // SAFETY: raises a signal that this thread has blocked.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
            assert_eq!(take(descriptor.as_fd()).unwrap().unwrap().0, libc::SIGUSR2);
        })
        .join()
        .unwrap();
    }
}
