//! Which ports a container wants published (`PortBindings`, `PublishAllPorts`, `ExposedPorts`), and changing them while
//! it runs.

use super::handle::Handle;
use super::record::{Container, PublishedPort};
use super::{Containers, gateway, start};
use crate::error::{Error, Result};
use crate::network::{Open, PortWish, Published};
use ::network::Protocol;
use ::network::ports::HostPort;
use api::container::{Config, UpdateRequest};
use api::host_config::{HostConfig, PortBinding};
use std::os::fd::AsFd as _;
use supervisor::protocol::{Reply, Request};

/// Which ports of a running container come and go.
#[derive(Debug)]
pub(super) struct Publishing {
    add: Vec<PortWish>,
    /// Container port, and where on the host: an empty address or port stands for every one.
    remove: Vec<(u16, Protocol, PortBinding)>,
}

impl Publishing {
    fn removes(&self, port: &Published) -> bool {
        self.remove.iter().any(|(container_port, protocol, binding)| {
            let fits = |text: &str, own: String| text.is_empty() || text == own;
            (*container_port, *protocol) == (port.container_port, port.protocol)
                && fits(&binding.host_ip, port.host.ip().to_string())
                && fits(&binding.host_port, port.host.port().to_string())
        })
    }
}

/// Changes what a container wants published as an update says; `None` if it says nothing of ports.
///
/// # Errors
///
/// Fails for a port that cannot be read, or that is to go and is not there.
pub(super) fn change(container: &mut Container, request: &UpdateRequest) -> Result<Option<Publishing>> {
    if request.publish_add.is_none() && request.publish_rm.is_none() {
        return Ok(None);
    }
    let mode = container.host.network_mode.as_str();
    if matches!(mode, "host" | "none") || mode.starts_with("container:") {
        return Err(Error::conflict(format!("a container of network mode {mode} has no ports to publish")));
    }
    let own = container.host.port_bindings.get_or_insert_default();
    let mut remove = Vec::new();
    for (text, bindings) in request.publish_rm.iter().flatten() {
        let (number, protocol) = port(text)?;
        for binding in bindings.iter().flatten() {
            let kept = own.entry(text.clone()).or_default().get_or_insert_default();
            let before = kept.len();
            kept.retain(|other| {
                let fits = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
                !(fits(&binding.host_ip, &other.host_ip) && fits(&binding.host_port, &other.host_port))
            });
            let run = container.ports.iter().filter_map(start::published);
            let one = Publishing { add: Vec::new(), remove: vec![(number, protocol, binding.clone())] };
            if kept.len() == before && !run.into_iter().any(|port| one.removes(&port)) {
                return Err(Error::not_found(format!(
                    "container {} does not publish {text}",
                    container.name
                )));
            }
            remove.extend(one.remove);
        }
    }
    own.retain(|_, bindings| bindings.as_ref().is_none_or(|bindings| !bindings.is_empty()));
    let asked = HostConfig { port_bindings: request.publish_add.clone(), ..HostConfig::default() };
    let add = wishes(&Config::default(), &asked)?;
    for (text, bindings) in request.publish_add.iter().flatten() {
        let more = bindings.iter().flatten().cloned();
        own.entry(text.clone()).or_default().get_or_insert_default().extend(more);
        container.config.exposed_ports.entry(text.clone()).or_default();
    }
    Ok(Some(Publishing { add, remove }))
}

