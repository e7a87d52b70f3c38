//! Networks: their records, their bridges, who has which address, and which ports are published.
//!
//! The database's `networks` bucket holds the records; addresses and ports in use are kept in memory and given back by the
//! containers' records when a daemon starts. Lock order: `learning`, the firewall, then `state`.

mod attach;
mod cluster;
mod driver;
mod plan;
mod publish;
mod realise;
pub mod record;
mod shared;
mod template;

pub use attach::{Attach, interface_name};
pub(crate) use cluster::Endpoint as Elsewhere;
pub use publish::{Open, PortWish};

use crate::error::{Error, Result};
use crate::events::{Events, random_id};
use crate::settings::Settings;
use ::network::endpoint::MacvlanMode;
use ::network::firewall::{Firewall, Link, Redirections};
use ::network::ipam::{self, AddressPool, Pool};
use ::network::{IpNet, PortAllocator, Protocol, bridge, host};
use api::network::CreateRequest;
use base::event::Type;
use base::{Kind, Timestamp};
use cluster::{Cluster, Places};
use record::{Driver, Network, Subnet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use store::{Database, Durability};

const BUCKET: &str = "networks";
/// The default bridge's device: Docker's, which people and scripts look for, unless somebody else has it.
const DEFAULT_DEVICES: [&str; 2] = ["docker0", "wharf0"];

/// A container's place in a network, while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The container's name.
    pub name: String,
    /// All that it is called there.
    pub names: Vec<String>,
    /// The endpoint's identifier.
    pub endpoint_id: String,
    /// The hardware address.
    pub mac: String,
    /// The IPv4 address with its prefix length.
    pub ipv4: Option<IpNet>,
    /// The IPv6 address with its prefix length.
    pub ipv6: Option<IpNet>,
    /// The gateways.
    pub gateways: Vec<IpAddr>,
    /// The device on the host's side; empty where there is none.
    pub host_device: String,
}

/// Ports of one container as they are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address and port.
    pub host: std::net::SocketAddr,
    /// The container's port.
    pub container_port: u16,
}

/// The networks of an engine.
#[derive(Debug)]
pub struct Networks {
    settings: Arc<Settings>,
    database: Database,
    events: Events,
    pools: Vec<AddressPool>,
    state: Mutex<State>,
    firewall: Option<Mutex<Firewall>>,
    cluster: Option<Arc<Cluster>>,
    /// Held while a network of the cluster comes or goes.
    learning: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<String, Arc<Network>>,
    addresses: BTreeMap<String, Vec<Pool>>,
    /// By network and container identifier.
    members: BTreeMap<String, BTreeMap<String, Member>>,
    ports: PortAllocator,
    /// The hardware addresses of bridges, by name: one that somebody deletes comes back with the same.
    hardware: BTreeMap<String, ::network::Mac>,
    /// The open ports, as the packet filter has them.
    redirections: Redirections,
    /// The places of other hosts' containers, by network and container.
    remote: Places,
    /// The networks of the cluster of which this host has bridge and tunnel.
    entered: BTreeSet<String>,
    /// The exceptions where containers do not reach each other, as the packet filter has them.
    links: Vec<Link>,
}

impl Networks {
    /// Reads the records, makes the built-in networks and every bridge, and installs the packet filter.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or a bridge or the packet filter cannot be made.
    /// `host` is what the cluster's other hosts know this one by.
    pub fn open(settings: Arc<Settings>, database: Database, events: Events, host: &str) -> Result<Self> {
        let pools = if settings.address_pools.is_empty() {
            ipam::default_pools()
        } else {
            settings
                .address_pools
                .iter()
                .map(|(base, size)| AddressPool { base: *base, size: *size })
                .collect()
        };
        let firewall = match settings.bridge.firewall {
            true => Some(Mutex::new(Firewall::open()?.accepting(settings.bridge.accepted_mark))),
            false => None,
        };
        let state =
            State { ports: PortAllocator::new(::network::ports::host_ephemeral_range()), ..State::default() };
        let cluster =
            settings.cluster.clone().map(|cluster| Cluster::open(cluster, host.to_owned())).transpose()?;
        let cluster = cluster.map(Arc::new);
        let (state, learning) = (Mutex::new(state), Mutex::default());
        let networks = Self { settings, database, events, pools, state, firewall, cluster, learning };
        for (id, value) in networks.database.scan(BUCKET)? {
            let network: Network = serde_json::from_slice(&value).map_err(|source| {
                Error::known(Kind::Internal, format!("read the record of network {id}: {source}"))
            })?;
            networks.admit(network)?;
        }
        networks.built_in()?;
        for network in networks.list() {
            networks.recall(&network)?;
            if networks.is_present(&network) {
                networks.realise(&network)?;
            }
        }
        networks.sync_firewall()?;
        Ok(networks)
    }

