//! Hardware addresses of container interfaces.

use std::fmt;
use std::str::FromStr;

/// An Ethernet hardware address, printed as `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// A text that is not a hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct InvalidMac(pub String);

impl Mac {
    /// Returns `random` made a locally administered unicast address, as Docker 28 gives to bridge endpoints.
    pub fn local(mut random: [u8; 6]) -> Self {
        if let Some(first) = random.first_mut() {
            *first = (*first & 0xfe) | 0x02;
        }
        Self(random)
    }

    /// Returns a fresh [`Mac::local`] from the kernel's random numbers.
    pub fn random() -> Self {
        Self::local(crate::random::bytes())
    }
}

impl Mac {
    /// Returns the address that goes with an IPv4 address, as Docker's before 28: `02:42` and its four bytes.
    pub fn of(address: std::net::Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    /// Accepts six pairs of hexadecimal digits parted by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part =
                parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(invalid)?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(octets)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parsed() {
        assert_eq!("02:42:AC-11:00:ff".parse::<Mac>().unwrap().to_string(), "02:42:ac:11:00:ff");
        for text in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:00:02", "0g:42:ac:11:00:02"] {
            assert_eq!(text.parse::<Mac>(), Err(InvalidMac(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn random_addresses_are_local_unicast() {
        assert_eq!(Mac::local([0xff; 6]).to_string(), "fe:ff:ff:ff:ff:ff");
        assert_eq!(Mac::local([0; 6]).to_string(), "02:00:00:00:00:00");
        assert_ne!(Mac::random(), Mac::random());
        assert_eq!(Mac::of([172, 17, 0, 2].into()).to_string(), "02:42:ac:11:00:02");
    }
}
