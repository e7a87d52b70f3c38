//! A connection that becomes a websocket (RFC 6455): attach for browsers.
//!
//! The engine gets one end of a socket pair; the daemon puts what comes out of the other into binary messages, and the
//! payload of what the client sends into it. Messages may be of any length and in any number of frames.

use super::body::{self, Body};
use super::call::Call;
use super::{Failure, hijack};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// What the key of a handshake is hashed with (RFC 6455, section 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// So much is passed on at once.
const PIECE: usize = 32 << 10;

/// Says whether the client asks for a websocket.
fn asked(call: &Call) -> bool {
    call.headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && call.headers.get("sec-websocket-version").is_some_and(|version| version == "13")
}

/// Answers that the connection becomes a websocket, and returns it as it will be then.
///
/// # Errors
///
/// An invalid argument if the client does not ask for that.
pub fn accept(call: &mut Call) -> Result<(Response<Body>, OnUpgrade), Failure> {
    let key = call.headers.get(SEC_WEBSOCKET_KEY).filter(|_| asked(call)).cloned();
    let (Some(key), Some(upgrade)) = (key, call.upgrade.take()) else {
        return Err(Failure::invalid("not websocket protocol"));
    };
    let mut response = body::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(proof) = HeaderValue::from_str(&proof(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, proof);
    }
    Ok((response, upgrade))
}

fn proof(key: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat());
    STANDARD.encode(hash)
}

/// Waits until the answer is sent and returns the end of a socket pair whose other end is the websocket's payload.
///
/// # Errors
///
/// The connection's failure, usually that the client has gone.
pub async fn into_fd(upgrade: OnUpgrade) -> io::Result<OwnedFd> {
    let upgraded: Upgraded = upgrade.await.map_err(io::Error::other)?;
    let (ours, theirs) = UnixStream::pair()?;
    tokio::spawn(carry(TokioIo::new(upgraded), ours));
    theirs.into_std().map(OwnedFd::from)
}

/// Carries bytes both ways until the engine's side ends or the client goes.
async fn carry(client: impl AsyncRead + AsyncWrite + Send + 'static, engine: UnixStream) {
    let (mut from_client, to_client) = tokio::io::split(client);
    let (mut from_engine, mut to_engine) = engine.into_split();
    let to_client = Arc::new(Mutex::new(to_client));
    let answers = Arc::clone(&to_client);
    let incoming = async move {
        let mut messages = Incoming { from: &mut from_client, to: &mut to_engine, answers };
        let outcome = messages.pass().await;
        if let Err(error) = outcome {
            tracing::debug!(%error, "a websocket broke off");
        }
    };
    let outgoing = async move {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = from_engine.read(&mut buffer).await {
            let piece = buffer.get(..length).unwrap_or_default();
            if to_client.lock().await.write_all(&frame(BINARY, piece)).await.is_err() {
                return;
            }
        }
        let mut client = to_client.lock().await;
        // The client may have gone; then there is nobody to say goodbye to.
        drop(client.write_all(&frame(CLOSE, &NORMAL)).await);
        drop(client.shutdown().await);
    };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The status of a close without a complaint: 1000.
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;

/// Returns a whole frame, as servers send them: not masked.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | kind);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&u64::try_from(payload.len()).unwrap_or(0).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The client's frames on their way to the engine.
struct Incoming<'a, R, W, C> {
    from: &'a mut R,
    to: &'a mut W,
    answers: Arc<Mutex<C>>,
}

