//! Unpacked layers by diff ID: `DATA/layers/HEX/diff`, in the form overlayfs reads.
//!
//! A layer is unpacked once, whatever images have it, and never depends on the layers below; what does (the
//! metadata of directories that its archive only implies) is noted in `layer.json` beside it. It appears by one
//! rename when its diff ID is checked. The format is in docs/formats/layers.md.

mod compare;
mod extract;
mod implied;
#[cfg(test)]
mod mutations;
pub(crate) mod name;
mod pipeline;
#[cfg(test)]
pub(crate) mod tests;

pub use compare::Difference;
pub(crate) use extract::is_allowed;
pub use pipeline::Limits;

use crate::content::{Content, Key};
use crate::error::{At, Error, Result, failpoint};
use crate::tar;
use crate::workspace::Workspace;
use oci::{Digest, Hasher};
use pipeline::Outcome;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const DIFF: &str = "diff";
const RECORD: &str = "layer.json";
/// Small layers for directories that the archive only implies, by what lies below.
const SETTLED: &str = "settled";

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The directory for overlayfs.
    pub path: PathBuf,
    /// The sum of the sizes of its files in bytes.
    pub size: u64,
    /// Directories that the archive only implies, relative, as bytes; empty is the root.
    implied: Arc<Vec<Vec<u8>>>,
}

/// `layer.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    diff_id: Digest,
    size: u64,
    entries: u64,
    /// Names as bytes, since they need not be text.
    implied: Vec<Vec<u8>>,
}

const RECORD_VERSION: u32 = 1;

/// The layers of a store.
#[derive(Debug, Clone)]
pub struct Layers {
    root: PathBuf,
    limits: Limits,
    umask: u32,
    workspace: Arc<Workspace>,
    content: Arc<Content>,
    known: Arc<Mutex<HashMap<Digest, Layer>>>,
    /// The directories of layers asked for before, base first.
    chains: Arc<Mutex<HashMap<Vec<Digest>, Vec<PathBuf>>>>,
}

impl Layers {
    pub(crate) fn new(
        root: PathBuf,
        limits: Limits,
        workspace: Arc<Workspace>,
        content: Arc<Content>,
    ) -> Result<Self> {
        Ok(Self {
            root,
            limits,
            umask: umask()?,
            workspace,
            content,
            known: Arc::default(),
            chains: Arc::default(),
        })
    }

