//! Starting a container: network, files, supervisor, launch.
//!
//! The supervisor is spawned first and finds its way into the kernel while the network is made; one `Launch` message then
//! carries everything. A failure gives back all that was taken, in reverse.

use super::checkpoint::CheckpointName;
use super::handle::Handle;
use super::owners::Surroundings;
use super::record::{Container, Endpoint, PublishedPort};
use super::resolver::{dns_names, has_names};
use super::state::{Change, Exit, Run, State, next};
use super::{Containers, gateway, ports, spec};
use crate::error::{Error, Result};
use crate::network::record::Network;
use crate::network::{Attach, Member, Open, Published, interface_name};
use api::network::EndpointSettings;
use base::{Kind, Rollback};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use store::Durability;
use supervisor::protocol as say;
use supervisor::{Connection, EventStream, StartError, Started};

impl Containers {
    /// Starts a container; from a checkpoint it goes on where that was made.
    ///
    /// # Errors
    ///
    /// [`Kind::NotModified`] if it runs; Docker's text if it cannot be started. A container with automatic removal that
    /// cannot be started is removed.
    pub fn start(self: &Arc<Self>, name: &str, checkpoint: Option<CheckpointName<'_>>) -> Result<()> {
        let handle = self.find(name)?;
        let operation = handle.operate();
        let container = handle.get();
        match &container.state {
            State::Running(_) | State::Restarting(_) => {
                return Err(Error::known(Kind::NotModified, "container is already running"));
            }
            State::Paused(_) => {
                return Err(Error::conflict("cannot start a paused container, try unpause instead"));
            }
            State::Removing(_) | State::Dead(_) => {
                return Err(Error::conflict("container is marked for removal and cannot be started"));
            }
            State::Created(_) | State::Exited(_) => {}
        }
        let restore =
            checkpoint.map(|wanted| self.existing_checkpoint(&container, name, wanted)).transpose()?;
        let outcome = self.start_now(&handle, restore);
        if outcome.is_err() && container.host.auto_remove {
            drop(operation);
            if let Err(error) = self.remove_quietly(&handle) {
                tracing::warn!(container = %handle.id, error = %base::chain(&error), "removing a container that did not start");
            }
        }
        outcome
    }

    /// Starts a container whose operation is held, from the image of a checkpoint if there is one.
    pub(super) fn start_now(self: &Arc<Self>, handle: &Handle, restore: Option<PathBuf>) -> Result<()> {
        match self.launch(handle, restore) {
            Ok(Launched { started, stream, told }) => {
                let running = Run { pid: started.pid, started_at: started.started_at.as_nanos() };
                let container = handle.note(self.store.database(), |container| {
                    container.state = next(container.state.clone(), Change::Started(running))
                        .map_err(|error| unfit(&error))?;
                    container.stopped_by_user = false;
                    container.restart_count = 0;
                    container.health = super::finish::first_health(container);
                    Ok(())
                })?;
                self.show_namespace(&container);
                self.tell_at(&container, "start", &[], started.started_at);
                self.hub.listen(handle.id, stream)?;
                self.tell_linking(&container);
                if let Some(told) = told {
                    // Those who came since this one's table was made.
                    self.tell_names(handle, &mut std::collections::BTreeMap::new());
                    self.await_told(told);
                }
                Ok(())
            }
            Err(error) => {
                // Whoever attached learns it by the end of the stream.
                handle.live().waiting.clear();
                let _told_later = self.announce(self.named_networks(&handle.get()));
                let exit_code = match &error {
                    Error::Start { exit_code, .. } => *exit_code,
                    _ => 128,
                };
                let exit = Exit { code: exit_code, error: error.to_string(), ..Exit::default() };
                handle.note(self.store.database(), |container| {
                    container.state = next(container.state.clone(), Change::StartFailed(exit))
                        .map_err(|error| unfit(&error))?;
                    clear_addresses(container);
                    Ok(())
                })?;
                Err(error)
            }
        }
    }

