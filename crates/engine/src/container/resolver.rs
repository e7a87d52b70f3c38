//! Who is who in user-defined networks: what each container's resolver knows, and telling it what has changed.
//!
//! A resolver belongs to its container's supervisor, which answers from its table while no daemon is there. A change of a
//! network (somebody starts, ends, comes, leaves, is renamed) is told to the supervisors of all who are on it: one thread
//! at a time does so, for all changes since it last looked. Who has to wait for it does so with a time limit, so that
//! a supervisor that hangs delays others, but does not stop them.

use super::Containers;
use super::handle::Handle;
use super::record::{Container, Endpoint};
use crate::error::Result;
use crate::network::Elsewhere;
use crate::network::record::Network;
use ::network::files::{RESOLVER, ResolvConf, resolv_conf};
use api::network::EndpointSettings;
use base::ContainerId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervisor::protocol::{NameServer, Request, Resolver};

/// How long one supervisor may take to note its new table.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long an operation waits until everybody knows of it.
const WAIT: Duration = Duration::from_secs(3);
/// RFC 1035, 4.2.
const PORT: u16 = 53;

/// Changes of networks that are yet to be told.
#[derive(Debug, Default)]
pub(super) struct News {
    state: Mutex<Pending>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    /// The networks that have changed, by identifier.
    networks: BTreeSet<String>,
    /// Whether a thread is telling.
    busy: bool,
    /// The number of changes so far, and how many of them are told.
    changes: u64,
    told: u64,
}

/// A change that is being told.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(super) struct Change(u64);

impl News {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A container's place in a network, as the others find it.
#[derive(Debug, Clone)]
pub(super) struct Host {
    addresses: Vec<IpAddr>,
    /// What it is called.
    names: Vec<String>,
    /// What its addresses are called.
    pointer: String,
}

impl Host {
    fn note(&self, known: &mut Resolver) {
        for address in &self.addresses {
            known.names.extend(self.names.iter().map(|name| (name.clone(), *address)));
            known.pointers.push((*address, self.pointer.clone()));
        }
    }
}

/// Who is on each network, worked out once for all who are to be told.
type Registers = BTreeMap<String, Vec<Host>>;

impl Containers {
    /// Returns the user-defined networks of a container, by identifier.
    pub(super) fn named_networks(&self, container: &Container) -> BTreeSet<String> {
        let networks = container.endpoints.keys().filter_map(|name| self.networks.get(name).ok());
        networks.filter(|network| has_names(network)).map(|network| network.id.clone()).collect()
    }

    /// Says that networks have changed, and begins to tell those who are on them.
    pub(super) fn announce(self: &Arc<Self>, networks: BTreeSet<String>) -> Change {
        let mut pending = self.news.lock();
        if networks.is_empty() {
            return Change(0);
        }
        pending.networks.extend(networks);
        pending.changes += 1;
        if !std::mem::replace(&mut pending.busy, true) {
            let containers = Arc::clone(self);
            std::thread::spawn(move || containers.tell_all());
        }
        Change(pending.changes)
    }

    /// Waits until all who are concerned know of a change.
    pub(super) fn await_told(&self, Change(change): Change) {
        let pending = self.news.lock();
        let waited = self.news.told.wait_timeout_while(pending, WAIT, |pending| pending.told < change);
        drop(waited);
    }

    fn tell_all(&self) {
        loop {
            let mut pending = self.news.lock();
            let networks = std::mem::take(&mut pending.networks);
            if networks.is_empty() {
                pending.busy = false;
                return;
            }
            let goal = pending.changes;
            drop(pending);
            let mut registers = Registers::new();
            let members: BTreeSet<String> =
                networks.iter().flat_map(|network| self.networks.members(network).into_keys()).collect();
            for member in members {
                let handle = ContainerId::parse(&member).ok().and_then(|id| self.handle(&id));
                if let Some(handle) = handle {
                    self.tell_names(&handle, &mut registers);
                }
            }
            self.news.lock().told = goal;
            self.news.told.notify_all();
        }
    }