    fn place(&self, diff_id: &Digest) -> PathBuf {
        self.root.join(diff_id.hex())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Layer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the layer if it is unpacked.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Record`] if its record is damaged.
    pub fn get(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        self.content.touch(Key::Layer(diff_id.clone()));
        if let Some(layer) = self.known().get(diff_id) {
            return Ok(Some(layer.clone()));
        }
        let place = self.place(diff_id);
        let path = place.join(RECORD);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("read", &path),
        };
        let damaged = |source| Error::Record { bucket: "layers".into(), key: diff_id.to_string(), source };
        let record: Record = serde_json::from_slice(&bytes).map_err(damaged)?;
        let layer = Layer {
            diff_id: diff_id.clone(),
            path: place.join(DIFF),
            size: record.size,
            implied: Arc::new(record.implied),
        };
        self.known().insert(diff_id.clone(), layer.clone());
        Ok(Some(layer))
    }

    /// Unpacks an archive (plain, gzip or zstd, by its first bytes) and checks that it is `expected`.
    ///
    /// If the layer is there already, it is returned without reading anything. Otherwise `reader` is read to its end,
    /// unless there is an error. The work is done on this and two more threads.
    ///
    /// # Errors
    ///
    /// [`Error::WrongDiffId`], [`Error::LayerStream`] for what `reader` or the decompression fails with,
    /// [`Error::Archive`] and [`Error::Entry`] for what is refused, [`Error::Bomb`], [`Error::Io`]. Nothing stays.
    pub fn unpack(&self, reader: &mut dyn Read, expected: &Digest) -> Result<Layer> {
        if let Some(layer) = self.get(expected)? {
            return Ok(layer);
        }
        self.extract(reader, Hasher::new(expected.algorithm()), Some(expected))
    }

    /// Unpacks an archive whose diff ID (SHA-256) is not known beforehand.
    ///
    /// # Errors
    ///
    /// As for [`Layers::unpack`].
    pub fn unpack_unknown(&self, reader: &mut dyn Read) -> Result<Layer> {
        self.extract(reader, Hasher::sha256(), None)
    }

    fn extract(&self, reader: &mut dyn Read, hasher: Hasher, expected: Option<&Digest>) -> Result<Layer> {
        let unfinished = self.workspace.directory("layer")?;
        let diff = unfinished.path().join(DIFF);
        crate::workspace::make(&diff)?;
        let open = |path: &Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .at("open", path)
        };
        let (root, aside) = (open(&diff)?, open(unfinished.path())?);
        let (umask, entries) = (self.umask, self.limits.entries);
        let Outcome { value: made, diff_id } = pipeline::run(reader, hasher, &self.limits, move |chunks| {
            extract::unpack(root, aside, umask, entries, &mut tar::Reader::new(chunks))
        })?;
        if let Some(expected) = expected.filter(|expected| **expected != diff_id) {
            return Err(Error::WrongDiffId { expected: expected.clone(), found: diff_id });
        }
        let size = if made.replaced { crate::snapshots::usage(&diff)? } else { made.size };
        let record = Record {
            version: RECORD_VERSION,
            diff_id: diff_id.clone(),
            size,
            entries: made.entries,
            implied: made.implied,
        };
        self.publish(unfinished, &record)
    }

    /// Makes a layer of an upper directory of overlayfs that nobody writes to any more; the directory is gone then.
    ///
    /// Used by the builder, which has packed it and knows its digest: nothing is read or written again. Equal content
    /// that is here already is as good.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; it must be in the data root, and not mounted.
    pub(crate) fn adopt(&self, upper: &Path, diff_id: &Digest, size: u64, entries: u64) -> Result<Layer> {
        if let Some(layer) = self.get(diff_id)? {
            self.workspace.discard(upper)?;
            return Ok(layer);
        }
        let unfinished = self.workspace.directory("layer")?;
        let diff = unfinished.path().join(DIFF);
        std::fs::rename(upper, &diff).at("rename", upper)?;
        // The archive has no entry for the root, so it is what lies below says.
        let record = Record {
            version: RECORD_VERSION,
            diff_id: diff_id.clone(),
            size,
            entries,
            implied: vec![Vec::new()],
        };
        self.publish(unfinished, &record)
    }

    fn publish(&self, unfinished: crate::workspace::Unfinished<'_>, record: &Record) -> Result<Layer> {
        let diff_id = &record.diff_id;
        let path = unfinished.path().join(RECORD);
        let text = serde_json::to_vec(record).map_err(|source| Error::Record {
            bucket: "layers".into(),
            key: diff_id.to_string(),
            source,
        })?;
        std::fs::write(&path, text).at("write", &path)?;
        failpoint("store.layer.publish")?;
        self.content.touch(Key::Layer(diff_id.clone()));
        // Somebody else may have unpacked the same layer meanwhile: theirs is as good.
        unfinished.publish(&self.place(diff_id))?;
        self.get(diff_id)?.ok_or_else(|| Error::NoBlob(diff_id.clone()))
    }

    /// Returns the directories for overlayfs, topmost first, of layers given base first.
    ///
    /// They may be more than the layers: a layer whose archive only implies some of its directories can need a small
    /// one above it that carries the metadata these have in the layers below.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] if one is not unpacked, [`Error::Io`].
    pub fn lower_dirs(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>> {
        for diff_id in diff_ids {
            self.content.touch(Key::Layer(diff_id.clone()));
        }
        if let Some(known) = self.chains().get(diff_ids) {
            return Ok(known.clone());
        }
        let layer = |diff_id: &Digest| self.get(diff_id)?.ok_or_else(|| Error::NoBlob(diff_id.clone()));
        let layers: Vec<Layer> = diff_ids.iter().rev().map(layer).collect::<Result<_>>()?;
        let mut directories = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let below: Vec<&Layer> = layers.iter().skip(index + 1).collect();
            directories.extend(self.settle(layer, &below)?);
            directories.push(layer.path.clone());
        }
        self.chains().insert(diff_ids.to_vec(), directories.clone());
        Ok(directories)
    }

    /// Compares an unpacked layer with its archive (plain, gzip or zstd); returns the first differences.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] if it is not unpacked, [`Error::LayerStream`] if the archive cannot be read.
    pub fn compare(&self, diff_id: &Digest, archive: &mut dyn Read) -> Result<Vec<Difference>> {
        let layer = self.get(diff_id)?.ok_or_else(|| Error::NoBlob(diff_id.clone()))?;
        let mut plain = crate::compression::Decoder::new(archive).map_err(Error::LayerStream)?;
        compare::compare(&layer.path, &mut plain)
    }

    /// Returns the small layer that `layer` needs above it on top of `below`, if it needs one.
    fn settle(&self, layer: &Layer, below: &[&Layer]) -> Result<Option<PathBuf>> {
        let plan = implied::plan(layer, below)?;
        if plan.is_empty() {
            return Ok(None);
        }
        let chain: Vec<String> = below.iter().map(|layer| layer.diff_id.to_string()).collect();
        let parent = self.place(&layer.diff_id).join(SETTLED);
        let place = parent.join(Digest::sha256_of(chain.join(" ").as_bytes()).hex());
        if !place.exists() {
            std::fs::create_dir_all(&parent).at("create", &parent)?;
            let unfinished = self.workspace.directory("settled")?;
            implied::make(unfinished.path(), &plan)?;
            unfinished.publish(&place)?;
        }
        Ok(Some(place))
    }

    /// After a power cut: what settles layers is never synced, and made anew.
    pub(crate) fn distrust_settled(&self) -> Result<()> {
        let list = self.list()?;
        list.iter().try_for_each(|diff_id| self.workspace.discard(&self.place(diff_id).join(SETTLED)))
    }

    fn chains(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<Digest>, Vec<PathBuf>>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a layer; nothing may refer to it. "Not here" is success.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn remove(&self, diff_id: &Digest) -> Result<()> {
        self.content.forget(&Key::Layer(diff_id.clone()));
        self.known().remove(diff_id);
        self.chains().retain(|chain, _| !chain.contains(diff_id));
        self.workspace.discard(&self.place(diff_id))
    }

    /// Returns the diff IDs of all layers, in no order.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Digest>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.root).at("list", &self.root)? {
            let name = entry.at("list", &self.root)?.file_name();
            all.extend(name.to_str().and_then(digest_of_hex));
        }
        Ok(all)
    }
}

/// The digest with these digits; their number tells the algorithm.
fn digest_of_hex(hex: &str) -> Option<Digest> {
    let algorithm = match hex.len() {
        64 => "sha256",
        96 => "sha384",
        _ => "sha512",
    };
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// Reads the file mode creation mask without changing it, as umask(2) would.
fn umask() -> Result<u32> {
    let path = Path::new("/proc/thread-self/status");
    let status = std::fs::read_to_string(path).at("read", path)?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:")).map(str::trim);
    // Kernels before 4.7 do not say it; then every mode is set explicitly.
    Ok(mask.and_then(|mask| u32::from_str_radix(mask, 8).ok()).unwrap_or(0o777))
}
