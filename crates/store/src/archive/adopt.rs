//! From an upper directory of overlayfs to a layer, in one pass: packed, hashed, compressed, hashed again, stored; and
//! the directory itself becomes the unpacked layer.

use crate::Store;
use crate::error::{Error, Result};
use crate::pack::{Form, pack};
use flate2::write::GzEncoder;
use oci::{Compression, Descriptor, Digest, Hasher};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::thread::{Scope, ScopedJoinHandle};

/// The fastest level that compresses: the higher ones cost many times as much for a tenth less.
const LEVEL: u32 = 1;
const BUFFER: usize = 256 * 1024;
/// A shorter archive is done before a thread has begun.
const LARGE: u64 = 1 << 20;
/// So many pieces wait to be compressed at most.
const PIECES: usize = 8;

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
        let packed = std::thread::scope(|scope| {
            let encoder = GzEncoder::new(
                BufWriter::with_capacity(BUFFER, &mut ingest),
                flate2::Compression::new(LEVEL),
            );
            let mut sink =
                Hashing { hasher: Hasher::sha256(), size: 0, to: Compressing::Here(encoder), scope };
            let mut buffered = BufWriter::with_capacity(BUFFER, &mut sink);
            let used = pack(upper, Form::Still, &mut buffered)?;
            buffered.flush().map_err(Error::LayerStream)?;
            drop(buffered);
            let Hashing { hasher, size, to, .. } = sink;
            to.finish().map_err(Error::LayerStream)?;
            Ok((hasher.finish(), size, used))
        });
        let (diff_id, size, used) = match packed {
            Ok(packed) => packed,
            Err(error) => {
                ingest.discard()?;
                return Err(error);
            }
        };
        let (digest, compressed) = ingest.commit_as_is()?;
        self.layers().adopt(upper, &diff_id, used, 0)?;
        let layer = Descriptor::new(Compression::Gzip.oci_layer(), digest, compressed);
        Ok(Adopted { layer, diff_id, size })
    }
}

/// Hashes and counts what passes. A longer archive is compressed by a thread of its own meanwhile.
struct Hashing<'scope, 'env, W: Write> {
    hasher: Hasher,
    size: u64,
    to: Compressing<'scope, W>,
    scope: &'scope Scope<'scope, 'env>,
}

/// Where the archive is compressed.
enum Compressing<'scope, W: Write> {
    Here(GzEncoder<W>),
    There {
        pieces: SyncSender<Vec<u8>>,
        thread: ScopedJoinHandle<'scope, io::Result<()>>,
    },
    /// In between, and after a failure.
    Nowhere,
}

impl<W: Write> Compressing<'_, W> {
    fn finish(self) -> io::Result<()> {
        match self {
            Self::Here(encoder) => encoder.finish()?.flush(),
            Self::There { pieces, thread } => {
                drop(pieces);
                thread.join().map_err(|_panic| io::Error::other("compressing failed"))?
            }
            Self::Nowhere => Err(io::Error::other("compressing failed")),
        }
    }
}

impl<'scope, W: Write + Send + 'scope> Hashing<'scope, '_, W> {
    /// Hands the rest to a thread.
    fn split(&mut self) {
        let Compressing::Here(mut encoder) = std::mem::replace(&mut self.to, Compressing::Nowhere) else {
            return;
        };
        let (pieces, arriving) = std::sync::mpsc::sync_channel::<Vec<u8>>(PIECES);
        let thread = self.scope.spawn(move || {
            for piece in arriving {
                encoder.write_all(&piece)?;
            }
            encoder.finish()?.flush()
        });
        self.to = Compressing::There { pieces, thread };
    }
}

impl<'scope, W: Write + Send + 'scope> Write for Hashing<'scope, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size >= LARGE && matches!(self.to, Compressing::Here(_)) {
            self.split();
        }
        match &mut self.to {
            Compressing::Here(encoder) => encoder.write_all(bytes)?,
            Compressing::There { pieces, .. } => {
                if pieces.send(bytes.to_vec()).is_err() {
                    // The thread knows why it ended.
                    std::mem::replace(&mut self.to, Compressing::Nowhere).finish()?;
                }
            }
            Compressing::Nowhere => return Err(io::Error::other("compressing failed")),
        }
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::layers::tests::store;
    use std::io::Read as _;

    #[test]
    fn a_directory_becomes_a_layer_and_its_archive() {
        check("text");
        // Longer than what is compressed without a thread.
        let lines: String = (0..400_000).map(|number| format!("{number}\n")).collect();
        check(&lines);
    }

    fn check(text: &str) {
        let (_scratch, store) = store();
        let make = || {
            let upper = store.paths().root().join("upper");
            std::fs::create_dir_all(upper.join("a")).unwrap();
            std::fs::write(upper.join("a/f"), text).unwrap();
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
        assert_eq!(std::fs::read_to_string(layer.path.join("a/f")).unwrap(), text);
        assert_eq!(layer.size, text.len() as u64);
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
