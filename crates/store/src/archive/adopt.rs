//! From an upper directory of overlayfs to a layer, in one pass: packed, hashed, compressed, hashed again, stored; and
//! the directory itself becomes the unpacked layer.

use crate::Store;
use crate::error::{Error, Result};
use crate::pack::{Form, pack};
use flate2::write::GzEncoder;
use oci::{Compression, Descriptor, Digest, Hasher};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The fastest level that compresses: the higher ones cost many times as much for a tenth less.
const LEVEL: u32 = 1;
const BUFFER: usize = 256 * 1024;

/// A layer that was made of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The stored archive.
    pub layer: Descriptor,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The bytes of the uncompressed archive.
    pub size: u64,
}

impl Store {
    /// Makes a layer of `upper`, the upper directory of an overlay that nobody writes to any more, in the data root.
    /// The directory is gone then.
    ///
    /// # Errors
    ///
    /// As for [`crate::pack::pack`]; [`Error::Io`]. Then the directory is as it was.
    pub fn adopt_layer(&self, upper: &Path) -> Result<Adopted> {
        let key = self.workspace.fresh("layer").to_string_lossy().into_owned();
        let mut ingest = self.blobs().ingest(&key)?;
        ingest.restart()?;
        let packed = (|| {
            let encoder = GzEncoder::new(
                BufWriter::with_capacity(BUFFER, &mut ingest),
                flate2::Compression::new(LEVEL),
            );
            let mut sink = Hashing { hasher: Hasher::sha256(), size: 0, to: encoder };
            let mut buffered = BufWriter::with_capacity(BUFFER, &mut sink);
            pack(upper, Form::Upper, &mut buffered)?;
            buffered.flush().map_err(Error::LayerStream)?;
            drop(buffered);
            let Hashing { hasher, size, to } = sink;
            to.finish().and_then(|mut writer| writer.flush()).map_err(Error::LayerStream)?;
            Ok((hasher.finish(), size))
        })();
        let (diff_id, size) = match packed {
            Ok(packed) => packed,
            Err(error) => {
                ingest.discard()?;
                return Err(error);
            }
        };
        let (digest, compressed) = ingest.commit_as_is()?;
        let used = crate::snapshots::usage(upper)?;
        self.layers().adopt(upper, &diff_id, used, 0)?;
        let layer = Descriptor::new(Compression::Gzip.oci_layer(), digest, compressed);
        Ok(Adopted { layer, diff_id, size })
    }
}

/// Hashes and counts what passes.
struct Hashing<W> {
    hasher: Hasher,
    size: u64,
    to: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use crate::layers::tests::store;
    use std::io::Read as _;

    #[test]
    fn a_directory_becomes_a_layer_and_its_archive() {
        let (_scratch, store) = store();
        let make = || {
            let upper = store.paths().root().join("upper");
            std::fs::create_dir_all(upper.join("a")).unwrap();
            std::fs::write(upper.join("a/f"), b"text").unwrap();
            for path in ["a/f", "a"] {
                let file = std::fs::File::open(upper.join(path)).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
            upper
        };
        let upper = make();
        let adopted = store.adopt_layer(&upper).unwrap();
        assert!(!upper.exists());
        let layer = store.layers().get(&adopted.diff_id).unwrap().unwrap();
        assert_eq!(std::fs::read(layer.path.join("a/f")).unwrap(), b"text");
        assert_eq!(layer.size, 4);
        let mut archive = store.blobs().open(&adopted.layer.digest).unwrap();
        assert_eq!(store.layers().compare(&adopted.diff_id, &mut archive).unwrap(), []);
        let mut plain = Vec::new();
        let mut archive = store.blobs().open(&adopted.layer.digest).unwrap();
        crate::decompress(&mut archive).unwrap().read_to_end(&mut plain).unwrap();
        assert_eq!(oci::Digest::sha256_of(&plain), adopted.diff_id);
        assert_eq!(plain.len() as u64, adopted.size);
        // The same once more is the same.
        assert_eq!(store.adopt_layer(&make()).unwrap(), adopted);
    }
}
