//! Links (`--link`): what one container calls another on the default bridge, in its hosts file and its environment.
//!
//! A link binds two containers for good when the linking one is created; their names may change afterwards. As
//! `PARENT/ALIAS` it is one more name of the container it leads to, by which it is removed (`rm --link`).

use super::record::{Container, Link};
use super::{Containers, files};
use crate::error::{Error, Result};
use ::network::IpNet;
use ::network::files::readdress;
use ::network::firewall;
use api::host_config::HostConfig;
use base::{ContainerId, Kind};
use std::collections::BTreeMap;
use std::net::IpAddr;
use store::Durability;

/// Where a link leads at a start.
#[derive(Debug, Clone)]
pub(super) struct Linked {
    pub(super) address: IpAddr,
    /// What the hosts file calls it.
    pub(super) names: Vec<String>,
    /// Environment variables for the linking container.
    pub(super) variables: Vec<String>,
}

impl Containers {
    /// Takes the links of a request, which the network mode must allow.
    ///
    /// # Errors
    ///
    /// `could not get container for NAME`, a wrong form, or a conflict with the network mode of either container.
    pub(super) fn take_links(&self, host: &mut HostConfig) -> Result<Vec<Link>> {
        let asked = host.links.take().unwrap_or_default();
        let mut links: Vec<Link> = Vec::new();
        let mode = host.network_mode.as_str();
        if !asked.is_empty() && (mode == "host" || mode.starts_with("container:")) {
            return Err(unfit(mode.split(':').next().unwrap_or_default()));
        }
        // On other networks than the default one links are a matter of the endpoint.
        if !matches!(mode, "bridge" | "none") {
            return Ok(links);
        }
        for text in &asked {
            let (name, alias) = parse(text)?;
            // Not "not found": that would be the image.
            let child = self
                .get(name)
                .map_err(|error| Error::invalid(format!("could not get container for {name}: {error}")))?;
            if child.host.network_mode == "host" {
                return Err(unfit("host"));
            }
            // The first of one name stays.
            if links.iter().all(|link| link.alias != alias) {
                links.push(Link { child: child.id, alias: alias.to_owned() });
            }
        }
        Ok(links)
    }

    /// Finds what a container's links lead to, for its start.
    ///
    /// # Errors
    ///
    /// Fails if a linked container does not run on the default bridge.
    pub(super) fn follow_links(&self, container: &Container) -> Result<Vec<Linked>> {
        let mut all = Vec::new();
        for (link, child) in self.children(container) {
            if child.state.run().is_none() {
                return Err(Error::conflict(format!(
                    "Cannot link to a non running container: /{} AS /{}/{}",
                    child.name, container.name, link.alias
                )));
            }
            let address = address(&child).ok_or_else(|| {
                Error::conflict(format!("container {} not attached to default bridge network", child.id))
            })?;
            let variables = variables(&container.name, &link.alias, &child, address);
            all.push(Linked { address, names: names(&link.alias, &child), variables });
        }
        Ok(all)
    }

    /// Lets linked containers of the default bridge speak to each other on the exposed ports of those they are linked to,
    /// where containers do not reach each other otherwise. `coming` counts as running.
    ///
    /// # Errors
    ///
    /// Fails if the packet filter cannot be changed.
    pub(super) fn sync_links(&self, coming: Option<ContainerId>) -> Result<()> {
        if self.settings.bridge.icc {
            return Ok(());
        }
        let here = |container: &Container| coming == Some(container.id) || container.state.is_alive();
        let mut links: Vec<firewall::Link> = Vec::new();
        for parent in self.list().iter().filter(|parent| !parent.links.is_empty() && here(parent)) {
            for (_, child) in self.children(parent).filter(|(_, child)| here(child)) {
                for (from, to) in addresses(parent).zip(addresses(&child)) {
                    let (Some(from), Some(to)) = (from, to) else { continue };
                    links.extend(exposed(&child).filter_map(|(port, protocol)| {
                        Some(firewall::Link { from, to, protocol: protocol.parse().ok()?, port })
                    }));
                }
            }
        }
        links.sort_unstable();
        links.dedup();
        self.networks.link(links)
    }

    /// Writes the address with which a container has started into the hosts files of those that link to it.
    pub(super) fn tell_linking(&self, child: &Container) {
        let Some(address) = address(child) else { return };
        for parent in self.list().iter().filter(|parent| parent.state.run().is_some()) {
            for link in parent.links.iter().filter(|link| link.child == child.id) {
                let path = self.settings.data.container(&parent.id).join("hosts");
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                let current = readdress(&text, &names(&link.alias, child).join(" "), address);
                if current != text
                    && let Err(error) = files::write(&path, &current)
                {
                    tracing::warn!(container = %parent.id, error = %base::chain(&error), "telling of a linked container");
                }
            }
        }
    }

