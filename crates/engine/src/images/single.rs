//! Images of which only parts are wanted: what they are, then single layers. Build caches are used so.

use super::flush::Flusher;
use super::progress::Progress;
use super::pull::Pull;
use super::{Images, registry_error};
use crate::error::Result;
use distribution::{Access, Credentials, Repository};
use oci::{Descriptor, Digest, ImageConfig, Manifest, Reference};

/// An image in a registry, as it is described there.
pub(crate) struct Remote {
    repository: Repository,
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
}

impl Images {
    /// Finds out what an image in a registry consists of. The caller holds a lease.
    pub(crate) async fn described_there(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Remote> {
        let client = self.client_for(reference.domain(), true);
        let repository = client.repository(reference, credentials, Access::Pull);
        let fetched = repository.resolve().await.map_err(|error| registry_error(&error))?;
        let pull = Pull {
            reference: reference.clone(),
            platform: None,
            credentials: credentials.clone(),
            verify: true,
        };
        let described = self.describe(&repository, &fetched.descriptor, fetched.bytes, &pull).await?;
        Ok(Remote { repository, manifest: described.manifest, config: described.config })
    }

    /// Gets one layer, stored and unpacked.
    pub(crate) async fn layer_from(
        &self,
        remote: &Remote,
        layer: &Descriptor,
        diff_id: &Digest,
        progress: &Progress,
    ) -> Result<()> {
        let flusher = Flusher::new(self.store().clone());
        self.job(&remote.repository, (layer, diff_id), progress, &flusher).run().await?;
        flusher.outcome()
    }
}
