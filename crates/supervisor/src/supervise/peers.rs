//! Connections to daemons: requests come in, replies and events go out. None of them is waited for.

use crate::Error;
use crate::poller::{Interest, Poller, Source};
use crate::protocol::{Event, Reply, Request};
use crate::wire::{self, Outgoing};
use base::Kind;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// A daemon's connection.
#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    subscribed: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<u32, Peer>,
    next: u32,
}

impl Peers {
    /// Takes a connection over and returns its number.
    pub(super) fn add(&mut self, socket: OwnedFd, poller: &Poller) -> Result<u32, Error> {
        sys::socket::set_nonblocking(socket.as_fd(), true).map_err(Error::system("set up connection"))?;
        let index = self.next;
        poller
            .add(&socket, Source::Connection(index), Interest::READ)
            .map_err(|errno| Error::io("watch", "connection")(errno.into()))?;
        self.next = self.next.wrapping_add(1);
        self.peers.insert(index, Peer { socket, subscribed: false });
        Ok(index)
    }

    /// Says whether a connection is still there.
    pub(super) fn has(&self, index: u32) -> bool {
        self.peers.contains_key(&index)
    }

    /// Lets the connection have events from now on.
    pub(super) fn subscribe(&mut self, index: u32) {
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.subscribed = true;
        }
    }

    /// Takes the next request of a connection; one that is at its end or talks rubbish is let go.
    pub(super) fn receive(&mut self, index: u32, poller: &Poller) -> Option<(Request, Vec<OwnedFd>)> {
        let peer = self.peers.get(&index)?;
        match wire::receive(peer.socket.as_fd()) {
            Ok(Some(received)) => return Some(received),
            Err(Error::System { source, .. }) if source.errno() == Errno::AGAIN => return None,
            Err(error @ Error::Malformed(_)) => {
                // A daemon of another version: it is told, and may go on.
                self.reply(
                    index,
                    Reply::Error { kind: Kind::InvalidArgument, message: base::chain(&error) },
                    poller,
                );
                return None;
            }
            Ok(None) | Err(_) => {}
        }
        self.remove(index, poller);
        None
    }

    /// Answers a request. A connection that takes no answer is let go.
    pub(super) fn reply(&mut self, index: u32, reply: Reply, poller: &Poller) {
        let Some(peer) = self.peers.get(&index) else { return };
        if wire::send(peer.socket.as_fd(), &Outgoing::Reply(reply), &[]).is_err() {
            self.remove(index, poller);
        }
    }

    /// Tells an event to all subscribers. One that has not read for long is let go; it can connect again and ask.
    pub(super) fn tell(&mut self, event: Event, poller: &Poller) {
        let subscribers: Vec<u32> =
            self.peers.iter().filter_map(|(index, peer)| peer.subscribed.then_some(*index)).collect();
        if subscribers.is_empty() {
            return;
        }
        let Ok(bytes) = serde_json::to_vec(&Outgoing::Event(event)) else { return };
        for index in subscribers {
            let Some(peer) = self.peers.get(&index) else { continue };
            if wire::send_bytes(peer.socket.as_fd(), &bytes, &[]).is_err() {
                self.remove(index, poller);
            }
        }
    }

    fn remove(&mut self, index: u32, poller: &Poller) {
        if let Some(peer) = self.peers.remove(&index) {
            poller.remove(&peer.socket);
        }
    }
}

/// Makes a refusal.
pub(super) fn refusal(kind: Kind, message: impl Into<String>) -> Reply {
    Reply::Error { kind, message: message.into() }
}

/// Makes the refusal of what clashes with the container's state.
pub(super) fn conflict(message: impl Into<String>) -> Reply {
    refusal(Kind::Conflict, message)
}
