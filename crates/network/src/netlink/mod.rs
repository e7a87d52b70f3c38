//! Netlink as far as links, addresses, routes and `nf_tables` need it (netlink(7), RFC 3549).
//!
//! A [`Batch`] collects any number of messages, which go to the kernel in one send and come back with one ACK. The
//! kernel works on the batch inside `sendto`, so every answer is queued before the call returns: [`Socket::execute`]
//! reads until the queue is empty and never waits.

pub(crate) mod conntrack;
pub(crate) mod message;
pub(crate) mod nft;
pub(crate) mod route;
#[cfg(test)]
mod tests;

use crate::Error;
use message::{Answers, Batch};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, sendto, socket_with, sockopt};

/// `nlmsg_type` of an acknowledgement or error (linux/netlink.h).
const NLMSG_ERROR: u16 = 2;
/// `nlmsg_type` of the end of a dump.
const NLMSG_DONE: u16 = 3;
/// `nlmsg_flags`: part of several.
const NLM_F_MULTI: u16 = 2;
/// `nlmsg_flags`: the dump was disturbed by a change and may be inconsistent.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The kernel never sends more than this in one datagram.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How often a disturbed dump is repeated.
const DUMP_ATTEMPTS: u32 = 5;

/// The answer to a batch that the kernel refused: which message (counted from 0), and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The position of the message in the batch.
    pub(crate) index: usize,
    /// Why.
    pub(crate) errno: Errno,
}

/// What went wrong while a batch was executed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The kernel refused a message.
    Refused(Refused),
    /// The socket failed.
    Socket(Error),
}

impl Failure {
    /// Turns a refusal into an error through `word`, which knows the object.
    pub(crate) fn into_error(self, word: impl FnOnce(Refused) -> Error) -> Error {
        match self {
            Self::Refused(refused) => word(refused),
            Self::Socket(error) => error,
        }
    }
}

/// A netlink socket of the namespace in which it was made.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    send_buffer: usize,
}

impl Socket {
    /// Opens a socket for links, addresses and routes.
    pub(crate) fn route() -> Result<Self, Error> {
        Self::open(None, 0)
    }

    /// Opens a socket for `nf_tables` and conntrack.
    pub(crate) fn netfilter() -> Result<Self, Error> {
        Self::open(Some(netlink::NETFILTER), 0)
    }

    /// Opens a socket that hears of changes to links.
    pub(crate) fn link_news() -> Result<Self, Error> {
        // linux/rtnetlink.h: RTMGRP_LINK
        Self::open(None, 1)
    }

    /// Opens a socket that hears of changes to `nf_tables`.
    pub(crate) fn netfilter_news() -> Result<Self, Error> {
        // linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES is 7
        Self::open(Some(netlink::NETFILTER), 1 << 6)
    }

