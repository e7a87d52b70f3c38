//! An address with its prefix length, as written `172.17.0.1/16`.
//!
//! One type serves for subnets, interface addresses and routes: host bits are kept, and [`IpNet::network`] clears them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address and the length of its network prefix; the host bits are kept as given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

/// A text that is not `ADDRESS/PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct InvalidNet(pub String);

impl IpNet {
    /// Returns `address/prefix`, or `None` if the prefix is longer than an address of that family.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= bits(address)).then_some(Self { address, prefix })
    }

    /// Returns the net that contains `address` alone.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: bits(address) }
    }

    /// Returns the address as given, host bits included.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Returns the length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Returns whether this is IPv6.
    pub fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    /// Returns the same net with all host bits cleared.
    pub fn network(self) -> Self {
        Self { address: self.first(), prefix: self.prefix }
    }

    /// Returns the lowest address (for IPv4 the network's own).
    pub fn first(self) -> IpAddr {
        from_number(number(self.address) & !self.host_mask(), self.is_ipv6())
    }

    /// Returns the highest address (for IPv4 the broadcast address).
    pub fn last(self) -> IpAddr {
        from_number(number(self.address) | self.host_mask(), self.is_ipv6())
    }

    /// Returns whether `address` lies in this net.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_ipv6()
            && (number(address) ^ number(self.address)) & !self.host_mask() == 0
    }

    /// Returns whether `other` lies in this net as a whole.
    pub fn contains_net(self, other: Self) -> bool {
        other.prefix >= self.prefix && self.contains(other.address)
    }

    /// Returns whether the two nets share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    fn host_mask(self) -> u128 {
        let host = u32::from(bits(self.address).saturating_sub(self.prefix));
        if host >= 128 { u128::MAX } else { (1_u128 << host) - 1 }
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for IpNet {
    type Err = InvalidNet;

    fn from_str(text: &str) -> Result<Self, InvalidNet> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| InvalidNet(text.to_owned()))
    }
}

/// Returns the width of an address of this family in bits.
pub(crate) fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// Returns the address as a number, so that it can be counted.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Returns the address with this number; bits that an IPv4 address has not are dropped.
pub(crate) fn from_number(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::from_bits(number))
    } else {
        let low = u32::try_from(number & u128::from(u32::MAX)).unwrap_or(u32::MAX);
        IpAddr::V4(Ipv4Addr::from_bits(low))
    }
}

/// Returns the address in network byte order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn prints_what_it_parsed_and_refuses_the_rest() {
        for text in ["172.17.0.1/16", "0.0.0.0/0", "10.0.0.1/32", "fd00::1/64", "::/0", "::1/128"] {
            assert_eq!(net(text).to_string(), text);
        }
        for text in ["", "1.2.3.4", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/+1", "::/129", "x/8"] {
            assert_eq!(text.parse::<IpNet>(), Err(InvalidNet(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn ends_of_a_net() {
        let check = |text: &str, first: &str, last: &str| {
            assert_eq!(net(text).first().to_string(), first);
            assert_eq!(net(text).last().to_string(), last);
        };
        check("172.17.3.4/16", "172.17.0.0", "172.17.255.255");
        check("10.1.2.3/32", "10.1.2.3", "10.1.2.3");
        check("10.1.2.3/0", "0.0.0.0", "255.255.255.255");
        check("fd00::12/64", "fd00::", "fd00::ffff:ffff:ffff:ffff");
        check("::1/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn membership_and_overlap() {
        let check = |a: &str, b: &str, contains: bool, overlaps: bool| {
            assert_eq!(net(a).contains_net(net(b)), contains, "{a} contains {b}");
            assert_eq!(net(a).overlaps(net(b)), overlaps, "{a} overlaps {b}");
            assert_eq!(net(b).overlaps(net(a)), overlaps, "{b} overlaps {a}");
        };
        check("172.17.0.0/16", "172.17.4.0/24", true, true);
        check("172.17.4.0/24", "172.17.0.0/16", false, true);
        check("172.17.0.0/16", "172.18.0.0/16", false, false);
        check("0.0.0.0/0", "172.18.0.0/16", true, true);
        check("::/0", "172.18.0.0/16", false, false);
        check("fd00::/8", "fd12::1/64", true, true);
    }
}
