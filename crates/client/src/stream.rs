//! A connected socket of either kind.

use crate::{Error, Host};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A connection to the engine.
#[derive(Debug)]
pub enum Stream {
    /// Over a unix socket; also the plain end of a connection with TLS or through ssh.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Connect`], or [`Error::Permission`] if the socket refuses this user.
    pub fn connect(host: &Host) -> Result<Self, Error> {
        let stream = match host {
            Host::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            Host::Tcp(address) => TcpStream::connect(address).and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }),
            Host::Tls(address, tls) => crate::tls::connect(tls, address).map(Self::Unix),
            Host::Ssh(ssh) => ssh.connect().map(Self::Unix),
        };
        stream.map_err(|source| {
            let host = host.to_string();
            match source.kind() {
                io::ErrorKind::InvalidData => Error::Transport { operation: host, source },
                io::ErrorKind::PermissionDenied => Error::Permission { host, source },
                _ => Error::Connect { host, source },
            }
        })
    }

    /// Returns a second handle of the same connection.
    ///
    /// # Errors
    /// What duplicating the descriptor says.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
        }
    }

    /// Says that nothing more will be written; reading goes on.
    ///
    /// # Errors
    /// What shutdown(2) says.
    pub fn close_write(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Ends the connection for all its handles.
    ///
    /// # Errors
    /// What shutdown(2) says.
    pub fn close(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
