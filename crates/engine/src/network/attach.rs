//! A container's place in a network: its addresses, its interface.

use super::record::{Driver, Network, Subnet};
use super::{Member, Networks, driver, lock};
use crate::error::{Error, Result};
use crate::events::random_id;
use ::network::endpoint::{self, Attachment, EndpointPlan, MacvlanMode};
use ::network::ipam::Pool;
use ::network::{IpNet, Mac, host};
use api::network::EndpointSettings;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// What an endpoint's options call its interface (Docker 28).
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";
/// Settings of an endpoint's interface: `net.ipv4.conf.IFNAME.log_martians=1,…`.
const INTERFACE_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

impl Networks {
    /// Gives a container its interface on `network`: addresses, device, routes, inside `netns`.
    ///
    /// # Errors
    ///
    /// Fails if the address is taken or there is none, or the interface cannot be made; nothing is left then.
    pub fn attach(&self, network: &Network, wish: &Attach<'_>) -> Result<Member> {
        let member = match network.shared {
            true => self.reserve_shared(network, wish)?,
            false => self.reserve(network, wish)?,
        };
        let attached = self.plan(network, wish, &member).and_then(|plan| Ok(endpoint::attach(&plan)?));
        if let Err(error) = attached {
            self.release(&network.id, wish.container);
            return Err(error);
        }
        Ok(member)
    }

    /// Makes the interface of a member anew that somebody has taken away, with the addresses it had.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made.
    pub fn attach_again(&self, network: &Network, wish: &Attach<'_>, member: &Member) -> Result<()> {
        Ok(endpoint::attach(&self.plan(network, wish, member)?)?)
    }

