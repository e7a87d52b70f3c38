//! Unpacking on three threads: one decompresses, one hashes, one makes files. Wall time is that of the slowest.
//!
//! The caller's thread reads and decompresses into chunks, each of which goes to both others and then back into a
//! pool; so the memory of an unpacking layer is bounded, and the data is never copied.

use crate::compression::{Counter, Decoder};
use crate::error::{Error, Result};
use oci::{Digest, Hasher};
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// A multiple of the block size, so that headers never straddle chunks.
const CHUNK: usize = 256 * 1024;
/// Chunks on their way to a thread.
const AHEAD: usize = 8;

/// How much a layer may unpack to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Beyond `free_bytes`, so many uncompressed bytes for one compressed one. gzip reaches at most 1032.
    pub ratio: u64,
    /// Up to so many uncompressed bytes the ratio does not count.
    pub free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 42, entries: 50_000_000, ratio: 400, free_bytes: 1 << 32 }
    }
}

/// What went through.
#[derive(Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) value: T,
    pub(crate) diff_id: Digest,
}

type Chunk = Arc<Vec<u8>>;

/// Decompresses `reader`, hashes the result with `hasher`, and gives it to `consume` on another thread.
///
/// `consume` must read to the end, or fail.
pub(crate) fn run<T: Send>(
    reader: &mut dyn Read,
    hasher: Hasher,
    limits: &Limits,
    consume: impl FnOnce(Chunks) -> Result<T> + Send,
) -> Result<Outcome<T>> {
    std::thread::scope(|scope| {
        let (pool, spare) = channel();
        let (to_consumer, chunks) = sync_channel(AHEAD);
        let (to_hasher, hashed) = sync_channel(AHEAD);
        let consumer_chunks = Chunks { chunks, pool: pool.clone(), present: None, position: 0, ended: false };
        let consumer = std::thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(scope, move || consume(consumer_chunks))
            .map_err(Error::LayerStream)?;
        let hasher = std::thread::Builder::new()
            .name("hash".to_owned())
            .spawn_scoped(scope, move || hash(hasher, &hashed, &pool))
            .map_err(Error::LayerStream)?;
        let produced = produce(reader, limits, &spare, &to_consumer, &to_hasher);
        drop(to_consumer);
        drop(to_hasher);
        let consumed = consumer.join().map_err(|_panic| Error::Cancelled)?;
        let diff_id = hasher.join().map_err(|_panic| Error::Cancelled)?;
        match (produced, consumed) {
            // The consumer failed first: the producer only saw that nobody listens.
            (Ok(_), Err(error)) | (Err(error), _) => Err(error),
            (Ok(Produced::Stopped), Ok(_)) => Err(Error::Cancelled),
            (Ok(Produced::All), Ok(value)) => Ok(Outcome { value, diff_id }),
        }
    })
}

enum Produced {
    All,
    Stopped,
}

enum Message {
    Chunk(Chunk),
    End,
}

fn produce(
    reader: &mut dyn Read,
    limits: &Limits,
    spare: &Receiver<Vec<u8>>,
    to_consumer: &SyncSender<Message>,
    to_hasher: &SyncSender<Chunk>,
) -> Result<Produced> {
    let compressed = Cell::new(0);
    let counter = Counter { reader, count: &compressed };
    let mut decoder = Decoder::new(counter).map_err(Error::LayerStream)?;
    let mut total = 0_u64;
    loop {
        let mut buffer = spare.try_recv().unwrap_or_else(|_empty| vec![0; CHUNK]);
        buffer.resize(CHUNK, 0);
        let count = fill(&mut decoder, &mut buffer).map_err(Error::LayerStream)?;
        buffer.truncate(count);
        total += count as u64;
        check(limits, compressed.get(), total)?;
        if count > 0 {
            let chunk = Arc::new(buffer);
            if to_consumer.send(Message::Chunk(Arc::clone(&chunk))).is_err() {
                return Ok(Produced::Stopped);
            }
            if to_hasher.send(chunk).is_err() {
                return Ok(Produced::Stopped);
            }
        }
        if count < CHUNK {
            let sent = to_consumer.send(Message::End);
            return Ok(if sent.is_ok() { Produced::All } else { Produced::Stopped });
        }
    }
}

fn check(limits: &Limits, compressed: u64, total: u64) -> Result<()> {
    if total > limits.bytes {
        return Err(Error::Bomb(format!("it has more than {} bytes", limits.bytes)));
    }
    if total > limits.free_bytes && total / limits.ratio > compressed {
        return Err(Error::Bomb(format!(
            "{compressed} compressed bytes are already {total}, more than {} times as many",
            limits.ratio
        )));
    }
    Ok(())
}

/// Reads until `buffer` is full or the stream ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn hash(mut hasher: Hasher, chunks: &Receiver<Chunk>, pool: &Sender<Vec<u8>>) -> Digest {
    for chunk in chunks {
        hasher.update(&chunk);
        recycle(chunk, pool);
    }
    hasher.finish()
}

/// The last one to let go of a chunk gives its memory back; the pool is gone when the work is done.
fn recycle(chunk: Chunk, pool: &Sender<Vec<u8>>) {
    if let Some(buffer) = Arc::into_inner(chunk) {
        drop(pool.send(buffer));
    }
}

/// The decompressed stream as the consumer sees it.
pub(crate) struct Chunks {
    chunks: Receiver<Message>,
    pool: Sender<Vec<u8>>,
    present: Option<Chunk>,
    position: usize,
    ended: bool,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let done = self.present.as_ref().is_none_or(|chunk| self.position >= chunk.len());
        if done && !self.ended {
            if let Some(chunk) = self.present.take() {
                recycle(chunk, &self.pool);
            }
            self.position = 0;
            match self.chunks.recv() {
                Ok(Message::Chunk(chunk)) => self.present = Some(chunk),
                Ok(Message::End) => self.ended = true,
                // The producer failed, and says why itself.
                Err(_gone) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(self.present.as_ref().and_then(|chunk| chunk.get(self.position..)).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.fill_buf()?;
        let count = piece.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
