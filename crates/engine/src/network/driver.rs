//! What the drivers other than `bridge` are told by their options: macvlan, ipvlan, overlay. Pure.

use super::record::{Driver, Network};
use crate::error::{Error, Result};
use ::network::endpoint::{IpvlanFlag, IpvlanMode, MacvlanMode};
use ::network::tunnel::{self, Others, Tunnel};
use api::StringMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The link that macvlan and ipvlan devices hang on.
pub(super) const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const IPVLAN_MODE: &str = "ipvlan_mode";
const IPVLAN_FLAG: &str = "ipvlan_flag";
/// The other hosts of an overlay, when they are known beforehand.
pub(super) const PEERS: &str = "peers";
/// Docker's name for a VXLAN's identifier, and a shorter one.
const VXLAN_IDS: [&str; 2] = ["vxlanid", "com.docker.network.driver.overlay.vxlanid_list"];
const PORT: &str = "port";
const LOCAL: &str = "local";

/// Checks the options of a driver.
///
/// # Errors
///
/// An invalid argument with Docker's text where Docker has one.
pub(super) fn check(driver: Driver, options: &StringMap) -> Result<()> {
    match driver {
        Driver::Macvlan => macvlan_mode(options).map(drop),
        Driver::Ipvlan => ipvlan(options).map(drop),
        Driver::Overlay => overlay(options).map(drop),
        Driver::Bridge | Driver::Host | Driver::Null => return Ok(()),
    }?;
    if options.get(PARENT).is_some_and(|parent| parent == "lo") {
        let driver = driver.as_str();
        return Err(Error::invalid(format!("loopback interface is not a valid {driver} parent link")));
    }
    Ok(())
}

/// Returns what `macvlan_mode` says.
pub(super) fn macvlan_mode(options: &StringMap) -> Result<MacvlanMode> {
    match option(options, MACVLAN_MODE) {
        "" | "bridge" => Ok(MacvlanMode::Bridge),
        "private" => Ok(MacvlanMode::Private),
        "vepa" => Ok(MacvlanMode::Vepa),
        "passthru" => Ok(MacvlanMode::Passthru),
        other => Err(Error::invalid(format!(
            "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
        ))),
    }
}

/// Returns what `ipvlan_mode` and `ipvlan_flag` say.
pub(super) fn ipvlan(options: &StringMap) -> Result<(IpvlanMode, IpvlanFlag)> {
    let mode = match option(options, IPVLAN_MODE) {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        other => {
            return Err(Error::invalid(format!(
                "requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"
            )));
        }
    };
    let flag = match option(options, IPVLAN_FLAG) {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        other => {
            return Err(Error::invalid(format!(
                "requested ipvlan flag '{other}' is not valid, 'bridge' flag is the ipvlan driver default"
            )));
        }
    };
    Ok((mode, flag))
}

/// What an overlay's options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlay {
    pub(super) peers: Vec<IpAddr>,
    id: Option<u32>,
    port: u16,
    local: Option<IpAddr>,
}

/// Reads the options of an overlay.
pub(super) fn overlay(options: &StringMap) -> Result<Overlay> {
    let address = |text: &str| {
        text.trim().parse::<IpAddr>().map_err(|_error| {
            Error::invalid(format!("invalid address of a host of an overlay network: {text:?}"))
        })
    };
    if options.contains_key("encrypted") {
        return Err(Error::invalid(
            "encrypted overlay networks are not supported: the network between the hosts has to be trusted or encrypted itself",
        ));
    }
    let peers = option(options, PEERS).split(',').filter(|text| !text.trim().is_empty());
    let number = |name: &str| match option(options, name) {
        "" => Ok(None),
        text => text
            .parse::<u32>()
            .map(Some)
            .map_err(|_error| Error::invalid(format!("invalid {name}: {text:?}"))),
    };
    let mut id = None;
    for name in VXLAN_IDS {
        id = id.or(number(name)?);
    }
    if id.is_some_and(|id| id >> 24 != 0) {
        return Err(Error::invalid("invalid vxlanid: at most 16777215"));
    }
    let port = match number(PORT)? {
        None => tunnel::PORT,
        Some(port) => {
            u16::try_from(port).map_err(|_error| Error::invalid(format!("invalid port: {port}")))?
        }
    };
    let local = Some(option(options, LOCAL)).filter(|text| !text.is_empty()).map(address).transpose()?;
    Ok(Overlay { peers: peers.map(address).collect::<Result<_>>()?, id, port, local })
}