    fn plan<'a>(&self, network: &Network, wish: &Attach<'a>, member: &Member) -> Result<EndpointPlan<'a>> {
        let gateways = if network.internal { Vec::new() } else { member.gateways.clone() };
        let mac = member.mac.parse();
        let asked = wish.settings.ipam_config.iter().flat_map(|asked| &asked.link_local_ips);
        let link_local = asked.map(|text| link_local(text)).collect::<Result<Vec<IpNet>>>()?;
        Ok(EndpointPlan {
            netns: wish.netns,
            link: self.attachment(network, member)?,
            name: wish.device.to_owned(),
            mac: mac.map_err(|_error| Error::invalid(format!("invalid MAC address: {}", member.mac)))?,
            addresses: member.ipv4.into_iter().chain(member.ipv6).chain(link_local).collect(),
            gateways: if wish.default_route { gateways } else { Vec::new() },
            routes: Vec::new(),
            mtu: self.mtu(network),
            sysctls: interface_sysctls(wish.settings, wish.device)?,
        })
    }

    /// How a member's interface reaches the network.
    fn attachment(&self, network: &Network, member: &Member) -> Result<Attachment> {
        let parent = || network.named_parent().unwrap_or(&network.device).to_owned();
        match network.driver {
            Driver::Macvlan => {
                Ok(Attachment::Macvlan { parent: parent(), mode: driver::macvlan_mode(&network.options)? })
            }
            Driver::Ipvlan => {
                let (mode, flag) = driver::ipvlan(&network.options)?;
                Ok(Attachment::Ipvlan { parent: parent(), mode, flag })
            }
            Driver::Bridge | Driver::Overlay | Driver::Host | Driver::Null => {
                let closed = match &self.firewall {
                    Some(firewall) if !network.icc() => lock(firewall).close(&member.host_device)?,
                    _ => false,
                };
                Ok(Attachment::Bridge {
                    bridge: network.device.clone(),
                    host_name: member.host_device.clone(),
                    isolated: !network.icc() && !closed,
                })
            }
        }
    }

    pub(super) fn reserve(&self, network: &Network, wish: &Attach<'_>) -> Result<Member> {
        let (asked4, asked6) = asked_addresses(network, wish.settings)?;
        let mac = match wish.settings.mac_address.as_str() {
            "" => Mac::random(),
            text => text.parse().map_err(|_error| Error::invalid(format!("invalid MAC address: {text}")))?,
        };
        let mut state = self.state();
        let mut taken: Vec<(usize, IpAddr)> = Vec::new();
        let mut member = Member {
            name: wish.name.to_owned(),
            names: wish.names.clone(),
            endpoint_id: random_id().to_string(),
            mac: mac.to_string(),
            host_device: match network.driver.has_bridge() {
                true => format!("veth{}", random_id().to_string().chars().take(7).collect::<String>()),
                false => String::new(),
            },
            ..Member::default()
        };
        let pools = state.addresses.entry(network.id.clone()).or_default();
        for ipv6 in [false, true] {
            let asked = if ipv6 { asked6 } else { asked4 };
            let fits = |subnet: &Subnet| {
                subnet.subnet.is_ipv6() == ipv6 && asked.is_none_or(|address| subnet.subnet.contains(address))
            };
            let Some((index, subnet)) = network.subnets.iter().enumerate().find(|(_, subnet)| fits(subnet))
            else {
                if let Some(address) = asked {
                    give_back(pools, &taken);
                    return Err(Error::invalid(format!(
                        "invalid endpoint settings:\nno configured subnet contains IP address {address}"
                    )));
                }
                continue;
            };
            let Some(pool) = pools.get_mut(index) else { continue };
            match pool.allocate(asked) {
                Ok(address) => {
                    taken.push((index, address));
                    let net = IpNet::new(address, subnet.subnet.prefix());
                    if ipv6 {
                        member.ipv6 = net;
                    } else {
                        member.ipv4 = net;
                    }
                    member.gateways.push(self.gateway(network, subnet));
                }
                Err(error) => {
                    give_back(pools, &taken);
                    return Err(::network::Error::from(error).into());
                }
            }
        }
        if let Some(mac) = self.parents_mac(network)? {
            member.mac = mac.to_string();
        } else if wish.settings.mac_address.is_empty()
            && let Some(IpAddr::V4(address)) = member.ipv4.map(IpNet::address)
        {
            // The next one at this address is found at once: nobody's ARP cache has another interface there.
            member.mac = Mac::of(address).to_string();
        }
        state
            .members
            .entry(network.id.clone())
            .or_default()
            .insert(wish.container.to_owned(), member.clone());
        Ok(member)
    }

    /// The hardware address that a device has because its parent has it.
    fn parents_mac(&self, network: &Network) -> Result<Option<Mac>> {
        let shared = match network.driver {
            Driver::Ipvlan => true,
            Driver::Macvlan => driver::macvlan_mode(&network.options)? == MacvlanMode::Passthru,
            Driver::Bridge | Driver::Overlay | Driver::Host | Driver::Null => false,
        };
        match shared {
            true => Ok(host::hardware_address(network.named_parent().unwrap_or(&network.device))?),
            false => Ok(None),
        }
    }

    fn gateway(&self, network: &Network, subnet: &Subnet) -> IpAddr {
        let bridge = &self.settings.bridge;
        let asked = if subnet.subnet.is_ipv6() { bridge.default_gateway6 } else { bridge.default_gateway };
        match asked {
            Some(gateway) if network.name == "bridge" && gateway.is_ipv4() != subnet.subnet.is_ipv6() => {
                gateway
            }
            _ => subnet.gateway,
        }
    }

    /// Notes the addresses of a container that ran before this daemon started.
    pub fn adopt(&self, network_id: &str, container: &str, member: Member) {
        let mut state = self.state();
        if let Some(pools) = state.addresses.get_mut(network_id) {
            for net in member.ipv4.into_iter().chain(member.ipv6) {
                for pool in pools.iter_mut().filter(|pool| pool.subnet().contains(net.address())) {
                    // Taken already means that two records claim the address; the first keeps it.
                    drop(pool.allocate(Some(net.address())));
                }
            }
        }
        state.members.entry(network_id.to_owned()).or_default().insert(container.to_owned(), member);
    }

    /// Gives a container's places in networks another name.
    pub fn rename(&self, container: &str, name: &str) {
        for members in self.state().members.values_mut() {
            if let Some(member) = members.get_mut(container) {
                let old = std::mem::replace(&mut member.name, name.to_owned());
                for other in member.names.iter_mut().filter(|other| **other == old) {
                    name.clone_into(other);
                }
            }
        }
        if let Some(cluster) = &self.cluster {
            cluster.wake();
        }
    }

    /// Gives a container's addresses on a network back. The interface goes with its namespace.
    pub fn release(&self, network_id: &str, container: &str) {
        self.give_up(network_id, container);
        self.withdraw(network_id);
    }

    pub(super) fn give_up(&self, network_id: &str, container: &str) {
        let mut state = self.state();
        let Some(member) = state.members.get_mut(network_id).and_then(|members| members.remove(container))
        else {
            return;
        };
        let closed = state.networks.get(network_id).is_some_and(|network| !network.icc());
        if let Some(pools) = state.addresses.get_mut(network_id) {
            for net in member.ipv4.into_iter().chain(member.ipv6) {
                for pool in pools.iter_mut().filter(|pool| pool.subnet().contains(net.address())) {
                    pool.release(net.address());
                }
            }
        }
        drop(state);
        if let Some(firewall) = self.firewall.as_ref().filter(|_| closed)
            && let Err(error) = lock(firewall).forget_port(&member.host_device)
        {
            tracing::warn!(port = member.host_device, error = %base::chain(&error), "forgetting a port of a bridge");
        }
    }
}

/// What a container wants of a network.
#[derive(Debug)]
pub struct Attach<'a> {
    /// The container's identifier.
    pub container: &'a str,
    /// Its name.
    pub name: &'a str,
    /// All that it is called in this network.
    pub names: Vec<String>,
    /// What was asked for this network.
    pub settings: &'a EndpointSettings,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
    /// The interface's name inside.
    pub device: &'a str,
    /// Whether the default route goes here.
    pub default_route: bool,
}