    /// Removes a link by its name, `PARENT/ALIAS`. The running parent's hosts file forgets it, too.
    ///
    /// # Errors
    ///
    /// `No such container: NAME` without such a link; a conflict for the name of a container.
    pub fn remove_link(&self, name: &str) -> Result<()> {
        let child = self.get(name)?;
        let Some((parent, alias)) = name.strip_prefix('/').unwrap_or(name).split_once('/') else {
            return Err(Error::conflict("Conflict, cannot remove the default link name of the container"));
        };
        let parent = self.find(parent)?;
        let _operation = parent.operate();
        let after = parent.update(self.store.database(), Durability::Durable, |container| {
            container.links.retain(|link| link.alias != alias);
            Ok(())
        })?;
        self.sync_links(None)?;
        if after.state.run().is_some() {
            let path = self.settings.data.container(&after.id).join("hosts");
            let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
            let gone = names(alias, &child).join(" ");
            let kept =
                text.lines().filter(|line| line.split_once('\t').is_none_or(|(_, names)| names != gone));
            files::write(&path, &kept.map(|line| format!("{line}\n")).collect::<String>())?;
        }
        Ok(())
    }

    /// Returns a container's links as Docker shows them, `/CHILD:/PARENT/ALIAS`.
    pub fn shown_links(&self, container: &Container) -> Vec<String> {
        let shown = |(link, child): (&Link, std::sync::Arc<Container>)| {
            format!("/{}:/{}/{}", child.name, container.name, link.alias)
        };
        self.children(container).map(shown).collect()
    }

    /// Returns the names that containers have by links to them, `/PARENT/ALIAS`.
    pub fn link_names(&self) -> BTreeMap<ContainerId, Vec<String>> {
        let mut names: BTreeMap<ContainerId, Vec<String>> = BTreeMap::new();
        for parent in self.list() {
            for link in &parent.links {
                names.entry(link.child).or_default().push(format!("/{}/{}", parent.name, link.alias));
            }
        }
        names
    }

    /// The links whose containers there still are: one goes with the container it leads to.
    fn children<'a>(
        &'a self,
        container: &'a Container,
    ) -> impl Iterator<Item = (&'a Link, std::sync::Arc<Container>)> + 'a {
        container.links.iter().filter_map(|link| Some((link, self.handle(&link.child)?.get())))
    }
}

fn unfit(mode: &str) -> Error {
    let text = format!(
        "conflicting options: {mode} type {} can't be used with links. This would result in undefined behavior",
        if mode == "host" { "networking" } else { "network" }
    );
    Error::known(Kind::InvalidArgument, text)
}

/// Takes `NAME[:ALIAS]` apart; `/NAME:/PARENT/ALIAS` is how Docker shows a link.
fn parse(text: &str) -> Result<(&str, &str)> {
    let mut parts = text.split(':');
    match (parts.next().filter(|name| !name.is_empty()), parts.next(), parts.next()) {
        (None, _, _) => Err(Error::invalid("empty string specified for links")),
        (Some(name), None, _) => Ok((name, name)),
        (Some(name), Some(alias), None) => {
            let alias = if name.starts_with('/') { alias.rsplit('/').next().unwrap_or(alias) } else { alias };
            Ok((name.strip_prefix('/').unwrap_or(name), alias))
        }
        _ => Err(Error::invalid(format!("bad format for links: {text}"))),
    }
}

/// The address on the default bridge.
fn address(container: &Container) -> Option<IpAddr> {
    let endpoint = container.endpoints.get("bridge")?;
    format!("{}/{}", endpoint.address, endpoint.prefix_len).parse::<IpNet>().ok().map(|net| net.address())
}

/// A container's addresses on the default bridge, of each family.
fn addresses(container: &Container) -> impl Iterator<Item = Option<IpAddr>> {
    let endpoint = container.endpoints.get("bridge");
    let six = endpoint.and_then(|endpoint| endpoint.address6.parse().ok());
    [address(container), six].into_iter()
}

fn names(alias: &str, child: &Container) -> Vec<String> {
    let mut names = vec![alias.to_owned(), child.id.short()];
    if child.name != alias {
        names.push(child.name.clone());
    }
    names
}

/// The ports that a container exposes.
fn exposed(container: &Container) -> impl Iterator<Item = (u16, &'static str)> {
    container.config.exposed_ports.keys().filter_map(|text| {
        let (port, protocol) = super::ports::port(text).ok()?;
        Some((port, protocol.as_str()))
    })
}

/// Docker's variables of a link: `ALIAS_NAME`, `ALIAS_PORT…`, `ALIAS_ENV_…`.
fn variables(parent: &str, alias: &str, child: &Container, address: IpAddr) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let mut variables = vec![format!("{prefix}_NAME=/{parent}/{alias}")];
    let mut ports: Vec<(u16, &str)> = exposed(child).collect();
    ports.sort_unstable();
    if let Some((port, protocol)) = ports.first() {
        variables.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
    }
    for (port, protocol) in ports {
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        variables.push(format!("{name}={protocol}://{address}:{port}"));
        variables.push(format!("{name}_ADDR={address}"));
        variables.push(format!("{name}_PORT={port}"));
        variables.push(format!("{name}_PROTO={protocol}"));
    }
    for variable in child.config.env.iter().flatten() {
        let name = variable.split('=').next().unwrap_or_default();
        if !matches!(name, "HOME" | "PATH") {
            variables.push(format!("{prefix}_ENV_{variable}"));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, expected) in [
            ("db", Some(("db", "db"))),
            ("db:store", Some(("db", "store"))),
            ("/db:/web/store", Some(("db", "store"))),
            ("", None),
            (":x", None),
            ("a:b:c", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }
}
