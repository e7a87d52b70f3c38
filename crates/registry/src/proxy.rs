//! A pull-through cache: what is not here is fetched from another registry, kept, and given out while it comes.
//!
//! Tags are asked for each time, as cheaply as the remote allows (`HEAD`); if it cannot be reached, what is here is
//! given out. A blob is fetched once for all who ask for it meanwhile; its last bytes go out only after its digest has
//! been checked.

use crate::config;
use crate::error::{Code, Error, Refusal, Result};
use crate::metrics::Metrics;
use crate::serve::body::{self, Body, blocking};
use crate::storage::Storage;
use crate::storage::manifest::Manifest;
use crate::storage::upload::Session;
use base::{Classify as _, Kind};
use bytes::Bytes;
use distribution::{Access, Blob, Client, Credentials, Repository, Settings};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use oci::{Descriptor, Digest, Reference};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// How much is written, and read back, at once.
const BATCH: usize = 256 << 10;

type Fetches = Arc<Mutex<HashMap<(String, Digest), watch::Receiver<State>>>>;

/// How far a blob has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Here(u64),
    Done,
    Failed,
}

/// The remote registry.
#[derive(Debug)]
pub(crate) struct Proxy {
    client: Client,
    remote: String,
    credentials: Credentials,
    fetches: Fetches,
    metrics: Arc<Metrics>,
}

impl Proxy {
    pub(crate) fn new(config: &config::Proxy, metrics: Arc<Metrics>) -> Self {
        let insecure = if config.plain { vec![config.remote.clone()] } else { Vec::new() };
        let client = Client::new(Settings { insecure, ..Settings::default() });
        let credentials = Credentials {
            username: config.username.clone(),
            password: config.password.clone(),
            ..Credentials::default()
        };
        Self { client, remote: config.remote.clone(), credentials, fetches: Fetches::default(), metrics }
    }

    fn repository(&self, name: &str, tag: Option<&str>, digest: Option<&Digest>) -> Result<Repository> {
        let invalid = |_| Error::Refused(Refusal::new(Code::NameInvalid));
        let mut reference =
            Reference::parse_normalized(&format!("{}/{name}", self.remote)).map_err(invalid)?;
        if let Some(tag) = tag {
            reference = reference.with_tag(tag).map_err(invalid)?;
        }
        if let Some(digest) = digest {
            reference = reference.with_digest(digest);
        }
        Ok(self.client.repository(&reference, &self.credentials, Access::Pull))
    }

    /// Fetches a manifest unless the one that is here is as good.
    pub(crate) async fn refresh(
        &self,
        storage: &Arc<Storage>,
        name: &str,
        tag: Option<&str>,
        digest: Option<&Digest>,
    ) -> Result<()> {
        let (store, owned, named, wanted) =
            (Arc::clone(storage), name.to_owned(), tag.map(str::to_owned), digest.cloned());
        let here = blocking(move || {
            let digest = match (wanted, named) {
                (Some(digest), _) => Some(digest),
                (None, Some(tag)) => store.tag(&owned, &tag)?,
                (None, None) => None,
            };
            let Some(digest) = digest else { return Ok(None) };
            Ok(store.manifest(&owned, &digest)?.map(|_| digest))
        })
        .await?;
        let repository = self.repository(name, tag, digest)?;
        if here.is_some() {
            let same = digest.is_some()
                || matches!(repository.head().await, Ok(Some(found)) if Some(&found.digest) == here.as_ref());
            if same {
                self.metrics.proxied(true, true);
                return Ok(());
            }
        }
        self.metrics.proxied(true, false);
        let fetched = match repository.resolve().await {
            Ok(fetched) => fetched,
            Err(error) if here.is_some() && error.kind() != Kind::NotFound => {
                tracing::warn!(
                    name,
                    tag,
                    error = base::chain(&error),
                    "the remote registry does not answer; what is here is given out"
                );
                return Ok(());
            }
            Err(error) if error.kind() == Kind::NotFound => {
                // A tag that is gone there is gone here.
                if let (Some(tag), true) = (tag.map(str::to_owned), here.is_some()) {
                    let (store, owned) = (Arc::clone(storage), name.to_owned());
                    blocking(move || store.delete_tag(&owned, &tag)).await?;
                }
                return Ok(());
            }
            Err(error) => return Err(unavailable(&error)),
        };
        let (store, owned, tags) = (Arc::clone(storage), name.to_owned(), tag.map(str::to_owned));
        blocking(move || {
            let manifest = Manifest::parse(&fetched.descriptor.media_type, &fetched.bytes)?;
            // Its content comes when somebody asks for it.
            let manifest = Manifest { needed: Vec::new(), ..manifest };
            let tags: Vec<String> = tags.into_iter().collect();
            store.put_manifest(&owned, &fetched.descriptor.digest, &fetched.bytes, &manifest, &tags)
        })
        .await
    }

    /// Returns the remote's tags; `None` if it does not tell.
    pub(crate) async fn tags(&self, name: &str) -> Option<Vec<String>> {
        let mut all = self.repository(name, None, None).ok()?.tags().await.ok()?;
        all.sort();
        Some(all)
    }

