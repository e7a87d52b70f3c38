//! Layers of an archive on their way into the store.
//!
//! ```text
//! reading thread: archive ──▶ blob (written; hashed if compressed) ──▶ the next layer …
//!                               ╰─▶ threads per layer: read behind the writer, inflate │ hash │ make files
//! ```
//!
//! The reading thread never waits for a layer's files, which are what takes long: what is not unpacked yet is in the blob,
//! mostly still in the page cache. So layers overlap, memory does not grow with them, and no byte is written twice.

use crate::error::{Error, Result};
use crate::{Ingest, Layer, Store};
use oci::{Compression, Digest};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// Layers that are unpacked at a time.
const PARALLEL: usize = 3;

/// A layer that is in the store.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) compression: Compression,
    /// `None` if it was here and has not been looked at.
    pub(super) diff_id: Option<Digest>,
}

/// The layers on their way, in the archive's order.
pub(super) struct Layers<'scope, 'env> {
    store: &'env Store,
    scope: &'scope Scope<'scope, 'env>,
    pending: VecDeque<Pending<'scope>>,
}

struct Pending<'scope> {
    name: String,
    expected: Option<Digest>,
    compression: Compression,
    /// `None` once it is committed or given up.
    ingest: Option<Ingest>,
    growth: Arc<Growth>,
    unpacking: Option<ScopedJoinHandle<'scope, Result<Layer>>>,
}

impl<'scope, 'env> Layers<'scope, 'env> {
    pub(super) fn new(store: &'env Store, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self { store, scope, pending: VecDeque::new() }
    }

    /// Says whether one must be settled before another begins.
    pub(super) fn are_enough(&self) -> bool {
        self.pending.len() >= PARALLEL
    }

    /// Begins a layer; `expected` is its digest if the archive says so.
    pub(super) fn begin(
        &mut self,
        name: String,
        compression: Compression,
        expected: Option<Digest>,
    ) -> Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = format!("load {} {}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut ingest = self.store.blobs().ingest(&key)?;
        ingest.restart()?;
        if compression == Compression::None {
            // Unpacking hashes the same bytes.
            ingest.leave_hash_to_others();
        }
        let growth = Arc::new(Growth::default());
        let mut reader = Follower { file: ingest.reader()?, growth: Arc::clone(&growth), position: 0 };
        let (store, seen) = (self.store, Arc::clone(&growth));
        let unpacking =
            std::thread::Builder::new().name("load".to_owned()).spawn_scoped(self.scope, move || {
                let outcome = store.layers().unpack_unknown(&mut reader);
                seen.state().failed = outcome.is_err();
                outcome
            });
        let unpacking = unpacking.map_err(Error::LayerStream)?;
        self.pending.push_back(Pending {
            name,
            expected,
            compression,
            ingest: Some(ingest),
            growth,
            unpacking: Some(unpacking),
        });
        Ok(())
    }

    /// Takes some of the bytes of the layer that was begun last; says whether more are wanted.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<bool> {
        let Some(pending) = self.pending.back_mut() else { return Ok(false) };
        let Some(ingest) = &mut pending.ingest else { return Ok(false) };
        ingest.write_all(bytes).map_err(Error::LayerStream)?;
        Ok(pending.growth.advance(bytes.len() as u64))
    }

    /// Ends the layer that was begun last.
    pub(super) fn end(&self) {
        if let Some(pending) = self.pending.back() {
            pending.growth.end(End::Whole);
        }
    }

    /// Waits for the oldest layer, checks it and makes its blob visible; `None` if there is none left.
    pub(super) fn settle(&mut self) -> Result<Option<(String, Taken)>> {
        let Some(mut pending) = self.pending.pop_front() else { return Ok(None) };
        let unpacked = pending.unpacking.take().map(ScopedJoinHandle::join);
        let (Some(Ok(outcome)), Some(ingest)) = (unpacked, pending.ingest.take()) else {
            return Err(Error::Cancelled);
        };
        let diff_id = match outcome {
            Ok(layer) => layer.diff_id,
            Err(error) => {
                ingest.discard()?;
                return Err(error);
            }
        };
        let size = ingest.written();
        let digest = match (pending.compression, pending.expected.take()) {
            (Compression::None, expected)
                if expected.as_ref().is_none_or(|expected| *expected == diff_id) =>
            {
                ingest.commit_known(&diff_id)?;
                diff_id.clone()
            }
            (_, Some(expected)) => {
                ingest.commit(&expected, None)?;
                expected
            }
            (_, None) => ingest.commit_as_is()?.0,
        };
        let taken = Taken { digest, size, compression: pending.compression, diff_id: Some(diff_id) };
        Ok(Some((std::mem::take(&mut pending.name), taken)))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // Whoever still reads it gives up.
        self.growth.end(End::Broken);
        if let Some(ingest) = self.ingest.take() {
            // What stays is collected like any unfinished download.
            drop(ingest.discard());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    end: Option<End>,
    /// The reader will read no more.
    failed: bool,
}

/// How far the writer of a file has come.
#[derive(Debug, Default)]
struct Growth {
    state: Mutex<State>,
    grown: Condvar,
}

impl Growth {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether somebody still reads.
    fn advance(&self, bytes: u64) -> bool {
        let mut state = self.state();
        state.written += bytes;
        self.grown.notify_one();
        !state.failed
    }

    fn end(&self, end: End) {
        self.state().end.get_or_insert(end);
        self.grown.notify_one();
    }

    /// Waits until there is something beyond `position`; 0 is the end.
    fn beyond(&self, position: u64) -> io::Result<u64> {
        let waits = |state: &mut State| state.written == position && state.end.is_none();
        let state = self.grown.wait_while(self.state(), waits).unwrap_or_else(PoisonError::into_inner);
        match (state.written - position, state.end) {
            (_, Some(End::Broken)) => Err(io::ErrorKind::ConnectionAborted.into()),
            (more, _) => Ok(more),
        }
    }
}

/// Reads a file behind its writer.
struct Follower {
    file: File,
    growth: Arc<Growth>,
    position: u64,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.growth.beyond(self.position)?).unwrap_or(usize::MAX);
        let room = buffer.len().min(most);
        let count = self.file.read(buffer.get_mut(..room).unwrap_or_default())?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_behind_the_writer_sees_all_bytes_and_how_it_ended() {
        for end in [End::Whole, End::Broken] {
            let scratch = crate::testing::Scratch::new();
            let path = scratch.path().join("file");
            let mut writer = File::create(&path).unwrap();
            let growth = Arc::new(Growth::default());
            let mut follower =
                Follower { file: File::open(&path).unwrap(), growth: Arc::clone(&growth), position: 0 };
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                follower.read_to_end(&mut all).map(|_count| all)
            });
            let mut expected = Vec::new();
            for piece in 0..200_u8 {
                let bytes = vec![piece; usize::from(piece) * 7];
                writer.write_all(&bytes).unwrap();
                expected.extend_from_slice(&bytes);
                assert!(growth.advance(bytes.len() as u64));
            }
            growth.end(end);
            let outcome = reader.join().unwrap();
            match end {
                End::Whole => assert_eq!(outcome.unwrap(), expected),
                End::Broken => assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionAborted),
            }
        }
    }
}
