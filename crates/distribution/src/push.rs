//! The pushing side of a repository: blobs asked for, mounted or uploaded; manifests put (distribution-spec *Push*).
//!
//! A blob goes up in one `PUT` to the location that a `POST` gave. After a break the registry is asked how much it has, and
//! the rest goes up by `PATCH`; only if it has lost the upload, that starts again at a new location. Content is read by a thread of its own and goes through a short queue, so a slow registry slows the reading down.

use crate::auth::Subject;
use crate::endpoint::Endpoint;
use crate::error::{BoxError, Error, Failure};
use crate::exchange::{Answer, Call};
use crate::refusal;
use crate::repository::{CONTENT_DIGEST, Repository};
use crate::{transport, uri};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use oci::{Descriptor, Digest};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// How much is read from a blob at once, and how many such pieces wait.
const PIECE: usize = 256 * 1024;
const QUEUE: usize = 4;

/// Gives the bytes of a blob from an offset on each time it is called; called on a thread that may block.
pub type Source = Arc<dyn Fn(u64) -> std::io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// An upload that has begun.
struct Begun {
    /// Where it goes on, as the registry said last.
    location: Uri,
    /// Whether that is where the registry is, so that it may see credentials.
    ours: bool,
    /// How many bytes the registry has.
    offset: u64,
}

/// Is told how many bytes of the blob have been sent.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

