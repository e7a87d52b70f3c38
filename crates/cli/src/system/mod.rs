//! Commands about the engine itself.

pub(crate) mod check;
pub(crate) mod df;
pub(crate) mod dial;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod reload;
pub(crate) mod version;