/// Returns the addresses that an endpoint is to have.
fn asked_addresses(
    network: &Network,
    settings: &EndpointSettings,
) -> Result<(Option<IpAddr>, Option<IpAddr>)> {
    let asked = settings.ipam_config.clone().unwrap_or_default();
    let parse = |text: &str| -> Result<Option<IpAddr>> {
        match text {
            "" => Ok(None),
            text => {
                text.parse().map(Some).map_err(|_error| Error::invalid(format!("invalid IP address: {text}")))
            }
        }
    };
    let (asked4, asked6) = (parse(&asked.ipv4_address)?, parse(&asked.ipv6_address)?);
    if (asked4.is_some() || asked6.is_some())
        && network.options.contains_key("com.docker.network.bridge.default_bridge")
    {
        return Err(Error::invalid(
            "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
        ));
    }
    Ok((asked4, asked6))
}

/// Returns the name that an endpoint's options give its interface.
///
/// # Errors
///
/// An invalid argument for what cannot be a name.
pub fn interface_name(settings: &EndpointSettings) -> Result<Option<&str>> {
    let asked = settings.driver_opts.iter().find_map(|options| options.get(INTERFACE_NAME));
    let Some(name) = asked else { return Ok(None) };
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name.contains(odd) || matches!(name.as_str(), "." | ".." | "lo")
    {
        return Err(Error::invalid(format!("invalid interface name: {name:?}")));
    }
    Ok(Some(name))
}

/// Returns the settings that an endpoint's options ask for, with the interface's name in them.
fn interface_sysctls(settings: &EndpointSettings, device: &str) -> Result<Vec<(String, String)>> {
    let asked = settings.driver_opts.iter().find_map(|options| options.get(INTERFACE_SYSCTLS));
    let parts = asked.iter().flat_map(|text| text.split(',')).filter(|part| !part.is_empty());
    let escaped = device.replace('.', "/");
    parts
        .map(|part| {
            let invalid = || Error::invalid(format!("invalid per-interface sysctl {part:?}"));
            let (name, value) = part.split_once('=').ok_or_else(invalid)?;
            let words: Vec<&str> = name.split('.').collect();
            // net.FAMILY.KIND.IFNAME.SETTING: nothing but settings of this interface.
            match words.as_slice() {
                // Command lines make it lower case.
                [
                    net @ "net",
                    family @ ("ipv4" | "ipv6" | "mpls"),
                    kind @ ("conf" | "neigh" | "input"),
                    own,
                    setting,
                ] if own.eq_ignore_ascii_case("IFNAME") => {
                    Ok((format!("{net}.{family}.{kind}.{escaped}.{setting}"), value.to_owned()))
                }
                _ => Err(invalid()),
            }
        })
        .collect()
}

/// Reads a link-local address with the prefix that it has by definition (RFC 3927, RFC 4291).
fn link_local(text: &str) -> Result<IpNet> {
    let invalid = || Error::invalid(format!("invalid link-local IP address {text}"));
    let address: IpAddr = text.parse().map_err(|_error| invalid())?;
    IpNet::new(address, if address.is_ipv6() { 64 } else { 16 }).ok_or_else(invalid)
}

fn give_back(pools: &mut [Pool], taken: &[(usize, IpAddr)]) {
    for (index, address) in taken {
        if let Some(pool) = pools.get_mut(*index) {
            pool.release(*address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(option: &str, value: &str) -> EndpointSettings {
        let options = [(option.to_owned(), value.to_owned())].into();
        EndpointSettings { driver_opts: Some(options), ..EndpointSettings::default() }
    }

    #[test]
    fn names_of_interfaces() {
        for (name, fits) in
            [("lan0", true), ("a/b", false), ("", false), ("lo", false), ("abcdefghijklmnop", false)]
        {
            assert_eq!(interface_name(&settings(INTERFACE_NAME, name)).is_ok(), fits, "{name}");
        }
        assert_eq!(interface_name(&EndpointSettings::default()).unwrap(), None);
    }

    #[test]
    fn settings_of_one_interface_alone() {
        let of = |text: &str| interface_sysctls(&settings(INTERFACE_SYSCTLS, text), "eth0.5").ok();
        let expect = [("net.ipv4.conf.eth0/5.log_martians".to_owned(), "1".to_owned())];
        assert_eq!(of("net.ipv4.conf.IFNAME.log_martians=1").as_deref(), Some(&expect[..]));
        assert_eq!(of("net.ipv4.conf.all.log_martians=1"), None);
        assert_eq!(of("net.ipv4.conf.IFNAME.log_martians"), None);
        assert_eq!(of(""), Some(Vec::new()));
    }
}
