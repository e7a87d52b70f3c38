//! Writing to disk while a pull goes on, so that its last step does not have to wait for all of it.
//!
//! Nothing depends on it: what makes an image durable is the sync of its record. It only keeps the disk busy while the
//! network and the processor are, one sync at a time, each after some more bytes have come.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use store::Store;

/// After so many downloaded bytes, what is there is written.
const AFTER: u64 = 24 << 20;

/// Starts syncs in the background.
#[derive(Debug)]
pub(super) struct Flusher {
    store: Store,
    arrived: AtomicU64,
    busy: AtomicBool,
    /// The kernel tells an error of writing only once, perhaps to us.
    failed: Mutex<Option<store::Error>>,
}

impl Flusher {
    pub(super) fn new(store: Store) -> Arc<Self> {
        let (arrived, busy) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { store, arrived, busy, failed: Mutex::default() })
    }

    /// Counts bytes that have come, and starts a sync if they are enough and none is going on.
    pub(super) fn arrived(self: &Arc<Self>, bytes: usize) {
        let before = self.arrived.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + (bytes as u64) < AFTER || self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        self.arrived.store(0, Ordering::Relaxed);
        let flusher = Arc::clone(self);
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = flusher.store.sync() {
                *flusher.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            flusher.busy.store(false, Ordering::Release);
        }));
    }

    /// Returns the error of a sync that has failed.
    pub(super) fn outcome(&self) -> Result<()> {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(Error::from(error)),
            None => Ok(()),
        }
    }
}
