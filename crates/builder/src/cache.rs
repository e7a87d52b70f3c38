//! Results of steps by the content they were made of; and folders that outlive builds (`RUN --mount=type=cache`).
//!
//! ```text
//! bucket build         KEY   an entry: the layer, inputs by name, when it was made and used
//! DATA/build/mounts/HEX/     a cache mount: `data`, and `lock` that is held while it is used alone
//! ```
//!
//! An entry is worth only as much as its layer: what a power cut or a collection took away is simply missed. Entries are
//! written relaxed, since a lost one costs time and nothing else. The same key is worked on once at a time, over all
//! builds: the others wait and find it.

use crate::error::{Error, Result};
use oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::{Durability, Store};

const BUCKET: &str = "build";
const SLOTS: &str = "build-slots";
/// The kind of a client's context that stays.
const SOURCE: &str = "source.local";
/// So many of them stay, whatever their size.
const MAX_SOURCES: usize = 64;
/// So many digests of immutable trees are remembered.
const MAX_DIGESTS: usize = 10_000;

/// A result of a step, or a cache mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is of: `regular`, `exec.cachemount` or `source.local`.
    pub kind: String,
    /// The instruction, or the mount's name.
    pub description: String,
    /// The layer; `None` if the step changed no file, or of a mount.
    pub layer: Option<Kept>,
    /// The folder of a mount.
    #[serde(default)]
    pub folder: Option<String>,
    /// The entries whose results it was made on.
    pub parents: Vec<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// Seconds since 1970.
    pub used: i64,
    /// How often.
    pub count: u64,
}

/// A layer that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The stored archive.
    pub archive: Descriptor,
    /// The uncompressed archive's digest.
    pub diff_id: Digest,
}

/// What a step read: names and digests, the most general first.
pub(crate) type Inputs = Vec<(String, String)>;

/// The cache of all builds. Clones share it.
#[derive(Debug, Clone)]
pub struct Cache {
    store: Store,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    /// Keys that are being worked on.
    working: BTreeSet<String>,
    /// Mounts in use.
    mounted: BTreeMap<String, usize>,
    /// The bytes of mounts, with how often each had been used.
    sizes: HashMap<String, (u64, u64)>,
    /// Digests of parts of trees that never change.
    digests: HashMap<String, Digest>,
}

/// What the cache says to a key.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The result is here.
    Here(Found),
    /// It is not, and whoever holds this makes it.
    Work(Claim),
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The layer; `None` if no file was changed.
    pub(crate) layer: Option<Kept>,
    /// When it was made: seconds since 1970.
    pub(crate) created: i64,
}

