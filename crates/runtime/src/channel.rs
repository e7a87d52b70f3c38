//! The socket between parent and child: one byte one way, one small message the other.
//!
//! The child's end is closed by exec, so that the parent sees the end of the stream when the program runs.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;

/// What the parent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Signal {
    /// The child is in its cgroups (and user mappings): it may go on.
    Attached = b'A',
    /// The program may be executed.
    Start = b'S',
    /// The hooks of the runtime's side have run.
    Hooks = b'H',
    /// The listener of the filter has been given away.
    Listener = b'L',
}

/// What the child says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Set up and waiting for the start.
    Ready,
    /// The master of a terminal comes along.
    Terminal,
    /// It is time for the hooks of the runtime's side: everything but the change of root is done.
    Hooks,
    /// The filter's listener has this number.
    Listener(u32),
    /// The init has begun in the user namespace; its descriptor comes along.
    Begun,
    /// A step failed.
    Failed(Failure),
}

/// Where the child failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Index of the step; [`Failure::FINISH`] for the last part.
    pub(crate) step: u32,
    /// What part of it.
    pub(crate) part: u32,
    /// The kernel's answer.
    pub(crate) errno: Errno,
}

impl Failure {
    /// The step number of the last part.
    pub(crate) const FINISH: u32 = u32::MAX;
    /// The step number of joining a user namespace, which comes before the first.
    pub(crate) const USER_NAMESPACE: u32 = u32::MAX - 1;
}

const LENGTH: usize = 16;
const READY: u32 = 0;
const FAILED: u32 = 1;
const TERMINAL: u32 = 2;
const HOOKS: u32 = 3;
const LISTENER: u32 = 4;
const BEGUN: u32 = 5;

impl Report {
    /// Sends it from the child. Allocates nothing.
    pub(crate) fn send(self, channel: BorrowedFd<'_>) -> Result<(), Errno> {
        let bytes = self.to_bytes();
        retry(|| rustix::net::send(channel, &bytes, SendFlags::NOSIGNAL)).map(drop)
    }

    /// Sends it from the child by write(2), the one call that a filter with a listener never holds up. Allocates nothing.
    pub(crate) fn write(self, channel: BorrowedFd<'_>) -> Result<(), Errno> {
        let bytes = self.to_bytes();
        retry(|| rustix::io::write(channel, &bytes)).map(drop)
    }

    fn to_bytes(self) -> [u8; LENGTH] {
        let words = match self {
            Self::Ready => [READY, 0, 0, 0],
            Self::Terminal => [TERMINAL, 0, 0, 0],
            Self::Hooks => [HOOKS, 0, 0, 0],
            Self::Listener(number) => [LISTENER, number, 0, 0],
            Self::Begun => [BEGUN, 0, 0, 0],
            Self::Failed(failure) => {
                [FAILED, failure.step, failure.part, failure.errno.raw_os_error().unsigned_abs()]
            }
        };
        let mut bytes = [0_u8; LENGTH];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.chunks_exact(4).filter_map(|word| word.try_into().ok().map(u32::from_ne_bytes));
        match (words.next()?, words.next()?, words.next()?, words.next()?) {
            (READY, ..) => Some(Self::Ready),
            (TERMINAL, ..) => Some(Self::Terminal),
            (HOOKS, ..) => Some(Self::Hooks),
            (LISTENER, number, ..) => Some(Self::Listener(number)),
            (BEGUN, ..) => Some(Self::Begun),
            (FAILED, step, part, errno) => {
                let errno = Errno::from_raw_os_error(i32::try_from(errno).ok()?);
                Some(Self::Failed(Failure { step, part, errno }))
            }
            _ => None,
        }
    }
}

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Parent {
    socket: std::sync::Arc<OwnedFd>,
    /// Words that came before it was their turn.
    early: RefCell<VecDeque<Word>>,
}

/// What the child says, with the descriptor that comes along.
type Word = (Report, Option<OwnedFd>);

/// Makes both ends: the parent's, and a plain descriptor (above 2) for the child.
pub(crate) fn pair() -> Result<(Parent, OwnedFd), Error> {
    let (socket, child) = sys::socket::seqpacket_pair().map_err(Error::system("make the init channel"))?;
    let child = above_stdio(child)?;
    Ok((Parent::from_socket(socket), child))
}

/// Returns a descriptor with a number above 2: the child fills those below.
pub(crate) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Error> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, 3).map_err(|errno| Error::System {
        what: "duplicate a descriptor",
        source: sys::Error::new("fcntl", "dup", errno),
    })
}

