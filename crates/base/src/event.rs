//! Events as the Engine API shows them (`GET /events`, `EventMessage`).

use crate::Timestamp;
use std::collections::BTreeMap;

/// The kind of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// A build.
    Builder,
    /// A container or one of its execs.
    Container,
    /// The daemon itself.
    Daemon,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Type {
    /// Returns the word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builder => "builder",
            Self::Container => "container",
            Self::Daemon => "daemon",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What kind of object it happened to.
    pub object: Type,
    /// What happened, in Docker's words (`create`, `die`, `exec_start: sh`).
    pub action: String,
    /// The object's identifier or name, as the API's `Actor.ID`.
    pub actor: String,
    /// The API's `Actor.Attributes`.
    pub attributes: BTreeMap<String, String>,
    /// When it happened.
    pub time: Timestamp,
}
