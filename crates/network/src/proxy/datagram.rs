//! UDP through the proxy: each client gets a socket of its own towards the container, so that answers find their way.

use super::listener::socket;
use crate::Protocol;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// What makes a flow: a client, and the local address it speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub(super) peer: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

/// The flows of a listener.
#[derive(Debug, Default)]
pub(super) struct Flows(HashMap<FlowKey, u64>);

impl Flows {
    pub(super) fn get(&self, key: &FlowKey) -> Option<u64> {
        self.0.get(key).copied()
    }

    pub(super) fn insert(&mut self, key: FlowKey, id: u64) {
        self.0.insert(key, id);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.0.retain(|_, id| keep(*id));
    }

    /// Removes the flow that was used longest ago (one without a time counts as oldest) and returns it.
    pub(super) fn remove_oldest(&mut self, used: impl Fn(u64) -> Option<Instant>) -> Option<u64> {
        let key = *self.0.iter().min_by_key(|(_, id)| used(**id))?.0;
        self.0.remove(&key)
    }
}

/// One client's exchange with the container.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) listener: u64,
    pub(super) last_used: Instant,
    key: FlowKey,
    fd: OwnedFd,
}

impl Flow {
    pub(super) fn open(listener: u64, key: FlowKey, target: SocketAddr) -> Result<Self, Errno> {
        let fd = socket(Protocol::Udp, target)?;
        rustix::net::connect(&fd, &target)?;
        Ok(Self { listener, last_used: Instant::now(), key, fd })
    }

    /// Sends a client's datagram to the container. What cannot be sent is lost, as datagrams are.
    pub(super) fn pass_on(&mut self, bytes: &[u8]) {
        self.last_used = Instant::now();
        for _ in 0..2 {
            match rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                // An ICMP answer to an earlier datagram is reported instead of sending this one.
                Err(Errno::CONNREFUSED | Errno::INTR) => {}
                _ => break,
            }
        }
    }

    /// Sends the container's answers to the client, from the address it had spoken to.
    pub(super) fn pass_back(&mut self, listener: BorrowedFd<'_>, scratch: &mut [u8], most: usize) {
        for _ in 0..most {
            match rustix::net::recv(&self.fd, &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    self.last_used = Instant::now();
                    let bytes = scratch.get(..length).unwrap_or_default();
                    // The client may be gone.
                    sys::datagram::send(listener, bytes, self.key.peer, self.key.local).unwrap_or_default();
                }
                // The container does not listen (yet); the error is taken with this call.
                Err(Errno::CONNREFUSED | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
