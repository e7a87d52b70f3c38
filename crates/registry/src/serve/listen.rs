//! Sockets, TLS and connections, until the server stops.

use super::App;
use super::body::Body;
use crate::config::{Http, Tls};
use crate::error::{At, Error, Result};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::server::WebPkiClientVerifier;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How long a connection may take to send a request's head, and to shake hands.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait after a failed accept: it fails when descriptors run out, and those must first be freed.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A socket that accepts clients.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Opens the configured socket.
    pub(crate) async fn open(address: &str, unix: bool) -> Result<Self> {
        let failed = |source| Error::Listen { address: address.to_owned(), source };
        if unix {
            match std::fs::remove_file(address) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            return UnixListener::bind(address).map(Self::Unix).map_err(failed);
        }
        let all = if address.starts_with(':') { format!("[::]{address}") } else { address.to_owned() };
        match TcpListener::bind(&all).await {
            Ok(listener) => Ok(Self::Tcp(listener)),
            // No IPv6 here.
            Err(_) if address.starts_with(':') => {
                TcpListener::bind(format!("0.0.0.0{address}")).await.map(Self::Tcp).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The address in the log and in events.
    pub(crate) fn shown(&self, address: &str) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or(address.to_owned(), |found| found.to_string())
            }
            Self::Unix(_) => address.to_owned(),
        }
    }
}

/// What answers a request: the request, who sent it, and whether by TLS.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: &str,
        tls: bool,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// The registry itself.
#[derive(Clone, Debug)]
pub(crate) struct Registry(pub(crate) Arc<App>);

impl Answers for Registry {
    async fn answer(&self, request: Request<Incoming>, peer: &str, tls: bool) -> Response<Body> {
        let peer = super::peer(&request, peer);
        // The state of an upload and of its answer is large: it lives on the heap.
        Box::pin(Arc::clone(&self.0).answer(request, peer, tls)).await
    }
}

/// Metrics and health.
#[derive(Clone, Debug)]
pub(crate) struct Debugging(pub(crate) Arc<App>);

impl Answers for Debugging {
    async fn answer(&self, request: Request<Incoming>, _: &str, _: bool) -> Response<Body> {
        self.0.debug(&request)
    }
}

/// What a socket speaks.
#[derive(Clone, Default)]
pub(crate) struct Speech {
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) http1_only: bool,
}

/// Serves a socket until `stop` says true, then lets requests under way end, for at most `drain`.
pub(crate) async fn serve(
    listener: Listener,
    answers: impl Answers,
    speech: Speech,
    mut stop: watch::Receiver<bool>,
    drain: Duration,
) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((Socket::Tcp(stream), peer)) => {
                drop(stream.set_nodelay(true));
                let work = connection(stream, peer, answers.clone(), speech.clone(), graceful.watcher());
                tokio::spawn(work);
            }
            Ok((Socket::Unix(stream), peer)) => {
                let work = connection(stream, peer, answers.clone(), speech.clone(), graceful.watcher());
                tokio::spawn(work);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    let count = graceful.count();
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(count, "requests under way are given up");
    }
}

enum Socket {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<(Socket, String)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            Ok((Socket::Tcp(stream), peer.to_string()))
        }
        Listener::Unix(listener) => Ok((Socket::Unix(listener.accept().await?.0), "unix".to_owned())),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: String,
    answers: impl Answers,
    speech: Speech,
    watcher: Watcher,
) {
    match &speech.tls {
        None => speak(stream, &peer, answers, &speech, watcher).await,
        Some(tls) => match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, &peer, answers, &speech, watcher).await,
            Ok(Err(error)) => tracing::debug!(peer, %error, "TLS handshake"),
            Err(_) => tracing::debug!(peer, "TLS handshake takes too long"),
        },
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: &str,
    answers: impl Answers,
    speech: &Speech,
    watcher: Watcher,
) {
    let tls = speech.tls.is_some();
    let service = service_fn(|request: Request<Incoming>| {
        let (answers, peer) = (answers.clone(), peer.to_owned());
        async move { Ok::<_, Infallible>(answers.answer(request, &peer, tls).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let builder = if speech.http1_only { builder.http1_only() } else { builder };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(peer, %error, "a connection ended early");
    }
}

/// Reads certificates and key.
///
/// # Errors
///
/// [`Error::Io`] and [`Error::File`].
pub(crate) fn speech(http: &Http) -> Result<Speech> {
    let tls = http.tls.as_ref().map(|tls| acceptor(tls, http.http1_only)).transpose()?;
    Ok(Speech { tls, http1_only: http.http1_only })
}

fn acceptor(tls: &Tls, http1_only: bool) -> Result<TlsAcceptor> {
    let wrong = |path: &Path, problem: String| Error::File { path: path.to_owned(), problem };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = if tls.only_1_3 {
        builder.with_protocol_versions(&[&rustls::version::TLS13])
    } else {
        builder.with_safe_default_protocol_versions()
    };
    let builder = builder.map_err(|error| wrong(&tls.certificate, error.to_string()))?;
    let builder = if tls.clients.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = rustls::RootCertStore::empty();
        for path in &tls.clients {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(path, error.to_string()))?;
            }
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder
            .with_client_cert_verifier(verifier.map_err(|error| wrong(&tls.certificate, error.to_string()))?)
    };
    let bytes = std::fs::read(&tls.key).at("read", &tls.key)?;
    let key = rustls_pemfile::private_key(&mut bytes.as_slice())
        .ok()
        .flatten()
        .ok_or_else(|| wrong(&tls.key, "there is no private key in it".to_owned()))?;
    let mut config = builder
        .with_single_cert(certificates(&tls.certificate)?, key)
        .map_err(|error| wrong(&tls.certificate, error.to_string()))?;
    let protocols: &[&[u8]] = if http1_only { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
    let bytes = std::fs::read(path).at("read", path)?;
    let found: std::result::Result<Vec<_>, _> = rustls_pemfile::certs(&mut bytes.as_slice()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::File { path: path.to_owned(), problem: "there is no certificate in it".to_owned() }),
    }
}
