//! Tunnels between hosts (VXLAN, RFC 7348), as ports of a network's bridge.
//!
//! What is for everybody, or for a container nobody has heard of yet, goes to every peer; where an answer comes from is
//! learnt. Nothing is encrypted: that is for the network below.

use crate::netlink::message::Batch;
use crate::netlink::{Failure, Refused, Socket, route};
use crate::{Error, bridge};
use rustix::io::Errno;
use std::net::IpAddr;

/// The port that IANA has for VXLAN.
pub const PORT: u16 = 4789;
/// What the headers of a tunnel take of each packet: Ethernet, IP, UDP, VXLAN.
pub const OVERHEAD: u32 = 50;

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
    /// The other hosts.
    pub peers: Vec<IpAddr>,
}

/// Makes the tunnel if there is none, with exactly these peers.
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
            let Tunnel { name, id, port, local, mtu, .. } = tunnel;
            let vxlan = route::Vxlan { name, id: *id, port: *port, local: *local, master, mtu: *mtu };
            let mut batch = Batch::new();
            route::create_vxlan(&mut batch, &vxlan);
            socket.execute(batch).map_err(word("create tunnel"))?;
            bridge::find(&mut socket, name)?.ok_or_else(|| Error::NoSuchLink(name.clone()))?.index
        }
    };
    let present = route::peers(&mut socket, index).map_err(word("list peers of"))?;
    let gone = present.iter().filter(|peer| !tunnel.peers.contains(peer)).map(|peer| (*peer, false));
    let new = tunnel.peers.iter().filter(|peer| !present.contains(peer)).map(|peer| (*peer, true));
    for (peer, add) in gone.chain(new) {
        let mut batch = Batch::new();
        route::change_peer(&mut batch, index, peer, add);
        socket.execute(batch).map_err(word("change peers of"))?;
    }
    Ok(())
}

/// Removes a tunnel; one that is gone already is no error.
///
/// # Errors
/// [`Error::Link`].
pub fn remove(name: &str) -> Result<(), Error> {
    bridge::delete(&mut Socket::route()?, name)
}
