//! A socket that holds a port of the host.

use crate::{Error, Protocol};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::net::SocketAddr;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound socket: while it exists, no other process gets the port.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    protocol: Protocol,
    address: SocketAddr,
}

impl Listener {
    /// Binds a port of the host and, for TCP and SCTP, listens on it. Port 0 takes any.
    ///
    /// `::` is IPv6 only; Docker binds `0.0.0.0` beside it.
    ///
    /// # Errors
    /// [`Error::Bind`], with `ADDRINUSE` if another process has the port, `PROTONOSUPPORT` for SCTP on a kernel without.
    pub fn bind(protocol: Protocol, address: SocketAddr) -> Result<Self, Error> {
        let fail = |errno| Error::Bind { protocol, address, errno };
        let fd = socket(protocol, address).map_err(fail)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true).map_err(fail)?;
        }
        if protocol == Protocol::Udp {
            sys::datagram::tell_destination(fd.as_fd(), address.is_ipv6())?;
        } else {
            // Connections of an earlier listener that linger do not count as users of the port.
            sockopt::set_socket_reuseaddr(&fd, true).map_err(fail)?;
        }
        rustix::net::bind(&fd, &address).map_err(fail)?;
        if protocol != Protocol::Udp {
            rustix::net::listen(&fd, BACKLOG).map_err(fail)?;
        }
        Self::from_fd(protocol, fd)
    }

    /// Binds a port of the host without serving it: connections are refused, datagrams lost.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn hold(protocol: Protocol, address: SocketAddr) -> Result<Self, Error> {
        let fail = |errno| Error::Bind { protocol, address, errno };
        let fd = socket(protocol, address).map_err(fail)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true).map_err(fail)?;
        }
        // Without SO_REUSEADDR: a socket that does not listen would share the port with others that have it.
        rustix::net::bind(&fd, &address).map_err(fail)?;
        Self::from_fd(protocol, fd)
    }

    /// Takes a socket that [`Listener::bind`] or [`Listener::hold`] made, perhaps in another process.
    ///
    /// # Errors
    /// [`Error::System`] if it is not bound to an IP address.
    pub fn from_fd(protocol: Protocol, fd: OwnedFd) -> Result<Self, Error> {
        let name = rustix::net::getsockname(&fd).map_err(sys::Error::on("getsockname", "listener"))?;
        let address = SocketAddr::try_from(name).map_err(sys::Error::on("getsockname", "listener"))?;
        Ok(Self { fd, protocol, address })
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the socket, to be passed to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Takes a waiting connection; `None` if there is none. A connection that ended while it waited is passed over.
    pub(super) fn accept(&self) -> Result<Option<OwnedFd>, Errno> {
        loop {
            match rustix::net::accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) => return Ok(Some(client)),
                Err(Errno::AGAIN) => return Ok(None),
                // accept(2): errors of the new connection are reported here; the listener is well.
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::PROTO
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::HOSTUNREACH
                    | Errno::HOSTDOWN
                    | Errno::OPNOTSUPP,
                ) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes a socket of the protocol that neither blocks nor survives exec.
pub(super) fn socket(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        // One-to-one style (RFC 6458, 4): used like TCP.
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, kind, flags, Some(protocol))
}