impl<R, W, C> Incoming<'_, R, W, C>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    C: AsyncWrite + Unpin,
{
    /// Passes payload on until the client closes.
    async fn pass(&mut self) -> io::Result<()> {
        loop {
            let mut head = [0; 2];
            self.from.read_exact(&mut head).await?;
            let [first, second] = head;
            let (kind, masked) = (first & 0xf, second & 0x80 != 0);
            let length = match second & 0x7f {
                126 => u64::from(self.from.read_u16().await?),
                127 => self.from.read_u64().await?,
                short => u64::from(short),
            };
            if !masked || (kind >= CLOSE && length > MAX_CONTROL) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that no client may send"));
            }
            let mut mask = [0; 4];
            self.from.read_exact(&mut mask).await?;
            match kind {
                CONTINUATION | TEXT | BINARY => self.payload(length, mask).await?,
                CLOSE | PING | PONG => {
                    let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
                    self.from.read_exact(&mut payload).await?;
                    unmask(&mut payload, mask, 0);
                    let answer = if kind == PING { PONG } else { kind };
                    if kind != PONG {
                        self.answers.lock().await.write_all(&frame(answer, &payload)).await?;
                    }
                    if kind == CLOSE {
                        return Ok(());
                    }
                }
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown kind of frame")),
            }
        }
    }

    async fn payload(&mut self, length: u64, mask: [u8; 4]) -> io::Result<()> {
        let mut buffer = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
        let mut done = 0_u64;
        while done < length {
            let left = usize::try_from(length - done).unwrap_or(PIECE).min(buffer.len());
            let piece = buffer.get_mut(..left).unwrap_or_default();
            let read = self.from.read(piece).await?;
            let piece = piece.get_mut(..read).unwrap_or_default();
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            unmask(piece, mask, done);
            self.to.write_all(piece).await?;
            done += u64::try_from(read).unwrap_or(0);
        }
        Ok(())
    }
}

/// Takes the mask off bytes that begin `offset` bytes into their frame.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let start = usize::try_from(offset % 4).unwrap_or(0);
    for (byte, key) in bytes.iter_mut().zip(mask.iter().cycle().skip(start)) {
        *byte ^= key;
    }
}

/// Where an attached client's bytes come from: its own connection, or a websocket.
#[derive(Debug)]
pub enum Attached {
    /// A hijacked connection.
    Hijack(hijack::Hijack),
    /// A websocket.
    Socket(OnUpgrade),
}

impl Attached {
    /// Waits until the answer is sent and returns the descriptor.
    ///
    /// # Errors
    ///
    /// The connection's failure, usually that the client has gone.
    pub async fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Hijack(hijack) => hijack.into_fd().await,
            Self::Socket(upgrade) => into_fd(upgrade).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_the_rfcs() {
        assert_eq!(proof(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_have_three_kinds_of_lengths() {
        assert_eq!(frame(BINARY, b"hi"), b"\x82\x02hi");
        assert!(frame(BINARY, &[0; 300]).starts_with(&[0x82, 126, 1, 44]));
        assert!(frame(BINARY, &[0; 70_000]).starts_with(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]));
    }

    #[tokio::test]
    async fn payload_is_carried_both_ways() {
        let (mut client, theirs) = tokio::io::duplex(1 << 16);
        let (ours, mut engine) = UnixStream::pair().unwrap();
        let carrying = tokio::spawn(carry(theirs, ours));
        let send = |kind: u8, text: &[u8]| {
            let mut bytes = text.to_vec();
            unmask(&mut bytes, [1, 2, 3, 4], 0);
            let length = u8::try_from(text.len()).unwrap();
            [&[0x80 | kind, 0x80 | length, 1, 2, 3, 4], bytes.as_slice()].concat()
        };
        client.write_all(&send(TEXT, b"hello ")).await.unwrap();
        client.write_all(&send(PING, b"p")).await.unwrap();
        client.write_all(&send(BINARY, b"world")).await.unwrap();
        let mut heard = [0; 11];
        engine.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello world");
        engine.write_all(b"answer").await.unwrap();
        let mut back = [0; 11];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"\x8a\x01p\x82\x06answer");
        drop(engine);
        let mut end = Vec::new();
        client.read_to_end(&mut end).await.unwrap();
        assert_eq!(end, b"\x88\x02\x03\xe8");
        carrying.await.unwrap();
    }
}
