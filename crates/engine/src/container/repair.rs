//! What somebody else has taken from the networks of running containers is made again, and said.

use super::{Containers, gateway};
use crate::error::Result;
use crate::network::Attach;
use ::network::watch::{Change, Watch};
use base::ContainerId;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Weak};

impl Containers {
    /// Looks after the networks on a thread of its own, as long as the engine lives.
    pub(super) fn look_after_networks(self: &Arc<Self>) -> Result<()> {
        let mut watch = self.networks.watch()?;
        let containers = Arc::downgrade(self);
        std::thread::spawn(move || look_after(&containers, &mut watch));
        Ok(())
    }

    /// Ends what a daemon had begun when it died: interfaces that belong to no container go, and those that are missing
    /// come.
    pub(super) fn settle_interfaces(&self) {
        for network in self.networks.list().iter().filter(|network| network.driver.has_bridge()) {
            let Ok(ports) = ::network::host::ports_of(&network.device) else { continue };
            let members = self.networks.members(&network.id);
            let is_known = |port: &String| members.values().any(|member| member.host_device == *port);
            for port in ports.iter().filter(|port| !is_known(port)) {
                if let Err(error) = ::network::endpoint::detach(port) {
                    tracing::warn!(port, error = %base::chain(&error), "removing an interface of nobody");
                }
            }
            for (container, member) in
                members.iter().filter(|(_, member)| !ports.contains(&member.host_device))
            {
                if let Err(error) = self.repair_interface(&member.host_device, &network.id, container) {
                    tracing::warn!(container, error = %base::chain(&error), "making an interface again");
                }
            }
        }
    }

    /// Follows the cluster's store, if there is one, and keeps this host alive in it, on threads of their own.
    pub(super) fn look_after_cluster(self: &Arc<Self>) {
        let Some(store) = self.networks.store() else { return };
        let (containers, resting) = (Arc::downgrade(self), Arc::clone(&store));
        std::thread::spawn(move || {
            while let Some(containers) = containers.upgrade() {
                containers.networks.beat();
                drop(containers);
                resting.rest();
            }
        });
        let containers = Arc::downgrade(self);
        std::thread::spawn(move || {
            let mut next = None;
            while containers.strong_count() > 0 {
                store.follow(&mut next, &mut || {
                    if let Some(containers) = containers.upgrade() {
                        let _told_later = containers.announce(containers.networks.hear());
                    }
                });
            }
        });
    }

    fn repair(&self, change: &Change) -> Result<()> {
        match change {
            Change::Firewall => {
                self.networks.repair_firewall()?;
                tracing::warn!("somebody has deleted rules of the packet filter; they are there again");
            }
            Change::LinkGone(name) => {
                if self.networks.repair_device(name)? {
                    tracing::warn!(
                        device = name,
                        "somebody has deleted a network's device; it is there again"
                    );
                } else if let Some((network, container)) = self.networks.member_of_device(name) {
                    self.repair_interface(name, &network, &container)?;
                }
            }
            Change::Unknown => self.networks.repair_firewall()?,
        }
        Ok(())
    }

    /// Gives a running container the interface again whose end on the host is gone.
    fn repair_interface(&self, device: &str, network: &str, container: &str) -> Result<()> {
        let handle = ContainerId::parse(container).ok().and_then(|id| self.handle(&id));
        let Some(handle) = handle else { return Ok(()) };
        let _operation = handle.operate();
        let record = handle.get();
        let network = self.networks.get(network)?;
        let netns = handle.live().netns.as_ref().and_then(|netns| netns.try_clone().ok());
        let endpoint = record.endpoints.get(&network.name).filter(|endpoint| endpoint.host_device == device);
        let member = self.networks.members(&network.id).remove(container);
        let (Some(netns), Some(endpoint), Some(member)) = (netns, endpoint, member) else { return Ok(()) };
        if record.state.run().is_none() || ::network::endpoint::exists(netns.as_fd(), &endpoint.device)? {
            return Ok(());
        }
        let places = self.places(&record)?;
        let route = places.iter().find(|(network, _)| gateway::routes(network));
        let wish = Attach {
            container,
            name: &record.name,
            names: member.names.clone(),
            settings: &endpoint.settings,
            netns: netns.as_fd(),
            device: &endpoint.device,
            default_route: route.is_some_and(|(other, _)| other.id == network.id),
        };
        self.networks.attach_again(&network, &wish, &member)?;
        tracing::warn!(
            container,
            network = network.name,
            "somebody has deleted a container's interface; it is there again"
        );
        Ok(())
    }
}

fn look_after(containers: &Weak<Containers>, watch: &mut Watch) {
    loop {
        let changes = watch.changes();
        let Some(containers) = containers.upgrade() else { return };
        match changes {
            Ok(changes) => {
                for change in &changes {
                    if let Err(error) = containers.repair(change) {
                        tracing::error!(?change, error = %base::chain(&error), "repairing a network");
                    }
                }
            }
            Err(error) => {
                tracing::error!(error = %base::chain(&error), "the networks are not looked after any more");
                return;
            }
        }
    }
}
