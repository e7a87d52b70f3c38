//! What can go wrong with links, rules, ports and addresses.

use base::{Classify, Kind};
use rustix::io::Errno;
use std::net::SocketAddr;
use sys::message;

use crate::ipam::IpamError;
use crate::ports::{PortError, Protocol};

/// An operation on the network that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "each crate has one Error, by the project's rule")]
pub enum Error {
    /// A netlink socket could not be made or used.
    #[error("netlink: {operation}: {}", message(*.errno))]
    Netlink {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel sent what it should not.
    #[error("netlink: {0}: malformed answer")]
    Malformed(&'static str),
    /// The kernel refused a change to a link.
    #[error("{operation} {name}: {}", message(*.errno))]
    Link {
        /// What was tried, e.g. "create veth".
        operation: &'static str,
        /// The link.
        name: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A link of this name exists and is something else.
    #[error("link {0} exists and is not a bridge")]
    NotABridge(String),
    /// The kernel has no links of this kind.
    #[error("the kernel has no {0} devices (module {0})")]
    NoSuchKind(&'static str),
    /// A link does not exist.
    #[error("link {0} not found")]
    NoSuchLink(String),
    /// The kernel refused a change to the packet filter.
    #[error("nftables: {operation}: {}{}", message(*.errno), lacking(*.errno))]
    Firewall {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A system call on a namespace, timer or socket failed.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// A kernel setting could not be written.
    #[error("write {value:?} to sysctl {name}: {}", message(*.errno))]
    Sysctl {
        /// The setting, dotted.
        name: String,
        /// What was to be written.
        value: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A sysctl name that leads out of the network namespace's settings.
    #[error("sysctl {0:?} is not a setting of a network namespace")]
    ForeignSysctl(String),
    /// A published port is in use by another process. The text is Docker's.
    #[error("failed to bind host port {address}/{protocol}: {}", message(*.errno))]
    Bind {
        /// The protocol.
        protocol: Protocol,
        /// The host address and port.
        address: SocketAddr,
        /// The kernel's answer.
        errno: Errno,
    },
    /// An address or subnet cannot be had.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// A host port cannot be had.
    #[error(transparent)]
    Ports(#[from] PortError),
}

/// What else is to be said when the kernel does not know what it was told.
fn lacking(errno: Errno) -> &'static str {
    match errno {
        Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => {
            " (the kernel lacks nf_tables or a part of it: ct, fib, masq, nat; --iptables=false goes without)"
        }
        _ => "",
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSuchLink(_) => Kind::NotFound,
            Self::NoSuchKind(_) => Kind::NotImplemented,
            Self::NotABridge(_) | Self::Ports(_) => Kind::Conflict,
            Self::ForeignSysctl(_) => Kind::InvalidArgument,
            Self::Ipam(error) => match error {
                IpamError::Overlap | IpamError::AddressInUse(_) => Kind::Forbidden,
                IpamError::OutOfRange { .. } | IpamError::RangeOutside { .. } => Kind::InvalidArgument,
                IpamError::PoolsExhausted | IpamError::Exhausted(_) => Kind::Internal,
            },
            _ => Kind::Internal,
        }
    }
}
