//! Image records: which images there are, and what they are called.
//!
//! An image is known by the digest of its target, a manifest or an index (as in Docker's containerd image store);
//! names point to it. An image without a name is *dangling* and stays until it is removed. An index is kept whole
//! and shows as the best of its platforms whose content is here.
//!
//! Recording an image is the step that makes it real: the file system is synced if any of its content has not been,
//! then records and names are committed durably, together.
//!
//! ```text
//! bucket images   DIGEST       {"target": descriptor, "added": nanoseconds}
//! bucket names    REFERENCE    {"digest": DIGEST, "tagged": nanoseconds}
//! bucket content  KIND/DIGEST  empty: has reached the disk
//! ```

use crate::blobs::Blobs;
use crate::content::{self, Content, Key};
use crate::database::{Database, Durability};
use crate::error::{Error, Result};
use crate::layers::Layers;
use crate::workspace::Workspace;
use base::Timestamp;
use oci::{Descriptor, Digest, Document, ImageConfig, Manifest, Platform, Reference};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

const IMAGES: &str = "images";
const NAMES: &str = "names";
/// A manifest or index may have so many bytes, as in Docker's registry client.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// An image configuration may have so many bytes.
pub const MAX_CONFIG: u64 = 16 << 20;
/// How deep indexes may be within one another: an index, one in it, and one in that.
pub const MAX_NESTING: usize = 3;
/// The fewest digits that name an image by its beginning, as in Docker.
const MIN_PREFIX: usize = 4;
/// Layers unpacked at a time.
const PARALLEL: usize = 3;

/// An image, seen as one of its platforms.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The manifest or index; its digest is the image's ID.
    pub target: Descriptor,
    /// The manifest of the platform; the target itself if that is no index.
    pub manifest: Descriptor,
    /// The content of the manifest.
    pub document: Arc<Manifest>,
    /// What it runs on, as its configuration says.
    pub platform: Platform,
    /// Its configuration.
    pub config: Arc<ImageConfig>,
    /// The digest of its configuration.
    pub config_digest: Digest,
    /// Its layers, base first.
    pub diff_ids: Vec<Digest>,
    /// Its names with a tag, in order.
    pub names: Vec<Reference>,
    /// `REPOSITORY@DIGEST` for each repository it has a name in.
    pub repo_digests: Vec<Reference>,
    /// The bytes of manifest, configuration and layers as they were downloaded.
    pub content_size: u64,
    /// The bytes of its unpacked files, `None` until all layers are unpacked.
    pub unpacked_size: Option<u64>,
    /// When it was made, from its configuration.
    pub created: Option<Timestamp>,
    /// When it last got a name or was added.
    pub tagged: Timestamp,
}

impl Image {
    /// Returns the image's ID.
    pub fn id(&self) -> &Digest {
        &self.target.digest
    }

