//! What the kernel has to have for the networks: bridges, parents, tunnels, the packet filter's rules.

use super::record::{Driver, GatewayMode, Network};
use super::{Networks, driver, lock};
use crate::error::Result;
use ::network::firewall::{Contents, Link, NetworkRules};
use ::network::watch::Watch;
use ::network::{IpNet, bridge, parent, tunnel};
use std::sync::Arc;

impl Networks {
    /// Makes what the kernel has to have for a network.
    pub(super) fn realise(&self, network: &Network) -> Result<()> {
        match network.driver {
            Driver::Host | Driver::Null => Ok(()),
            Driver::Macvlan | Driver::Ipvlan => self.realise_parent(network),
            Driver::Bridge if network.name == "bridge" && self.settings.bridge.existing => Ok(()),
            Driver::Bridge => self.realise_bridge(network),
            Driver::Overlay => {
                self.realise_bridge(network)?;
                Ok(tunnel::ensure(&self.tunnel(network)?)?)
            }
        }
    }

    fn realise_bridge(&self, network: &Network) -> Result<()> {
        let addresses = Self::bridge_addresses(network);
        let mtu = Some(self.mtu(network));
        let name = network.device.clone();
        let mac = self.state().hardware.get(&name).copied();
        let found =
            bridge::ensure(&bridge::Bridge { name: name.clone(), addresses: addresses.clone(), mtu, mac })?;
        self.state().hardware.extend(found.map(|mac| (name, mac)));
        if self.settings.bridge.ip_forward {
            ::network::enable_forwarding(&addresses)?;
        }
        Ok(())
    }

    /// The addresses that a network's bridge has.
    fn bridge_addresses(network: &Network) -> Vec<IpNet> {
        network
            .subnets
            .iter()
            .filter(|subnet| network.gateway_mode(subnet.subnet.is_ipv6()) != GatewayMode::Isolated)
            .filter_map(|subnet| IpNet::new(subnet.gateway, subnet.subnet.prefix()))
            .collect()
    }

    /// The parent is a link of the host, a VLAN of one, or, where none is named, a link that leads nowhere.
    fn realise_parent(&self, network: &Network) -> Result<()> {
        parent::require(if network.driver == Driver::Ipvlan { "ipvlan" } else { "macvlan" })?;
        match network.named_parent() {
            Some(name) => {
                parent::ensure_vlan(name)?;
            }
            None => {
                let far = format!("dx{}", network.device.strip_prefix("dm").unwrap_or(&network.device));
                parent::ensure_loose(&network.device, &far)?;
            }
        }
        Ok(())
    }

    /// Removes what the kernel has for a network.
    pub(super) fn unmake(&self, network: &Network) -> Result<()> {
        match network.driver {
            Driver::Host | Driver::Null => {}
            Driver::Bridge => {
                self.state().hardware.remove(&network.device);
                bridge::remove(&network.device)?;
            }
            Driver::Overlay => {
                tunnel::remove(&driver::tunnel_name(network))?;
                bridge::remove(&network.device)?;
            }
            // A link of the host's stays; of those that were made several networks may have the same.
            Driver::Macvlan | Driver::Ipvlan if network.device.is_empty() => {}
            Driver::Macvlan | Driver::Ipvlan => {
                if !self.list().iter().any(|other| other.device == network.device) {
                    parent::remove(&network.device)?;
                }
            }
        }
        Ok(())
    }

    /// The largest packet in a network.
    pub(super) fn mtu(&self, network: &Network) -> u32 {
        let usual = self.settings.bridge.mtu;
        match network.driver {
            Driver::Overlay => network.mtu(usual.saturating_sub(tunnel::OVERHEAD)),
            _ => network.mtu(usual),
        }
    }

    /// Writes the packet filter's rules.
    pub(super) fn sync_firewall(&self) -> Result<()> {
        let Some(firewall) = &self.firewall else { return Ok(()) };
        let rules = self.rules();
        Ok(lock(firewall).install(&rules)?)
    }