    /// Takes one datagram of those that are there.
    pub(crate) fn news(&mut self) -> Result<Option<&[u8]>, Errno> {
        let received = loop {
            match recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((received, _)) => break received,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        };
        Ok(self.buffer.get(..received))
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> Result<Self, Error> {
        let fail = |operation| move |errno| Error::Netlink { operation, errno };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(fail("open socket"))?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(fail("bind socket"))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; RECEIVE_BUFFER], send_buffer: 0 })
    }

    /// Returns the number by which the kernel knows this socket.
    pub(crate) fn port_id(&self) -> Result<u32, Error> {
        let fail = |errno| Error::Netlink { operation: "look up the socket's number", errno };
        let address = rustix::net::getsockname(&self.fd).map_err(fail)?;
        let address = SocketAddrNetlink::try_from(address).map_err(fail)?;
        Ok(address.pid())
    }

    /// Sends the batch and waits for the kernel's verdict.
    ///
    /// The last message should ask for an ACK. Of several refusals the first is reported; what that means for the other
    /// messages is the protocol's affair (`nf_tables`: nothing happened; rtnetlink: the others did).
    pub(crate) fn execute(&mut self, batch: Batch) -> Result<(), Failure> {
        let count = batch.len();
        let first = self.send(batch).map_err(Failure::Socket)?;
        let mut refused: Option<Refused> = None;
        let mut acknowledged = false;
        loop {
            let received = match recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((received, _)) => received,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Failure::Socket(Error::Netlink { operation: "receive", errno })),
            };
            let Some(datagram) = self.buffer.get(..received) else { break };
            for answer in Answers::new(datagram) {
                let index = answer.sequence.wrapping_sub(first);
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                if answer.kind != NLMSG_ERROR || index >= count {
                    continue;
                }
                match errno(answer.payload) {
                    None => acknowledged = true,
                    Some(errno) if refused.is_none_or(|earlier| index < earlier.index) => {
                        refused = Some(Refused { index, errno });
                    }
                    Some(_) => {}
                }
            }
        }
        match refused {
            Some(refused) => Err(Failure::Refused(refused)),
            None if acknowledged || count == 0 => Ok(()),
            None => Err(Failure::Socket(Error::Malformed("no acknowledgement"))),
        }
    }

    /// Sends one dump request and calls `each` with the type and payload of every answer.
    pub(crate) fn dump(&mut self, request: &Batch, mut each: impl FnMut(u16, &[u8])) -> Result<(), Failure> {
        for attempt in 1.. {
            let mut seen = Vec::new();
            let disturbed =
                self.dump_once(request.clone(), |kind, payload| seen.push((kind, payload.to_vec())))?;
            if !disturbed || attempt == DUMP_ATTEMPTS {
                seen.iter().for_each(|(kind, payload)| each(*kind, payload));
                break;
            }
        }
        Ok(())
    }

    fn dump_once(&mut self, request: Batch, mut each: impl FnMut(u16, &[u8])) -> Result<bool, Failure> {
        let sequence = self.send(request).map_err(Failure::Socket)?;
        let mut disturbed = false;
        loop {
            let received = match recv(&self.fd, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((received, _)) => received,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Failure::Socket(Error::Netlink { operation: "dump", errno })),
            };
            let Some(datagram) = self.buffer.get(..received) else { return Ok(disturbed) };
            for answer in Answers::new(datagram).filter(|answer| answer.sequence == sequence) {
                disturbed |= answer.flags & NLM_F_DUMP_INTR != 0;
                match answer.kind {
                    NLMSG_DONE => return Ok(disturbed),
                    NLMSG_ERROR => match errno(answer.payload) {
                        Some(errno) => return Err(Failure::Refused(Refused { index: 0, errno })),
                        None => return Ok(disturbed),
                    },
                    kind => {
                        each(kind, answer.payload);
                        // A single answer (a GET without NLM_F_DUMP) has no end marker.
                        if answer.flags & NLM_F_MULTI == 0 {
                            return Ok(disturbed);
                        }
                    }
                }
            }
        }
    }

    /// Sends, and returns the sequence number of the first message.
    fn send(&mut self, mut batch: Batch) -> Result<u32, Error> {
        // Zero belongs to messages the kernel sends on its own.
        let first = self.sequence.wrapping_add(1).max(1);
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.sequence = first.wrapping_add(count);
        let bytes = batch.finish(first);
        self.make_room(bytes.len());
        let kernel = SocketAddrNetlink::new(0, 0);
        loop {
            match sendto(&self.fd, bytes, SendFlags::empty(), &kernel) {
                Ok(_) => return Ok(first),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Netlink { operation: "send", errno }),
            }
        }
    }

    /// Raises the send buffer for a batch that would not fit (a datagram is sent whole or not at all).
    fn make_room(&mut self, length: usize) {
        const PLENTY: usize = 128 * 1024;
        if length > PLENTY.max(self.send_buffer) {
            let wanted = length.saturating_add(length / 4);
            // If it is refused, the send says so.
            if sockopt::set_socket_send_buffer_size_force(&self.fd, wanted).is_ok() {
                self.send_buffer = wanted;
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the error of an `NLMSG_ERROR` payload; `None` is an acknowledgement.
fn errno(payload: &[u8]) -> Option<Errno> {
    let code = payload.first_chunk::<4>().map_or(-libc::EPROTO, |bytes| i32::from_ne_bytes(*bytes));
    // The kernel's numbers end at MAX_ERRNO (linux/err.h).
    let known = (1..=4095).contains(&code.wrapping_neg());
    (code != 0).then(|| if known { Errno::from_raw_os_error(-code) } else { Errno::PROTO })
}

/// What [`crate::judge::netlink`] does.
pub(crate) fn judge(bytes: &[u8]) {
    let mut messages = 0;
    for answer in Answers::new(bytes) {
        messages += 1;
        route::judge(&answer);
        conntrack::matching(answer.payload, &[(std::net::Ipv4Addr::UNSPECIFIED.into(), 0..=u16::MAX)]);
        nft::takes_away("wharf", &answer);
        errno(answer.payload);
        let attributes = message::Attributes::behind(answer.payload, 4).count();
        assert!(attributes * 4 <= answer.payload.len(), "{attributes} attributes of {answer:?}");
    }
    assert!(messages * 16 <= bytes.len(), "{messages} messages of {} bytes", bytes.len());
}
