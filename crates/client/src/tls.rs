//! TLS towards an engine: certificates from files, and a thread that carries bytes between the encrypted connection and
//! a socket pair, so that everything else works with a plain socket.

use ::tls::{Client, Unusable};
use rustix::event::{PollFd, PollFlags};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// So much is carried at once.
const PIECE: usize = 32 * 1024;

fn wrong(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_string())
}

fn unusable(error: &Unusable) -> io::Error {
    match error {
        Unusable::File(error) => {
            let kind = match &error.problem {
                rustls::pki_types::pem::Error::Io(error) => error.kind(),
                _ => ErrorKind::InvalidData,
            };
            io::Error::new(kind, format!("open {}: {}", error.path.display(), error.problem))
        }
        Unusable::Content(problem) => wrong(problem),
    }
}

/// Connects to `address` (`host:port`) and returns the plain end.
pub(crate) fn connect(files: &Client, address: &str) -> io::Result<UnixStream> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(wrong)?;
    let config = files.config(Vec::new()).map_err(|error| unusable(&error))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(wrong)?;
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    let (ours, theirs) = UnixStream::pair()?;
    tcp.set_nonblocking(true)?;
    ours.set_nonblocking(true)?;
    std::thread::spawn(move || {
        let mut carrier = Carrier { connection, tcp, plain: ours, decrypted: Vec::new(), typed_all: false };
        // Whoever reads the plain end sees that it has ended.
        carrier.run().ok();
    });
    Ok(theirs)
}

/// Between the encrypted connection and the plain socket.
struct Carrier {
    connection: ClientConnection,
    tcp: TcpStream,
    plain: UnixStream,
    /// What has arrived and the plain side has not taken yet.
    decrypted: Vec<u8>,
    /// Whether the plain side will send no more.
    typed_all: bool,
}

/// Says whether an operation would have to wait, in which case it has done nothing.
fn waits<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        other => other.map(Some),
    }
}

impl Carrier {
    /// Carries until one side has ended.
    fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            while self.connection.wants_write() && waits(self.connection.write_tls(&mut self.tcp))?.is_some()
            {
            }
            if self.decrypted.is_empty() && !self.decrypt(&mut buffer)? {
                // The engine has said its last: what is typed interests nobody any more.
                return Ok(());
            }
            if !self.decrypted.is_empty()
                && let Some(taken) = waits(self.plain.write(&self.decrypted))?
            {
                self.decrypted.drain(..taken);
                continue;
            }
            let (readable, typed) = self.wait()?;
            if readable {
                if waits(self.connection.read_tls(&mut self.tcp))? == Some(0) {
                    self.plain.shutdown(Shutdown::Write).ok();
                    return Ok(());
                }
                self.connection.process_new_packets().map_err(wrong)?;
            }
            if typed && let Some(length) = waits(self.plain.read(&mut buffer))? {
                if length == 0 {
                    self.typed_all = true;
                    self.connection.send_close_notify();
                } else {
                    self.connection.writer().write_all(buffer.get(..length).unwrap_or_default())?;
                }
            }
        }
    }

    /// Takes what has been decrypted; `false` at the end of what the engine sends.
    fn decrypt(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match waits(self.connection.reader().read(buffer))? {
            Some(0) => {
                self.plain.shutdown(Shutdown::Write).ok();
                Ok(false)
            }
            Some(length) => {
                self.decrypted.extend_from_slice(buffer.get(..length).unwrap_or_default());
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// Waits for either side; says whether the connection and the plain socket can be read.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let mut of_tcp = PollFlags::empty();
        of_tcp.set(PollFlags::IN, self.decrypted.is_empty());
        of_tcp.set(PollFlags::OUT, self.connection.wants_write());
        let mut of_plain = PollFlags::empty();
        of_plain.set(PollFlags::IN, !self.typed_all && !self.connection.wants_write());
        of_plain.set(PollFlags::OUT, !self.decrypted.is_empty());
        let mut fds = [PollFd::new(&self.tcp, of_tcp), PollFd::new(&self.plain, of_plain)];
        rustix::event::poll(&mut fds, None)?;
        let [tcp, plain] = fds.map(|fd| fd.revents());
        if plain.contains(PollFlags::HUP) && !plain.contains(PollFlags::IN) && self.typed_all {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let ready = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        Ok((tcp.intersects(ready), plain.intersects(ready) && !self.typed_all))
    }
}
