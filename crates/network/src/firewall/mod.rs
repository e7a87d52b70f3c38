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
use std::net::{IpAddr, Ipv4Addr};

/// The name of our table.
pub(crate) const TABLE: &str = "wharf";

/// What the packet filter needs to know of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRules {
    /// The name of the bridge.
    pub bridge: String,
    /// The network's subnets.
    pub subnets: Vec<IpNet>,
    /// Those of them whose packets get the host's address when they leave it (`enable_ip_masquerade`).
    pub masqueraded: Vec<IpNet>,
    /// Whether everybody reaches its containers by their own IPv4 and IPv6 addresses (gateway mode `nat-unprotected`).
    pub open: [bool; 2],
    /// Whether containers of the network reach each other (`enable_icc`). If not, their ports are to be closed as well
    /// ([`Firewall::close`]).
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
    /// By which addresses it is reached.
    pub way: Way,
}

/// By which addresses a published port is reached from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// The host's.
    #[default]
    Host,
    /// The container's own (gateway mode `routed`).
    Container,
    /// Both (`allow-direct-routing`).
    Both,
}

/// A container that may speak to another where containers do not reach each other, on one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Who speaks.
    pub from: Ipv4Addr,
    /// To whom.
    pub to: Ipv4Addr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of `to`.
    pub port: u16,
}

/// What is in the sets and maps, besides the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The published ports.
    pub mappings: Vec<Mapping>,
    /// The exceptions where containers do not reach each other.
    pub links: Vec<Link>,
    /// The ports of bridges that are closed.
    pub closed: Vec<String>,
}

/// Our table in the network namespace in which this was opened.
#[derive(Debug)]
pub struct Firewall {
    socket: Socket,
    /// Whether there is a table for bridged packets.
    bridged: bool,
}

