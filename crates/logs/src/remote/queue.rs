//! The queue between the owner of a log and the thread that sends.

use super::Message;
use super::service::Remote;
use crate::{Error, Origin, Stream};
use base::Timestamp;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long the owner waits for room when entries are not to be dropped. A receiver that takes nothing for longer is
/// taken for gone until it takes something again.
const STALL: Duration = Duration::from_secs(2);
/// How long the last entries may take when the log ends.
const FLUSH: Duration = Duration::from_secs(3);
/// The first pause before a broken connection is made again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// What the thread needs: it calls nothing deep.
const STACK: usize = 256 * 1024;

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Message>,
    /// Bytes of `waiting`.
    size: usize,
    dropped: u64,
    /// The receiver takes nothing: nobody waits for it.
    stalled: bool,
    /// No more will come.
    closed: bool,
    /// The thread has ended.
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the queue that entries go into. Dropping it waits a moment for the last ones to be sent.
#[derive(Debug)]
pub(crate) struct Sender {
    shared: Arc<Shared>,
    limit: usize,
    blocking: bool,
}

impl Sender {
    /// Connects to the receiver and begins to send.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] if the receiver is not there, unless the driver connects later.
    pub(crate) fn open(remote: &Remote, origin: Origin) -> Result<Self, Error> {
        let connected = remote.address.connect();
        let connection = match connected {
            Ok(connection) => Some(connection),
            Err(_) if remote.connect_later => None,
            Err(source) => {
                return Err(Error::Connect { driver: remote.name(), address: remote.shown.clone(), source });
            }
        };
        let shared = Arc::new(Shared::default());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let work = Work { shared: Arc::clone(&shared), remote: remote.clone(), origin, host, connection };
        thread::Builder::new()
            .name("wharf-log".to_owned())
            .stack_size(STACK)
            .spawn(move || work.run())
            .map_err(Error::io("start the thread of log", ""))?;
        Ok(Self { shared, limit: remote.queue, blocking: remote.blocking })
    }

    /// Puts an entry into the queue; drops it if there is no room.
    pub(crate) fn push(&self, message: Message) {
        let mut state = self.shared.lock();
        let size = message.size();
        let full = |state: &State| state.size > 0 && state.size + size > self.limit;
        if self.blocking && !state.stalled && full(&state) {
            let wait =
                self.shared.changed.wait_timeout_while(state, STALL, |state| full(state) && !state.ended);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            state.stalled = full(&state);
        }
        if full(&state) || state.ended {
            state.dropped += 1;
            return;
        }
        state.size += size;
        state.waiting.push_back(message);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        // A receiver that takes nothing keeps nobody.
        drop(self.shared.changed.wait_timeout_while(state, FLUSH, |state| !state.ended));
    }
}

/// What the thread has.
struct Work {
    shared: Arc<Shared>,
    remote: Remote,
    origin: Origin,
    host: String,
    connection: Option<super::wire::Connection>,
}

impl Work {
    fn run(mut self) {
        while let Some(message) = self.next() {
            if !self.deliver(&message) {
                break;
            }
            let mut state = self.shared.lock();
            state.waiting.pop_front();
            state.size = state.size.saturating_sub(message.size());
            state.stalled = false;
            let lost = std::mem::take(&mut state.dropped);
            drop(state);
            self.shared.changed.notify_all();
            if lost > 0 {
                let line = format!("{lost} log entries were dropped here").into_bytes();
                let time = Timestamp::from_system(SystemTime::now());
                self.deliver(&Message { stream: Stream::Stderr, time, line, partial: false });
            }
        }
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }

    /// Waits for an entry; it stays in the queue until it is sent. `None` when the log has ended.
    fn next(&self) -> Option<Message> {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_while(state, |state| state.waiting.is_empty() && !state.closed);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting.front().cloned()
    }

    /// Sends an entry, over a new connection if need be; `false` when the log has ended and it cannot be sent.
    fn deliver(&mut self, message: &Message) -> bool {
        let pieces = self.remote.encoder.encode(message, &self.origin, &self.host);
        let mut pause = PAUSES.0;
        let mut attempts = 0_u32;
        loop {
            match self.send(&pieces) {
                Ok(()) => return true,
                // Too large for a datagram: it will never go.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                    return true;
                }
                Err(_) => self.connection = None,
            }
            attempts += 1;
            if attempts > 1 && !self.rest(pause) {
                return false;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn send(&mut self, pieces: &[Vec<u8>]) -> io::Result<()> {
        if self.connection.is_none() {
            self.connection = Some(self.remote.address.connect()?);
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        pieces.iter().try_for_each(|piece| connection.send(piece))
    }

    /// Waits before the next attempt; `false` if the log has ended meanwhile.
    fn rest(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut state = self.shared.lock();
        while !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}
