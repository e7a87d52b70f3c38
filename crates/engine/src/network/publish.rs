//! Publishing ports: choosing them, taking them from the other processes of the host, and opening them.
//!
//! In this order: a port is redirected only after it is bound, so that no other process's traffic goes astray.

use super::record::{GatewayMode, Network};
use super::{Member, Networks, Published, State, lock};
use crate::error::{Error, Result};
use ::network::firewall::{Mapping, Way};
use ::network::ports::HostPort;
use ::network::proxy::Listener;
use ::network::{Error as Fault, Protocol};
use base::Kind;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A wish for a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortWish {
    /// The protocol.
    pub protocol: Protocol,
    /// The container's port.
    pub container_port: u16,
    /// The host's address; `None` for the network's default.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: HostPort,
}

/// A port that is published, and the socket that holds it.
#[derive(Debug)]
pub struct Open {
    /// What it is.
    pub port: Published,
    /// Keeps other processes from it; it listens if the userland proxy is on.
    pub listener: Listener,
}

impl Networks {
    /// Publishes ports of a container. All or none.
    ///
    /// # Errors
    ///
    /// Fails if a port is held by another container or process, or none of a range is free.
    pub fn publish(&self, network: &Network, member: &Member, wishes: &[PortWish]) -> Result<Vec<Open>> {
        let mut open: Vec<Open> = Vec::new();
        let taken = wishes.iter().try_for_each(|wish| {
            open.extend(self.take(network, wish)?);
            Ok(())
        });
        let published: Vec<Published> = open.iter().map(|open| open.port.clone()).collect();
        let opened = taken
            .map_err(|fault| unpublishable(member, &fault))
            .and_then(|()| self.open_ports(member, &published));
        if let Err(error) = opened {
            self.give_ports_back(&published);
            return Err(error);
        }
        Ok(open)
    }

    /// Takes one port on all of its addresses. One that another process has is passed over where there is a choice.
    fn take(&self, network: &Network, wish: &PortWish) -> Result<Vec<Open>, Fault> {
        let addresses = self.host_addresses(network, wish.host_ip);
        let mut foreign: Vec<Published> = Vec::new();
        let mut last = None;
        let taken = loop {
            let allocated = self.state().ports.allocate(wish.protocol, &addresses, &wish.host_port);
            let port = match allocated {
                Ok(port) => port,
                Err(error) => break Err(last.unwrap_or(error.into())),
            };
            match self.bind(network, wish, &addresses, port) {
                Ok(open) => break Ok(open),
                Err(fault) => {
                    let is_taken = matches!(fault, Fault::Bind { errno: Errno::ADDRINUSE, .. });
                    // Held until another one is found, so that the next choice is another one.
                    foreign.extend(published(wish, &addresses, port));
                    if !is_taken || matches!(wish.host_port, HostPort::Exact(_)) {
                        break Err(fault);
                    }
                    last = Some(fault);
                }
            }
        };
        self.give_ports_back(&foreign);
        taken
    }

