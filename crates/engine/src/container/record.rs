//! A container as it is stored: the intent, the state, the facts of the present run.
//!
//! This is the on-disk format of the database's `containers` bucket (docs/formats/database.md).

use super::state::State;
use api::container::Config;
use api::host_config::HostConfig;
use api::network::EndpointSettings;
use base::ContainerId;
use oci::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Container {
    /// Identifies it.
    #[serde(with = "hex_id")]
    pub id: ContainerId,
    /// Its name, without the leading slash.
    pub name: String,
    /// When it was created, in nanoseconds since the epoch.
    pub created: i64,
    /// The intent: what was asked, merged with the image's defaults as Docker merges them.
    pub config: Config,
    /// The host-dependent part of the intent, as asked.
    pub host: HostConfig,
    /// The image it was made of.
    pub image: ImageUse,
    /// Where it is in its life.
    pub state: State,
    /// How often the restart policy has started it again.
    pub restart_count: u32,
    /// Whether a user stopped it, so that the policy leaves it alone.
    pub stopped_by_user: bool,
    /// Its networks by name, with the addresses of the present run.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Ports of the present run, as published.
    pub ports: Vec<PublishedPort>,
    /// What is mounted in it besides the root file system.
    pub mounts: Vec<MountPoint>,
    /// The driver of its log and the driver's options, defaults filled in.
    pub log: LogChoice,
    /// Whom it calls how on the default bridge.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Health as last told by the supervisor; `None` without a health check.
    #[serde(default)]
    pub health: Option<Health>,
}

/// An image as a container uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUse {
    /// As the user named it.
    pub reference: String,
    /// The image's identifier (digest of its manifest or index).
    pub id: Digest,
    /// Its layers' diff IDs, bottom first.
    pub layers: Vec<Digest>,
    /// Operating system and architecture, `linux/amd64`.
    pub platform: String,
}

/// A container's place in a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Endpoint {
    /// What was asked.
    pub settings: EndpointSettings,
    /// The network's identifier.
    pub network_id: String,
    /// The endpoint's identifier; empty while the container does not run.
    pub endpoint_id: String,
    /// `172.17.0.2`; empty while the container does not run.
    pub address: String,
    /// Length of the subnet's prefix.
    pub prefix_len: u8,
    /// The gateway's address.
    pub gateway: String,
    /// The IPv6 address, its prefix length and gateway; empty without.
    pub address6: String,
    /// Length of the IPv6 subnet's prefix.
    pub prefix_len6: u8,
    /// The IPv6 gateway.
    pub gateway6: String,
    /// `02:42:…`; empty while the container does not run.
    pub mac: String,
    /// The device on the host's side.
    pub host_device: String,
    /// The device inside.
    pub device: String,
    /// Names it answers to in this network.
    pub dns_names: Vec<String>,
}

/// A port as published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The host's address.
    pub host_ip: String,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
}

/// A link to another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it leads.
    #[serde(with = "hex_id")]
    pub child: ContainerId,
    /// What the linking container calls it.
    pub alias: String,
}

/// What kind of thing is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A file or folder of the host.
    Bind,
    /// A volume.
    Volume,
    /// A memory file system.
    Tmpfs,
    /// The files of an image, read-only.
    Image,
}

/// Something mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// What kind of thing.
    pub kind: MountKind,
    /// The volume's name; empty for others.
    pub name: String,
    /// The host's path; empty for tmpfs.
    pub source: String,
    /// The path inside.
    pub destination: String,
    /// The mode as given (`ro`, `z`).
    pub mode: String,
    /// Whether it can be written.
    pub writable: bool,
    /// `rprivate`, `rslave`, `rshared`, …; empty for volumes.
    pub propagation: String,
    /// Options of a tmpfs; `bind`, `ro` and `idmap=…` of binds and volumes.
    pub options: Vec<String>,
    /// Whether the volume has no name of the user's.
    pub anonymous: bool,
    /// What of a volume or an image is mounted; empty for the whole.
    #[serde(default)]
    pub subpath: String,
    /// The image that is mounted.
    #[serde(default)]
    pub image: Option<ImageUse>,
}

impl Container {
    /// Returns the names of its volumes.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().map(|point| point.name.as_str()).filter(|name| !name.is_empty())
    }

    /// Returns the images whose layers the container needs: the one it was made of, and those mounted in it.
    pub fn images(&self) -> impl Iterator<Item = &ImageUse> {
        std::iter::once(&self.image).chain(self.mounts.iter().filter_map(|point| point.image.as_ref()))
    }
}

/// A log driver and its options, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChoice {
    /// The driver's name.
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// The health of a container (Engine API, *Health*).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failed probes in a row.
    pub failing_streak: u32,
    /// The last five probes.
    pub log: Vec<Probe>,
}

/// One health probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When it began, in nanoseconds since the epoch.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    /// 0 healthy, 1 unhealthy, −1 timed out.
    pub exit_code: i32,
    /// The first 4096 bytes of its output.
    pub output: String,
}

pub(super) mod hex_id {
    use base::ContainerId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::container) fn serialize<S: Serializer>(
        id: &ContainerId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(in crate::container) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ContainerId, D::Error> {
        ContainerId::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
