//! Pulling: reference → manifest → configuration → layers in parallel → one durable record.
//!
//! Everything is content by digest until the last step, so a pull that is cancelled or killed leaves nothing visible,
//! and what it had downloaded serves the next one. The largest layers start first: the last one to end then ends
//! soonest.

use super::flight::Turn;
use super::flush::Flusher;
use super::layer::Job;
use super::progress::{BlobState, Progress, Step, Teller};
use super::{Images, blocking, registry_error};
use crate::error::{Error, Result};
use base::{Classify as _, Kind};
use bytes::Bytes;
use distribution::{Access, Credentials, Repository};
use oci::{Compression, Descriptor, Digest, Document, ImageConfig, Manifest, Platform, Reference};
use std::collections::HashSet;
use std::sync::Arc;
use store::images::MAX_NESTING;
use tokio::task::JoinSet;

/// The largest image configuration that is read.
const CONFIG_LIMIT: u64 = 8 << 20;
/// So many of an index's documents are looked at to find the platform's.
const MOST_DOCUMENTS: usize = 64;

/// What is to be pulled, and as whom.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The image; without tag and digest it means all tags of its repository, as in the Engine API.
    pub reference: Reference,
    /// The platform asked for; `None` is the host's.
    pub platform: Option<Platform>,
    /// The user's credentials for the registry.
    pub credentials: Credentials,
    /// Whether the registry has to show a certificate that verifies, unless it is configured as insecure.
    pub verify: bool,
}

/// An image as its registry describes it, before its layers are here.
pub(super) struct Described {
    pub(super) manifest: Manifest,
    pub(super) config: ImageConfig,
}

impl Images {
    /// Pulls an image, or all tags of a repository. Dropping the future cancels it; what was downloaded stays for the
    /// next attempt.
    ///
    /// Returns the digest of what the reference names now (with several tags: the last), after it is safe on disk.
    ///
    /// # Errors
    ///
    /// Docker's, worded as Docker's.
    pub async fn pull(&self, pull: &Pull, progress: Progress) -> Result<Digest> {
        let _lease = self.store().lease();
        let built_in = self.built_in(&pull.reference, &progress).await?;
        let bare = pull.reference.tag().is_none() && pull.reference.digest().is_none();
        let references = if bare && built_in.is_none() {
            let client = self.client_for(pull.reference.domain(), pull.verify);
            client.repository(&pull.reference, &pull.credentials, Access::Pull).tags().await
        } else {
            Ok(Vec::new())
        };
        let references: Result<Vec<Reference>, _> = references
            .map_err(|error| registry_error(&error))?
            .iter()
            .map(|tag| pull.reference.with_tag(tag))
            .collect();
        let mut references = references.map_err(|error| Error::invalid(error.to_string()))?;
        if references.is_empty() {
            references.push(pull.reference.clone().with_default_tag());
        }
        let mut pulled = None;
        let mut up_to_date = true;
        for reference in references {
            let (id, unchanged) = match &built_in {
                Some(built_in) => built_in.clone(),
                None => self.pull_one(&reference, pull, &progress).await?,
            };
            progress(Step::Digest(id.clone()));
            self.tell("pull", &reference.familiar(), &reference.familiar_name());
            up_to_date &= unchanged;
            pulled = Some(id);
        }
        let reference = if built_in.is_some() {
            pull.reference.clone().with_default_tag()
        } else {
            pull.reference.clone()
        };
        progress(Step::Pulled { reference: reference.familiar(), up_to_date });
        pulled.ok_or_else(|| Error::not_found(format!("no tags of {}", pull.reference.familiar())))
    }

    /// Pulls one image; says whether it was here before.
    async fn pull_one(
        &self,
        reference: &Reference,
        pull: &Pull,
        progress: &Progress,
    ) -> Result<(Digest, bool)> {
        let client = self.client_for(reference.domain(), pull.verify);
        let repository = client.repository(reference, &pull.credentials, Access::Pull);
        if let Some(target) = self.unchanged(&repository, pull, progress).await? {
            return Ok((target, true));
        }
        let fetched = repository.resolve().await.map_err(|error| registry_error(&error))?;
        progress(pulling(reference));
        let target = fetched.descriptor;
        let described = self.describe(&repository, &target, fetched.bytes, pull).await?;
        self.layers(&repository, &described, progress).await?;
        self.record(reference, &target).await?;
        Ok((target.digest, false))
    }

