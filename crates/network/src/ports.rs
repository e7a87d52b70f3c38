//! Host ports: who has which, and which comes next.
//!
//! Pure: [`PortAllocator`] only keeps the books of this engine. That no other process has the port shows when the
//! listener is bound (`proxy::Listener::bind`); then the caller keeps or releases what it got and may ask again.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Where ephemeral host ports come from if the host does not say (Docker's fall-back).
pub const DEFAULT_EPHEMERAL: RangeInclusive<u16> = 49153..=65535;

/// A transport protocol that can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Returns the protocol's number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Returns the word used in port specifications.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = InvalidProtocol;

    fn from_str(text: &str) -> Result<Self, InvalidProtocol> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(InvalidProtocol(text.to_owned())),
        }
    }
}

/// A protocol that cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid proto: {0}")]
pub struct InvalidProtocol(pub String);

/// What a port specification asks for on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPort {
    /// Any port of the host's ephemeral range (`-P`, `-p 80`).
    Ephemeral,
    /// This one (`-p 8080:80`).
    Exact(u16),
    /// Any one of these (`-p 8000-8010:80`).
    OneOf(RangeInclusive<u16>),
}

/// Why a port cannot be had; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Another container has it.
    #[error("Bind for {0} failed: port is already allocated")]
    Allocated(SocketAddr),
    /// Every port of the range is taken.
    #[error("all ports are allocated")]
    Exhausted,
}

/// The ports that this engine's containers hold on the host.
#[derive(Debug, Clone)]
pub struct PortAllocator {
    ephemeral: RangeInclusive<u16>,
    /// Who holds a port: the host addresses, by protocol, family and port.
    held: HashMap<(Protocol, bool, u16), Vec<IpAddr>>,
    /// The ephemeral port handed out last, by protocol.
    cursors: HashMap<Protocol, u16>,
}

impl Default for PortAllocator {
    fn default() -> Self {
        Self::new(DEFAULT_EPHEMERAL)
    }
}

impl PortAllocator {
    /// Returns an allocator with no port held. `ephemeral` is the host's `net.ipv4.ip_local_port_range`.
    pub fn new(ephemeral: RangeInclusive<u16>) -> Self {
        Self { ephemeral, held: HashMap::new(), cursors: HashMap::new() }
    }

    /// Takes one port, the same on all of `addresses` (Docker gives 0.0.0.0 and `[::]` the same number).
    ///
    /// `0.0.0.0` clashes with every IPv4 address and `::` with every IPv6 address. Ephemeral ports go round: one that was
    /// just released is not handed out again at once.
    ///
    /// # Errors
    /// [`PortError::Allocated`] for an exact port, [`PortError::Exhausted`] for a range.
    pub fn allocate(
        &mut self,
        protocol: Protocol,
        addresses: &[IpAddr],
        wanted: &HostPort,
    ) -> Result<u16, PortError> {
        let port = match wanted {
            HostPort::OneOf(range) if range.start() == range.end() => {
                return self.allocate(protocol, addresses, &HostPort::Exact(*range.start()));
            }
            HostPort::Exact(port) => match self.clash(protocol, addresses, *port) {
                Some(address) => return Err(PortError::Allocated(SocketAddr::new(address, *port))),
                None => *port,
            },
            HostPort::OneOf(range) => range
                .clone()
                .find(|port| self.clash(protocol, addresses, *port).is_none())
                .ok_or(PortError::Exhausted)?,
            HostPort::Ephemeral => self.next_ephemeral(protocol, addresses)?,
        };
        for address in addresses {
            self.held.entry((protocol, address.is_ipv6(), port)).or_default().push(*address);
        }
        Ok(port)
    }

    /// Gives a port back; one that is not held is left alone.
    pub fn release(&mut self, protocol: Protocol, address: IpAddr, port: u16) {
        let key = (protocol, address.is_ipv6(), port);
        if let Some(holders) = self.held.get_mut(&key) {
            holders.retain(|holder| *holder != address);
            if holders.is_empty() {
                self.held.remove(&key);
            }
        }
    }

    /// Returns the first of `addresses` on which the port is held.
    fn clash(&self, protocol: Protocol, addresses: &[IpAddr], port: u16) -> Option<IpAddr> {
        addresses.iter().copied().find(|address| {
            self.held.get(&(protocol, address.is_ipv6(), port)).is_some_and(|holders| {
                address.is_unspecified()
                    || holders.iter().any(|holder| holder == address || holder.is_unspecified())
            })
        })
    }

