//! Garbage collection: removes content that no image, container or lease needs.
//!
//! Mark and sweep while no reference can be made: marks are read from the documents of all recorded images, the
//! sweep only renames into the trash, so that it is short. Content that running operations made or asked for under a
//! [`crate::Lease`] is left alone.

use crate::content::Key;
use crate::error::Result;
use crate::{Durability, Store, content};
use oci::Digest;
use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

/// What is needed beside the images: by containers whose image was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// Layers by diff ID.
    pub layers: Vec<Digest>,
    /// Blobs.
    pub blobs: Vec<Digest>,
}

impl Keep {
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        let layers = self.layers.iter().cloned().map(Key::Layer);
        layers.chain(self.blobs.iter().cloned().map(Key::Blob))
    }
}

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Layers by diff ID.
    pub layers: Vec<Digest>,
    /// The bytes of both.
    pub bytes: u64,
}

impl Store {
    /// Removes all content that neither an image nor `keep` nor a lease needs. Names disappear at once, the disk's
    /// space a little later.
    ///
    /// An image whose documents are damaged keeps what can still be found of it.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`], [`crate::Error::Database`].
    pub fn collect(&self, keep: &Keep) -> Result<Collected> {
        let _references = self.content.references.lock().unwrap_or_else(PoisonError::into_inner);
        // Both lists before the marks: what comes later is not looked at.
        let blobs = self.blobs.list()?;
        let layers = self.layers.list()?;
        let marked = self.marked(keep);
        let mut collected = Collected::default();
        let mut forgotten = Vec::new();
        for digest in blobs {
            let key = Key::Blob(digest.clone());
            if marked.contains(&key) || self.content.is_held(&key) {
                continue;
            }
            let size = self.blobs.stored(&digest);
            crate::error::failpoint("store.collect.sweep")?;
            self.blobs.remove(&digest)?;
            collected.bytes = collected.bytes.saturating_add(size);
            collected.blobs.push(digest);
            forgotten.push(key.to_string());
        }
        for diff_id in layers {
            let key = Key::Layer(diff_id.clone());
            if marked.contains(&key) || self.content.is_held(&key) {
                continue;
            }
            let size = self.layers.get(&diff_id)?.map_or(0, |layer| layer.size);
            self.layers.remove(&diff_id)?;
            collected.bytes = collected.bytes.saturating_add(size);
            collected.layers.push(diff_id);
            forgotten.push(key.to_string());
        }
        self.images.forget_parsed();
        self.database.transaction(Durability::Relaxed, move |transaction| {
            forgotten.iter().try_for_each(|key| {
                transaction.delete(crate::slim::KEPT, key)?;
                transaction.delete(content::BUCKET, key).map(drop)
            })
        })?;
        Ok(collected)
    }

    /// Everything that images and `keep` need.
    pub(crate) fn marked(&self, keep: &Keep) -> HashSet<Key> {
        let mut marked: HashSet<Key> = keep.keys().collect();
        for id in self.images.ids() {
            let Some(target) = self.images.target(&id) else { continue };
            marked.insert(Key::Blob(id));
            marked.extend(self.images.reachable_anyway(&target));
        }
        marked
    }

    /// Removes unfinished downloads that nobody has gone on with for `age`; returns their bytes.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`].
    pub fn collect_downloads(&self, age: Duration) -> Result<u64> {
        use crate::error::At;
        let directory = self.workspace.ingest();
        let mut bytes = 0_u64;
        for entry in std::fs::read_dir(&directory).at("list", &directory)? {
            let path = entry.at("list", &directory)?.path();
            // What is gone meanwhile was finished.
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            let idle = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
            if idle.is_some_and(|idle| idle >= age) {
                self.workspace.discard(&path)?;
                bytes = bytes.saturating_add(metadata.len());
            }
        }
        Ok(bytes)
    }
}
