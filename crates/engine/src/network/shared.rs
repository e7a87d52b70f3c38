//! Networks that the hosts of a cluster have in common: made, found, used and removed by way of its store.
//!
//! Such a network's bridge and tunnel are made when the first container of this host comes to it. Every host has the same
//! gateway address on its bridge: nothing that is for everybody leaves a host, so they do not meet.

use super::cluster::{Claim, Cluster, Endpoint, Places};
use super::record::Network;
use super::{Attach, Member, Networks, driver, lock, now, plan};
use crate::error::{Error, Result};
use crate::events::random_id;
use ::network::tunnel::Neighbour;
use ::network::{IpNet, bridge, host, ipam, tunnel};
use api::network::CreateRequest;
use base::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// How often a network is planned anew because others have come or gone meanwhile.
const ATTEMPTS: usize = 16;

impl Networks {
    /// Whether a new network is to be one of the cluster.
    pub(super) fn is_shared(&self, request: &CreateRequest) -> bool {
        let fixed = |options: &api::StringMap| options.contains_key(driver::PEERS);
        self.cluster.is_some() && request.driver == "overlay" && !request.options.as_ref().is_some_and(fixed)
    }

    fn cluster(&self, network: &str) -> Result<&Cluster> {
        self.cluster.as_deref().ok_or_else(|| {
            Error::known(
                Kind::Unavailable,
                format!("network {network} belongs to a cluster, and the daemon has no cluster store"),
            )
        })
    }

    /// Makes a network that all hosts of the cluster know.
    pub(super) fn create_shared(&self, request: &CreateRequest) -> Result<String> {
        let cluster = self.cluster(&request.name)?;
        let id = random_id().to_string();
        for _ in 0..ATTEMPTS {
            let (generation, others) = cluster.networks()?;
            if !others.iter().any(|other| other.id == id) {
                if others.iter().any(|other| other.name == request.name) {
                    let name = &request.name;
                    return Err(Error::conflict(format!("network with name {name} already exists")));
                }
                let network = self.plan_shared(request, &id, &others)?;
                if !cluster.create(&network, generation)? {
                    continue;
                }
                self.learn(&network)?;
            }
            return Ok(id);
        }
        Err(Error::known(Kind::Unavailable, "too many networks of the cluster come and go: try again"))
    }

    fn plan_shared(&self, request: &CreateRequest, id: &str, others: &[Network]) -> Result<Network> {
        let theirs = others.iter().flat_map(|other| other.subnets.iter().map(|subnet| subnet.subnet));
        let taken: Vec<IpNet> = self.taken().into_iter().chain(theirs).collect();
        let host_routes = host::routes()?;
        let around = plan::Surroundings {
            taken: &taken,
            host_routes: &host_routes,
            pools: &self.pools,
            options: &self.settings.bridge.network_options,
        };
        let mut network = plan::plan(request, id.to_owned(), now(), &around)?;
        let numbers: BTreeSet<u32> = others.iter().filter_map(|other| driver::number(other).ok()).collect();
        driver::set_number(&mut network, &numbers)?;
        network.shared = true;
        Ok(network)
    }

    /// Notes a network of the cluster, unless it is known.
    fn learn(&self, network: &Network) -> Result<()> {
        let _order = lock(&self.learning);
        if self.state().networks.contains_key(&network.id) {
            return Ok(());
        }
        let network = self.save(network.clone())?;
        self.tell(&network, "create", None);
        Ok(())
    }