    fn next_ephemeral(&mut self, protocol: Protocol, addresses: &[IpAddr]) -> Result<u16, PortError> {
        let (start, end) = (*self.ephemeral.start(), *self.ephemeral.end());
        let last = self.cursors.get(&protocol).copied().filter(|last| self.ephemeral.contains(last));
        let next = last.and_then(|last| last.checked_add(1)).unwrap_or(start).max(start);
        let port = (next..=end)
            .chain(start..next)
            .find(|port| self.clash(protocol, addresses, *port).is_none())
            .ok_or(PortError::Exhausted)?;
        self.cursors.insert(protocol, port);
        Ok(port)
    }
}

/// Reads `net.ipv4.ip_local_port_range`'s text ("32768\t60999"); anything else is `None`.
pub fn parse_port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    match (words.next().flatten(), words.next().flatten()) {
        (Some(start), Some(end)) if start <= end && start > 0 => Some(start..=end),
        _ => None,
    }
}

/// Returns the host's ephemeral range, or [`DEFAULT_EPHEMERAL`] if it cannot be read.
pub fn host_ephemeral_range() -> RangeInclusive<u16> {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| parse_port_range(&text))
        .unwrap_or(DEFAULT_EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn conflicts_by_address_protocol_and_family() {
        let mut ports = PortAllocator::default();
        let mut check = |protocol, address: &str, expect: Result<u16, &str>| {
            let got = ports.allocate(protocol, &[ip(address)], &HostPort::Exact(80));
            assert_eq!(got.map_err(|error| error.to_string()), expect.map_err(str::to_owned), "{address}");
        };
        check(Protocol::Tcp, "127.0.0.1", Ok(80));
        check(Protocol::Tcp, "127.0.0.1", Err("Bind for 127.0.0.1:80 failed: port is already allocated"));
        check(Protocol::Tcp, "0.0.0.0", Err("Bind for 0.0.0.0:80 failed: port is already allocated"));
        check(Protocol::Tcp, "192.0.2.1", Ok(80));
        check(Protocol::Udp, "0.0.0.0", Ok(80));
        check(Protocol::Udp, "192.0.2.1", Err("Bind for 192.0.2.1:80 failed: port is already allocated"));
        check(Protocol::Tcp, "::", Ok(80));
        check(Protocol::Tcp, "::1", Err("Bind for [::1]:80 failed: port is already allocated"));
        check(Protocol::Sctp, "::1", Ok(80));
    }

    #[test]
    fn one_clash_takes_nothing() {
        let mut ports = PortAllocator::default();
        ports.allocate(Protocol::Tcp, &[ip("::")], &HostPort::Exact(80)).unwrap();
        let both = [ip("0.0.0.0"), ip("::")];
        assert!(ports.allocate(Protocol::Tcp, &both, &HostPort::Exact(80)).is_err());
        assert!(ports.allocate(Protocol::Tcp, &[ip("0.0.0.0")], &HostPort::Exact(80)).is_ok());
        assert_eq!(ports.allocate(Protocol::Tcp, &both, &HostPort::OneOf(80..=82)), Ok(81));
        assert_eq!(ports.allocate(Protocol::Tcp, &both, &HostPort::OneOf(80..=82)), Ok(82));
        assert_eq!(
            ports.allocate(Protocol::Tcp, &both, &HostPort::OneOf(80..=82)),
            Err(PortError::Exhausted)
        );
    }

    #[test]
    fn ephemeral_ports_go_round() {
        let mut ports = PortAllocator::new(65534..=65535);
        let any = [ip("0.0.0.0"), ip("::")];
        let next = |ports: &mut PortAllocator| ports.allocate(Protocol::Tcp, &any, &HostPort::Ephemeral);
        assert_eq!(next(&mut ports), Ok(65534));
        for address in any {
            ports.release(Protocol::Tcp, address, 65534);
        }
        assert_eq!(next(&mut ports), Ok(65535));
        assert_eq!(next(&mut ports), Ok(65534));
        assert_eq!(next(&mut ports), Err(PortError::Exhausted));
        ports.release(Protocol::Tcp, any[0], 65535);
        ports.release(Protocol::Tcp, any[0], 65535);
        assert_eq!(next(&mut ports), Err(PortError::Exhausted));
        ports.release(Protocol::Tcp, any[1], 65535);
        assert_eq!(next(&mut ports), Ok(65535));
    }

    #[test]
    fn the_hosts_range() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some(32768..=60999));
        for text in ["", "1", "5 4", "0 5", "x y", "1 65536"] {
            assert_eq!(parse_port_range(text), None, "{text}");
        }
    }
}
