//! Caches that travel: results of steps taken from elsewhere (`--cache-from`), and given away (`--cache-to`).
//!
//! A cache that travels is an image. Its layers are those that steps made, and its configuration has a list of records
//! under [`RECORDS`]: which key gave which layer. With `type=inline` it is the built image itself; otherwise an image
//! of its own, which may also have the layers of other stages and the content of cache mounts. Any registry keeps it,
//! and only the layers that a build asks for are fetched.

use crate::cache::{Claim, Found, Kept};
use crate::error::{Error, Result};
use crate::evaluate::State;
use crate::job::Job;
use crate::request::{CacheFrom, CacheTo};
use crate::stage::At;
use crate::step::Desk;
use crate::transfer::{self, Options};
use crate::tree;
use crate::worker::{CacheImage, Event};
use oci::{Descriptor, Digest, ImageConfig, Platform};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Where an image's configuration has its records.
pub const RECORDS: &str = "wharf.cache.v1";
/// What an instruction is cut to.
const MAX_DESCRIPTION: usize = 100;

/// A result of a step, or a cache mount, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Record {
    /// The key of a step, or the name of a cache mount.
    key: String,
    /// The beginning of the instruction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    /// Seconds since 1970.
    #[serde(default)]
    created: i64,
    /// The layer by its diff ID; without one no file was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<Digest>,
    /// Whether it is a cache mount.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    mount: bool,
}

/// A record of a cache from elsewhere, and where its layer is.
#[derive(Debug)]
struct Foreign {
    record: Record,
    layer: Option<Kept>,
    /// Which of the request's.
    from: usize,
}

/// What a build takes from caches elsewhere and gives to them.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// By whether it is a mount, and key; read when something is missing for the first time.
    foreign: OnceLock<BTreeMap<(bool, String), Foreign>>,
    /// What the build used.
    used: Mutex<BTreeMap<String, (Record, Option<Kept>)>>,
    /// The cache mounts that it used.
    mounts: Mutex<BTreeSet<String>>,
}

fn records(config: &ImageConfig) -> Vec<Record> {
    config.other.get(RECORDS).and_then(|value| Vec::deserialize(value).ok()).unwrap_or_default()
}

/// Joins an image's records with its layers; what does not fit is left out.
fn joined(image: &CacheImage, from: usize) -> impl Iterator<Item = ((bool, String), Foreign)> {
    let archives: BTreeMap<&Digest, &Descriptor> =
        image.config.rootfs.diff_ids.iter().zip(&image.layers).collect();
    records(&image.config).into_iter().filter_map(move |record| {
        let layer = match &record.layer {
            None => None,
            Some(diff_id) => {
                let archive = Descriptor::clone(archives.get(diff_id)?);
                Some(Kept { archive, diff_id: diff_id.clone() })
            }
        };
        Some(((record.mount, record.key.clone()), Foreign { record, layer, from }))
    })
}

