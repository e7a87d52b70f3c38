//! Who is who in a container's networks.

use std::collections::HashMap;
use std::net::IpAddr;

/// The names that the resolver answers by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    addresses: HashMap<String, Vec<IpAddr>>,
    names: HashMap<IpAddr, String>,
}

impl Names {
    /// Returns a table without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `name` stand for `address`, besides those it stands for already. Case does not matter.
    ///
    /// Docker's names of an endpoint are the container's name and aliases, its short ID, and each of them followed by a
    /// dot and the network's name.
    pub fn add(&mut self, name: &str, address: IpAddr) {
        let addresses = self.addresses.entry(canonical(name)).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    /// Lets questions for the name of `address` be answered with `name` (Docker: container and network name).
    pub fn add_pointer(&mut self, address: IpAddr, name: &str) {
        self.names.entry(address).or_insert_with(|| name.to_owned());
    }

    /// Returns the addresses of a name, or `None` if it is unknown.
    pub(super) fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.addresses.get(name).map(Vec::as_slice)
    }

    /// Returns the name of an address.
    pub(super) fn name(&self, address: IpAddr) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