    /// Returns the size to show: of the unpacked files if that is known, else of the downloaded content.
    pub fn size(&self) -> u64 {
        self.unpacked_size.unwrap_or(self.content_size)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    target: Descriptor,
    added: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Name {
    digest: Digest,
    tagged: i64,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<Digest, Record>,
    names: BTreeMap<Reference, Name>,
    /// Parsed documents, by target and the platform asked for. Emptied with every change.
    parsed: HashMap<(Digest, Option<Platform>), Arc<Parsed>>,
}

/// What the documents of an image say.
#[derive(Debug)]
struct Parsed {
    manifest: Descriptor,
    document: Arc<Manifest>,
    platform: Platform,
    config: Arc<ImageConfig>,
}

/// The images of a store.
#[derive(Debug, Clone)]
pub struct Images {
    database: Database,
    blobs: Blobs,
    layers: Layers,
    workspace: Arc<Workspace>,
    content: Arc<Content>,
    state: Arc<Mutex<State>>,
}

impl Images {
    pub(crate) fn open(
        database: Database,
        blobs: Blobs,
        layers: Layers,
        workspace: Arc<Workspace>,
        content: Arc<Content>,
    ) -> Result<Self> {
        let mut state = State::default();
        for (key, value) in database.scan(IMAGES)? {
            let record: Record = parse(IMAGES, &key, &value)?;
            state.images.insert(record.target.digest.clone(), record);
        }
        for (key, value) in database.scan(NAMES)? {
            state.names.insert(Reference::parse_normalized(&key)?, parse(NAMES, &key, &value)?);
        }
        Ok(Self { database, blobs, layers, workspace, content, state: Arc::new(Mutex::new(state)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an image under a name, durably. Returns the image that had the name before, if that was another one;
    /// it is dangling now if this was its only name.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] if the target is not here, [`Error::Image`] if it does not parse, [`Error::Io`] if it cannot
    /// be synced; then nothing has changed.
    pub fn tag(&self, name: &Reference, target: &Descriptor) -> Result<Option<Digest>> {
        let previous = self.resolve(name).map(|previous| previous.digest);
        self.record(target, std::slice::from_ref(name))?;
        Ok(previous.filter(|previous| *previous != target.digest))
    }

    /// Records an image without giving it a name, durably.
    ///
    /// # Errors
    ///
    /// As for [`Images::tag`].
    pub fn add(&self, target: &Descriptor) -> Result<()> {
        self.record(target, &[])
    }

    /// Records an image and its names in one step, durably.
    ///
    /// # Errors
    ///
    /// As for [`Images::tag`].
    pub fn record(&self, target: &Descriptor, names: &[Reference]) -> Result<()> {
        // Syncing takes its time: others go on meanwhile. What came since is synced under the lock.
        let synced = self.sync(target, &[])?;
        let _references = self.content.references.lock().unwrap_or_else(PoisonError::into_inner);
        let unsafe_keys = self.sync(target, &synced)?;
        let now = now();
        let added = self.state().images.get(&target.digest).map_or(now, |record| record.added);
        let mut plain = target.clone();
        // Where it was found says nothing about what it is.
        plain.annotations.clear();
        let record = Record { target: plain, added };
        let name = Name { digest: target.digest.clone(), tagged: now };
        let names: Vec<Reference> = names.iter().map(stored_name).collect();
        let mut puts = vec![(IMAGES, target.digest.to_string(), print(&record)?)];
        for reference in &names {
            puts.push((NAMES, reference.to_string(), print(&name)?));
        }
        puts.extend(unsafe_keys.iter().map(|key| (content::BUCKET, key.to_string(), Vec::new())));
        crate::error::failpoint("store.image.record")?;
        self.database.transaction(Durability::Durable, move |transaction| {
            puts.iter().try_for_each(|(bucket, key, value)| transaction.put(bucket, key, value))
        })?;
        self.content.add_safe(unsafe_keys);
        let mut state = self.state();
        state.images.insert(target.digest.clone(), record);
        state.names.extend(names.into_iter().map(|reference| (reference, name.clone())));
        state.parsed.clear();
        drop(state);
        self.content.tell_recorded();
        Ok(())
    }

    /// Syncs the file system if any content of `target` is neither safe nor `synced`; returns all that is not safe.
    fn sync(&self, target: &Descriptor, synced: &[Key]) -> Result<Vec<Key>> {
        let keys: Vec<Key> = self.reachable(target)?.into_iter().collect();
        let unsafe_keys = self.content.not_safe(&keys);
        if unsafe_keys.iter().any(|key| !synced.contains(key)) {
            crate::error::failpoint("store.image.sync")?;
            self.workspace.sync()?;
        }
        Ok(unsafe_keys)
    }

    /// Takes a name away, durably; says whether it was there. The image stays.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn untag(&self, name: &Reference) -> Result<bool> {
        let name = stored_name(name);
        self.database.delete(NAMES, &name.to_string(), Durability::Durable)?;
        Ok(self.state().names.remove(&name).is_some())
    }

    /// Forgets an image with all its names, durably; says whether it was there. Its content goes with the next
    /// collection.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn remove(&self, id: &Digest) -> Result<bool> {
        let _references = self.content.references.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<Reference> = {
            let state = self.state();
            let own = state.names.iter().filter(|(_, name)| name.digest == *id);
            own.map(|(reference, _)| reference.clone()).collect()
        };
        let (key, keys) = (id.to_string(), names.iter().map(Reference::to_string).collect::<Vec<_>>());
        self.database.transaction(Durability::Durable, move |transaction| -> Result<()> {
            transaction.delete(IMAGES, &key)?;
            keys.iter().try_for_each(|key| transaction.delete(NAMES, key).map(drop))
        })?;
        let mut state = self.state();
        for name in names {
            state.names.remove(&name);
        }
        state.parsed.clear();
        Ok(state.images.remove(id).is_some())
    }

    /// Returns what a name stands for.
    pub fn resolve(&self, name: &Reference) -> Option<Descriptor> {
        let state = self.state();
        let name = state.names.get(&stored_name(name))?;
        state.images.get(&name.digest).map(|record| record.target.clone())
    }

    /// Returns the image with this ID, as the host's platform if it has that, else as the first one it has.
    ///
    /// # Errors
    ///
    /// [`Error::NoImage`]; [`Error::NoBlob`] and [`Error::Image`] if its content is damaged.
    pub fn get(&self, id: &Digest) -> Result<Image> {
        self.image(id, None, &id.to_string())
    }

    /// Returns the image that a user means: by name, by ID, by the beginning of an ID (four digits or more), or by
    /// the digest of its configuration.
    ///
    /// # Errors
    ///
    /// [`Error::NoImage`], [`Error::Ambiguous`], [`Error::Reference`].
    pub fn find(&self, text: &str) -> Result<Image> {
        self.image(&self.find_id(text)?, None, text)
    }

    /// Returns the image that a user means, as `platform`.
    ///
    /// # Errors
    ///
    /// As for [`Images::find`], and [`Error::NoPlatform`].
    pub fn find_for(&self, text: &str, platform: &Platform) -> Result<Image> {
        self.image(&self.find_id(text)?, Some(platform), text)
    }

    /// Returns the ID of the image that a user means.
    ///
    /// # Errors
    ///
    /// As for [`Images::find`].
    pub fn find_id(&self, text: &str) -> Result<Digest> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if let Ok(digest) = Digest::parse(&format!("sha256:{hex}"))
            && is_hex
        {
            return self.by_digest(&digest).ok_or_else(|| Error::NoImage(text.to_owned()));
        }
        let reference = Reference::parse_normalized(text);
        if let Ok(reference) = &reference {
            let reference = reference.clone().with_default_tag();
            if let Some(id) = self.by_name(&reference) {
                return Ok(id);
            }
        }
        if is_hex && hex.len() >= MIN_PREFIX && hex.len() < 64 {
            let state = self.state();
            let mut found = state.images.keys().filter(|digest| digest.hex().starts_with(hex));
            match (found.next(), found.next()) {
                (Some(id), None) => return Ok(id.clone()),
                (Some(_), Some(_)) => return Err(Error::Ambiguous(text.to_owned())),
                (None, _) => {}
            }
        }
        let shown = reference?.with_default_tag().familiar();
        Err(Error::NoImage(shown))
    }

    fn by_digest(&self, digest: &Digest) -> Option<Digest> {
        let ids: Vec<Digest> = {
            let state = self.state();
            if state.images.contains_key(digest) {
                return Some(digest.clone());
            }
            state.images.keys().cloned().collect()
        };
        let has = |id: &Digest| self.get(id).is_ok_and(|image| image.config_digest == *digest);
        ids.into_iter().find(has)
    }

    fn by_name(&self, reference: &Reference) -> Option<Digest> {
        let state = self.state();
        if let Some(name) = state.names.get(&stored_name(reference)) {
            return Some(name.digest.clone());
        }
        // `repository@digest` is any image of that repository with that digest.
        let digest = reference.digest().filter(|digest| state.images.contains_key(*digest))?;
        let same = |(name, target): (&Reference, &Name)| {
            target.digest == *digest && name.domain() == reference.domain() && name.path() == reference.path()
        };
        state.names.iter().any(same).then(|| digest.clone())
    }

    /// Returns all images, in the order of their IDs. Those whose content is not here are left out.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn list(&self) -> Result<Vec<Image>> {
        Ok(self.ids().iter().filter_map(|id| self.get(id).ok()).collect())
    }

    /// Returns the IDs of all images, also of those whose content is damaged.
    pub fn ids(&self) -> Vec<Digest> {
        self.state().images.keys().cloned().collect()
    }

    /// Forgets one platform of an index: its manifest goes, and its content with the next collection unless others
    /// need it. Does nothing if another image has the same manifest; says whether it did something.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and those of the database.
    pub fn drop_platform(&self, id: &Digest, manifest: &Digest) -> Result<bool> {
        let key = Key::Blob(manifest.clone());
        let others = self.ids().into_iter().filter(|other| other != id);
        let mut targets = others.filter_map(|other| self.target(&other));
        if targets.any(|target| self.reachable_anyway(&target).contains(&key)) {
            return Ok(false);
        }
        self.blobs.remove(manifest)?;
        self.forget_parsed();
        let name = key.to_string();
        self.database.transaction(Durability::Durable, move |transaction| {
            transaction.delete(content::BUCKET, &name).map(drop)
        })?;
        Ok(true)
    }

    /// Returns all names that an image has, also if its documents cannot be read.
    pub fn names_of(&self, id: &Digest) -> Vec<Reference> {
        let state = self.state();
        state.names.iter().filter(|(_, name)| name.digest == *id).map(|(name, _)| name.clone()).collect()
    }

    /// Returns the target of an image by its ID.
    pub fn target(&self, id: &Digest) -> Option<Descriptor> {
        self.state().images.get(id).map(|record| record.target.clone())
    }

    /// Returns the tagged names in the repository of `name`, with what they stand for.
    pub fn tags(&self, name: &Reference) -> Vec<(Reference, Descriptor)> {
        let state = self.state();
        let same = |other: &Reference| other.domain() == name.domain() && other.path() == name.path();
        let tagged = state.names.iter().filter(|(other, _)| other.tag().is_some() && same(other));
        tagged
            .filter_map(|(other, name)| {
                let record = state.images.get(&name.digest)?;
                Some((other.clone(), record.target.clone()))
            })
            .collect()
    }

    /// Returns what a manifest or index that need not be recorded looks like on this host.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`], [`Error::Image`].
    pub fn view(&self, target: &Descriptor) -> Result<Image> {
        let parsed = self.choose(target, None, &target.digest.to_string())?;
        self.assemble(target, &parsed)
    }

    /// Returns every platform of an image whose content is here.
    ///
    /// # Errors
    ///
    /// [`Error::NoImage`], [`Error::NoBlob`], [`Error::Image`].
    pub fn platforms(&self, id: &Digest) -> Result<Vec<Image>> {
        let target = self.target(id).ok_or_else(|| Error::NoImage(id.to_string()))?;
        let mut candidates = Vec::new();
        self.candidates(&target, MAX_NESTING, &mut candidates)?;
        candidates.into_iter().map(|parsed| self.assemble(&target, &parsed)).collect()
    }

    /// Unpacks those layers of an image that are not unpacked yet; returns the directories for overlayfs, topmost
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] if a layer was not downloaded, and those of [`Layers::unpack`].
    pub fn unpack(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let mut missing: Vec<(&Descriptor, &Digest)> = Vec::new();
        for (layer, diff_id) in image.document.layers.iter().zip(&image.diff_ids) {
            if self.layers.get(diff_id)?.is_none() && !missing.iter().any(|(_, other)| *other == diff_id) {
                missing.push((layer, diff_id));
            }
        }
        let queue = Mutex::new(missing.into_iter());
        let work = || -> Result<()> {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((layer, diff_id)) = next else { return Ok(()) };
                self.layers.unpack(&mut self.blobs.open(&layer.digest)?, diff_id)?;
            }
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..PARALLEL).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = helpers.into_iter().map(|helper| helper.join().unwrap_or(Err(Error::Cancelled)));
            others.chain([own]).collect::<Result<()>>()
        })?;
        self.layers.lower_dirs(&image.diff_ids)
    }

    fn image(&self, id: &Digest, platform: Option<&Platform>, shown: &str) -> Result<Image> {
        let (target, known) = {
            let state = self.state();
            let record = state.images.get(id).ok_or_else(|| Error::NoImage(shown.to_owned()))?;
            (record.target.clone(), state.parsed.get(&(id.clone(), platform.cloned())).cloned())
        };
        let parsed = match known {
            Some(parsed) => parsed,
            None => {
                let parsed = Arc::new(self.choose(&target, platform, shown)?);
                let key = (id.clone(), platform.cloned());
                self.state().parsed.insert(key, Arc::clone(&parsed));
                parsed
            }
        };
        self.assemble(&target, &parsed)
    }

    /// Reads the documents of the platform that fits best.
    fn choose(&self, target: &Descriptor, platform: Option<&Platform>, shown: &str) -> Result<Parsed> {
        let mut candidates = Vec::new();
        self.candidates(target, MAX_NESTING, &mut candidates)?;
        let host = Platform::host();
        let wanted = platform.unwrap_or(&host);
        let rank = |parsed: &Parsed| match (wanted.preference(&parsed.platform), platform) {
            (Some(rank), _) => Some(rank),
            // Not what runs here, but all there is.
            (None, None) => Some(usize::MAX),
            (None, Some(_)) => None,
        };
        let ranked = candidates.into_iter().filter_map(|parsed| rank(&parsed).map(|rank| (rank, parsed)));
        let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, parsed)| parsed);
        best.ok_or_else(|| match platform {
            Some(platform) => Error::NoPlatform { name: shown.to_owned(), platform: platform.to_string() },
            None => Error::NoBlob(target.digest.clone()),
        })
    }

    /// Collects the platforms of a target whose manifest and configuration are here.
    fn candidates(&self, target: &Descriptor, depth: usize, found: &mut Vec<Parsed>) -> Result<()> {
        match self.document(target)? {
            Document::Manifest(document) => {
                found.extend(self.parse_image(target, *document)?);
                Ok(())
            }
            Document::Index(index) => {
                let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
                let entries = index.manifests.iter().filter(|entry| !entry.is_attestation());
                for entry in entries.filter(|entry| self.blobs.contains(&entry.digest)) {
                    self.candidates(entry, depth, found)?;
                }
                Ok(())
            }
        }
    }

    fn document(&self, target: &Descriptor) -> Result<Document> {
        let bytes = self.blobs.read(&target.digest, MAX_MANIFEST)?;
        Document::parse(&target.media_type, &bytes)
            .map_err(|problem| Error::Image { digest: target.digest.clone(), problem: base::chain(&problem) })
    }

    /// Reads the configuration of a manifest; `None` if that is not here or not that of an image.
    fn parse_image(&self, manifest: &Descriptor, document: Manifest) -> Result<Option<Parsed>> {
        if !oci::media_type::is_config(&document.config.media_type)
            || !self.blobs.contains(&document.config.digest)
        {
            return Ok(None);
        }
        let digest = &document.config.digest;
        let wrong = |problem: String| Error::Image { digest: digest.clone(), problem };
        let bytes = self.blobs.read(digest, MAX_CONFIG)?;
        let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if config.rootfs.diff_ids.len() != document.layers.len() {
            return Err(wrong(format!(
                "the configuration has {} layers, the manifest {}",
                config.rootfs.diff_ids.len(),
                document.layers.len()
            )));
        }
        let mut plain = manifest.clone();
        plain.annotations.clear();
        Ok(Some(Parsed {
            manifest: plain,
            platform: config.platform(),
            document: Arc::new(document),
            config: Arc::new(config),
        }))
    }

    fn assemble(&self, target: &Descriptor, parsed: &Parsed) -> Result<Image> {
        let id = &target.digest;
        let (names, mut repo_digests, tagged) = {
            let state = self.state();
            let own: Vec<_> = state.names.iter().filter(|(_, name)| name.digest == *id).collect();
            let added = state.images.get(id).map_or(0, |record| record.added);
            let tagged = own.iter().map(|(_, name)| name.tagged).fold(added, i64::max);
            let names = own.iter().filter(|(name, _)| name.tag().is_some());
            let names: Vec<Reference> = names.map(|(name, _)| (*name).clone()).collect();
            let digests: Vec<_> = own.iter().map(|(name, _)| name.with_digest(id)).collect();
            (names, digests, tagged)
        };
        repo_digests.dedup();
        let document = &parsed.document;
        let layers: u64 = document.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        let diff_ids = parsed.config.rootfs.diff_ids.clone();
        let mut unpacked_size = Some(0_u64);
        for diff_id in &diff_ids {
            let layer = self.layers.get(diff_id)?;
            unpacked_size = unpacked_size.zip(layer).map(|(sum, layer)| sum.saturating_add(layer.size));
        }
        Ok(Image {
            target: target.clone(),
            manifest: parsed.manifest.clone(),
            platform: parsed.platform.clone(),
            config_digest: document.config.digest.clone(),
            content_size: layers.saturating_add(document.config.size).saturating_add(parsed.manifest.size),
            created: parsed.config.created.as_deref().and_then(Timestamp::parse),
            config: Arc::clone(&parsed.config),
            document: Arc::clone(document),
            tagged: Timestamp::from_nanos(tagged),
            diff_ids,
            names,
            repo_digests,
            unpacked_size,
        })
    }

    /// Everything that an image consists of, as far as it is here.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] if the target itself is not here, [`Error::Image`] if a document does not parse.
    pub(crate) fn reachable(&self, target: &Descriptor) -> Result<BTreeSet<Key>> {
        let mut keys = BTreeSet::new();
        self.reach(target, MAX_NESTING, &mut keys)?;
        Ok(keys)
    }

    /// As [`Images::reachable`], but goes on behind what is damaged.
    pub(crate) fn reachable_anyway(&self, target: &Descriptor) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        // What was found before the damage counts; the damage itself shows when the image is used or checked.
        self.reach(target, MAX_NESTING, &mut keys).ok();
        keys
    }

    fn reach(&self, target: &Descriptor, depth: usize, keys: &mut BTreeSet<Key>) -> Result<()> {
        let document = self.document(target)?;
        keys.insert(Key::Blob(target.digest.clone()));
        match document {
            Document::Index(index) => {
                let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
                let here = |entry: &&Descriptor| self.blobs.contains(&entry.digest);
                index.manifests.iter().filter(here).try_for_each(|entry| self.reach(entry, depth, keys))
            }
            Document::Manifest(manifest) => {
                for content in manifest.layers.iter().chain([&manifest.config]) {
                    if self.blobs.contains(&content.digest) {
                        keys.insert(Key::Blob(content.digest.clone()));
                    }
                }
                if let Some(parsed) = self.parse_image(target, *manifest)? {
                    for diff_id in &parsed.config.rootfs.diff_ids {
                        if self.layers.get(diff_id)?.is_some() {
                            keys.insert(Key::Layer(diff_id.clone()));
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// Forgets what was parsed: content has come or gone.
    pub(crate) fn forget_parsed(&self) {
        self.state().parsed.clear();
    }
}

/// The form under which a name is kept: a digest says more than a tag beside it.
fn stored_name(name: &Reference) -> Reference {
    match name.digest() {
        Some(digest) => name.with_digest(digest),
        None => name.clone().with_default_tag(),
    }
}

fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
}

fn parse<T: for<'de> Deserialize<'de>>(bucket: &str, key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|source| Error::Record {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        source,
    })
}

fn print<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Record {
        bucket: IMAGES.to_owned(),
        key: String::new(),
        source,
    })
}
