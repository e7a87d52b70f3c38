//! One layer: from the registry into its blob and, in the same pass, unpacked.
//!
//! ```text
//! task:    Blob::chunk ──▶ pipe ──▶ thread: ingest (write + hash) ──▶ unpack (inflate, hash, make files)
//! ```
//!
//! An unfinished blob stays; the next attempt reads what is there and fetches the rest. Nothing is visible before both
//! digests are right.

use super::flight::{Flights, Turn};
use super::flush::Flusher;
use super::pipe::{Receiver, pipe};
use super::progress::{BlobState, Teller};
use super::registry_error;
use crate::error::{Error, Result};
use distribution::Repository;
use oci::{Descriptor, Digest};
use std::io::{self, Read};
use std::sync::Arc;
use store::{Ingest, Store, Tee};
use tokio::sync::Semaphore;

/// A layer to be had, and what is needed to get it.
pub(super) struct Job {
    pub(super) store: Store,
    pub(super) repository: Repository,
    pub(super) flights: Arc<Flights>,
    pub(super) downloads: Arc<Semaphore>,
    pub(super) layer: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) teller: Teller,
    pub(super) flusher: Arc<Flusher>,
}

/// What is here of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Present {
    blob: bool,
    unpacked: bool,
}

impl Job {
    /// Gets the layer, unless it is here.
    pub(super) async fn run(self) -> Result<()> {
        let turn = self.flights.turn(&self.layer.digest, || self.teller.tell(BlobState::Waiting)).await;
        let present = self.present().await?;
        match present {
            Present { blob: true, unpacked: true } => {
                self.teller.tell(BlobState::Exists);
                return Ok(());
            }
            Present { blob: true, unpacked: false } => self.unpack_here(turn).await?,
            Present { blob: false, unpacked } => self.fetch(turn, !unpacked).await?,
        }
        self.teller.tell(BlobState::Complete);
        Ok(())
    }

    async fn present(&self) -> Result<Present> {
        let (store, layer, diff_id) = (self.store.clone(), self.layer.clone(), self.diff_id.clone());
        super::blocking(move || {
            let blob = store.blobs().size(&layer.digest) == Some(layer.size);
            Ok(Present { blob, unpacked: store.layers().get(&diff_id)?.is_some() })
        })
        .await
    }

    /// Unpacks a blob that is here.
    async fn unpack_here(&self, turn: Turn) -> Result<()> {
        let total = self.layer.size;
        self.teller.tell(BlobState::Extracting { current: 0, total });
        let (store, digest, diff_id) = (self.store.clone(), self.layer.digest.clone(), self.diff_id.clone());
        super::blocking(move || {
            let mut reader = store.blobs().open(&digest)?;
            let outcome = store.layers().unpack(&mut reader, &diff_id);
            drop(turn);
            outcome.map(drop).map_err(Error::from)
        })
        .await
    }

    async fn fetch(&self, turn: Turn, unpack: bool) -> Result<()> {
        let (turn, resumed, error) = match self.transfer(turn, unpack).await? {
            Transfer::Done => return Ok(()),
            Transfer::Wrong { turn, resumed, error } => (turn, resumed, error),
        };
        if !resumed {
            return Err(error);
        }
        // What an earlier attempt left may be damaged: once more, from the beginning.
        tracing::warn!(layer = %self.layer.digest, error = %base::chain(&error), "resumed download is wrong and starts again");
        match self.transfer(turn, unpack).await? {
            Transfer::Done => Ok(()),
            Transfer::Wrong { error, .. } => Err(error),
        }
    }

