//! What can go wrong in the store.

use base::{Classify, Kind};
use oci::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// An operation of the store that failed.
#[expect(clippy::error_impl_error, reason = "each crate has one error, named by its path")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on a path failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The database failed.
    #[error("{operation} in the metadata database")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// The database was written by a later version of Wharf.
    #[error("the metadata database has format {found}; this version of Wharf reads up to {known}")]
    DatabaseVersion {
        /// What the file says.
        found: i64,
        /// The latest this program knows.
        known: i64,
    },
    /// The file is a database of another program.
    #[error("{} is not a database of Wharf", .0.display())]
    ForeignDatabase(PathBuf),
    /// The database's thread has ended.
    #[error("the metadata database is closed")]
    Closed,
    /// A batch was not committed; the cause was told to another caller or is this text.
    #[error("commit to the metadata database: {0}")]
    Commit(String),
    /// A record does not parse.
    #[error("record {bucket}/{key} is damaged")]
    Record {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Content is not here.
    #[error("blob {0} not found")]
    NoBlob(Digest),
    /// Content is larger than its reader can take.
    #[error("blob {digest} has {size} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// What was allowed.
        limit: u64,
    },
    /// Content does not have the digest it should have.
    #[error("wrong digest: expected {expected}, got {found}")]
    WrongDigest {
        /// Announced.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// Content does not have the size it should have.
    #[error("wrong size of {digest}: expected {expected} bytes, got {found}")]
    WrongSize {
        /// The content.
        digest: Digest,
        /// Announced.
        expected: u64,
        /// Counted.
        found: u64,
    },
    /// The uncompressed layer does not have the diff ID it should have.
    #[error("wrong diff ID of the layer: expected {expected}, got {found}")]
    WrongDiffId {
        /// In the image configuration.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// Another operation in this or another process is writing the same content.
    #[error("content {0:?} is being written by another operation")]
    Busy(String),
    /// A layer's compressed stream or archive is broken.
    #[error("read layer")]
    LayerStream(#[source] io::Error),
    /// A layer's archive is not acceptable.
    #[error("unpack layer: {0}")]
    Archive(#[from] crate::tar::Malformed),
    /// An entry of a layer's archive cannot be made.
    #[error("unpack layer: entry {entry:?}: {problem}")]
    Entry {
        /// The entry's name as in the archive.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A system call for an entry of a layer's archive failed.
    #[error("unpack layer: {operation} {entry:?}")]
    EntryIo {
        /// What was tried.
        operation: &'static str,
        /// The entry's name as in the archive.
        entry: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The layer unpacks to more than is allowed.
    #[error("unpack layer: {0}")]
    Bomb(String),
    /// No image by this name or identifier.
    #[error("No such image: {0}")]
    NoImage(String),
    /// More than one image has this beginning.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The image is here, but not for this platform. The text is Docker's.
    #[error("image with reference {name} was found but does not provide the specified platform ({platform})")]
    NoPlatform {
        /// As asked for.
        name: String,
        /// As asked for.
        platform: String,
    },
    /// The text names no image, whatever there is.
    #[error("{0}")]
    Reference(#[from] oci::InvalidReference),
    /// A manifest, index or configuration does not parse.
    #[error("image {digest}: {problem}")]
    Image {
        /// The document.
        digest: Digest,
        /// What is wrong.
        problem: String,
    },
    /// An archive given to load or import is not one.
    #[error("{0}")]
    Load(String),
    /// An armed failpoint.
    #[error("failpoint {0}")]
    Failpoint(&'static str),
    /// The operation was cancelled by its caller.
    #[error("cancelled")]
    Cancelled,
}

/// What the store's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoBlob(_) | Self::NoImage(_) | Self::NoPlatform { .. } => Kind::NotFound,
            Self::Busy(_) => Kind::Conflict,
            Self::Cancelled => Kind::Cancelled,
            Self::Ambiguous(_)
            | Self::Reference(_)
            | Self::Load(_)
            | Self::TooLarge { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::WrongDiffId { .. }
            | Self::LayerStream(_)
            | Self::Archive(_)
            | Self::Entry { .. }
            | Self::Image { .. }
            | Self::Bomb(_) => Kind::InvalidArgument,
            Self::Io { .. }
            | Self::EntryIo { .. }
            | Self::Database { .. }
            | Self::DatabaseVersion { .. }
            | Self::ForeignDatabase(_)
            | Self::Closed
            | Self::Commit(_)
            | Self::Record { .. }
            | Self::Failpoint(_) => Kind::Internal,
        }
    }
}

/// Adds operation and object to an error of the operating system.
pub(crate) trait At<T> {
    /// Names the `operation` and the `path` it was tried on.
    fn at(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { operation, path: path.to_owned(), source: source.into() })
    }
}

/// Passes a failpoint.
pub(crate) fn failpoint(name: &'static str) -> Result<()> {
    if base::failpoint::reached(name) { Err(Error::Failpoint(name)) } else { Ok(()) }
}
