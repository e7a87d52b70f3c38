//! Making a container anew from the request it was created by, of another image perhaps; what fails is undone.
//!
//! The new container is created beside the old one, which is then stopped and gives it name and anonymous volumes. What
//! is under way is recorded, so that a daemon that comes after a crash finishes it or puts the old container back.

use super::Containers;
use super::create::{ImageChoice, Making};
use super::handle::REQUESTS;
use super::record::{Container, MountKind, hex_id};
use super::remove::RemoveOptions;
use super::state::State;
use crate::error::{Error, Result};
use api::container::CreateRequest;
use base::{ContainerId, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Durability;

/// The database's bucket of what is under way, by the new container's identifier.
const BUCKET: &str = "recreations";
/// So many digits of an identifier make a name of its own.
const DIGITS: usize = 8;

/// A change from one container to another.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recreation {
    #[serde(with = "hex_id")]
    old: ContainerId,
    #[serde(with = "hex_id")]
    new: ContainerId,
    /// The name that goes over.
    name: String,
    was_running: bool,
}

impl Recreation {
    /// What the new container is called until the name is free.
    fn new_name(&self) -> String {
        format!("{}-{}", self.name, self.new.to_string().get(..DIGITS).unwrap_or_default())
    }

    /// What the old container is called once its name is given away.
    fn old_name(&self) -> String {
        format!("{}-{}", self.name, self.old.to_string().get(..DIGITS).unwrap_or_default())
    }
}

