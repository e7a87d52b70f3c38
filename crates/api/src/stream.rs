//! The frames that carry stdout and stderr over one connection (Engine API, `ContainerAttach`, "Stream format").
//!
//! A frame is eight bytes of header, `{stream, 0, 0, 0, length (big endian)}`, and its payload.

/// Content type of framed output.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Content type of unframed output (a terminal's).
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Bytes of a frame's header.
pub const HEADER: usize = 8;

/// Whose bytes a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard input; written to standard output by readers, as Docker's do.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// An error of the daemon itself; ends the stream.
    SystemError,
}

impl Stream {
    /// Returns the byte that stands for the stream.
    pub fn code(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::SystemError => 3,
        }
    }

    /// Returns the stream a byte stands for.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::SystemError),
            _ => None,
        }
    }
}

/// Returns the header of a frame with `length` bytes of payload.
pub fn header(stream: Stream, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream.code(), 0, 0, 0, a, b, c, d]
}

/// Returns stream and payload length of a header, or `None` if no such stream exists.
pub fn parse_header(bytes: [u8; HEADER]) -> Option<(Stream, u32)> {
    let [code, _, _, _, a, b, c, d] = bytes;
    Some((Stream::from_code(code)?, u32::from_be_bytes([a, b, c, d])))
}

/// Returns a whole frame. Payloads above 4 GiB do not occur; they would be cut.
pub fn frame(stream: Stream, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&header(stream, length));
    frame.extend(payload.iter().take(length as usize));
    frame
}

/// Takes bytes as they arrive and gives out pieces of payload, without waiting for whole frames.
#[derive(Debug, Default)]
pub struct Decoder {
    header: Vec<u8>,
    current: Option<(Stream, usize)>,
}

/// A header that names no known stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Unrecognized input header: {0}")]
pub struct UnknownStream(pub u8);

impl Decoder {
    /// Makes a decoder that expects a header first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands each piece of payload within `bytes` to `sink`.
    ///
    /// # Errors
    /// [`UnknownStream`] at a header of an unknown stream, after which the rest is meaningless; else what `sink` says.
    pub fn push<E: From<UnknownStream>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(Stream, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let Some((stream, left)) = self.current else {
                let missing = HEADER - self.header.len();
                let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
                self.header.extend_from_slice(taken);
                bytes = rest;
                let Ok(header) = <[u8; HEADER]>::try_from(self.header.as_slice()) else { return Ok(()) };
                self.header.clear();
                let [code, ..] = header;
                let (stream, length) = parse_header(header).ok_or(UnknownStream(code))?;
                self.current = (length > 0).then_some((stream, length as usize));
                continue;
            };
            let (payload, rest) = bytes.split_at(left.min(bytes.len()));
            self.current = (left > payload.len()).then(|| (stream, left - payload.len()));
            bytes = rest;
            sink(stream, payload)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut bytes = frame(Stream::Stdout, b"hello");
        bytes.extend(frame(Stream::Stderr, b""));
        bytes.extend(frame(Stream::Stderr, b"oops\n"));
        for size in 1..bytes.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut decoder = Decoder::new();
            for piece in bytes.chunks(size) {
                decoder
                    .push::<UnknownStream>(piece, |stream, payload| {
                        let target = if stream == Stream::Stdout { &mut out } else { &mut err };
                        target.extend_from_slice(payload);
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (b"hello".as_slice(), b"oops\n".as_slice()));
        }
    }

    #[test]
    fn unknown_streams_are_an_error() {
        let result = Decoder::new().push(&[9, 0, 0, 0, 0, 0, 0, 1, b'x'], |_, _| Ok(()));
        assert_eq!(result, Err(UnknownStream(9)));
    }
}
