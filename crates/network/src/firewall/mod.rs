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
mod ports;
#[cfg(test)]
mod tests;

pub use plan::USER_CHAIN;
pub use ports::{Change, Mapping, Redirections, Way};

use crate::ip::octets;
use crate::netlink::nft::{self, Element, Transaction};
use crate::netlink::{Failure, Socket, conntrack};
use crate::{Error, IpNet, Protocol};
use ports::elements;
use std::net::IpAddr;

/// The name of our table.
pub(crate) const TABLE: &str = "wharf";

/// What the packet filter needs to know of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRules {
    /// The name of the bridge.
    pub bridge: String,
    /// The network's subnets.
    pub subnets: Vec<IpNet>,
    /// The bridge's own addresses: no container may say that it has them.
    pub addresses: Vec<IpAddr>,
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

/// A container that may speak to another where containers do not reach each other, on one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Who speaks.
    pub from: IpAddr,
    /// To whom, in the same family.
    pub to: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of `to`.
    pub port: u16,
}

/// A mark of packets, and the bits of it that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What they are.
    pub value: u32,
    /// Which.
    pub mask: u32,
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
    /// Packets that reach containers whatever they are for.
    accepted: Option<Mark>,
}

impl Firewall {
    /// Opens the way to the packet filter of the calling thread's namespace. Nothing is changed yet.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::netfilter()?, bridged: false, accepted: None })
    }

    /// Lets packets with this mark reach all containers but those of internal networks, from the next [`Firewall::install`] on.
    #[must_use]
    pub fn accepting(self, mark: Option<Mark>) -> Self {
        Self { accepted: mark, ..self }
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
        encode::write(&mut transaction, &plan::table(networks, self.accepted));
        self.commit(transaction, "write rules")?;
        let mut transaction = Transaction::new(TABLE).bridge();
        encode::write(&mut transaction, &plan::bridge_table(networks));
        // A kernel without it has isolated ports instead, and no exceptions.
        self.bridged = transaction.commit(&mut self.socket).is_ok();
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
        for ipv6 in [false, true] {
            let links = links.iter().filter(|link| link.from.is_ipv6() == ipv6);
            let mut pairs: Vec<Vec<u8>> = links
                .map(|link| [octets(link.from), octets(link.to)])
                .flat_map(|[from, to]| [[&from[..], &to].concat(), [to, from].concat()])
                .collect();
            pairs.sort_unstable();
            pairs.dedup();
            let pairs: Vec<Element> = pairs.into_iter().map(Element::member).collect();
            transaction.flush_set(plan::neighbours(ipv6));
            transaction.add_elements(plan::neighbours(ipv6), &pairs);
        }
        if let Some(closed) = closed {
            let names: Vec<Element> = closed.iter().map(|port| name(port)).collect();
            transaction.flush_set(plan::CLOSED);
            transaction.add_elements(plan::CLOSED, &names);
        }
        self.commit(transaction, "write links of bridges")
    }

    /// Opens the ports, all or none.
    ///
    /// # Errors
    /// As [`Firewall::change`].
    pub fn publish(&mut self, mappings: &[Mapping]) -> Result<(), Error> {
        self.change(&Change { closed: Vec::new(), open: mappings.to_vec() })
    }

    /// Closes the ports; those that are closed already are no error.
    ///
    /// # Errors
    /// As [`Firewall::change`].
    pub fn unpublish(&mut self, mappings: &[Mapping]) -> Result<(), Error> {
        self.change(&Change { closed: mappings.to_vec(), open: Vec::new() })
    }

    /// Closes ports, and opens others, in one step.
    ///
    /// Loopback addresses and pairs of different families have no rule: the listener on the host serves them. UDP flows
    /// that began before are forgotten, so that their next packet meets the new rule.
    ///
    /// # Errors
    /// [`Error::Firewall`], with `EEXIST` if a port leads elsewhere already; nothing has changed then, but that ports
    /// are closed if others of them were closed before.
    pub fn change(&mut self, change: &Change) -> Result<(), Error> {
        let closed: Vec<(&str, Element)> = change.closed.iter().flat_map(elements).collect();
        let mut transaction = Transaction::new(TABLE);
        for (set, element) in &closed {
            transaction.delete_elements(set, std::slice::from_ref(element));
        }
        add_all(&mut transaction, &change.open);
        match transaction.commit(&mut self.socket) {
            // One is missing, so nothing was changed: one by one then.
            Err(failure) if nft::is_missing(&failure) => {
                for (set, element) in &closed {
                    let mut transaction = Transaction::new(TABLE);
                    transaction.delete_elements(set, std::slice::from_ref(element));
                    match transaction.commit(&mut self.socket) {
                        Err(failure) if nft::is_missing(&failure) => {}
                        result => result.map_err(word("close a port"))?,
                    }
                }
                let mut transaction = Transaction::new(TABLE);
                add_all(&mut transaction, &change.open);
                self.commit(transaction, "publish ports")?;
            }
            result => result.map_err(word("change published ports"))?,
        }
        self.forget_flows(change.closed.iter().chain(&change.open))
    }

    /// Makes these, and no others, the published ports, links and closed ports (after a restart of the daemon, or when
    /// somebody has taken them away). The rules must be installed.
    ///
    /// # Errors
    /// [`Error::Firewall`]; nothing has changed then.
    pub fn replace(&mut self, contents: &Contents) -> Result<(), Error> {
        let Contents { mappings, links, closed } = contents;
        let mut transaction = Transaction::new(TABLE);
        for set in ports::sets() {
            transaction.flush_set(set.name);
        }
        add_all(&mut transaction, mappings);
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

    fn forget_flows<'a>(&mut self, mappings: impl Iterator<Item = &'a Mapping>) -> Result<(), Error> {
        let (six, four): (Vec<&Mapping>, Vec<&Mapping>) =
            mappings.filter(|mapping| mapping.protocol == Protocol::Udp).partition(|m| m.host_ip.is_ipv6());
        for (ipv6, mappings) in [(false, four), (true, six)] {
            let destinations: Vec<_> =
                mappings.iter().map(|mapping| (mapping.host_ip, mapping.host_ports())).collect();
            if !destinations.is_empty() {
                conntrack::forget_udp(&mut self.socket, ipv6, &destinations).map_err(word("forget flows"))?;
            }
        }
        Ok(())
    }
}

