//! A blocking client of the Engine API over unix sockets and TCP.
//!
//! HTTP/1.1 and nothing more: kept-alive connections, bodies by length or in chunks, streamed both ways, and
//! connections that are taken over ("hijacked") for attach and exec. It knows the API's error documents and how a
//! version is negotiated; it knows no commands.
//!
//! ```text
//! Host ── Client ── Request ── http::Connection ── Stream (unix | tcp)
//!                     └─ Response (body: Read)   or   Hijacked (raw stream, both ways)
//! ```
#![expect(clippy::error_impl_error, reason = "one Error per crate")]

mod chunks;
mod error;
mod hijack;
mod host;
mod http;
mod request;
mod ssh;
mod stream;
mod tls;

pub use ::tls::Client as Tls;
pub use chunks::Chunks;
pub use error::Error;
pub use hijack::Hijacked;
pub use host::Host;
pub use http::{Body, Response};
pub use request::{Request, path_segment};
pub use ssh::Ssh;
pub use stream::Stream;

use api::ApiVersion;
use api::system::Ping;
use http::Connection;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Idle connections kept for the next request.
const MAX_IDLE: usize = 4;

/// Talks to one engine. Requests may be made from several threads at once; each uses its own connection.
#[derive(Debug)]
pub struct Client {
    host: Host,
    user_agent: String,
    idle: Mutex<Vec<Connection>>,
    version: OnceLock<ApiVersion>,
    ping: OnceLock<Ping>,
    fixed: bool,
}

impl Client {
    /// Makes a client; nothing is connected yet. With `version`, that one is used instead of negotiating.
    pub fn new(host: Host, user_agent: impl Into<String>, version: Option<ApiVersion>) -> Self {
        Self {
            host,
            user_agent: user_agent.into(),
            idle: Mutex::new(Vec::new()),
            fixed: version.is_some(),
            version: version.map(OnceLock::from).unwrap_or_default(),
            ping: OnceLock::new(),
        }
    }

    /// Returns the engine's address.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Connects, without a request.
    ///
    /// # Errors
    /// [`Error::Connect`] if nothing answers there.
    pub fn dial(&self) -> Result<Stream, Error> {
        Stream::connect(&self.host)
    }

    /// Starts a request for `path` (without version), such as `GET`, `/containers/json`.
    pub fn request<'a>(&'a self, method: &'static str, path: impl Into<String>) -> Request<'a> {
        Request::new(self, method, path.into())
    }

    /// Asks the engine who it is, once; later calls repeat the answer.
    ///
    /// # Errors
    /// [`Error::Connect`] if nothing answers there.
    pub fn ping(&self) -> Result<&Ping, Error> {
        if let Some(ping) = self.ping.get() {
            return Ok(ping);
        }
        let head = self.ping_with("HEAD")?;
        // Engines before API 1.40 know only GET.
        let response = if head.status < 400 { head } else { self.ping_with("GET")? };
        let header = |name: &str| response.header(name).unwrap_or_default().to_owned();
        let ping = Ping {
            api_version: header("api-version"),
            os_type: header("ostype"),
            experimental: header("docker-experimental") == "true",
            builder_version: header("builder-version"),
        };
        Ok(self.ping.get_or_init(|| ping))
    }

    fn ping_with(&self, method: &'static str) -> Result<Response<'_>, Error> {
        Request::unversioned(self, method, "/_ping".to_owned()).send_unchecked()
    }

    /// Returns the version spoken: the one fixed at the start, else the newest that both sides know.
    ///
    /// # Errors
    /// [`Error::Connect`] if nothing answers there.
    pub fn version(&self) -> Result<ApiVersion, Error> {
        if let Some(version) = self.version.get() {
            return Ok(*version);
        }
        // An engine that names no version is as old as the header: 1.24, as Docker's client assumes.
        let theirs = self.ping()?.api_version.parse().unwrap_or(ApiVersion::MIN);
        Ok(*self.version.get_or_init(|| theirs.min(ApiVersion::MAX)))
    }

    /// Says whether the version was given instead of negotiated.
    pub fn version_is_fixed(&self) -> bool {
        self.fixed
    }

    /// Takes an idle connection, or makes a new one.
    fn connection(&self) -> Result<Connection, Error> {
        let idle = self.idle().pop();
        match idle {
            Some(connection) if connection.is_alive() => Ok(connection),
            Some(_) | None => Connection::open(&self.host),
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
