//! Which entries of the build cache go: by age, size and filters (`POST /build/prune`).

use super::Builds;
use super::gc::{Disk, Limits};
use crate::error::{Error, Result};
use api::filters::Filters;
use api::system::BuildCache;
use base::Timestamp;
use builder::Entry;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

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
    /// What comes free if it goes.
    size: u64,
    /// When, in seconds, and how often.
    used: (i64, u64),
}

impl Builds {
    /// Returns the cache as `GET /system/df` shows it.
    pub fn list(&self) -> Vec<BuildCache> {
        let images = self.layers_of_images();
        let time = |seconds: i64| Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000)).to_string();
        let row = |(key, entry, in_use): (String, Entry, bool)| BuildCache {
            shared: is_shared(&entry, &images),
            size: i64::try_from(self.cache.size(&key, &entry)).unwrap_or(i64::MAX),
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
    /// until no more of those that `filters` leave stay than `limits` say. Without `all` those stay that images have, too.
    ///
    /// # Errors
    ///
    /// A filter that is unknown or has a wrong value; the store's.
    pub fn prune(
        &self,
        filters: &Filters,
        until: Option<Timestamp>,
        limits: Limits,
        all: bool,
    ) -> Result<Pruned> {
        filters.validate(&PRUNE_FILTERS).map_err(|error| Error::invalid(error.to_string()))?;
        let gone = self.forget(filters, until, limits, all)?;
        let bytes = self.images.collect(&self.containers.image_users())?;
        let ids = gone.iter().map(|key| key.chars().take(25).collect()).collect();
        Ok(Pruned { ids, bytes })
    }

    fn forget(
        &self,
        filters: &Filters,
        until: Option<Timestamp>,
        limits: Limits,
        all: bool,
    ) -> Result<Vec<String>> {
        let images = self.layers_of_images();
        let mut candidates = Vec::new();
        let mut total: u64 = 0;
        for (key, entry, in_use) in self.cache.list() {
            let shared = is_shared(&entry, &images);
            if !fits(filters, &key, &entry, shared) {
                continue;
            }
            // What images have costs the cache nothing.
            let size = if shared { 0 } else { self.cache.size(&key, &entry) };
            total = total.saturating_add(size);
            let is_old = until.is_none_or(|until| entry.used < until.as_secs());
            if !in_use && is_old && (all || !shared) {
                candidates.push(Candidate { size, used: (entry.used, entry.count), key });
            }
        }
        let root = self.store.paths().root();
        let disk = Disk::of(root).map_err(|errno| Error::file("stat", root)(errno.into()))?;
        let gone = choose(candidates, total, limits.keep(total, disk));
        self.cache.remove(&gone).map_err(super::from_builder)?;
        Ok(gone)
    }

    /// Collects by the rules, in the background; one that goes on already is followed by another.
    pub(super) fn collect_soon(&self) {
        if self.rules.is_empty() || self.collecting.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let builds = self.clone();
        let work = move || {
            loop {
                let asked = builds.collecting.load(Ordering::SeqCst);
                if let Err(error) = builds.collect() {
                    tracing::warn!(error = %base::chain(&error), "collecting the build cache");
                }
                // Who asked meanwhile is served by another round.
                let ended = builds.collecting.compare_exchange(asked, 0, Ordering::SeqCst, Ordering::SeqCst);
                if ended.is_ok() {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("build cache".to_owned()).spawn(work) {
            self.collecting.store(0, Ordering::SeqCst);
            tracing::warn!(%error, "starting the collection of the build cache");
        }
    }

    fn collect(&self) -> Result<()> {
        let mut gone = false;
        for rule in self.rules.iter() {
            let until = rule.unused_for.map(|age| {
                let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
                Timestamp::from_nanos(
                    Timestamp::from_system(std::time::SystemTime::now()).as_nanos().saturating_sub(age),
                )
            });
            gone |= !self.forget(&rule.filters, until, rule.limits, rule.all)?.is_empty();
        }
        if gone {
            self.images.collect(&self.containers.image_users())?;
        }
        Ok(())
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

/// The keys that go, so that no more than `keep` bytes of `total` stay.
fn choose(mut candidates: Vec<Candidate>, total: u64, keep: u64) -> Vec<String> {
    let mut left = total;
    candidates.sort_by_key(|candidate| candidate.used);
    let mut gone = Vec::new();
    for candidate in candidates {
        if keep > 0 && left <= keep {
            break;
        }
        left = left.saturating_sub(candidate.size);
        gone.push(candidate.key);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first() {
        let candidate = |key: &str, size, used| Candidate { key: key.to_owned(), size, used: (used, 1) };
        let all = vec![candidate("new", 10, 3), candidate("old", 10, 1), candidate("image's", 0, 2)];
        for (keep, expect) in
            [(0, &["old", "image's", "new"][..]), (15, &["old"]), (25, &[]), (5, &["old", "image's", "new"])]
        {
            assert_eq!(choose(all.clone(), 25, keep), expect, "{keep}");
        }
    }
}
