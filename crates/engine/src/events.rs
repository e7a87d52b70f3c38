//! The event bus: what happened, to whoever listens, and the recent past to those who ask for it.

use base::event::{Event, Type};
use base::{Timestamp, id::HexId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::broadcast;

/// How many past events are kept for `since` (dockerd keeps as many).
const HISTORY: usize = 256;
/// How many events a slow listener may lag behind before it loses some.
const LAG: usize = 1024;

/// The event bus. Clones share it.
#[derive(Debug, Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    history: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(LAG);
        Self { inner: Arc::new(Inner { history: Mutex::default(), sender }) }
    }
}

impl Events {
    /// Tells `event` to all listeners and remembers it.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut history = self.history();
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(Arc::clone(&event));
        // Sent under the lock, so that a new listener sees each event once: in the past or in the stream.
        // An error only says that nobody listens.
        drop(self.inner.sender.send(event));
    }

    /// Publishes an event that happens now.
    pub fn now(&self, object: Type, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
        let time = Timestamp::from_system(SystemTime::now());
        self.publish(Event { object, action: action.to_owned(), actor: actor.to_owned(), attributes, time });
    }

    /// Returns the remembered events and a receiver of those to come.
    pub fn subscribe(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let history = self.history();
        (history.iter().cloned().collect(), self.inner.sender.subscribe())
    }

    /// Returns how many listen.
    pub fn listeners(&self) -> usize {
        self.inner.sender.receiver_count()
    }

    fn history(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.inner.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns 256 random bits from the kernel (getrandom(2)).
pub(crate) fn random_id() -> HexId {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // Only EINTR is possible here, and then the loop asks again.
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    HexId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_and_stream_do_not_overlap() {
        let events = Events::default();
        for index in 0..HISTORY + 3 {
            events.now(Type::Image, "tag", &index.to_string(), BTreeMap::new());
        }
        let (past, mut stream) = events.subscribe();
        assert_eq!((past.len(), past[0].actor.as_str()), (HISTORY, "3"));
        events.now(Type::Image, "untag", "x", BTreeMap::new());
        assert_eq!(stream.try_recv().unwrap().action, "untag");
        assert!(stream.try_recv().is_err());
    }
}
