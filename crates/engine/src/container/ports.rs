//! Which ports a container wants published: `PortBindings`, `PublishAllPorts`, `ExposedPorts`. Pure.

use crate::error::{Error, Result};
use crate::network::PortWish;
use ::network::Protocol;
use ::network::ports::HostPort;
use api::container::Config;
use api::host_config::HostConfig;

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
    use api::host_config::PortBinding;

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