impl Firewall {
    /// Opens the way to the packet filter of the calling thread's namespace. Nothing is changed yet.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::netfilter()?, bridged: false })
    }

    /// Returns how the kernel knows our changes from those of others.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn port_id(&self) -> Result<u32, Error> {
        self.socket.port_id()
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
        self.commit(transaction, "write rules")?;
        if networks.iter().any(|network| !network.icc) {
            let mut transaction = Transaction::new(TABLE).bridge();
            encode::write(&mut transaction, &plan::bridge_table());
            // A kernel without it has isolated ports instead, and no exceptions.
            self.bridged = transaction.commit(&mut self.socket).is_ok();
        }
        Ok(())
    }

    /// Keeps a port of a bridge, which may be yet to come, from the bridge's other ports, but for links.
    ///
    /// Returns whether that can be done: without `nf_tables` for bridges the port has to be isolated.
    ///
    /// # Errors
    /// [`Error::Firewall`].
    pub fn close(&mut self, port: &str) -> Result<bool, Error> {
        if self.bridged {
            let mut transaction = Transaction::new(TABLE).bridge();
            transaction.add_elements(plan::CLOSED, &[name(port)]);
            self.commit(transaction, "close a port of a bridge")?;
        }
        Ok(self.bridged)
    }

    /// Forgets a port that was closed and that is no more.
    ///
    /// # Errors
    /// [`Error::Firewall`].
    pub fn forget_port(&mut self, port: &str) -> Result<(), Error> {
        let mut transaction = Transaction::new(TABLE).bridge();
        transaction.delete_elements(plan::CLOSED, &[name(port)]);
        match transaction.commit(&mut self.socket) {
            Err(failure) if nft::is_missing(&failure) => Ok(()),
            result => result.map_err(word("forget a port of a bridge")),
        }
    }

    /// Makes these, and no others, the exceptions where containers do not reach each other.
    ///
    /// # Errors
    /// [`Error::Firewall`].
    pub fn link(&mut self, links: &[Link]) -> Result<(), Error> {
        let mut transaction = Transaction::new(TABLE);
        write_links(&mut transaction, links);
        self.commit(transaction, "write links")?;
        self.write_bridge_contents(links, None)
    }

    fn write_bridge_contents(&mut self, links: &[Link], closed: Option<&[String]>) -> Result<(), Error> {
        if !self.bridged {
            return Ok(());
        }
        let mut transaction = Transaction::new(TABLE).bridge();
        write_links(&mut transaction, links);
        let mut pairs: Vec<Vec<u8>> = links
            .iter()
            .flat_map(|link| [[link.from.octets(), link.to.octets()], [link.to.octets(), link.from.octets()]])
            .map(|pair| pair.concat())
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        let pairs: Vec<Element> =
            pairs.into_iter().map(|key| Element { key, data: ElementData::Nothing }).collect();
        transaction.flush_set(plan::NEIGHBOURS);
        transaction.add_elements(plan::NEIGHBOURS, &pairs);
        if let Some(closed) = closed {
            let names: Vec<Element> = closed.iter().map(|port| name(port)).collect();
            transaction.flush_set(plan::CLOSED);
            transaction.add_elements(plan::CLOSED, &names);
        }
        self.commit(transaction, "write links of bridges")
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
        for (set, element) in mappings.iter().flat_map(elements) {
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
        let elements: Vec<(&str, Element)> = mappings.iter().flat_map(elements).collect();
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

    /// Makes these, and no others, the published ports, links and closed ports (after a restart of the daemon, or when
    /// somebody has taken them away). The rules must be installed.
    ///
    /// # Errors
    /// [`Error::Firewall`]; nothing has changed then.
    pub fn replace(&mut self, contents: &Contents) -> Result<(), Error> {
        let Contents { mappings, links, closed } = contents;
        let mut transaction = Transaction::new(TABLE);
        for (ipv6, any) in [(false, false), (false, true), (true, false), (true, true)] {
            transaction.flush_set(plan::ports_map(ipv6, any));
        }
        for ipv6 in [false, true] {
            transaction.flush_set(plan::direct_set(ipv6));
        }
        transaction.flush_set(plan::LOOPBACK_PORTS);
        // Few large messages: one for each run of elements of the same map.
        let mut elements: Vec<(&str, Element)> = mappings.iter().flat_map(elements).collect();
        elements.sort_by_key(|(set, _)| *set);
        for run in elements.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((set, _)) = run.first() else { continue };
            let run: Vec<Element> = run.iter().map(|(_, element)| element.clone()).collect();
            transaction.add_elements(set, &run);
        }
        write_links(&mut transaction, links);
        self.commit(transaction, "replace ports")?;
        self.write_bridge_contents(links, Some(closed))
    }

    /// Deletes our tables, the administrator's chain included; none there is no error.
    ///
    /// # Errors
    /// [`Error::Firewall`].
    pub fn remove(&mut self) -> Result<(), Error> {
        for mut transaction in [Transaction::new(TABLE), Transaction::new(TABLE).bridge()] {
            transaction.delete_table();
            match transaction.commit(&mut self.socket) {
                // Without such tables the kernel has none of ours either.
                Err(failure) if nft::is_missing(&failure) || nft::is_unknown(&failure) => {}
                result => result.map_err(word("delete the table"))?,
            }
        }
        self.bridged = false;
        Ok(())
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

fn name(port: &str) -> Element {
    Element { key: encode::padded(port), data: ElementData::Nothing }
}

fn write_links(transaction: &mut Transaction, links: &[Link]) {
    let element = |link: &Link| {
        let [high, low] = link.port.to_be_bytes();
        let key = [
            &link.from.octets()[..],
            &link.to.octets(),
            &[link.protocol.number(), 0, 0, 0],
            &[high, low, 0, 0],
        ];
        Element { key: key.concat(), data: ElementData::Nothing }
    };
    let mut elements: Vec<Element> = links.iter().map(element).collect();
    elements.dedup();
    transaction.flush_set(plan::LINKS);
    transaction.add_elements(plan::LINKS, &elements);
}

/// Returns the elements that open a port, and the maps or sets they go into.
fn elements(mapping: &Mapping) -> impl Iterator<Item = (&'static str, Element)> {
    let host = (mapping.way != Way::Container).then(|| element(mapping)).flatten();
    host.into_iter().chain(direct(mapping))
}

/// Returns the element that opens a port at the container's own address.
fn direct(mapping: &Mapping) -> Option<(&'static str, Element)> {
    let ipv6 = mapping.container_ip.is_ipv6();
    if mapping.way == Way::Host || mapping.host_ip.is_loopback() || mapping.host_ip.is_ipv6() != ipv6 {
        return None;
    }
    let [high, low] = mapping.container_port.to_be_bytes();
    let mut key = vec![mapping.protocol.number(), 0, 0, 0];
    key.extend(octets(mapping.container_ip));
    key.extend([high, low, 0, 0]);
    Some((plan::direct_set(ipv6), Element { key, data: ElementData::Nothing }))
}

/// Returns the element that leads from the host's port to the container's.
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
