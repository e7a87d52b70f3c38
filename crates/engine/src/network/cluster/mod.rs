//! A store that several hosts share (etcd), by which they have networks in common.
//!
//! A host holds a lease as long as it lives; its containers' places hang on it. What all have written is read once and then
//! followed by revision; where that is not possible any more, it is read again. Nothing here waits longer than a few
//! seconds, and nobody waits who has nothing to do with such a network.

mod etcd;
mod layout;
mod model;

pub(crate) use layout::Endpoint;
pub(crate) use model::{Model, Places};

use super::record::Network;
use crate::error::{Error, Result};
use crate::http::Address;
use crate::settings::ClusterSettings;
use base::Kind;
use etcd::{Entry, Etcd, News, Trouble};
use layout::Layout;
use model::Step;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a watch is silent before it is asked again, in case the connection is dead.
const SILENCE: Duration = Duration::from_secs(20);
/// How long to wait after the store has not answered.
const PAUSE: Duration = Duration::from_millis(500);

/// What became of a wish for addresses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// They are this host's.
    Made,
    /// Somebody else has one.
    Taken,
    /// There is no such network any more.
    NoNetwork,
}

/// A cluster's store, as this host uses it.
#[derive(Debug)]
pub(crate) struct Cluster {
    settings: ClusterSettings,
    /// The identifier of this host's engine.
    pub(super) host: String,
    /// The address that others send to.
    pub(super) tunnel: IpAddr,
    etcd: Etcd,
    layout: Layout,
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    model: Model,
    /// Whether the model is that of the store.
    is_read: bool,
    lease: Option<i64>,
    /// Whether the store did not answer last time.
    is_silent: bool,
    woken: bool,
}

