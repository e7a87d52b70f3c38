//! Container networks: addresses, links, packet filter, ports.
//!
//! The crate knows nothing of containers: it gets namespaces, names, addresses and ports as values. Decisions are pure
//! ([`ipam`], [`ports`], [`files`], the rules in [`firewall`]); effects are netlink batches of our own encoding, so that
//! no program is executed and a change costs microseconds:
//!
//! 1. [`bridge::ensure`] and [`firewall::Firewall::install`] when a network is made,
//! 2. [`netns::create`], [`endpoint::attach`] and [`firewall::Firewall::publish`] when a container starts,
//! 3. [`firewall::Firewall::unpublish`] and the closing of the namespace when it ends.
//!
//! Every function acts on the network namespace of the calling thread and blocks only as long as the kernel does.

pub mod bridge;
pub mod endpoint;
mod error;
pub mod files;
pub mod firewall;
pub mod host;
mod ip;
pub mod ipam;
#[doc(hidden)]
pub mod judge;
mod mac;
mod netlink;
pub mod netns;
pub mod parent;
mod poll;
pub mod ports;
pub mod proxy;
mod random;
pub mod resolver;
pub mod tunnel;
pub mod watch;

pub use error::Error;
pub use host::enable_forwarding;
pub use ip::{InvalidNet, IpNet};
pub use mac::{InvalidMac, Mac};
pub use ports::{PortAllocator, Protocol};
