//! The resolver's sockets inside a container's network namespace.

use crate::files::RESOLVER;
use crate::netlink::Socket;
use crate::netlink::nft::{Expressions, Header, Hook, Meta, Point, Register, Transaction};
use crate::{Error, IpNet, Protocol, ip};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use std::net::SocketAddr;
use sys::namespace::{self, Namespace};

/// The port that containers ask.
const PORT: u16 = 53;
const TABLE: &str = "wharf-resolver";
const CHAIN: &str = "output";
/// `linux/netfilter_ipv4.h`: `NF_IP_PRI_NAT_DST`.
const PRIORITY: i32 = -100;
const BACKLOG: i32 = 64;

/// Where questions arrive: made in the container's namespace, usable from everywhere.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: OwnedFd,
    pub(super) tcp: OwnedFd,
}

impl Sockets {
    /// Makes the sockets inside `netns`.
    ///
    /// As in Docker they are bound to ports of the kernel's choice, and packets to port 53 are redirected to them: a name
    /// server in the container can still take port 53 of all addresses. Where that rule cannot be written they are
    /// bound to port 53 itself.
    pub(super) fn open(netns: BorrowedFd<'_>) -> Result<Self, Error> {
        namespace::within(netns, Namespace::Network, || {
            let (sockets, udp, tcp) = Self::bind(0)?;
            match redirect(udp, tcp) {
                Ok(()) => Ok(sockets),
                Err(_) => Ok(Self::bind(PORT)?.0),
            }
        })?
    }

    /// Makes the sockets in the caller's namespace; returns them with their ports.
    pub(super) fn bind(port: u16) -> Result<(Self, u16, u16), Error> {
        let address = SocketAddr::new(RESOLVER, port);
        let bound = |protocol| -> Result<(OwnedFd, u16), Error> {
            let fail = |errno| Error::Bind { protocol, address, errno };
            let fd = socket(protocol, address).map_err(fail)?;
            rustix::net::bind(&fd, &address).map_err(fail)?;
            let name = rustix::net::getsockname(&fd).map_err(fail)?;
            Ok((fd, SocketAddr::try_from(name).map_err(fail)?.port()))
        };
        let (udp, udp_port) = bound(Protocol::Udp)?;
        let (tcp, tcp_port) = bound(Protocol::Tcp)?;
        rustix::net::listen(&tcp, BACKLOG).map_err(sys::Error::on("listen", "resolver"))?;
        Ok((Self { udp, tcp }, udp_port, tcp_port))
    }
}

/// Makes a socket towards a name server: in the container's namespace if there is one, else in the caller's.
pub(super) fn outgoing(
    netns: Option<BorrowedFd<'_>>,
    protocol: Protocol,
    server: SocketAddr,
) -> Result<OwnedFd, Errno> {
    let make = || {
        let fd = socket(protocol, server)?;
        match rustix::net::connect(&fd, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
            Err(errno) => Err(errno),
        }
    };
    match netns {
        None => make(),
        Some(netns) => {
            namespace::within(netns, Namespace::Network, make).map_err(|error| error.errno()).flatten()
        }
    }
}

fn socket(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, protocol) = match protocol {
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Tcp | Protocol::Sctp => (SocketType::STREAM, ipproto::TCP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, kind, flags, Some(protocol))
}

/// Writes the rules `ip daddr 127.0.0.11 {udp,tcp} dport 53 dnat to :PORT` for packets of this namespace.
fn redirect(udp: u16, tcp: u16) -> Result<(), Error> {
    let mut socket = Socket::netfilter()?;
    let mut transaction = Transaction::new(TABLE);
    transaction.table();
    let hook = Hook { kind: "nat", point: Point::Output, priority: PRIORITY };
    transaction.chain(CHAIN, Some(hook));
    transaction.flush_chain(CHAIN);
    for (protocol, port) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
        transaction.rule(CHAIN, |rule| write_rule(rule, protocol, port));
    }
    transaction.commit(&mut socket).map_err(|failure| {
        failure.into_error(|refused| Error::Firewall {
            operation: "redirect the resolver's port",
            errno: refused.errno,
        })
    })
}

fn write_rule(rule: &mut Expressions<'_, '_>, protocol: Protocol, port: u16) {
    const IPV4: u8 = 2;
    let first = Register::FIRST;
    rule.meta(first, Meta::NetworkProtocol);
    rule.compare(first, true, &[IPV4]);
    rule.payload(first, Header::Network, 16, 4);
    rule.compare(first, true, &ip::octets(IpNet::host(RESOLVER).address()));
    rule.meta(first, Meta::TransportProtocol);
    rule.compare(first, true, &[protocol.number()]);
    rule.payload(first, Header::Transport, 2, 2);
    rule.compare(first, true, &PORT.to_be_bytes());
    rule.value(first, &port.to_be_bytes());
    rule.destination_port(first);
}
