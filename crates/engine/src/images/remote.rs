//! Questions to a registry that change nothing here: what a reference names, and whether credentials are good.

use super::{Images, registry_error, view};
use crate::error::Result;
use api::image::DistributionInspect;
use distribution::{Access, Credentials};
use oci::{Document, Platform, Reference};

/// The largest image configuration that is read.
const CONFIG_LIMIT: u64 = 8 << 20;

impl Images {
    /// Returns the answer to `GET /distribution/{name}/json`.
    ///
    /// # Errors
    ///
    /// The registry's, worded as Docker's.
    pub async fn inspect_remote(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<DistributionInspect> {
        let repository = self.client().repository(reference, credentials, Access::Pull);
        let fetched = repository.resolve().await.map_err(|error| registry_error(&error))?;
        let platforms: Vec<Platform> = match super::pull::parse(&fetched.descriptor, &fetched.bytes)? {
            Document::Index(index) => {
                index.manifests.into_iter().filter_map(|entry| entry.platform).collect()
            }
            Document::Manifest(manifest) if manifest.config.size <= CONFIG_LIMIT => {
                let mut blob = repository.blob(&manifest.config, 0);
                let mut bytes = Vec::new();
                while let Some(piece) = blob.chunk().await.map_err(|error| registry_error(&error))? {
                    bytes.extend_from_slice(&piece);
                }
                let right = manifest.config.digest.matches(&bytes);
                let config = serde_json::from_slice::<oci::ImageConfig>(&bytes).ok().filter(|_| right);
                config.map(|config| config.platform()).into_iter().collect()
            }
            Document::Manifest(_) => Vec::new(),
        };
        Ok(DistributionInspect {
            descriptor: view::descriptor(&fetched.descriptor),
            platforms: platforms.iter().map(view::platform_view).collect(),
        })
    }

    /// Shows `credentials` to the registry at `server` (`POST /auth`).
    ///
    /// # Errors
    ///
    /// `Unauthorized` if the registry does not take them.
    pub async fn login(&self, server: &str, credentials: &Credentials) -> Result<()> {
        self.client().login(server, credentials).await.map_err(|error| registry_error(&error))
    }
}
