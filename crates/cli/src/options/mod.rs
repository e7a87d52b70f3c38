//! From what was typed for `create` and `run` to the documents that say it.
//!
//! `flags` is the table; every other module is pure and turns the texts of some flags into a part of an
//! [`api::container::CreateRequest`], with Docker's wording of what is wrong.

pub(crate) mod container;
pub(crate) mod devices;
pub(crate) mod environment;
pub(crate) mod flags;
pub(crate) mod limits;
pub(crate) mod mounts;
pub(crate) mod networks;
pub(crate) mod ports;
pub(crate) mod security;