    /// Tells a running container's supervisor what its resolver should know, unless it does.
    pub(super) fn tell_names(&self, handle: &Handle, registers: &mut Registers) {
        // Held until the supervisor has answered: what is told last is what was so last.
        let mut told = handle.told_names();
        let container = handle.get();
        if !container.state.is_alive() || (told.is_none() && self.named_networks(&container).is_empty()) {
            return;
        }
        let outcome = self.resolver(&container, registers).and_then(|known| {
            if told.as_ref() != Some(&known) {
                let connection = self.supervisor(handle)?;
                connection.set_patience(PATIENCE)?;
                connection.done(&Request::Resolve(Box::new(known.clone())), &[])?;
                *told = Some(known);
            }
            Ok(())
        });
        if let Err(error) = outcome
            && handle.get().state.is_alive()
        {
            tracing::warn!(container = %handle.id, error = %base::chain(&error), "telling a container the names in its networks");
        }
    }

    /// Returns what the resolver of a container that is about to start knows; `None` if it has none.
    pub(super) fn first_names(&self, handle: &Handle, container: &Container) -> Result<Option<Resolver>> {
        let mut told = handle.told_names();
        *told = match self.named_networks(container).is_empty() {
            true => None,
            false => Some(self.resolver(container, &mut Registers::new())?),
        };
        Ok(told.clone())
    }

