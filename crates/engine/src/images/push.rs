//! Pushing: what an image consists of, asked for at the registry, taken over from other repositories there, or
//! uploaded in parallel; then its manifests, the named one last.
//!
//! An index is pushed whole if all of it is here. If not, the platform that is here is pushed alone, and the user is
//! told so (as dockerd's containerd image store does).

use super::progress::{BlobState, Progress, Step, Teller};
use super::{Images, blocking, registry_error};
use crate::error::{Error, Result};
use base::Kind;
use bytes::Bytes;
use distribution::{Access, Credentials, Repository};
use oci::{Descriptor, Document, Platform, Reference};
use std::collections::HashSet;
use std::sync::Arc;
use store::Store;
use store::images::MAX_NESTING;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// From how many other repositories a blob is asked to be taken over.
const MAX_MOUNTS: usize = 3;

/// What is to be pushed, and as whom.
#[derive(Debug, Clone)]
pub struct Push {
    /// The image; without a tag, all tags of the repository are pushed.
    pub reference: Reference,
    /// The one platform to push; `None` is all that is here.
    pub platform: Option<Platform>,
    /// The user's credentials for the registry.
    pub credentials: Credentials,
    /// Whether the registry has to show a certificate that verifies, unless it is configured as insecure.
    pub verify: bool,
}

/// A manifest or index to be put.
struct Put {
    descriptor: Descriptor,
    bytes: Bytes,
}

/// All that is to be at the registry, in the order in which it must get there.
#[derive(Default)]
struct Content {
    blobs: Vec<Descriptor>,
    /// Shown to the user; configurations are not.
    layers: HashSet<oci::Digest>,
    /// What a manifest points to comes before it; the last one gets the tag.
    puts: Vec<Put>,
    /// Whether something of an index is not here.
    partial: bool,
}

impl Images {
    /// Pushes an image, or all images of a repository. Dropping the future cancels it.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such tag here; the registry's, worded as Docker's.
    pub async fn push(&self, push: &Push, progress: Progress) -> Result<()> {
        let _lease = self.store().lease();
        progress(Step::Pushing { repository: push.reference.repository() });
        for reference in self.to_push(&push.reference)? {
            self.push_one(&reference, push, &progress).await?;
            self.tell("push", &reference.familiar(), &reference.familiar_name());
        }
        Ok(())
    }

    /// Returns the local references that `reference` means.
    fn to_push(&self, reference: &Reference) -> Result<Vec<Reference>> {
        let images = self.store().images();
        if reference.tag().is_some() || reference.digest().is_some() {
            if images.resolve(reference).is_none() {
                return Err(Error::not_found(format!("tag does not exist: {}", reference.familiar())));
            }
            return Ok(vec![reference.clone()]);
        }
        let names = images.list()?.into_iter().flat_map(|image| image.names);
        let tags: Vec<Reference> = names.filter(|name| name.repository() == reference.repository()).collect();
        if tags.is_empty() {
            let name = reference.familiar_name();
            return Err(Error::not_found(format!("An image does not exist locally with the tag: {name}")));
        }
        Ok(tags)
    }

    async fn push_one(&self, reference: &Reference, push: &Push, progress: &Progress) -> Result<()> {
        let client = self.client_for(reference.domain(), push.verify);
        let repository = client.repository(reference, &push.credentials, Access::Push);
        let (images, name, platform) = (self.clone(), reference.clone(), push.platform.clone());
        let (content, others) = blocking(move || {
            let content = images.content(&name, platform.as_ref())?;
            let others = images.other_repositories(&name)?;
            Ok((content, others))
        })
        .await?;
        self.upload(&repository, &content, &others, progress).await?;
        put_all(&repository, reference, content, progress).await
    }

    /// Pushes an image that is stored, and need not be recorded, under a name. The caller holds a lease.
    pub(crate) async fn push_as(
        &self,
        target: &Descriptor,
        reference: &Reference,
        credentials: &Credentials,
        progress: Progress,
    ) -> Result<()> {
        progress(Step::Pushing { repository: reference.repository() });
        let client = self.client_for(reference.domain(), true);
        let repository = client.repository(reference, credentials, Access::Push);
        let (images, target, name) = (self.clone(), target.clone(), reference.clone());
        let (content, others) = blocking(move || {
            let mut content = Content::default();
            if !images.add(&target, MAX_NESTING, &mut content)? {
                return Err(Error::not_found(format!("content of {} is incomplete here", target.digest)));
            }
            Ok((content, images.other_repositories(&name)?))
        })
        .await?;
        self.upload(&repository, &content, &others, &progress).await?;
        put_all(&repository, reference, content, &progress).await
    }

    /// Sends all blobs that the registry does not have, in parallel.
    async fn upload(
        &self,
        repository: &Repository,
        content: &Content,
        others: &[(Reference, HashSet<oci::Digest>)],
        progress: &Progress,
    ) -> Result<()> {
        let mut running = JoinSet::new();
        for blob in &content.blobs {
            let shown = content.layers.contains(&blob.digest);
            let progress: Progress = if shown { Arc::clone(progress) } else { Arc::new(|_| ()) };
            let has = others.iter().filter(|(_, digests)| digests.contains(&blob.digest));
            let job = Job {
                store: self.store().clone(),
                repository: repository.clone(),
                uploads: self.uploads(),
                others: has.map(|(other, _)| other.clone()).take(MAX_MOUNTS).collect(),
                blob: blob.clone(),
                teller: Arc::new(Teller::new(progress, blob.digest.clone())),
            };
            job.teller.tell(BlobState::Preparing);
            running.spawn(job.run());
        }
        // The first failure drops the set, which stops the others.
        while let Some(outcome) = running.join_next().await {
            outcome.map_err(|error| Error::known(Kind::Internal, error.to_string()))??;
        }
        Ok(())
    }