impl Cluster {
    /// Makes the way to a store; it need not answer.
    ///
    /// # Errors
    ///
    /// Fails if this host does not have the interface that is to be advertised.
    pub(crate) fn open(settings: ClusterSettings, host: String) -> Result<Self> {
        let tunnel = advertised(&settings.advertise)?;
        let (authority, identity) = (settings.authority.clone(), settings.identity.clone());
        let is_secure = authority.is_some() || identity.is_some();
        let files = tls::Client { authority, identity, skip_verify: false };
        let members = settings.members.iter().map(|member| match is_secure {
            true => Address::Tls(member.clone(), files.clone()),
            false => Address::Tcp(member.clone()),
        });
        let (etcd, layout) = (Etcd(members.collect()), Layout::new(&settings.prefix));
        Ok(Self { settings, host, tunnel, etcd, layout, state: Mutex::default(), woken: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether the store answered, and says it if that is new.
    fn heard<T>(&self, answer: Result<T, Trouble>) -> Result<T> {
        let silence = match &answer {
            Err(Trouble::Silent(words)) => Some(words),
            Ok(_) | Err(Trouble::Refused(_)) => None,
        };
        let was = std::mem::replace(&mut self.state().is_silent, silence.is_some());
        let store = &self.settings.store;
        match silence {
            Some(words) if !was => tracing::warn!(
                store,
                error = words,
                "the cluster's store does not answer; what is known of other hosts stays"
            ),
            None if was => tracing::info!(store, "the cluster's store answers again"),
            _ => {}
        }
        answer.map_err(|trouble| match trouble {
            Trouble::Silent(words) => {
                Error::known(Kind::Unavailable, format!("cluster store {store} does not answer: {words}"))
            }
            Trouble::Refused(words) => {
                Error::known(Kind::Internal, format!("cluster store {store} refused: {words}"))
            }
        })
    }

    /// Returns all networks, and what [`Self::create`] needs to know of that moment.
    pub(crate) fn networks(&self) -> Result<(i64, Vec<Network>)> {
        let mut ranges = self.heard(self.etcd.transact(&self.layout.read_networks()))?.ranges();
        let generation = ranges.next().unwrap_or_default();
        let networks = ranges.next().unwrap_or_default();
        let networks = networks.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok());
        Ok((generation.first().map_or(0, |entry| entry.mod_revision), networks.collect()))
    }

    /// Writes a network, unless one has come or gone since. Returns whether it is written.
    pub(crate) fn create(&self, network: &Network, generation: i64) -> Result<bool> {
        let record = record(network)?;
        Ok(self.heard(self.etcd.transact(&self.layout.create(&network.id, &record, generation)))?.succeeded)
    }

    /// Removes a network, unless containers are on it: those are returned.
    pub(crate) fn remove(&self, id: &str) -> Result<Vec<(String, Endpoint)>> {
        let done = self.heard(self.etcd.transact(&self.layout.remove(id)))?;
        if done.succeeded {
            return Ok(Vec::new());
        }
        let users = done.ranges().flatten().map(|entry: Entry| {
            let container = entry.key.rsplit('/').next().unwrap_or_default().to_owned();
            Some((container, serde_json::from_slice(&entry.value).ok()?))
        });
        Ok(users.flatten().collect())
    }

    /// Takes addresses for a container of this host, and tells the others of it.
    pub(crate) fn claim(&self, network: &str, container: &str, endpoint: &Endpoint) -> Result<Claim> {
        let lease = self.lease()?;
        for held in [false, true] {
            let claim = self.layout.claim(network, container, endpoint, lease, held);
            let done = match self.etcd.transact(&claim) {
                Err(Trouble::Refused(words)) if words.contains("lease not found") => {
                    self.state().lease = None;
                    let lease = self.lease()?;
                    let claim = self.layout.claim(network, container, endpoint, lease, held);
                    self.heard(self.etcd.transact(&claim))?
                }
                other => self.heard(other)?,
            };
            if done.succeeded {
                return Ok(Claim::Made);
            }
            let mut ranges = done.ranges();
            if ranges.next().unwrap_or_default().is_empty() {
                return Ok(Claim::NoNetwork);
            }
            // What this host has taken and not given back yet is its own to take.
            if ranges.flatten().any(|entry| entry.value != self.host.as_bytes()) {
                return Ok(Claim::Taken);
            }
        }
        Ok(Claim::Taken)
    }

    /// Returns the lease, made if there is none.
    fn lease(&self) -> Result<i64> {
        if let Some(lease) = self.state().lease {
            return Ok(lease);
        }
        let lease = self.heard(self.etcd.grant(self.settings.ttl))?;
        Ok(*self.state().lease.get_or_insert(lease))
    }

    /// Keeps the lease and makes the store have what this host has.
    pub(crate) fn beat(&self, own: impl Fn() -> Places, record: impl Fn(&str) -> Option<Network>) {
        let lease = self.state().lease;
        if let Some(lease) = lease {
            match self.heard(self.etcd.renew(lease)) {
                Ok(true) => {}
                // Others believe that this host is dead: all is said again.
                Ok(false) => self.state().lease = None,
                Err(_said) => return,
            }
        }
        if self.lease().is_ok() {
            self.settle(&own(), record);
        }
    }

    /// Makes the store have what this host has, as far as it is known to differ.
    pub(crate) fn settle(&self, own: &Places, network: impl Fn(&str) -> Option<Network>) {
        let state = self.state();
        let (Some(lease), true, false) = (state.lease, state.is_read, state.is_silent) else { return };
        let steps = state.model.steps(&self.host, lease, own);
        drop(state);
        for step in steps {
            let done = match &step {
                Step::Withdraw(id, container, endpoint, revision) => {
                    let transaction = self.layout.withdraw(id, container, endpoint, *revision);
                    self.heard(self.etcd.transact(&transaction)).map(drop)
                }
                Step::Restore(id) => network(id).map_or(Ok(()), |network| {
                    let record = record(&network)?;
                    self.heard(self.etcd.transact(&self.layout.restore(id, &record))).map(drop)
                }),
                Step::Publish(id, container, endpoint) => match self.claim(id, container, endpoint) {
                    Ok(Claim::Taken) => Err(Error::conflict(format!(
                        "another host has given out an address of container {}: {}",
                        endpoint.name,
                        endpoint.addresses.join(", ")
                    ))),
                    other => other.map(drop),
                },
            };
            if let Err(error) = done {
                tracing::warn!(?step, error = %base::chain(&error), "telling the cluster of a container");
            }
        }
    }

    /// Waits until it is time for the next beat.
    pub(crate) fn rest(&self) {
        let wait = self.woken.wait_timeout_while(self.state(), self.settings.heartbeat, |state| !state.woken);
        wait.unwrap_or_else(PoisonError::into_inner).0.woken = false;
    }

    /// Lets the next beat come at once.
    pub(crate) fn wake(&self) {
        self.state().woken = true;
        self.woken.notify_all();
    }

    /// Follows the store from revision `next` on (from a complete reading where that is `None`) until it does not answer
    /// or has been silent; `changed` is called after each change.
    pub(crate) fn follow(&self, next: &mut Option<i64>, changed: &mut dyn FnMut()) {
        if let Err(_said) = self.heard(self.try_follow(next, changed)) {
            std::thread::sleep(PAUSE);
        }
    }

    fn try_follow(&self, next: &mut Option<i64>, changed: &mut dyn FnMut()) -> Result<(), Trouble> {
        let range = layout::range(self.layout.root());
        let from = match *next {
            Some(from) => from,
            None => {
                let found = self.etcd.range(&range)?;
                let mut state = self.state();
                state.model = Model::read(&self.layout, &found.kvs);
                state.is_read = true;
                drop(state);
                changed();
                self.wake();
                *next.insert(found.header.revision + 1)
            }
        };
        let watched = self.etcd.watch(&range, from, SILENCE, |news| self.note(next, &news, changed));
        if let Err(Trouble::Refused(_)) = watched {
            *next = None;
        }
        watched
    }

    /// Notes what has happened. Returns whether the watch can go on.
    fn note(&self, next: &mut Option<i64>, news: &News, changed: &mut dyn FnMut()) -> bool {
        let seen = next.map_or(0, |next| next - 1);
        // The revision is forgotten already, or the store is another one than it was.
        if news.canceled || (news.header.revision != 0 && news.header.revision < seen) {
            *next = None;
            return false;
        }
        let mut state = self.state();
        // It has answered, whatever else does not.
        state.is_silent = false;
        for event in &news.events {
            match event.is_deletion() {
                true => state.model.delete(&self.layout, &event.kv.key),
                false => state.model.put(&self.layout, &event.kv),
            }
        }
        drop(state);
        if let Some(last) = news.events.iter().map(|event| event.kv.mod_revision).max() {
            *next = Some(last + 1);
            changed();
        }
        true
    }

    /// Looks at what is known.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&self.state().model)
    }
}

fn record(network: &Network) -> Result<Vec<u8>> {
    serde_json::to_vec(network).map_err(|source| {
        Error::known(Kind::Internal, format!("write the record of network {}: {source}", network.name))
    })
}

/// Returns the address that `ADDRESS[:PORT]` or `INTERFACE[:PORT]` stands for.
fn advertised(text: &str) -> Result<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address);
    }
    let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
    if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(address);
    }
    let addresses = ::network::host::addresses()?;
    let mut own = addresses.iter().filter(|(link, _)| link == name).map(|(_, net)| net.address());
    let found = own.clone().find(IpAddr::is_ipv4).or_else(|| own.next());
    found.ok_or_else(|| {
        Error::invalid(format!(
            "discovery advertise parsing failed: {name} is neither an address nor an interface with one"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let settings = ClusterSettings {
            store: "etcd://192.0.2.9".to_owned(),
            members: Vec::new(),
            prefix: String::new(),
            advertise: "192.0.2.1:2376".to_owned(),
            authority: None,
            identity: None,
            heartbeat: Duration::from_secs(20),
            ttl: Duration::from_secs(60),
        };
        Cluster::open(settings, "host".to_owned()).unwrap()
    }

    #[test]
    fn a_watch_goes_on_behind_the_last_event_or_begins_anew() {
        let cluster = cluster();
        assert_eq!(cluster.tunnel.to_string(), "192.0.2.1");
        let mut next = Some(8);
        for (news, goes_on, after, changes) in [
            (r#"{"header":{"revision":"7"},"created":true}"#, true, Some(8), 0),
            // More is to come of what has happened up to revision 30.
            (r#"{"header":{"revision":"30"},"events":[{"kv":{"mod_revision":"9"}}]}"#, true, Some(10), 1),
            (r#"{"header":{"revision":"30"},"canceled":true,"compact_revision":"20"}"#, false, None, 0),
        ] {
            let mut told = 0;
            let news = serde_json::from_str(news).unwrap();
            assert_eq!(cluster.note(&mut next, &news, &mut || told += 1), goes_on);
            assert_eq!((next, told), (after, changes));
        }
        // A store whose data are lost counts from the beginning.
        let mut next = Some(8);
        let news = serde_json::from_str(r#"{"header":{"revision":"2"},"created":true}"#).unwrap();
        assert!(!cluster.note(&mut next, &news, &mut || ()));
        assert_eq!(next, None);
    }

    #[test]
    fn what_is_advertised() {
        for (text, expect) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:2376", Some("192.0.2.1")),
            ("[fd00::1]:2376", Some("fd00::1")),
            ("fd00::1", Some("fd00::1")),
            ("nosuch0:2376", None),
        ] {
            assert_eq!(advertised(text).ok().map(|found| found.to_string()).as_deref(), expect, "{text}");
        }
    }
}
