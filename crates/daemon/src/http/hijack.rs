//! Attach and exec: the connection stops being HTTP and becomes a pair of byte streams.
//!
//! What the engine gets is a descriptor that it can pass on to another process. For a client that asked for an
//! upgrade over a plain socket it is the client's socket itself. In the other cases (TLS; bytes that came with the
//! request's head; clients that ask for no upgrade) it is one end of a socket pair, and the daemon copies between
//! the other end and the client.

use super::body::{self, Body};
use super::call::{Call, Incoming};
use super::lenient::Lenient;
use super::stream::Connection;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub use api::stream::{MULTIPLEXED, RAW};

/// The connection to come, once the answer has been sent.
#[derive(Debug)]
pub enum Hijack {
    /// The client's own connection.
    Upgrade(OnUpgrade),
    /// The end of a socket pair.
    Pair(OwnedFd),
}

/// Answers that the connection changes its protocol, and returns it as it will be then.
///
/// # Errors
///
/// The system's answer if no socket pair can be made.
pub fn hijack(call: &mut Call, content_type: &'static str) -> io::Result<(Response<Body>, Hijack)> {
    match call.upgrade.take() {
        Some(upgrade) => Ok((upgraded(content_type), Hijack::Upgrade(upgrade))),
        None => {
            // Docker names the raw type here whatever follows.
            let (response, fd) = plain(call.take_body())?;
            Ok((response, Hijack::Pair(fd)))
        }
    }
}

impl Hijack {
    /// Waits until the answer is sent and returns the connection, in non-blocking mode.
    ///
    /// # Errors
    ///
    /// The connection's failure, usually that the client has gone.
    pub async fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Pair(fd) => Ok(fd),
            Self::Upgrade(upgrade) => handed_over(upgrade.await.map_err(io::Error::other)?),
        }
    }
}

fn upgraded(content_type: &'static str) -> Response<Body> {
    let mut response = body::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    response
}

fn handed_over(upgraded: Upgraded) -> io::Result<OwnedFd> {
    let Ok(parts) = upgraded.downcast::<TokioIo<Lenient>>() else {
        return Err(io::Error::other("the connection is of an unknown kind"));
    };
    let connection = parts.io.into_inner().into_inner();
    if !parts.read_buf.is_empty() {
        return bridged(connection, parts.read_buf);
    }
    match connection.into_fd() {
        Ok(fd) => fd,
        Err(connection) => bridged(connection, Bytes::new()),
    }
}

/// Copies between a connection and a socket pair until both directions have ended.
fn bridged(mut connection: Connection, early: Bytes) -> io::Result<OwnedFd> {
    let (mut ours, theirs) = UnixStream::pair()?;
    tokio::spawn(async move {
        let copied = async {
            ours.write_all(&early).await?;
            tokio::io::copy_bidirectional(&mut connection, &mut ours).await
        };
        if let Err(error) = copied.await {
            tracing::debug!(%error, "a hijacked connection broke off");
        }
    });
    theirs.into_std().map(OwnedFd::from)
}

/// Serves a client that asked for no upgrade: its body is the input, the answer's body the output.
fn plain(mut input: Incoming) -> io::Result<(Response<Body>, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (mut from_engine, mut to_engine) = ours.into_split();
    let (writer, response) = body::streamed(RAW);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = input.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            if to_engine.write_all(&data).await.is_err() {
                return;
            }
        }
        // Fails only if the other side has closed already.
        drop(to_engine.shutdown().await);
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let read = tokio::select! {
                read = from_engine.read(&mut buffer) => read,
                () = writer.gone() => return,
            };
            let Some(piece) = read.ok().and_then(|length| buffer.get(..length)) else { return };
            if piece.is_empty() || writer.write(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
    });
    Ok((response, theirs.into_std().map(OwnedFd::from)?))
}
