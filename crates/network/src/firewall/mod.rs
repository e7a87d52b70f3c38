//! The packet filter: one `inet` table of our own, called `wharf`.
//!
//! Never anyone else's rules. The rules are written as a whole, in one atomic change, whenever a network comes or goes
//! ([`Firewall::install`]); a published port is one element of a map ([`Firewall::publish`]), at any number of ports.
//! What is in the maps outlives the daemon.
//!
//! From outside, a container is reached through its published ports only, whatever addresses one routes to it; networks
//! do not reach each other. Administrators put their own rules into the chain `wharf-user`, which comes first.

mod encode;
mod plan;
#[cfg(test)]
mod tests;

pub use plan::USER_CHAIN;

use crate::ip::octets;
use crate::netlink::nft::{self, Element, ElementData, Transaction};
use crate::netlink::{Failure, Socket, conntrack};
use crate::{Error, IpNet, Protocol};
use std::net::IpAddr;

/// The name of our table.
const TABLE: &str = "wharf";

/// What the packet filter needs to know of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRules {
    /// The name of the bridge.
    pub bridge: String,
    /// The network's subnets.
    pub subnets: Vec<IpNet>,
    /// Whether packets leaving the host get the host's address (`enable_ip_masquerade`).
    pub masquerade: bool,
    /// Whether containers of the network reach each other (`enable_icc`).
    ///
    /// Bridged packets come here only where `br_netfilter` is loaded; the rest is `Attachment::Bridge::isolated`.
    pub icc: bool,
    /// Whether the network is cut off from everything but the host (`--internal`).
    pub internal: bool,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` or `::` for all of a family.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub container_ip: IpAddr,
    /// The container's port.
    pub container_port: u16,
}

/// Our table in the network namespace in which this was opened.
#[derive(Debug)]
pub struct Firewall {
    socket: Socket,
}

impl Firewall {
    /// Opens the way to the packet filter of the calling thread's namespace. Nothing is changed yet.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::netfilter()? })
    }

    /// Writes the rules for exactly these networks; published ports and the administrator's chain are kept.
    ///
    /// Atomic: at no moment are there half the rules. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::Firewall`]; nothing has changed then.
    pub fn install(&mut self, networks: &[NetworkRules]) -> Result<(), Error> {
        let mut transaction = Transaction::new(TABLE);
        encode::write(&mut transaction, &plan::table(networks));
        self.commit(transaction, "write rules")
    }

    /// Opens the ports, all or none.
    ///
    /// Loopback addresses and pairs of different families have no rule: the listener on the host serves them. UDP flows
    /// that began before are forgotten, so that their next packet meets the new rule.
    ///
    /// # Errors
    /// [`Error::Firewall`], with `EEXIST` if a port leads elsewhere already.
    pub fn publish(&mut self, mappings: &[Mapping]) -> Result<(), Error> {
        let mut transaction = Transaction::new(TABLE);
        for (set, element) in mappings.iter().filter_map(element) {
            transaction.add_elements(set, &[element]);
        }
        self.commit(transaction, "publish ports")?;
        self.forget_flows(mappings)
    }

    /// Closes the ports; those that are closed already are no error.
    ///
    /// # Errors
    /// [`Error::Firewall`].
    pub fn unpublish(&mut self, mappings: &[Mapping]) -> Result<(), Error> {
        let elements: Vec<(&str, Element)> = mappings.iter().filter_map(element).collect();
        let mut transaction = Transaction::new(TABLE);
        for (set, element) in &elements {
            transaction.delete_elements(set, std::slice::from_ref(element));
        }
        match transaction.commit(&mut self.socket) {
            // One is missing, so none was deleted: one by one then.
            Err(failure) if nft::is_missing(&failure) => {
                for (set, element) in &elements {
                    let mut transaction = Transaction::new(TABLE);
                    transaction.delete_elements(set, std::slice::from_ref(element));
                    match transaction.commit(&mut self.socket) {
                        Err(failure) if nft::is_missing(&failure) => {}
                        result => result.map_err(word("unpublish a port"))?,
                    }
                }
            }
            result => result.map_err(word("unpublish ports"))?,
        }
        self.forget_flows(mappings)
    }

    /// Makes these, and no others, the published ports (after a restart of the daemon). The rules must be installed.
    ///
    /// # Errors
    /// [`Error::Firewall`]; nothing has changed then.
    pub fn replace(&mut self, mappings: &[Mapping]) -> Result<(), Error> {
        let mut transaction = Transaction::new(TABLE);
        for (ipv6, any) in [(false, false), (false, true), (true, false), (true, true)] {
            transaction.flush_set(plan::ports_map(ipv6, any));
        }
        transaction.flush_set(plan::LOOPBACK_PORTS);
        // Few large messages: one for each run of elements of the same map.
        let mut elements: Vec<(&str, Element)> = mappings.iter().filter_map(element).collect();
        elements.sort_by_key(|(set, _)| *set);
        for run in elements.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((set, _)) = run.first() else { continue };
            let run: Vec<Element> = run.iter().map(|(_, element)| element.clone()).collect();
            transaction.add_elements(set, &run);
        }
        self.commit(transaction, "replace ports")
    }

    /// Deletes our table, the administrator's chain included; none there is no error.
    ///
    /// # Errors
    /// [`Error::Firewall`].
    pub fn remove(&mut self) -> Result<(), Error> {
        let mut transaction = Transaction::new(TABLE);
        transaction.delete_table();
        match transaction.commit(&mut self.socket) {
            Err(failure) if nft::is_missing(&failure) => Ok(()),
            result => result.map_err(word("delete the table")),
        }
    }

    fn commit(&mut self, transaction: Transaction, operation: &'static str) -> Result<(), Error> {
        transaction.commit(&mut self.socket).map_err(word(operation))
    }

    fn forget_flows(&mut self, mappings: &[Mapping]) -> Result<(), Error> {
        let udp = |ipv6: bool| {
            mappings
                .iter()
                .filter(move |mapping| mapping.protocol == Protocol::Udp && mapping.host_ip.is_ipv6() == ipv6)
                .map(|mapping| (mapping.host_ip, mapping.host_port))
                .collect::<Vec<_>>()
        };
        for ipv6 in [false, true] {
            let destinations = udp(ipv6);
            if !destinations.is_empty() {
                conntrack::forget_udp(&mut self.socket, ipv6, &destinations).map_err(word("forget flows"))?;
            }
        }
        Ok(())
    }
}

