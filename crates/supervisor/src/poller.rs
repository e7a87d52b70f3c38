//! One epoll, and names for what it watches.

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// So many events are taken at once.
const BATCH: usize = 32;

/// The number of a process: 0 is the container's first one, the others are execs and probes.
pub(crate) type Number = u32;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Somebody connects.
    Listener,
    /// A daemon's connection.
    Connection(u32),
    /// A process has ended.
    Exit(Number),
    /// A process wrote to its standard output, or to its terminal.
    Output(Number),
    /// A process wrote to its standard error.
    ErrorOutput(Number),
    /// A process can take more input.
    Input(Number),
    /// A client sent something, can take more, or is gone.
    Client(Number, u32),
    /// A connection to a published port.
    Ports,
    /// A question for the resolver.
    Resolver,
    /// The kernel may have killed something for want of memory.
    Memory,
}

impl Source {
    fn to_data(self) -> EventData {
        let (kind, process, index) = match self {
            Self::Listener => (0, 0, 0),
            Self::Connection(index) => (1, 0, index),
            Self::Exit(process) => (2, process, 0),
            Self::Output(process) => (3, process, 0),
            Self::ErrorOutput(process) => (4, process, 0),
            Self::Input(process) => (5, process, 0),
            Self::Client(process, index) => (6, process, index),
            Self::Ports => (7, 0, 0),
            Self::Memory => (8, 0, 0),
            Self::Resolver => (9, 0, 0),
        };
        EventData::new_u64(kind << 56 | u64::from(process & 0xff_ffff) << 32 | u64::from(index))
    }

    fn from_data(data: EventData) -> Option<Self> {
        let data = data.u64();
        let process = u32::try_from(data >> 32 & 0xff_ffff).ok()?;
        let index = u32::try_from(data & 0xffff_ffff).ok()?;
        Some(match data >> 56 {
            0 => Self::Listener,
            1 => Self::Connection(index),
            2 => Self::Exit(process),
            3 => Self::Output(process),
            4 => Self::ErrorOutput(process),
            5 => Self::Input(process),
            6 => Self::Client(process, index),
            7 => Self::Ports,
            8 => Self::Memory,
            9 => Self::Resolver,
            _ => return None,
        })
    }
}

/// What happened at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Where.
    pub(crate) source: Source,
    /// There is something to read, or an end.
    pub(crate) readable: bool,
    /// There is room to write.
    pub(crate) writable: bool,
    /// The other side is gone altogether.
    pub(crate) gone: bool,
}

/// What to wait for at a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Interest {
    /// For something to read.
    pub(crate) read: bool,
    /// For room to write.
    pub(crate) write: bool,
}

impl Interest {
    /// For something to read.
    pub(crate) const READ: Self = Self { read: true, write: false };
    /// For room to write.
    pub(crate) const WRITE: Self = Self { read: false, write: true };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// The epoll.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Starts to watch.
    pub(crate) fn add(&self, fd: impl AsFd, source: Source, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, source.to_data(), interest.flags())
    }

    /// Watches for something else.
    pub(crate) fn change(&self, fd: impl AsFd, source: Source, interest: Interest) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, source.to_data(), interest.flags())
    }

    /// Stops to watch. Needed before closing only if the file is open elsewhere too; not being watched is fine.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        epoll::delete(&self.epoll, fd).ok();
    }

    /// Waits for events, at most `limit`.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Vec<Ready>, Errno> {
        let limit = limit.map(sys::event::timespec);
        let mut events = Vec::with_capacity(BATCH);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(events
            .iter()
            .filter_map(|event| {
                let flags = event.flags;
                Some(Ready {
                    source: Source::from_data(event.data)?,
                    readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
                    writable: flags.contains(EventFlags::OUT),
                    gone: flags.intersects(EventFlags::HUP | EventFlags::ERR),
                })
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_the_kernel() {
        for source in [
            Source::Listener,
            Source::Connection(7),
            Source::Exit(0),
            Source::Output(1),
            Source::ErrorOutput(0xff_ffff),
            Source::Input(3),
            Source::Client(4, u32::MAX),
            Source::Ports,
            Source::Resolver,
            Source::Memory,
        ] {
            assert_eq!(Source::from_data(source.to_data()), Some(source));
        }
    }
}
