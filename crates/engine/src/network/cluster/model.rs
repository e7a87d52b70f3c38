//! What is known of a cluster, and what this host has to say to it. Pure.

use super::etcd::Entry;
use super::layout::{Endpoint, Key, Layout};
use crate::network::record::Network;
use std::collections::BTreeMap;

/// Containers' places by network and container.
pub(crate) type Places = BTreeMap<String, BTreeMap<String, Endpoint>>;

/// What the store has.
#[derive(Debug, Default)]
pub(crate) struct Model {
    networks: BTreeMap<String, Network>,
    endpoints: BTreeMap<(String, String), Known>,
}

#[derive(Debug)]
struct Known {
    endpoint: Endpoint,
    revision: i64,
    lease: i64,
}

/// Something to be said to the store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A network on which containers are is missing.
    Restore(String),
    /// A container's place is to be written.
    Publish(String, String, Endpoint),
    /// A container's place, as written at a revision, is to go.
    Withdraw(String, String, Endpoint, i64),
}

impl Model {
    /// Returns what a complete reading found.
    pub(super) fn read(layout: &Layout, entries: &[Entry]) -> Self {
        let mut model = Self::default();
        for entry in entries {
            model.put(layout, entry);
        }
        model
    }

    /// Notes a key that was written. What cannot be read is as if it were not there.
    pub(super) fn put(&mut self, layout: &Layout, entry: &Entry) {
        self.delete(layout, &entry.key);
        match layout.parse(&entry.key) {
            Some(Key::Network(id)) => {
                let network = serde_json::from_slice::<Network>(&entry.value).ok();
                if let Some(network) = network.filter(|network| network.id == id) {
                    self.networks.insert(id, network);
                }
            }
            Some(Key::Endpoint(network, container)) => {
                if let Ok(endpoint) = serde_json::from_slice(&entry.value) {
                    let known = Known { endpoint, revision: entry.mod_revision, lease: entry.lease };
                    self.endpoints.insert((network, container), known);
                }
            }
            None => {}
        }
    }

    /// Notes a key that is gone.
    pub(super) fn delete(&mut self, layout: &Layout, key: &str) {
        match layout.parse(key) {
            Some(Key::Network(id)) => {
                self.networks.remove(&id);
            }
            Some(Key::Endpoint(network, container)) => {
                self.endpoints.remove(&(network, container));
            }
            None => {}
        }
    }

    /// Returns the networks, by identifier.
    pub(crate) fn networks(&self) -> &BTreeMap<String, Network> {
        &self.networks
    }

    /// Returns the places of the containers of all hosts but `host`.
    pub(crate) fn others(&self, host: &str) -> Places {
        let mut places = Places::new();
        for ((network, container), known) in &self.endpoints {
            if known.endpoint.host != host {
                let network = places.entry(network.clone()).or_default();
                network.insert(container.clone(), known.endpoint.clone());
            }
        }
        places
    }

    /// Returns what makes the store have `own` as the places of `host`, under `lease`.
    pub(super) fn steps(&self, host: &str, lease: i64, own: &Places) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for ((network, container), known) in &self.endpoints {
            let wanted = own.get(network).is_some_and(|places| places.contains_key(container));
            if known.endpoint.host == host && !wanted {
                let (network, container) = (network.clone(), container.clone());
                steps.push(Step::Withdraw(network, container, known.endpoint.clone(), known.revision));
            }
        }
        for (network, places) in own.iter().filter(|(_, places)| !places.is_empty()) {
            if !self.networks.contains_key(network) {
                steps.push(Step::Restore(network.clone()));
            }
            for (container, endpoint) in places {
                let known = self.endpoints.get(&(network.clone(), container.clone()));
                if !known.is_some_and(|known| known.endpoint == *endpoint && known.lease == lease) {
                    steps.push(Step::Publish(network.clone(), container.clone(), endpoint.clone()));
                }
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, address: &str) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            tunnel: "192.0.2.1".parse().unwrap(),
            name: "web".to_owned(),
            names: vec!["web".to_owned()],
            id: "e".to_owned(),
            mac: "02:42:0a:00:00:02".to_owned(),
            addresses: vec![address.to_owned()],
        }
    }

    fn entry(key: &str, endpoint: &Endpoint, lease: i64) -> Entry {
        let value = serde_json::to_vec(endpoint).unwrap();
        Entry { key: key.to_owned(), value, mod_revision: 5, lease }
    }

    fn own(places: &[(&str, &Endpoint)]) -> Places {
        let places = places.iter().map(|(id, endpoint)| ((*id).to_owned(), (*endpoint).clone())).collect();
        [("n".to_owned(), places)].into()
    }

    #[test]
    fn the_store_gets_what_differs() {
        let layout = Layout::new("");
        let (a, b) = (endpoint("h", "10.0.0.2/24"), endpoint("other", "10.0.0.3/24"));
        let entries = [entry("wharf/endpoints/n/a", &a, 1), entry("wharf/endpoints/n/b", &b, 2)];
        let model = Model::read(&layout, &entries);
        let publish = || Step::Publish("n".to_owned(), "a".to_owned(), a.clone());
        let restore = || Step::Restore("n".to_owned());
        assert_eq!(model.steps("h", 1, &own(&[("a", &a)])), [restore()]);
        // A new lease: all is written anew.
        assert_eq!(model.steps("h", 9, &own(&[("a", &a)])), [restore(), publish()]);
        let gone = Step::Withdraw("n".to_owned(), "a".to_owned(), a.clone(), 5);
        assert_eq!(model.steps("h", 1, &own(&[])), [gone]);
        assert_eq!(model.steps("third", 1, &own(&[])), []);
        assert_eq!(model.others("h")["n"].keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        let layout = Layout::new("");
        let a = endpoint("h", "10.0.0.2/24");
        let mut model = Model::read(&layout, &[entry("wharf/endpoints/n/a", &a, 1)]);
        let rubbish =
            Entry { key: "wharf/endpoints/n/a".to_owned(), value: b"{".to_vec(), ..Entry::default() };
        model.put(&layout, &rubbish);
        assert!(model.others("").is_empty());
        model.put(&layout, &Entry { key: "wharf/networks/n".to_owned(), ..rubbish });
        assert!(model.networks().is_empty());
    }
}
