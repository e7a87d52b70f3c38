//! Which of a container's networks has the default route, and which its published ports; and moving both while it runs.
//!
//! After Docker the default route is that of the network with the highest priority (`gw-priority`), then the first by
//! name; internal networks have none. Ports are published by the first such network that has a bridge.

use super::handle::Handle;
use super::record::{Container, Endpoint};
use super::{Containers, start};
use crate::error::Result;
use crate::network::record::Network;
use crate::network::{Member, Published};
use ::network::endpoint;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use supervisor::protocol::{LivePort, Request};

/// A network and the container's place in it.
pub(super) type Place = (Arc<Network>, Endpoint);

impl Containers {
    /// Returns the networks that give a container an interface, the one with the default route first.
    pub(super) fn places(&self, container: &Container) -> Result<Vec<Place>> {
        let mut places: Vec<Place> = Vec::new();
        for (name, endpoint) in &container.endpoints {
            let network = self.networks.get(name)?;
            network.check_endpoint()?;
            if network.driver.has_interfaces() {
                places.push((network, endpoint.clone()));
            }
        }
        places.sort_by(|(left, one), (right, other)| {
            let priority = other.settings.gw_priority.cmp(&one.settings.gw_priority);
            priority.then_with(|| left.name.cmp(&right.name))
        });
        Ok(places)
    }

    /// Returns the networks of a running container, the one with the default route first.
    fn joined_places(&self, container: &Container) -> Result<Vec<Place>> {
        let mut places = self.places(container)?;
        places.retain(|(_, endpoint)| !endpoint.endpoint_id.is_empty());
        Ok(places)
    }

    /// Returns the place to which a running container's ports lead; `None` if there is none (any more).
    pub(super) fn port_member(&self, container: &Container) -> Option<Member> {
        let places = self.joined_places(container).ok()?;
        let (_, endpoint) = places.into_iter().find(|(network, _)| publishes(network))?;
        Some(start::member(&container.name, &endpoint))
    }

    /// Moves the default route and the published ports of a running container whose networks were those of `before`.
    pub(super) fn settle_gateway(&self, handle: &Handle, netns: &OwnedFd, before: &Container) -> Result<()> {
        let after = handle.get();
        let (old, new) = (self.joined_places(before)?, self.joined_places(&after)?);
        let route = |places: &[Place]| {
            places.iter().find(|(network, _)| routes(network)).map(|(_, endpoint)| endpoint.clone())
        };
        let (old_route, new_route) = (route(&old), route(&new));
        let id = |endpoint: &Option<Endpoint>| endpoint.as_ref().map(|endpoint| endpoint.endpoint_id.clone());
        if id(&old_route) != id(&new_route) {
            set_route(netns.as_fd(), new_route.as_ref())?;
        }
        let (from, to) = (self.port_member(before), self.port_member(&after));
        let id = |member: &Option<Member>| member.as_ref().map(|member| member.endpoint_id.clone());
        let published: Vec<Published> = after.ports.iter().filter_map(start::published).collect();
        if published.is_empty() || id(&from) == id(&to) {
            return Ok(());
        }
        self.networks.move_ports(to.as_ref(), &published)?;
        let ports = published.iter().map(|port| self.live_port(to.as_ref(), port, false)).collect();
        self.ask(handle, "update", &Request::Ports(ports))
    }

    /// What the supervisor does with a port of a running container.
    pub(super) fn live_port(&self, member: Option<&Member>, port: &Published, arrives: bool) -> LivePort {
        let plain = member.map(|member| self.proxy(member, port));
        LivePort {
            protocol: start::protocol(port.protocol),
            host: port.host,
            container: plain.and_then(|plain| plain.container),
            arrives,
        }
    }
}

/// Whether a default route leads there.
pub(super) fn routes(network: &Network) -> bool {
    !network.internal
}

/// Whether ports can be published there.
pub(super) fn publishes(network: &Network) -> bool {
    network.driver.has_bridge() && !network.internal
}

fn set_route(netns: BorrowedFd<'_>, endpoint: Option<&Endpoint>) -> Result<()> {
    let gateways: Vec<IpAddr> = endpoint
        .iter()
        .flat_map(|endpoint| [&endpoint.gateway, &endpoint.gateway6])
        .filter_map(|text| text.parse().ok())
        .collect();
    let device = endpoint.map_or("", |endpoint| endpoint.device.as_str());
    Ok(endpoint::set_default_route(netns, device, &gateways)?)
}
