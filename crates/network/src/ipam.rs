//! IP address management: which subnet a network gets, which address an endpoint gets.
//!
//! Pure: the caller gathers the host's routes and keeps the state. The pools and the order are Docker's: a network takes
//! the first free subnet of the default pools that no host route overlaps; an endpoint takes the lowest free address.

pub use crate::ip::{InvalidNet, IpNet};

use crate::ip::{from_number, number};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A large net from which subnets of one size are cut; daemon.json's `default-address-pools`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The whole.
    pub base: IpNet,
    /// The prefix length of each subnet.
    pub size: u8,
}

/// Why an address or a subnet cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpamError {
    /// A requested subnet overlaps with another network's.
    #[error("Pool overlaps with other one on this address space")]
    Overlap,
    /// No default pool has a free subnet.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// The requested address is taken.
    #[error("Address already in use")]
    AddressInUse(IpAddr),
    /// The requested address is not in the subnet.
    #[error("invalid address {address}: it does not belong to {subnet}")]
    OutOfRange {
        /// What was asked for.
        address: IpAddr,
        /// Where it should be.
        subnet: IpNet,
    },
    /// Every address is taken.
    #[error("no available addresses in {0}")]
    Exhausted(IpNet),
    /// The range is not a part of the subnet.
    #[error("invalid ip-range {range}: it does not belong to {subnet}")]
    RangeOutside {
        /// The range asked for.
        range: IpNet,
        /// The network's subnet.
        subnet: IpNet,
    },
}

