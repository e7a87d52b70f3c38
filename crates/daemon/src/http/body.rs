//! Answers: whole documents, and streams fed by a task or by a blocking thread.

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

/// Why a streamed answer broke off. The connection is then closed without the end mark, so the client knows.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub struct BrokenOff(pub String);

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BrokenOff>;

/// How many pieces a stream holds before its writer has to wait.
const PIECES: usize = 16;

/// Returns an answer without a body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    with(status, body)
}

/// Returns an answer with these bytes.
pub fn full(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = with(status, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Returns a JSON document, ended by a line feed as Go's encoder does.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            full(status, "application/json", bytes)
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            let message = br#"{"message":"the answer cannot be written as JSON"}"#;
            full(StatusCode::INTERNAL_SERVER_ERROR, "application/json", message.as_slice())
        }
    }
}

/// Returns `200 OK` with a JSON document.
pub fn ok<T: Serialize + ?Sized>(value: &T) -> Response<Body> {
    json(StatusCode::OK, value)
}

/// The writing end of a streamed answer.
///
/// Dropping it ends the answer. A write fails when the client is gone.
#[derive(Debug, Clone)]
pub struct Writer(mpsc::Sender<Result<Bytes, BrokenOff>>);

/// The client of a streamed answer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct Gone;

impl Writer {
    /// Writes a piece; waits while the client is slower.
    ///
    /// # Errors
    ///
    /// Returns [`Gone`] when nobody will read it.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Ok(bytes.into())).await.or(Err(Gone))
    }

    /// Writes a piece from a thread that may block.
    ///
    /// # Errors
    ///
    /// Returns [`Gone`] when nobody will read it.
    pub fn write_blocking(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.blocking_send(Ok(bytes.into())).or(Err(Gone))
    }

    /// Writes a JSON document as a line (`\r\n` at its end, as dockerd's progress streams have it).
    ///
    /// # Errors
    ///
    /// Returns [`Gone`] when nobody will read it.
    pub async fn line<T: Serialize>(&self, value: &T) -> Result<(), Gone> {
        self.write(line(value, b"\r\n")).await
    }

    /// Breaks the answer off, so that the client sees it is not whole.
    pub fn break_off(self, reason: impl Into<String>) {
        // Nobody to tell if the client is gone.
        drop(self.0.try_send(Err(BrokenOff(reason.into()))));
    }

    /// Waits until the client is gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    /// Says whether the client is gone.
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// A blocking sink, for code that knows only [`std::io::Write`].
impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_blocking(Bytes::copy_from_slice(bytes))
            .map_err(|gone| std::io::Error::new(std::io::ErrorKind::BrokenPipe, gone))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns a document as one line of bytes.
pub fn line<T: Serialize>(value: &T, end: &[u8]) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.extend_from_slice(end);
    bytes
}

/// Returns a `200 OK` whose body is written piece by piece; each piece is sent at once.
pub fn streamed(content_type: &'static str) -> (Writer, Response<Body>) {
    let (writer, body) = channel();
    let mut response = with(StatusCode::OK, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    (writer, response)
}

/// Returns a body and its writing end.
pub fn channel() -> (Writer, Body) {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, BrokenOff>>(PIECES);
    let pieces = stream::unfold(receiver, |mut receiver: mpsc::Receiver<_>| async move {
        let piece: Result<Bytes, BrokenOff> = receiver.recv().await?;
        Some((piece.map(Frame::data), receiver))
    });
    (Writer(sender), StreamBody::new(pieces).boxed_unsync())
}

fn with(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_ends_with_its_writer_and_tells_a_break() {
        let (writer, response) = streamed("text/plain");
        tokio::spawn(async move {
            writer.write("a").await.unwrap();
            writer.line(&1).await.unwrap();
        });
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes, "a1\r\n");
        let (writer, response) = streamed("text/plain");
        writer.break_off("disk");
        assert!(response.into_body().collect().await.is_err());
    }

    #[tokio::test]
    async fn a_writer_learns_that_the_client_is_gone() {
        let (writer, response) = streamed("text/plain");
        drop(response);
        writer.gone().await;
        assert_eq!(writer.write("a").await, Err(Gone));
    }
}
