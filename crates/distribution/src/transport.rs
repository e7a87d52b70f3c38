//! One HTTP request to one URL: connections, TLS, time-outs, and failures in words.
//!
//! HTTP/1.1 only: each parallel blob then has a TCP connection of its own, with its own window, and a registry cannot
//! play with HTTP/2's flow control. Nothing here knows registries, credentials or redirects.

use crate::endpoint::{self, Own, Security};
use crate::error::{BoxError, Error, Failure};
use crate::proxy;
use crate::tls::{self, HostFiles};
use crate::{Settings, uri};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Connections to hosts that need the same set-up.
#[derive(Clone)]
enum Http {
    Direct(legacy::Client<HttpsConnector<HttpConnector>, Body>),
    /// Through a proxy, by `CONNECT`.
    Tunnelled(legacy::Client<HttpsConnector<Tunnel<HttpConnector>>, Body>),
}

impl Http {
    fn new(config: rustls::ClientConfig, proxy: Option<&Intercept>, dial_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(dial_timeout));
        connector.set_keepalive(Some(Duration::from_secs(30)));
        let tls = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(8)
            .http1_max_buf_size(READ_BUFFER);
        let Some(proxy) = proxy else { return Self::Direct(builder.build(tls.wrap_connector(connector))) };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Self::Tunnelled(builder.build(tls.wrap_connector(tunnel)))
    }

    async fn request(&self, request: Request<Body>) -> Result<Response<Incoming>, legacy::Error> {
        match self {
            Self::Direct(client) => client.request(request).await,
            Self::Tunnelled(client) => client.request(request).await,
        }
    }
}

/// What makes connections differ: the host, if it has a set-up of its own, and the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Setup {
    own: Option<(String, Security, Option<Arc<Own>>)>,
    proxy: Option<Uri>,
}

/// How long a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// The largest piece that is read from a connection at once.
const READ_BUFFER: usize = 256 * 1024;

/// Returns a body of bytes that are there.
pub(crate) fn body(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The connections to all hosts.
pub(crate) struct Transport {
    certs_dirs: Vec<PathBuf>,
    insecure: Vec<String>,
    proxies: Matcher,
    /// The time-out for the head of an answer, and between two pieces of its body.
    pub(crate) stall: Duration,
    clients: Mutex<HashMap<Setup, Http>>,
}

impl Transport {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            certs_dirs: settings.certs_dirs.clone(),
            insecure: settings.insecure.clone(),
            proxies: settings.proxies.matcher(),
            stall: settings.stall,
            clients: Mutex::default(),
        }
    }

    /// Sends `request` and returns the head of the answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let method = method_name(request.method());
        let url = uri::without_query(request.uri());
        tokio::time::timeout(self.stall, self.send_untimed(request)).await.unwrap_or_else(|_elapsed| {
            Err(Error::Request { method, url, failure: Failure::Timeout(self.stall), source: None })
        })
    }

    /// As [`Transport::send`], without a limit of time.
    pub(crate) async fn send_untimed(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let method = method_name(request.method());
        let url = request.uri().clone();
        let own = request.extensions().get::<(Security, Arc<Own>)>().cloned();
        let client = self.client(&url, own).await?;
        client.request(request).await.map_err(|error| Error::Request {
            method,
            url: uri::without_query(&url),
            failure: explain(&error, &url),
            source: Some(Box::new(error)),
        })
    }

    /// Returns the next piece of a body, `None` at its end.
    pub(crate) async fn chunk(&self, url: &Uri, body: &mut Incoming) -> Result<Option<Bytes>, Error> {
        let failed =
            |failure, source| Error::Request { method: "Get", url: uri::without_query(url), failure, source };
        loop {
            match tokio::time::timeout(self.stall, body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
                Ok(Some(Err(error))) => {
                    let problem = system_error(&error).map_or_else(|| "unexpected EOF".to_owned(), go_error);
                    return Err(failed(Failure::Broken { problem }, Some(Box::new(error))));
                }
                Err(_elapsed) => return Err(failed(Failure::Timeout(self.stall), None)),
            }
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    pub(crate) async fn read(
        &self,
        url: &Uri,
        response: Response<Incoming>,
        limit: u64,
    ) -> Result<Bytes, Error> {
        let too_large = || Error::TooLarge { url: uri::without_query(url), limit };
        let mut body = response.into_body();
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk(url, &mut body).await? {
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    async fn client(&self, url: &Uri, own: Option<(Security, Arc<Own>)>) -> Result<Http, Error> {
        let authority = url.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let (security, needs) = match own {
            Some((security, own)) => (security, Some(own)),
            None => (endpoint::security(&authority, &self.insecure), None),
        };
        let proxy = proxy::on_the_way(&self.proxies, url);
        let proxy_uri = proxy.as_ref().map(|proxy| proxy.uri().clone());
        let own = Setup { own: Some((authority.clone(), security, needs.clone())), proxy: proxy_uri.clone() };
        // Verified hosts without files of their own share connections' set-up.
        let shared = Setup { own: None, proxy: proxy_uri };
        if let Some(client) = self.known(&own) {
            return Ok(client);
        }
        // Off the async threads: a certificate directory and the host's bundle of roots are read.
        let (directories, known) = (self.certs_dirs.clone(), self.known(&shared));
        let (setup, client) = tokio::task::spawn_blocking(move || {
            let files = HostFiles::find(&directories, &authority);
            let files = needs.as_ref().map_or(files.clone(), |own| files.with(&own.files));
            let dial_timeout = needs.as_ref().and_then(|own| own.dial_timeout);
            let usual = files.is_empty() && security == Security::Verified && dial_timeout.is_none();
            let setup = if usual { shared } else { own };
            let dial_timeout = dial_timeout.unwrap_or(CONNECT_TIMEOUT);
            match known.filter(|_| setup.own.is_none()) {
                Some(client) => Ok((setup, client)),
                None => Ok((
                    setup,
                    Http::new(tls::client_config(security, &files)?, proxy.as_ref(), dial_timeout),
                )),
            }
        })
        .await
        .unwrap_or_else(|error| {
            Err(Error::Certificate { path: PathBuf::new(), problem: error.to_string() })
        })?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(clients.entry(setup).or_insert(client).clone())
    }

    fn known(&self, setup: &Setup) -> Option<Http> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(setup).cloned()
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("certs_dirs", &self.certs_dirs).finish_non_exhaustive()
    }
}

/// Returns the method as Go's `url.Error` prints it.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::HEAD => "Head",
        Method::POST => "Post",
        Method::PUT => "Put",
        Method::PATCH => "Patch",
        Method::DELETE => "Delete",
        _ => "Get",
    }
}