    /// Removes a network from the cluster, if no container of any host is on it.
    pub(super) fn remove_shared(&self, network: &Network) -> Result<()> {
        let cluster = self.cluster(&network.name)?;
        self.settle_cluster();
        let users = cluster.remove(&network.id)?;
        if !users.is_empty() {
            let users = users.iter().map(|(container, endpoint)| {
                let id: String = container.chars().take(12).collect();
                format!("name:{:?} id:{id:?} host:{:?}", endpoint.name, endpoint.tunnel.to_string())
            });
            return Err(Error::known(
                Kind::Forbidden,
                format!(
                    "error while removing network: network {} has active endpoints ({})",
                    network.name,
                    users.collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        self.unlearn(network)
    }

    /// Forgets a network that the cluster has no more.
    fn unlearn(&self, network: &Network) -> Result<()> {
        let _order = lock(&self.learning);
        if !self.state().networks.contains_key(&network.id) {
            return Ok(());
        }
        self.forget(network)?;
        let entered = {
            let mut state = self.state();
            state.remote.remove(&network.id);
            state.entered.remove(&network.id)
        };
        if entered {
            self.sync_firewall()?;
            self.unmake(network)?;
        }
        self.tell(network, "destroy", None);
        Ok(())
    }

    /// Whether the kernel has, or has to have, what a network is made of.
    pub(super) fn is_present(&self, network: &Network) -> bool {
        !network.shared || self.state().entered.contains(&network.id)
    }

    /// Notes that this host has bridge and tunnel of a network, if it had them before the daemon started.
    pub(super) fn recall(&self, network: &Network) -> Result<()> {
        if network.shared && bridge::exists(&network.device)? {
            self.state().entered.insert(network.id.clone());
        }
        Ok(())
    }

    /// Makes bridge and tunnel of a network of the cluster, if this host has none yet.
    fn enter(&self, network: &Network) -> Result<()> {
        if self.is_present(network) {
            return Ok(());
        }
        let present = self.list().into_iter().filter(|other| self.is_present(other));
        let taken: Vec<IpNet> = present
            .flat_map(|other| other.subnets.iter().map(|subnet| subnet.subnet).collect::<Vec<_>>())
            .collect();
        for subnet in &network.subnets {
            ipam::check_subnet(subnet.subnet, &taken).map_err(::network::Error::from)?;
        }
        self.realise(network)?;
        self.state().entered.insert(network.id.clone());
        self.sync_firewall()
    }

    /// Gives a container a place in a network of the cluster: addresses that no host has given out.
    pub(super) fn reserve_shared(&self, network: &Network, wish: &Attach<'_>) -> Result<Member> {
        let cluster = self.cluster(&network.name)?;
        self.enter(network)?;
        let asked = wish.settings.ipam_config.as_ref();
        let asked =
            asked.is_some_and(|asked| !asked.ipv4_address.is_empty() || !asked.ipv6_address.is_empty());
        let mut elsewhere: Vec<IpAddr> = Vec::new();
        let outcome = loop {
            let member = match self.reserve(network, wish) {
                Ok(member) => member,
                Err(error) => break Err(error),
            };
            let endpoint = published(cluster, &member);
            match cluster.claim(&network.id, wish.container, &endpoint) {
                Ok(Claim::Made) => break Ok(member),
                // They stay taken here until another is found, so that the next ones are tried.
                Ok(Claim::Taken) if !asked => {
                    self.state().members.entry(network.id.clone()).or_default().remove(wish.container);
                    elsewhere.extend(endpoint.addresses());
                }
                refused => {
                    self.give_up(&network.id, wish.container);
                    break Err(match refused {
                        Err(error) => error,
                        Ok(Claim::NoNetwork) => {
                            Error::not_found(format!("network {} not found", network.name))
                        }
                        Ok(_) => in_use(&endpoint),
                    });
                }
            }
        };
        self.give_back_unless_known(&network.id, &elsewhere);
        outcome
    }

    /// Gives addresses back that a container of another host has, unless they have been heard of: then they stay taken
    /// until that one's end is heard of.
    fn give_back_unless_known(&self, network: &str, addresses: &[IpAddr]) {
        let mut state = self.state();
        let places = state.remote.get(network);
        let known: BTreeSet<IpAddr> =
            places.into_iter().flat_map(BTreeMap::values).flat_map(Endpoint::addresses).collect();
        let Some(pools) = state.addresses.get_mut(network) else { return };
        for address in addresses.iter().filter(|address| !known.contains(address)) {
            for pool in pools.iter_mut().filter(|pool| pool.subnet().contains(*address)) {
                pool.release(*address);
            }
        }
    }

    /// The places of this host's containers in networks of the cluster.
    fn own_places(&self) -> Places {
        let Some(cluster) = &self.cluster else { return Places::new() };
        let state = self.state();
        let shared = state.networks.values().filter(|network| network.shared);
        let places = shared.filter_map(|network| {
            let members = state.members.get(&network.id)?;
            let places = members.iter().map(|(id, member)| (id.clone(), published(cluster, member)));
            Some((network.id.clone(), places.collect()))
        });
        places.collect()
    }

    fn network_record(&self, id: &str) -> Option<Network> {
        self.state().networks.get(id).map(|network| Network::clone(network))
    }

    /// Tells the cluster what has changed on this host.
    pub(super) fn settle_cluster(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.settle(&self.own_places(), |id| self.network_record(id));
        }
    }

    /// Keeps this host alive in the cluster, and waits until that has to be done again.
    pub(crate) fn beat(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.beat(|| self.own_places(), |id| self.network_record(id));
        }
    }

    /// Takes over what the cluster has. Returns the networks of which something is new.
    pub(crate) fn hear(&self) -> BTreeSet<String> {
        let Some(cluster) = &self.cluster else { return BTreeSet::new() };
        let (networks, mut others) =
            cluster.look(|model| (model.networks().clone(), model.others(&cluster.host)));
        let complain = |network: &Network, outcome: Result<()>| {
            if let Err(error) = outcome {
                let network = &network.name;
                tracing::warn!(network, error = %base::chain(&error), "following a network of the cluster");
            }
        };
        for network in networks.values() {
            complain(network, self.learn(network));
        }
        let mut changed = BTreeSet::new();
        for network in self.list().iter().filter(|network| network.shared) {
            // One that containers of this host are on is told to the store again.
            if !networks.contains_key(&network.id) && self.members(&network.id).is_empty() {
                complain(network, self.unlearn(network));
                continue;
            }
            if self.note_others(&network.id, &others.remove(&network.id).unwrap_or_default()) {
                changed.insert(network.id.clone());
                if self.is_present(network) {
                    complain(network, self.realise(network));
                }
            }
        }
        changed
    }

    /// Notes who is on a network on other hosts. Returns whether that is new.
    fn note_others(&self, network: &str, others: &BTreeMap<String, Endpoint>) -> bool {
        let mut state = self.state();
        let before = state.remote.insert(network.to_owned(), others.clone()).unwrap_or_default();
        if before == *others {
            return false;
        }
        let addresses = |places: &BTreeMap<String, Endpoint>| -> BTreeSet<IpAddr> {
            places.values().flat_map(Endpoint::addresses).collect()
        };
        let (before, after) = (addresses(&before), addresses(others));
        let own: BTreeSet<IpAddr> = state
            .members
            .get(network)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flat_map(|member| member.ipv4.into_iter().chain(member.ipv6))
            .map(IpNet::address)
            .collect();
        for pool in state.addresses.get_mut(network).into_iter().flatten() {
            for address in before.difference(&after).filter(|address| !own.contains(address)) {
                pool.release(*address);
            }
            let subnet = pool.subnet();
            for address in after.iter().filter(|address| subnet.contains(**address)) {
                // Taken already: by a container of this host that is about to hear that it is too late.
                drop(pool.allocate(Some(*address)));
            }
        }
        true
    }

    /// Returns the places of other hosts' containers in a network.
    pub(crate) fn elsewhere(&self, network: &str) -> Vec<Endpoint> {
        self.state().remote.get(network).into_iter().flat_map(|places| places.values().cloned()).collect()
    }

    /// What a tunnel knows of the others.
    pub(super) fn others(&self, network: &Network) -> Result<tunnel::Others> {
        if !network.shared {
            return Ok(tunnel::Others::Hosts(driver::overlay(&network.options)?.peers));
        }
        let neighbours = self.elsewhere(&network.id).into_iter().filter_map(|endpoint| {
            Some(Neighbour {
                mac: endpoint.mac.parse().ok()?,
                addresses: endpoint.addresses().collect(),
                host: endpoint.tunnel,
            })
        });
        Ok(tunnel::Others::Containers(neighbours.collect()))
    }

    /// Returns the tunnel of an overlay network.
    pub(super) fn tunnel(&self, network: &Network) -> Result<tunnel::Tunnel> {
        let mut tunnel = driver::tunnel(network, self.others(network)?, self.mtu(network))?;
        if let Some(cluster) = self.cluster.as_ref().filter(|_| network.shared) {
            tunnel.local = tunnel.local.or(Some(cluster.tunnel));
        }
        Ok(tunnel)
    }

    /// The cluster's store, for those who follow it.
    pub(crate) fn store(&self) -> Option<Arc<Cluster>> {
        self.cluster.clone()
    }

    /// Tells the cluster of a place that is given back: at once, or later where the store does not answer.
    pub(super) fn withdraw(&self, network: &str) {
        if let Some(cluster) = &self.cluster
            && self.network_record(network).is_some_and(|network| network.shared)
        {
            self.settle_cluster();
            cluster.wake();
        }
    }
}

fn in_use(endpoint: &Endpoint) -> Error {
    let address = endpoint.addresses().next().unwrap_or(endpoint.tunnel);
    ::network::Error::from(ipam::IpamError::AddressInUse(address)).into()
}

fn published(cluster: &Cluster, member: &Member) -> Endpoint {
    Endpoint {
        host: cluster.host.clone(),
        tunnel: cluster.tunnel,
        name: member.name.clone(),
        names: member.names.clone(),
        id: member.endpoint_id.clone(),
        mac: member.mac.clone(),
        addresses: member.ipv4.into_iter().chain(member.ipv6).map(|net| net.to_string()).collect(),
    }
}
