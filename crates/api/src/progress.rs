//! The lines of a pull, push, load, import or build: one JSON document each (`JSONMessage`).

use crate::is_zero;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Output to be shown as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<Detail>,
    /// The bar, already drawn; for old clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// What the line is about: later lines of the same id take its place.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub time: i64,
    #[serde(rename = "timeNano", skip_serializing_if = "is_zero")]
    pub time_nano: i64,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Whatever the operation has to tell a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

impl Message {
    /// Makes a plain status line.
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self { id: id.into(), status: status.into(), ..Self::default() }
    }

    /// Makes a status line with (or, at zero of zero, without) a bar.
    pub fn progress(id: impl Into<String>, status: impl Into<String>, current: i64, total: i64) -> Self {
        let detail = Detail { current, total, ..Detail::default() };
        Self { progress_detail: Some(detail), ..Self::status(id, status) }
    }

    /// Makes the message that ends a failed operation.
    pub fn error(message: impl Into<String>) -> Self {
        let message = message.into();
        let detail = ErrorDetail { code: 0, message: message.clone() };
        Self { error_detail: Some(detail), error: message, ..Self::default() }
    }
}

/// How far it got (`ProgressDetail`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    #[serde(rename = "hidecounts", skip_serializing_if = "is_zero")]
    pub hide_counts: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// Why it failed (`ErrorDetail`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    pub message: String,
}