/// Says in Go's words why no answer came.
fn explain(error: &legacy::Error, url: &Uri) -> Failure {
    let host = url.host().unwrap_or_default();
    let address = match url.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None if url.scheme_str() == Some("http") => format!("{host}:80"),
        None => format!("{host}:443"),
    };
    if let Some(tls) = tls_error(error) {
        return tls_failure(tls);
    }
    let system = system_error(error);
    if !error.is_connect() {
        let problem = system.map_or_else(|| "EOF".to_owned(), go_error);
        return Failure::Broken { problem };
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(level) = cause {
        if level.to_string().starts_with("dns error") {
            return Failure::Lookup { host: endpoint::host(host).to_owned() };
        }
        cause = level.source();
    }
    match system {
        Some(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Failure::Tls { problem: "EOF".to_owned() }
        }
        Some(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Failure::Connect { address, problem: "i/o timeout".to_owned() }
        }
        Some(error) => Failure::Connect { address, problem: go_error(error) },
        // A proxy's refusal, for one.
        None => Failure::Connect { address, problem: innermost(error) },
    }
}

/// Returns the text of the last cause.
fn innermost(error: &legacy::Error) -> String {
    let mut last: &dyn StdError = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn tls_failure(error: &rustls::Error) -> Failure {
    use rustls::CertificateError as Bad;
    let certificate =
        |problem: &str| Failure::Tls { problem: format!("failed to verify certificate: x509: {problem}") };
    match error {
        rustls::Error::InvalidMessage(_) => Failure::NotTls,
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            certificate("certificate signed by unknown authority")
        }
        rustls::Error::InvalidCertificate(
            Bad::Expired | Bad::NotValidYet | Bad::ExpiredContext { .. } | Bad::NotValidYetContext { .. },
        ) => certificate("certificate has expired or is not yet valid"),
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            certificate("certificate is not valid for this name")
        }
        rustls::Error::InvalidCertificate(other) => certificate(&format!("{other:?}")),
        other => Failure::Tls { problem: other.to_string() },
    }
}

/// Finds what `matches` in a chain of causes, looking into boxes inside I/O errors too.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(level) = next {
        if let Some(found) = level.downcast_ref::<T>() {
            return Some(found);
        }
        if let Some(inner) = level.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()) {
            let inner: &(dyn StdError + 'static) = inner;
            if let Some(found) = find::<T>(inner) {
                return Some(found);
            }
        }
        next = level.source();
    }
    None
}

fn tls_error(error: &legacy::Error) -> Option<&rustls::Error> {
    find::<rustls::Error>(error)
}

fn system_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a std::io::Error> {
    find::<std::io::Error>(error)
}

/// Returns an I/O error's text as Go prints it: lower case, no number.
fn go_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