impl Parent {
    /// Takes a socket whose other end a child listens to.
    pub(crate) fn from_socket(socket: OwnedFd) -> Self {
        Self { socket: std::sync::Arc::new(socket), early: RefCell::default() }
    }

    /// Closes the child's copy of this end, so that the child sees when the parent dies. Allocates and frees nothing; the
    /// child must not use or drop it any more.
    pub(crate) fn close_in_child(&self) {
        // SAFETY: this is the child, which has a table of descriptors of its own and never comes back to the owner.
        unsafe { rustix::io::close(self.socket.as_raw_fd()) }
    }

    /// Says whether the child has said something, or is gone.
    pub(crate) fn has_word(&self) -> bool {
        !self.early.borrow().is_empty()
            || sys::event::readable_within(self.socket.as_fd(), Some(std::time::Duration::ZERO))
                .unwrap_or(false)
    }

    /// The same end once more, for who takes over the child, which has said `early` already.
    pub(crate) fn again(&self, early: VecDeque<Word>) -> Self {
        Self { socket: self.socket.clone(), early: RefCell::new(early) }
    }

    /// Sends a signal. A child that is gone shows when it is listened to.
    pub(crate) fn send(&self, signal: Signal) {
        let bytes = [signal as u8];
        retry(|| rustix::net::send(&self.socket, &bytes, SendFlags::NOSIGNAL)).ok();
    }

    /// Waits for the child's next word, with the descriptor that comes along; `None` when its end is closed.
    pub(crate) fn receive(&self) -> Result<Option<Word>, Error> {
        if let Some(word) = self.early.borrow_mut().pop_front() {
            return Ok(Some(word));
        }
        let mut bytes = [0_u8; LENGTH];
        match sys::socket::recv_with_fds(self.socket.as_fd(), &mut bytes) {
            Ok((0, _)) => Ok(None),
            Ok((length, descriptors)) => {
                let report = Report::parse(bytes.get(..length).unwrap_or_default());
                Ok(report.map(|report| (report, descriptors.into_iter().next())))
            }
            Err(error) if error.errno() == Errno::CONNRESET => Ok(None),
            Err(source) => Err(Error::System { what: "wait for init", source }),
        }
    }
}

/// Sends a word with a descriptor from the child. Allocates nothing.
pub(crate) fn send_with(
    channel: BorrowedFd<'_>,
    report: Report,
    descriptor: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let bytes = report.to_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    rustix::net::sendmsg(channel, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Waits in the child for `signal`. Allocates nothing; says whether it came (otherwise the parent is gone).
pub(crate) fn wait(channel: BorrowedFd<'_>, signal: Signal) -> bool {
    let mut byte = [0_u8; 1];
    matches!(retry(|| rustix::io::read(channel, &mut byte)), Ok(1)) && byte == [signal as u8]
}

/// Says in the child whether the parent is gone. Allocates nothing.
pub(crate) fn is_orphan(channel: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(channel, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let hung_up = |watched: &PollFd<'_>| watched.revents().contains(PollFlags::HUP);
    matches!(retry(|| poll(&mut watched, Some(&at_once))), Ok(1)) && watched.iter().all(hung_up)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_they_were_said() {
        let (parent, child) = pair().unwrap();
        Report::Ready.send(child.as_fd()).unwrap();
        let failure = Failure { step: Failure::FINISH, part: 3, errno: Errno::NOENT };
        Report::Failed(failure).send(child.as_fd()).unwrap();
        send_with(child.as_fd(), Report::Terminal, child.as_fd()).unwrap();
        assert_eq!(parent.receive().unwrap().unwrap().0, Report::Ready);
        assert_eq!(parent.receive().unwrap().unwrap().0, Report::Failed(failure));
        let (report, descriptor) = parent.receive().unwrap().unwrap();
        assert!(report == Report::Terminal && descriptor.is_some());
        drop(descriptor);
        parent.send(Signal::Start);
        assert!(wait(child.as_fd(), Signal::Start));
        parent.send(Signal::Attached);
        assert!(!wait(child.as_fd(), Signal::Start));
        assert!(!is_orphan(child.as_fd()));
        drop(child);
        assert!(parent.receive().unwrap().is_none());
        parent.send(Signal::Start);
    }

    #[test]
    fn a_child_sees_that_its_parent_is_gone() {
        let (parent, child) = pair().unwrap();
        assert!(!is_orphan(child.as_fd()));
        drop(parent);
        assert!(is_orphan(child.as_fd()));
        assert!(!wait(child.as_fd(), Signal::Start));
    }
}
