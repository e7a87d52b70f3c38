//! Speaking to etcd by its JSON gateway (etcd 3.4, `/v3/…`).

use crate::http::{self, Address};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::time::Duration;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no answer.
    Silent(String),
    /// It refused.
    Refused(String),
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Header {
    #[serde(default, deserialize_with = "number")]
    pub(super) revision: i64,
}

/// A key with its value.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Entry {
    #[serde(default, deserialize_with = "text")]
    pub(super) key: String,
    #[serde(default, deserialize_with = "bytes")]
    pub(super) value: Vec<u8>,
    #[serde(default, deserialize_with = "number")]
    pub(super) mod_revision: i64,
    #[serde(default, deserialize_with = "number")]
    pub(super) lease: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) header: Header,
    pub(super) kvs: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Done {
    pub(super) succeeded: bool,
    responses: Vec<Step>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    response_range: Option<Range>,
}

impl Done {
    /// Returns what each reading step found.
    pub(super) fn ranges(self) -> impl Iterator<Item = Vec<Entry>> {
        self.responses.into_iter().filter_map(|step| step.response_range).map(|range| range.kvs)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lease {
    #[serde(rename = "ID", deserialize_with = "number")]
    id: i64,
    #[serde(rename = "TTL", deserialize_with = "number")]
    ttl: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Streamed<T> {
    result: Option<T>,
}

/// What has happened.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct News {
    pub(super) header: Header,
    pub(super) canceled: bool,
    pub(super) events: Vec<Event>,
}

/// A key that was written or deleted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    kind: String,
    pub(super) kv: Entry,
}

impl Event {
    pub(super) fn is_deletion(&self) -> bool {
        self.kind == "DELETE"
    }
}

/// The members of an etcd cluster.
#[derive(Debug)]
pub(super) struct Etcd(pub(super) Vec<Address>);

impl Etcd {
    /// Reads a range.
    pub(super) fn range(&self, question: &Value) -> Result<Range, Trouble> {
        self.ask("/v3/kv/range", question)
    }

    /// Carries out a transaction.
    pub(super) fn transact(&self, transaction: &Value) -> Result<Done, Trouble> {
        self.ask("/v3/kv/txn", transaction)
    }

    /// Makes a lease.
    pub(super) fn grant(&self, ttl: Duration) -> Result<i64, Trouble> {
        let lease: Lease = self.ask("/v3/lease/grant", &json!({"TTL": ttl.as_secs().to_string()}))?;
        Ok(lease.id)
    }

    /// Renews a lease. Returns whether there was one.
    pub(super) fn renew(&self, lease: i64) -> Result<bool, Trouble> {
        let question = json!({"ID": lease.to_string()});
        let answer: Streamed<Lease> = self.ask("/v3/lease/keepalive", &question)?;
        Ok(answer.result.is_some_and(|lease| lease.ttl > 0))
    }

    /// Tells what happens to a range from `revision` on, until `news` says no or nothing happens for `patience`.
    pub(super) fn watch(
        &self,
        range: &Value,
        revision: i64,
        patience: Duration,
        mut news: impl FnMut(News) -> bool,
    ) -> Result<(), Trouble> {
        let mut question = range.clone();
        if let Some(fields) = question.as_object_mut() {
            fields.insert("start_revision".to_owned(), revision.to_string().into());
        }
        let question = json!({"create_request": question}).to_string();
        self.first(|address| {
            let mut odd = None;
            http::lines(address, "/v3/watch", question.clone(), patience, |line| {
                let read = serde_json::from_slice::<Streamed<News>>(line);
                match read.map(|streamed| streamed.result) {
                    Ok(Some(result)) => news(result),
                    _ => {
                        odd = Some(String::from_utf8_lossy(line).trim().to_owned());
                        false
                    }
                }
            })
            .map_err(Trouble::Silent)?;
            odd.map_or(Ok(()), |odd| Err(Trouble::Refused(odd)))
        })
    }

    fn ask<T: DeserializeOwned>(&self, path: &str, question: &Value) -> Result<T, Trouble> {
        let question = question.to_string();
        self.first(|address| {
            let answer = http::post(address, path, "application/json", question.clone(), PATIENCE);
            let answer = answer.map_err(Trouble::Silent)?;
            if answer.status != 200 {
                let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let words = document.get("error").and_then(Value::as_str).unwrap_or("no reason given");
                let words = format!("{words} (status {})", answer.status);
                // A member without a leader is as good as none.
                return Err(if answer.status >= 500 {
                    Trouble::Silent(words)
                } else {
                    Trouble::Refused(words)
                });
            }
            serde_json::from_slice(&answer.body).map_err(|error| Trouble::Refused(error.to_string()))
        })
    }

    /// Asks the members one after the other until one answers.
    fn first<T>(&self, mut ask: impl FnMut(&Address) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut last = Trouble::Silent("no address of a member is known".to_owned());
        for address in &self.0 {
            match ask(address) {
                Err(trouble @ Trouble::Silent(_)) => last = trouble,
                other => return other,
            }
        }
        Err(last)
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(String::from_utf8_lossy(&bytes(deserializer)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_gateway() {
        let done = r#"{"header":{"cluster_id":"1","revision":"9"},"succeeded":true,"responses":[{"response_range":{"header":{"revision":"9"}}},{"response_range":{"header":{"revision":"9"},"kvs":[{"key":"YS9i","create_revision":"3","mod_revision":"8","version":"2","value":"Yw==","lease":"77"}],"count":"1"}}]}"#;
        let done: Done = serde_json::from_str(done).unwrap();
        assert!(done.succeeded);
        let ranges: Vec<Vec<Entry>> = done.ranges().collect();
        assert!(ranges[0].is_empty());
        let entry = &ranges[1][0];
        assert_eq!((entry.key.as_str(), entry.value.as_slice()), ("a/b", &b"c"[..]));
        assert_eq!((entry.mod_revision, entry.lease), (8, 77));
        let news = r#"{"result":{"header":{"revision":"10"},"events":[{"kv":{"key":"YQ==","value":"Yg=="}},{"type":"DELETE","kv":{"key":"YQ=="}}]}}"#;
        let news = serde_json::from_str::<Streamed<News>>(news).unwrap().result.unwrap();
        assert_eq!(news.events.iter().map(Event::is_deletion).collect::<Vec<_>>(), [false, true]);
        let gone = r#"{"result":{"header":{},"ID":"7"}}"#;
        assert_eq!(serde_json::from_str::<Streamed<Lease>>(gone).unwrap().result.unwrap().ttl, 0);
    }
}