    /// Returns a remote blob's size.
    pub(crate) async fn size(&self, name: &str, digest: &Digest) -> Result<Option<u64>> {
        match self.repository(name, None, Some(digest))?.blob_size(digest).await {
            Ok(size) => Ok(size),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Begins to fetch a blob that is not here, and returns its size and its bytes as they come; `None` if it is here
    /// (after it has come whole, if only a part of it is `ranged`), or nowhere.
    pub(crate) async fn blob(
        &self,
        storage: &Arc<Storage>,
        name: &str,
        digest: &Digest,
        ranged: bool,
    ) -> Result<Option<(u64, Body)>> {
        let (store, owned, wanted) = (Arc::clone(storage), name.to_owned(), digest.clone());
        let here = blocking(move || store.stat(&owned, &wanted)).await?;
        self.metrics.proxied(false, here.is_some());
        if here.is_some() {
            return Ok(None);
        }
        let Some(size) = self.size(name, digest).await? else { return Ok(None) };
        let (mut state, reader) = self.fetch(storage, name, digest, size).await?;
        let Some(reader) = reader.filter(|_| !ranged) else {
            // Somebody else's fetch, or a part of it: wait until it is here.
            let ended = state.wait_for(|state| matches!(state, State::Done | State::Failed)).await;
            let done = ended.is_ok_and(|state| *state == State::Done);
            return if done { Ok(None) } else { Err(Refusal::new(Code::Unavailable).into()) };
        };
        Ok(Some((size, follow(reader, state, size))))
    }

    /// Starts a fetch, or joins one.
    async fn fetch(
        &self,
        storage: &Arc<Storage>,
        name: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<(watch::Receiver<State>, Option<File>)> {
        let key = (name.to_owned(), digest.clone());
        let (sender, receiver) = watch::channel(State::Here(0));
        {
            let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = fetches.get(&key) {
                return Ok((running.clone(), None));
            }
            fetches.insert(key.clone(), receiver.clone());
        }
        let ended = Ended { fetches: Arc::clone(&self.fetches), key };
        let repository = self.repository(name, None, Some(digest))?;
        let (store, owned, algorithm) = (Arc::clone(storage), name.to_owned(), digest.algorithm());
        let (session, reader) = blocking(move || {
            let (_, session) = store.begin(&owned, algorithm)?;
            let reader = session.reader()?;
            Ok((session, reader))
        })
        .await?;
        let (store, name, digest) = (Arc::clone(storage), name.to_owned(), digest.clone());
        tokio::spawn(async move {
            let descriptor = Descriptor::new("application/octet-stream", digest.clone(), size);
            let blob = repository.blob(&descriptor, 0);
            let outcome = download(&store, &name, session, blob, digest.clone(), &sender).await;
            if let Err(error) = &outcome {
                tracing::warn!(name, %digest, error = base::chain(error), "a blob could not be fetched");
            }
            sender.send_replace(if outcome.is_ok() { State::Done } else { State::Failed });
            drop(ended);
        });
        Ok((receiver, Some(reader)))
    }
}

/// Takes a fetch from the list when it has ended, however.
struct Ended {
    fetches: Fetches,
    key: (String, Digest),
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

fn unavailable(error: &distribution::Error) -> Error {
    let code = match error.kind() {
        _ if matches!(error, distribution::Error::Refused { refusal } if refusal.status == 429) => {
            Code::TooManyRequests
        }
        Kind::Unauthorized | Kind::Forbidden => Code::Denied,
        _ => Code::Unavailable,
    };
    Refusal::with(code, base::chain(error)).into()
}

/// Fetches a blob to the end and keeps it; `sender` is told how far it is.
async fn download(
    storage: &Arc<Storage>,
    name: &str,
    mut session: Session,
    mut blob: Blob,
    digest: Digest,
    sender: &watch::Sender<State>,
) -> Result<()> {
    loop {
        let (mut batch, mut count) = (Vec::new(), 0);
        let mut end = false;
        while count < BATCH && !end {
            match blob.chunk().await? {
                Some(chunk) => {
                    count += chunk.len();
                    batch.push(chunk);
                }
                None => end = true,
            }
        }
        session = blocking(move || {
            for chunk in &batch {
                session.write(chunk)?;
            }
            Ok(session)
        })
        .await?;
        sender.send_replace(State::Here(session.written()));
        if end {
            break;
        }
    }
    let (storage, name) = (Arc::clone(storage), name.to_owned());
    blocking(move || storage.finish(&name, session, &digest)).await.map(drop)
}

/// Gives out a file while it grows to `size` bytes; the last of them only once all is checked.
fn follow(file: File, state: watch::Receiver<State>, size: u64) -> Body {
    if size == 0 {
        return body::empty();
    }
    let pieces = stream::try_unfold((file, state, 0_u64), move |(file, mut state, given)| async move {
        if given >= size {
            return Ok(None);
        }
        let ready = |state: &State| match state {
            // One byte is kept back.
            State::Here(here) => *here > given + 1,
            State::Done | State::Failed => true,
        };
        let now = *state.wait_for(ready).await.map_err(io::Error::other)?;
        let end = match now {
            State::Here(here) => here.min(size) - 1,
            State::Done => size,
            State::Failed => return Err(io::Error::other("the remote registry failed")),
        };
        let length = usize::try_from(end - given).unwrap_or(BATCH).min(BATCH);
        let read = tokio::task::spawn_blocking(move || {
            let mut file = file;
            let mut buffer = vec![0; length];
            file.read_exact(&mut buffer).map(|()| (file, Bytes::from(buffer)))
        });
        let (file, bytes) = read.await.map_err(io::Error::other)??;
        let given = given + bytes.len() as u64;
        Ok(Some((Frame::data(bytes), (file, state, given))))
    });
    BodyExt::boxed_unsync(StreamBody::new(pieces))
}
