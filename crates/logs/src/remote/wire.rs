//! Connections to receivers.

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a receiver may take to accept a connection, or some bytes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a receiver is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`, a stream.
    Tcp(String),
    /// `host:port`, an encrypted stream, and who is believed to be there.
    Tls(String, tls::Client),
    /// `host:port`, datagrams.
    Udp(String),
    /// A unix socket; a stream.
    Unix(PathBuf),
    /// The first of these unix sockets that is there, of either kind.
    Local(Vec<PathBuf>),
}

/// A connection to a receiver.
#[derive(Debug)]
pub(crate) enum Connection {
    Tcp(TcpStream),
    Tls(Box<Encrypted>),
    Udp(UdpSocket),
    Unix(UnixStream),
    Datagram(UnixDatagram),
}

impl Address {
    /// Connects.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(address) => tcp(address).map(Connection::Tcp),
            Self::Tls(address, trust) => encrypted(address, trust).map(Box::new).map(Connection::Tls),
            Self::Udp(address) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no address of {address}"));
                for address in address.to_socket_addrs()? {
                    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let socket = UdpSocket::bind(any)?;
                    match socket.connect(address) {
                        Ok(()) => return Ok(Connection::Udp(socket)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Self::Unix(path) => stream(path),
            Self::Local(paths) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "Unix syslog delivery error");
                for path in paths.iter().filter(|path| path.exists()) {
                    match datagram(path).or_else(|_not_datagrams| stream(path)) {
                        Ok(connection) => return Ok(connection),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

fn tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no address of {address}"));
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An encrypted stream; whoever drops it says good-bye, so that the receiver knows that nothing was cut off.
#[derive(Debug)]
pub(crate) struct Encrypted(StreamOwned<ClientConnection, TcpStream>);

impl Drop for Encrypted {
    fn drop(&mut self) {
        self.0.conn.send_close_notify();
        self.0.flush().ok();
    }
}

/// Connects, and waits until each side knows the other.
fn encrypted(address: &str, trust: &tls::Client) -> io::Result<Encrypted> {
    let config = trust.config(tls::host_certificates()).map_err(io::Error::other)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _port)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = tcp(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(Encrypted(StreamOwned::new(connection, stream)))
}

fn stream(path: &PathBuf) -> io::Result<Connection> {
    let stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Connection::Unix(stream))
}

fn datagram(path: &PathBuf) -> io::Result<Connection> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(Connection::Datagram(socket))
}

impl Connection {
    /// Sends one piece: a datagram, or so many bytes of a stream.
    pub(crate) fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(piece),
            Self::Tls(stream) => stream.0.write_all(piece).and_then(|()| stream.0.flush()),
            Self::Unix(stream) => stream.write_all(piece),
            Self::Udp(socket) => match socket.send(piece) {
                // What an earlier datagram met; nobody listens, and nobody has to.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                other => other.map(drop),
            },
            Self::Datagram(socket) => socket.send(piece).map(drop),
        }
    }
}
