//! Images.

use crate::container::HealthConfig;
use crate::{Empty, StringMap, decode, is_zero};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A pointer to content (`OCIDescriptor`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub annotations: StringMap,
    /// base64.
    #[serde(skip_serializing_if = "is_zero")]
    pub data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(skip_serializing_if = "is_zero")]
    pub artifact_type: String,
}

/// What an image runs on (`OCIPlatform`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "is_zero")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
}

/// One image of `GET /images/json` (`ImageSummary`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    /// −1 if not counted.
    pub containers: i64,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub id: String,
    pub labels: Option<StringMap>,
    pub parent_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// −1 if not computed.
    pub shared_size: i64,
    pub size: i64,
}

/// One manifest of an image index (`ImageManifestSummary`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestSummary {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Descriptor")]
    pub descriptor: Descriptor,
    #[serde(rename = "Available")]
    pub available: bool,
    #[serde(rename = "Size")]
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    #[serde(rename = "Kind")]
    pub kind: String,
    #[serde(rename = "ImageData", skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageData>,
    #[serde(rename = "AttestationData", skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<AttestationData>,
}

/// Bytes of a manifest's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSize {
    pub content: i64,
    pub total: i64,
}

/// What a manifest of kind `image` is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageData {
    pub platform: Platform,
    pub containers: Vec<String>,
    pub size: ImageDataSize,
}

/// Bytes of an unpacked image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageDataSize {
    pub unpacked: i64,
}

/// What a manifest of kind `attestation` is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AttestationData {
    #[serde(rename = "For")]
    pub subject: String,
}

/// `GET /images/{name}/json` (`ImageInspect`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct InspectResponse {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "is_zero")]
    pub created: String,
    pub docker_version: String,
    pub author: String,
    pub config: Option<Config>,
    pub architecture: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub os_version: String,
    pub size: i64,
    pub graph_driver: DriverData,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
}

/// What containers of an image get unless told otherwise (`ImageConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "is_zero")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "decode::words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "decode::words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "is_zero")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub labels: StringMap,
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    #[serde(deserialize_with = "decode::words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// Where a root file system lives (`DriverData`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DriverData {
    pub data: Option<StringMap>,
    pub name: String,
}

/// The layers of an image, by diff ID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What only this engine knows of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Metadata {
    /// RFC 3339; Go's zero time if never tagged here.
    #[serde(skip_serializing_if = "is_zero")]
    pub last_tag_time: String,
}

/// One step of `GET /images/{name}/history` (`ImageHistoryResponseItem`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    pub comment: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub created_by: String,
    /// `<missing>` except for the top step.
    pub id: String,
    pub size: i64,
    pub tags: Option<Vec<String>>,
}

/// One thing that deleting an image did (`ImageDeleteResponseItem`): exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeleteItem {
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub untagged: String,
}

/// `POST /images/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneResponse {
    pub images_deleted: Option<Vec<DeleteItem>>,
    pub space_reclaimed: u64,
}

/// `GET /distribution/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DistributionInspect {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}

/// A manifest at a registry (`GET /distribution/{name}/manifests`, which only Wharf has).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RemoteManifest {
    /// The full reference.
    #[serde(rename = "Ref")]
    pub reference: String,
    pub descriptor: Descriptor,
    /// The document, in base64.
    pub raw: String,
}

/// What a reference names at its registry: one manifest, or those of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RemoteDocument {
    /// Whether it is an index.
    pub index: bool,
    pub manifests: Vec<RemoteManifest>,
}

/// A manifest or index to be put (`POST /distribution/{name}/manifests`, which only Wharf has).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PutManifest {
    pub media_type: String,
    /// The document, in base64.
    pub raw: String,
    /// A repository from which the blobs of a manifest are taken over first; empty for none.
    pub from: String,
}
