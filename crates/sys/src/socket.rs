//! Local sockets that keep message boundaries and carry descriptors.

use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// The most descriptors the kernel lets one message carry (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;

/// Makes two connected `SOCK_SEQPACKET` sockets.
///
/// # Errors
///
/// Those of socketpair(2).
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::SEQPACKET)
}

/// Makes two connected `SOCK_STREAM` sockets.
///
/// # Errors
///
/// Those of socketpair(2).
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::STREAM)
}

fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .map_err(Error::on("socketpair", "unix"))
}

/// A path that fits `sun_path`, and the directory it is relative to, which must stay open while it is used.
fn address(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>)> {
    const LONGEST: usize = 107;
    if path.as_os_str().len() <= LONGEST {
        let address = SocketAddrUnix::new(path).map_err(Error::at("socket address", path))?;
        return Ok((address, None));
    }
    // Too long for the kernel's structure: name it through its directory's descriptor.
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("socket address", path.display(), Errno::NAMETOOLONG));
    };
    let parent = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::at("open", parent))?;
    let mut short = crate::path::of_descriptor(parent.as_fd());
    short.push(name);
    let address = SocketAddrUnix::new(short).map_err(Error::at("socket address", path))?;
    Ok((address, Some(parent)))
}

fn unix_socket(kind: SocketType, flags: SocketFlags) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, flags | SocketFlags::CLOEXEC, None)
        .map_err(Error::on("socket", "unix"))
}

/// Listens on a seqpacket socket at `path` (of any length), which must not exist. Not blocking in accept.
///
/// # Errors
///
/// Those of bind(2), such as `ADDRINUSE`.
pub fn listen_seqpacket(path: &Path) -> Result<OwnedFd> {
    let socket = unix_socket(SocketType::SEQPACKET, SocketFlags::NONBLOCK)?;
    let (address, _parent) = address(path)?;
    rustix::net::bind(&socket, &address).map_err(Error::at("bind", path))?;
    rustix::net::listen(&socket, 128).map_err(Error::at("listen", path))?;
    Ok(socket)
}

/// Connects to the seqpacket socket at `path`.
///
/// # Errors
///
/// `NOENT` if there is none, `CONNREFUSED` if nobody listens.
pub fn connect_seqpacket(path: &Path) -> Result<OwnedFd> {
    let socket = unix_socket(SocketType::SEQPACKET, SocketFlags::empty())?;
    connect(&socket, path)?;
    Ok(socket)
}

/// Connects to the stream socket at `path`.
///
/// # Errors
///
/// `NOENT` if there is none, `CONNREFUSED` if nobody listens.
pub fn connect_stream(path: &Path) -> Result<OwnedFd> {
    let socket = unix_socket(SocketType::STREAM, SocketFlags::empty())?;
    connect(&socket, path)?;
    Ok(socket)
}

fn connect(socket: &OwnedFd, path: &Path) -> Result<()> {
    let (address, _parent) = address(path)?;
    loop {
        match rustix::net::connect(socket, &address) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("connect", path.display(), errno)),
        }
    }
}

/// Takes one waiting connection; `None` if there is none now. The connection itself blocks.
///
/// # Errors
///
/// Those of accept4(2).
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(errno) => Err(Error::new("accept4", "unix", errno)),
    }
}

/// Who connected (or made the pair), as the kernel recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process.
    pub pid: i32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// Returns the peer's credentials (`SO_PEERCRED`).
///
/// # Errors
///
/// Those of getsockopt(2).
pub fn peer(socket: BorrowedFd<'_>) -> Result<Credentials> {
    let peer =
        rustix::net::sockopt::socket_peercred(socket).map_err(Error::on("getsockopt", "SO_PEERCRED"))?;
    Ok(Credentials { pid: peer.pid.as_raw_pid(), uid: peer.uid.as_raw(), gid: peer.gid.as_raw() })
}