    fn launch(self: &Arc<Self>, handle: &Handle, restore: Option<PathBuf>) -> Result<Launched> {
        let container = handle.get();
        let exec_dir = self.settings.exec.container(&handle.id);
        handle.await_supervisor(&exec_dir);
        drop(std::fs::remove_dir_all(&exec_dir));
        std::fs::create_dir_all(&exec_dir).map_err(Error::file("create", &exec_dir))?;
        let mut rollback = Rollback::new();
        rollback.push("remove the run's folder", || drop(std::fs::remove_dir_all(&exec_dir)));
        self.volumes.mount(&handle.id.to_string(), container.volumes())?;
        rollback.push("give the volumes back", || self.volumes.unmount(&handle.id.to_string()));
        let (connection, theirs) = Connection::pair()?;
        self.zygote.supervise(theirs, &format!("wharf: {}", handle.id.short()))?;
        let joined = self.joined(&container)?;
        let links = self.follow_links(&container)?;
        let Surroundings { users, network: netns } = self.surroundings(&container)?;
        let attached = match &netns {
            Some(netns) => self.attach_networks(handle, netns.as_fd())?,
            None => Attached::default(),
        };
        rollback.push("give the networks back", || self.give_networks_back(handle));
        self.sync_links(Some(handle.id))?;
        let container = handle.get();
        self.write_files(&container, &attached.addresses, &links)?;
        let variables: Vec<String> = links.iter().flat_map(|link| link.variables.clone()).collect();
        let mut facts = self.facts(&container, &variables)?;
        facts.joined = joined;
        let mut launch = self.describe(&container, &attached, &facts, restore)?;
        (launch.netns, launch.users) = (netns.is_some(), users.is_some());
        handle.await_clients();
        let waiting = std::mem::take(&mut handle.live().waiting);
        let mut launch = Box::new(launch);
        let told = match self.first_names(handle, &container)? {
            Some(known) => {
                connection.done(&say::Request::Resolve(Box::new(known)), &[])?;
                Some(self.announce(self.named_networks(&container)))
            }
            None => None,
        };
        launch.attach = waiting.iter().map(|(options, _)| options.clone()).collect();
        let mut descriptors: Vec<BorrowedFd<'_>> =
            netns.iter().chain(&users).map(|held| held.as_fd()).collect();
        descriptors.extend(attached.sockets.iter().map(|socket| socket.as_fd()));
        descriptors.extend(waiting.iter().map(|(_, client)| client.as_fd()));
        let started = connection.launch(launch, &descriptors).map_err(|error| match error {
            StartError::Failed { kind: _, message, exit_code } => {
                Error::Start { exit_code, message: worded(&message) }
            }
            StartError::Other(error) => error.into(),
        })?;
        rollback.disarm();
        handle.live().netns = netns;
        let (started, stream) = started;
        Ok(Launched { started, stream, told })
    }

    /// Gives the container its interfaces and published ports, and records them.
    fn attach_networks(&self, handle: &Handle, netns: BorrowedFd<'_>) -> Result<Attached> {
        if handle.get().host.network_mode.starts_with("container:") {
            return Ok(Attached::default());
        }
        let mut attached = Attached::default();
        let outcome = self.attach_each(handle, netns, &mut attached);
        // What there is must be in the record to be given back, too.
        let endpoints = std::mem::take(&mut attached.endpoints);
        let ports = std::mem::take(&mut attached.published);
        let recorded = handle.update(self.store.database(), Durability::Relaxed, |container| {
            container.endpoints.extend(endpoints);
            container.ports = ports;
            Ok(())
        });
        match outcome.and(recorded) {
            Ok(_) => Ok(attached),
            Err(error) => {
                self.give_networks_back(handle);
                Err(error)
            }
        }
    }

