//! The removal of volumes.
//!
//! A folder is put aside, then the record is deleted, then the folder: wherever a crash comes between, the next start knows
//! which way to go on.

use super::{BUCKET, LOCAL, Plugin, State, Volume, Volumes, driver_attribute};
use crate::error::{Error, Result};
use base::Kind;
use base::event::Type;
use std::path::{Path, PathBuf};
use store::Durability;

/// How the folders of volumes begin that are being removed: no volume's name does.
const REMOVED: &str = ".removed-";

impl Volumes {
    /// Removes the volumes that were made for containers there are not: a crash came between the two.
    pub(crate) fn remove_orphans(&self, exists: impl Fn(&str) -> bool) {
        for volume in self.list() {
            let is_orphan = volume.made_for.as_deref().is_some_and(|container| !exists(container));
            if is_orphan
                && self.users(&volume.name).is_empty()
                && let Err(error) = self.remove(&volume.name, true)
            {
                tracing::warn!(volume = volume.name, error = %base::chain(&error), "removing a volume without its container");
            }
        }
    }

    /// Removes a volume and its contents.
    ///
    /// # Errors
    ///
    /// Fails if there is none (unless `force`) or a container refers to it.
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        let unused = |state: &State| match state.users.get(name) {
            Some(users) => {
                let users: Vec<&str> = users.iter().map(String::as_str).collect();
                Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))))
            }
            None => Ok(()),
        };
        let Ok(volume) = self.get(name) else {
            let Some((plugin, _told)) = super::view::with_plugins(name) else {
                return if force {
                    Ok(())
                } else {
                    Err(Error::not_found(format!("get {name}: no such volume")))
                };
            };
            let failed = |why| Error::known(Kind::Internal, format!("remove {name}: {why}"));
            plugin.remove(name).map_err(failed)?;
            self.events.now(Type::Volume, "destroy", name, driver_attribute(plugin.name()));
            return Ok(());
        };
        unused(&self.state())?;
        if volume.driver != LOCAL {
            self.detach(name)?;
            let removed = Plugin::find(&volume.driver).and_then(|plugin| plugin.remove(name));
            // By force also when the plugin is gone for good.
            if let Err(why) = removed.or_else(|why| if force { Ok(()) } else { Err(why) }) {
                return Err(Error::known(Kind::Internal, format!("remove {name}: {why}")));
            }
        }
        let mut state = self.state();
        unused(&state)?;
        // Nothing of what a mount shows may be deleted.
        self.detach(name)?;
        let project = sys::quota::project(&self.data(name));
        let removed = self.put_aside(name)?;
        self.database.delete(BUCKET, name, Durability::Durable).or_else(|_full| {
            // The contents, once they are gone, make room for the database's own.
            delete(&removed)?;
            self.database.delete(BUCKET, name, Durability::Durable).map_err(Error::from)
        })?;
        state.volumes.remove(name);
        drop(state);
        self.mounted().remove(name);
        delete(&removed)?;
        crate::forget_quota(project, &self.paths.volumes());
        self.events.now(Type::Volume, "destroy", name, driver_attribute(&volume.driver));
        Ok(())
    }

    /// Gives a volume's folder the name of one that is being removed. Returns its path.
    fn put_aside(&self, name: &str) -> Result<PathBuf> {
        let (folder, removed) = (self.folder(name), self.paths.volumes().join(format!("{REMOVED}{name}")));
        // Of an earlier volume of that name.
        delete(&removed)?;
        match std::fs::rename(&folder, &removed) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove the folder of a volume", &folder)(error))
            }
            _ => Ok(removed),
        }
    }

    /// Ends removals that a crash cut short: of volumes that have no record any more. Others get their folder back.
    ///
    /// A folder without a record that was not put aside is left alone unless it holds nothing: it may be all that is left of
    /// somebody's data.
    pub(super) fn end_removals(&self) {
        let entries = std::fs::read_dir(self.paths.volumes()).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let ended = match name.strip_prefix(REMOVED) {
                Some(name) if self.get(name).is_ok() && !self.folder(name).exists() => {
                    std::fs::rename(entry.path(), self.folder(name))
                        .map_err(Error::file("bring back the folder of a volume", &entry.path()))
                }
                Some(_) => {
                    tracing::info!(path = %entry.path().display(), "ending the removal of a volume");
                    delete(&entry.path())
                }
                None if self.get(name).is_err() => {
                    // Only what is empty goes.
                    drop(std::fs::remove_dir(self.data(name)));
                    drop(std::fs::remove_dir(entry.path()));
                    Ok(())
                }
                None => Ok(()),
            };
            if let Err(error) = ended {
                tracing::warn!(error = %base::chain(&error), "ending the removal of a volume");
            }
        }
    }

    /// Removes the volumes that no container refers to and that `wanted` names. Returns their names and the bytes freed.
    ///
    /// As in dockerd only those that are nothing but a folder here: what options or a plugin say where it is stays.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be removed.
    pub fn prune(&self, wanted: impl Fn(&Volume) -> bool) -> Result<(Vec<String>, u64)> {
        let (mut removed, mut freed) = (Vec::new(), 0);
        let plain = |volume: &Volume| volume.driver == LOCAL && volume.options.is_empty();
        for volume in self.list().iter().filter(|volume| plain(volume) && wanted(volume)) {
            if !self.users(&volume.name).is_empty() {
                continue;
            }
            let bytes = self.usage(&volume.name);
            match self.remove(&volume.name, false) {
                Ok(()) => {
                    removed.push(volume.name.clone());
                    freed += bytes;
                }
                // Taken or removed meanwhile.
                Err(error) if matches!(base::Classify::kind(&error), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((removed, freed))
    }
}

fn delete(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove the folder of a volume", folder)(error))
        }
        _ => Ok(()),
    }
}
