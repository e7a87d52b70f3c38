//! Containers: their life from creation to removal.
//!
//! One module per step of that life; [`Containers`] is the service that ties them to the table of containers. Decisions
//! (`intent`, `mounts`, `spec`, `state`, `ports`) are pure; effects are in `create`, `start`, `control`, `finish`, `remove`.

mod archive;
mod attach;
mod capabilities;
mod cdi;
mod changes;
mod checkpoint;
mod control;
mod create;
mod exec;
mod extract;
mod files;
mod finish;
mod gateway;
mod handle;
mod host;
mod idmap;
mod intent;
mod links;
mod logs;
mod mounts;
mod names;
mod namespaces;
mod networking;
mod order;
mod owners;
mod ports;
mod profile;
pub mod record;
mod recreate;
mod remove;
mod repair;
mod resolver;
mod rootfs;
mod security;
mod spec;
mod start;
pub mod state;
mod statistics;
mod step;
mod storage;
mod table;
mod top;
mod views;

pub use archive::{Extract, PathStat};
pub use attach::{AttachRequest, Attachment};
pub use checkpoint::CheckpointName;
pub use create::ImageChoice;
pub use exec::{Exec, ExecState};
pub use handle::{WaitCondition, Waited, Waiter};
pub use logs::LogStream;
pub use record::Container;
pub use remove::RemoveOptions;
pub(crate) use statistics::host_memory;
pub use statistics::{DeviceCounters, Sample};
pub(crate) use step::Surroundings;

use crate::error::{Error, Result};
use crate::events::Events;
use crate::hub::Hub;
use crate::images::User;
use crate::network::Networks;
use crate::settings::{Defaults, Settings};
use crate::volume::Volumes;
use base::event::{Event, Type};
use base::{ContainerId, Kind, Timestamp};
use handle::Handle;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use store::{Durability, Store};
use supervisor::Zygote;
use table::Table;

/// The containers of an engine.
#[derive(Debug)]
pub struct Containers {
    settings: Arc<Settings>,
    store: Store,
    networks: Arc<Networks>,
    volumes: Arc<Volumes>,
    events: Events,
    zygote: Zygote,
    hub: Hub,
    host: host::Host,
    table: Mutex<Table>,
    execs: Mutex<BTreeMap<String, Arc<Exec>>>,
    news: resolver::News,
    defaults: Mutex<Defaults>,
}

/// What the service is made of.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// Layers, snapshots and the database.
    pub store: Store,
    /// The networks.
    pub networks: Arc<Networks>,
    /// The volumes.
    pub volumes: Arc<Volumes>,
    /// The event bus.
    pub events: Events,
    /// Who spawns supervisors.
    pub zygote: Zygote,
    /// Who listens to supervisors.
    pub hub: Hub,
}

impl Containers {
    /// Reads the records of all containers. [`Containers::reconcile`] comes next.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read or holds a record that is not a container.
    pub fn open(parts: Parts) -> Result<Arc<Self>> {
        let Parts { settings, store, networks, volumes, events, zygote, hub } = parts;
        let mut table = Table::default();
        for (id, value) in store.database().scan(handle::BUCKET)? {
            let container: Container = serde_json::from_slice(&value).map_err(|source| {
                Error::known(Kind::Internal, format!("read the record of container {id}: {source}"))
            })?;
            table.reserve(&container.name, container.id)?;
            volumes.hold(&id, container.volumes());
            table.insert(Handle::new(container));
        }
        volumes.remove_orphans(|id| ContainerId::parse(id).ok().is_some_and(|id| table.by_id(&id).is_some()));
        changes::make_init_layer(&settings.data.init())?;
        let host = host::Host::detect(&settings)?;
        let defaults = Mutex::new(Defaults::of(&settings));
        Ok(Arc::new(Self {
            settings,
            store,
            networks,
            volumes,
            events,
            zygote,
            hub,
            host,
            table: Mutex::new(table),
            execs: Mutex::default(),
            news: resolver::News::default(),
            defaults,
        }))
    }

