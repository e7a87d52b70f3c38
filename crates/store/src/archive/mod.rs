//! Images in archives: what `load`, `save` and `import` read and write.
//!
//! Read are OCI layouts and what `docker save` makes, before 25 (configuration and layers in directories of their
//! own, `manifest.json`) and since (an OCI layout that also has `manifest.json`); plain or compressed. Written is the
//! latter form, which engines of any age load. One pass: a layer is stored while it is read, and unpacked by threads
//! that read behind, before it is known which image it belongs to.

mod adopt;
mod import;
mod layers;
mod load;
mod save;
#[cfg(test)]
mod tests;

pub use adopt::Adopted;
pub use import::{ImportOptions, import};
pub use load::{Loaded, Progress, load};
pub use save::{Saved, save};

use serde::{Deserialize, Serialize};

/// The file of a layout that says that it is one (image-spec image-layout.md).
const LAYOUT: &str = "oci-layout";
const LAYOUT_CONTENT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
/// The index of a layout.
const INDEX: &str = "index.json";
/// Docker's list of images.
const MANIFEST: &str = "manifest.json";

/// An entry of Docker's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default, deserialize_with = "oci::lenient::null_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "oci::lenient::null_default")]
    layers: Vec<String>,
}