    fn rules(&self) -> Vec<NetworkRules> {
        let networks = self.list();
        let bridged =
            networks.iter().filter(|network| network.driver.has_bridge() && self.is_present(network));
        let rules = bridged.map(|network| NetworkRules {
            bridge: network.device.clone(),
            subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
            addresses: Self::bridge_addresses(network).into_iter().map(IpNet::address).collect(),
            masqueraded: network
                .subnets
                .iter()
                .map(|subnet| subnet.subnet)
                .filter(|net| network.masquerade(net.is_ipv6()))
                .filter(|net| self.settings.bridge.firewall6 || !net.is_ipv6())
                .collect(),
            open: [
                network.gateway_mode(false) == GatewayMode::Unprotected,
                network.gateway_mode(true) == GatewayMode::Unprotected || !self.settings.bridge.firewall6,
            ],
            icc: network.icc(),
            internal: network.internal,
        });
        rules.collect()
    }

    /// Says who may speak to whom on the networks whose containers do not reach each other.
    ///
    /// # Errors
    ///
    /// Fails if the packet filter cannot be changed.
    pub fn link(&self, links: Vec<Link>) -> Result<()> {
        let Some(firewall) = &self.firewall else { return Ok(()) };
        let mut firewall = lock(firewall);
        if self.state().links != links {
            firewall.link(&links)?;
            self.state().links = links;
        }
        Ok(())
    }

    /// Makes what is known the only thing that the packet filter has: what a container that ended meanwhile had is
    /// closed.
    ///
    /// # Errors
    ///
    /// Fails if the packet filter cannot be changed.
    pub fn sync_ports(&self) -> Result<()> {
        let Some(firewall) = &self.firewall else { return Ok(()) };
        let mut firewall = lock(firewall);
        Ok(firewall.replace(&self.contents())?)
    }

    /// Writes rules and contents of the packet filter anew.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be changed.
    pub fn repair_firewall(&self) -> Result<()> {
        let Some(firewall) = &self.firewall else { return Ok(()) };
        let mut firewall = lock(firewall);
        firewall.install(&self.rules())?;
        Ok(firewall.replace(&self.contents())?)
    }

    /// Begins to hear of what somebody else does.
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not tell.
    pub fn watch(&self) -> Result<Watch> {
        let own = self.firewall.as_ref().map(|firewall| lock(firewall).port_id()).transpose()?;
        Ok(Watch::open(own)?)
    }

    /// Makes a network's device again that is gone, with the containers' interfaces. Returns whether it is one.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made.
    pub fn repair_device(&self, device: &str) -> Result<bool> {
        let tunnel = |network: &Network| match network.driver {
            Driver::Overlay => Some(driver::tunnel_name(network)),
            _ => None,
        };
        let networks = self.list();
        let mut bridged = networks.iter().filter(|network| network.driver.has_bridge());
        let owns =
            |network: &&Arc<Network>| network.device == device || tunnel(network).as_deref() == Some(device);
        let Some(network) = bridged.find(owns) else { return Ok(false) };
        if network.name == "bridge" && self.settings.bridge.existing {
            return Ok(false);
        }
        self.realise(network)?;
        let members = self.members(&network.id);
        let ports: Vec<String> =
            members.into_values().map(|member| member.host_device).chain(tunnel(network)).collect();
        bridge::adopt(&network.device, &ports)?;
        Ok(true)
    }

    /// Returns the network and the container to which a device on the host belongs.
    pub fn member_of_device(&self, device: &str) -> Option<(String, String)> {
        let state = self.state();
        state.members.iter().find_map(|(network, members)| {
            let (container, _) = members.iter().find(|(_, member)| member.host_device == device)?;
            Some((network.clone(), container.clone()))
        })
    }

    fn contents(&self) -> Contents {
        let state = self.state();
        let closed = state.networks.values().filter(|network| network.driver.has_bridge() && !network.icc());
        let members = closed.filter_map(|network| state.members.get(&network.id));
        Contents {
            mappings: state.redirections.all(),
            links: state.links.clone(),
            closed: members
                .flat_map(|members| members.values())
                .map(|member| member.host_device.clone())
                .collect(),
        }
    }
}