    fn built_in(&self) -> Result<()> {
        for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
            if self.find(name).is_none() {
                self.save(plan::builtin(name, driver, random_id().to_string(), now()))?;
            }
        }
        let wanted = &self.settings.bridge;
        let old = self.find("bridge");
        let Some(device) = wanted.name.clone() else {
            if let Some(old) = old {
                self.forget(&old)?;
            }
            return Ok(());
        };
        let device = match (device.as_str(), &old) {
            ("", Some(old)) if DEFAULT_DEVICES.contains(&old.device.as_str()) => old.device.clone(),
            ("", _) => {
                let [usual, other] = DEFAULT_DEVICES;
                (if bridge::exists(usual)? { other } else { usual }).to_owned()
            }
            (name, _) => name.to_owned(),
        };
        let subnet = self.default_subnet(&device, old.as_deref())?;
        let (id, created) = old
            .as_ref()
            .map_or_else(|| (random_id().to_string(), now()), |old| (old.id.clone(), old.created));
        let mut network = plan::builtin("bridge", Driver::Bridge, id, created);
        let option = |name: &str, value: String| (format!("com.docker.network.{name}"), value);
        network.options.extend([
            option("bridge.default_bridge", "true".to_owned()),
            option("bridge.enable_icc", wanted.icc.to_string()),
            option("bridge.enable_ip_masquerade", wanted.masquerade.to_string()),
            option("bridge.host_binding_ipv4", wanted.host_ip.to_string()),
            option("bridge.name", device.clone()),
            option("driver.mtu", wanted.mtu.to_string()),
        ]);
        network.device = device;
        network.subnets = vec![subnet];
        if wanted.ipv6 {
            network.ipv6 = true;
            network.subnets.push(self.default_subnet6(old.as_deref(), &network.id)?);
        }
        if old.as_deref() != Some(&network) {
            if let Some(old) = old {
                self.forget(&old)?;
            }
            self.save(network)?;
        }
        Ok(())
    }

    /// The default bridge's subnet: as configured, else as it was, else as its device has it, else the first free one.
    fn default_subnet(&self, device: &str, old: Option<&Network>) -> Result<Subnet> {
        let wanted = &self.settings.bridge;
        let found = || -> Result<Option<IpNet>> {
            let addresses = host::addresses()?;
            Ok(addresses.into_iter().find(|(name, net)| name == device && !net.is_ipv6()).map(|(_, net)| net))
        };
        let mut subnet = match (wanted.address, old.and_then(|old| old.subnets.first())) {
            (Some(address), _) => Subnet { gateway: address.address(), ..plan::whole(address)? },
            (None, Some(old)) if !wanted.existing => old.clone(),
            _ => match found()? {
                Some(address) => Subnet { gateway: address.address(), ..plan::whole(address)? },
                None => {
                    let taken = self.taken();
                    let four: Vec<AddressPool> =
                        self.pools.iter().filter(|pool| !pool.base.is_ipv6()).copied().collect();
                    let chosen = ipam::choose_subnet(&four, &taken, &host::routes()?)
                        .map_err(::network::Error::from)?;
                    plan::whole(chosen)?
                }
            },
        };
        subnet.range = wanted.fixed_cidr;
        Ok(subnet)
    }

    /// The default bridge's IPv6 subnet: as configured, else as it was, else a free one.
    fn default_subnet6(&self, old: Option<&Network>, id: &str) -> Result<Subnet> {
        let had = old.and_then(|old| old.subnets.iter().find(|subnet| subnet.subnet.is_ipv6()));
        match (self.settings.bridge.address6, self.settings.bridge.fixed_cidr6, had) {
            (Some(address), range, _) => {
                Ok(Subnet { gateway: address.address(), range, ..plan::whole(address)? })
            }
            (None, Some(net), _) => plan::whole(net),
            (None, None, Some(subnet)) => Ok(subnet.clone()),
            (None, None, None) => {
                let mut pools: Vec<AddressPool> =
                    self.pools.iter().filter(|pool| pool.base.is_ipv6()).copied().collect();
                if pools.is_empty() {
                    pools.push(ipam::unique_local_pool(id.as_bytes()));
                }
                let chosen = ipam::choose_subnet(&pools, &self.taken(), &host::routes()?)
                    .map_err(::network::Error::from)?;
                plan::whole(chosen)
            }
        }
    }

    /// Returns all networks, by name.
    pub fn list(&self) -> Vec<Arc<Network>> {
        let mut networks: Vec<_> = self.state().networks.values().cloned().collect();
        networks.sort_by(|left, right| left.name.cmp(&right.name));
        networks
    }

    /// Returns the network with that name or identifier or unique prefix of one.
    ///
    /// # Errors
    ///
    /// `network X not found`, or that the prefix fits several.
    pub fn get(&self, name: &str) -> Result<Arc<Network>> {
        if let Some(network) = self.find(name) {
            return Ok(network);
        }
        let state = self.state();
        let fits: Vec<_> = state
            .networks
            .values()
            .filter(|network| !name.is_empty() && network.id.starts_with(name))
            .collect();
        match fits.as_slice() {
            [] => Err(Error::not_found(format!("network {name} not found"))),
            [network] => Ok(Arc::clone(network)),
            several => Err(Error::invalid(format!(
                "network {name} is ambiguous ({} matches found based on ID prefix)",
                several.len()
            ))),
        }
    }

    /// Returns the members of a network by container identifier.
    pub fn members(&self, id: &str) -> BTreeMap<String, Member> {
        self.state().members.get(id).cloned().unwrap_or_default()
    }

    /// Creates a network. Returns its identifier.
    ///
    /// # Errors
    ///
    /// Fails if the name is taken, the request cannot be met, or the bridge cannot be made; nothing is left then.
    pub fn create(&self, request: &CreateRequest) -> Result<String> {
        if self.find(&request.name).is_some() {
            return Err(Error::conflict(format!("network with name {} already exists", request.name)));
        }
        if self.is_shared(request) {
            template::check(request)?;
            return self.create_shared(request);
        }
        let (taken, host_routes) = (self.taken(), host::routes()?);
        let around = plan::Surroundings {
            taken: &taken,
            host_routes: &host_routes,
            pools: &self.pools,
            options: &self.settings.bridge.network_options,
        };
        template::check(request)?;
        let id = random_id().to_string();
        if request.config_only {
            let network = self.save(template::record(request, id, now(), &around)?)?;
            self.tell(&network, "create", None);
            return Ok(network.id.clone());
        }
        let mut network = match template::source(request) {
            Some(name) => plan::plan(&self.configured(request, name)?, id, now(), &around)?,
            None => plan::plan(request, id, now(), &around)?,
        };
        self.share_parent(&mut network)?;
        let made = self.realise(&network);
        let network = match made.and_then(|()| self.save(network.clone())) {
            Ok(network) => network,
            Err(error) => {
                // What is half made; the first error is the one to tell.
                drop(self.unmake(&network));
                return Err(error);
            }
        };
        if let Err(error) = self.sync_firewall() {
            self.forget(&network)?;
            self.unmake(&network)?;
            return Err(error);
        }
        self.tell(&network, "create", None);
        Ok(network.id.clone())
    }

    /// Returns the request with what the configuration `name` says.
    fn configured(&self, request: &CreateRequest, name: &str) -> Result<CreateRequest> {
        let network = self.find(name);
        let found = network.as_ref().and_then(|network| Some((network, network.template.as_ref()?)));
        let (network, template) = found
            .ok_or_else(|| Error::not_found(format!("configuration network {name:?} does not exist")))?;
        Ok(template::applied(request, network, template))
    }

    /// Checks whether the parent of a macvlan or ipvlan network may have one more, and notes whether it is to be made.
    fn share_parent(&self, network: &mut Network) -> Result<()> {
        let Some(name) = network.named_parent().map(str::to_owned) else { return Ok(()) };
        let mode = |network: &Network| driver::macvlan_mode(&network.options);
        let alone = |network: &Network| mode(network).is_ok_and(|mode| mode == MacvlanMode::Passthru);
        for other in self.list().iter().filter(|other| other.named_parent() == Some(&name)) {
            if network.driver == Driver::Macvlan && alone(network) {
                return Err(Error::conflict(format!(
                    "cannot use mode passthru, macvlan network {} is using parent interface {name}",
                    other.name
                )));
            }
            if other.driver != network.driver || network.driver == Driver::Ipvlan || alone(other) {
                let id: String = other.id.chars().take(12).collect();
                return Err(Error::conflict(format!(
                    "network {id} is already using parent interface {name}"
                )));
            }
            network.device.clone_from(&other.device);
        }
        if network.device.is_empty() && !bridge::exists(&name)? {
            network.device = name;
        }
        Ok(())
    }

    /// Removes a network.
    ///
    /// # Errors
    ///
    /// Fails if there is none, it is predefined, or containers are on it.
    pub fn remove(&self, name: &str) -> Result<()> {
        let network = self.get(name)?;
        if network.is_predefined() {
            return Err(Error::known(
                Kind::Forbidden,
                format!("{} is a pre-defined network and cannot be removed", network.name),
            ));
        }
        let members = self.members(&network.id);
        if !members.is_empty() {
            let users: Vec<String> = members
                .iter()
                .map(|(id, member)| {
                    format!("name:{:?} id:{:?}", member.name, id.chars().take(12).collect::<String>())
                })
                .collect();
            return Err(Error::known(
                Kind::Forbidden,
                format!(
                    "error while removing network: network {} has active endpoints ({})",
                    network.name,
                    users.join(", ")
                ),
            ));
        }
        if network.template.is_some() && self.list().iter().any(|other| other.config_from == network.name) {
            return Err(Error::known(
                Kind::Forbidden,
                format!("error while removing network: configuration network {:?} is in use", network.name),
            ));
        }
        if network.shared {
            return self.remove_shared(&network);
        }
        self.forget(&network)?;
        self.sync_firewall()?;
        self.unmake(&network)?;
        self.tell(&network, "destroy", None);
        Ok(())
    }

    /// Removes the networks of the user's that no container is on and that `wanted` names, but for configurations. Returns
    /// their names.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be removed.
    pub fn prune(&self, wanted: impl Fn(&Network) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.list().iter().filter(|network| !network.is_predefined() && wanted(network)) {
            if !self.members(&network.id).is_empty() || network.template.is_some() {
                continue;
            }
            match self.remove(&network.id) {
                Ok(()) => removed.push(network.name.clone()),
                // Taken or removed meanwhile.
                Err(error) if matches!(base::Classify::kind(&error), Kind::Forbidden | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Says that a container was connected or disconnected.
    pub(crate) fn tell(&self, network: &Network, action: &str, container: Option<&str>) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.driver.as_str().to_owned()),
        ]);
        if let Some(container) = container {
            attributes.insert("container".to_owned(), container.to_owned());
        }
        self.events.now(Type::Network, action, &network.id, attributes);
    }

    fn find(&self, name: &str) -> Option<Arc<Network>> {
        let state = self.state();
        state
            .networks
            .get(name)
            .or_else(|| state.networks.values().find(|network| network.name == name))
            .cloned()
    }

    fn taken(&self) -> Vec<IpNet> {
        self.state()
            .networks
            .values()
            .flat_map(|network| network.subnets.iter().map(|subnet| subnet.subnet))
            .collect()
    }

    fn admit(&self, network: Network) -> Result<Arc<Network>> {
        let mut pools = Vec::new();
        for subnet in &network.subnets {
            let auxiliary: Vec<IpAddr> = subnet.auxiliary.values().copied().collect();
            pools.push(
                Pool::new(subnet.subnet, subnet.range, Some(subnet.gateway), &auxiliary)
                    .map_err(::network::Error::from)?,
            );
        }
        let network = Arc::new(network);
        let mut state = self.state();
        state.addresses.insert(network.id.clone(), pools);
        state.networks.insert(network.id.clone(), Arc::clone(&network));
        Ok(network)
    }

    fn save(&self, network: Network) -> Result<Arc<Network>> {
        let value = serde_json::to_vec(&network).map_err(|source| {
            Error::known(Kind::Internal, format!("write the record of network {}: {source}", network.name))
        })?;
        let network = self.admit(network)?;
        self.database.put(BUCKET, &network.id, &value, Durability::Durable)?;
        Ok(network)
    }

    fn forget(&self, network: &Network) -> Result<()> {
        self.database.delete(BUCKET, &network.id, Durability::Durable)?;
        let mut state = self.state();
        state.networks.remove(&network.id);
        state.addresses.remove(&network.id);
        state.members.remove(&network.id);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> i64 {
    Timestamp::from_system(SystemTime::now()).as_nanos()
}
