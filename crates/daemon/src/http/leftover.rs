//! What a client still sends of a request that has been answered.
//!
//! A refusal often comes before the request's body has been read. If the connection were closed then, the client would
//! fail in the middle of its writing and never see why (RFC 9112, section 9.6). So the rest is taken and thrown away, as
//! far as that is reasonable.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// How many bytes are thrown away before the connection is closed instead.
const MAX_BYTES: usize = 64 << 20;
/// How long they may take.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Gets the body back from whoever drops it.
#[derive(Debug)]
pub struct Leftover(Arc<Mutex<Option<Incoming>>>);

/// A body that comes back to its [`Leftover`] when it is dropped.
#[derive(Debug)]
pub struct Watched {
    body: Option<Incoming>,
    back: Arc<Mutex<Option<Incoming>>>,
}

/// Watches a request's body.
pub fn watch(request: Request<Incoming>) -> (Leftover, Request<Watched>) {
    let back = Arc::new(Mutex::new(None));
    let leftover = Leftover(Arc::clone(&back));
    (leftover, request.map(|body| Watched { body: Some(body), back }))
}

impl Leftover {
    /// Takes what is still to come and throws it away, beside the answer. Does nothing for a body that is still in use.
    pub fn discard(self) {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = body.filter(|body| !body.is_end_stream()) {
            // Nobody waits for it; it ends by itself.
            drop(tokio::spawn(tokio::time::timeout(MAX_TIME, swallow(body))));
        }
    }
}

async fn swallow(mut body: Incoming) {
    let mut left = MAX_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}
