//! `system check`: everything is read and compared with its digest; what is damaged is fetched or unpacked again.
//!
//! A layer on which a running container stands is not touched: its files are in use.

use super::progress::INTERVAL;
use super::{Images, User, blocking, registry_error};
use crate::error::{Error, Result};
use base::Kind;
use distribution::{Access, Credentials, Repository};
use oci::{Descriptor, Digest, Document, Reference};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use store::Problem;
use store::images::MAX_NESTING;

/// How what is damaged is repaired.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    /// The user's credentials by registry.
    pub credentials: BTreeMap<String, Credentials>,
}

/// Takes what a check says, a line at a time.
pub type Lines = Arc<dyn Fn(String) + Send + Sync>;

impl Images {
    /// Reads everything and tells what is damaged; with `repair`, fetches (from mirrors too) and unpacks that again. Returns
    /// how many problems are left. `users` are all containers.
    ///
    /// # Errors
    ///
    /// Those of the store that keep the check from going on.
    pub async fn check(&self, repair: Option<Repair>, users: Vec<User>, tell: Lines) -> Result<usize> {
        let problems = self.problems(Arc::clone(&tell)).await?;
        for problem in &problems {
            tell(worded(problem));
        }
        let Some(repair) = repair.filter(|_| !problems.is_empty()) else { return Ok(problems.len()) };
        let in_use: HashSet<Digest> =
            users.into_iter().filter(|user| user.running).flat_map(|user| user.layers).collect();
        let (kept, taken): (Vec<Problem>, Vec<Problem>) = problems.into_iter().partition(
            |problem| matches!(problem, Problem::Layer { diff_id, .. } if in_use.contains(diff_id)),
        );
        for problem in &kept {
            tell(format!("in use by a running container, not repaired: {}", worded(problem)));
        }
        let gone: HashSet<Digest> = taken
            .iter()
            .filter_map(|problem| match problem {
                Problem::Blob { digest, .. } => Some(digest.clone()),
                _ => None,
            })
            .collect();
        let store = self.store().clone();
        blocking(move || Ok(store.repair(&taken)?)).await?;
        for id in self.store().images().ids() {
            match self.restore(&id, &gone, &repair).await {
                Ok(fetched) => {
                    for digest in fetched {
                        tell(format!("fetched again: {digest}"));
                    }
                }
                Err(error) => tell(format!("image {id} is not repaired: {}", base::chain(&error))),
            }
        }
        let left = self.problems(Arc::new(|_| {})).await?;
        for problem in &left {
            tell(format!("still: {}", worded(problem)));
        }
        Ok(left.len())
    }

    async fn problems(&self, tell: Lines) -> Result<Vec<Problem>> {
        let store = self.store().clone();
        blocking(move || {
            let (mut count, mut last) = (0_u64, Instant::now());
            Ok(store.check(|_| {
                count += 1;
                if last.elapsed() >= 20 * INTERVAL {
                    last = Instant::now();
                    tell(format!("{count} blobs and layers read"));
                }
            })?)
        })
        .await
    }

    /// Fetches what is missing of an image and unpacks its layers; returns what was fetched. `gone` is what was here.
    async fn restore(&self, id: &Digest, gone: &HashSet<Digest>, repair: &Repair) -> Result<Vec<Digest>> {
        let images = self.store().images();
        let Some(target) = images.target(id) else { return Ok(Vec::new()) };
        let mut fetched = Vec::new();
        if self.needs(&target, gone).await? {
            let names = images.names_of(id);
            let mut failure =
                Error::not_found(format!("{id} has no name, so nobody knows where it came from"));
            for name in &names {
                match self.refetch(&target, name, gone, repair).await {
                    Ok(found) => {
                        fetched = found;
                        let (store, target, names) = (self.store().clone(), target.clone(), names.clone());
                        blocking(move || Ok(store.images().record(&target, &names)?)).await?;
                        break;
                    }
                    Err(error) => failure = error,
                }
            }
            if fetched.is_empty() {
                return Err(failure);
            }
        }
        let (store, id) = (self.store().clone(), id.clone());
        blocking(move || {
            if let Ok(image) = store.images().get(&id) {
                store.images().unpack(&image)?;
            }
            Ok(())
        })
        .await?;
        Ok(fetched)
    }

