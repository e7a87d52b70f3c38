//! `import`: from the archive of a root file system to an image of one layer.

use crate::Store;
use crate::Tee;
use crate::error::{Error, Result};
use oci::{
    Compression, ContainerDefaults, Descriptor, Digest, History, ImageConfig, Index, Manifest, Platform,
    Reference, RootFs, media_type,
};
use std::collections::BTreeMap;
use std::io::{self, Read};

/// What the image is to be like.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImportOptions {
    /// Its name; none leaves it dangling.
    pub reference: Option<Reference>,
    /// What it runs on; the host's if none.
    pub platform: Option<Platform>,
    /// Defaults of its containers.
    pub config: ContainerDefaults,
    /// The comment in its history.
    pub message: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// Makes an image whose only layer is the archive in `reader` (plain, gzip or zstd) and records it, durably.
///
/// # Errors
///
/// Those of [`crate::Layers::unpack`] and of recording; then nothing stays.
pub fn import(store: &Store, reader: &mut dyn Read, options: &ImportOptions) -> Result<Descriptor> {
    let _lease = store.lease();
    let (layer, diff_id) = store.add_layer(reader)?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let config = ImageConfig {
        created: Some(options.created.clone()),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        config: options.config.clone(),
        rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
        history: vec![History {
            created: Some(options.created.clone()),
            comment: options.message.clone(),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    let names: Vec<Reference> = options.reference.iter().cloned().collect();
    store.add_image(&config, vec![layer], &names)
}

impl Store {
    /// Stores and unpacks the archive of a layer in one pass; returns its descriptor and its diff ID.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Layers::unpack`]; then nothing stays.
    pub fn add_layer(&self, reader: &mut dyn Read) -> Result<(Descriptor, Digest)> {
        let key = self.workspace.fresh("layer").to_string_lossy().into_owned();
        let mut ingest = self.blobs().ingest(&key)?;
        ingest.restart()?;
        let mut start = Vec::new();
        reader.take(4).read_to_end(&mut start).map_err(Error::LayerStream)?;
        let compression = Compression::sniff(&start);
        if compression == Compression::None {
            ingest.leave_hash_to_others();
        }
        let mut tee = Tee::new(start.as_slice().chain(reader), &mut ingest);
        let unpacked = self.layers().unpack_unknown(&mut tee);
        let drained = unpacked.and_then(|layer| {
            io::copy(&mut tee, &mut io::sink()).map_err(Error::LayerStream)?;
            Ok(layer)
        });
        match drained {
            Ok(layer) => {
                let (digest, size) = match compression {
                    Compression::None => (layer.diff_id.clone(), ingest.commit_known(&layer.diff_id)?),
                    Compression::Gzip | Compression::Zstd => ingest.commit_as_is()?,
                };
                Ok((Descriptor::new(compression.oci_layer(), digest, size), layer.diff_id))
            }
            Err(error) => {
                ingest.discard()?;
                Err(error)
            }
        }
    }

    /// Stores the documents of an image whose layers are here, and records it durably under `names`, which may be
    /// none. Used by commit, import and build.
    ///
    /// # Errors
    ///
    /// As for [`crate::Images::record`].
    pub fn add_image(
        &self,
        config: &ImageConfig,
        layers: Vec<Descriptor>,
        names: &[Reference],
    ) -> Result<Descriptor> {
        let _lease = self.lease();
        let target = self.put_image(config, layers, BTreeMap::new())?;
        self.images().record(&target, names)?;
        Ok(target)
    }

    /// Stores the documents of an image whose layers are here, and does not record it: the caller holds a lease for as
    /// long as it is needed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn put_image(
        &self,
        config: &ImageConfig,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Descriptor> {
        let json = |error: serde_json::Error| Error::Load(error.to_string());
        let bytes = serde_json::to_vec(config).map_err(json)?;
        self.blobs().put(&bytes)?;
        let mut manifest = Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &bytes), layers);
        manifest.annotations = annotations;
        let manifest = serde_json::to_vec(&manifest).map_err(json)?;
        self.blobs().put(&manifest)?;
        Ok(Descriptor {
            platform: Some(config.platform()),
            ..Descriptor::of(media_type::OCI_MANIFEST, &manifest)
        })
    }

    /// Stores an index of manifests that are here, and does not record it, as [`Self::put_image`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn put_index(
        &self,
        manifests: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Descriptor> {
        let index = Index { annotations, ..Index::new(manifests) };
        let bytes = serde_json::to_vec(&index).map_err(|error| Error::Load(error.to_string()))?;
        self.blobs().put(&bytes)?;
        Ok(Descriptor::of(media_type::OCI_INDEX, &bytes))
    }
}