    /// Changes what containers get from now on that do not say.
    pub fn set_defaults(&self, defaults: Defaults) {
        *self.defaults.lock().unwrap_or_else(PoisonError::into_inner) = defaults;
    }

    fn defaults(&self) -> Defaults {
        self.defaults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the record of a container as it is now.
    ///
    /// # Errors
    ///
    /// `No such container: X`, or that a prefix fits several.
    pub fn get(&self, name: &str) -> Result<Arc<Container>> {
        Ok(self.find(name)?.get())
    }

    /// Returns all records, newest first.
    pub fn list(&self) -> Vec<Arc<Container>> {
        let all = self.table().all();
        all.iter().map(|handle| handle.get()).collect()
    }

    /// Registers a wait.
    ///
    /// # Errors
    ///
    /// `No such container: X`.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiter> {
        Ok(Waiter::new(&*self.find(name)?, condition))
    }

    /// Returns the IDs of containers made of an image, with their names and whether they run.
    pub fn users_of_image(&self, image: &oci::Digest) -> Vec<Arc<Container>> {
        let mut all = self.list();
        all.retain(|container| container.images().any(|used| used.id == *image));
        all
    }

    /// Returns which images containers use, each use apart: their layers stay.
    pub fn image_users(&self) -> Vec<User> {
        let users = |container: Arc<Container>| {
            let user = |image: &record::ImageUse| User {
                container: container.id,
                image: image.id.clone(),
                running: container.state.is_alive(),
                layers: image.layers.clone(),
            };
            container.images().map(user).collect::<Vec<_>>()
        };
        self.list().into_iter().flat_map(users).collect()
    }

    /// Renames a container.
    ///
    /// # Errors
    ///
    /// Fails if the name is taken, not allowed or the container's own.
    pub fn rename(self: &Arc<Self>, name: &str, new: &str) -> Result<()> {
        let handle = self.find(name)?;
        let new = new.strip_prefix('/').unwrap_or(new);
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        create::check_name(new)?;
        let _operation = handle.operate();
        let old = handle.get();
        if old.name == new {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.table().reserve(new, handle.id)?;
        let renamed = handle.update(self.store.database(), Durability::Durable, |container| {
            new.clone_into(&mut container.name);
            let renamed = container.clone();
            for endpoint in container.endpoints.values_mut().filter(|endpoint| !endpoint.dns_names.is_empty())
            {
                endpoint.dns_names = resolver::dns_names(&renamed, &endpoint.settings);
            }
            Ok(())
        });
        match renamed {
            Ok(container) => {
                self.table().release(&old.name, &handle.id);
                self.networks.rename(&handle.id.to_string(), new);
                self.hide_namespace(&old);
                self.show_namespace(&container);
                self.await_told(self.announce(self.named_networks(&container)));
                self.tell(&container, "rename", &[("oldName", &format!("/{}", old.name))]);
                Ok(())
            }
            Err(error) => {
                self.table().release(new, &handle.id);
                Err(error)
            }
        }
    }

    fn find(&self, name: &str) -> Result<Arc<Handle>> {
        self.table().find(name)
    }

    fn handle(&self, id: &ContainerId) -> Option<Arc<Handle>> {
        self.table().by_id(id)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes an event about a container, with Docker's attributes: its labels, `image`, `name`, and `further`.
    fn tell(&self, container: &Container, action: &str, further: &[(&str, &str)]) {
        self.tell_at(container, action, further, now());
    }

    fn tell_at(&self, container: &Container, action: &str, further: &[(&str, &str)], time: Timestamp) {
        let mut attributes = container.config.labels.clone().unwrap_or_default();
        attributes.insert("image".to_owned(), container.config.image.clone());
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.extend(further.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let event = Event {
            object: Type::Container,
            action: action.to_owned(),
            actor: container.id.to_string(),
            attributes,
            time,
        };
        self.events.publish(event);
    }
}

/// What the clock says.
fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}
