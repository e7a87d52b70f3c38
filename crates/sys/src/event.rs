//! Waiting: poll with a limit, event and timer descriptors.
//!
//! `rustix::event::epoll`, `rustix::time` (timerfd) and `rustix::fs::inotify` are used directly.

use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use std::time::{Duration, Instant};

/// Converts a duration for the kernel; what does not fit is "for ever" for all practical ends.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Waits until `fd` is readable (or at its end), at most `limit` (`None`: for ever); says whether it is.
///
/// # Errors
///
/// Those of poll(2) but `INTR`.
pub fn readable_within(fd: BorrowedFd<'_>, limit: Option<Duration>) -> Result<bool> {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("poll", "descriptor", errno)),
        }
    }
}

/// Makes a timer descriptor that has not been set yet. Not blocking, monotonic clock.
///
/// # Errors
///
/// Those of `timerfd_create(2)`.
pub fn timer() -> Result<OwnedFd> {
    rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
        .map_err(Error::on("timerfd_create", "monotonic"))
}

/// Lets `timer` become readable once, after `delay`; `None` stops it. A zero delay fires at once.
///
/// # Errors
///
/// Those of `timerfd_settime(2)`.
pub fn set_timer(timer: BorrowedFd<'_>, delay: Option<Duration>) -> Result<()> {
    let zero = timespec(Duration::ZERO);
    let value = match delay {
        None => zero,
        Some(delay) => timespec(delay.max(Duration::from_nanos(1))),
    };
    rustix::time::timerfd_settime(
        timer,
        TimerfdTimerFlags::empty(),
        &Itimerspec { it_interval: zero, it_value: value },
    )
    .map(drop)
    .map_err(Error::on("timerfd_settime", "timer"))
}

/// Reads the pending count of a timer or event descriptor, so that it stops being readable.
pub fn drain(fd: BorrowedFd<'_>) {
    let mut count = [0; 8];
    // Nothing pending is fine: the caller only wants silence.
    rustix::io::read(fd, &mut count).ok();
}

/// Makes an event descriptor (eventfd(2)), not blocking.
///
/// # Errors
///
/// Those of eventfd(2).
pub fn event() -> Result<OwnedFd> {
    use rustix::event::EventfdFlags;
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(Error::on("eventfd", "counter"))
}

/// Makes an event descriptor readable.
///
/// # Errors
///
/// Those of write(2).
pub fn notify(event: BorrowedFd<'_>) -> Result<()> {
    match rustix::io::write(event, &1_u64.to_ne_bytes()) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(errno) => Err(Error::new("write", "eventfd", errno)),
    }
}