    /// Returns the built-in image if `reference` means it: no network is needed for the first steps with an engine.
    async fn built_in(&self, reference: &Reference, progress: &Progress) -> Result<Option<(Digest, bool)>> {
        if !store::hello::is_hello(reference) {
            return Ok(None);
        }
        let reference = reference.clone().with_default_tag();
        let (store, name) = (self.store().clone(), reference.clone());
        let built_in = blocking(move || {
            let up_to_date = store.images().resolve(&name).is_some();
            Ok((store.ensure_hello()?.id().clone(), up_to_date))
        })
        .await?;
        progress(pulling(&reference));
        Ok(Some(built_in))
    }

    /// Returns what the reference names if that is here already, as the registry has it.
    async fn unchanged(
        &self,
        repository: &Repository,
        pull: &Pull,
        progress: &Progress,
    ) -> Result<Option<Digest>> {
        let reference = repository.reference().clone();
        let platform = pull.platform.clone().unwrap_or_else(Platform::host);
        let (store, name) = (self.store().clone(), reference.clone());
        let local = blocking(move || {
            let Some(target) = store.images().resolve(&name) else { return Ok(None) };
            let image = store.images().find_for(&name.to_string(), &platform);
            Ok(image.is_ok_and(|image| image.unpacked_size.is_some()).then_some(target.digest))
        });
        let Some(local) = local.await? else { return Ok(None) };
        // A digest says for ever the same; a tag has to be asked for. That does not count as a pull.
        if reference.digest().is_none() {
            let head = repository.head().await.map_err(|error| registry_error(&error))?;
            if head.is_none_or(|head| head.digest != local) {
                return Ok(None);
            }
        }
        progress(pulling(&reference));
        Ok(Some(local))
    }

    /// Makes the image real: durable, and known by its name.
    async fn record(&self, reference: &Reference, target: &Descriptor) -> Result<()> {
        let (store, reference, target) = (self.store().clone(), reference.clone(), target.clone());
        blocking(move || Ok(store.images().record(&target, &[reference])?)).await
    }

    /// Fetches what the documents from `target` down to the configuration say, and keeps them as blobs.
    pub(super) async fn describe(
        &self,
        repository: &Repository,
        target: &Descriptor,
        bytes: Bytes,
        pull: &Pull,
    ) -> Result<Described> {
        let platform = pull.platform.clone().unwrap_or_else(Platform::host);
        let mut open = vec![(target.clone(), Some(bytes), MAX_NESTING)];
        for _ in 0..MOST_DOCUMENTS {
            let Some((descriptor, bytes, depth)) = open.pop() else {
                return Err(no_match(&platform));
            };
            let bytes = match bytes {
                Some(bytes) => bytes,
                None => repository.manifest(&descriptor).await.map_err(|error| registry_error(&error))?.bytes,
            };
            self.keep(&descriptor, bytes.clone()).await?;
            match parse(&descriptor, &bytes)? {
                Document::Manifest(manifest) => match self.described(repository, *manifest, pull).await {
                    // Its index did not say what it runs on; another entry may fit.
                    Err(error) if error.kind() == Kind::NotFound && !open.is_empty() => {}
                    outcome => return outcome,
                },
                Document::Index(_) if depth == 0 => break,
                // One index within another may be for other platforms alone.
                Document::Index(index) => {
                    let entries = index.ranked(&platform).into_iter().rev();
                    open.extend(entries.map(|entry| (entry.clone(), None, depth - 1)));
                }
            }
        }
        Err(Error::known(Kind::Internal, format!("index {} is nested too deeply", target.digest)))
    }

