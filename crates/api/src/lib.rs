//! The Engine API's documents, as Docker's API 1.51 has them: requests, answers, events, stream frames, filters.
//!
//! What lives here is the *shape* of what travels, not what it does. Field names and order are Docker's. A slice or
//! map that Go prints as `null` when it is nil is an `Option` here (`None` = `null`); one that Go leaves out when it
//! is empty (`omitempty`) is a plain collection that is skipped when empty.
//!
//! Requests are lenient: an absent field and a `null` one mean the default, an unknown one is ignored. Absent and
//! unknown fields work with plain serde; read foreign documents with [`decode()`], which also takes the nulls.
#![expect(missing_docs, reason = "the fields mirror Docker's documents; each type says which one")]
#![expect(clippy::struct_excessive_bools, reason = "Docker's documents have many flags")]

pub mod checkpoint;
pub mod container;
pub mod decode;
pub mod error;
pub mod events;
pub mod exec;
pub mod filters;
pub mod host_config;
pub mod image;
pub mod inspect;
mod mismatch;
pub mod network;
pub mod progress;
pub mod registry;
pub mod stats;
pub mod stream;
pub mod system;
pub mod version;
pub mod volume;

pub use decode::{decode, decode_value};
pub use error::ErrorResponse;
pub use filters::Filters;
pub use mismatch::{Mismatch, decode_request};
pub use version::ApiVersion;

use std::collections::BTreeMap;

/// `map[string]string`, keys sorted as Go prints them.
pub type StringMap = BTreeMap<String, String>;

/// Go's `struct{}`, the value of a set's key: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Empty {}

/// The answer of creating something: its identifier.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct IdResponse {
    #[serde(rename = "Id")]
    pub id: String,
}

/// Says whether a value is its type's zero, which Go's `omitempty` leaves out.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
