//! Archives: a streaming parser and a writer, nothing of which touches a file system.
//!
//! The parser reads what Go's `archive/tar` reads, since that is what made and will read most layers: ustar, PAX
//! (`x`), GNU (long names, base-256 numbers, old sparse files) and PAX sparse files 0.0, 0.1 and 1.0. Global PAX
//! headers are skipped, as in Go. Sources: POSIX pax(1), the GNU tar manual, star(5).

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use header::{Entry, Kind, Time};
pub use reader::Reader;
pub use writer::Writer;

/// Why bytes are not an acceptable archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The stream ends inside an entry.
    #[error("unexpected end of the archive")]
    Truncated,
    /// A header's checksum is wrong.
    #[error("invalid tar header")]
    Checksum,
    /// A field of a header does not parse.
    #[error("invalid {0} in a tar header")]
    Field(&'static str),
    /// An extended header does not parse.
    #[error("invalid PAX record")]
    Pax,
    /// A map of a sparse file does not parse or contradicts itself.
    #[error("invalid sparse map")]
    Sparse,
    /// An extended header or a name is too long.
    #[error("extended tar header of {0} bytes is too long")]
    TooLong(u64),
    /// A kind of entry that no image has.
    #[error("unknown entry type {0:?} in the archive")]
    Type(char),
}

impl From<Malformed> for std::io::Error {
    fn from(problem: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, problem)
    }
}