impl Containers {
    /// Makes a container anew: of the image that its reference names now, or of `image`; with its name, its anonymous
    /// volumes, the networks it is on, and the limits and restart policy that it has got since. Starts it if the old one ran,
    /// which gets `timeout` seconds to stop. Returns the new identifier and warnings.
    ///
    /// # Errors
    ///
    /// As for creating, stopping and starting. The old container is then as it was, except that it was stopped and started
    /// if the failure came late.
    pub fn recreate(
        self: &Arc<Self>,
        name: &str,
        image: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<(ContainerId, Vec<String>)> {
        let handle = self.find(name)?;
        let old = handle.get();
        let refused = |why: &str| Err(Error::conflict(format!("cannot recreate container: {name}: {why}")));
        match &old.state {
            State::Created(_) | State::Running(_) | State::Restarting(_) | State::Exited(_) => {}
            State::Paused(_) => return refused("it is paused, unpause it first"),
            State::Removing(_) | State::Dead(_) => return refused("it is marked for removal"),
        }
        if old.host.auto_remove {
            return refused("it is removed when it ends (--rm), there would be no way back");
        }
        let Some(mut request) = self.request(&handle.id)? else {
            return refused("the request it was created by is not known");
        };
        if let Some(image) = image {
            image.clone_into(&mut request.config.image);
        }
        let image = self.image_of(&request.config.image, &old.image.platform)?;
        follow(&mut request, &old);
        let volumes = old.mounts.iter().filter(|point| point.anonymous && point.kind == MountKind::Volume);
        let keep: BTreeMap<String, String> =
            volumes.map(|point| (point.destination.clone(), point.name.clone())).collect();
        let was_running = old.state.is_alive();
        let id = self.new_id();
        let recreation = Recreation { old: handle.id, new: id, name: old.name.clone(), was_running };
        let text = serde_json::to_vec(&recreation).map_err(|error| {
            Error::known(Kind::Internal, format!("record a change of containers: {error}"))
        })?;
        let database = self.store.database();
        // Before there is anything that would have to be found.
        database.put(BUCKET, &id.to_string(), &text, Durability::Durable)?;
        let making = Making { id, name: Some(&recreation.new_name()), keep: &keep };
        let outcome = self.make(making, request, &image).and_then(|warnings| {
            if let Err(error) = self.change_over(&recreation, timeout) {
                self.change_back(&recreation);
                return Err(error);
            }
            self.remove(&handle.id.to_string(), RemoveOptions { force: true, volumes: true })?;
            Ok(warnings)
        });
        database.delete(BUCKET, &id.to_string(), Durability::Relaxed)?;
        outcome.map(|warnings| (id, warnings))
    }

    /// Returns the request that a container was created by.
    fn request(&self, id: &ContainerId) -> Result<Option<CreateRequest>> {
        let Some(text) = self.store.database().get(REQUESTS, &id.to_string())? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            Error::known(Kind::Internal, format!("read the request that made container {id}: {error}"))
        })
    }

    fn image_of(&self, name: &str, platform: &str) -> Result<ImageChoice> {
        let images = self.store.images();
        let found = match oci::Platform::parse(platform) {
            Ok(platform) => images.find_for(name, &platform)?,
            Err(_none) => images.find(name)?,
        };
        Ok(ImageChoice { id: found.id().clone(), config: oci::ImageConfig::clone(&found.config) })
    }

    /// Puts the new container in the place of the old one.
    fn change_over(self: &Arc<Self>, recreation: &Recreation, timeout: Option<i64>) -> Result<()> {
        let (old, new) = (recreation.old.to_string(), recreation.new.to_string());
        if recreation.was_running {
            match self.stop(&old, None, timeout) {
                Err(error) if base::Classify::kind(&error) == Kind::NotModified => {}
                other => other?,
            }
        }
        self.rename(&old, &recreation.old_name())?;
        self.rename(&new, &recreation.name)?;
        if recreation.was_running { self.start(&new, None) } else { Ok(()) }
    }

    /// Undoes as much as was done.
    fn change_back(self: &Arc<Self>, recreation: &Recreation) {
        let failed = |what: &str| {
            let (what, container) = (what.to_owned(), recreation.old);
            move |error: Error| {
                tracing::error!(%container, error = %base::chain(&error), "undoing a recreation: {what}");
            }
        };
        let (old, new) = (recreation.old.to_string(), recreation.new.to_string());
        let gone = self.remove(&new, RemoveOptions { force: true, volumes: true });
        gone.unwrap_or_else(failed("removing the new container"));
        let Some(handle) = self.handle(&recreation.old) else { return };
        if handle.get().name != recreation.name {
            self.rename(&old, &recreation.name).unwrap_or_else(failed("renaming the old container"));
        }
        if recreation.was_running && !handle.get().state.is_alive() {
            self.start(&old, None).unwrap_or_else(failed("starting the old container"));
        }
    }

    /// Finishes or undoes what the death of a daemon has interrupted.
    pub(super) fn settle_recreations(self: &Arc<Self>) -> Result<()> {
        let database = self.store.database();
        for (key, text) in database.scan(BUCKET)? {
            let known = serde_json::from_slice::<Recreation>(&text).ok();
            let both = known.and_then(|known| {
                let handles = self.handle(&known.old).zip(self.handle(&known.new))?;
                Some((known, handles))
            });
            if let Some((recreation, (old, new))) = both {
                let new = new.get();
                let done = new.name == recreation.name && (new.state.is_alive() || !recreation.was_running);
                tracing::info!(container = %recreation.old, done, "a recreation was interrupted");
                if !done {
                    self.change_back(&recreation);
                } else if !matches!(old.get().state, State::Removing(_)) {
                    let outcome =
                        self.remove(&old.id.to_string(), RemoveOptions { force: true, volumes: true });
                    if let Err(error) = outcome {
                        tracing::error!(container = %old.id, error = %base::chain(&error), "ending a recreation");
                    }
                }
            }
            database.delete(BUCKET, &key, Durability::Relaxed)?;
        }
        Ok(())
    }
}

/// Takes over what has changed since the request was made: limits, restart policy, networks.
fn follow(request: &mut CreateRequest, now: &Container) {
    request.host_config.resources = now.host.resources.clone();
    request.host_config.restart_policy = now.host.restart_policy.clone();
    let endpoints: BTreeMap<String, api::network::EndpointSettings> =
        now.endpoints.iter().map(|(name, endpoint)| (name.clone(), endpoint.settings.clone())).collect();
    if !endpoints.is_empty() {
        request.networking_config.endpoints_config = Some(endpoints);
    }
}
