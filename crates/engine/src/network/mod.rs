//! Networks: their records, their bridges, who has which address, and which ports are published.
//!
//! The database's `networks` bucket holds the records; addresses and ports in use are kept in memory and given back by the
//! containers' records when a daemon starts. Lock order: nothing else is locked while `state` is held, but the firewall.

mod plan;
mod publish;
pub mod record;

pub use publish::{Open, PortWish};

use crate::error::{Error, Result};
use crate::events::{Events, random_id};
use crate::settings::Settings;
use ::network::firewall::{Firewall, Mapping, NetworkRules};
use ::network::ipam::{self, AddressPool, Pool};
use ::network::ports::HostPort;
use ::network::{IpNet, Mac, PortAllocator, Protocol, bridge, endpoint, host};
use api::network::{CreateRequest, EndpointSettings};
use base::event::Type;
use base::{Kind, Timestamp};
use record::{Driver, Network, Subnet};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
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
    /// The device on the host's side.
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
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<String, Arc<Network>>,
    addresses: BTreeMap<String, Vec<Pool>>,
    /// By network and container identifier.
    members: BTreeMap<String, BTreeMap<String, Member>>,
    ports: PortAllocator,
    /// The open ports, as the packet filter has them.
    mappings: Vec<Mapping>,
}

