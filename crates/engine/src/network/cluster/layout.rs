//! What is where in a cluster's store, and what transactions ask. Pure.
//!
//! Below a root of the user's choice:
//!
//! ```text
//! generation                    changes with every creation and removal of a network
//! networks/NETWORK              the network's record
//! addresses/NETWORK/ADDRESS     the host that gave it out
//! endpoints/NETWORK/CONTAINER   a container's place (`Endpoint`), kept by its host's lease, as are its addresses
//! ```
//!
//! Documents are those of etcd's v3 gateway: keys and values in base64, numbers as texts.

use ::network::IpNet;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A container's place in a network, as the other hosts know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// The identifier of the host's engine.
    pub(crate) host: String,
    /// The host's address, to which tunnels lead.
    pub(crate) tunnel: IpAddr,
    /// The container's name.
    pub(crate) name: String,
    /// All that it is called, its name included.
    pub(crate) names: Vec<String>,
    /// The endpoint's identifier.
    pub(crate) id: String,
    /// The hardware address.
    pub(crate) mac: String,
    /// The addresses with their prefix lengths.
    pub(crate) addresses: Vec<String>,
}

impl Endpoint {
    /// Returns the addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter_map(|text| text.parse().ok()).map(IpNet::address)
    }
}

/// A key, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Network(String),
    Endpoint(String, String),
}

/// The names of keys.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Ends with a slash.
    root: String,
}

impl Layout {
    /// Returns the names below a prefix of the user's, which may be empty.
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        Self { root: if prefix.is_empty() { "wharf/".to_owned() } else { format!("{prefix}/wharf/") } }
    }

    pub(super) fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn networks(&self) -> String {
        format!("{}networks/", self.root)
    }

    fn generation(&self) -> String {
        format!("{}generation", self.root)
    }

    fn network(&self, id: &str) -> String {
        format!("{}networks/{id}", self.root)
    }

    fn addresses(&self, id: &str) -> String {
        format!("{}addresses/{id}/", self.root)
    }

    fn endpoints(&self, id: &str) -> String {
        format!("{}endpoints/{id}/", self.root)
    }

    /// Takes a key apart; `None` for those that tell nothing by themselves.
    pub(super) fn parse(&self, key: &str) -> Option<Key> {
        let mut parts = key.strip_prefix(&self.root)?.split('/');
        match (parts.next()?, parts.next()?, parts.next(), parts.next()) {
            ("networks", id, None, None) => Some(Key::Network(id.to_owned())),
            ("endpoints", id, Some(container), None) => {
                Some(Key::Endpoint(id.to_owned(), container.to_owned()))
            }
            _ => None,
        }
    }

    /// Reads the networks, and in the same instant what counts their changes.
    pub(super) fn read_networks(&self) -> Value {
        json!({"success": [read(&self.generation(), false), read(&self.networks(), true)]})
    }

    /// Writes a network if no network has come or gone since `generation`.
    pub(super) fn create(&self, id: &str, record: &[u8], generation: i64) -> Value {
        json!({
            "compare": [compare(&self.generation(), "MOD", json!({"mod_revision": generation.to_string()}))],
            "success": [put(&self.network(id), record, 0), put(&self.generation(), id.as_bytes(), 0)],
        })
    }

    /// Writes a network unless it is there.
    pub(super) fn restore(&self, id: &str, record: &[u8]) -> Value {
        json!({
            "compare": [absent(&self.network(id))],
            "success": [put(&self.network(id), record, 0), put(&self.generation(), id.as_bytes(), 0)],
        })
    }

    /// Removes a network that nobody is on; else says who is.
    pub(super) fn remove(&self, id: &str) -> Value {
        let mut nobody = absent(&self.endpoints(id));
        if let Some(fields) = nobody.as_object_mut() {
            fields.insert("range_end".to_owned(), text(&end(&self.endpoints(id))));
        }
        json!({
            "compare": [nobody],
            "success": [
                delete(&self.network(id), false),
                delete(&self.addresses(id), true),
                put(&self.generation(), id.as_bytes(), 0),
            ],
            "failure": [read(&self.endpoints(id), true)],
        })
    }

    /// Writes a container's place if there is such a network and nobody has the addresses, but for this host where
    /// `held` says so. Else reads network and addresses.
    pub(super) fn claim(
        &self,
        id: &str,
        container: &str,
        endpoint: &Endpoint,
        lease: i64,
        held: bool,
    ) -> Value {
        let addresses: Vec<String> =
            endpoint.addresses().map(|address| format!("{}{address}", self.addresses(id))).collect();
        let mut exists = absent(&self.network(id));
        if let Some(fields) = exists.as_object_mut() {
            fields.insert("result".to_owned(), "GREATER".into());
        }
        let mut compares = vec![exists];
        compares.extend(addresses.iter().map(|key| match held {
            true => compare(key, "VALUE", json!({"value": text(&endpoint.host)})),
            false => absent(key),
        }));
        let value = serde_json::to_vec(endpoint).unwrap_or_default();
        let place = put(&format!("{}{container}", self.endpoints(id)), &value, lease);
        let puts = addresses.iter().map(|key| put(key, endpoint.host.as_bytes(), lease));
        let reads = addresses.iter().map(|key| read(key, false));
        let reads: Vec<Value> = [read(&self.network(id), false)].into_iter().chain(reads).collect();
        let puts: Vec<Value> = puts.chain([place]).collect();
        json!({
            "compare": compares,
            "success": puts,
            "failure": reads,
        })
    }

    /// Removes a container's place as it was written at `revision`.
    pub(super) fn withdraw(&self, id: &str, container: &str, endpoint: &Endpoint, revision: i64) -> Value {
        let key = format!("{}{container}", self.endpoints(id));
        let addresses =
            endpoint.addresses().map(|address| delete(&format!("{}{address}", self.addresses(id)), false));
        let deletes: Vec<Value> = addresses.chain([delete(&key, false)]).collect();
        json!({
            "compare": [compare(&key, "MOD", json!({"mod_revision": revision.to_string()}))],
            "success": deletes,
        })
    }
}

