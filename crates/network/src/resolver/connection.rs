//! A container's TCP connection to its resolver: messages with two bytes of length in front (RFC 1035, 4.2.2).

use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::time::Instant;

/// Answers that a client may leave unread before it is cut off.
const UNREAD: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    fd: OwnedFd,
    pub(super) watched: EventFlags,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Questions that have no answer yet.
    asked: usize,
    ended: bool,
    broken: bool,
    last_used: Instant,
}

impl Connection {
    /// Takes a socket that epoll watches for input.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            watched: EventFlags::IN,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            asked: 0,
            ended: false,
            broken: false,
            last_used: Instant::now(),
        }
    }

    pub(super) fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Returns whether anything can still come or go.
    pub(super) fn is_open(&self) -> bool {
        let finished = self.ended && self.asked == 0 && self.outgoing.is_empty();
        !self.broken && !finished
    }

    pub(super) fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, !self.ended);
        wanted.set(EventFlags::OUT, !self.outgoing.is_empty());
        wanted
    }

    /// Writes what is left, reads what is there, and returns the messages that are complete.
    pub(super) fn advance(&mut self, scratch: &mut [u8]) -> Vec<Vec<u8>> {
        self.flush();
        if !self.ended {
            match rustix::net::recv(&self.fd, &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.ended = true,
                Ok((length, _)) => {
                    self.last_used = Instant::now();
                    self.incoming.extend_from_slice(scratch.get(..length).unwrap_or_default());
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.broken = true,
            }
        }
        let messages = take_messages(&mut self.incoming);
        self.asked += messages.len();
        messages
    }

    /// Sends a message, now or when there is room.
    pub(super) fn send(&mut self, message: &[u8]) {
        self.asked = self.asked.saturating_sub(1);
        let Ok(length) = u16::try_from(message.len()) else { return };
        self.outgoing.extend(length.to_be_bytes());
        self.outgoing.extend(message);
        self.flush();
        self.broken |= self.outgoing.len() > UNREAD;
    }

    fn flush(&mut self) {
        match send(&self.fd, &mut self.outgoing) {
            Ok(sent) if sent > 0 => self.last_used = Instant::now(),
            Ok(_) => {}
            Err(_) => self.broken = true,
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends from the front of `bytes` as much as goes, and returns how much.
pub(super) fn send(fd: &OwnedFd, bytes: &mut Vec<u8>) -> Result<usize, Errno> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match rustix::net::send(fd, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(length) => sent += length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno),
        }
    }
    bytes.drain(..sent);
    Ok(sent)
}

/// Cuts the complete messages from the front of `bytes`.
pub(super) fn take_messages(bytes: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut start = 0;
    while let Some(length) = bytes.get(start..).and_then(<[u8]>::first_chunk::<2>) {
        let end = start + 2 + usize::from(u16::from_be_bytes(*length));
        let Some(message) = bytes.get(start + 2..end) else { break };
        messages.push(message.to_vec());
        start = end;
    }
    bytes.drain(..start);
    messages
}