    fn attach_each(&self, handle: &Handle, netns: BorrowedFd<'_>, attached: &mut Attached) -> Result<()> {
        let container = handle.get();
        let places = self.places(&container)?;
        let route = places.iter().position(|(network, _)| gateway::routes(network));
        let publishing = places.iter().position(|(network, _)| gateway::publishes(network));
        if places.is_empty() {
            ::network::netns::set_loopback_up(netns)?;
        }
        let id = handle.id.to_string();
        let mut devices: Vec<String> = Vec::new();
        for (index, (network, endpoint)) in places.iter().enumerate() {
            let device = next_device(&endpoint.settings, |name| devices.iter().any(|taken| taken == name))?;
            devices.push(device.clone());
            let wish = Attach {
                container: &id,
                name: &container.name,
                names: dns_names(&container, &endpoint.settings),
                settings: &endpoint.settings,
                netns,
                device: &device,
                default_route: route == Some(index),
            };
            let member = self.networks.attach(network, &wish)?;
            attached.addresses.extend(member.ipv4.iter().chain(&member.ipv6).map(|net| net.address()));
            let endpoint = joined_endpoint(&container, network, &member, &device);
            attached.endpoints.push((network.name.clone(), endpoint));
            self.networks.tell(network, "connect", Some(&id));
            if publishing == Some(index) {
                let wishes = ports::wishes(&container.config, &container.host)?;
                for Open { port, listener } in self.networks.publish(network, &member, &wishes)? {
                    attached.published.push(port_record(&port));
                    attached.ports.push(self.proxy(&member, &port));
                    attached.sockets.push(listener.into_fd());
                }
            }
        }
        Ok(())
    }

    /// What the supervisor does with the socket of a published port.
    pub(super) fn proxy(&self, member: &Member, port: &Published) -> say::ProxyPort {
        // A listener on an IPv6 address serves a container that has IPv4 alone, too.
        let own = if port.host.is_ipv6() { member.ipv6.or(member.ipv4) } else { member.ipv4 };
        let container = own
            .filter(|_| self.settings.bridge.userland_proxy)
            .map(|own| SocketAddr::new(own.address(), port.container_port));
        say::ProxyPort { protocol: protocol(port.protocol), container }
    }

    /// Records that a running container has been connected, in one step: a crash leaves it connected or not.
    pub(super) fn record_endpoint(
        &self,
        handle: &Handle,
        network: &Network,
        member: &Member,
        device: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        handle.update(self.store.database(), Durability::Durable, |container| {
            let asked = Endpoint { settings, ..Endpoint::default() };
            container.endpoints.insert(network.name.clone(), asked);
            let endpoint = joined_endpoint(container, network, member, device);
            container.endpoints.insert(network.name.clone(), endpoint);
            Ok(())
        })?;
        Ok(())
    }

    /// Gives addresses and ports back. The record still has them; [`clear_addresses`] is for the change that follows.
    pub(super) fn give_networks_back(&self, handle: &Handle) {
        let container = handle.get();
        let id = handle.id.to_string();
        let published: Vec<Published> = container.ports.iter().filter_map(published).collect();
        if !published.is_empty()
            && let Err(error) = self.networks.unpublish(&published)
        {
            tracing::warn!(container = %id, error = %base::chain(&error), "closing published ports");
        }
        for (name, endpoint) in
            container.endpoints.iter().filter(|(_, endpoint)| !endpoint.endpoint_id.is_empty())
        {
            let Ok(network) = self.networks.get(name) else { continue };
            if !network.driver.has_bridge() {
                // Its hardware address is taken on the parent as long as it exists, and the next run may want it.
                let netns = handle.live().netns.as_ref().and_then(|netns| netns.try_clone().ok());
                if let Some(netns) = netns
                    && let Err(error) = ::network::endpoint::detach_inside(netns.as_fd(), &endpoint.device)
                {
                    tracing::warn!(container = %id, error = %base::chain(&error), "removing an interface");
                }
            }
            self.networks.release(&network.id, &id);
            self.networks.tell(&network, "disconnect", Some(&id));
            tracing::trace!(container = %id, endpoint = endpoint.endpoint_id, "endpoint released");
        }
        handle.live().netns = None;
        self.hide_namespace(&container);
        if let Err(error) = self.sync_links(None) {
            tracing::warn!(container = %id, error = %base::chain(&error), "closing links");
        }
    }

