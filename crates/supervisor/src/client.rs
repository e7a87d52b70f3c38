//! A client attached to the streams of a process: the hijacked connection itself.
//!
//! Reading and writing never block. What a client does not take at once is kept for it, and its process is not read from
//! until it has: so there is never more than one read's worth per client.

use crate::detach::Keys;
use crate::poller::Interest;
use crate::protocol::AttachOptions;
use logs::Stream;
use rustix::io::{Errno, IoSlice};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes in front of each piece of a multiplexed stream: stream, three zeros, length in big-endian.
const HEADER: usize = 8;

/// An attached client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    options: AttachOptions,
    keys: Keys,
    pending: Vec<u8>,
    /// How much of `pending` is sent.
    sent: usize,
    /// Whether it may still send something.
    reading: bool,
    /// Whether nothing more comes for it: it is closed once it has taken everything.
    finishing: bool,
}

/// What came from a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, at the start of the buffer.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// It will send no more.
    End,
    /// It is gone.
    Gone,
}

impl Client {
    /// Takes over the connection `socket`. The detach keys count for a terminal only.
    pub(crate) fn new(socket: OwnedFd, options: AttachOptions, terminal: bool) -> Self {
        let keys = if terminal { Keys::new(options.detach_keys.clone()) } else { Keys::default() };
        Self { socket, options, keys, pending: Vec::new(), sent: 0, reading: true, finishing: false }
    }

    /// Says whether standard input is its.
    pub(crate) fn has_input(&self) -> bool {
        self.options.stdin
    }

    /// Says whether what it sends is for the process.
    pub(crate) fn is_typing(&self) -> bool {
        self.options.stdin && self.reading && !self.finishing
    }

    /// Says whether it has not taken everything yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Says whether all was done for it and it is only waited for its own end.
    pub(crate) fn is_finished(&self) -> bool {
        self.finishing && !self.is_behind()
    }

    /// Returns what to wait for; `hold_input`: the process takes no more input now.
    pub(crate) fn interest(&self, hold_input: bool) -> Interest {
        let wanted = self.reading && (self.finishing || !(hold_input && self.options.stdin));
        Interest { read: wanted, write: self.is_behind() }
    }

    /// Gives it `bytes` of `stream`, if it wants that one; says whether it is still there.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let (wanted, code) = match stream {
            Stream::Stdout => (self.options.stdout, 1),
            Stream::Stderr => (self.options.stderr, 2),
        };
        if !wanted || self.finishing {
            return true;
        }
        let mut header = [code, 0, 0, 0, 0, 0, 0, 0];
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        for (place, byte) in header.iter_mut().skip(4).zip(length) {
            *place = byte;
        }
        let header = header.get(..if self.options.multiplexed { HEADER } else { 0 }).unwrap_or_default();
        let sent = if self.is_behind() {
            0
        } else {
            match send(self.socket.as_fd(), &[IoSlice::new(header), IoSlice::new(bytes)]) {
                Ok(sent) => sent,
                Err(_gone) => return false,
            }
        };
        self.pending.extend_from_slice(header.get(sent..).unwrap_or_default());
        self.pending.extend_from_slice(bytes.get(sent.saturating_sub(header.len())..).unwrap_or_default());
        true
    }

    /// Sends what is waiting; says whether the client is still there.
    pub(crate) fn flush(&mut self) -> bool {
        if !self.is_behind() {
            return true;
        }
        let waiting = self.pending.get(self.sent..).unwrap_or_default();
        match send(self.socket.as_fd(), &[IoSlice::new(waiting)]) {
            Ok(sent) => self.sent += sent,
            Err(_gone) => return false,
        }
        if self.sent >= self.pending.len() {
            self.pending = Vec::new();
            self.sent = 0;
            if self.finishing {
                self.shut_down();
            }
        }
        true
    }

    /// Takes what it has sent.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match rustix::net::recv(&self.socket, buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.reading = false;
                Received::End
            }
            Ok((count, _)) => Received::Bytes(count),
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_gone) => Received::Gone,
        }
    }

    /// Appends to `out` what is for the process of the bytes it has `typed`; says whether the detach keys were among them.
    pub(crate) fn typed(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        self.keys.pass(typed, out)
    }

    /// Nothing more comes: its stream ends when it has taken everything. What it still sends is dropped.
    pub(crate) fn finish(&mut self) {
        if !self.finishing {
            self.finishing = true;
            if !self.is_behind() {
                self.shut_down();
            }
        }
    }

    /// Ends the stream towards it. Its descriptor stays: closing it now could destroy what is on its way (TCP answers
    /// unread data with a reset).
    fn shut_down(&self) {
        // A client that is gone needs no end.
        rustix::net::shutdown(&self.socket, Shutdown::Write).ok();
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends without waiting; 0 if there is no room.
fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match rustix::net::sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(options: AttachOptions) -> (Client, OwnedFd) {
        let (ours, theirs) = sys::socket::stream_pair().unwrap();
        (Client::new(ours, options, true), theirs)
    }

    fn read(fd: &OwnedFd, size: usize) -> Vec<u8> {
        let mut buffer = vec![0; size];
        let count = rustix::io::read(fd, &mut buffer).unwrap();
        buffer.truncate(count);
        buffer
    }

    #[test]
    fn output_has_headers_if_wanted_and_only_the_wanted_streams() {
        let options = AttachOptions { stdout: true, multiplexed: true, ..AttachOptions::default() };
        let (mut client, theirs) = pair(options.clone());
        assert!(client.push(Stream::Stderr, b"no"));
        assert!(client.push(Stream::Stdout, b"abc"));
        assert_eq!(read(&theirs, 100), b"\x01\0\0\0\0\0\0\x03abc");
        let (mut client, theirs) = pair(AttachOptions { multiplexed: false, stderr: true, ..options });
        assert!(client.push(Stream::Stderr, b"raw"));
        assert_eq!(read(&theirs, 100), b"raw");
    }

    #[test]
    fn a_slow_client_loses_nothing_and_gets_its_end() {
        let options = AttachOptions { stdout: true, multiplexed: true, ..AttachOptions::default() };
        let (mut client, theirs) = pair(options);
        let piece: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut expect = Vec::new();
        for _ in 0..10 {
            assert!(client.push(Stream::Stdout, &piece));
            expect.extend_from_slice(b"\x01\0\0\0\0\x01\x86\xa0");
            expect.extend_from_slice(&piece);
        }
        assert!(client.is_behind());
        client.finish();
        assert!(!client.is_finished());
        let mut got = Vec::new();
        loop {
            let part = read(&theirs, 70_000);
            if part.is_empty() {
                break;
            }
            got.extend_from_slice(&part);
            assert!(client.flush());
        }
        assert!(client.is_finished());
        assert_eq!(got, expect);
    }

    #[test]
    fn a_vanished_client_is_noticed() {
        let (mut client, theirs) = pair(AttachOptions { stdout: true, ..AttachOptions::default() });
        drop(theirs);
        assert!(!client.push(Stream::Stdout, b"x"));
        assert_eq!(client.receive(&mut [0; 10]), Received::End);
    }
}
