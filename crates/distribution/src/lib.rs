//! A registry client: distribution-spec 1.1 and Docker's schema 2, for pulling and pushing.
//!
//! It knows hosts, challenges, mirrors, manifests and blobs; it does not know where content is kept. A blob comes as a
//! [`Blob`], which resumes by itself where a connection broke; whoever keeps the bytes checks their digest.
//! Manifests are checked here.
//!
//! ```text
//! Client::repository(reference, credentials, access) → Repository
//!     resolve / manifest → Fetched   (per endpoint: mirrors first, then the origin; retries with back-off)
//!     blob               → Blob      (chunk by chunk)
//!         exchange: scheme, challenge, redirects
//!             transport: one HTTP request
//! ```
//!
//! Async on tokio. Dropping a future cancels what it was doing.

mod auth;
mod blob;
mod challenge;
mod credentials;
mod download;
mod endpoint;
mod error;
mod exchange;
mod hosts;
pub mod judge;
mod login;
#[cfg(test)]
mod mutations;
mod proxy;
mod push;
mod refusal;
mod repository;
mod retry;
mod search;
mod tls;
mod transport;
mod uri;

pub use blob::Blob;
pub use credentials::{Credentials, InvalidHeader};
pub use download::Download;
pub use endpoint::Mirror;
pub use error::{Error, Failure, Refusal};
pub use login::domain_of;
pub use proxy::Proxies;
pub use push::{Progress, Source};
pub use repository::{Access, Fetched, Repository};
pub use search::Hit;

use exchange::Exchange;
use oci::Reference;
use retry::Policy;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use transport::Transport;

/// What registries are told about us.
pub(crate) const USER_AGENT: &str = concat!("wharf/", env!("CARGO_PKG_VERSION"));

/// How a [`Client`] behaves. The defaults are dockerd's where it has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Mirrors, tried in this order before their registry (`registry-mirrors`).
    pub mirrors: Vec<Mirror>,
    /// Hosts (`host`, `host:port`) and networks (`10.0.0.0/8`) that may speak plain HTTP or show any certificate
    /// (`insecure-registries`). Loopback always may.
    pub insecure: Vec<String>,
    /// Directories by host, with certificates (`DIRECTORY/HOST[:PORT]/{*.crt,*.cert,*.key}`) and `hosts.toml`.
    pub certs_dirs: Vec<PathBuf>,
    /// Proxies on the way to registries.
    pub proxies: Proxies,
    /// How often a request is tried in all (`max-download-attempts`).
    pub attempts: u32,
    /// The wait after a first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// How long to wait for an answer, or for the next piece of a body.
    pub stall: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            certs_dirs: vec![PathBuf::from("/etc/wharf/certs.d"), PathBuf::from("/etc/docker/certs.d")],
            proxies: Proxies::default(),
            attempts: 5,
            first_delay: Duration::from_millis(500),
            stall: Duration::from_secs(60),
        }
    }
}

/// A client for all registries: connections, tokens and what was learnt about hosts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) exchange: Exchange,
    /// Clients that trust one host more, by host.
    trusting: Mutex<HashMap<String, Client>>,
}

impl Client {
    /// Makes a client. Nothing is read or connected yet.
    pub fn new(settings: Settings) -> Self {
        let transport = Transport::new(&settings);
        Self {
            inner: Arc::new(Inner {
                settings,
                exchange: Exchange::new(transport),
                trusting: Mutex::default(),
            }),
        }
    }

    /// Returns a client that also takes any certificate, and plain HTTP, from the registry `domain` (`--tls-verify=false`).
    ///
    /// It shares nothing with this one: what was learnt without verification is not used with it. There is one for each
    /// host, so its connections and tokens serve again.
    #[must_use]
    pub fn trusting(&self, domain: &str) -> Self {
        // Any port of the host: its token server is often there as well.
        let host = endpoint::host(endpoint::authority(domain)).to_owned();
        let mut trusting = self.inner.trusting.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let mut settings = self.inner.settings.clone();
            settings.insecure.push(host.clone());
            Self::new(settings)
        };
        trusting.entry(host.clone()).or_insert_with(make).clone()
    }

    /// Returns the repository that `reference` names, as `credentials` see it.
    ///
    /// `reference` should have a tag or a digest; without either it means `latest`.
    pub fn repository(&self, reference: &Reference, credentials: &Credentials, access: Access) -> Repository {
        Repository::new(self.clone(), reference.clone().with_default_tag(), credentials.clone(), access)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy { attempts: self.inner.settings.attempts.max(1), first_delay: self.inner.settings.first_delay }
    }

    /// Waits before the next try after `error`, the `failed`-th failure in a row; gives the error back if there is none.
    pub(crate) async fn back_off(&self, failed: u32, error: Error) -> Result<(), Error> {
        use std::hash::{BuildHasher, Hasher};
        // A fresh RandomState is as random as jitter needs to be.
        let random = std::hash::RandomState::new().build_hasher().finish();
        let jitter = u8::try_from(random & 0xff).unwrap_or(0);
        match self.policy().delay(failed, error.retry_after(), jitter) {
            Some(delay) => {
                tracing::debug!(error = %base::chain(&error), ?delay, failed, "registry request will be repeated");
                tokio::time::sleep(delay).await;
                Ok(())
            }
            None => Err(error),
        }
    }
}