impl Repository {
    /// Says whether the registry has the blob in this repository.
    ///
    /// # Errors
    ///
    /// The registry's refusal, or that it cannot be reached.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        self.find_blob(digest).await.map(|found| found.is_some())
    }

    /// Returns the size of a blob in bytes; `None` if the repository does not have it, or the registry does not tell.
    ///
    /// # Errors
    ///
    /// The registry's refusal, or that it cannot be reached.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let answer = self.find_blob(digest).await?;
        Ok(answer.and_then(|answer| answer.header(&header::CONTENT_LENGTH)?.parse().ok()))
    }

    async fn find_blob(&self, digest: &Digest) -> Result<Option<Answer>, Error> {
        let call = Call::new(Method::HEAD, self.path(&format!("blobs/{digest}")));
        match self.repeated(self.origin()?, &call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Refused { refusal }) if refusal.status == 404 => Ok(None),
            Err(error) => Err(self.worded(Some(error))),
        }
    }

    /// Says whether the registry has the manifest in this repository.
    ///
    /// # Errors
    ///
    /// The registry's refusal, or that it cannot be reached.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool, Error> {
        let call = Call::new(Method::HEAD, self.path(&format!("manifests/{digest}")))
            .header(header::ACCEPT, HeaderValue::from_static("*/*"));
        match self.repeated(self.origin()?, &call).await {
            Ok(_) => Ok(true),
            Err(Error::Refused { refusal }) if refusal.status == 404 => Ok(false),
            Err(error) => Err(self.worded(Some(error))),
        }
    }

    /// Asks the registry to take the blob over from `other`, a repository (path) of the same registry.
    ///
    /// Returns whether it did; if not, the blob has to be uploaded.
    ///
    /// # Errors
    ///
    /// The registry's refusal of the whole repository, or that it cannot be reached.
    pub async fn mount(&self, digest: &Digest, other: &str) -> Result<bool, Error> {
        let path = uri::with_query(&self.path("blobs/uploads/"), "mount", &digest.to_string());
        let call = Call::new(Method::POST, uri::with_query(&path, "from", other));
        let scope = format!("{} repository:{other}:pull", self.scope());
        let endpoint = self.origin()?;
        let subject = Subject { scope: &scope, ..self.subject(endpoint) };
        match self.exchange().success(subject, &call).await {
            Ok(answer) if answer.response.status() == http::StatusCode::CREATED => Ok(true),
            Ok(answer) => {
                self.cancel(endpoint, &answer).await;
                Ok(false)
            }
            // A user who may not read the other repository simply uploads.
            Err(Error::Refused { .. } | Error::Token { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads a blob: `source` gives its bytes, which must be those of `descriptor`.
    ///
    /// # Errors
    ///
    /// The registry's refusal, also of bytes that do not have the digest; or that `source` cannot be read.
    pub async fn upload(
        &self,
        descriptor: &Descriptor,
        source: Source,
        progress: Progress,
    ) -> Result<(), Error> {
        let endpoint = self.origin()?;
        let (mut begun, mut failed, mut reached) = (None, 0, 0);
        loop {
            let outcome = match begun.take() {
                None => self.begin(endpoint).await,
                // Nothing has come yet: the next one is as good.
                Some(Begun { offset: 0, .. }) if failed > 0 => self.begin(endpoint).await,
                Some(known) => Ok(known),
            };
            let outcome = match outcome {
                Ok(known) => {
                    let known = begun.insert(known);
                    self.go_on(endpoint, descriptor, known, (&source, &progress)).await
                }
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // The token may have expired between the first request and the upload: a new start fetches a new one.
            let expired =
                failed == 0 && matches!(&error, Error::Refused { refusal } if refusal.status == 401);
            if !(error.is_transient() || expired) {
                return Err(self.worded(Some(error)));
            }
            failed += 1;
            self.client().back_off(failed, error).await?;
            begun = match begun {
                Some(known) if known.ours => self.standing(endpoint, known).await,
                _ => None,
            };
            // As long as it gets on, it does not give up.
            let offset = begun.as_ref().map_or(0, |known| known.offset);
            if offset > reached {
                (failed, reached) = (0, offset);
            }
        }
    }

    /// Puts a manifest or index under `name`, a tag or its digest.
    ///
    /// # Errors
    ///
    /// The registry's refusal, or that it cannot be reached.
    pub async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Descriptor, Error> {
        let descriptor = Descriptor::of(media_type, &bytes);
        let mut call = Call::new(Method::PUT, self.path(&format!("manifests/{name}")));
        if let Ok(media_type) = HeaderValue::try_from(media_type) {
            call = call.header(header::CONTENT_TYPE, media_type);
        }
        call.body = bytes;
        let answer = self.repeated(self.origin()?, &call).await.map_err(|error| self.worded(Some(error)))?;
        match answer.header(&CONTENT_DIGEST).map(Digest::parse) {
            Some(Ok(told))
                if told != descriptor.digest && told.algorithm() == descriptor.digest.algorithm() =>
            {
                Err(Error::WrongDigest { expected: descriptor.digest.to_string(), found: told.to_string() })
            }
            _ => Ok(descriptor),
        }
    }

    async fn begin(&self, endpoint: &Endpoint) -> Result<Begun, Error> {
        let call = Call::new(Method::POST, self.path("blobs/uploads/"));
        let answer = self.exchange().success(self.subject(endpoint), &call).await?;
        let location = location(&answer)?;
        if location.scheme_str() != Some("https") && answer.url.scheme_str() == Some("https") {
            return Err(protocol(&location, "location leaves HTTPS"));
        }
        Ok(Begun { ours: uri::same_origin(&location, &answer.url), location, offset: 0 })
    }

    /// Asks how much of an upload is there (distribution-spec, *Pushing a blob in chunks*); `None` if it has to start again.
    async fn standing(&self, endpoint: &Endpoint, begun: Begun) -> Option<Begun> {
        let call = Call::new(Method::GET, begun.location.to_string());
        let answer = match self.exchange().success(self.subject(endpoint), &call).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(error = %base::chain(&error), "an upload is lost and starts again");
                return None;
            }
        };
        let last: u64 = answer.header(&header::RANGE)?.rsplit('-').next()?.parse().ok()?;
        // `0-0` is nothing, or one byte: the same as nothing.
        let offset = if last == 0 { 0 } else { last + 1 };
        let location = location(&answer).ok().filter(|next| uri::same_origin(next, &answer.url));
        Some(Begun { location: location.unwrap_or(begun.location), ours: true, offset })
    }

    /// Sends what the registry does not have yet and finishes the upload.
    async fn go_on(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        begun: &mut Begun,
        (source, progress): (&Source, &Progress),
    ) -> Result<(), Error> {
        let (offset, size) = (begun.offset, descriptor.size);
        let rest = Rest { source, progress, offset, length: size.saturating_sub(offset) };
        if offset > size {
            return Err(protocol(&begun.location, "more of the blob is there than it has"));
        }
        if offset > 0 && offset < size {
            let target = begun.location.clone();
            let response = self.send(endpoint, Method::PATCH, (&target, begun.ours), &rest).await?;
            let answer = Answer { url: target, response };
            begun.location = location(&answer).unwrap_or_else(|_none| begun.location.clone());
            begun.offset = size;
        }
        let text = uri::with_query(&begun.location.to_string(), "digest", &descriptor.digest.to_string());
        let target: Uri =
            text.parse().map_err(|_ignored| protocol(&begun.location, "location is not a URL"))?;
        let rest = Rest { offset: begun.offset, length: size - begun.offset, ..rest };
        self.send(endpoint, Method::PUT, (&target, begun.ours), &rest).await.map(drop)
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        method: Method,
        (target, ours): (&Uri, bool),
        rest: &Rest<'_>,
    ) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let sent = Arc::new(AtomicU64::new(0));
        let (pieces, failure) = read_ahead(Arc::clone(rest.source), rest.offset);
        let stream = {
            let (sent, progress, offset) = (Arc::clone(&sent), Arc::clone(rest.progress), rest.offset);
            futures_util::stream::unfold(pieces, move |mut pieces| {
                let (sent, progress) = (Arc::clone(&sent), Arc::clone(&progress));
                async move {
                    let piece: Result<Bytes, std::io::Error> = pieces.recv().await?;
                    let piece = piece.map(|bytes| {
                        let length = bytes.len() as u64;
                        progress(offset + sent.fetch_add(length, Ordering::Relaxed) + length);
                        Frame::data(bytes)
                    });
                    Some((piece.map_err(BoxError::from), pieces))
                }
            })
        };
        let mut request = Request::new(StreamBody::new(stream).boxed_unsync());
        *request.uri_mut() = target.clone();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(crate::USER_AGENT));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(rest.length));
        if method == Method::PATCH {
            let range = format!("{}-{}", rest.offset, rest.offset + rest.length.saturating_sub(1));
            headers.extend(HeaderValue::try_from(range).map(|range| (header::CONTENT_RANGE, range)));
        }
        *request.method_mut() = method;
        if ours && let Some(authorization) = self.exchange().authorization(self.subject(endpoint)).await? {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        if ours {
            endpoint.prepare(&mut request);
        }
        let outcome = self.exchange().transport.send_while(request, &sent).await;
        if let Some(error) = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            return Err(Error::Source(error));
        }
        let response = outcome?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(Error::Refused { refusal: refusal::read(&self.exchange().transport, target, response).await? })
    }

    /// Gives an upload up that is not wanted, so that the registry need not keep it.
    async fn cancel(&self, endpoint: &Endpoint, started: &Answer) {
        let Ok(location) = location(started) else { return };
        if !uri::same_origin(&location, &started.url) {
            return;
        }
        let call = Call::new(Method::DELETE, location.to_string());
        if let Err(error) = self.exchange().success(self.subject(endpoint), &call).await {
            tracing::debug!(error = %base::chain(&error), "upload could not be cancelled");
        }
    }
}