    async fn transfer(&self, turn: Turn, unpack: bool) -> Result<Transfer> {
        let total = self.layer.size;
        let permit = match self.downloads.try_acquire() {
            Ok(permit) => permit,
            Err(_none_left) => {
                self.teller.tell(BlobState::Waiting);
                self.downloads.acquire().await.map_err(|_closed| Error::from(store::Error::Cancelled))?
            }
        };
        let (store, layer) = (self.store.clone(), self.layer.clone());
        let ingest = super::blocking(move || {
            let mut ingest = store.blobs().ingest(&layer.digest.to_string())?;
            if ingest.written() > layer.size {
                ingest.restart()?;
            }
            Ok(ingest)
        })
        .await?;
        let offset = ingest.written();
        let (sender, receiver) = pipe();
        let sink = Sink {
            store: self.store.clone(),
            layer: self.layer.clone(),
            diff_id: unpack.then(|| self.diff_id.clone()),
        };
        let worker = tokio::task::spawn_blocking(move || (sink.absorb(ingest, receiver), turn));
        let mut blob = self.repository.blob(&self.layer, offset);
        let network = loop {
            match blob.chunk().await {
                Ok(Some(piece)) => {
                    self.teller.count(BlobState::Downloading { current: blob.offset(), total });
                    self.flusher.arrived(piece.len());
                    // A reader that is gone has failed, and says why.
                    if sender.send(piece).await.is_err() {
                        drop(sender);
                        break None;
                    }
                }
                Ok(None) => {
                    sender.finish();
                    self.teller.tell(BlobState::Downloading { current: total, total });
                    self.teller.tell(BlobState::Verifying);
                    self.teller.tell(BlobState::Downloaded);
                    if unpack {
                        self.teller.tell(BlobState::Extracting { current: total, total });
                    }
                    break None;
                }
                Err(error) => {
                    drop(sender);
                    break Some(error);
                }
            }
        };
        drop(permit);
        let (outcome, turn) =
            worker.await.map_err(|error| Error::known(base::Kind::Internal, error.to_string()))?;
        match (network, outcome) {
            (Some(error), _) => Err(registry_error(&error)),
            (None, Ok(())) => Ok(Transfer::Done),
            (None, Err(error)) if is_wrong_content(&error) => {
                Ok(Transfer::Wrong { turn, resumed: offset > 0, error: worded(error, &self.layer) })
            }
            (None, Err(error)) => Err(error.into()),
        }
    }
}

/// How a transfer ended.
enum Transfer {
    Done,
    /// The bytes are not what they should be; they have been thrown away.
    Wrong {
        turn: Turn,
        /// Whether some of them were here before.
        resumed: bool,
        error: Error,
    },
}

/// Where the bytes of one layer go.
struct Sink {
    store: Store,
    layer: Descriptor,
    /// `None` if it need not be unpacked.
    diff_id: Option<Digest>,
}

impl Sink {
    /// Takes all bytes, on a thread that may block.
    fn absorb(&self, mut ingest: Ingest, mut receiver: Receiver) -> store::Result<()> {
        if let Err(error) = self.consume(&mut ingest, &mut receiver) {
            if is_wrong_content(&error) {
                ingest.restart()?;
            }
            return Err(error);
        }
        ingest.commit(&self.layer.digest, Some(self.layer.size))
    }

    fn consume(&self, ingest: &mut Ingest, receiver: &mut Receiver) -> store::Result<()> {
        let Some(diff_id) = &self.diff_id else {
            io::copy(receiver, ingest).map_err(store::Error::LayerStream)?;
            return Ok(());
        };
        let here = ingest.reader()?.take(ingest.written());
        let mut reader = here.chain(Tee::new(receiver, ingest));
        self.store.layers().unpack(&mut reader, diff_id)?;
        // A layer that appeared meanwhile was not read; its blob is still wanted.
        io::copy(&mut reader, &mut io::sink()).map_err(store::Error::LayerStream)?;
        Ok(())
    }
}

/// Says whether the bytes themselves are at fault, and not their way here or the disk.
fn is_wrong_content(error: &store::Error) -> bool {
    match error {
        store::Error::WrongDigest { .. }
        | store::Error::WrongSize { .. }
        | store::Error::WrongDiffId { .. }
        | store::Error::Archive(_)
        | store::Error::Entry { .. }
        | store::Error::Bomb(_) => true,
        // Neither a transfer that was given up nor a full disk.
        store::Error::LayerStream(error) => {
            error.kind() != io::ErrorKind::ConnectionAborted && error.raw_os_error().is_none()
        }
        _ => false,
    }
}

/// Words wrong content as Docker does.
fn worded(error: store::Error, layer: &Descriptor) -> Error {
    match error {
        store::Error::WrongDigest { .. } | store::Error::WrongSize { .. } => Error::known(
            base::Kind::Internal,
            format!("filesystem layer verification failed for digest {}", layer.digest),
        ),
        other => {
            let text = base::chain(&other);
            Error::known(base::Kind::Internal, format!("failed to register layer: {text}"))
        }
    }
}
