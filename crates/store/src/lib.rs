//! What must outlive a run of the engine: blobs, layers, the writable layers of containers, image records, and the
//! metadata database.
//!
//! Everything becomes visible by one atomic step, a rename or a commit; what is unfinished lives under `DATA/tmp` and
//! is swept when the store is opened. Bytes are synced once per operation, by the step that records it durably, not
//! file by file; content that no such step has recorded is not trusted after a power cut. So a crash can leave
//! rubbish, never a lie.
//!
//! ```text
//! DATA/wharf.db               records; docs/formats/database.md
//! DATA/blobs/sha256/HEX       content as downloaded
//! DATA/recipes/sha256/HEX     how to make content that was dropped; docs/formats/layers.md
//! DATA/layers/HEX/diff        layers, unpacked once; docs/formats/layers.md
//! DATA/containers/ID/         upper and work directories, beside what other crates keep there
//! DATA/tmp/                   unfinished things, and things being deleted
//! ```
//!
//! All of it is blocking; it knows neither registries nor containers. One process at a time opens a data root: the
//! caller holds its lock.

pub mod archive;
pub mod blobs;
pub mod check;
pub mod collect;
mod compression;
mod content;
pub mod database;
pub mod error;
pub mod hello;
pub mod images;
#[cfg(test)]
mod images_tests;
pub mod layers;
pub mod pack;
mod recipe;
mod remove;
mod slim;
pub mod snapshots;
pub mod tar;
#[cfg(test)]
mod testing;
mod workspace;

pub use blobs::{Blobs, Ingest, Tee};
pub use check::{Footprint, Problem, Usage};
pub use collect::{Collected, Keep};
pub use content::Lease;
pub use database::{Database, Durability, Transaction};
pub use error::{Error, Result};
pub use images::{Image, Images};
pub use layers::{Layer, Layers, Limits};
pub use recipe::Unfit;
pub use slim::Archives;
pub use snapshots::{Snapshot, Snapshots};

use base::paths::DataPaths;
use content::{Content, Key};
use slim::Slimmer;
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use workspace::Workspace;

/// The bucket of facts about the store itself.
const META: &str = "store";
/// The boot in which the store was last opened.
const BOOT: &str = "boot";

/// Everything that is kept on disk. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    paths: DataPaths,
    database: Database,
    workspace: Arc<Workspace>,
    content: Arc<Content>,
    blobs: Blobs,
    layers: Layers,
    snapshots: Snapshots,
    images: Images,
    slimmer: Arc<Slimmer>,
}

/// Returns what `reader` holds, decompressed if it is gzip, zstd, xz or bzip2.
///
/// # Errors
///
/// What `reader` returns for its first bytes.
pub fn decompress<'a>(reader: impl std::io::Read + 'a) -> std::io::Result<Box<dyn std::io::Read + 'a>> {
    Ok(Box::new(compression::Decoder::new(reader)?))
}

/// As [`decompress`], for who reads pieces where they lie: what is not compressed is not copied.
///
/// # Errors
///
/// What `reader` returns for its first bytes.
pub fn decompress_buffered<'a>(reader: impl BufRead + 'a) -> std::io::Result<Box<dyn BufRead + 'a>> {
    Ok(match compression::Decoder::new(reader)? {
        compression::Decoder::None(plain) => Box::new(plain),
        compressed => Box::new(BufReader::with_capacity(1 << 16, compressed)),
    })
}

impl Store {
    /// Opens the store at `paths`, made if absent.
    ///
    /// Begins to delete what an earlier process left unfinished. After another boot, content that was never recorded
    /// as synced is removed too.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and those of [`Database::open`].
    pub fn open(paths: &DataPaths) -> Result<Self> {
        Self::open_with(paths, Limits::default())
    }

    /// Opens the store with other limits for layers.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub fn open_with(paths: &DataPaths, limits: Limits) -> Result<Self> {
        let workspace = Arc::new(Workspace::open(paths)?);
        let database = Database::open(&paths.database())?;
        let safe: HashSet<Key> =
            database.scan(content::BUCKET)?.iter().filter_map(|(key, _)| Key::parse(key)).collect();
        let content = Arc::new(Content::new(safe));
        let blobs = Blobs::new(paths, Arc::clone(&workspace), Arc::clone(&content))?;
        let layers = Layers::new(paths.layers(), limits, Arc::clone(&workspace), Arc::clone(&content))?;
        let shared = (Arc::clone(&workspace), Arc::clone(&content));
        let images = Images::open(database.clone(), blobs.clone(), layers.clone(), shared.0, shared.1)?;
        let snapshots = Snapshots::new(paths.clone(), Arc::clone(&workspace));
        let paths = paths.clone();
        let slimmer = Arc::default();
        let store = Self { paths, database, workspace, content, blobs, layers, snapshots, images, slimmer };
        store.distrust(&boot_id()?)?;
        Ok(store)
    }

    /// After a power cut, removes what may not have reached the disk.
    fn distrust(&self, boot: &str) -> Result<()> {
        let last = self.database.get(META, BOOT)?;
        if last.as_deref() == Some(boot.as_bytes()) {
            return Ok(());
        }
        self.layers.distrust_settled()?;
        let blobs = self.blobs.list()?.into_iter().map(Key::Blob);
        let layers = self.layers.list()?.into_iter().map(Key::Layer);
        let all: Vec<Key> = blobs.chain(layers).collect();
        for key in self.content.not_safe(&all) {
            match key {
                Key::Blob(digest) => self.blobs.remove(&digest)?,
                Key::Layer(diff_id) => self.layers.remove(&diff_id)?,
            }
        }
        self.database.put(META, BOOT, boot.as_bytes(), Durability::Durable)
    }

    /// Returns where everything is.
    pub fn paths(&self) -> &DataPaths {
        &self.paths
    }

    /// Returns the metadata database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the content by digest.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Returns the unpacked layers.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Returns the image records.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Returns the writable layers of containers.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Keeps content that is made or looked up from now on from being collected, until the lease is dropped.
    pub fn lease(&self) -> Lease {
        self.content.lease()
    }

    /// Takes `path` (in the data root) out of sight at once and deletes it in the background. "Not here" is success.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn discard(&self, path: &Path) -> Result<()> {
        self.workspace.discard(path)
    }

    /// Waits until everything discarded so far is deleted.
    pub fn wait_for_deletion(&self) {
        self.workspace.settle();
    }

    /// Writes everything on the data root's file system to its disk: once per operation, before what a user was told
    /// is done is recorded.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.workspace.sync()
    }
}

fn boot_id() -> Result<String> {
    use error::At;
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    std::fs::read_to_string(path).at("read", path).map(|id| id.trim().to_owned())
}