/// Adds what opens ports, in few large messages: one for each map.
fn add_all(transaction: &mut Transaction, mappings: &[Mapping]) {
    let mut elements: Vec<(&str, Element)> = mappings.iter().flat_map(elements).collect();
    elements.sort_by_key(|(set, _)| *set);
    for run in elements.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((set, _)) = run.first() else { continue };
        let run: Vec<Element> = run.iter().map(|(_, element)| element.clone()).collect();
        transaction.add_elements(set, &run);
    }
}

fn word(operation: &'static str) -> impl FnOnce(Failure) -> Error {
    move |failure| failure.into_error(|refused| Error::Firewall { operation, errno: refused.errno })
}

fn name(port: &str) -> Element {
    Element::member(encode::padded(port))
}

fn write_links(transaction: &mut Transaction, links: &[Link]) {
    let element = |link: &Link| {
        let [high, low] = link.port.to_be_bytes();
        let (from, to) = (octets(link.from), octets(link.to));
        Element::member([&from[..], &to, &[link.protocol.number(), 0, 0, 0], &[high, low, 0, 0]].concat())
    };
    for ipv6 in [false, true] {
        let links = links.iter().filter(|link| link.from.is_ipv6() == ipv6 && link.to.is_ipv6() == ipv6);
        let mut elements: Vec<Element> = links.map(element).collect();
        elements.dedup();
        transaction.flush_set(plan::links(ipv6));
        transaction.add_elements(plan::links(ipv6), &elements);
    }
}
