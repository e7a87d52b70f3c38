//! What is known about blobs and layers beyond their bytes: which of them have reached the disk, and which must not be
//! collected yet.
//!
//! Content becomes visible by a rename before anybody has synced it. So it counts as *safe* only once an operation
//! synced the file system and recorded that; whatever else a power cut leaves may be torn, and is removed when the
//! store is opened after another boot. Content that was made or asked for since the oldest [`Lease`] was taken is
//! *held*: garbage collection leaves it alone though nothing refers to it yet.

use oci::Digest;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// The bucket with a record for each piece of content that has reached the disk.
pub(crate) const BUCKET: &str = "content";

/// A piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Blob(Digest),
    Layer(Digest),
}

impl Key {
    /// Parses what `Display` prints.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, digest) = text.split_once('/')?;
        let digest = Digest::parse(digest).ok()?;
        match kind {
            "blob" => Some(Self::Blob(digest)),
            "layer" => Some(Self::Layer(digest)),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob/{digest}"),
            Self::Layer(digest) => write!(f, "layer/{digest}"),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    clock: u64,
    /// When a lease was taken, and how many at that time.
    leases: BTreeMap<u64, usize>,
    /// When content was last made or asked for; only kept while there are leases.
    touched: HashMap<Key, u64>,
    safe: HashSet<Key>,
}

/// Shared by all parts of the store.
#[derive(Debug, Default)]
pub(crate) struct Content {
    state: Mutex<State>,
    /// Held while references are made or unreferenced content is taken away. Taken before `state`.
    pub(crate) references: Mutex<()>,
    /// Woken when an image was recorded.
    pub(crate) recorded: Mutex<Option<Sender<()>>>,
}

impl Content {
    pub(crate) fn new(safe: HashSet<Key>) -> Self {
        Self {
            state: Mutex::new(State { safe, ..State::default() }),
            references: Mutex::default(),
            recorded: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody made `key` or found it here.
    pub(crate) fn touch(&self, key: Key) {
        let mut state = self.state();
        if !state.leases.is_empty() {
            let now = state.clock;
            state.touched.insert(key, now);
        }
    }

    pub(crate) fn is_held(&self, key: &Key) -> bool {
        let state = self.state();
        let Some((oldest, _)) = state.leases.first_key_value() else { return false };
        state.touched.get(key).is_some_and(|touched| touched >= oldest)
    }

    /// Those of `keys` that are not known to have reached the disk.
    pub(crate) fn not_safe(&self, keys: &[Key]) -> Vec<Key> {
        let state = self.state();
        keys.iter().filter(|key| !state.safe.contains(*key)).cloned().collect()
    }

    pub(crate) fn add_safe(&self, keys: Vec<Key>) {
        self.state().safe.extend(keys);
    }

    /// Tells that an image was recorded.
    pub(crate) fn tell_recorded(&self) {
        if let Some(recorded) = &*self.recorded.lock().unwrap_or_else(PoisonError::into_inner) {
            // Whoever listened is gone.
            recorded.send(()).ok();
        }
    }

    pub(crate) fn forget(&self, key: &Key) {
        let mut state = self.state();
        state.safe.remove(key);
        state.touched.remove(key);
    }

    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        let mut state = self.state();
        state.clock += 1;
        let start = state.clock;
        *state.leases.entry(start).or_default() += 1;
        Lease { content: Arc::clone(self), start }
    }
}

/// Keeps content that is made or asked for from now on out of the garbage collector's way, until dropped.
///
/// Whoever pulls, loads or builds takes one first and drops it when the image is recorded.
pub struct Lease {
    content: Arc<Content>,
    start: u64,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("start", &self.start).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.content.state();
        if let Some(count) = state.leases.get_mut(&self.start) {
            *count -= 1;
            if *count == 0 {
                state.leases.remove(&self.start);
            }
        }
        let oldest = state.leases.first_key_value().map_or(u64::MAX, |(oldest, _)| *oldest);
        state.touched.retain(|_, touched| *touched >= oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_hold_what_is_touched_while_they_last() {
        let content = Arc::new(Content::default());
        let key = |text: &[u8]| Key::Blob(Digest::sha256_of(text));
        content.touch(key(b"before"));
        let first = content.lease();
        content.touch(key(b"one"));
        let second = content.lease();
        content.touch(key(b"two"));
        let held = |text: &[u8]| content.is_held(&key(text));
        assert_eq!([held(b"before"), held(b"one"), held(b"two")], [false, true, true]);
        drop(first);
        assert_eq!([held(b"one"), held(b"two")], [false, true]);
        drop(second);
        assert!(!held(b"two"));
    }

    #[test]
    fn keys_print_and_parse() {
        for key in [Key::Blob(Digest::sha256_of(b"")), Key::Layer(Digest::sha256_of(b"x"))] {
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
        assert_eq!(Key::parse("blob/../x"), None);
    }
}
