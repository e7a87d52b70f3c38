//! Ports: `-p [ip:][host]:container[/proto]`, its long form, and `--expose`.

use crate::values;
use api::Empty;
use api::host_config::{PortBinding, PortMap};
use std::collections::BTreeMap;

/// The ports a container exposes, and where they are published.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) exposed: BTreeMap<String, Empty>,
    pub(crate) bindings: PortMap,
}

/// First and last port of a range.
type Range = (u16, u16);

/// Reads the values of `-p` and `--expose`.
pub(crate) fn parse(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for text in publish {
        match long_form(text)? {
            Some(short) => ports.publish(&short)?,
            None => ports.publish(text)?,
        }
    }
    for text in expose {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (range, protocol) = split_protocol(text);
        let (first, last) = parse_range(range)
            .map_err(|why| format!("invalid range format for --expose: {text}, error: {why}"))?;
        for port in first..=last {
            ports.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok(ports)
}

impl Ports {
    fn publish(&mut self, text: &str) -> Result<(), String> {
        let (address, host, container) = split_parts(text);
        let address = match address.strip_prefix('[').and_then(|address| address.strip_suffix(']')) {
            Some(v6) => v6,
            None => address,
        };
        if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address: {address}"));
        }
        let (container, protocol) = split_protocol(container);
        let protocol = protocol.to_ascii_lowercase();
        if container.is_empty() {
            return Err(format!("no port specified: {text}<empty>"));
        }
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(format!("invalid proto: {protocol}"));
        }
        let (first, last) =
            parse_range(container).map_err(|_why| format!("invalid containerPort: {container}"))?;
        let hosts = match host {
            "" => None,
            host => Some(parse_range(host).map_err(|_why| format!("invalid hostPort: {host}"))?),
        };
        if let Some((host_first, host_last)) = hosts
            && last - first != host_last - host_first
            && first != last
        {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            ));
        }
        for port in first..=last {
            let host_port = match hosts {
                None => String::new(),
                // A range of host ports for one container port: the engine picks.
                Some((host_first, host_last)) if first == last && host_first != host_last => {
                    format!("{host_first}-{host_last}")
                }
                Some((host_first, _)) => (host_first + (port - first)).to_string(),
            };
            let key = format!("{port}/{protocol}");
            self.exposed.insert(key.clone(), Empty {});
            let binding = PortBinding { host_ip: address.to_owned(), host_port };
            self.bindings.entry(key).or_default().get_or_insert_default().push(binding);
        }
        Ok(())
    }
}

/// Splits `ip:host:container`, of which the first two may be missing.
fn split_parts(text: &str) -> (&str, &str, &str) {
    let Some((before, container)) = text.rsplit_once(':') else { return ("", "", text) };
    match before.rsplit_once(':') {
        Some((address, host)) if !before.ends_with(']') => (address, host, container),
        // `[::1]::80` has two colons after the address; `ip:container` alone is not an address.
        Some(_) | None => ("", before, container),
    }
}

fn split_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((port, "")) => (port, "tcp"),
        Some((port, protocol)) => (port, protocol),
        None => (text, "tcp"),
    }
}

fn parse_range(text: &str) -> Result<Range, String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let port =
        |text: &str| values::uint(text, u64::from(u16::MAX)).map(|port| u16::try_from(port).unwrap_or(0));
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            if last < first {
                return Err(format!("invalid range specified for port: {text}"));
            }
            Ok((first, last))
        }
    }
}

/// Turns `published=8080,target=80,protocol=tcp` into the short form; `None` if it is no long form.
fn long_form(text: &str) -> Result<Option<String>, String> {
    if !text.contains('=') {
        return Ok(None);
    }
    let (mut target, mut published, mut protocol) = (None, String::new(), "tcp".to_owned());
    for field in values::fields(text)? {
        let (name, value) = field.split_once('=').ok_or_else(|| format!("invalid field: {field}"))?;
        match name {
            "protocol" if matches!(value, "tcp" | "udp" | "sctp") => value.clone_into(&mut protocol),
            "protocol" => return Err(format!("invalid protocol value '{value}'")),
            // Of swarm services; without meaning here.
            "mode" => {}
            "target" => target = Some(value.to_owned()),
            "published" => value.clone_into(&mut published),
            _ => return Err(format!("invalid field key: {name}")),
        }
    }
    let target = target.ok_or("missing mandatory field 'target'")?;
    Ok(Some(format!("{published}:{target}/{protocol}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(publish: &str, expect: Result<&str, &str>) {
        let shown = parse(&[publish.to_owned()], &[]).map(|ports| {
            let bindings = ports.bindings.iter().flat_map(|(key, bindings)| {
                bindings
                    .iter()
                    .flatten()
                    .map(move |binding| format!("{}:{}->{key}", binding.host_ip, binding.host_port))
            });
            bindings.collect::<Vec<_>>().join(" ")
        });
        assert_eq!(shown.as_deref().map_err(String::as_str), expect, "{publish}");
    }

    #[test]
    fn every_form_is_read() {
        check("80", Ok(":->80/tcp"));
        check("8080:80", Ok(":8080->80/tcp"));
        check("127.0.0.1:8080:80/udp", Ok("127.0.0.1:8080->80/udp"));
        check("127.0.0.1::80", Ok("127.0.0.1:->80/tcp"));
        check("[::1]:8080:80", Ok("::1:8080->80/tcp"));
        check("8000-8001:80-81", Ok(":8000->80/tcp :8001->81/tcp"));
        check("8000-8010:80", Ok(":8000-8010->80/tcp"));
        check("target=80,published=8080,protocol=udp", Ok(":8080->80/udp"));
        check("x", Err("invalid containerPort: x"));
        check("x:80", Err("invalid hostPort: x"));
        check("1.2.3:1:2", Err("invalid IP address: 1.2.3"));
        check("80/x", Err("invalid proto: x"));
        check(
            "8000-8003:80-81",
            Err("invalid ranges specified for container and host Ports: 80-81 and 8000-8003"),
        );
        check("70000:80", Err("invalid hostPort: 70000"));
    }

    #[test]
    fn exposed_ports() {
        let ports = parse(&[], &["99-100/udp".to_owned(), "7".to_owned()]).unwrap();
        assert_eq!(ports.exposed.keys().collect::<Vec<_>>(), ["100/udp", "7/tcp", "99/udp"]);
        assert_eq!(parse(&[], &["1:2".to_owned()]), Err("invalid port format for --expose: 1:2".to_owned()));
    }
}