    fn bind(
        &self,
        network: &Network,
        wish: &PortWish,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<Vec<Open>, Fault> {
        let socket = |host: SocketAddr| {
            let routed = network.gateway_mode(host.is_ipv6()) == GatewayMode::Routed;
            match self.settings.bridge.userland_proxy && !routed {
                true => Listener::bind(wish.protocol, host),
                false => Listener::hold(wish.protocol, host),
            }
        };
        published(wish, addresses, port)
            .map(|port| socket(port.host).map(|listener| Open { port, listener }))
            .collect()
    }

    /// Puts ports that are allocated into the packet filter.
    fn open_ports(&self, member: &Member, published: &[Published]) -> Result<()> {
        self.move_ports(Some(member), published)
    }

    /// Notes the ports of a container that ran before this daemon started, and where they lead.
    /// [`Networks::sync_ports`] comes next.
    pub fn adopt_ports(&self, member: Option<&Member>, published: &[Published]) {
        let mut state = self.state();
        for port in published {
            let exact = HostPort::Exact(port.host.port());
            // Held already: the same port by another of its addresses.
            drop(state.ports.allocate(port.protocol, &[port.host.ip()], &exact));
        }
        let mappings = member.map_or_else(Vec::new, |member| self.mappings(&state, member, published));
        state.redirections.change(&[], mappings);
    }

    /// Closes ports of a container.
    ///
    /// # Errors
    ///
    /// Fails if the packet filter cannot be changed.
    pub fn unpublish(&self, published: &[Published]) -> Result<()> {
        self.give_ports_back(published);
        self.move_ports(None, published)
    }

    /// Lets ports lead to `to` and no longer to where they led before; they stay taken.
    ///
    /// # Errors
    ///
    /// Fails if the packet filter cannot be changed.
    pub fn move_ports(&self, to: Option<&Member>, published: &[Published]) -> Result<()> {
        let mut firewall = self.firewall.as_ref().map(lock);
        let mut state = self.state();
        let open = to.map_or_else(Vec::new, |member| self.mappings(&state, member, published));
        let ports: Vec<_> = published.iter().map(|port| (port.protocol, port.host)).collect();
        let change = state.redirections.change(&ports, open);
        drop(state);
        let Some(firewall) = &mut firewall else { return Ok(()) };
        if let Err(error) = firewall.change(&change) {
            self.state().redirections.undo(&change);
            return Err(error.into());
        }
        Ok(())
    }

    /// Returns what the packet filter does for ports that lead to a member.
    fn mappings(&self, state: &State, member: &Member, published: &[Published]) -> Vec<Mapping> {
        let is_there = |members: &BTreeMap<String, Member>| {
            members.values().any(|other| other.endpoint_id == member.endpoint_id)
        };
        let network = state.members.iter().find(|(_, members)| is_there(members));
        let network = network.and_then(|(id, _)| state.networks.get(id));
        let target = |host: IpAddr| if host.is_ipv6() { member.ipv6 } else { member.ipv4 };
        let mapping = |port: &Published| {
            let (ipv6, host_ip) = (port.host.is_ipv6(), port.host.ip());
            let way = match network.map(|network| network.gateway_mode(ipv6)) {
                Some(GatewayMode::Routed) => Way::Container,
                _ if self.settings.bridge.direct_routing => Way::Both,
                _ => Way::Host,
            };
            // Left to the host's own socket, behind what the host lets in.
            let left = self.settings.bridge.ports_through_input && !host_ip.is_loopback();
            if left || (ipv6 && !self.settings.bridge.firewall6) {
                return None;
            }
            Some(Mapping {
                protocol: port.protocol,
                host_ip,
                host_port: port.host.port(),
                container_ip: target(host_ip)?.address(),
                container_port: port.container_port,
                more: 0,
                way,
            })
        };
        published.iter().filter_map(mapping).collect()
    }

    pub(super) fn give_ports_back(&self, published: &[Published]) {
        let mut state = self.state();
        for port in published {
            state.ports.release(port.protocol, port.host.ip(), port.host.port());
        }
    }

    fn host_addresses(&self, network: &Network, wished: Option<IpAddr>) -> Vec<IpAddr> {
        let wildcard = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        if network.subnets.iter().all(|subnet| subnet.subnet.is_ipv6()) && wished.is_none() {
            return vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        }
        let default = || network.host_ip().unwrap_or(self.settings.bridge.host_ip);
        match wished {
            Some(address) => vec![address],
            None if default() == wildcard && std::path::Path::new("/proc/net/if_inet6").exists() => {
                vec![wildcard, IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
            }
            None => vec![default()],
        }
    }
}

fn published(wish: &PortWish, addresses: &[IpAddr], port: u16) -> impl Iterator<Item = Published> {
    addresses.iter().map(move |address| Published {
        protocol: wish.protocol,
        host: SocketAddr::new(*address, port),
        container_port: wish.container_port,
    })
}

/// Puts Docker's frame around the reason.
fn unpublishable(member: &Member, fault: &Fault) -> Error {
    Error::known(
        Kind::Internal,
        format!(
            "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({}): {}",
            member.name,
            member.endpoint_id,
            base::chain(fault)
        ),
    )
}
