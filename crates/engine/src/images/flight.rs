//! One at a time for each piece of content: whoever comes second waits, and then finds it here.
//!
//! If the first one fails or is cancelled, the next takes over (and resumes what was downloaded).

use oci::Digest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The content being worked on.
#[derive(Debug, Default)]
pub(super) struct Flights {
    running: StdMutex<HashMap<Digest, Weak<Mutex<()>>>>,
}

/// The right to work on one piece of content, until dropped.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Flights {
    /// Waits for the turn to work on `digest`; calls `waiting` if somebody else has it.
    pub(super) async fn turn(&self, digest: &Digest, waiting: impl FnOnce()) -> Turn {
        let lock = self.lock(digest);
        if let Ok(turn) = Arc::clone(&lock).try_lock_owned() {
            return turn;
        }
        waiting();
        lock.lock_owned().await
    }

    fn lock(&self, digest: &Digest) -> Arc<Mutex<()>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = running.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(Mutex::new(()));
        running.insert(digest.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn one_at_a_time_and_nothing_left() {
        let flights = Arc::new(Flights::default());
        let (one, other) = (Digest::sha256_of(b"1"), Digest::sha256_of(b"2"));
        let first = flights.turn(&one, || panic!("nobody is there")).await;
        let second = flights.turn(&other, || panic!("another digest")).await;
        let waited = AtomicUsize::new(0);
        let third = async {
            drop(
                flights
                    .turn(&one, || {
                        waited.fetch_add(1, Ordering::SeqCst);
                    })
                    .await,
            );
        };
        let release = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        tokio::join!(third, release);
        assert_eq!(waited.load(Ordering::SeqCst), 1);
        drop(second);
        drop(flights.turn(&one, || ()).await);
        assert_eq!(flights.running.lock().unwrap().len(), 1, "only the one just made");
    }
}
