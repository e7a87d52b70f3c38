//! The files the engine writes for a container: `hosts`, `hostname`, `resolv.conf`; and the first contents of its volumes.

use super::links::Linked;
use super::record::Container;
use super::{Containers, spec};
use crate::error::{Error, Result};
use ::network::files::{Hosts, ResolvConf, hosts, resolv_conf};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use store::Store;

/// resolv.conf(5).
const RESOLV_CONF: &str = "/etc/resolv.conf";

impl Containers {
    /// Writes the three files for the coming run. A file the user changed inside is written anew, as in Docker.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be written, or an extra host cannot be read.
    pub(super) fn write_files(&self, container: &Container, own: &[IpAddr], links: &[Linked]) -> Result<()> {
        let folder = self.settings.data.container(&container.id);
        let facts = spec::Facts { hostname: container.id.short(), ..spec::Facts::default() };
        let hostname = match container.host.uts_mode.as_str() {
            "host" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            _ if container.host.network_mode == "host" && container.config.hostname.is_empty() => {
                rustix::system::uname().nodename().to_string_lossy().into_owned()
            }
            _ => spec::hostname(container, &facts),
        };
        write(&folder.join("hostname"), &format!("{hostname}\n"))?;
        if let Some(other) = container.host.network_mode.strip_prefix("container:") {
            // Whoever shares a network shares the files that describe it.
            let other = self.settings.data.container(&self.get(other)?.id);
            for name in ["hosts", "resolv.conf", "hostname"] {
                let text = std::fs::read_to_string(other.join(name)).unwrap_or_default();
                write(&folder.join(name), &text)?;
            }
            return Ok(());
        }
        if container.host.network_mode == "host" {
            for name in ["hosts", "resolv.conf"] {
                let text = std::fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
                write(&folder.join(name), &text)?;
            }
            return Ok(());
        }
        let plan = Hosts {
            ipv6: own.iter().any(IpAddr::is_ipv6),
            extra: self.extra_hosts(container)?,
            own: own.to_vec(),
            hostname,
            domainname: container.config.domainname.clone(),
            links: links.iter().map(|link| (link.address, link.names.clone())).collect(),
        };
        write(&folder.join("hosts"), &hosts(&plan))?;
        let (conf, _) = self.name_servers(container)?;
        let conf = match self.named_networks(container).is_empty() {
            true => conf.for_default_bridge(false),
            false => conf.for_embedded_resolver(),
        };
        write(&folder.join("resolv.conf"), &resolv_conf(&conf))
    }

    /// Returns the host's resolv.conf with what the user wants otherwise, and whether the servers are the user's choice.
    ///
    /// # Errors
    ///
    /// Fails if an address cannot be read.
    pub(super) fn name_servers(&self, container: &Container) -> Result<(ResolvConf, bool)> {
        let own = self.settings.resolv_conf.as_deref();
        let mut text = std::fs::read_to_string(own.unwrap_or(Path::new(RESOLV_CONF))).unwrap_or_default();
        if own.is_none()
            && ResolvConf::parse(&text).is_resolved_stub()
            && let Ok(real) = std::fs::read_to_string("/run/systemd/resolve/resolv.conf")
        {
            text = real;
        }
        let host = &container.host;
        let own = |list: &Option<Vec<String>>, default: &[String]| {
            list.clone().filter(|list| !list.is_empty()).unwrap_or_else(|| default.to_vec())
        };
        let mut servers: Vec<IpAddr> = Vec::new();
        for address in host.dns.iter().flatten() {
            servers.push(
                address
                    .parse()
                    .map_err(|_error| Error::invalid(format!("bad format for DNS server: {address}")))?,
            );
        }
        if servers.is_empty() {
            servers.clone_from(&self.settings.dns);
        }
        let search = own(&host.dns_search, &self.settings.dns_search);
        let options = own(&host.dns_options, &self.settings.dns_options);
        Ok((ResolvConf::parse(&text).overridden(&servers, &search, &options), !servers.is_empty()))
    }

    fn extra_hosts(&self, container: &Container) -> Result<Vec<(String, IpAddr)>> {
        let mut extra = Vec::new();
        for text in container.host.extra_hosts.iter().flatten() {
            let wrong = || Error::invalid(format!("bad format for add-host: {text:?}"));
            let (name, address) = text.split_once(['=', ':']).ok_or_else(wrong)?;
            let address = match address.trim_matches(['[', ']']) {
                "host-gateway" => self
                    .host_gateway()
                    .ok_or_else(|| Error::invalid("unable to derive the IP value for host-gateway"))?,
                address => address.parse().map_err(|_error| wrong())?,
            };
            extra.push((name.to_owned(), address));
        }
        Ok(extra)
    }

    fn host_gateway(&self) -> Option<IpAddr> {
        if let Some(address) = self.settings.host_gateways.first() {
            return Some(*address);
        }
        let bridge = self.networks.get("bridge").ok()?;
        bridge.subnets.first().map(|subnet| subnet.gateway)
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    // Written in place: the file is bind-mounted while the container runs, so its inode must stay.
    std::fs::write(path, text).map_err(Error::file("write", path))
}

/// Copies what the image has at `destination` into the empty folder `data`.
///
/// # Errors
///
/// Fails if something cannot be copied.
pub(super) fn fill_volume(
    store: &Store,
    layers: &[oci::Digest],
    destination: &Path,
    data: &Path,
) -> Result<()> {
    let lower: Vec<PathBuf> = store.layers().lower_dirs(layers)?;
    let lower: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
    crate::copy::from_image(&lower, destination, data)
}