/// Returns Docker's default pools: 172.17–172.31 in /16, then 192.168.0.0/16 in /20.
pub fn default_pools() -> Vec<AddressPool> {
    let pool = |a, b, prefix, size| {
        let base = IpNet::new(IpAddr::from([a, b, 0, 0]), prefix)?;
        Some(AddressPool { base, size })
    };
    [
        pool(172, 17, 16, 16),
        pool(172, 18, 16, 16),
        pool(172, 19, 16, 16),
        pool(172, 20, 14, 16),
        pool(172, 24, 14, 16),
        pool(172, 28, 14, 16),
        pool(192, 168, 16, 20),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the pool of unique local /64 subnets that belongs to this host (RFC 4193), as Docker 27 does.
///
/// `seed` names the host (machine id or the data root's id); equal seeds give equal pools.
pub fn unique_local_pool(seed: &[u8]) -> AddressPool {
    // FNV-1a: only dispersion matters, nothing is secret here.
    let hash = seed.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = (hash ^ (hash >> 40)).to_le_bytes();
    let address = [0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let base = IpNet::new(IpAddr::from(address), 48).unwrap_or(IpNet::host(IpAddr::from(address)));
    AddressPool { base, size: 64 }
}

/// Returns the first subnet of `pools` that overlaps neither `taken` (other networks) nor `host_routes`.
///
/// Default routes (prefix length 0) do not count.
///
/// # Errors
/// [`IpamError::PoolsExhausted`] if there is none.
pub fn choose_subnet(
    pools: &[AddressPool],
    taken: &[IpNet],
    host_routes: &[IpNet],
) -> Result<IpNet, IpamError> {
    let busy: Vec<IpNet> = taken.iter().chain(host_routes).copied().filter(|net| net.prefix() > 0).collect();
    pools.iter().find_map(|pool| first_free(*pool, &busy)).ok_or(IpamError::PoolsExhausted)
}

/// Checks a subnet that the user named against the other networks.
///
/// Docker lets a user-chosen subnet overlap host routes, so only `taken` counts.
///
/// # Errors
/// [`IpamError::Overlap`].
pub fn check_subnet(subnet: IpNet, taken: &[IpNet]) -> Result<(), IpamError> {
    if taken.iter().any(|other| other.overlaps(subnet)) { Err(IpamError::Overlap) } else { Ok(()) }
}

fn first_free(pool: AddressPool, busy: &[IpNet]) -> Option<IpNet> {
    let base = pool.base.network();
    if pool.size < base.prefix() {
        return None;
    }
    let (end, ipv6) = (number(base.last()), base.is_ipv6());
    let mut next = number(base.first());
    while next <= end {
        let subnet = IpNet::new(from_number(next, ipv6), pool.size)?;
        // Continue behind whatever is in the way, so that a /48 full of /64s is not walked one by one.
        let Some(obstacle) =
            busy.iter().filter(|net| net.overlaps(subnet)).map(|net| number(net.last())).max()
        else {
            return Some(subnet);
        };
        next = obstacle.max(number(subnet.last())).checked_add(1)?;
        let step = number(subnet.last()) - number(subnet.first());
        next = next.checked_add(step)? & !step;
    }
    None
}

/// The addresses of one subnet: which are taken, and which comes next.
#[derive(Debug, Clone)]
pub struct Pool {
    subnet: IpNet,
    range: IpNet,
    taken: BTreeSet<u128>,
    /// No address of the range below this is free.
    lowest: u128,
}

impl Pool {
    /// Returns a pool in which everything is free but the network and broadcast addresses, `gateway` and `auxiliary`.
    ///
    /// `range` limits what is chosen freely (`--ip-range`); a requested address may be anywhere in the subnet.
    ///
    /// # Errors
    /// [`IpamError::RangeOutside`], [`IpamError::OutOfRange`] and [`IpamError::AddressInUse`] for arguments that clash.
    pub fn new(
        subnet: IpNet,
        range: Option<IpNet>,
        gateway: Option<IpAddr>,
        auxiliary: &[IpAddr],
    ) -> Result<Self, IpamError> {
        let subnet = subnet.network();
        let range = range.map_or(subnet, IpNet::network);
        if !subnet.contains_net(range) {
            return Err(IpamError::RangeOutside { range, subnet });
        }
        let mut pool = Self { subnet, range, taken: BTreeSet::new(), lowest: number(range.first()) };
        // RFC 3021: a /31 has neither network nor broadcast address. In IPv6 the first is the routers' anycast address.
        let widest = if subnet.is_ipv6() { 127 } else { 31 };
        if subnet.prefix() < widest {
            pool.taken.insert(number(subnet.first()));
            if !subnet.is_ipv6() {
                pool.taken.insert(number(subnet.last()));
            }
        }
        for address in gateway.iter().chain(auxiliary) {
            pool.allocate(Some(*address))?;
        }
        Ok(pool)
    }

    /// Returns the subnet, host bits cleared.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Takes `requested`, or else the lowest free address of the range.
    ///
    /// # Errors
    /// [`IpamError::AddressInUse`], [`IpamError::OutOfRange`], [`IpamError::Exhausted`].
    pub fn allocate(&mut self, requested: Option<IpAddr>) -> Result<IpAddr, IpamError> {
        if let Some(address) = requested {
            if !self.subnet.contains(address) {
                return Err(IpamError::OutOfRange { address, subnet: self.subnet });
            }
            if !self.taken.insert(number(address)) {
                return Err(IpamError::AddressInUse(address));
            }
            return Ok(address);
        }
        let end = number(self.range.last());
        let mut next = self.lowest;
        for &taken in self.taken.range(self.lowest..) {
            if taken != next {
                break;
            }
            next = next.checked_add(1).ok_or(IpamError::Exhausted(self.range))?;
        }
        if next > end {
            return Err(IpamError::Exhausted(self.range));
        }
        self.taken.insert(next);
        self.lowest = next;
        Ok(from_number(next, self.subnet.is_ipv6()))
    }

    /// Frees an address; one that is free already, or not of this subnet, is left alone.
    pub fn release(&mut self, address: IpAddr) {
        if self.subnet.contains(address) && self.taken.remove(&number(address)) {
            let value = number(address);
            if value >= number(self.range.first()) {
                self.lowest = self.lowest.min(value);
            }
        }
    }

    /// Returns whether `address` is taken.
    pub fn is_taken(&self, address: IpAddr) -> bool {
        self.subnet.contains(address) && self.taken.contains(&number(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_chosen_in_dockers_order() {
        let check = |taken: &[&str], routes: &[&str], expect: &str| {
            let nets = |texts: &[&str]| texts.iter().map(|text| net(text)).collect::<Vec<_>>();
            let chosen = choose_subnet(&default_pools(), &nets(taken), &nets(routes)).unwrap();
            assert_eq!(chosen.to_string(), expect);
        };
        check(&[], &[], "172.17.0.0/16");
        check(&["172.17.0.0/16"], &["0.0.0.0/0", "192.0.2.0/24"], "172.18.0.0/16");
        check(&["172.17.0.0/16"], &["172.18.3.0/24", "172.19.0.1/32"], "172.20.0.0/16");
        check(&["172.16.0.0/13"], &["172.25.0.0/16"], "172.24.0.0/16");
        check(&["172.16.0.0/12"], &[], "192.168.0.0/20");
        check(&["172.16.0.0/12"], &["192.168.0.0/24", "192.168.16.5/32"], "192.168.32.0/20");
    }

    #[test]
    fn thirty_one_networks_then_none() {
        let mut taken = Vec::new();
        while let Ok(subnet) = choose_subnet(&default_pools(), &taken, &[]) {
            assert_eq!(check_subnet(subnet, &taken), Ok(()));
            taken.push(subnet);
        }
        assert_eq!(taken.len(), 31);
        assert_eq!(choose_subnet(&default_pools(), &taken, &[]), Err(IpamError::PoolsExhausted));
        assert_eq!(check_subnet(net("172.17.9.0/24"), &taken), Err(IpamError::Overlap));
    }

    #[test]
    fn unique_local_subnets_are_skipped_in_strides() {
        let pool = unique_local_pool(b"host");
        assert_eq!(pool, unique_local_pool(b"host"));
        assert_ne!(pool.base, unique_local_pool(b"other").base);
        assert!(net("fd00::/8").contains_net(pool.base));
        let first = choose_subnet(&[pool], &[], &[]).unwrap();
        assert_eq!(first.to_string(), pool.base.to_string().replace("/48", "/64"));
        let upper_half = IpNet::new(pool.base.first(), 49).unwrap();
        let behind = choose_subnet(&[pool], &[upper_half], &[]).unwrap();
        assert!(!upper_half.overlaps(behind) && pool.base.contains_net(behind));
    }

    #[test]
    fn lowest_free_address_first() {
        let mut pool =
            Pool::new(net("172.17.0.0/29"), None, Some(ip("172.17.0.1")), &[ip("172.17.0.3")]).unwrap();
        let mut next = || pool.allocate(None).map(|address| address.to_string());
        assert_eq!(next().unwrap(), "172.17.0.2");
        assert_eq!(next().unwrap(), "172.17.0.4");
        assert_eq!(next().unwrap(), "172.17.0.5");
        assert_eq!(next().unwrap(), "172.17.0.6");
        assert_eq!(next(), Err(IpamError::Exhausted(net("172.17.0.0/29"))));
        pool.release(ip("172.17.0.4"));
        pool.release(ip("172.17.0.4"));
        pool.release(ip("10.0.0.1"));
        assert!(!pool.is_taken(ip("172.17.0.4")) && pool.is_taken(ip("172.17.0.7")));
        assert_eq!(pool.allocate(None), Ok(ip("172.17.0.4")));
    }

    #[test]
    fn requested_addresses_may_lie_outside_the_range() {
        let subnet = net("172.28.0.0/16");
        let mut pool = Pool::new(subnet, Some(net("172.28.5.0/24")), None, &[]).unwrap();
        assert_eq!(pool.allocate(Some(ip("172.28.0.9"))), Ok(ip("172.28.0.9")));
        assert_eq!(pool.allocate(Some(ip("172.28.0.9"))), Err(IpamError::AddressInUse(ip("172.28.0.9"))));
        let outside = IpamError::OutOfRange { address: ip("172.29.0.1"), subnet };
        assert_eq!(pool.allocate(Some(ip("172.29.0.1"))), Err(outside));
        assert_eq!(pool.allocate(None), Ok(ip("172.28.5.0")));
        pool.release(ip("172.28.0.9"));
        assert_eq!(pool.allocate(None), Ok(ip("172.28.5.1")));
        assert!(matches!(
            Pool::new(subnet, Some(net("10.0.0.0/24")), None, &[]),
            Err(IpamError::RangeOutside { .. })
        ));
    }

    #[test]
    fn small_and_large_subnets() {
        let mut pool = Pool::new(net("10.0.0.0/31"), None, None, &[]).unwrap();
        assert_eq!(pool.allocate(None), Ok(ip("10.0.0.0")));
        assert_eq!(pool.allocate(None), Ok(ip("10.0.0.1")));
        assert!(pool.allocate(None).is_err());
        let mut pool = Pool::new(net("fd00::/64"), None, Some(ip("fd00::1")), &[]).unwrap();
        assert_eq!(pool.allocate(None), Ok(ip("fd00::2")));
        let mut all =
            Pool::new(net("::/0"), Some(net("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")), None, &[])
                .unwrap();
        assert!(all.allocate(None).is_ok());
        assert!(all.allocate(None).is_err());
    }
}