/// Sends one message with descriptors beside it; all of it or nothing. Blocks if the socket does.
///
/// An empty `bytes` is refused (`INVAL`): a peer could not tell it from the end of the connection.
///
/// # Errors
///
/// `PIPE` if the peer is gone (no signal), `AGAIN` if the socket does not block and is full, `MSGSIZE`.
pub fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let failed = |errno| Error::new("sendmsg", format_args!("{} bytes", bytes.len()), errno);
    if bytes.is_empty() || descriptors.len() > MAX_DESCRIPTORS {
        return Err(failed(Errno::INVAL));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(descriptors.len()))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Receives one message and the descriptors beside it (close-on-exec). 0 bytes is the end of the connection.
///
/// # Errors
///
/// `AGAIN` if the socket does not block and nothing is there; [`Error::Truncated`] if the message does not fit.
pub fn recv_with_fds(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags) {
            Ok(message) => {
                let mut descriptors = Vec::new();
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = part {
                        descriptors.extend(received);
                    }
                }
                if message.flags.contains(ReturnFlags::TRUNC) {
                    return Err(Error::Truncated { what: "message body" });
                }
                if message.flags.contains(ReturnFlags::CTRUNC) {
                    return Err(Error::Truncated { what: "descriptors" });
                }
                return Ok((message.bytes, descriptors));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("recvmsg", "unix", errno)),
        }
    }
}

/// Returns the size of the next message without taking it; 0 at the end of the connection.
///
/// # Errors
///
/// As [`recv_with_fds`].
pub fn next_size(socket: BorrowedFd<'_>) -> Result<usize> {
    loop {
        let mut nothing = [0; 0];
        match rustix::net::recv(socket, &mut nothing[..], RecvFlags::PEEK | RecvFlags::TRUNC) {
            Ok((_, size)) => return Ok(size),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("recv", "unix", errno)),
        }
    }
}

/// Sets whether operations on `fd` wait.
///
/// # Errors
///
/// Those of fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, nonblocking).map_err(Error::on("ioctl", "FIONBIO"))
}

/// Returns a path that is bound to `listener`'s directory entry; removes a stale socket there first if nobody listens.
///
/// # Errors
///
/// `ADDRINUSE` if somebody answers at `path`.
pub fn replace_stale(path: &Path) -> Result<PathBuf> {
    match connect_seqpacket(path) {
        Ok(_) => return Err(Error::new("bind", path.display(), Errno::ADDRINUSE)),
        Err(error) if error.errno() == Errno::NOENT => {}
        Err(_) => rustix::fs::unlink(path).map_err(Error::at("unlink", path))?,
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_bounds_and_descriptors() {
        let (one, two) = seqpacket_pair().unwrap();
        let (pipe_out, pipe_in) = rustix::pipe::pipe().unwrap();
        send_with_fds(one.as_fd(), b"first", &[pipe_in.as_fd(), pipe_out.as_fd()]).unwrap();
        send_with_fds(one.as_fd(), b"second message", &[]).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(next_size(two.as_fd()).unwrap(), 5);
        let (size, descriptors) = recv_with_fds(two.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..size], descriptors.len()), (&b"first"[..], 2));
        rustix::io::write(&descriptors[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&pipe_out, &mut buffer[..]).unwrap(), 1);
        let mut small = [0; 3];
        let error = recv_with_fds(two.as_fd(), &mut small).unwrap_err();
        assert_eq!(error.errno(), Errno::MSGSIZE);
        drop(one);
        assert_eq!(recv_with_fds(two.as_fd(), &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn a_path_of_any_length_can_be_listened_on() {
        let directory =
            std::env::temp_dir().join(format!("wharf-sys-{}-{}", std::process::id(), "s".repeat(90)));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("supervisor.sock");
        let listener = listen_seqpacket(&path).unwrap();
        assert!(accept(listener.as_fd()).unwrap().is_none());
        let client = connect_seqpacket(&path).unwrap();
        let server = accept(listener.as_fd()).unwrap().unwrap();
        send_with_fds(client.as_fd(), b"hello", &[]).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(recv_with_fds(server.as_fd(), &mut buffer).unwrap().0, 5);
        assert_eq!(peer(server.as_fd()).unwrap().pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(replace_stale(&path).unwrap_err().errno(), Errno::ADDRINUSE);
        drop(listener);
        replace_stale(&path).unwrap();
        assert!(!path.exists());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
