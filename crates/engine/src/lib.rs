//! The engine: containers, images, networks, volumes, events, and what keeps them in order after a restart.
//!
//! Each service owns its state and its lock; what spans several takes them as parts. Methods block, but those that pull
//! or wait; the daemon calls them on threads that may. Nothing here knows HTTP: [`Error`] says its kind, and the daemon
//! turns that into a status.
//!
//! [`assemble`] is the one place that sees all services.

pub mod builds;
pub mod container;
mod copy;
mod error;
pub mod events;
mod http;
mod hub;
pub mod images;
pub mod network;
pub mod requirements;
mod settings;
pub mod system;
pub mod volume;

pub use builds::Builds;
pub use container::Containers;
pub use error::{Error, Result};
pub use events::Events;
pub use images::Images;
pub use network::Networks;
pub use settings::{
    BUILT_IN_RUNTIMES, BridgeSettings, ClusterSettings, Defaults, LogSettings, OciRuntime, Settings,
};
pub use volume::Volumes;

pub use cgroups::systemd::is_slice;

use std::sync::Arc;
use store::Store;

/// The services of one engine.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Containers and their execs.
    pub containers: Arc<Containers>,
    /// Images.
    pub images: Images,
    /// Builds and their cache.
    pub builds: Builds,
    /// Networks.
    pub networks: Arc<Networks>,
    /// Volumes.
    pub volumes: Arc<Volumes>,
    /// The event bus.
    pub events: Events,
    /// The configuration it was made with.
    pub settings: Arc<Settings>,
    /// Blobs, layers and the database.
    pub store: Store,
    /// Identifies this engine: made when the data root was, and stored there.
    pub id: String,
}

/// Opens the store, makes the services, spawns the zygote, and takes over the containers that run.
///
/// # Errors
///
/// Fails if the data cannot be read, the zygote cannot be spawned, or the host's network cannot be set up.
pub fn assemble(settings: Settings) -> Result<Engine> {
    let settings = Arc::new(settings);
    if settings.systemd_cgroups {
        // Told now rather than by the first container.
        cgroups::systemd::check()?;
    }
    let zygote = supervisor::Zygote::spawn(&settings.executable)?;
    let store = Store::open_with(&settings.data, settings.layer_limits.clone())?;
    store.set_archives(settings.layer_archives)?;
    let containers = settings.data.containers();
    if settings.layer_size.is_some() && !sys::quota::is_enforced(&containers) {
        return Err(Error::invalid(format!(
            "storage option overlay2.size not supported: the file system of {} does not enforce project quotas",
            containers.display()
        )));
    }
    let events = Events::default();
    let database = store.database().clone();
    let id = identity(&database)?;
    let networks = Arc::new(Networks::open(Arc::clone(&settings), database.clone(), events.clone(), &id)?);
    let volumes = Arc::new(Volumes::open(settings.data.clone(), database, events.clone())?);
    let containers = Containers::open(container::Parts {
        settings: Arc::clone(&settings),
        store: store.clone(),
        networks: Arc::clone(&networks),
        volumes: Arc::clone(&volumes),
        events: events.clone(),
        zygote,
        hub: hub::Hub::new()?,
    })?;
    let images = images(&settings, &store, &events);
    containers.reconcile()?;
    let builds = Builds::open(&containers, images.clone(), &store, settings.build_cache.clone())?;
    Ok(Engine { containers, images, builds, networks, volumes, events, settings, store, id })
}

/// Returns the way to registries that the configuration describes.
fn remote(settings: &Settings) -> (distribution::Client, images::Limits) {
    let client = distribution::Client::new(distribution::Settings {
        mirrors: settings.registry_mirrors.clone(),
        insecure: settings.insecure_registries.clone(),
        attempts: settings.max_download_attempts,
        proxies: settings.proxies.clone(),
        ..distribution::Settings::default()
    });
    let limits = images::Limits {
        downloads: settings.max_concurrent_downloads,
        uploads: settings.max_concurrent_uploads,
    };
    (client, limits)
}

fn images(settings: &Settings, store: &Store, events: &Events) -> Images {
    let (client, limits) = remote(settings);
    Images::new(store.clone(), client, events.clone(), limits)
}

impl Engine {
    /// Treats layers' archives as `settings` say from now on.
    ///
    /// # Errors
    ///
    /// That a thread cannot be started.
    pub fn reload_archives(&self, settings: &Settings) -> Result<()> {
        Ok(self.store.set_archives(settings.layer_archives)?)
    }

    /// Reaches registries as `settings` say from now on.
    pub fn reload_registries(&self, settings: &Settings) {
        let (client, limits) = remote(settings);
        self.images.reconfigure(client, limits);
    }
}

/// Returns the engine's identifier, made at the first start.
fn identity(database: &store::Database) -> Result<String> {
    if let Some(value) = database.get("engine", "id")? {
        return Ok(String::from_utf8_lossy(&value).into_owned());
    }
    let digits = events::random_id().to_string();
    // The form of a UUID, as dockerd's.
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let id = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-");
    database.put("engine", "id", id.as_bytes(), store::Durability::Durable)?;
    Ok(id)
}

/// Gives back the quota of a folder that is gone, if it had one; `near` is on the same file system.
fn forget_quota(project: Option<sys::quota::Project>, near: &std::path::Path) {
    if let Some(project) = project
        && let Err(error) = project.forget(near)
    {
        tracing::warn!(near = %near.display(), error = %base::chain(&error), "forgetting a quota");
    }
}
