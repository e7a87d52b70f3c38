//! Verification and usage: what `system check` and `system df` ask.
//!
//! A check reads every blob and compares it with its name, and every unpacked layer and compares it, entry by entry,
//! with its archive. What is broken can be repaired by removing it: blobs are fetched again by the next pull, layers
//! unpacked again when they are needed.

use crate::content::Key;
use crate::error::{At, Error, Result};
use crate::layers::Difference;
use crate::{Durability, Keep, Store};
use oci::{Algorithm, Digest, Hasher};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read;

const BUFFER: usize = 256 * 1024;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// SQLite finds the database damaged.
    Database(String),
    /// The content of a blob does not have its digest.
    Blob {
        /// The blob's name.
        digest: Digest,
        /// The digest of what is there.
        found: Digest,
    },
    /// A layer's directory is not what its archive says.
    Layer {
        /// The layer.
        diff_id: Digest,
        /// How it differs, the first few.
        differences: Vec<Difference>,
    },
    /// An image is recorded and its content is not here or does not fit together.
    Image {
        /// The image.
        id: Digest,
        /// What is wrong.
        problem: String,
    },
}

/// What is being looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A blob.
    Blob(Digest),
    /// A layer.
    Layer(Digest),
}

/// How much the store holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs: how many, and their bytes.
    pub blobs: (u64, u64),
    /// Unpacked layers: how many, and the bytes of their files.
    pub layers: (u64, u64),
    /// What no image needs, of both.
    pub reclaimable: u64,
}

/// What images take on the disk, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint {
    /// All layers and blobs, each counted once, but for those that are there for others alone.
    pub total: u64,
    /// By image: all that it consists of, and how much of that is part of another image as well.
    pub images: BTreeMap<Digest, (u64, u64)>,
}