    /// Says whether something of an image that should be here is not.
    async fn needs(&self, target: &Descriptor, gone: &HashSet<Digest>) -> Result<bool> {
        if gone.is_empty() {
            return Ok(false);
        }
        let (images, target, gone) = (self.clone(), target.clone(), gone.clone());
        blocking(move || Ok(images.missing(&target, &gone, MAX_NESTING))).await
    }

    fn missing(&self, descriptor: &Descriptor, gone: &HashSet<Digest>, depth: usize) -> bool {
        if !self.store().blobs().contains(&descriptor.digest) {
            return gone.contains(&descriptor.digest);
        }
        match self.document(descriptor) {
            Ok(Document::Manifest(manifest)) => {
                let mut parts = manifest.layers.iter().chain([&manifest.config]);
                parts.any(|part| gone.contains(&part.digest) && !self.store().blobs().contains(&part.digest))
            }
            Ok(Document::Index(index)) => {
                depth > 0 && index.manifests.iter().any(|entry| self.missing(entry, gone, depth - 1))
            }
            Err(_) => false,
        }
    }

    /// Fetches what is missing from the repository that `name` is in.
    async fn refetch(
        &self,
        target: &Descriptor,
        name: &Reference,
        gone: &HashSet<Digest>,
        repair: &Repair,
    ) -> Result<Vec<Digest>> {
        let credentials = super::credentials_for(&repair.credentials, name);
        let reference = name.without_tag().with_digest(&target.digest);
        let repository = self.client().repository(&reference, &credentials, Access::Pull);
        let mut fetched = Vec::new();
        let mut open = vec![(target.clone(), MAX_NESTING)];
        while let Some((descriptor, depth)) = open.pop() {
            let here = self.store().blobs().contains(&descriptor.digest);
            if !here && !gone.contains(&descriptor.digest) {
                // A platform that was never pulled.
                continue;
            }
            if !here {
                let document =
                    repository.manifest(&descriptor).await.map_err(|error| registry_error(&error))?;
                self.keep(&descriptor, document.bytes).await?;
                fetched.push(descriptor.digest.clone());
            }
            match self.document(&descriptor)? {
                Document::Index(index) if depth > 0 => {
                    open.extend(index.manifests.into_iter().map(|entry| (entry, depth - 1)));
                }
                Document::Index(_) => {
                    return Err(Error::known(Kind::Internal, "an index is nested too deeply"));
                }
                Document::Manifest(manifest) => {
                    for part in manifest.layers.iter().chain([&manifest.config]) {
                        if gone.contains(&part.digest) && !self.store().blobs().contains(&part.digest) {
                            self.fetch_blob(&repository, part).await?;
                            fetched.push(part.digest.clone());
                        }
                    }
                }
            }
        }
        Ok(fetched)
    }

    async fn fetch_blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<()> {
        use std::io::Write as _;
        let (store, digest) = (self.store().clone(), descriptor.digest.clone());
        let mut ingest = blocking(move || {
            let mut ingest = store.blobs().ingest(&digest.to_string())?;
            ingest.restart()?;
            Ok(ingest)
        })
        .await?;
        let path = self.store().blobs().path(&descriptor.digest);
        let mut blob = repository.blob(descriptor, 0);
        while let Some(piece) = blob.chunk().await.map_err(|error| registry_error(&error))? {
            let path = path.clone();
            ingest = blocking(move || {
                ingest.write_all(&piece).map_err(Error::file("write", &path))?;
                Ok(ingest)
            })
            .await?;
        }
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        blocking(move || Ok(ingest.commit(&digest, Some(size))?)).await
    }
}

/// Says what is wrong, for people.
fn worded(problem: &Problem) -> String {
    match problem {
        Problem::Database(text) => format!("database: {text}"),
        Problem::Blob { digest, found } => {
            format!("blob {digest} is damaged: its content has the digest {found}")
        }
        Problem::Layer { diff_id, differences } => {
            let first = differences.first().map(|first| format!("{}: {}", first.path, first.what));
            format!("layer {diff_id} is damaged: {}", first.unwrap_or_default())
        }
        Problem::Image { id, problem } => format!("image {id} is damaged: {problem}"),
        _ => "something is damaged".to_owned(),
    }
}