/// Returns the tunnel of an overlay network.
///
/// The identifier has to be the same on all hosts: where none is given it follows from the network's name.
pub(super) fn tunnel(network: &Network, others: Others, mtu: u32) -> Result<Tunnel> {
    let Overlay { port, local, .. } = overlay(&network.options)?;
    let others = match others {
        Others::Hosts(hosts) => {
            Others::Hosts(hosts.into_iter().filter(|host| Some(*host) != local).collect())
        }
        told @ Others::Containers(_) => told,
    };
    Ok(Tunnel {
        name: tunnel_name(network),
        bridge: network.device.clone(),
        id: number(network)?,
        port,
        local,
        mtu,
        others,
    })
}

/// Returns the name of an overlay's tunnel.
pub(super) fn tunnel_name(network: &Network) -> String {
    format!("vx-{}", network.id.chars().take(12).collect::<String>())
}

/// Returns the number by which hosts tell an overlay from others.
pub(super) fn number(network: &Network) -> Result<u32> {
    Ok(overlay(&network.options)?.id.unwrap_or_else(|| identifier(&network.name)))
}

/// Gives an overlay a number that none of `taken` is, and writes it down under Docker's name.
///
/// # Errors
///
/// An invalid argument if the user asked for one that is.
pub(super) fn set_number(network: &mut Network, taken: &BTreeSet<u32>) -> Result<()> {
    let mut number = number(network)?;
    if overlay(&network.options)?.id.is_some() {
        return match taken.contains(&number) {
            true => {
                Err(Error::conflict(format!("vxlanid {number} is used by another network of the cluster")))
            }
            false => Ok(()),
        };
    }
    while taken.contains(&number) {
        number = ((number + 1) & 0x00ff_ffff).max(4096);
    }
    network.options.insert(VXLAN_IDS[1].to_owned(), number.to_string());
    Ok(())
}

/// A number of 24 bits that follows from a name (FNV-1a, folded). Docker's begin at 4096.
fn identifier(name: &str) -> u32 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    ((hash >> 24) ^ (hash & 0x00ff_ffff)).max(4096)
}

fn option<'a>(options: &'a StringMap, name: &str) -> &'a str {
    options.get(name).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> StringMap {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_checked() {
        for (driver, pairs, fits) in [
            (Driver::Macvlan, &[("macvlan_mode", "vepa"), ("parent", "eth0")][..], true),
            (Driver::Macvlan, &[("macvlan_mode", "l2")], false),
            (Driver::Macvlan, &[("parent", "lo")], false),
            (Driver::Ipvlan, &[("ipvlan_mode", "l3s"), ("ipvlan_flag", "private")], true),
            (Driver::Ipvlan, &[("ipvlan_mode", "l4")], false),
            (Driver::Overlay, &[("peers", "192.0.2.1, 192.0.2.2"), ("vxlanid", "77")], true),
            (Driver::Overlay, &[("peers", "host")], false),
            (Driver::Overlay, &[("vxlanid", "16777216")], false),
            (Driver::Overlay, &[("encrypted", "")], false),
            (Driver::Overlay, &[("port", "70000")], false),
        ] {
            assert_eq!(check(driver, &options(pairs)).is_ok(), fits, "{driver:?} {pairs:?}");
        }
    }

    #[test]
    fn a_network_has_the_same_number_everywhere() {
        assert_eq!(identifier("net"), identifier("net"));
        assert_ne!(identifier("net"), identifier("other"));
        assert!(["", "a", "net"].iter().all(|name| (4096..1 << 24).contains(&identifier(name))));
    }
}