/// What is still to be sent of a blob.
struct Rest<'a> {
    source: &'a Source,
    progress: &'a Progress,
    offset: u64,
    length: u64,
}

type Failed = Arc<std::sync::Mutex<Option<std::io::Error>>>;

/// Reads `source` on a thread; it ends when the receiver is dropped.
fn read_ahead(source: Source, offset: u64) -> (mpsc::Receiver<Result<Bytes, std::io::Error>>, Failed) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let failed = Failed::default();
    let failing = Arc::clone(&failed);
    drop(tokio::task::spawn_blocking(move || {
        let read = || -> std::io::Result<()> {
            let mut reader = source(offset)?;
            loop {
                let mut piece = vec![0; PIECE];
                let length = reader.read(&mut piece)?;
                piece.truncate(length);
                if length == 0 || sender.blocking_send(Ok(Bytes::from(piece))).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = read() {
            let kind = error.kind();
            *failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            drop(sender.blocking_send(Err(kind.into())));
        }
    }));
    (receiver, failed)
}

fn location(answer: &Answer) -> Result<Uri, Error> {
    answer
        .header(&header::LOCATION)
        .and_then(|location| uri::join(&answer.url, location))
        .ok_or_else(|| protocol(&answer.url, "no location for the upload"))
}

fn protocol(url: &Uri, problem: &str) -> Error {
    Error::Protocol { url: uri::without_query(url), problem: problem.to_owned() }
}

impl transport::Transport {
    /// As [`transport::Transport::send`], but the time-out starts again whenever `sent` has grown.
    async fn send_while(
        &self,
        request: Request<transport::Body>,
        sent: &AtomicU64,
    ) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let url = uri::without_query(request.uri());
        let sending = self.send_untimed(request);
        tokio::pin!(sending);
        let mut before = sent.load(Ordering::Relaxed);
        loop {
            if let Ok(outcome) = tokio::time::timeout(self.stall, &mut sending).await {
                return outcome;
            }
            let now = sent.load(Ordering::Relaxed);
            if now == before {
                return Err(Error::Request {
                    method: "Put",
                    url,
                    failure: Failure::Timeout(self.stall),
                    source: None,
                });
            }
            before = now;
        }
    }
}