    /// Gives a running container that has come to its first user-defined network the resolver's file, as in Docker:
    /// one that somebody has changed inside stays.
    pub(super) fn use_resolver(&self, container: &Container) -> Result<()> {
        let path = self.settings.data.container(&container.id).join("resolv.conf");
        let (conf, _) = self.name_servers(container)?;
        let before = resolv_conf(&conf.clone().for_default_bridge(false));
        match std::fs::read_to_string(&path) {
            Ok(text) if text == before => {
                super::files::write(&path, &resolv_conf(&conf.for_embedded_resolver()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn resolver(&self, container: &Container, registers: &mut Registers) -> Result<Resolver> {
        let (conf, is_own) = self.name_servers(container)?;
        let mut known = Resolver {
            // After Docker: with `ndots` set on purpose a name without a dot is meant for the search list.
            keep_single_labels: conf.options.iter().any(|option| {
                option
                    .strip_prefix("ndots:")
                    .is_some_and(|dots| dots.parse::<u8>().is_ok_and(|dots| dots > 0))
            }),
            ..Resolver::default()
        };
        let mut reaches_out = false;
        let mut ipv6 = false;
        for (name, endpoint) in &container.endpoints {
            let Ok(network) = self.networks.get(name) else { continue };
            reaches_out |= network.driver.has_interfaces() && !network.internal;
            ipv6 |= !endpoint.address6.is_empty();
            if has_names(&network) {
                let hosts = registers.entry(network.id.clone()).or_insert_with(|| self.register(&network));
                for host in hosts.iter().chain(&self.linked(endpoint, &network)) {
                    host.note(&mut known);
                }
            }
        }
        if reaches_out {
            known.servers = name_servers(&conf, is_own, ipv6);
        }
        Ok(known)
    }

    /// Returns who is on a network.
    fn register(&self, network: &Network) -> Vec<Host> {
        let members = self.networks.members(&network.id);
        let ids = members.keys().filter_map(|id| ContainerId::parse(id).ok());
        let own = ids.filter_map(|id| host(&self.handle(&id)?.get(), network));
        own.chain(self.networks.elsewhere(&network.id).iter().map(|place| remote(place, network))).collect()
    }

    /// Returns what a container calls others by itself (`Links` of its endpoint, as compose sets them).
    fn linked(&self, endpoint: &Endpoint, network: &Network) -> Vec<Host> {
        let links = endpoint.settings.links.iter().flatten();
        links
            .filter_map(|link| {
                let (name, alias) = link.split_once(':').unwrap_or((link, link));
                let host = host(&*self.get(name).ok()?, network)?;
                Some(Host { names: vec![alias.to_owned(), format!("{alias}.{}", network.name)], ..host })
            })
            .collect()
    }
}

/// Whether containers on it find each other by name.
pub(super) fn has_names(network: &Network) -> bool {
    network.driver.has_interfaces() && !network.is_predefined()
}

/// Returns what a container is called in a user-defined network, in Docker's order.
pub(super) fn dns_names(container: &Container, settings: &EndpointSettings) -> Vec<String> {
    let mut names = vec![container.name.clone()];
    let further = settings.aliases.iter().flatten().cloned();
    let hostname = Some(container.config.hostname.clone()).filter(|name| !name.is_empty());
    for name in further.chain([container.id.short()]).chain(hostname) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Returns a container as the others on `network` find it; `None` if it is not there (yet, or any more).
fn host(container: &Container, network: &Network) -> Option<Host> {
    let endpoint =
        container.endpoints.get(&network.name).filter(|endpoint| !endpoint.endpoint_id.is_empty())?;
    let names = dns_names(container, &endpoint.settings);
    let addresses: Vec<IpAddr> =
        [&endpoint.address, &endpoint.address6].into_iter().filter_map(|text| text.parse().ok()).collect();
    Some(named(&container.name, names, addresses, network))
}

/// Returns a container of another host as those on `network` find it.
fn remote(place: &Elsewhere, network: &Network) -> Host {
    named(&place.name, place.names.clone(), place.addresses().collect(), network)
}

fn named(name: &str, names: Vec<String>, addresses: Vec<IpAddr>, network: &Network) -> Host {
    let qualified: Vec<String> = names.iter().map(|name| format!("{name}.{}", network.name)).collect();
    Host { addresses, names: [names, qualified].concat(), pointer: format!("{name}.{}", network.name) }
}

/// Returns whom a resolver asks; `is_own`: the servers are the user's choice, and not the host's.
///
/// A server on the host's loopback is reached from the host alone, and so is one with IPv6 for a container without; what
/// the user names is meant as seen from the container (moby, `libnetwork/resolver.go`).
fn name_servers(conf: &ResolvConf, is_own: bool, ipv6: bool) -> Vec<NameServer> {
    let mut servers = conf.nameservers.clone();
    servers.retain(|server| !(is_own && *server == RESOLVER));
    if servers.is_empty() {
        servers = ResolvConf::default().for_default_bridge(false).nameservers;
    }
    let from_host = |server: &IpAddr| !is_own && (server.is_loopback() || (server.is_ipv6() && !ipv6));
    servers
        .iter()
        .map(|server| NameServer { address: SocketAddr::new(*server, PORT), from_host: from_host(server) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_servers_are_asked_from_where_they_can_be_reached() {
        let check = |text: &str, is_own: bool, ipv6: bool, expect: &[(&str, bool)]| {
            let found = name_servers(&ResolvConf::parse(text), is_own, ipv6);
            let found: Vec<(String, bool)> =
                found.iter().map(|server| (server.address.to_string(), server.from_host)).collect();
            let expect: Vec<(String, bool)> =
                expect.iter().map(|(address, host)| ((*address).to_owned(), *host)).collect();
            assert_eq!(found, expect, "{text}");
        };
        let host = "nameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fd00::1\n";
        check(
            host,
            false,
            false,
            &[("127.0.0.53:53", true), ("192.0.2.1:53", false), ("[fd00::1]:53", true)],
        );
        check(
            host,
            true,
            true,
            &[("127.0.0.53:53", false), ("192.0.2.1:53", false), ("[fd00::1]:53", false)],
        );
        // An engine in a container of another one.
        check("nameserver 127.0.0.11", false, false, &[("127.0.0.11:53", true)]);
        check("nameserver 127.0.0.11", true, false, &[("8.8.8.8:53", false), ("8.8.4.4:53", false)]);
        check("", false, false, &[("8.8.8.8:53", false), ("8.8.4.4:53", false)]);
    }
}
