//! Registry credentials and what the daemon says of registries.

use crate::is_zero;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Credentials, as in `X-Registry-Auth` (base64url of this document) and `POST /auth` (`AuthConfig`).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "is_zero")]
    pub username: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub password: String,
    /// base64 of `username:password`.
    #[serde(skip_serializing_if = "is_zero")]
    pub auth: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub email: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub serveraddress: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub identitytoken: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub registrytoken: String,
}

/// Secrets stay out of logs.
impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// The answer of `POST /auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    pub status: String,
}

/// What `GET /info` says of registries (`RegistryServiceConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceConfig {
    #[serde(rename = "AllowNondistributableArtifactsCIDRs")]
    pub allow_nondistributable_artifacts_cidrs: Option<Vec<String>>,
    #[serde(rename = "AllowNondistributableArtifactsHostnames")]
    pub allow_nondistributable_artifacts_hostnames: Option<Vec<String>>,
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Option<Vec<String>>,
    #[serde(rename = "IndexConfigs")]
    pub index_configs: Option<BTreeMap<String, IndexInfo>>,
    #[serde(rename = "Mirrors")]
    pub mirrors: Option<Vec<String>>,
}

/// One registry (`IndexInfo`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IndexInfo {
    pub name: String,
    pub mirrors: Option<Vec<String>>,
    pub secure: bool,
    pub official: bool,
}

/// One result of `GET /images/search`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}
