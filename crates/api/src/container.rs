//! What a container runs, and the requests and answers about containers other than inspection and statistics.

use crate::host_config::{HostConfig, PortMap, Resources, RestartPolicy};
use crate::image::Descriptor;
use crate::inspect::MountPoint;
use crate::network::{EndpointSettings, NetworkingConfig};
use crate::{Empty, StringMap, decode, is_zero};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The portable half of a container's intent: what runs (`ContainerConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// Keys as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "decode::words")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
    #[serde(deserialize_with = "decode::words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    /// Of API versions before 1.44; later the endpoint has it.
    #[serde(skip_serializing_if = "is_zero")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<StringMap>,
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    /// Seconds; −1 waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(deserialize_with = "decode::words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// How a container's health is probed (`HealthConfig`); times in nanoseconds, 0 means inherit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// Empty inherits, `["NONE"]` disables, else `["CMD", …]` or `["CMD-SHELL", "…"]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// What is done with a container that has become unhealthy: `none`, `kill`, `restart` or `stop` (not Docker's).
    #[serde(skip_serializing_if = "is_zero")]
    pub on_failure: String,
}

/// `POST /containers/create`: a [`Config`] with two more fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateRequest {
    #[serde(flatten)]
    pub config: Config,
    #[serde(rename = "HostConfig")]
    pub host_config: HostConfig,
    #[serde(rename = "NetworkingConfig")]
    pub networking_config: NetworkingConfig,
}

/// The answer of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    pub id: String,
    /// `[]`, never `null`.
    pub warnings: Vec<String>,
}

/// One container of `GET /containers/json` (`ContainerSummary`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    pub id: String,
    /// With leading `/`.
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    pub command: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub ports: Vec<Port>,
    #[serde(skip_serializing_if = "is_zero")]
    pub size_rw: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub size_root_fs: i64,
    pub labels: StringMap,
    pub state: String,
    pub status: String,
    pub host_config: SummaryHostConfig,
    pub network_settings: Option<SummaryNetworkSettings>,
    pub mounts: Vec<MountPoint>,
}

/// The part of a host configuration that lists show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    #[serde(skip_serializing_if = "is_zero")]
    pub network_mode: String,
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub annotations: StringMap,
}

/// The networks of a container in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryNetworkSettings {
    pub networks: Option<BTreeMap<String, EndpointSettings>>,
}

/// One exposed or published port in a list (`Port`).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    #[serde(rename = "IP", skip_serializing_if = "is_zero")]
    pub ip: String,
    #[serde(rename = "PrivatePort")]
    pub private_port: u16,
    #[serde(rename = "PublicPort", skip_serializing_if = "is_zero")]
    pub public_port: u16,
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// `GET /containers/{id}/top`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TopResponse {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

/// One entry of `GET /containers/{id}/changes` (`FilesystemChange`); 0 modified, 1 added, 2 deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Change {
    pub kind: u8,
    pub path: String,
}

/// `POST /containers/{id}/update`: resources that change, and a restart policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateRequest {
    #[serde(flatten)]
    pub resources: Resources,
    #[serde(rename = "RestartPolicy")]
    pub restart_policy: RestartPolicy,
    /// Ports to publish besides those that are; ours, not Docker's.
    #[serde(rename = "PublishAdd", skip_serializing_if = "Option::is_none")]
    pub publish_add: Option<PortMap>,
    /// Ports to publish no longer: by container port, and by host address and port where they are given.
    #[serde(rename = "PublishRm", skip_serializing_if = "Option::is_none")]
    pub publish_rm: Option<PortMap>,
}

/// The answer of `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateResponse {
    pub warnings: Option<Vec<String>>,
}

/// The answer of `POST /containers/{id}/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    pub status_code: i64,
}

/// Why waiting failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitError {
    #[serde(skip_serializing_if = "is_zero")]
    pub message: String,
}

/// `POST /containers/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneResponse {
    pub containers_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

/// `X-Docker-Container-Path-Stat` of the archive endpoints, base64 of this document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `os.FileMode`: directory is bit 31, symbolic link bit 27.
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

impl PathStat {
    /// Go's `os.ModeDir`.
    pub const DIRECTORY: u32 = 1 << 31;
    /// Go's `os.ModeSymlink`.
    pub const SYMLINK: u32 = 1 << 27;
    /// Go's `os.ModeDevice`.
    pub const DEVICE: u32 = 1 << 26;
    /// Go's `os.ModeNamedPipe`.
    pub const NAMED_PIPE: u32 = 1 << 25;
    /// Go's `os.ModeSocket`.
    pub const SOCKET: u32 = 1 << 24;
    /// Go's `os.ModeSetuid`.
    pub const SETUID: u32 = 1 << 23;
    /// Go's `os.ModeSetgid`.
    pub const SETGID: u32 = 1 << 22;
    /// Go's `os.ModeCharDevice`.
    pub const CHARACTER_DEVICE: u32 = 1 << 21;
    /// Go's `os.ModeSticky`.
    pub const STICKY: u32 = 1 << 20;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lenient() {
        let request: CreateRequest = decode(
            br#"{"Image":"alpine","Cmd":"ls","Env":null,"HostConfig":{"Binds":null,"NetworkMode":null,
                "RestartPolicy":{},"Memory":6291456,"New":[1]},"NetworkingConfig":null,"Unknown":1,"User":null}"#,
        )
        .unwrap();
        assert_eq!(request.config.cmd, Some(vec!["ls".to_owned()]));
        assert_eq!(request.host_config.resources.memory, 6_291_456);
        assert_eq!(request.networking_config, NetworkingConfig::default());
        assert_eq!(decode::<CreateRequest>(b"{}").unwrap(), CreateRequest::default());
    }

    #[test]
    fn answers_have_gos_zero_values() {
        let text = serde_json::to_string(&Config::default()).unwrap();
        assert_eq!(
            text,
            r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#
        );
        let full = serde_json::to_vec(&CreateRequest::default()).unwrap();
        assert_eq!(serde_json::from_slice::<CreateRequest>(&full).unwrap(), CreateRequest::default());
    }
}