fn word(operation: &'static str) -> impl FnOnce(Failure) -> Error {
    move |failure| failure.into_error(|refused| Error::Firewall { operation, errno: refused.errno })
}

/// Returns the element that opens a port, and the map or set it goes into.
fn element(mapping: &Mapping) -> Option<(&'static str, Element)> {
    let ipv6 = mapping.host_ip.is_ipv6();
    let port = |port: u16| {
        let [high, low] = port.to_be_bytes();
        vec![high, low, 0, 0]
    };
    let protocol = vec![mapping.protocol.number(), 0, 0, 0];
    let key = |any: bool| {
        let address = if any { Vec::new() } else { octets(mapping.host_ip) };
        [protocol.clone(), address, port(mapping.host_port)].concat()
    };
    if mapping.host_ip.is_loopback() {
        // The kernel itself drops packets from outside to ::1.
        return (!ipv6)
            .then(|| (plan::LOOPBACK_PORTS, Element { key: key(false), data: ElementData::Nothing }));
    }
    if mapping.container_ip.is_ipv6() != ipv6 {
        return None;
    }
    let any = mapping.host_ip.is_unspecified();
    let value = [octets(mapping.container_ip), port(mapping.container_port)].concat();
    Some((plan::ports_map(ipv6, any), Element { key: key(any), data: ElementData::Value(value) }))
}
