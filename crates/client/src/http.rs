//! HTTP/1.1 as far as the Engine API needs it (RFC 9112).

use crate::{Chunks, Client, Error, Host, Stream};
use std::io::{self, BufRead, BufReader, Read, Write};

/// The largest answer head that is read.
const MAX_HEAD: u64 = 256 * 1024;

/// A connection with its read buffer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) reader: BufReader<Stream>,
}

/// What a request carries.
#[derive(Default)]
pub enum Body<'a> {
    /// Nothing.
    #[default]
    Empty,
    /// A document and its content type.
    Bytes(Vec<u8>, &'static str),
    /// A stream of unknown length, sent in chunks, and its content type.
    Stream(&'a mut dyn Read, &'static str),
    /// What this writes, sent in chunks, and its content type.
    Written(&'a mut dyn FnMut(&mut Chunks<'_>) -> io::Result<()>, &'static str),
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes, _) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(..) => f.write_str("Stream"),
            Self::Written(..) => f.write_str("Written"),
        }
    }
}

/// Status and headers of an answer; names in lower case.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.header(name)
            .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    }
}

impl Connection {
    pub(crate) fn open(host: &Host) -> Result<Self, Error> {
        Ok(Self { reader: BufReader::with_capacity(32 * 1024, Stream::connect(host)?) })
    }

    /// Says whether an idle connection is still good: nothing to read, not even its end.
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(self.reader.get_ref(), rustix::event::PollFlags::IN)];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        self.reader.buffer().is_empty() && matches!(rustix::event::poll(&mut fds, Some(&zero)), Ok(0))
    }

    /// Sends a request: head (request line and headers without the body's) and body.
    pub(crate) fn send(&mut self, mut head: String, body: Body<'_>) -> io::Result<()> {
        let stream = self.reader.get_mut();
        match body {
            Body::Empty => {
                head.push_str("\r\n");
                stream.write_all(head.as_bytes())
            }
            Body::Bytes(bytes, kind) => {
                head.push_str(&format!("Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", bytes.len()));
                let mut message = head.into_bytes();
                message.extend_from_slice(&bytes);
                stream.write_all(&message)
            }
            Body::Stream(source, kind) => {
                let mut chunks = begin_chunks(stream, head, kind)?;
                while chunks.pass_on(source)? > 0 {}
                chunks.finish()
            }
            Body::Written(write, kind) => {
                let mut chunks = begin_chunks(stream, head, kind)?;
                write(&mut chunks)?;
                chunks.finish()
            }
        }
    }

    /// Reads status line and headers; answers of class 1xx other than 101 are passed over.
    pub(crate) fn receive_head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.receive_one_head()?;
            if head.status >= 200 || head.status == 101 {
                return Ok(head);
            }
        }
    }

    fn receive_one_head(&mut self) -> io::Result<Head> {
        let mut limited = (&mut self.reader).take(MAX_HEAD);
        let status_line = read_line(&mut limited)?;
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| invalid("malformed HTTP response"))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut limited)?;
            if line.is_empty() {
                return Ok(Head { status, headers });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("malformed HTTP header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

fn begin_chunks<'a>(stream: &'a mut Stream, mut head: String, kind: &str) -> io::Result<Chunks<'a>> {
    head.push_str(&format!("Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    stream.write_all(head.as_bytes())?;
    Ok(Chunks::new(stream))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|error| invalid(error.utf8_error().to_string()))
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// How much of the body is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Length(u64),
    /// Bytes left in this chunk.
    Chunk(u64),
    /// Before the first chunk.
    FirstChunk,
    UntilClose,
    Nothing,
}

/// An answer; its body is read from it. Once read to the end, the connection serves the next request.
#[derive(Debug)]
pub struct Response<'a> {
    /// The HTTP status.
    pub status: u16,
    head: Head,
    client: &'a Client,
    connection: Option<Connection>,
    left: Left,
    reusable: bool,
}

impl<'a> Response<'a> {
    pub(crate) fn new(client: &'a Client, connection: Connection, head: Head, method: &str) -> Self {
        let left = if method == "HEAD" || matches!(head.status, 204 | 304) {
            Left::Nothing
        } else if head.has_token("transfer-encoding", "chunked") {
            Left::FirstChunk
        } else if let Some(length) = head.header("content-length").and_then(|length| length.parse().ok()) {
            Left::Length(length)
        } else {
            Left::UntilClose
        };
        let reusable = !head.has_token("connection", "close") && left != Left::UntilClose;
        let mut response =
            Self { status: head.status, head, client, connection: Some(connection), left, reusable };
        if matches!(response.left, Left::Nothing | Left::Length(0)) {
            response.finish();
        }
        response
    }

    /// Returns a header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`Error::Transport`] if the connection breaks.
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(Error::transport("read response"))?;
        Ok(bytes)
    }

    /// Returns a handle with which another thread can end the connection, so that reading ends.
    pub fn closer(&self) -> Option<Stream> {
        self.connection.as_ref().and_then(|connection| connection.reader.get_ref().try_clone().ok())
    }

    /// The body has been read: the connection is free.
    fn finish(&mut self) {
        self.left = Left::Nothing;
        if let Some(connection) = self.connection.take()
            && self.reusable
        {
            self.client.keep(connection);
        }
    }

    /// Steps over chunk boundaries and says how many bytes may be read now; 0 at the end.
    fn available(&mut self) -> io::Result<u64> {
        let Some(connection) = &mut self.connection else { return Ok(0) };
        let first = match self.left {
            Left::Length(left) => return Ok(left),
            Left::Chunk(left) if left > 0 => return Ok(left),
            Left::UntilClose => return Ok(u64::MAX),
            Left::Nothing => return Ok(0),
            Left::Chunk(_) => false,
            Left::FirstChunk => true,
        };
        if !first && !read_line(&mut connection.reader)?.is_empty() {
            return Err(invalid("malformed chunk"));
        }
        let line = read_line(&mut connection.reader)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|error| invalid(error.to_string()))?;
        self.left = Left::Chunk(size);
        if size == 0 {
            while !read_line(&mut connection.reader)?.is_empty() {}
        }
        Ok(size)
    }
}

impl Read for Response<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.available()?;
        if available == 0 {
            self.finish();
            return Ok(0);
        }
        let Some(connection) = &mut self.connection else { return Ok(0) };
        let limit = usize::try_from(available).unwrap_or(usize::MAX).min(buffer.len());
        let length = connection.reader.read(buffer.get_mut(..limit).unwrap_or_default())?;
        let taken = length as u64;
        match &mut self.left {
            Left::Length(left) | Left::Chunk(left) if length == 0 && *left > 0 => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
            }
            Left::Length(left) => {
                *left -= taken;
                if *left == 0 {
                    self.finish();
                }
            }
            Left::Chunk(left) => *left -= taken,
            Left::FirstChunk | Left::UntilClose | Left::Nothing => {}
        }
        Ok(length)
    }
}