    /// Returns the message for the supervisor, but for what comes along.
    fn describe(
        &self,
        container: &Container,
        attached: &Attached,
        facts: &spec::Facts,
        restore: Option<PathBuf>,
    ) -> Result<say::Launch> {
        let spec = spec::spec(container, facts)?;
        let mut groups = container.host.group_add.clone().unwrap_or_default();
        // Those that devices need; the user is looked up in the container's files and takes the place of the spec's.
        let needed = spec.process.iter().flat_map(|process| &process.user.additional_gids);
        groups.extend(needed.map(ToString::to_string));
        let folder = self.settings.data.container(&container.id);
        let overlay = say::Overlay {
            lower: self.lower_dirs(container)?,
            upper: folder.join("upper"),
            work: folder.join("work"),
            volatile: container.host.auto_remove,
            owners: facts.owners.clone(),
        };
        Ok(say::Launch {
            systemd: self.settings.systemd_cgroups,
            id: container.id,
            health: super::finish::health_check(container, &spec, self.stop_timeout(container, None)),
            spec,
            runtime: self.runtime(&container.host.runtime)?,
            rootfs: say::Rootfs::Overlay(overlay),
            user: Some(say::ImageUser { user: container.config.user.clone(), groups }),
            create_cwd: true,
            netns: false,
            users: false,
            open_stdin: container.config.open_stdin,
            stdin_once: container.config.stdin_once,
            attach: Vec::new(),
            log: say::LogConfig {
                driver: container.log.driver.clone(),
                options: container.log.options.clone(),
                docker_defaults: self.settings.strict,
                path: self.settings.data.log(&container.id),
                origin: super::logs::origin(container)?,
            },
            restart: super::finish::restart_policy(&container.host.restart_policy),
            restart_count: 0,
            exec_dir: self.settings.exec.container(&container.id),
            ports: attached.ports.clone(),
            stop_signal: sys::signal::parse(&container.config.stop_signal),
            restore,
        })
    }
}

/// A container that was started.
#[derive(Debug)]
struct Launched {
    started: Started,
    stream: EventStream,
    /// Its coming, for the others on its networks.
    told: Option<super::resolver::Change>,
}

/// What a container has of its networks.
#[derive(Debug, Default)]
struct Attached {
    /// By name of the network; moved into the record.
    endpoints: Vec<(String, Endpoint)>,
    /// The same.
    published: Vec<PublishedPort>,
    addresses: Vec<IpAddr>,
    ports: Vec<say::ProxyPort>,
    /// The sockets that hold `ports`.
    sockets: Vec<OwnedFd>,
}

pub(super) fn unfit(error: &super::state::Unfit) -> Error {
    Error::known(Kind::Conflict, error.to_string())
}

/// Puts Docker's frame around a runtime's message, which scripts and the command line's exit codes look for. Users are looked
/// up before any runtime in Docker.
fn worded(message: &str) -> String {
    if message.starts_with("unable to find ") {
        return message.to_owned();
    }
    format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: {message}"
    )
}

/// Forgets what a container had of its networks while it ran.
pub(super) fn clear_addresses(container: &mut Container) {
    container.ports.clear();
    for endpoint in container.endpoints.values_mut() {
        *endpoint = Endpoint {
            settings: std::mem::take(&mut endpoint.settings),
            network_id: std::mem::take(&mut endpoint.network_id),
            ..Endpoint::default()
        };
    }
}

