//! The image service: pull, push, find, list, inspect, tag, remove, load, save, import, prune.
//!
//! It stands between the store, which knows no registries, and the registry client, which knows no store. What
//! containers use is told by the caller; the service knows no containers. Blocking functions are blocking; what waits
//! for a network is async, and its blocking parts run on blocking threads.

mod archive;
mod catalog;
mod change;
mod check;
mod flight;
mod flush;
mod glob;
mod layer;
mod manifest;
mod pipe;
mod progress;
mod pull;
mod push;
mod remote;
mod removal;
mod select;
mod single;
#[cfg(test)]
mod tests;
pub mod view;

pub use archive::{Commit, Import};
pub use change::apply_changes;
pub use check::{Lines, Repair};
pub use manifest::{Put, RemoteDocument, RemoteManifest};
pub use progress::{BlobState, Progress, Step};
pub use pull::Pull;
pub use push::Push;
pub(crate) use remote::credentials_for;
pub use removal::User;
pub use select::{LIST_FILTERS, PRUNE_FILTERS};
pub(crate) use single::Remote as RemoteImage;
pub use store::Image;

use crate::error::{Error, Result};
use crate::events::Events;
use base::{Classify, Kind};
use distribution::Client;
use flight::Flights;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use store::Store;
use tokio::sync::Semaphore;

/// How much the service does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Layers downloaded at the same time, over all pulls (`max-concurrent-downloads`).
    pub downloads: usize,
    /// Blobs uploaded at the same time, over all pushes (`max-concurrent-uploads`).
    pub uploads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { downloads: 3, uploads: 5 }
    }
}

/// The image service. Clones share it.
#[derive(Debug, Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    remote: RwLock<Remote>,
    events: Events,
    flights: Arc<Flights>,
    /// Held while names and images are taken away, so that two removals do not decide on the same facts.
    changes: Mutex<()>,
    /// Who else needs content: the build cache.
    keeper: OnceLock<Keeper>,
}

/// Tells what else must not be collected.
struct Keeper(Box<dyn Fn() -> store::Keep + Send + Sync>);

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

/// The way to registries; another one takes its place when the configuration is read again.
#[derive(Debug, Clone)]
struct Remote {
    client: Client,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Remote {
    fn new(client: Client, limits: Limits) -> Self {
        Self {
            client,
            downloads: Arc::new(Semaphore::new(limits.downloads.clamp(1, Semaphore::MAX_PERMITS))),
            uploads: Arc::new(Semaphore::new(limits.uploads.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }
}

impl Images {
    /// Makes the service.
    pub fn new(store: Store, client: Client, events: Events, limits: Limits) -> Self {
        let inner = Inner {
            changes: Mutex::default(),
            keeper: OnceLock::new(),
            store,
            remote: RwLock::new(Remote::new(client, limits)),
            events,
            flights: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Has `keeper` asked, before each collection, what else must stay. Only the first one counts.
    pub fn keep_also(&self, keeper: impl Fn() -> store::Keep + Send + Sync + 'static) {
        drop(self.inner.keeper.set(Keeper(Box::new(keeper))));
    }

    /// Begins to download from any URL.
    ///
    /// # Errors
    ///
    /// That it is none, or its host does not answer.
    pub(crate) async fn download(&self, url: &str) -> Result<distribution::Download, distribution::Error> {
        self.client().download(url).await
    }

    /// Tells that an image was built and named.
    pub(crate) fn built(&self, id: &oci::Digest, names: &[oci::Reference]) {
        for name in names {
            self.tell("tag", &id.to_string(), &name.familiar());
        }
    }

    fn kept_by_others(&self) -> store::Keep {
        self.inner.keeper.get().map(|keeper| (keeper.0)()).unwrap_or_default()
    }

    /// Uses another client and other limits from now on; what is under way goes on as it began.
    pub fn reconfigure(&self, client: Client, limits: Limits) {
        *self.inner.remote.write().unwrap_or_else(PoisonError::into_inner) = Remote::new(client, limits);
    }

    fn remote(&self) -> Remote {
        self.inner.remote.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes an event about what `actor`, an ID or a reference, names now; `name` is how it is called.
    fn tell(&self, action: &str, actor: &str, name: &str) {
        let labels = self.store().images().find(actor).map(|image| image.config.config.labels.clone());
        self.publish(action, actor, name, labels.unwrap_or_default());
    }

    /// Publishes an event about an image.
    fn tell_about(&self, image: &Image, action: &str, name: &str) {
        self.publish(action, &image.id().to_string(), name, image.config.config.labels.clone());
    }

    fn publish(&self, action: &str, actor: &str, name: &str, labels: BTreeMap<String, String>) {
        let mut attributes = labels;
        attributes.insert("name".to_owned(), name.to_owned());
        self.inner.events.now(base::event::Type::Image, action, actor, attributes);
    }

    /// Reads a manifest or index that is here.
    fn document(&self, descriptor: &oci::Descriptor) -> Result<oci::Document> {
        let bytes = self.store().blobs().read(&descriptor.digest, store::images::MAX_MANIFEST)?;
        oci::Document::parse(&descriptor.media_type, &bytes).map_err(|error| {
            let text = format!("manifest {}: {}", descriptor.digest, base::chain(&error));
            Error::known(Kind::Internal, text)
        })
    }

    fn events(&self) -> &Events {
        &self.inner.events
    }

    fn changes(&self) -> &Mutex<()> {
        &self.inner.changes
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn client(&self) -> Client {
        self.remote().client
    }

    /// Returns the client for a registry: one that verifies what is not configured otherwise, or one that does not.
    fn client_for(&self, domain: &str, verify: bool) -> Client {
        let client = self.client();
        if verify { client } else { client.trusting(domain) }
    }

    fn flights(&self) -> &Arc<Flights> {
        &self.inner.flights
    }

    fn downloads(&self) -> Arc<Semaphore> {
        self.remote().downloads
    }

    fn uploads(&self) -> Arc<Semaphore> {
        self.remote().uploads
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::known(Kind::Internal, error.to_string())),
    }
}

/// A registry's error; its text is complete, and worded as Docker's.
fn registry_error(error: &distribution::Error) -> Error {
    Error::known(error.kind(), error.to_string())
}