impl Job<'_> {
    fn foreign(&self, mount: bool, key: &str) -> Option<&Foreign> {
        if self.request.cache_from.is_empty() {
            return None;
        }
        let all = self.exchange.foreign.get_or_init(|| {
            let mut all = BTreeMap::new();
            for (index, from) in self.request.cache_from.iter().enumerate() {
                // A cache that is not there yet is usual: the first build makes it.
                let text = match self.images.cache(from) {
                    Ok(image) => {
                        let before = all.len();
                        for (key, foreign) in joined(&image, index) {
                            all.entry(key).or_insert(foreign);
                        }
                        format!("importing cache manifest from {from}: {} results", all.len() - before)
                    }
                    Err(error) => {
                        format!("failed to import cache manifest from {from}: {}", base::chain(&error))
                    }
                };
                self.tell(Event::Note { step: 1, text: format!("{text}\n") });
            }
            all
        });
        all.get(&(mount, key.to_owned()))
    }

    /// Takes a step's result from a cache elsewhere; `None` if none has it.
    pub(crate) fn take(&self, at: At<'_>, key: &str, claim: &Claim, state: &State) -> Result<Option<Found>> {
        let Some(foreign) = self.foreign(false, key) else { return Ok(None) };
        if !self.fetched(foreign) {
            return Ok(None);
        }
        let parent = state.config.rootfs.diff_ids.last().map(ToString::to_string);
        let parents = parent.into_iter().collect();
        let made = foreign.record.created;
        self.cache.keep_from(claim, &at.step.text, parents, foreign.layer.clone(), made).map(Some)
    }

    /// Gets the layer of a record; a cache that fails is only missed.
    fn fetched(&self, foreign: &Foreign) -> bool {
        let (Some(layer), Some(from)) = (&foreign.layer, self.request.cache_from.get(foreign.from)) else {
            return foreign.layer.is_none();
        };
        match self.images.cache_layer(from, &layer.archive, &layer.diff_id) {
            Ok(()) => true,
            Err(error) => {
                let text = format!("failed to import a layer from {from}: {}\n", base::chain(&error));
                self.tell(Event::Note { step: 1, text });
                false
            }
        }
    }

    /// Fills a new cache mount from a cache elsewhere; says whether there was one.
    pub(crate) fn take_mount(&self, desk: &Desk, id: &str, data: &Path) -> Result<bool> {
        let Some(foreign) = self.foreign(true, id) else { return Ok(false) };
        let Some(layer) = foreign.layer.as_ref().filter(|_| self.fetched(foreign)) else { return Ok(false) };
        let source = desk.view(&self.lower(std::slice::from_ref(&layer.diff_id))?)?;
        let into = File::open(data).map_err(Error::file("open", data))?;
        let found = tree::find(source.as_fd(), ".")?;
        transfer::copy(&found, into.as_fd(), "/", &Options::default())?;
        Ok(true)
    }

    /// Notes a result that the build used.
    pub(crate) fn note_used(&self, key: &str, description: &str, found: &Found) {
        if !self.request.cache_inline && self.request.cache_to.is_none() {
            return;
        }
        let record = Record {
            key: key.to_owned(),
            description: description
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(MAX_DESCRIPTION)
                .collect(),
            created: found.created,
            layer: found.layer.as_ref().map(|kept| kept.diff_id.clone()),
            mount: false,
        };
        let mut used = self.exchange.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(key.to_owned(), (record, found.layer.clone()));
    }

    /// Notes a cache mount that the build used.
    pub(crate) fn note_mount(&self, id: &str) {
        let mut mounts = self.exchange.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.insert(id.to_owned());
    }

    /// What is to be given away: all results, or those of the image alone.
    fn given(&self, own: &BTreeSet<&Digest>, all: bool) -> Vec<(Record, Option<Kept>)> {
        let used = self.exchange.used.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |record: &Record| all || record.layer.as_ref().is_none_or(|layer| own.contains(layer));
        used.values().filter(|(record, _)| wanted(record)).cloned().collect()
    }

    /// Puts the records of the image's own layers into its configuration (`type=inline`).
    pub(crate) fn inline(&self, state: &State, config: &mut ImageConfig) -> Result<()> {
        if !self.request.cache_inline {
            return Ok(());
        }
        let own = state.config.rootfs.diff_ids.iter().collect();
        let records: Vec<Record> = self.given(&own, false).into_iter().map(|(record, _)| record).collect();
        config.other.insert(RECORDS.to_owned(), value(&records)?);
        Ok(())
    }

    /// Makes the image of a cache that is given away: of all results, or those in the `own` layers of the build's images.
    /// Its layers and documents are stored, and it is not recorded.
    pub(crate) fn give(&self, platform: &Platform, own: &BTreeSet<&Digest>) -> Result<Option<Descriptor>> {
        let Some(CacheTo { all, mounts }) = self.request.cache_to else { return Ok(None) };
        let mut given = self.given(own, all);
        if mounts {
            let ids =
                std::mem::take(&mut *self.exchange.mounts.lock().unwrap_or_else(PoisonError::into_inner));
            for id in ids {
                given.extend(self.give_mount(id)?);
            }
        }
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        "layers".clone_into(&mut config.rootfs.kind);
        let mut layers = Vec::new();
        let mut records = Vec::new();
        for (record, kept) in given {
            if let Some(kept) = kept
                && !config.rootfs.diff_ids.contains(&kept.diff_id)
            {
                config.rootfs.diff_ids.push(kept.diff_id);
                layers.push(kept.archive);
            }
            records.push(record);
        }
        config.other.insert(RECORDS.to_owned(), value(&records)?);
        Ok(Some(self.cache.store().put_image(&config, layers, BTreeMap::new())?))
    }

    /// Makes a layer of what a cache mount holds.
    fn give_mount(&self, id: String) -> Result<Option<(Record, Option<Kept>)>> {
        // Nobody writes to it meanwhile.
        let mounted = self.cache.mount(&id, true, false, self.cancel)?;
        let data = mounted.folder.join("data");
        if !data.exists() {
            return Ok(None);
        }
        let desk = Desk::new(self.cache.store())?;
        let source = File::open(&data).map_err(Error::file("open", &data))?;
        let upper = desk.upper();
        let into = File::open(&upper).map_err(Error::file("open", &upper))?;
        let found = tree::find(source.as_fd(), ".")?;
        transfer::copy(&found, into.as_fd(), "/", &Options { latest: self.epoch, ..Options::default() })?;
        drop(into);
        let Some(kept) = self.adopt(&desk)? else { return Ok(None) };
        let layer = Some(kept.diff_id.clone());
        let record = Record { key: id, description: String::new(), created: 0, layer, mount: true };
        Ok(Some((record, Some(kept))))
    }
}

fn value(records: &[Record]) -> Result<Value> {
    serde_json::to_value(records).map_err(|error| Error::Invalid(error.to_string()))
}

impl std::fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(name) => f.write_str(name),
            Self::Folder(_) => f.write_str("the folder"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_joined_with_the_layers_that_are_there() {
        let digest = |text: &str| Digest::sha256_of(text.as_bytes());
        let record = |key: &str, layer: Option<&str>, mount: bool| Record {
            key: key.to_owned(),
            description: String::new(),
            created: 7,
            layer: layer.map(digest),
            mount,
        };
        let all = [
            record("made", Some("layer"), false),
            record("empty", None, false),
            record("lost", Some("elsewhere"), false),
            record("mount", Some("layer"), true),
        ];
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![digest("layer")];
        config.other.insert(RECORDS.to_owned(), value(&all).unwrap());
        let layers = vec![Descriptor::new("type", digest("archive"), 3)];
        let found: Vec<_> = joined(&CacheImage { config, layers }, 0).collect();
        let keys: Vec<_> = found.iter().map(|((mount, key), _)| (*mount, key.as_str())).collect();
        assert_eq!(keys, [(false, "made"), (false, "empty"), (true, "mount")]);
        let archive = |index: usize| found[index].1.layer.as_ref().map(|kept| kept.archive.digest.clone());
        assert_eq!((archive(0), archive(1)), (Some(digest("archive")), None));
        assert_eq!(found[0].1.record.created, 7);
    }

    #[test]
    fn images_without_records_have_none() {
        let mut config = ImageConfig::default();
        assert!(records(&config).is_empty());
        config.other.insert(RECORDS.to_owned(), Value::from("no list"));
        assert!(records(&config).is_empty());
    }
}
