//! Messages as bytes: JSON, one message per packet.
//!
//! A message that may not fit a packet travels in a memory file (`memfd_create(2)`): the packet is then the single byte `M`,
//! and the file's descriptor comes before those that belong to the message. Descriptors that are too many for one packet
//! come before it, in packets that are the single byte `D`. All other packets are the JSON text itself.

use crate::Error;
use crate::protocol::{Event, Reply};
use rustix::fs::{MemfdFlags, SealFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Larger messages travel in a memory file. Half of what a socket takes by default (`net.core.wmem_default`) at least.
const INLINE: usize = 64 * 1024;
/// No message is larger.
const LIMIT: u64 = 64 * 1024 * 1024;
/// The packet that stands for a memory file.
const IN_MEMORY: &[u8] = b"M";
/// The packet that brings descriptors of the message after it.
const DESCRIPTORS: &[u8] = b"D";
/// So many descriptors travel with one packet, a memory file's besides.
const TOGETHER: usize = sys::socket::MAX_DESCRIPTORS - 1;
/// How long the packets of one message may be apart.
const APART: Duration = Duration::from_secs(5);

/// What a supervisor sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outgoing {
    /// An answer.
    Reply(Reply),
    /// Something that happened.
    Event(Event),
}

/// Sends one message with descriptors beside it.
///
/// # Errors
///
/// [`Error::System`], with `PIPE` if the peer is gone, with `AGAIN` if the socket does not block and is full.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Error> {
    let bytes = serde_json::to_vec(message).map_err(Error::Malformed)?;
    send_bytes(socket, &bytes, descriptors)
}

/// Sends one message that is JSON already.
pub(crate) fn send_bytes(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Error> {
    let failed = || Error::system("send message");
    let mut descriptors = descriptors;
    while let Some((first, rest)) =
        descriptors.split_at_checked(TOGETHER).filter(|(_, rest)| !rest.is_empty())
    {
        sys::socket::send_with_fds(socket, DESCRIPTORS, first).map_err(failed())?;
        descriptors = rest;
    }
    if bytes.len() <= INLINE {
        return sys::socket::send_with_fds(socket, bytes, descriptors).map_err(failed());
    }
    let file = memory_file(bytes).map_err(Error::io("write message to", "memory file"))?;
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(descriptors);
    sys::socket::send_with_fds(socket, IN_MEMORY, &all).map_err(failed())
}

fn memory_file(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(c"wharf-message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::WRITE | SealFlags::GROW)?;
    Ok(file.into())
}

/// Receives one message and the descriptors that belong to it; `None` at the end of the connection.
///
/// # Errors
///
/// [`Error::System`], with `AGAIN` if the socket does not block and nothing is there; [`Error::Malformed`].
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<Option<(T, Vec<OwnedFd>)>, Error> {
    let Some((mut buffer, mut descriptors)) = packet(socket)? else { return Ok(None) };
    let mut before = Vec::new();
    while buffer == DESCRIPTORS {
        before.append(&mut descriptors);
        sys::event::readable_within(socket, Some(APART)).map_err(Error::system("receive message"))?;
        let Some(next) = packet(socket)? else { return Ok(None) };
        (buffer, descriptors) = next;
    }
    if buffer == IN_MEMORY {
        if descriptors.is_empty() {
            return Err(Error::Unexpected("memory file missing"));
        }
        let mut file = std::fs::File::from(descriptors.remove(0));
        buffer.clear();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.take(LIMIT).read_to_end(&mut buffer))
            .map_err(Error::io("read message from", "memory file"))?;
    }
    let message = serde_json::from_slice(&buffer).map_err(Error::Malformed)?;
    before.append(&mut descriptors);
    Ok(Some((message, before)))
}

/// The bytes of one packet and the descriptors beside them.
type Packet = (Vec<u8>, Vec<OwnedFd>);

/// Receives one packet; `None` at the end of the connection.
fn packet(socket: BorrowedFd<'_>) -> Result<Option<Packet>, Error> {
    // Asked first: most messages are much smaller than the largest one.
    let size = sys::socket::next_size(socket).map_err(Error::system("receive message"))?;
    if size == 0 {
        return Ok(None);
    }
    let mut buffer = vec![0; size];
    let (size, descriptors) =
        sys::socket::recv_with_fds(socket, &mut buffer).map_err(Error::system("receive message"))?;
    buffer.truncate(size);
    Ok(Some((buffer, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn messages_of_any_size_arrive_with_their_descriptors() {
        let (one, two) = sys::socket::seqpacket_pair().unwrap();
        for size in [0, 10, INLINE - 2, INLINE - 1, 1_000_000] {
            let text = "x".repeat(size);
            send(one.as_fd(), &text, &[one.as_fd()]).unwrap();
            let (received, descriptors) = receive::<String>(two.as_fd()).unwrap().unwrap();
            assert_eq!((received.len(), descriptors.len()), (size, 1));
        }
        drop(one);
        assert!(receive::<String>(two.as_fd()).unwrap().is_none());
    }

    #[test]
    fn any_number_of_descriptors_arrives_in_order() {
        use std::os::unix::fs::MetadataExt;
        let (one, two) = sys::socket::seqpacket_pair().unwrap();
        let inode = |fd: &OwnedFd| std::fs::File::from(fd.try_clone().unwrap()).metadata().unwrap().ino();
        for (size, count) in [(10, TOGETHER), (10, TOGETHER + 1), (1_000_000, 2 * TOGETHER), (10, 600)] {
            let text = "x".repeat(size);
            let descriptors: Vec<BorrowedFd<'_>> = std::iter::repeat_n(one.as_fd(), count - 1).collect();
            send(one.as_fd(), &text, &[descriptors.as_slice(), &[two.as_fd()]].concat()).unwrap();
            let (received, descriptors) = receive::<String>(two.as_fd()).unwrap().unwrap();
            assert_eq!((received.len(), descriptors.len()), (size, count));
            let inodes: Vec<u64> = descriptors.iter().map(inode).collect();
            assert_eq!(inodes.iter().rposition(|found| *found == inode(&one)), Some(count - 2));
            assert_eq!(inodes.last(), Some(&inode(&two)));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        let (one, two) = sys::socket::seqpacket_pair().unwrap();
        for rubbish in [&b"M"[..], b"{", b"\xff"] {
            sys::socket::send_with_fds(one.as_fd(), rubbish, &[]).unwrap();
            assert!(receive::<Reply>(two.as_fd()).is_err());
        }
    }
}
