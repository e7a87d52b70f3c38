//! Volumes: named folders that outlive containers, of the driver `local` or of a plugin.
//!
//! A volume is a record in the database's `volumes` bucket and a folder `volumes/NAME/_data`. The record is committed
//! after the folder is made, so that a crash leaves at most an empty folder without a record, which the next start removes;
//! how a removal survives a crash is told in `removal`, and how a first use does in `fill`.

mod fill;
mod local;
mod plugin;
mod removal;
mod view;

use crate::error::{Error, Result};
use crate::events::{Events, random_id};
use api::StringMap;
use base::event::Type;
use base::paths::DataPaths;
use base::{Kind, Timestamp, VolumeName};
use local::Backing;
use plugin::Plugin;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use store::{Database, Durability};
pub use view::View;

const BUCKET: &str = "volumes";
/// The driver that is ours.
const LOCAL: &str = "local";
/// The label Docker puts on volumes that were given no name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name; 64 hexadecimal digits if it was given none.
    pub name: String,
    /// When it was created, in nanoseconds since the epoch.
    pub created: i64,
    /// The user's labels.
    pub labels: StringMap,
    /// Driver options.
    pub options: StringMap,
    /// The driver: `local`, or a plugin's name.
    #[serde(default = "local")]
    pub driver: String,
    /// `global` if the driver says that its volumes are the same on all hosts; else `local`.
    #[serde(default = "local")]
    pub scope: String,
    /// The container that an anonymous volume was made for and goes with, by ID: one that a crash left without it is removed.
    /// `None` once that container was removed and the volume was to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_for: Option<String>,
}

impl Volume {
    /// Says whether the volume was given no name.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }

    /// Returns what is mounted on its folder while it is used.
    fn backing(&self) -> Result<Option<Backing>, String> {
        match self.driver.as_str() {
            LOCAL => Backing::parse(&self.options),
            plugin => Ok(Some(Backing::Plugin { name: plugin.to_owned() })),
        }
    }
}

fn local() -> String {
    LOCAL.to_owned()
}

/// The volumes of an engine.
#[derive(Debug)]
pub struct Volumes {
    paths: DataPaths,
    database: Database,
    events: Events,
    state: Mutex<State>,
    /// Who uses the volumes that are mounted. Never held during a mount.
    mounted: Mutex<BTreeMap<String, Place>>,
    visits: AtomicU64,
}

/// A volume that is mounted, or was.
#[derive(Debug, Default)]
struct Place {
    /// Running containers by ID, visits by number.
    users: BTreeSet<String>,
    /// Held while it is mounted and unmounted, which may take its time: others go on meanwhile.
    gate: Arc<Mutex<()>>,
}

