//! One connection through the proxy: two sockets, and what is on its way between them.

use super::listener::socket;
use crate::Protocol;
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use std::net::SocketAddr;
use std::time::Duration;

/// The steps made in one direction before others have their turn.
const STEPS: usize = 4;

/// A client's connection and the one made for it to the container.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) client: End,
    pub(super) server: End,
    connecting: bool,
    up: Half,
    down: Half,
}

/// One socket of a pair, and what epoll reports of it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) fd: OwnedFd,
    /// Empty: epoll does not know it.
    pub(super) watched: EventFlags,
}

impl End {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, watched: EventFlags::empty() }
    }

    /// Makes the close that follows a reset, so that the peer sees that something was lost.
    fn reset(&self) {
        sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO)).unwrap_or_default();
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Half {
    /// What was read and not yet written; empty (and without memory) while the receiver keeps pace.
    pending: Vec<u8>,
    written: usize,
    /// The sender has said that nothing more comes and the receiver has been told, or the receiver is gone.
    finished: bool,
}

impl Pair {
    /// Begins to connect to `target` on behalf of `client`.
    pub(super) fn connect(client: OwnedFd, protocol: Protocol, target: SocketAddr) -> Result<Self, Errno> {
        let client = End::new(client);
        let begin = || {
            let server = socket(protocol, target)?;
            match rustix::net::connect(&server, &target) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(server),
                Err(errno) => Err(errno),
            }
        };
        let server = begin().inspect_err(|_| client.reset())?;
        let pair = Self {
            client,
            server: End::new(server),
            connecting: true,
            up: Half::default(),
            down: Half::default(),
        };
        if protocol == Protocol::Tcp {
            for end in [&pair.client, &pair.server] {
                // Both are refinements; a connection without them works.
                sockopt::set_tcp_nodelay(&end.fd, true).unwrap_or_default();
                sockopt::set_socket_keepalive(&end.fd, true).unwrap_or_default();
            }
        }
        Ok(pair)
    }

    /// Moves what can be moved; `false` if the connection is over.
    ///
    /// Each end of stream is passed on by itself (half-close); a reset of one side resets the other.
    pub(super) fn advance(&mut self, scratch: &mut [u8]) -> bool {
        if self.connecting {
            match sockopt::socket_error(&self.server.fd) {
                // Also reported when the client, which is not listened to yet, was served: look whether it is there.
                Ok(Ok(())) if rustix::net::getpeername(&self.server.fd).is_ok() => self.connecting = false,
                Ok(Ok(())) => return true,
                Ok(Err(_)) | Err(_) => {
                    self.client.reset();
                    return false;
                }
            }
        }
        let up = self.up.advance(&self.client.fd, &self.server.fd, scratch);
        let down = self.down.advance(&self.server.fd, &self.client.fd, scratch);
        if up.is_err() || down.is_err() {
            self.client.reset();
            self.server.reset();
            return false;
        }
        !(self.up.finished && self.down.finished)
    }

    /// Returns what the client's and the server's socket have to be watched for.
    pub(super) fn wanted(&self) -> (EventFlags, EventFlags) {
        if self.connecting {
            return (EventFlags::empty(), EventFlags::OUT);
        }
        let flags = |incoming: &Half, outgoing: &Half| {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, !incoming.finished && incoming.pending.is_empty());
            flags.set(EventFlags::OUT, !outgoing.pending.is_empty());
            flags
        };
        (flags(&self.up, &self.down), flags(&self.down, &self.up))
    }
}

impl Half {
    /// Reads from `from` and writes to `to` until one of them has to wait.
    ///
    /// An error means that the sender is gone. A receiver that is gone ends this half only: the other one may still bring
    /// what the receiver had sent before.
    fn advance(&mut self, from: &OwnedFd, to: &OwnedFd, scratch: &mut [u8]) -> Result<(), Errno> {
        for _ in 0..STEPS {
            if self.finished || !self.flush(to) {
                return Ok(());
            }
            match rustix::net::recv(from, &mut *scratch, RecvFlags::DONTWAIT) {
                // At once: no event would bring us back for it.
                Ok((0, _)) => {
                    self.finish(to);
                    return Ok(());
                }
                Ok((length, _)) => {
                    let bytes = scratch.get(..length).unwrap_or_default();
                    let rest = self.write(to, bytes);
                    self.pending.extend_from_slice(bytes.get(rest..).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Tells the receiver that nothing more comes.
    fn finish(&mut self, to: &OwnedFd) {
        // It may be gone; then there is nobody to tell.
        rustix::net::shutdown(to, Shutdown::Write).unwrap_or_default();
        self.finished = true;
    }

    /// Writes what is pending; says whether nothing is left.
    fn flush(&mut self, to: &OwnedFd) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        let pending = std::mem::take(&mut self.pending);
        self.written += self.write(to, pending.get(self.written..).unwrap_or_default());
        if self.written < pending.len() && !self.finished {
            self.pending = pending;
            return false;
        }
        self.written = 0;
        true
    }

    /// Writes as much as goes; returns how much. To a receiver that is gone everything "goes".
    fn write(&mut self, to: &OwnedFd, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(to, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(length) => written += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.finished = true;
                    return bytes.len();
                }
            }
        }
        written
    }
}
