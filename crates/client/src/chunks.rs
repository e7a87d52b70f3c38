//! The body of a request in chunks (RFC 9112, section 7.1).

use crate::Stream;
use std::fs::File;
use std::io::{self, Read, Write};

/// How much is gathered for a chunk, in bytes: about what a unix socket holds.
const CHUNK: usize = 192 * 1024;
/// Room for a chunk's size in front of it.
const SIZE: usize = 10;
/// Files from this size on are not read but given to the socket by the kernel (sendfile(2)).
const LARGE: u64 = 64 * 1024;
/// What a socket holds at most if this user may say so, in bytes.
const SOCKET: usize = 1 << 20;
/// The most that one sendfile(2) is asked for.
const AT_ONCE: u64 = 1 << 30;

/// Gathers what is written and sends it, each chunk by one system call.
#[derive(Debug)]
pub struct Chunks<'a> {
    stream: &'a mut Stream,
    /// Room for the size, data, room for the line end.
    buffer: Vec<u8>,
    filled: usize,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(stream: &'a mut Stream) -> Self {
        // Who may have more room gets it: each side works on for longer before it waits for the other.
        rustix::net::sockopt::set_socket_send_buffer_size_force(&*stream, SOCKET).ok();
        Self { stream, buffer: vec![0; SIZE + CHUNK + 2], filled: 0 }
    }

    /// The part of the buffer that nothing is in.
    fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(SIZE + self.filled..SIZE + CHUNK).unwrap_or_default()
    }

    /// Sends what was gathered.
    fn send(&mut self) -> io::Result<()> {
        let length = std::mem::take(&mut self.filled);
        if length == 0 {
            return Ok(());
        }
        // Leading zeros are allowed.
        let size = format!("{length:0width$x}\r\n", width = SIZE - 2);
        let end = SIZE + length;
        for (place, bytes) in [(0..SIZE, size.as_bytes()), (end..end + 2, b"\r\n")] {
            self.buffer.get_mut(place).unwrap_or_default().copy_from_slice(bytes);
        }
        self.stream.write_all(self.buffer.get(..end + 2).unwrap_or_default())
    }

    /// Sends what one read of `source` returns, and says how much that is.
    pub(crate) fn pass_on(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.send()?;
        loop {
            match source.read(self.room()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => {
                    let length = outcome?;
                    self.filled = length;
                    self.send()?;
                    return Ok(length);
                }
            }
        }
    }

    /// Sends exactly `length` bytes of a file from where it stands: zeros if it has become shorter.
    ///
    /// # Errors
    ///
    /// Those of read(2), write(2) and sendfile(2).
    pub fn file(&mut self, file: &File, length: u64) -> io::Result<()> {
        if length < LARGE {
            return self.fill(file, length);
        }
        self.send()?;
        write!(self.stream, "{length:x}\r\n")?;
        let mut left = length;
        while left > 0 {
            let wanted = usize::try_from(left.min(AT_ONCE)).unwrap_or(usize::MAX);
            let sent = rustix::io::retry_on_intr(|| rustix::fs::sendfile(&*self.stream, file, None, wanted))?;
            if sent == 0 {
                io::copy(&mut io::repeat(0).take(left), self.stream)?;
                break;
            }
            left = left.saturating_sub(sent as u64);
        }
        self.stream.write_all(b"\r\n")
    }

    /// Gathers `length` bytes of a file.
    fn fill(&mut self, mut file: &File, length: u64) -> io::Result<()> {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        while left > 0 {
            if self.room().is_empty() {
                self.send()?;
            }
            let room = self.room();
            let wanted = room.len().min(left);
            let room = room.get_mut(..wanted).unwrap_or_default();
            let count = match file.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => {
                    room.fill(0);
                    wanted
                }
                outcome => outcome?,
            };
            self.filled += count;
            left -= count;
        }
        Ok(())
    }

    /// Ends the body.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.stream.write_all(b"0\r\n\r\n")
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room().is_empty() {
            self.send()?;
        }
        let room = self.room();
        let count = room.len().min(bytes.len());
        let (target, _) = room.split_at_mut(count);
        let (source, _) = bytes.split_at(count);
        target.copy_from_slice(source);
        self.filled += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek as _, SeekFrom};
    use std::os::unix::net::UnixStream;

    /// Takes the chunks of `sent` apart.
    fn joined(mut sent: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = sent.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&sent[..end]).unwrap(), 16).unwrap();
            let (data, rest) = sent[end + 2..].split_at(size);
            body.extend_from_slice(data);
            assert_eq!(&rest[..2], b"\r\n");
            if size == 0 {
                assert_eq!(rest.len(), 2, "nothing follows the end");
                return body;
            }
            sent = &rest[2..];
        }
    }

    #[test]
    fn what_is_written_arrives() {
        let path = std::env::temp_dir().join(format!("wharf-chunks-{}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let content: Vec<u8> = (0..600_000_u32).flat_map(|number| number.to_le_bytes()).collect();
        file.write_all(&content).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            let mut sent = Vec::new();
            theirs.read_to_end(&mut sent).unwrap();
            sent
        });
        let mut stream = Stream::Unix(ours);
        let mut chunks = Chunks::new(&mut stream);
        let mut expected = Vec::new();
        chunks.write_all(&content[..300_000]).unwrap();
        expected.extend_from_slice(&content[..300_000]);
        for (from, length) in
            [(0, 10_000), (1_000_000, 1_400_000), (2_399_990, 20), (2_399_990, 100_000), (5, 0)]
        {
            file.seek(SeekFrom::Start(from)).unwrap();
            chunks.file(&file, length).unwrap();
            let (from, length) = (usize::try_from(from).unwrap(), usize::try_from(length).unwrap());
            let there = &content[from..content.len().min(from + length)];
            expected.extend_from_slice(there);
            // Zeros for what is missing.
            expected.resize(expected.len() + length - there.len(), 0);
        }
        chunks.write_all(b"end").unwrap();
        expected.extend_from_slice(b"end");
        chunks.finish().unwrap();
        drop(stream);
        assert!(joined(&reader.join().unwrap()) == expected);
    }
}
