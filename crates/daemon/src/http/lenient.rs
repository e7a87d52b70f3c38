//! Requests whose addresses are not quite addresses.
//!
//! People type `curl --unix-socket … 'http://d/containers/json?filters={"status":["running"]}'`, and Go's server takes the
//! quotes as they are; the parser here knows RFC 3986. So they are escaped on the way in, in the first request of a connection:
//! whoever sends several has a library that escapes.

use super::stream::Connection;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer lines are left to the parser to refuse.
const MAX_LINE: usize = 64 * 1024;

/// A connection whose first line is escaped.
#[derive(Debug)]
pub(super) struct Lenient {
    connection: Connection,
    start: Start,
}

#[derive(Debug)]
enum Start {
    /// What has come of the first line.
    Line(Vec<u8>),
    /// What is still to be given on, and how much of it has been.
    Rest(Vec<u8>, usize),
    Over,
}

impl Lenient {
    /// Takes a connection on which nothing has been read.
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, start: Start::Line(Vec::new()) }
    }

    /// Returns the connection. What was read of it has been given on: its first request was answered.
    pub(super) fn into_inner(self) -> Connection {
        self.connection
    }
}

/// Escapes what an address must not have, in the first line of `start`.
fn escaped(start: &[u8]) -> Vec<u8> {
    let mut line = true;
    let mut escaped = Vec::with_capacity(start.len() + 32);
    for byte in start {
        line &= *byte != b'\n';
        match byte {
            b'"' | b'<' | b'>' if line => escaped.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => escaped.push(*byte),
        }
    }
    escaped
}

impl AsyncRead for Lenient {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.start {
                Start::Over => return Pin::new(&mut this.connection).poll_read(cx, buf),
                Start::Rest(rest, given) => {
                    let left = rest.get(*given..).unwrap_or_default();
                    let count = left.len().min(buf.remaining());
                    buf.put_slice(left.get(..count).unwrap_or_default());
                    *given += count;
                    if *given >= rest.len() {
                        this.start = Start::Over;
                    }
                    return Poll::Ready(Ok(()));
                }
                Start::Line(line) => {
                    let mut piece = [0; 4096];
                    let mut piece = ReadBuf::new(&mut piece);
                    ready!(Pin::new(&mut this.connection).poll_read(cx, &mut piece))?;
                    let piece = piece.filled();
                    line.extend_from_slice(piece);
                    if piece.is_empty() || piece.contains(&b'\n') || line.len() > MAX_LINE {
                        let rest = escaped(line);
                        this.start = if rest.is_empty() { Start::Over } else { Start::Rest(rest, 0) };
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Lenient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn quotes_are_escaped_in_the_first_line_alone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut lenient = Lenient::new(Connection::Unix(ours));
        let sender = tokio::spawn(async move {
            // In pieces, the way they may come.
            for piece in ["GET /a?b={\"c\":", "[\"<d>\"]} HTTP/1.1\r\nX: \"y\"\r\n", "\r\n\"body\""] {
                theirs.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut all = String::new();
        lenient.read_to_string(&mut all).await.unwrap();
        sender.await.unwrap();
        let expected = "GET /a?b={%22c%22:[%22%3Cd%3E%22]} HTTP/1.1\r\nX: \"y\"\r\n\r\n\"body\"";
        assert_eq!(all, expected);
    }

    #[tokio::test]
    async fn whoever_says_nothing_is_heard() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut all = Vec::new();
        Lenient::new(Connection::Unix(ours)).read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"");
    }
}