/// Returns the endpoint of `container` in `network` as it is once joined.
fn joined_endpoint(container: &Container, network: &Network, member: &Member, device: &str) -> Endpoint {
    let mut endpoint = container.endpoints.get(&network.name).cloned().unwrap_or_default();
    fill(&mut endpoint, network, member, device);
    if has_names(network) {
        endpoint.dns_names = dns_names(container, &endpoint.settings);
    }
    endpoint
}

pub(super) fn fill(endpoint: &mut Endpoint, network: &Network, member: &Member, device: &str) {
    endpoint.network_id.clone_from(&network.id);
    endpoint.endpoint_id.clone_from(&member.endpoint_id);
    endpoint.mac.clone_from(&member.mac);
    endpoint.host_device.clone_from(&member.host_device);
    device.clone_into(&mut endpoint.device);
    let gateway = |ipv6: bool| {
        let found = member.gateways.iter().find(|gateway| gateway.is_ipv6() == ipv6 && !network.internal);
        found.map_or_else(String::new, ToString::to_string)
    };
    if let Some(net) = member.ipv4 {
        endpoint.address = net.address().to_string();
        endpoint.prefix_len = net.prefix();
        endpoint.gateway = gateway(false);
    }
    if let Some(net) = member.ipv6 {
        endpoint.address6 = net.address().to_string();
        endpoint.prefix_len6 = net.prefix();
        endpoint.gateway6 = gateway(true);
    }
}

/// Returns the name of an endpoint's interface: the one asked for, or the first `ethN` that is not taken.
pub(super) fn next_device(settings: &EndpointSettings, taken: impl Fn(&str) -> bool) -> Result<String> {
    match interface_name(settings)? {
        Some(name) if taken(name) => {
            Err(Error::conflict(format!("interface name {name:?} is used more than once")))
        }
        Some(name) => Ok(name.to_owned()),
        None => {
            let names = (0_u32..).map(|index| format!("eth{index}"));
            Ok(names.into_iter().find(|name| !taken(name)).unwrap_or_default())
        }
    }
}

/// Returns a protocol in the supervisor's words.
pub(super) fn protocol(protocol: ::network::Protocol) -> say::Protocol {
    match protocol {
        ::network::Protocol::Tcp => say::Protocol::Tcp,
        ::network::Protocol::Udp => say::Protocol::Udp,
        ::network::Protocol::Sctp => say::Protocol::Sctp,
    }
}

pub(super) fn port_record(published: &Published) -> PublishedPort {
    PublishedPort {
        protocol: published.protocol.as_str().to_owned(),
        host_ip: published.host.ip().to_string(),
        host_port: published.host.port(),
        container_port: published.container_port,
    }
}

/// Reads a recorded port back.
pub(super) fn published(port: &PublishedPort) -> Option<Published> {
    Some(Published {
        protocol: port.protocol.parse().ok()?,
        host: SocketAddr::new(port.host_ip.parse().ok()?, port.host_port),
        container_port: port.container_port,
    })
}

/// Reads a recorded endpoint back.
pub(super) fn member(name: &str, endpoint: &Endpoint) -> Member {
    let net = |address: &str, prefix: u8| ::network::IpNet::new(address.parse().ok()?, prefix);
    Member {
        names: endpoint.dns_names.clone(),
        name: name.to_owned(),
        endpoint_id: endpoint.endpoint_id.clone(),
        mac: endpoint.mac.clone(),
        ipv4: net(&endpoint.address, endpoint.prefix_len),
        ipv6: net(&endpoint.address6, endpoint.prefix_len6),
        gateways: [&endpoint.gateway, &endpoint.gateway6]
            .into_iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        host_device: endpoint.host_device.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_port_is_read_back() {
        let port = Published {
            protocol: ::network::Protocol::Udp,
            host: "[::]:53".parse().unwrap(),
            container_port: 53,
        };
        assert_eq!(published(&port_record(&port)), Some(port));
    }
}
