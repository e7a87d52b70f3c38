//! What the proxy and the resolver do with their epoll descriptors.

use crate::Error;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// The events taken in one go.
const EVENTS: usize = 64;

/// Returns the events that are there. Never waits.
pub(crate) fn events(epoll: &OwnedFd, object: &'static str) -> Result<Vec<Event>, Error> {
    let mut events = Vec::with_capacity(EVENTS);
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&now)) {
            Ok(_) => return Ok(events),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(sys::Error::new("epoll_wait", object, errno).into()),
        }
    }
}

/// Reports what happens to `fd` under `token`.
pub(crate) fn watch(
    epoll: &OwnedFd,
    fd: impl AsFd,
    token: u64,
    flags: EventFlags,
    object: &'static str,
) -> Result<(), Error> {
    epoll::add(epoll, fd, EventData::new_u64(token), flags)
        .map_err(|errno| sys::Error::new("epoll_ctl", object, errno).into())
}