    /// Reads what an image consists of.
    fn content(&self, reference: &Reference, platform: Option<&Platform>) -> Result<Content> {
        let images = self.store().images();
        let target = images.resolve(reference);
        let target = target
            .ok_or_else(|| Error::not_found(format!("tag does not exist: {}", reference.familiar())))?;
        if platform.is_none() {
            let mut content = Content::default();
            if self.add(&target, MAX_NESTING, &mut content)? {
                return Ok(content);
            }
        }
        // Not all of it is here, or not all of it is wanted.
        let image = self.find(&reference.to_string(), platform)?;
        let mut content = Content { partial: image.manifest.digest != target.digest, ..Content::default() };
        if self.add(&image.manifest, MAX_NESTING, &mut content)? {
            return Ok(content);
        }
        let name = reference.familiar();
        Err(Error::not_found(format!(
            "content of {name} is incomplete here: pull it again before pushing it"
        )))
    }

    /// Adds `target` and what it points to; says whether all of that is here.
    fn add(&self, target: &Descriptor, depth: usize, content: &mut Content) -> Result<bool> {
        let blobs = self.store().blobs();
        if !blobs.contains(&target.digest) {
            return Ok(false);
        }
        match self.document(target)? {
            Document::Index(_) if depth == 0 => return Ok(false),
            Document::Index(index) => {
                for entry in &index.manifests {
                    if !self.add(entry, depth - 1, content)? {
                        return Ok(false);
                    }
                }
            }
            Document::Manifest(manifest) => {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    if !blobs.contains(&blob.digest) {
                        return Ok(false);
                    }
                    if content.blobs.iter().all(|other| other.digest != blob.digest) {
                        content.blobs.push(blob.clone());
                    }
                }
                content.layers.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
            }
        }
        let bytes = Bytes::from(blobs.read(&target.digest, store::images::MAX_MANIFEST)?);
        content.puts.push(Put { descriptor: target.clone(), bytes });
        Ok(true)
    }

    /// Returns other repositories of the same registry that local images have names in, with their layers: the registry
    /// may take blobs over from there.
    fn other_repositories(&self, reference: &Reference) -> Result<Vec<(Reference, HashSet<oci::Digest>)>> {
        let mut others: Vec<(Reference, HashSet<oci::Digest>)> = Vec::new();
        for image in self.store().images().list()? {
            let layers = || image.document.layers.iter().map(|layer| layer.digest.clone());
            for name in image.names.iter().chain(&image.repo_digests) {
                if name.domain() != reference.domain() || name.path() == reference.path() {
                    continue;
                }
                let name = name.without_tag();
                match others.iter_mut().find(|(other, _)| *other == name) {
                    Some((_, digests)) => digests.extend(layers()),
                    None => others.push((name, layers().collect())),
                }
            }
        }
        Ok(others)
    }
}

/// Puts the manifests, the named one last.
async fn put_all(
    repository: &Repository,
    reference: &Reference,
    content: Content,
    progress: &Progress,
) -> Result<()> {
    let last = content.puts.len().saturating_sub(1);
    for (index, put) in content.puts.into_iter().enumerate() {
        let digest = put.descriptor.digest.to_string();
        let under = reference.tag().filter(|_| index == last).unwrap_or(&digest);
        let sent = repository.put_manifest(under, &put.descriptor.media_type, put.bytes).await;
        sent.map_err(|error| registry_error(&error))?;
        if index == last {
            if content.partial {
                progress(Step::Partial { digest: put.descriptor.digest.clone() });
            }
            let (tag, size) = (under.to_owned(), put.descriptor.size);
            progress(Step::Pushed { tag, digest: put.descriptor.digest, size });
        }
    }
    Ok(())
}

/// A blob to be at the registry.
struct Job {
    store: Store,
    repository: Repository,
    uploads: Arc<Semaphore>,
    others: Vec<Reference>,
    blob: Descriptor,
    teller: Arc<Teller>,
}

impl Job {
    async fn run(self) -> Result<()> {
        let failed = |error: distribution::Error| registry_error(&error);
        let permit = self.uploads.acquire().await.map_err(|_closed| Error::from(store::Error::Cancelled))?;
        if self.repository.has_blob(&self.blob.digest).await.map_err(failed)? {
            self.teller.tell(BlobState::ExistsThere);
            return Ok(());
        }
        for other in &self.others {
            if self.repository.mount(&self.blob.digest, other.path()).await.map_err(failed)? {
                self.teller.tell(BlobState::Mounted { from: other.path().to_owned() });
                return Ok(());
            }
        }
        let (store, digest, total) = (self.store.clone(), self.blob.digest.clone(), self.blob.size);
        let source = Arc::new(move |offset| -> std::io::Result<Box<dyn std::io::Read + Send>> {
            use std::io::Seek as _;
            let mut file = store.blobs().open(&digest).map_err(std::io::Error::other)?;
            file.seek(std::io::SeekFrom::Start(offset))?;
            Ok(Box::new(file))
        });
        let teller = Arc::clone(&self.teller);
        let progress = Arc::new(move |current| teller.count(BlobState::Pushing { current, total }));
        self.repository.upload(&self.blob, source, progress).await.map_err(failed)?;
        drop(permit);
        self.teller.tell(BlobState::Pushed);
        Ok(())
    }
}
