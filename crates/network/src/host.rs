//! Facts about the host's network, and the settings the engine needs there.

use crate::netlink::{Refused, Socket, route};
use crate::{Error, IpNet, Mac, netns};
use std::net::IpAddr;

/// Returns the destinations of the host's routes, for [`crate::ipam::choose_subnet`].
///
/// # Errors
/// Netlink errors.
pub fn routes() -> Result<Vec<IpNet>, Error> {
    route::routes(&mut Socket::route()?).map_err(|failure| failure.into_error(word("list routes")))
}

/// Returns the host's addresses with the names of their links.
///
/// # Errors
/// Netlink errors.
pub fn addresses() -> Result<Vec<(String, IpNet)>, Error> {
    let mut socket = Socket::route()?;
    let links = route::links(&mut socket).map_err(|failure| failure.into_error(word("list links")))?;
    let addresses =
        route::addresses(&mut socket).map_err(|failure| failure.into_error(word("list addresses")))?;
    let name = |index| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    Ok(addresses.into_iter().filter_map(|(index, address)| Some((name(index)?, address))).collect())
}

/// Returns the names of the host's ends of veth pairs on `bridge` that were made here; another engine may have its own there.
///
/// # Errors
/// Netlink errors.
pub fn ports_of(bridge: &str) -> Result<Vec<String>, Error> {
    let links =
        route::links(&mut Socket::route()?).map_err(|failure| failure.into_error(word("list links")))?;
    let index = links.iter().find(|link| link.name == bridge).map(|link| link.index);
    let is_port = |link: &route::Link| link.master.is_some() && link.master == index;
    let ports = links.into_iter().filter(|link| is_port(link) && link.group == route::GROUP);
    Ok(ports.map(|link| link.name).collect())
}

/// Returns the hardware address of a link; `None` if it has none, or there is no such link.
///
/// # Errors
/// Netlink errors.
pub fn hardware_address(name: &str) -> Result<Option<Mac>, Error> {
    Ok(crate::bridge::find(&mut Socket::route()?, name)?.and_then(|link| link.mac))
}

fn word(operation: &'static str) -> impl FnOnce(Refused) -> Error {
    move |refused| Error::Netlink { operation, errno: refused.errno }
}

/// Lets the host forward packets between its devices, for the families of `subnets`.
///
/// Router advertisements are heeded as before: the kernel would ignore them on a forwarding host, so interfaces that
/// accept them (`accept_ra` 1) are told to go on (2).
///
/// # Errors
/// [`Error::Sysctl`].
pub fn enable_forwarding(subnets: &[IpNet]) -> Result<(), Error> {
    if subnets.iter().any(|subnet| !subnet.is_ipv6()) {
        write_if_different("net.ipv4.ip_forward", "1")?;
    }
    if subnets.iter().any(|subnet| subnet.is_ipv6()) {
        keep_router_advertisements()?;
        write_if_different("net.ipv6.conf.all.forwarding", "1")?;
    }
    Ok(())
}

/// Writing is skipped where nothing changes: a container engine may run where /proc/sys is read-only.
fn write_if_different(name: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    if std::fs::read_to_string(path).is_ok_and(|present| present.trim() == value) {
        return Ok(());
    }
    netns::write_sysctls([(name, value)])
}

fn keep_router_advertisements() -> Result<(), Error> {
    let links =
        route::links(&mut Socket::route()?).map_err(|failure| failure.into_error(word("list links")))?;
    // Virtual devices (bridges, veth) have a kind; uplinks have none.
    for link in links.iter().filter(|link| link.kind.is_none() && link.name != "lo") {
        let path = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", link.name);
        if std::fs::read_to_string(path).is_ok_and(|present| present.trim() == "1") {
            let name = format!("net.ipv6.conf.{}.accept_ra", link.name.replace('.', "/"));
            netns::write_sysctls([(name.as_str(), "2")])?;
        }
    }
    Ok(())
}

/// Returns the host's address that a container should use for `host-gateway`: the default bridge's own.
pub fn gateway_of(addresses: &[IpNet]) -> Option<IpAddr> {
    addresses.iter().find(|address| !address.is_ipv6()).or(addresses.first()).map(|address| address.address())
}
