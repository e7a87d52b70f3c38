//! Checkpoints of containers (moby, *api/types/checkpoint*; not in the published API document).

use serde::{Deserialize, Serialize};

/// `POST /containers/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateRequest {
    /// The checkpoint's name.
    #[serde(rename = "CheckpointID")]
    pub name: String,
    /// The folder that the checkpoint's own is made in; empty for the container's.
    #[serde(rename = "CheckpointDir")]
    pub folder: String,
    /// Whether the container ends with it.
    pub exit: bool,
}

/// One of `GET /containers/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    pub name: String,
}