    async fn described(&self, repository: &Repository, manifest: Manifest, pull: &Pull) -> Result<Described> {
        let media_type = &manifest.config.media_type;
        if !oci::media_type::is_config(media_type) {
            return Err(Error::known(
                Kind::InvalidArgument,
                format!("Encountered remote \"{media_type}\"(unknown) when fetching"),
            ));
        }
        for layer in &manifest.layers {
            if Compression::of_layer(&layer.media_type).is_none() {
                let text =
                    format!("layer {} has unsupported media type \"{}\"", layer.digest, layer.media_type);
                return Err(Error::known(Kind::NotImplemented, text));
            }
        }
        let bytes = self.small_blob(repository, &manifest.config).await?;
        let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|error| {
            let text = format!("parse image configuration {}: {error}", manifest.config.digest);
            Error::known(Kind::Internal, text)
        })?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            let text = format!("manifest has {layers} layers, but its configuration has {diff_ids}");
            return Err(Error::known(Kind::Internal, text));
        }
        if let Some(wanted) = &pull.platform
            && wanted.preference(&config.platform()).is_none()
        {
            return Err(Error::not_found(format!(
                "image with reference {} was found but its platform ({}) does not match the specified platform ({wanted})",
                repository.reference().familiar(),
                config.platform()
            )));
        }
        Ok(Described { manifest, config })
    }

    /// What it takes to get one layer, with the digest of its contents.
    pub(super) fn job(
        &self,
        repository: &Repository,
        (layer, diff_id): (&Descriptor, &Digest),
        progress: &Progress,
        flusher: &Arc<Flusher>,
    ) -> Job {
        Job {
            store: self.store().clone(),
            repository: repository.clone(),
            flights: Arc::clone(self.flights()),
            downloads: self.downloads(),
            layer: layer.clone(),
            diff_id: diff_id.clone(),
            teller: Teller::new(Arc::clone(progress), layer.digest.clone()),
            flusher: Arc::clone(flusher),
        }
    }

    /// Gets all layers, in parallel.
    async fn layers(
        &self,
        repository: &Repository,
        described: &Described,
        progress: &Progress,
    ) -> Result<()> {
        let flusher = Flusher::new(self.store().clone());
        let mut seen = HashSet::new();
        let pairs = described.manifest.layers.iter().zip(&described.config.rootfs.diff_ids);
        let mut jobs: Vec<Job> = pairs
            .filter(|(layer, diff_id)| seen.insert((&layer.digest, *diff_id)))
            .map(|layer| self.job(repository, layer, progress, &flusher))
            .collect();
        progress(Step::Layers(jobs.iter().map(|job| (job.layer.digest.clone(), job.layer.size)).collect()));
        for job in &jobs {
            job.teller.tell(BlobState::Queued);
        }
        jobs.sort_by_key(|job| std::cmp::Reverse(job.layer.size));
        let mut running = JoinSet::new();
        for job in jobs {
            running.spawn(job.run());
        }
        // The first failure drops the set, which stops the others.
        while let Some(outcome) = running.join_next().await {
            outcome.map_err(|error| Error::known(Kind::Internal, error.to_string()))??;
        }
        flusher.outcome()
    }

    /// Keeps a document as a blob; its bytes were checked against the descriptor's digest. Several may come with it at once.
    pub(super) async fn keep(&self, descriptor: &Descriptor, bytes: Bytes) -> Result<()> {
        let turn = self.flights().turn(&descriptor.digest, || ()).await;
        self.keep_in_turn(descriptor, bytes, turn).await
    }

    async fn keep_in_turn(&self, descriptor: &Descriptor, bytes: Bytes, turn: Turn) -> Result<()> {
        let (store, digest) = (self.store().clone(), descriptor.digest.clone());
        blocking(move || {
            // Kept to the end, even if nobody waits for it any more.
            let _turn = turn;
            if store.blobs().contains(&digest) {
                return Ok(());
            }
            use std::io::Write as _;
            let mut ingest = store.blobs().ingest(&digest.to_string())?;
            ingest.restart()?;
            ingest.write_all(&bytes).map_err(Error::file("write", &store.blobs().path(&digest)))?;
            Ok(ingest.commit(&digest, Some(bytes.len() as u64))?)
        })
        .await
    }

    /// Returns a blob of a few bytes, fetched if it is not here.
    async fn small_blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > CONFIG_LIMIT {
            let text = format!("image configuration {} has {} bytes", descriptor.digest, descriptor.size);
            return Err(Error::known(Kind::Internal, text));
        }
        let turn = self.flights().turn(&descriptor.digest, || ()).await;
        let (store, digest) = (self.store().clone(), descriptor.digest.clone());
        let here = blocking(move || match store.blobs().read(&digest, CONFIG_LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(store::Error::NoBlob(_)) => Ok(None),
            Err(error) => Err(error.into()),
        });
        if let Some(bytes) = here.await? {
            return Ok(bytes);
        }
        let mut blob = repository.blob(descriptor, 0);
        let mut bytes = Vec::new();
        while let Some(piece) = blob.chunk().await.map_err(|error| registry_error(&error))? {
            bytes.extend_from_slice(&piece);
        }
        self.keep_in_turn(descriptor, Bytes::from(bytes.clone()), turn).await?;
        Ok(bytes)
    }
}

fn pulling(reference: &Reference) -> Step {
    let tag = reference.digest().map(ToString::to_string).or_else(|| reference.tag().map(str::to_owned));
    Step::Pulling { tag: tag.unwrap_or_default(), repository: reference.path().to_owned() }
}

pub(super) fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Document> {
    Document::parse(&descriptor.media_type, bytes).map_err(|error| {
        let text = format!("manifest {}: {}", descriptor.digest, base::chain(&error));
        Error::known(Kind::Internal, text)
    })
}

fn no_match(platform: &Platform) -> Error {
    Error::not_found(format!("no matching manifest for {platform} in the manifest list entries"))
}
