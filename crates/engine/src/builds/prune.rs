//! Which entries of the build cache go: by age, size and filters (`POST /build/prune`).

use super::Builds;
use crate::error::{Error, Result};
use api::filters::Filters;
use api::system::BuildCache;
use base::Timestamp;
use builder::Entry;
use std::collections::BTreeSet;

/// The filters of a prune.
pub const PRUNE_FILTERS: [&str; 8] =
    ["until", "unused-for", "id", "parent", "type", "description", "inuse", "shared"];

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The identifiers of entries.
    pub ids: Vec<String>,
    /// The bytes that came free.
    pub bytes: u64,
}

/// An entry with what decides on it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    key: String,
    size: u64,
    used: i64,
    /// Whether an image has its layer, too.
    shared: bool,
}

impl Builds {
    /// Returns the cache as `GET /system/df` shows it.
    pub fn list(&self) -> Vec<BuildCache> {
        let images = self.layers_of_images();
        let time = |seconds: i64| Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000)).to_string();
        let row = |(key, entry, in_use): (String, Entry, bool)| BuildCache {
            shared: is_shared(&entry, &images),
            size: i64::try_from(self.cache.size(&entry)).unwrap_or(i64::MAX),
            id: key.chars().take(25).collect(),
            parents: entry.parents,
            kind: entry.kind,
            description: entry.description,
            in_use,
            created_at: time(entry.created),
            last_used_at: Some(time(entry.used)),
            usage_count: i64::try_from(entry.count).unwrap_or(i64::MAX),
        };
        self.cache.list().into_iter().map(row).collect()
    }

    /// Removes entries: those that `filters` leave and that were not used since `until`, the least recently used first,
    /// until no more than `keep_bytes` are left.
    ///
    /// # Errors
    ///
    /// A filter that is unknown or has a wrong value; the store's.
    pub fn prune(&self, filters: &Filters, until: Option<Timestamp>, keep_bytes: u64) -> Result<Pruned> {
        filters.validate(&PRUNE_FILTERS).map_err(|error| Error::invalid(error.to_string()))?;
        let images = self.layers_of_images();
        let mut candidates = Vec::new();
        for (key, entry, in_use) in self.cache.list() {
            let shared = is_shared(&entry, &images);
            let wanted =
                fits(filters, &key, &entry, shared) && until.is_none_or(|until| entry.used < until.as_secs());
            if in_use || !wanted {
                continue;
            }
            candidates.push(Candidate { size: self.cache.size(&entry), used: entry.used, shared, key });
        }
        let gone = choose(candidates, keep_bytes);
        self.cache.remove(&gone).map_err(super::from_builder)?;
        let bytes = self.images.collect(&self.containers.image_users())?;
        let ids = gone.iter().map(|key| key.chars().take(25).collect()).collect();
        Ok(Pruned { ids, bytes })
    }

    fn layers_of_images(&self) -> BTreeSet<oci::Digest> {
        let images = self.store.images().list().unwrap_or_default();
        images.into_iter().flat_map(|image| image.diff_ids).collect()
    }
}

fn is_shared(entry: &Entry, images: &BTreeSet<oci::Digest>) -> bool {
    entry.layer.as_ref().is_some_and(|kept| images.contains(&kept.diff_id))
}

fn fits(filters: &Filters, key: &str, entry: &Entry, shared: bool) -> bool {
    let all = |name: &str, holds: &dyn Fn(&str) -> bool| {
        let mut values = filters.get(name).peekable();
        values.peek().is_none() || values.any(holds)
    };
    let says = |value: &str, truth: bool| matches!(value, "" | "1" | "true") == truth;
    all("id", &|id| key.starts_with(id))
        && all("parent", &|id| entry.parents.iter().any(|parent| parent.starts_with(id)))
        && all("type", &|kind| entry.kind == kind)
        && all("description", &|text| entry.description.contains(text))
        && all("inuse", &|value| says(value, false))
        && all("shared", &|value| says(value, shared))
}

/// The keys that go so that no more than `keep_bytes` stay; those of layers that images have too cost nothing.
fn choose(mut candidates: Vec<Candidate>, keep_bytes: u64) -> Vec<String> {
    let own = |candidate: &Candidate| if candidate.shared { 0 } else { candidate.size };
    let mut left: u64 = candidates.iter().map(own).sum();
    candidates.sort_by_key(|candidate| candidate.used);
    let mut gone = Vec::new();
    for candidate in candidates {
        if keep_bytes > 0 && left <= keep_bytes {
            break;
        }
        left = left.saturating_sub(own(&candidate));
        gone.push(candidate.key);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first() {
        let candidate = |key: &str, size, used, shared| Candidate { key: key.to_owned(), size, used, shared };
        let all = vec![
            candidate("new", 10, 3, false),
            candidate("old", 10, 1, false),
            candidate("img", 50, 2, true),
        ];
        for (keep, expect) in
            [(0, &["old", "img", "new"][..]), (10, &["old"]), (20, &[]), (5, &["old", "img", "new"])]
        {
            assert_eq!(choose(all.clone(), keep), expect, "{keep}");
        }
    }
}
