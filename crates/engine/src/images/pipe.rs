//! A bounded pipe from an async task to a thread that blocks.
//!
//! The bound counts bytes, not pieces: whatever the network gives at once, no more than [`LIMIT`] wait. The pieces are
//! handed over as they are, never copied together.

use bytes::{Buf as _, Bytes};
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// How many bytes may wait.
const LIMIT: usize = 2 << 20;

enum Message {
    Piece(Bytes, OwnedSemaphorePermit),
    End,
}

/// The async end. Dropped without [`Sender::finish`], it makes the reader fail instead of seeing an end.
#[derive(Debug)]
pub(super) struct Sender {
    messages: mpsc::UnboundedSender<Message>,
    room: Arc<Semaphore>,
}

/// The blocking end.
pub(super) struct Receiver {
    messages: mpsc::UnboundedReceiver<Message>,
    present: Bytes,
    /// Room that the present piece takes up.
    held: Option<OwnedSemaphorePermit>,
    ended: bool,
}

/// The reader is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// Makes a pipe.
pub(super) fn pipe() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let sender = Sender { messages: sender, room: Arc::new(Semaphore::new(LIMIT)) };
    (sender, Receiver { messages: receiver, present: Bytes::new(), held: None, ended: false })
}

impl Sender {
    /// Waits for room and hands `piece` over.
    pub(super) async fn send(&self, piece: Bytes) -> Result<(), Closed> {
        // A piece larger than the pipe takes all of it.
        let needed = u32::try_from(piece.len().min(LIMIT)).unwrap_or(u32::MAX);
        let permit = tokio::select! {
            permit = Arc::clone(&self.room).acquire_many_owned(needed) => permit.map_err(|_closed| Closed)?,
            () = self.messages.closed() => return Err(Closed),
        };
        self.messages.send(Message::Piece(piece, permit)).map_err(|_closed| Closed)
    }

    /// Tells the reader that this was all.
    pub(super) fn finish(self) {
        // A reader that is gone knows already.
        drop(self.messages.send(Message::End));
    }
}

impl BufRead for Receiver {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.present.is_empty() && !self.ended {
            self.held = None;
            match self.messages.blocking_recv() {
                Some(Message::Piece(piece, permit)) => {
                    self.present = piece;
                    self.held = Some(permit);
                }
                Some(Message::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "transfer cancelled")),
            }
        }
        Ok(&self.present)
    }

    fn consume(&mut self, count: usize) {
        self.present.advance(count.min(self.present.len()));
    }
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.fill_buf()?;
        let count = piece.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("present", &self.present.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn pieces_arrive_in_order_and_end() {
        let (sender, mut receiver) = pipe();
        let reader = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            receiver.read_to_end(&mut all).map(|_| all)
        });
        for piece in ["one", "", "two"] {
            sender.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        sender.finish();
        assert_eq!(reader.await.unwrap().unwrap(), b"onetwo");
    }

    #[tokio::test]
    async fn a_lost_sender_is_an_error_not_an_end() {
        let (sender, mut receiver) = pipe();
        sender.send(Bytes::from_static(b"half")).await.unwrap();
        drop(sender);
        let outcome =
            tokio::task::spawn_blocking(move || receiver.read_to_end(&mut Vec::new())).await.unwrap();
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn no_more_than_the_limit_waits() {
        let (sender, mut receiver) = pipe();
        sender.send(Bytes::from(vec![0; 3 * LIMIT])).await.unwrap();
        let blocked =
            tokio::time::timeout(Duration::from_millis(20), sender.send(Bytes::from_static(b"x"))).await;
        assert!(blocked.is_err());
        let reader = tokio::task::spawn_blocking(move || {
            io::copy(&mut receiver.by_ref().take(3 * LIMIT as u64 + 1), &mut io::sink()).map(|_| receiver)
        });
        sender.send(Bytes::from_static(b"x")).await.unwrap();
        drop(reader.await.unwrap().unwrap());
        assert_eq!(sender.send(Bytes::from_static(b"x")).await, Err(Closed));
    }
}
