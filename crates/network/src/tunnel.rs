//! Tunnels between hosts (VXLAN, RFC 7348), as ports of a network's bridge.
//!
//! Either the hosts are known: what is for everybody, or for a container nobody has heard of yet, goes to every one, and
//! where an answer comes from is learnt. Or the containers are: then nothing goes to everybody, and the tunnel itself
//! answers who has which address. Nothing is encrypted: that is for the network below.

use crate::netlink::message::Batch;
use crate::netlink::{Failure, Refused, Socket, route};
use crate::{Error, Mac, bridge};
use rustix::io::Errno;
use std::net::IpAddr;

/// The port that IANA has for VXLAN.
pub const PORT: u16 = 4789;
/// What the headers of a tunnel take of each packet: Ethernet, IP, UDP, VXLAN.
pub const OVERHEAD: u32 = 50;
/// The hardware address under which a tunnel keeps the hosts that get what is for everybody.
const EVERYBODY: Mac = Mac([0; 6]);

/// A tunnel as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The name of the device.
    pub name: String,
    /// The bridge it is a port of.
    pub bridge: String,
    /// Which network it is, the same on all hosts (24 bits).
    pub id: u32,
    /// The UDP port.
    pub port: u16,
    /// This host's address, if it is not to be the one that routing says.
    pub local: Option<IpAddr>,
    /// The largest packet inside.
    pub mtu: u32,
    /// What is known of the others.
    pub others: Others,
}

/// What a tunnel knows of other hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Others {
    /// The hosts.
    Hosts(Vec<IpAddr>),
    /// The containers.
    Containers(Vec<Neighbour>),
}

/// A container's interface on another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The host.
    pub host: IpAddr,
}

/// Makes the tunnel if there is none, and lets it know exactly these others.
///
/// # Errors
/// [`Error::NoSuchLink`] without the bridge, [`Error::NoSuchKind`], [`Error::Link`]; `EEXIST` says that another tunnel has
/// this identifier.
pub fn ensure(tunnel: &Tunnel) -> Result<(), Error> {
    let mut socket = Socket::route()?;
    let word = |operation: &'static str| {
        move |failure: Failure| {
            let name = tunnel.name.clone();
            failure.into_error(|refused: Refused| match refused.errno {
                Errno::OPNOTSUPP => Error::NoSuchKind("vxlan"),
                errno => Error::Link { operation, name, errno },
            })
        }
    };
    let index = match bridge::find(&mut socket, &tunnel.name)? {
        Some(link) => link.index,
        None => {
            let master = bridge::find(&mut socket, &tunnel.bridge)?
                .ok_or_else(|| Error::NoSuchLink(tunnel.bridge.clone()))?
                .index;
            let Tunnel { name, id, port, local, mtu, others, .. } = tunnel;
            let learns = matches!(others, Others::Hosts(_));
            let (id, port, local, mtu) = (*id, *port, *local, *mtu);
            let vxlan = route::Vxlan { name, id, port, local, master, mtu, learns };
            let mut batch = Batch::new();
            route::create_vxlan(&mut batch, &vxlan);
            socket.execute(batch).map_err(word("create tunnel"))?;
            bridge::find(&mut socket, name)?.ok_or_else(|| Error::NoSuchLink(name.clone()))?.index
        }
    };
    tell(&mut socket, index, &tunnel.others).map_err(word("change peers of"))
}

/// Lets a tunnel know exactly these others.
fn tell(socket: &mut Socket, index: u32, others: &Others) -> Result<(), Failure> {
    let stations = match others {
        Others::Hosts(hosts) => hosts.iter().map(|host| (EVERYBODY, *host)).collect::<Vec<_>>(),
        Others::Containers(known) => known.iter().map(|known| (known.mac, known.host)).collect(),
    };
    let mut present = route::stations(socket, index)?;
    if matches!(others, Others::Hosts(_)) {
        present.retain(|(mac, _)| *mac == EVERYBODY);
    }
    for (station, add) in changes(&present, &stations) {
        let mut batch = Batch::new();
        if station.0 == EVERYBODY {
            route::change_peer(&mut batch, index, station.1, add);
        } else {
            route::change_station(&mut batch, index, station, add);
        }
        execute(socket, batch, add)?;
    }
    let Others::Containers(known) = others else { return Ok(()) };
    let pairs = known.iter().flat_map(|known| known.addresses.iter().map(|address| (known.mac, *address)));
    for (neighbour, add) in changes(&route::neighbours(socket, index)?, &pairs.collect::<Vec<_>>()) {
        let mut batch = Batch::new();
        route::change_neighbour(&mut batch, index, neighbour, add);
        execute(socket, batch, add)?;
    }
    Ok(())
}

fn execute(socket: &mut Socket, batch: Batch, add: bool) -> Result<(), Failure> {
    match socket.execute(batch) {
        // It went by itself.
        Err(Failure::Refused(refused)) if !add && refused.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// What makes `present` be `wanted`: first what goes, then what comes.
fn changes<T: Copy + PartialEq>(present: &[T], wanted: &[T]) -> Vec<(T, bool)> {
    let gone = present.iter().filter(|entry| !wanted.contains(entry)).map(|entry| (*entry, false));
    gone.chain(wanted.iter().filter(|entry| !present.contains(entry)).map(|entry| (*entry, true))).collect()
}

/// Removes a tunnel; one that is gone already is no error.
///
/// # Errors
/// [`Error::Link`].
pub fn remove(name: &str) -> Result<(), Error> {
    bridge::delete(&mut Socket::route()?, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_changed() {
        assert_eq!(changes(&[1, 2], &[2, 3]), [(1, false), (3, true)]);
        assert_eq!(changes(&[1], &[1]), []);
        assert_eq!(changes(&[], &[1]), [(1, true)]);
    }
}