impl Containers {
    /// Publishes ports of a running container, and closes others. Returns those it has then.
    pub(super) fn republish(&self, handle: &Handle, publishing: &Publishing) -> Result<Vec<PublishedPort>> {
        let container = handle.get();
        let places = self.places(&container)?;
        let place = places.iter().find(|(network, _)| gateway::publishes(network));
        let (Some((network, _)), Some(member)) = (place, self.port_member(&container)) else {
            return Err(Error::conflict("the container is on no network that ports can be published on"));
        };
        let ports: Vec<Published> = container.ports.iter().filter_map(start::published).collect();
        let (gone, stay): (Vec<_>, Vec<_>) = ports.into_iter().partition(|port| publishing.removes(port));
        let open = self.networks.publish(network, &member, &publishing.add)?;
        let live = |port, arrives| self.live_port(Some(&member), port, arrives);
        let all = stay.iter().map(|port| live(port, false));
        let all = all.chain(open.iter().map(|open| live(&open.port, true))).collect();
        base::failpoint::reached("network.publish.tell");
        let (new, sockets): (Vec<Published>, Vec<_>) =
            open.into_iter().map(|Open { port, listener }| (port, listener.into_fd())).unzip();
        let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        let told = match self.supervisor(handle)?.call(&Request::Ports(all), &sockets) {
            Ok(Reply::Done) => Ok(()),
            Ok(reply) => Err(super::control::refused(&container, "update", reply)),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = told {
            self.networks.unpublish(&new)?;
            return Err(error);
        }
        if !gone.is_empty() {
            self.networks.unpublish(&gone)?;
        }
        Ok(stay.iter().chain(&new).map(start::port_record).collect())
    }
}

/// Returns the wishes, in the order of the container's ports.
///
/// # Errors
///
/// Fails for a port, a protocol or an address that cannot be read.
pub(super) fn wishes(config: &Config, host: &HostConfig) -> Result<Vec<PortWish>> {
    if matches!(host.network_mode.as_str(), "host" | "none") || host.network_mode.starts_with("container:") {
        return Ok(Vec::new());
    }
    let mut wishes = Vec::new();
    for (text, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, protocol) = port(text)?;
        for binding in bindings.iter().flatten() {
            let host_ip = match binding.host_ip.trim_matches(['[', ']']) {
                "" => None,
                address => Some(
                    address
                        .parse()
                        .map_err(|_error| Error::invalid(format!("invalid host IP address: {address}")))?,
                ),
            };
            wishes.push(PortWish {
                protocol,
                container_port,
                host_ip,
                host_port: host_port(&binding.host_port)?,
            });
        }
    }
    for text in config.exposed_ports.keys() {
        let (container_port, protocol) = port(text)?;
        let bound =
            wishes.iter().any(|wish| wish.container_port == container_port && wish.protocol == protocol);
        if host.publish_all_ports && !bound {
            wishes.push(PortWish { protocol, container_port, host_ip: None, host_port: HostPort::Ephemeral });
        }
    }
    // Exact wishes first, so that a free choice never takes what another line names.
    wishes.sort_by_key(|wish| matches!(wish.host_port, HostPort::Ephemeral));
    Ok(wishes)
}

/// Parses `80/tcp`; without a protocol it is TCP.
///
/// # Errors
///
/// Fails for what is not a port from 1 to 65535 with a known protocol.
pub(super) fn port(text: &str) -> Result<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let wrong = || Error::invalid(format!("invalid port specification: {text:?}"));
    let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    Ok((number, protocol.parse().map_err(|_error| wrong())?))
}

fn host_port(text: &str) -> Result<HostPort> {
    let wrong = || Error::invalid(format!("invalid port specification: {text:?}"));
    let number = |text: &str| text.parse::<u16>().map_err(|_error| wrong());
    match text.split_once('-') {
        _ if text.is_empty() || text == "0" => Ok(HostPort::Ephemeral),
        None => Ok(HostPort::Exact(number(text)?)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            Ok(HostPort::OneOf(first..=last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_and_exposed_ports_combine() {
        let mut host = HostConfig { publish_all_ports: true, ..HostConfig::default() };
        let binding = PortBinding { host_ip: "127.0.0.1".to_owned(), host_port: "8080".to_owned() };
        host.port_bindings = Some([("80/tcp".to_owned(), Some(vec![binding]))].into());
        let mut config = Config::default();
        config.exposed_ports.insert("80/tcp".to_owned(), api::Empty::default());
        config.exposed_ports.insert("53/udp".to_owned(), api::Empty::default());
        let wishes = wishes(&config, &host).unwrap();
        assert_eq!(wishes.len(), 2);
        assert_eq!((wishes[0].container_port, &wishes[0].host_port), (80, &HostPort::Exact(8080)));
        assert_eq!((wishes[1].protocol, &wishes[1].host_port), (Protocol::Udp, &HostPort::Ephemeral));
        assert!(port("0/tcp").is_err() && port("80/xyz").is_err() && host_port("9-1").is_err());
    }
}