impl Store {
    /// Returns what images take on the disk: the bytes of the files of unpacked layers, of archives and of documents.
    /// Not counted is what only `others` need.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn footprint(&self, others: &Keep) -> Result<Footprint> {
        let mut keys = BTreeMap::new();
        for id in self.images.ids() {
            let Some(target) = self.images.target(&id) else { continue };
            keys.insert(id, self.images.reachable_anyway(&target));
        }
        let mut users: HashMap<&Key, usize> = HashMap::new();
        for key in keys.values().flatten() {
            *users.entry(key).or_default() += 1;
        }
        let bytes = |key: &Key| match key {
            Key::Blob(digest) => self.blobs.stored(digest),
            Key::Layer(diff_id) => self.layers.get(diff_id).ok().flatten().map_or(0, |layer| layer.size),
        };
        let sum = |keys: &mut dyn Iterator<Item = &Key>| keys.map(bytes).fold(0, u64::saturating_add);
        let image = |(id, keys): (&Digest, &BTreeSet<Key>)| {
            let mut shared = keys.iter().filter(|key| users.get(*key).is_some_and(|count| *count > 1));
            (id.clone(), (sum(&mut keys.iter()), sum(&mut shared)))
        };
        let images = keys.iter().map(image).collect();
        let blobs = self.blobs.list()?.into_iter().map(Key::Blob);
        let all: Vec<Key> = blobs.chain(self.layers.list()?.into_iter().map(Key::Layer)).collect();
        let foreign: HashSet<Key> = others.keys().collect();
        let mut own = all.iter().filter(|key| users.contains_key(key) || !foreign.contains(*key));
        Ok(Footprint { total: sum(&mut own), images })
    }

    /// Verifies the database, all blobs, all layers and all images; returns what is wrong.
    ///
    /// Reads everything: takes as long as the disk needs. May run beside other operations. A layer whose archive is not
    /// here is not compared.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Database`] if the check itself cannot go on.
    pub fn check(&self, mut on_step: impl FnMut(&Step)) -> Result<Vec<Problem>> {
        let _lease = self.lease();
        let mut problems: Vec<Problem> = self.database.check()?.into_iter().map(Problem::Database).collect();
        let mut broken = HashSet::new();
        for digest in self.blobs.list()? {
            on_step(&Step::Blob(digest.clone()));
            if let Some(found) = self.check_blob(&digest)? {
                broken.insert(digest.clone());
                problems.extend(self.layer_behind(&digest));
                problems.push(Problem::Blob { digest, found });
            }
        }
        self.images.forget_parsed();
        let mut archives: HashMap<Digest, Digest> = HashMap::new();
        for id in self.images.ids() {
            match self.check_image(&id, &mut archives) {
                Ok(()) => {}
                Err(error) => problems.push(Problem::Image { id, problem: base::chain(&error) }),
            }
        }
        for diff_id in self.layers.list()? {
            let Some(blob) = archives.get(&diff_id).filter(|blob| !broken.contains(*blob)) else { continue };
            on_step(&Step::Layer(diff_id.clone()));
            let Ok(mut archive) = self.blobs.open(blob) else { continue };
            let differences = self.layers.compare(&diff_id, &mut archive)?;
            if !differences.is_empty() {
                problems.push(Problem::Layer { diff_id, differences });
            }
        }
        Ok(problems)
    }

    /// Removes what a check found broken, so that it is fetched or unpacked anew. Layers that are mounted must not be
    /// among it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn repair(&self, problems: &[Problem]) -> Result<()> {
        let mut forgotten = Vec::new();
        for problem in problems {
            match problem {
                Problem::Blob { digest, .. } => {
                    self.blobs.remove(digest)?;
                    forgotten.push(Key::Blob(digest.clone()).to_string());
                }
                Problem::Layer { diff_id, .. } => {
                    self.layers.remove(diff_id)?;
                    forgotten.push(Key::Layer(diff_id.clone()).to_string());
                }
                Problem::Database(_) | Problem::Image { .. } => {}
            }
        }
        self.images.forget_parsed();
        self.database.transaction(Durability::Durable, move |transaction| {
            let delete = |key: &String| transaction.delete(crate::content::BUCKET, key).map(drop);
            forgotten.iter().try_for_each(delete)
        })
    }

    /// Returns how much the store holds, and how much of it a collection would free.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn usage(&self, keep: &Keep) -> Result<Usage> {
        let marked = self.marked(keep);
        let mut usage = Usage::default();
        for digest in self.blobs.list()? {
            let size = self.blobs.stored(&digest);
            usage.blobs = (usage.blobs.0 + 1, usage.blobs.1.saturating_add(size));
            if !marked.contains(&Key::Blob(digest)) {
                usage.reclaimable = usage.reclaimable.saturating_add(size);
            }
        }
        for diff_id in self.layers.list()? {
            let size = self.layers.get(&diff_id)?.map_or(0, |layer| layer.size);
            usage.layers = (usage.layers.0 + 1, usage.layers.1.saturating_add(size));
            if !marked.contains(&Key::Layer(diff_id)) {
                usage.reclaimable = usage.reclaimable.saturating_add(size);
            }
        }
        Ok(usage)
    }

    /// Names the layer that a dropped blob is made of: if the blob is wrong, the layer is.
    fn layer_behind(&self, digest: &Digest) -> Option<Problem> {
        let diff_id = Some(digest).filter(|digest| !self.blobs.is_whole(digest));
        let diff_id = diff_id.and_then(|digest| self.blobs.recipes().layer_of(digest))?;
        let what = "is not as in the archive";
        Some(Problem::Layer { diff_id, differences: vec![Difference { path: "a file".to_owned(), what }] })
    }

    /// Returns the digest of what is there if it is not `digest`.
    fn check_blob(&self, digest: &Digest) -> Result<Option<Digest>> {
        let mut file = match self.blobs.open(digest) {
            Err(Error::NoBlob(_)) => return Ok(None),
            // It was made of its layer, which is not what it was.
            Err(Error::WrongDigest { found, .. }) => return Ok(Some(found)),
            outcome => outcome?,
        };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = file.read(&mut buffer).at("read", &self.blobs.path(digest))?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            hasher.update(piece);
        }
        let found = hasher.finish();
        Ok((found != *digest).then_some(found))
    }

    /// Reads the documents of an image; notes which blob is the archive of which layer.
    fn check_image(&self, id: &Digest, archives: &mut HashMap<Digest, Digest>) -> Result<()> {
        let platforms = self.images.platforms(id)?;
        if platforms.is_empty() {
            return Err(Error::Image {
                digest: id.clone(),
                problem: "none of its platforms is here".to_owned(),
            });
        }
        for image in platforms {
            for (layer, diff_id) in image.document.layers.iter().zip(&image.diff_ids) {
                if diff_id.algorithm() == Algorithm::Sha256 {
                    archives.insert(diff_id.clone(), layer.digest.clone());
                }
                if !self.blobs.contains(&layer.digest) && self.layers.get(diff_id)?.is_none() {
                    return Err(Error::NoBlob(layer.digest.clone()));
                }
            }
        }
        Ok(())
    }
}
