//! Manifests at a registry, for those who put an index together themselves (`manifest create`, `push`).
//!
//! Nothing of it is kept here: documents are fetched as they are, and put under the names that are asked for.

use super::{Images, registry_error};
use crate::error::{Error, Result};
use base::{Classify, Kind};
use bytes::Bytes;
use distribution::{Access, Credentials, Fetched, Repository};
use oci::{Descriptor, Digest, Document, Platform, Reference};

/// The largest image configuration that is read.
const CONFIG_LIMIT: u64 = 8 << 20;

/// A manifest as its registry has it.
#[derive(Debug, Clone)]
pub struct RemoteManifest {
    /// What it was asked for by; for an entry of an index with its digest.
    pub reference: Reference,
    /// With the platform that the index says, or else the image's configuration.
    pub descriptor: Descriptor,
    /// The document.
    pub bytes: Bytes,
}

/// What a reference names at its registry.
#[derive(Debug, Clone)]
pub enum RemoteDocument {
    /// One image.
    Manifest(Box<RemoteManifest>),
    /// The images of an index.
    Index(Vec<RemoteManifest>),
}

/// A manifest or index to be put.
#[derive(Debug, Clone)]
pub struct Put {
    /// Where: with a tag or its digest.
    pub reference: Reference,
    /// Its media type.
    pub media_type: String,
    /// The document.
    pub bytes: Bytes,
    /// A repository of the same registry from which the blobs of a manifest are taken over first.
    pub from: Option<Reference>,
}

impl Images {
    /// Fetches the manifest that `reference` names, or all those of the index that it names.
    ///
    /// # Errors
    ///
    /// `NotFound` with `no such manifest: X`, also if the registry does not let us see it; others as they come.
    pub async fn remote_document(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        verify: bool,
    ) -> Result<RemoteDocument> {
        let client = self.client_for(reference.domain(), verify);
        let repository = client.repository(reference, credentials, Access::Pull);
        let fetched = repository.resolve().await.map_err(|error| match error.kind() {
            Kind::NotFound | Kind::Unauthorized | Kind::Forbidden => {
                Error::not_found(format!("no such manifest: {reference}"))
            }
            _ => registry_error(&error),
        })?;
        let Document::Index(index) = super::pull::parse(&fetched.descriptor, &fetched.bytes)? else {
            let manifest = complete(&repository, reference.clone(), fetched, None).await?;
            return Ok(RemoteDocument::Manifest(Box::new(manifest)));
        };
        let mut manifests = Vec::new();
        let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        for entry in index.manifests {
            let fetched = repository.manifest(&entry).await.map_err(|error| registry_error(&error))?;
            // The tag stays beside the digest, as Docker's command line has it.
            let name = format!("{}{tag}@{}", reference.repository(), entry.digest);
            let reference = Reference::parse_normalized(&name).unwrap_or_else(|_| reference.clone());
            let platform = Some(entry.platform.unwrap_or_default());
            manifests.push(complete(&repository, reference, fetched, platform).await?);
        }
        Ok(RemoteDocument::Index(manifests))
    }

    /// Puts a document at its registry and returns its digest.
    ///
    /// # Errors
    ///
    /// That a blob cannot be taken over; the registry's, worded as Docker's.
    pub async fn put_remote(&self, put: Put, credentials: &Credentials, verify: bool) -> Result<Digest> {
        let Put { reference, media_type, bytes, from } = put;
        let client = self.client_for(reference.domain(), verify);
        let repository = client.repository(&reference, credentials, Access::Push);
        if let Some(from) = from {
            let descriptor = Descriptor::of(&media_type, &bytes);
            let Document::Manifest(manifest) = super::pull::parse(&descriptor, &bytes)? else {
                return Err(Error::invalid("only the blobs of a manifest can be taken over"));
            };
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let mounted = repository.mount(&blob.digest, from.path()).await;
                if !mounted.map_err(|error| registry_error(&error))? {
                    let text = format!("error mounting {}@{} to {reference}", from.path(), blob.digest);
                    return Err(Error::known(Kind::Internal, text));
                }
            }
        }
        let digest = reference.digest().map(ToString::to_string);
        let name =
            digest.as_deref().or_else(|| reference.tag()).unwrap_or(oci::reference::DEFAULT_TAG).to_owned();
        let put = repository.put_manifest(&name, &media_type, bytes).await.map_err(|error| {
            Error::known(error.kind(), format!("failed to put manifest {reference}: {error}"))
        })?;
        Ok(put.digest)
    }
}

/// Adds the platform to what was fetched: the one that the index says, else what the image's configuration says.
async fn complete(
    repository: &Repository,
    reference: Reference,
    fetched: Fetched,
    platform: Option<Platform>,
) -> Result<RemoteManifest> {
    let Fetched { mut descriptor, bytes } = fetched;
    descriptor.platform = Some(match platform {
        Some(platform) => platform,
        None => configured(repository, &descriptor, &bytes).await?,
    });
    Ok(RemoteManifest { reference, descriptor, bytes })
}

/// Returns the platform that an image's configuration says, as it is written there.
async fn configured(repository: &Repository, descriptor: &Descriptor, bytes: &[u8]) -> Result<Platform> {
    let Document::Manifest(manifest) = super::pull::parse(descriptor, bytes)? else {
        return Err(Error::invalid(format!("{} is not a manifest", descriptor.digest)));
    };
    let config = &manifest.config;
    let wrong = |why: String| {
        Error::known(Kind::Internal, format!("image config verification failed for {}: {why}", config.digest))
    };
    if config.size > CONFIG_LIMIT {
        return Err(wrong(format!("it has {} bytes", config.size)));
    }
    let mut blob = repository.blob(config, 0);
    let mut bytes = Vec::new();
    while let Some(piece) = blob.chunk().await.map_err(|error| registry_error(&error))? {
        bytes.extend_from_slice(&piece);
    }
    if !config.digest.matches(&bytes) {
        return Err(wrong("wrong digest".to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}