impl Networks {
    /// Reads the records, makes the built-in networks and every bridge, and installs the packet filter.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or a bridge or the packet filter cannot be made.
    pub fn open(settings: Arc<Settings>, database: Database, events: Events) -> Result<Self> {
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
            true => Some(Mutex::new(Firewall::open()?)),
            false => None,
        };
        let state =
            State { ports: PortAllocator::new(::network::ports::host_ephemeral_range()), ..State::default() };
        let networks = Self { settings, database, events, pools, state: Mutex::new(state), firewall };
        for (id, value) in networks.database.scan(BUCKET)? {
            let network: Network = serde_json::from_slice(&value).map_err(|source| {
                Error::known(Kind::Internal, format!("read the record of network {id}: {source}"))
            })?;
            networks.admit(network)?;
        }
        networks.built_in()?;
        for network in networks.list() {
            networks.realise(&network)?;
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
                    let chosen = ipam::choose_subnet(&self.pools, &taken, &host::routes()?)
                        .map_err(::network::Error::from)?;
                    plan::whole(chosen)?
                }
            },
        };
        subnet.range = wanted.fixed_cidr;
        Ok(subnet)
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
        let (taken, host_routes) = (self.taken(), host::routes()?);
        let around = plan::Surroundings { taken: &taken, host_routes: &host_routes, pools: &self.pools };
        let network = plan::plan(request, random_id().to_string(), now(), &around)?;
        self.realise(&network)?;
        let network = self.save(network)?;
        if let Err(error) = self.sync_firewall() {
            self.forget(&network)?;
            bridge::remove(&network.device)?;
            return Err(error);
        }
        self.tell(&network, "create", None);
        Ok(network.id.clone())
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
        self.forget(&network)?;
        self.sync_firewall()?;
        bridge::remove(&network.device)?;
        self.tell(&network, "destroy", None);
        Ok(())
    }

    /// Removes the networks of the user's that no container is on and that `wanted` names. Returns their names.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be removed.
    pub fn prune(&self, wanted: impl Fn(&Network) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.list().iter().filter(|network| !network.is_predefined() && wanted(network)) {
            if !self.members(&network.id).is_empty() {
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

    /// Gives a container its interface on `network`: address, veth, routes, inside `netns`.
    ///
    /// # Errors
    ///
    /// Fails if the address is taken or there is none, or the interface cannot be made; nothing is left then.
    pub fn attach(&self, network: &Network, wish: &Attach<'_>) -> Result<Member> {
        let member = self.reserve(network, wish)?;
        let gateways = if network.internal { Vec::new() } else { member.gateways.clone() };
        let plan = endpoint::EndpointPlan {
            netns: wish.netns,
            link: endpoint::Attachment::Bridge {
                bridge: network.device.clone(),
                host_name: member.host_device.clone(),
                isolated: !network.icc(),
            },
            name: wish.device.to_owned(),
            mac: member
                .mac
                .parse()
                .map_err(|_error| Error::invalid(format!("invalid MAC address: {}", member.mac)))?,
            addresses: member.ipv4.into_iter().chain(member.ipv6).collect(),
            gateways: if wish.default_route { gateways } else { Vec::new() },
            routes: Vec::new(),
            mtu: network.mtu(self.settings.bridge.mtu),
            sysctls: Vec::new(),
        };
        if let Err(error) = endpoint::attach(&plan) {
            self.release(&network.id, wish.container);
            return Err(error.into());
        }
        Ok(member)
    }

    fn reserve(&self, network: &Network, wish: &Attach<'_>) -> Result<Member> {
        let asked = wish.settings.ipam_config.clone().unwrap_or_default();
        let parse = |text: &str| -> Result<Option<IpAddr>> {
            match text {
                "" => Ok(None),
                text => text
                    .parse()
                    .map(Some)
                    .map_err(|_error| Error::invalid(format!("invalid IP address: {text}"))),
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
        let mac = match wish.settings.mac_address.as_str() {
            "" => Mac::random(),
            text => text.parse().map_err(|_error| Error::invalid(format!("invalid MAC address: {text}")))?,
        };
        let mut state = self.state();
        let mut taken: Vec<(usize, IpAddr)> = Vec::new();
        let mut member = Member {
            name: wish.name.to_owned(),
            endpoint_id: random_id().to_string(),
            mac: mac.to_string(),
            host_device: format!("veth{}", random_id().to_string().chars().take(7).collect::<String>()),
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
        if wish.settings.mac_address.is_empty()
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

    fn gateway(&self, network: &Network, subnet: &Subnet) -> IpAddr {
        match self.settings.bridge.default_gateway {
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
                name.clone_into(&mut member.name);
            }
        }
    }

    /// Gives a container's addresses on a network back. The interface goes with its namespace.
    pub fn release(&self, network_id: &str, container: &str) {
        let mut state = self.state();
        let Some(member) = state.members.get_mut(network_id).and_then(|members| members.remove(container))
        else {
            return;
        };
        if let Some(pools) = state.addresses.get_mut(network_id) {
            for net in member.ipv4.into_iter().chain(member.ipv6) {
                for pool in pools.iter_mut().filter(|pool| pool.subnet().contains(net.address())) {
                    pool.release(net.address());
                }
            }
        }
    }

    /// Puts ports that are allocated into the packet filter.
    fn open_ports(&self, member: &Member, published: &[Published]) -> Result<()> {
        let mappings = mappings(member, published);
        if let Some(firewall) = self.firewall.as_ref().filter(|_| !mappings.is_empty()) {
            lock(firewall).publish(&mappings)?;
        }
        self.state().mappings.extend(mappings);
        Ok(())
    }

    /// Notes the ports of a container that ran before this daemon started. [`Networks::sync_ports`] comes next.
    pub fn adopt_ports(&self, member: &Member, published: &[Published]) {
        let mut state = self.state();
        for port in published {
            let exact = HostPort::Exact(port.host.port());
            // Held already: the same port by another of its addresses.
            drop(state.ports.allocate(port.protocol, &[port.host.ip()], &exact));
        }
        state.mappings.extend(mappings(member, published));
    }

    /// Makes the ports that are known the only ones that are open: what a container that ended meanwhile had is closed.
    ///
    /// # Errors
    ///
    /// Fails if the packet filter cannot be changed.
    pub fn sync_ports(&self) -> Result<()> {
        let mappings = self.state().mappings.clone();
        match &self.firewall {
            Some(firewall) => Ok(lock(firewall).replace(&mappings)?),
            None => Ok(()),
        }
    }

    /// Closes ports of a container.
    ///
    /// # Errors
    ///
    /// Fails if the packet filter cannot be changed.
    pub fn unpublish(&self, member: &Member, published: &[Published]) -> Result<()> {
        let mappings = mappings(member, published);
        self.give_ports_back(published);
        self.state().mappings.retain(|open| !mappings.contains(open));
        match &self.firewall {
            Some(firewall) if !mappings.is_empty() => Ok(lock(firewall).unpublish(&mappings)?),
            _ => Ok(()),
        }
    }

    fn give_ports_back(&self, published: &[Published]) {
        let mut state = self.state();
        for port in published {
            state.ports.release(port.protocol, port.host.ip(), port.host.port());
        }
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

    /// Makes what the kernel has to have for a network.
    fn realise(&self, network: &Network) -> Result<()> {
        if network.driver != Driver::Bridge || (network.name == "bridge" && self.settings.bridge.existing) {
            return Ok(());
        }
        let addresses: Vec<IpNet> = network
            .subnets
            .iter()
            .filter_map(|subnet| IpNet::new(subnet.gateway, subnet.subnet.prefix()))
            .collect();
        let mtu = Some(network.mtu(self.settings.bridge.mtu));
        bridge::ensure(&bridge::Bridge { name: network.device.clone(), addresses: addresses.clone(), mtu })?;
        if self.settings.bridge.ip_forward {
            ::network::enable_forwarding(&addresses)?;
        }
        Ok(())
    }

    fn sync_firewall(&self) -> Result<()> {
        let Some(firewall) = &self.firewall else { return Ok(()) };
        let rules: Vec<NetworkRules> = self
            .list()
            .iter()
            .filter(|network| network.driver == Driver::Bridge)
            .map(|network| NetworkRules {
                bridge: network.device.clone(),
                subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
                masquerade: network.masquerade(),
                icc: network.icc(),
                internal: network.internal,
            })
            .collect();
        Ok(lock(firewall).install(&rules)?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// What a container wants of a network.
#[derive(Debug)]
pub struct Attach<'a> {
    /// The container's identifier.
    pub container: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What was asked for this network.
    pub settings: &'a EndpointSettings,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
    /// The interface's name inside.
    pub device: &'a str,
    /// Whether the default route goes here.
    pub default_route: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> i64 {
    Timestamp::from_system(SystemTime::now()).as_nanos()
}

fn give_back(pools: &mut [Pool], taken: &[(usize, IpAddr)]) {
    for (index, address) in taken {
        if let Some(pool) = pools.get_mut(*index) {
            pool.release(*address);
        }
    }
}

fn mappings(member: &Member, published: &[Published]) -> Vec<Mapping> {
    let target = |host: IpAddr| if host.is_ipv6() { member.ipv6 } else { member.ipv4 };
    published
        .iter()
        .filter_map(|port| {
            Some(Mapping {
                protocol: port.protocol,
                host_ip: port.host.ip(),
                host_port: port.host.port(),
                container_ip: target(port.host.ip())?.address(),
                container_port: port.container_port,
            })
        })
        .collect()
}