/// Returns the question for all keys that begin with `prefix`.
pub(super) fn range(prefix: &str) -> Value {
    json!({"key": text(prefix), "range_end": text(&end(prefix))})
}

/// The first key behind those that begin with `prefix`, which ends with a slash.
fn end(prefix: &str) -> String {
    // `0` follows `/`.
    format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix))
}

fn text(text: &str) -> Value {
    STANDARD.encode(text).into()
}

fn compare(key: &str, target: &str, to: Value) -> Value {
    let mut compare = json!({"key": text(key), "target": target, "result": "EQUAL"});
    if let (Some(fields), Value::Object(to)) = (compare.as_object_mut(), to) {
        fields.extend(to);
    }
    compare
}

fn absent(key: &str) -> Value {
    compare(key, "CREATE", json!({"create_revision": "0"}))
}

fn put(key: &str, value: &[u8], lease: i64) -> Value {
    json!({"request_put": {"key": text(key), "value": STANDARD.encode(value), "lease": lease.to_string()}})
}

fn delete(key: &str, all_below: bool) -> Value {
    json!({"request_delete_range": if all_below { range(key) } else { json!({"key": text(key)}) }})
}

fn read(key: &str, all_below: bool) -> Value {
    json!({"request_range": if all_below { range(key) } else { json!({"key": text(key)}) }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart() {
        let layout = Layout::new("/site/");
        assert_eq!(layout.root(), "site/wharf/");
        for (key, expect) in [
            ("site/wharf/networks/a", Some(Key::Network("a".to_owned()))),
            ("site/wharf/endpoints/a/b", Some(Key::Endpoint("a".to_owned(), "b".to_owned()))),
            ("site/wharf/endpoints/a/b/c", None),
            ("site/wharf/addresses/a/10.0.0.1", None),
            ("site/wharf/generation", None),
            ("other/networks/a", None),
        ] {
            assert_eq!(layout.parse(key), expect, "{key}");
        }
        assert_eq!(end("a/"), "a0");
    }

    #[test]
    fn addresses_are_taken_once() {
        let endpoint = Endpoint {
            host: "h".to_owned(),
            tunnel: "192.0.2.1".parse().unwrap(),
            name: "c".to_owned(),
            names: Vec::new(),
            id: "e".to_owned(),
            mac: "02:42:0a:00:00:02".to_owned(),
            addresses: vec!["10.0.0.2/24".to_owned(), "fd00::2/64".to_owned()],
        };
        let claim = Layout::new("").claim("n", "c", &endpoint, 7, false);
        let keys: Vec<&str> =
            claim["compare"].as_array().unwrap().iter().map(|c| c["key"].as_str().unwrap()).collect();
        let expect = ["wharf/networks/n", "wharf/addresses/n/10.0.0.2", "wharf/addresses/n/fd00::2"];
        assert_eq!(keys, expect.map(|key| STANDARD.encode(key)));
        assert_eq!(claim["compare"][0]["result"], "GREATER");
        assert_eq!(claim["compare"][1]["create_revision"], "0");
        assert_eq!(claim["success"].as_array().unwrap().len(), 3);
        assert_eq!(claim["success"][0]["request_put"]["lease"], "7");
        let again = Layout::new("").claim("n", "c", &endpoint, 7, true);
        assert_eq!(again["compare"][1]["value"], STANDARD.encode("h"));
    }
}
