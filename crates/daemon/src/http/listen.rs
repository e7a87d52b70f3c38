//! Where clients connect: unix sockets, TCP, TLS, and sockets that a service manager passes on.

use super::stream::Connection;
use rustix::fs::{Gid, Mode, Uid};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

/// A socket that accepts clients.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// TCP in the clear.
    Tcp(TcpListener),
    /// TCP with TLS.
    Tls(TcpListener, Acceptor),
}

/// What makes a TLS connection of a TCP one.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// An accepted connection whose handshake is still to come.
#[derive(Debug)]
pub enum Accepted {
    /// There is none.
    Ready(Connection),
    /// A TLS handshake.
    Handshake(TcpStream, Acceptor),
}

impl Accepted {
    /// Does the handshake.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub async fn connected(self) -> io::Result<Connection> {
        match self {
            Self::Ready(connection) => Ok(connection),
            Self::Handshake(stream, acceptor) => {
                acceptor.0.accept(stream).await.map(|stream| Connection::Tls(Box::new(stream)))
            }
        }
    }
}

impl Listener {
    /// Waits for a client.
    ///
    /// # Errors
    ///
    /// The system's, for example when descriptors have run out.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Unix(listener) => Ok(Accepted::Ready(Connection::Unix(listener.accept().await?.0))),
            Self::Tcp(listener) => Ok(Accepted::Ready(Connection::Tcp(accepted(listener).await?))),
            Self::Tls(listener, acceptor) => {
                Ok(Accepted::Handshake(accepted(listener).await?, acceptor.clone()))
            }
        }
    }
}

async fn accepted(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody serves it already.
    #[error("can't create unix socket {0}: is another daemon running?")]
    InUse(PathBuf),
    /// The system refused.
    #[error("{operation} {object}")]
    System {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The service manager passed no such socket.
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NotActivated,
    /// TLS certificates or keys cannot be used.
    #[error("TLS with {file}: {reason}")]
    Tls {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn system(
    operation: &'static str,
    object: &dyn std::fmt::Display,
) -> impl FnOnce(io::Error) -> ListenError + use<> {
    let object = object.to_string();
    move |source| ListenError::System { operation, object, source }
}

/// Makes a unix socket that root and `group` may use. A socket that nobody serves any more is replaced.
///
/// Must be called within the runtime.
///
/// # Errors
///
/// [`ListenError::InUse`] if a daemon serves it.
pub async fn unix(path: &Path, group: Option<u32>) -> Result<Listener, ListenError> {
    let shown = path.display();
    if UnixStream::connect(path).await.is_ok() {
        return Err(ListenError::InUse(path.to_owned()));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            std::fs::remove_file(path).map_err(system("remove stale socket", &shown))?;
        }
        _ => {}
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(system("create directory", &parent.display()))?;
    }
    let listener = UnixListener::bind(path).map_err(system("listen on", &shown))?;
    let chowned = rustix::fs::chown(path, Some(Uid::ROOT), Some(group.map_or(Gid::ROOT, Gid::from_raw)));
    // Not being root is no reason to fail: the socket is then the user's own.
    if let Err(error) = chowned {
        tracing::warn!(%error, path = %shown, "the socket's group could not be set");
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(0o660))
        .map_err(|error| system("set mode of", &shown)(error.into()))?;
    Ok(Listener::Unix(listener))
}

/// Listens on every address that `host` has.
///
/// # Errors
///
/// The system's answer, or that the name has no address.
pub async fn tcp(host: &str, port: u16, acceptor: Option<&Acceptor>) -> Result<Vec<Listener>, ListenError> {
    let shown = format!("{host}:{port}");
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await.map_err(system("resolve", &shown))?.collect();
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await.map_err(system("listen on tcp", &address))?;
        listeners.push(match acceptor {
            Some(acceptor) => Listener::Tls(listener, acceptor.clone()),
            None => Listener::Tcp(listener),
        });
    }
    Ok(listeners)
}

/// The sockets that a service manager passed on (`sd_listen_fds(3)`), with their names.
///
/// # Errors
///
/// [`ListenError::NotActivated`] if there are none, or none that `wanted` (`*`, a name or a number) names.
pub fn activated(wanted: &str, sockets: Vec<(String, OwnedFd)>) -> Result<Vec<Listener>, ListenError> {
    let chosen = sockets.into_iter().enumerate().filter(|(index, (name, _))| {
        matches!(wanted, "" | "*") || wanted == name || wanted == (index + FIRST_FD).to_string()
    });
    let mut listeners = Vec::new();
    for (_, (name, fd)) in chosen {
        listeners.push(adopted(fd).map_err(system("use the passed socket", &name))?);
    }
    if listeners.is_empty() { Err(ListenError::NotActivated) } else { Ok(listeners) }
}

/// The first descriptor that a service manager passes.
const FIRST_FD: usize = 3;

/// Takes the sockets that a service manager passed on; `variable` reads the environment.
pub fn passed(variable: impl Fn(&str) -> Option<String>) -> Vec<(String, OwnedFd)> {
    let me = rustix::process::getpid();
    let for_us = variable("LISTEN_PID").is_some_and(|pid| pid == me.as_raw_nonzero().to_string());
    let count: usize = variable("LISTEN_FDS").and_then(|count| count.parse().ok()).unwrap_or(0);
    if !for_us {
        return Vec::new();
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    (FIRST_FD..FIRST_FD + count)
        .filter_map(|number| {
            let name = names.next().unwrap_or_default().to_owned();
            Some((name, inherited(i32::try_from(number).ok()?).ok()?))
        })
        .collect()
}

/// Returns a duplicate of a descriptor that this process inherited (`pidfd_getfd(2)` needs no trust in the number).
///
/// # Errors
///
/// The system's, if there is no such descriptor.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    let me = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
    Ok(rustix::process::pidfd_getfd(me, number, rustix::process::PidfdGetfdFlags::empty())?)
}

fn adopted(fd: OwnedFd) -> io::Result<Listener> {
    if rustix::net::sockopt::socket_domain(&fd)? == rustix::net::AddressFamily::UNIX {
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(true)?;
        return UnixListener::from_std(listener).map(Listener::Unix);
    }
    let listener = std::net::TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(Listener::Tcp)
}

/// The files that TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those that lead to its root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority that clients' certificates must come from; `None` asks for none.
    pub clients: Option<PathBuf>,
}

/// Reads certificates and key.
///
/// # Errors
///
/// [`ListenError::Tls`] with the file that cannot be used.
pub fn acceptor(files: &TlsFiles) -> Result<Acceptor, ListenError> {
    let tls = |file: &Path, reason: String| ListenError::Tls { file: file.display().to_string(), reason };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&files.certificate, error.to_string()))?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| tls(path, error.to_string()))?;
            }
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| tls(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut reader = opened(&files.key)?;
    let key = rustls_pemfile::private_key(&mut reader)
        .map_err(|error| tls(&files.key, error.to_string()))?
        .ok_or_else(|| tls(&files.key, "there is no private key in it".to_owned()))?;
    let config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| tls(&files.certificate, error.to_string()))?;
    Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
}

fn opened(path: &Path) -> Result<io::BufReader<std::fs::File>, ListenError> {
    std::fs::File::open(path).map(io::BufReader::new).map_err(system("open", &path.display()))
}

fn certificates(path: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, ListenError> {
    rustls_pemfile::certs(&mut opened(path)?)
        .collect::<Result<_, _>>()
        .map_err(system("read certificates from", &path.display()))
}
