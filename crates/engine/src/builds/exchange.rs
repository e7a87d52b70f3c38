//! Caches from elsewhere and for elsewhere: images here or in registries, and folders with an OCI image layout.

use super::{Around, Finder, to_builder};
use crate::error::{Error, Result};
use crate::images::{Images, Progress as PullProgress, RemoteImage, Step};
use builder::{CacheFrom, CacheImage};
use distribution::Credentials;
use oci::{Descriptor, Digest, Document, Index, Manifest, Reference};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use store::Store;

/// The document of a layout that names its images (OCI image-spec, image-layout.md).
const INDEX: &str = "index.json";
/// No document is longer.
const MAX_DOCUMENT: u64 = 16 << 20;

impl Around {
    /// The credentials for a reference's registry.
    pub(super) fn credentials_for(&self, reference: &Reference) -> Credentials {
        crate::images::credentials_for(&self.credentials, reference)
    }

    /// Tells pulls and pushes to whoever listens.
    pub(super) fn told(&self) -> PullProgress {
        let tell = Arc::clone(&self.pulls);
        Arc::new(move |step: Step| tell(step.message()))
    }
}

/// Gives a cache to registries.
pub(super) async fn give(images: &Images, target: &Descriptor, around: &Around) -> Result<()> {
    for reference in &around.cache_push {
        let credentials = around.credentials_for(reference);
        images.push_as(target, reference, &credentials, around.told()).await?;
    }
    Ok(())
}

impl Finder {
    /// Describes a cache.
    pub(super) fn described(&self, from: &CacheFrom) -> builder::Result<CacheImage> {
        match from {
            CacheFrom::Image(name) => self.of_image(name).map_err(to_builder),
            CacheFrom::Folder(folder) => of_folder(folder).map_err(to_builder),
        }
    }

    /// An image that is here, or else the registry's.
    fn of_image(&self, name: &str) -> Result<CacheImage> {
        if let Ok(image) = self.images.find(name, None)
            && image.config.other.contains_key(builder::CACHE_RECORDS)
        {
            let config = oci::ImageConfig::clone(&image.config);
            return Ok(CacheImage { config, layers: image.document.layers.clone() });
        }
        let remote = self.remote(name)?;
        Ok(CacheImage { config: remote.config.clone(), layers: remote.manifest.layers.clone() })
    }

    /// Asks the registry once in a build.
    fn remote(&self, name: &str) -> Result<Arc<RemoteImage>> {
        let mut remotes = self.remotes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = remotes.get(name) {
            return Ok(Arc::clone(known));
        }
        let reference = Reference::parse_normalized(name)
            .map_err(|error| Error::invalid(format!("invalid reference {name:?} of a cache: {error}")))?
            .with_default_tag();
        let credentials = self.around.credentials_for(&reference);
        let remote = self.runtime.block_on(self.images.described_there(&reference, &credentials))?;
        let remote = Arc::new(remote);
        remotes.insert(name.to_owned(), Arc::clone(&remote));
        Ok(remote)
    }

    /// Gets a layer of a cache.
    pub(super) fn layer(
        &self,
        from: &CacheFrom,
        archive: &Descriptor,
        diff_id: &Digest,
    ) -> builder::Result<()> {
        let here = self.store.layers().get(diff_id)?.is_some();
        let stored = self.store.blobs().contains(&archive.digest);
        if here && stored {
            return Ok(());
        }
        if !stored {
            match from {
                CacheFrom::Image(name) => {
                    return self.layer_of_image(name, archive, diff_id).map_err(to_builder);
                }
                CacheFrom::Folder(folder) => store_blob(&self.store, folder, archive).map_err(to_builder)?,
            }
        }
        let mut blob = self.store.blobs().open(&archive.digest)?;
        self.store.layers().unpack(&mut blob, diff_id)?;
        Ok(())
    }

    fn layer_of_image(&self, name: &str, archive: &Descriptor, diff_id: &Digest) -> Result<()> {
        let remote = self.remote(name)?;
        let progress = self.around.told();
        self.runtime.block_on(self.images.layer_from(&remote, archive, diff_id, &progress))
    }
}

/// Opens a file of a layout; no link leads out of it.
fn open(folder: &Path, name: &str) -> Result<File> {
    let failed =
        |error: sys::Error| Error::not_found(format!("{name} of the cache: {}", base::chain(&error)));
    let root = sys::path::open_directory(folder).map_err(failed)?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    Ok(sys::path::open_in_root(root.as_fd(), Path::new(name), flags).map_err(failed)?.into())
}

fn place(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// Reads a document of a layout; one that a digest names is checked.
fn document(folder: &Path, name: &str, digest: Option<&Digest>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open(folder, name)?;
    file.take(MAX_DOCUMENT).read_to_end(&mut bytes).map_err(Error::file("read", Path::new(name)))?;
    if let Some(digest) = digest {
        let mut hasher = oci::Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            return Err(Error::invalid(format!("{name} of the cache is not what its name says")));
        }
    }
    Ok(bytes)
}

fn broken(name: &str) -> Error {
    Error::invalid(format!("{name} of the cache cannot be understood"))
}

fn of_folder(folder: &Path) -> Result<CacheImage> {
    let index = document(folder, INDEX, None)?;
    let index: Index = serde_json::from_slice(&index).map_err(|_quotes| broken(INDEX))?;
    let target = index.manifests.first().ok_or_else(|| Error::not_found("the cache's index is empty"))?;
    let name = place(&target.digest);
    let bytes = document(folder, &name, Some(&target.digest))?;
    let parsed = Document::parse(&target.media_type, &bytes).map_err(|_quotes| broken(&name))?;
    let Document::Manifest(manifest) = parsed else { return Err(broken(&name)) };
    let Manifest { config, layers, .. } = *manifest;
    let name = place(&config.digest);
    let bytes = document(folder, &name, Some(&config.digest))?;
    let config = serde_json::from_slice(&bytes).map_err(|_quotes| broken(&name))?;
    Ok(CacheImage { config, layers })
}

/// Takes a blob of a layout into the store, where its digest is checked.
fn store_blob(store: &Store, folder: &Path, archive: &Descriptor) -> Result<()> {
    let mut file = open(folder, &place(&archive.digest))?;
    let key = format!("cache-{}", crate::events::random_id());
    let mut ingest = store.blobs().ingest(&key)?;
    ingest.restart()?;
    match std::io::copy(&mut file, &mut ingest) {
        Ok(_) => Ok(ingest.commit(&archive.digest, Some(archive.size))?),
        Err(error) => {
            ingest.discard()?;
            Err(Error::file("read", folder)(error))
        }
    }
}
