//! The `filters` query parameter: which values each key may have.
//!
//! Two encodings exist: `{"key": {"value": true}}` (since API 1.22) and `{"key": ["value"]}` (before, and still in
//! use). Several values of one key are alternatives, except where an endpoint says otherwise; keys add up.

use crate::StringMap;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Why a filter was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFilter {
    /// The parameter is no filter document.
    #[error("invalid filter")]
    Syntax,
    /// The endpoint knows no such key.
    #[error("invalid filter '{0}'")]
    Key(String),
    /// The key does not take this value.
    #[error("invalid filter '{key}=[{values}]'")]
    Value { key: String, values: String },
}

/// Keys and the values asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Parses the query parameter; the empty text is no filter at all.
    ///
    /// # Errors
    /// [`InvalidFilter::Syntax`] if it is neither encoding.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Ok(Value::Object(keys)) = serde_json::from_str::<Value>(text) else {
            return Err(InvalidFilter::Syntax);
        };
        let mut filters = Self::default();
        for (key, values) in keys {
            let set = filters.0.entry(key).or_default();
            match values {
                Value::Object(values) => set.extend(values.into_iter().map(|(value, _)| value)),
                Value::Array(values) => {
                    for value in values {
                        let Value::String(value) = value else { return Err(InvalidFilter::Syntax) };
                        set.insert(value);
                    }
                }
                Value::Null => {}
                Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(InvalidFilter::Syntax),
            }
        }
        Ok(filters)
    }

    /// Returns the parameter in the present encoding; the empty text if there is no filter.
    pub fn encode(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let keys = self.0.iter().map(|(key, values)| {
            let values = values.iter().map(|value| (value.clone(), Value::Bool(true))).collect();
            (key.clone(), Value::Object(values))
        });
        Value::Object(keys.collect()).to_string()
    }

    /// Adds one value to a key.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().insert(value.into());
    }

    /// Takes a key with all its values away.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Says whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says whether the key is there, with or without values.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Returns the values of a key, in order; none if the key is absent.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> + '_ {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Returns the keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> + '_ {
        self.0.keys().map(String::as_str)
    }

    /// Refuses keys that the endpoint does not know.
    ///
    /// # Errors
    /// [`InvalidFilter::Key`] for the first unknown key.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), InvalidFilter> {
        match self.keys().find(|key| !accepted.contains(key)) {
            Some(key) => Err(InvalidFilter::Key(key.to_owned())),
            None => Ok(()),
        }
    }

    /// Returns the truth value of a key, `None` if it is absent.
    ///
    /// # Errors
    /// [`InvalidFilter::Value`] unless it has one value of `1`, `true`, `0` or `false`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, InvalidFilter> {
        let Some(values) = self.0.get(key) else { return Ok(None) };
        let is = |words: &[&str]| words.iter().any(|word| values.contains(*word));
        match (is(&["1", "true"]), is(&["0", "false"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            (true, true) | (false, false) => {
                let values = values.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
                Err(InvalidFilter::Value { key: key.to_owned(), values })
            }
        }
    }

    /// Says whether the key is absent, or has exactly this value among its own.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.contains(value))
    }

    /// Says whether the key is absent, or one of its values begins `value`.
    pub fn prefix(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_none_or(|values| {
            values.is_empty() || values.iter().any(|wanted| value.starts_with(wanted.as_str()))
        })
    }

    /// Says whether the key is absent, or one of its values occurs in `value`.
    pub fn substring(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_none_or(|values| {
            values.is_empty() || values.iter().any(|wanted| value.contains(wanted.as_str()))
        })
    }

    /// Says whether *all* wanted `name` or `name=value` pairs of the key are in `labels`.
    pub fn labels(&self, key: &str, labels: &StringMap) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_are_read() {
        let new = Filters::parse(r#"{"label":{"a":true,"b=c":true},"name":{"x":true}}"#).unwrap();
        let old = Filters::parse(r#"{"label":["b=c","a"],"name":["x"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(new.get("label").collect::<Vec<_>>(), ["a", "b=c"]);
        assert_eq!(Filters::parse(&new.encode()), Ok(new));
        assert_eq!(Filters::parse(""), Ok(Filters::default()));
        for bad in ["x", "[]", r#"{"a":1}"#, r#"{"a":[1]}"#] {
            assert_eq!(Filters::parse(bad), Err(InvalidFilter::Syntax), "{bad}");
        }
    }

    #[test]
    fn refusals_are_worded_as_dockers() {
        let filters = Filters::parse(r#"{"dangling":["perhaps"]}"#).unwrap();
        assert_eq!(
            filters.boolean("dangling").unwrap_err().to_string(),
            "invalid filter 'dangling=[perhaps]'"
        );
        assert_eq!(filters.validate(&["label"]).unwrap_err().to_string(), "invalid filter 'dangling'");
        assert_eq!(filters.validate(&["dangling"]), Ok(()));
    }

    #[test]
    fn labels_must_all_be_there() {
        let labels = StringMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        let check = |wanted: &str, expect| {
            assert_eq!(Filters::parse(wanted).unwrap().labels("label", &labels), expect, "{wanted}");
        };
        check(r#"{"label":["a"]}"#, true);
        check(r#"{"label":["a=1","b"]}"#, true);
        check(r#"{"label":["a=2"]}"#, false);
        check(r#"{"label":["c"]}"#, false);
        check(r#"{"name":["c"]}"#, true);
    }
}
