//! The bridge of a network on the host.

use crate::netlink::message::Batch;
use crate::netlink::{Failure, Socket, route};
use crate::{Error, IpNet, Mac, netns};
use rustix::io::Errno;

/// A bridge as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bridge {
    /// The name of the device (at most 15 bytes).
    pub name: String,
    /// The host's addresses on it: the networks' gateways.
    pub addresses: Vec<IpNet>,
    /// The largest packet; `None` leaves the kernel's choice (the smallest of the ports).
    pub mtu: Option<u32>,
    /// Its hardware address if it is made; `None` for one at random.
    pub mac: Option<Mac>,
}

/// Makes the bridge if it does not exist, gives it exactly these addresses (link-local ones aside) and sets it up.
///
/// Without an IPv6 address IPv6 is switched off on it, so that nobody on it reaches the host by a link-local address;
/// router advertisements from containers are never heeded (CVE-2020-13401). Returns its hardware address: one that is made
/// again must have the same, or those on it speak to the old one for as long as they remember it.
///
/// # Errors
/// [`Error::NotABridge`] if something else has the name; [`Error::Link`].
pub fn ensure(bridge: &Bridge) -> Result<Option<Mac>, Error> {
    let refused = |operation| {
        let name = bridge.name.clone();
        move |refused: crate::netlink::Refused| Error::Link { operation, name, errno: refused.errno }
    };
    let mut socket = Socket::route()?;
    let mut found = find(&mut socket, &bridge.name)?;
    if found.is_none() {
        let mut batch = Batch::new();
        route::create_bridge(&mut batch, &bridge.name, bridge.mac.unwrap_or_else(Mac::random), bridge.mtu);
        match socket.execute(batch) {
            // Somebody was quicker: then it must be a bridge all the same, which is looked up next.
            Err(Failure::Refused(refused)) if refused.errno == Errno::EXIST => {}
            result => result.map_err(|failure| failure.into_error(refused("create bridge")))?,
        }
        found = find(&mut socket, &bridge.name)?;
    }
    let link = found.ok_or_else(|| Error::NoSuchLink(bridge.name.clone()))?;
    if link.kind.as_deref() != Some("bridge") {
        return Err(Error::NotABridge(bridge.name.clone()));
    }
    let ipv6 = bridge.addresses.iter().any(|address| address.is_ipv6());
    set_ipv6(&bridge.name, ipv6)?;
    let present: Vec<IpNet> = route::addresses(&mut socket)
        .map_err(|failure| failure.into_error(refused("list addresses of")))?
        .into_iter()
        .filter_map(|(index, address)| (index == link.index).then_some(address))
        .collect();
    let mut batch = Batch::new();
    for address in present.iter().filter(|address| !bridge.addresses.contains(address)) {
        if !is_link_local(*address) {
            route::delete_address(&mut batch, link.index, *address);
        }
    }
    for address in bridge.addresses.iter().filter(|address| !present.contains(address)) {
        route::add_address(&mut batch, link.index, *address);
    }
    if let Some(mtu) = bridge.mtu.filter(|mtu| *mtu != link.mtu) {
        route::set_mtu(&mut batch, link.index, mtu);
    }
    route::set_up(&mut batch, link.index);
    batch.acknowledge_last();
    socket.execute(batch).map_err(|failure| failure.into_error(refused("configure bridge")))?;
    Ok(link.mac)
}

/// Makes links that lost their bridge its ports again; those that are gone are no error.
///
/// # Errors
/// [`Error::NoSuchLink`], [`Error::Link`].
pub fn adopt(name: &str, ports: &[String]) -> Result<(), Error> {
    let mut socket = Socket::route()?;
    let link = find(&mut socket, name)?.ok_or_else(|| Error::NoSuchLink(name.to_owned()))?;
    for port in ports {
        let mut batch = Batch::new();
        route::set_master(&mut batch, port, link.index);
        match socket.execute(batch) {
            Err(Failure::Refused(refused)) if refused.errno == Errno::NODEV => {}
            result => result.map_err(|failure| {
                failure.into_error(|refused| Error::Link {
                    operation: "make a port of a bridge of",
                    name: port.clone(),
                    errno: refused.errno,
                })
            })?,
        }
    }
    Ok(())
}

/// Removes a bridge; one that is gone already is no error.
///
/// # Errors
/// [`Error::NotABridge`], [`Error::Link`].
pub fn remove(name: &str) -> Result<(), Error> {
    let mut socket = Socket::route()?;
    match find(&mut socket, name)? {
        None => Ok(()),
        Some(link) if link.kind.as_deref() != Some("bridge") => Err(Error::NotABridge(name.to_owned())),
        Some(_) => delete(&mut socket, name),
    }
}

/// Returns whether a link of this name exists.
///
/// # Errors
/// Netlink errors.
pub fn exists(name: &str) -> Result<bool, Error> {
    Ok(find(&mut Socket::route()?, name)?.is_some())
}

/// Deletes a link; one that is gone already is no error.
pub(crate) fn delete(socket: &mut Socket, name: &str) -> Result<(), Error> {
    let mut batch = Batch::new();
    route::delete_link(&mut batch, name);
    match socket.execute(batch) {
        Err(Failure::Refused(refused)) if refused.errno == Errno::NODEV => Ok(()),
        result => result.map_err(|failure| {
            failure.into_error(|refused| Error::Link {
                operation: "delete",
                name: name.to_owned(),
                errno: refused.errno,
            })
        }),
    }
}

/// Returns the link of this name.
pub(crate) fn find(socket: &mut Socket, name: &str) -> Result<Option<route::Link>, Error> {
    route::link(socket, name).map_err(|failure| {
        failure.into_error(|refused| Error::Link {
            operation: "look up",
            name: name.to_owned(),
            errno: refused.errno,
        })
    })
}

fn set_ipv6(name: &str, on: bool) -> Result<(), Error> {
    let escaped = name.replace('.', "/");
    let setting = |what: &str| format!("net.ipv6.conf.{escaped}.{what}");
    let off = if on { "0" } else { "1" };
    let settings = [(setting("accept_ra"), "0"), (setting("disable_ipv6"), off)];
    match netns::write_sysctls(settings.iter().map(|(name, value)| (name.as_str(), *value))) {
        // A kernel without IPv6 has no such setting, and nothing to switch off.
        Err(Error::Sysctl { errno: Errno::NOENT, .. }) if !on => Ok(()),
        other => other,
    }
}

fn is_link_local(address: IpNet) -> bool {
    matches!(address.address(), std::net::IpAddr::V6(v6) if v6.is_unicast_link_local())
}