/// Volumes whose contents are at hand until this goes.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    volumes: &'a Volumes,
    user: String,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.volumes.unmount(&self.user);
    }
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<String, Arc<Volume>>,
    /// Which containers (by ID) refer to a volume, whether they run or not.
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Volumes {
    /// Reads the records.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read or holds a record that is not a volume.
    pub fn open(paths: DataPaths, database: Database, events: Events) -> Result<Self> {
        let mut volumes = BTreeMap::new();
        for (name, value) in database.scan(BUCKET)? {
            let volume: Volume = serde_json::from_slice(&value).map_err(|source| {
                Error::known(Kind::Internal, format!("read the record of volume {name}: {source}"))
            })?;
            volumes.insert(name, Arc::new(volume));
        }
        let state = Mutex::new(State { volumes, users: BTreeMap::new() });
        Ok(Self { paths, database, events, state, mounted: Mutex::default(), visits: AtomicU64::default() })
    }

    /// Says whether what is in a volume was put there through it alone: it is neither the host's nor a plugin's.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        let volume = self.get(name).ok();
        volume.and_then(|volume| volume.backing().ok()).is_some_and(|backing| match backing {
            None | Some(Backing::Sized { .. }) => true,
            Some(Backing::Mount { .. } | Backing::Plugin { .. }) => false,
        })
    }

    /// Returns all volumes by name.
    pub fn list(&self) -> Vec<Arc<Volume>> {
        self.state().volumes.values().cloned().collect()
    }

    /// Returns the volume called `name`.
    ///
    /// # Errors
    ///
    /// `get NAME: no such volume` if there is none.
    pub fn get(&self, name: &str) -> Result<Arc<Volume>> {
        let state = self.state();
        state
            .volumes
            .get(name)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    /// Returns the folder with the volume's contents.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder(name).join("_data")
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.paths.volumes().join(name)
    }

    /// Mounts what options say on the folders of volumes, for as long as `user` uses them.
    ///
    /// # Errors
    ///
    /// `error while mounting volume 'FOLDER'`, with the kernel's reason; none stays mounted for `user` then.
    pub(crate) fn mount<'a>(&self, user: &str, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for name in names {
            if let Err(error) = self.mount_one(user, name) {
                self.unmount(user);
                return Err(error);
            }
        }
        Ok(())
    }

    fn mount_one(&self, user: &str, name: &str) -> Result<()> {
        let volume = self.get(name)?;
        let data = self.data(name);
        let failed = |why: String| {
            Error::known(Kind::Internal, format!("error while mounting volume '{}': {why}", data.display()))
        };
        let Some(backing) = volume.backing().map_err(failed)? else { return Ok(()) };
        let gate = {
            let mut mounted = self.mounted();
            let place = mounted.entry(name.to_owned()).or_default();
            place.users.insert(user.to_owned());
            Arc::clone(&place.gate)
        };
        let _gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
        if is_mounted(&data) {
            return Ok(());
        }
        backing.mount(&self.folder(name), &data, name).map_err(failed)?;
        self.undo_filling(name)
    }

    /// Says whether no running container and no visit uses a volume.
    fn is_idle(&self, name: &str) -> bool {
        self.mounted().get(name).is_none_or(|place| place.users.is_empty())
    }

    /// Returns what is held while a volume is mounted, unmounted or filled.
    fn gate(&self, name: &str) -> Arc<Mutex<()>> {
        Arc::clone(&self.mounted().entry(name.to_owned()).or_default().gate)
    }

    /// Notes that a container that runs uses volumes that an earlier daemon mounted.
    pub(crate) fn adopt<'a>(&self, user: &str, names: impl IntoIterator<Item = &'a str>) {
        let mut mounted = self.mounted();
        for name in names {
            mounted.entry(name.to_owned()).or_default().users.insert(user.to_owned());
        }
    }

    /// Unmounts what nobody but `user` uses.
    pub(crate) fn unmount(&self, user: &str) {
        let mut left: Vec<(String, Arc<Mutex<()>>)> = Vec::new();
        for (name, place) in &mut *self.mounted() {
            if place.users.remove(user) && place.users.is_empty() {
                left.push((name.clone(), Arc::clone(&place.gate)));
            }
        }
        for (name, gate) in left {
            let _gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody may have come meanwhile.
            if self.is_idle(&name) {
                self.detach_loudly(&name);
            }
        }
    }

    /// Unmounts what an earlier daemon mounted and no container uses any more, and undoes what it left half done.
    pub(crate) fn sweep(&self) {
        self.end_removals();
        self.undo_fillings();
        for volume in self.list().iter().filter(|volume| !matches!(volume.backing(), Ok(None))) {
            if self.is_idle(&volume.name) {
                self.detach_loudly(&volume.name);
            }
        }
    }

    /// Has the contents of volumes at hand, mounted where options say so.
    ///
    /// # Errors
    ///
    /// As [`Volumes::mount`].
    pub(crate) fn visit<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Visit<'_>> {
        let user = format!("visit {}", self.visits.fetch_add(1, Ordering::Relaxed));
        self.mount(&user, names)?;
        Ok(Visit { volumes: self, user })
    }

    fn detach_loudly(&self, name: &str) {
        if let Err(error) = self.detach(name) {
            tracing::warn!(volume = name, error = %base::chain(&error), "unmounting a volume");
        }
    }

    fn detach(&self, name: &str) -> Result<()> {
        let data = self.data(name);
        if !is_mounted(&data) {
            return Ok(());
        }
        let failed = |why: String| Error::known(Kind::Internal, format!("unmount volume {name}: {why}"));
        sys::mount::detach(&data).map_err(|error| failed(base::chain(&error)))?;
        match self.get(name).ok().and_then(|volume| volume.backing().ok().flatten()) {
            Some(backing) => backing.unmounted(name).map_err(failed),
            None => Ok(()),
        }
    }

    fn mounted(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the IDs of the containers that refer to the volume.
    pub fn users(&self, name: &str) -> Vec<String> {
        self.state().users.get(name).into_iter().flatten().cloned().collect()
    }

    /// Creates a volume, or returns the one that has the name already. An empty name means a random one.
    ///
    /// Returns whether it was made by this call as well.
    ///
    /// # Errors
    ///
    /// Fails if the name has characters that are not allowed, the driver is not `local` or does not know the options, or
    /// the folder or the record cannot be made.
    pub fn create(&self, request: &api::volume::CreateRequest) -> Result<(Arc<Volume>, bool)> {
        self.create_for(request, None)
    }

    /// As [`Volumes::create`]; an anonymous one for a container, by ID.
    ///
    /// # Errors
    ///
    /// As [`Volumes::create`].
    pub(crate) fn create_for(
        &self,
        request: &api::volume::CreateRequest,
        container: Option<&str>,
    ) -> Result<(Arc<Volume>, bool)> {
        let made_for = container.filter(|_| request.name.is_empty()).map(str::to_owned);
        let known = self.state().volumes.contains_key(&request.name);
        let found = (request.driver.is_empty() && !request.name.is_empty() && !known)
            .then(|| view::with_plugins(&request.name))
            .flatten();
        let driver = match (request.driver.as_str(), &found) {
            ("", Some((plugin, _told))) => plugin.name(),
            ("" | "default", _) => LOCAL,
            (driver, _) => driver,
        };
        let mut labels = request.labels.clone();
        let name = if request.name.is_empty() {
            labels.insert(ANONYMOUS.to_owned(), String::new());
            random_id().to_string()
        } else {
            request.name.clone()
        };
        let plugin = match driver {
            LOCAL => None,
            driver => Some(Plugin::find(driver).map_err(|why| {
                Error::not_found(format!("create {name}: error looking up volume plugin {driver}: {why}"))
            })?),
        };
        if VolumeName::parse(&name).is_none() {
            return Err(Error::invalid(format!(
                "create {name}: {name:?} includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        let there = |volume: &Arc<Volume>| {
            if request.driver.is_empty() || volume.driver == driver {
                return Ok((Arc::clone(volume), false));
            }
            Err(Error::conflict(format!(
                "create {name}: a volume named {name} already exists with the {} driver. Choose a different volume name.",
                volume.driver
            )))
        };
        if let Some(volume) = self.state().volumes.get(&name) {
            return there(volume);
        }
        let refused = |why: String| Error::invalid(format!("create {name}: {why}"));
        // What another program does takes its time, and comes to the same if it is asked twice.
        let mut scope = local();
        if let Some(plugin) = &plugin {
            if found.is_none() {
                plugin
                    .create(&name, &request.driver_opts)
                    .map_err(|why| Error::known(Kind::Internal, format!("create {name}: {why}")))?;
            }
            scope = plugin.scope();
        }
        let mut state = self.state();
        if let Some(volume) = state.volumes.get(&name) {
            return there(volume);
        }
        let volume = Volume {
            name: name.clone(),
            created: Timestamp::from_system(SystemTime::now()).as_nanos(),
            labels,
            options: request.driver_opts.clone(),
            driver: driver.to_owned(),
            scope,
            made_for,
        };
        let backing = volume.backing().map_err(refused)?;
        let data = self.data(&name);
        std::fs::create_dir_all(&data).map_err(Error::file("create the folder of a volume", &data))?;
        if let Some(backing) = backing {
            backing.prepare(&self.folder(&name), &data).map_err(refused)?;
        }
        self.database.put(BUCKET, &name, &encode(&volume)?, Durability::Durable)?;
        let volume = Arc::new(volume);
        state.volumes.insert(name.clone(), Arc::clone(&volume));
        drop(state);
        self.events.now(Type::Volume, "create", &name, driver_attribute(driver));
        Ok((volume, true))
    }

    /// Notes that a container refers to volumes. The container's record is what is stored.
    pub(crate) fn hold<'a>(&self, container: &str, names: impl IntoIterator<Item = &'a str>) {
        let mut state = self.state();
        for name in names {
            state.users.entry(name.to_owned()).or_default().insert(container.to_owned());
        }
    }

    /// Keeps volumes for good that were made for a container.
    ///
    /// # Errors
    ///
    /// The database's.
    pub(crate) fn disown<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut state = self.state();
        for name in names {
            let Some(volume) = state.volumes.get_mut(name).filter(|volume| volume.made_for.is_some()) else {
                continue;
            };
            let kept = Volume { made_for: None, ..Volume::clone(volume) };
            self.database.put(BUCKET, name, &encode(&kept)?, Durability::Relaxed)?;
            *volume = Arc::new(kept);
        }
        Ok(())
    }

    /// Notes that a container is gone.
    pub(crate) fn release(&self, container: &str) {
        let mut state = self.state();
        state.users.retain(|_, users| {
            users.remove(container);
            !users.is_empty()
        });
    }

    /// Returns the bytes of a volume's contents.
    pub fn usage(&self, name: &str) -> u64 {
        store::snapshots::usage(&self.data(name)).unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says whether something is mounted on a folder (statx(2), *`STATX_ATTR_MOUNT_ROOT`*).
fn is_mounted(folder: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    rustix::fs::statx(CWD, folder, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn driver_attribute(driver: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("driver".to_owned(), driver.to_owned())])
}

fn encode(volume: &Volume) -> Result<Vec<u8>> {
    serde_json::to_vec(volume).map_err(|source| {
        Error::known(Kind::Internal, format!("write the record of volume {}: {source}", volume.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_containers_that_never_came_to_be_go() {
        let folder = std::env::temp_dir().join(format!("wharf-volumes-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let open = || {
            let database = Database::open(&folder.join("database")).unwrap();
            Volumes::open(DataPaths::new(&folder), database, Events::default()).unwrap()
        };
        let volumes = open();
        let anonymous = api::volume::CreateRequest::default();
        let make = |container| volumes.create_for(&anonymous, container).unwrap().0.name.clone();
        let (lost, kept, own, plain) =
            (make(Some("gone")), make(Some("gone")), make(Some("here")), make(None));
        volumes.disown([kept.as_str()]).unwrap();
        drop(volumes);
        let volumes = open();
        volumes.remove_orphans(|container| container == "here");
        let mut names: Vec<String> = volumes.list().iter().map(|volume| volume.name.clone()).collect();
        names.sort();
        let mut expected = [kept, own, plain];
        expected.sort();
        assert_eq!(names, expected);
        assert!(!volumes.data(&lost).exists());
        drop(volumes);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
