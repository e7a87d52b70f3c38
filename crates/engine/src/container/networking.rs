//! Connecting containers to networks and disconnecting them, running or not.

use super::Containers;
use super::record::Endpoint;
use super::resolver::{dns_names, has_names};
use super::start::next_device;
use super::state::State;
use crate::error::{Error, Result};
use crate::network::Attach;
use crate::network::record::Driver;
use api::network::EndpointSettings;
use base::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use store::Durability;

impl Containers {
    /// Connects a container to a network; a running one gets its interface at once.
    ///
    /// # Errors
    ///
    /// Fails if it is connected already, shares another's network, or no address can be had.
    pub fn connect_network(
        self: &Arc<Self>,
        name: &str,
        network: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        let handle = self.find(name)?;
        let network = self.networks.get(network)?;
        let _operation = handle.operate();
        let container = handle.get();
        let mode = container.host.network_mode.as_str();
        let forbidden = |message: String| Err(Error::known(Kind::Forbidden, message));
        if mode.starts_with("container:") {
            return forbidden("container sharing network namespace with another container or host cannot be connected to any other network".to_owned());
        }
        if mode == "host" || network.driver == Driver::Host {
            return forbidden("container cannot be connected to host network or disconnected from it; create the container with it".to_owned());
        }
        if mode == "none" && container.state.is_alive() && network.driver == Driver::Null {
            return forbidden("container cannot be connected to multiple networks with one of the networks in private (none) mode".to_owned());
        }
        network.check_endpoint()?;
        if container.endpoints.contains_key(&network.name) {
            return forbidden(format!(
                "endpoint with name {} already exists in network {}",
                container.name, network.name
            ));
        }
        if matches!(container.state, State::Removing(_) | State::Dead(_)) {
            return Err(Error::conflict(format!(
                "Container {} is marked for removal and cannot be connected or disconnected to the network {}",
                container.id, network.name
            )));
        }
        let id = handle.id.to_string();
        if container.state.run().is_some() {
            let netns = handle.live().netns.as_ref().map(|netns| netns.try_clone()).transpose();
            let Ok(Some(netns)) = netns else {
                return Err(Error::known(
                    Kind::Internal,
                    format!("find the network namespace of container {id}"),
                ));
            };
            let taken = |name: &str| container.endpoints.values().any(|endpoint| endpoint.device == name);
            let device = next_device(&settings, taken)?;
            let wish = Attach {
                container: &id,
                name: &container.name,
                names: dns_names(&container, &settings),
                settings: &settings,
                netns: netns.as_fd(),
                device: &device,
                default_route: false,
            };
            let member = self.networks.attach(&network, &wish)?;
            base::failpoint::reached("network.connect.record");
            self.record_endpoint(&handle, &network, &member, &device, settings)?;
            base::failpoint::reached("network.connect.gateway");
            self.settle_gateway(&handle, &netns, &container)?;
            if has_names(&network) {
                self.await_told(self.announce(BTreeSet::from([network.id.clone()])));
                self.use_resolver(&handle.get())?;
            }
        } else {
            let endpoint = Endpoint { settings, network_id: network.id.clone(), ..Endpoint::default() };
            self.add_endpoint(&handle, &network.name, endpoint)?;
        }
        self.networks.tell(&network, "connect", Some(&id));
        Ok(())
    }

    fn add_endpoint(&self, handle: &super::handle::Handle, network: &str, endpoint: Endpoint) -> Result<()> {
        handle.update(self.store.database(), Durability::Durable, |container| {
            container.endpoints.insert(network.to_owned(), endpoint);
            Ok(())
        })?;
        Ok(())
    }

    /// Disconnects a container from a network; `force` also where the interface cannot be removed.
    ///
    /// # Errors
    ///
    /// Fails if it is not connected.
    pub fn disconnect_network(self: &Arc<Self>, name: &str, network: &str, force: bool) -> Result<()> {
        let handle = self.find(name)?;
        let network = self.networks.get(network)?;
        let _operation = handle.operate();
        let container = handle.get();
        let Some(endpoint) = container.endpoints.get(&network.name) else {
            return Err(Error::known(
                Kind::Forbidden,
                format!("container {} is not connected to network {}", container.id, network.name),
            ));
        };
        if network.driver == Driver::Host {
            return Err(Error::known(
                Kind::Forbidden,
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        let netns = handle.live().netns.as_ref().and_then(|netns| netns.try_clone().ok());
        if container.state.run().is_some() && network.driver.has_interfaces() {
            let removed = match &netns {
                Some(netns) => ::network::endpoint::detach_inside(netns.as_fd(), &endpoint.device),
                None => ::network::endpoint::detach(&endpoint.host_device),
            };
            if !force {
                removed?;
            }
        }
        let id = handle.id.to_string();
        base::failpoint::reached("network.disconnect.record");
        self.networks.release(&network.id, &id);
        handle.update(self.store.database(), Durability::Durable, |container| {
            container.endpoints.remove(&network.name);
            Ok(())
        })?;
        if container.state.run().is_some()
            && let Some(netns) = netns
        {
            self.settle_gateway(&handle, &netns, &container)?;
        }
        if has_names(&network) && container.state.is_alive() {
            self.tell_names(&handle, &mut BTreeMap::new());
            self.await_told(self.announce(BTreeSet::from([network.id.clone()])));
        }
        self.networks.tell(&network, "disconnect", Some(&id));
        Ok(())
    }
}