/// The right to make a result; others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    cache: Cache,
    key: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.cache.state().working.remove(&self.key);
        self.cache.inner.changed.notify_all();
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Cache {
    /// Reads the cache of a store.
    ///
    /// # Errors
    ///
    /// That the database cannot be read. Entries that are not understood are forgotten.
    pub fn open(store: Store) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (key, value) in store.database().scan(BUCKET)? {
            match serde_json::from_slice(&value) {
                Ok(entry) => drop(entries.insert(key, entry)),
                Err(_foreign) => drop(store.database().delete(BUCKET, &key, Durability::Relaxed)?),
            }
        }
        let inner =
            Inner { state: Mutex::new(State { entries, ..State::default() }), changed: Condvar::new() };
        Ok(Self { store, inner: Arc::new(inner) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store that it belongs to.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Asks for a result; waits while somebody else makes it. `fresh` never finds one.
    pub(crate) fn ask(&self, key: &str, fresh: bool, cancel: &crate::Cancel) -> Result<Answer> {
        let mut state = self.state();
        while state.working.contains(key) {
            cancel.check()?;
            let patience = Duration::from_millis(200);
            state =
                self.inner.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let found = state.entries.get(key).cloned().filter(|_| !fresh);
        state.working.insert(key.to_owned());
        drop(state);
        let claim = Claim { cache: self.clone(), key: key.to_owned() };
        if let Some(entry) = found {
            if self.is_whole(&entry)? {
                self.touch(key);
                return Ok(Answer::Here(Found { layer: entry.layer, created: entry.created }));
            }
            self.forget(key)?;
        }
        Ok(Answer::Work(claim))
    }

    /// Says whether an entry's layer is still here. Looking holds it, under the lease of the build.
    fn is_whole(&self, entry: &Entry) -> Result<bool> {
        let Some(kept) = &entry.layer else { return Ok(true) };
        Ok(self.store.layers().get(&kept.diff_id)?.is_some()
            && self.store.blobs().contains(&kept.archive.digest))
    }

    fn touch(&self, key: &str) {
        let mut state = self.state();
        if let Some(entry) = state.entries.get_mut(key) {
            entry.used = now();
            entry.count += 1;
            let entry = entry.clone();
            drop(state);
            // Only when it was used is lost if this is.
            drop(self.save(key, &entry));
        }
    }

    fn save(&self, key: &str, entry: &Entry) -> Result<()> {
        let value = serde_json::to_vec(entry).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(self.store.database().put(BUCKET, key, &value, Durability::Relaxed)?)
    }

    fn forget(&self, key: &str) -> Result<()> {
        let mut state = self.state();
        state.entries.remove(key);
        state.sizes.remove(key);
        drop(state);
        self.store.database().delete(BUCKET, key, Durability::Relaxed)?;
        Ok(())
    }

    /// Keeps a result.
    ///
    /// # Errors
    ///
    /// That the database cannot be written.
    pub(crate) fn keep(
        &self,
        claim: &Claim,
        description: &str,
        parents: Vec<String>,
        layer: Option<Kept>,
    ) -> Result<Found> {
        self.keep_from(claim, description, parents, layer, now())
    }

    /// Keeps a result that was made at another time, elsewhere.
    ///
    /// # Errors
    ///
    /// That the database cannot be written.
    pub(crate) fn keep_from(
        &self,
        claim: &Claim,
        description: &str,
        parents: Vec<String>,
        layer: Option<Kept>,
        created: i64,
    ) -> Result<Found> {
        let entry = Entry {
            kind: "regular".to_owned(),
            description: description.to_owned(),
            layer: layer.clone(),
            folder: None,
            parents,
            created,
            used: now(),
            count: 1,
        };
        self.save(&claim.key, &entry)?;
        self.state().entries.insert(claim.key.clone(), entry);
        Ok(Found { layer, created })
    }

    /// Returns the digest of a part of a tree that never changes, computed at most once.
    pub(crate) fn digest(&self, of: &str, compute: impl FnOnce() -> Result<Digest>) -> Result<Digest> {
        if let Some(known) = self.state().digests.get(of).cloned() {
            return Ok(known);
        }
        let digest = compute()?;
        let mut state = self.state();
        if state.digests.len() >= MAX_DIGESTS {
            state.digests.clear();
        }
        state.digests.insert(of.to_owned(), digest.clone());
        Ok(digest)
    }

    /// Says what differs from the last time that this place of a Dockerfile was built, and notes this time.
    pub(crate) fn difference(&self, slot: &str, inputs: &Inputs) -> Option<String> {
        let database = self.store.database();
        let before = database.get(SLOTS, slot).ok().flatten();
        if let Ok(value) = serde_json::to_vec(inputs) {
            drop(database.put(SLOTS, slot, &value, Durability::Relaxed));
        }
        let Some(before) = before else { return Some("it has not been built before".to_owned()) };
        let before: Inputs = serde_json::from_slice(&before).ok()?;
        first_difference(&before, inputs)
    }

    /// Returns all entries by key, with whether each is in use now.
    pub fn list(&self) -> Vec<(String, Entry, bool)> {
        let state = self.state();
        let used = |key: &String| state.working.contains(key) || state.mounted.contains_key(key);
        state.entries.iter().map(|(key, entry)| (key.clone(), entry.clone(), used(key))).collect()
    }

    /// The bytes of an entry. Those of a mount are counted when it was used since the last time.
    pub fn size(&self, key: &str, entry: &Entry) -> u64 {
        match (&entry.layer, &entry.folder) {
            (Some(kept), _) => {
                self.store.layers().get(&kept.diff_id).ok().flatten().map_or(0, |layer| layer.size)
            }
            (None, Some(folder)) => self.mount_size(key, entry.count, folder),
            (None, None) => 0,
        }
    }

    fn mount_size(&self, key: &str, count: u64, folder: &str) -> u64 {
        let (known, in_use) = {
            let state = self.state();
            (state.sizes.get(key).copied(), state.mounted.contains_key(key))
        };
        match known {
            Some((of, bytes)) if of == count => return bytes,
            _ => {}
        }
        let bytes = store::snapshots::usage(&self.folder(folder)).unwrap_or(0);
        if !in_use {
            self.state().sizes.insert(key.to_owned(), (count, bytes));
        }
        bytes
    }

    /// What the garbage collector leaves alone for the cache's sake.
    pub fn kept(&self) -> store::Keep {
        let state = self.state();
        let layers = state.entries.values().filter_map(|entry| entry.layer.as_ref());
        let (mut keep, mut seen) = (store::Keep::default(), BTreeSet::new());
        for kept in layers {
            if seen.insert(kept.diff_id.clone()) {
                keep.layers.push(kept.diff_id.clone());
                keep.blobs.push(kept.archive.digest.clone());
            }
        }
        keep
    }

    /// Forgets entries that are not in use; mounts are deleted. Layers go with the next collection.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn remove(&self, keys: &[String]) -> Result<()> {
        for key in keys {
            let (entry, used) = {
                let state = self.state();
                let Some(entry) = state.entries.get(key).cloned() else { continue };
                (entry, state.working.contains(key) || state.mounted.contains_key(key))
            };
            if used {
                continue;
            }
            self.forget(key)?;
            if let Some(folder) = entry.folder {
                self.store.discard(&self.folder(&folder))?;
            }
        }
        Ok(())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.store.paths().build().join("mounts").join(name)
    }

    /// Returns the folder of a cache mount, made if it is not there, for as long as the guard lives.
    ///
    /// `alone` waits until nobody else uses it; `private` gives a folder that nobody else uses at all.
    ///
    /// # Errors
    ///
    /// That it cannot be made; [`Error::Cancelled`].
    pub(crate) fn mount(
        &self,
        id: &str,
        alone: bool,
        private: bool,
        cancel: &crate::Cancel,
    ) -> Result<Mounted> {
        let name = format!("cached mount {id}");
        self.folder_of(id, ("exec.cachemount", &name), alone, private, cancel)
    }

    /// Returns the folder of a client's context that no other build uses.
    ///
    /// # Errors
    ///
    /// That it cannot be made.
    pub(crate) fn source_folder(&self, id: &str) -> Result<Mounted> {
        let id = format!("\0source\0{id}");
        let name = (SOURCE, "local source for context");
        let folder = self.folder_of(&id, name, false, true, &crate::Cancel::default())?;
        let state = self.state();
        let all = state.entries.iter().filter(|(_, entry)| entry.kind == SOURCE);
        let mut oldest: Vec<(i64, String)> = all.map(|(key, entry)| (entry.used, key.clone())).collect();
        drop(state);
        oldest.sort();
        oldest.truncate(oldest.len().saturating_sub(MAX_SOURCES));
        // One in use stays.
        let keys: Vec<String> = oldest.into_iter().map(|(_, key)| key).collect();
        self.remove(&keys)?;
        Ok(folder)
    }

    fn folder_of(
        &self,
        id: &str,
        (kind, description): (&str, &str),
        alone: bool,
        private: bool,
        cancel: &crate::Cancel,
    ) -> Result<Mounted> {
        let mut number = 0;
        let mut state = self.state();
        let (key, name) = loop {
            let text = if number == 0 { id.to_owned() } else { format!("{id}\0{number}") };
            let hex = Digest::sha256_of(text.as_bytes()).hex().to_owned();
            let key = format!("mount-{hex}");
            let users = state.mounted.get(&key).copied().unwrap_or(0);
            if users == 0 || !(alone || private) {
                break (key, hex);
            }
            if private {
                number += 1;
                continue;
            }
            cancel.check()?;
            let patience = Duration::from_millis(200);
            state =
                self.inner.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        };
        *state.mounted.entry(key.clone()).or_default() += 1;
        let known = state.entries.contains_key(&key);
        drop(state);
        let mounted =
            Mounted { cache: self.clone(), key: key.clone(), folder: self.folder(&name), is_new: !known };
        std::fs::create_dir_all(&mounted.folder).map_err(Error::file("create", &mounted.folder))?;
        if known {
            self.touch(&key);
        } else {
            let time = now();
            let entry = Entry {
                kind: kind.to_owned(),
                description: description.to_owned(),
                layer: None,
                folder: Some(name),
                parents: Vec::new(),
                created: time,
                used: time,
                count: 1,
            };
            self.save(&key, &entry)?;
            self.state().entries.insert(key, entry);
        }
        Ok(mounted)
    }
}

/// A cache mount in use.
#[derive(Debug)]
pub(crate) struct Mounted {
    cache: Cache,
    key: String,
    /// Where it is.
    pub(crate) folder: PathBuf,
    /// Whether it was made just now.
    pub(crate) is_new: bool,
}

impl Mounted {
    /// What is in it is what was in it when it was counted.
    pub(crate) fn has_not_changed(&self) {
        let mut state = self.cache.state();
        let count = state.entries.get(&self.key).map(|entry| entry.count);
        if let (Some(count), Some(size)) = (count, state.sizes.get_mut(&self.key)) {
            size.0 = count;
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut state = self.cache.state();
        if let Some(users) = state.mounted.get_mut(&self.key) {
            *users -= 1;
            if *users == 0 {
                state.mounted.remove(&self.key);
            }
        }
        drop(state);
        self.cache.inner.changed.notify_all();
    }
}

/// Names the first input that is not as it was.
fn first_difference(before: &Inputs, now: &Inputs) -> Option<String> {
    for (name, value) in now {
        match before.iter().find(|(other, _)| other == name) {
            None => return Some(format!("{name} is new")),
            Some((_, old)) if old != value => return Some(format!("{name} changed")),
            Some(_) => {}
        }
    }
    let gone = before.iter().find(|(name, _)| !now.iter().any(|(other, _)| other == name));
    gone.map(|(name, _)| format!("{name} is gone"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;
    use base::paths::DataPaths;

    fn cache() -> (Scratch, Cache) {
        let scratch = Scratch::new();
        let store = Store::open(&DataPaths::new(scratch.path().join("data"))).unwrap();
        let cache = Cache::open(store).unwrap();
        (scratch, cache)
    }

    #[test]
    fn a_key_is_worked_on_once() {
        let (_scratch, cache) = cache();
        let cancel = crate::Cancel::default();
        let Answer::Work(claim) = cache.ask("k", false, &cancel).unwrap() else {
            panic!("nothing is here yet")
        };
        let other = {
            let (cache, cancel) = (cache.clone(), cancel.clone());
            std::thread::spawn(move || {
                matches!(cache.ask("k", false, &cancel), Ok(Answer::Here(Found { layer: None, .. })))
            })
        };
        cache.keep(&claim, "RUN x", Vec::new(), None).unwrap();
        drop(claim);
        assert!(other.join().unwrap());
        assert_eq!(cache.list()[0].1.count, 2);
        let again = Cache::open(cache.store().clone()).unwrap();
        assert_eq!(again.list().len(), 1);
        assert!(matches!(again.ask("k", true, &cancel), Ok(Answer::Work(_))));
        again.remove(&["k".to_owned()]).unwrap();
        assert!(again.list().is_empty());
    }

    #[test]
    fn a_result_without_its_layer_is_missed() {
        let (_scratch, cache) = cache();
        let cancel = crate::Cancel::default();
        let Answer::Work(claim) = cache.ask("k", false, &cancel).unwrap() else {
            panic!("nothing is here yet")
        };
        let digest = Digest::sha256_of(b"x");
        let kept = Kept { archive: Descriptor::new("x", digest.clone(), 1), diff_id: digest };
        cache.keep(&claim, "RUN x", Vec::new(), Some(kept)).unwrap();
        drop(claim);
        assert_eq!(cache.kept().layers.len(), 1);
        assert!(matches!(cache.ask("k", false, &cancel), Ok(Answer::Work(_))));
        assert!(cache.kept().layers.is_empty());
    }

    #[test]
    fn mounts_are_shared_locked_or_private() {
        let (_scratch, cache) = cache();
        let cancel = crate::Cancel::default();
        let first = cache.mount("id", false, false, &cancel).unwrap();
        assert!(first.is_new);
        let second = cache.mount("id", false, false, &cancel).unwrap();
        assert_eq!((&first.folder, second.is_new), (&second.folder, false));
        let private = cache.mount("id", false, true, &cancel).unwrap();
        assert_ne!(private.folder, first.folder);
        drop((first, second));
        let locked = cache.mount("id", true, false, &cancel).unwrap();
        let canceller = cancel.clone();
        canceller.cancel();
        assert!(cache.mount("id", true, false, &cancel).is_err());
        drop(locked);
    }

    #[test]
    fn the_first_difference_is_named() {
        let inputs = |pairs: &[(&str, &str)]| -> Inputs {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let before = inputs(&[("base", "1"), ("file a", "2"), ("argument X", "3")]);
        for (now, expect) in [
            (inputs(&[("base", "1"), ("file a", "2"), ("argument X", "3")]), None),
            (inputs(&[("base", "1"), ("file a", "9"), ("argument X", "9")]), Some("file a changed")),
            (inputs(&[("base", "1"), ("file b", "2")]), Some("file b is new")),
            (inputs(&[("base", "1"), ("file a", "2")]), Some("argument X is gone")),
        ] {
            assert_eq!(first_difference(&before, &now).as_deref(), expect);
        }
    }
}
