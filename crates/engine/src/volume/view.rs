//! Volumes as they are shown: what is recorded, and what their plugins tell of them.
//!
//! A plugin's volumes are its own: it may have some that were never made here, and lose some that were.

use super::plugin::Told;
use super::{LOCAL, Plugin, Volume, Volumes};
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// A volume with what its driver tells of it.
#[derive(Debug, Clone)]
pub struct View {
    /// Its record; made up for one that was never used here.
    pub volume: Arc<Volume>,
    /// Where it is: its folder, or where its plugin says; empty if that is nowhere now.
    pub mountpoint: PathBuf,
    /// When its plugin says that it was created (RFC 3339), if it does.
    pub created_at: Option<String>,
    /// What its plugin says of it besides.
    pub status: BTreeMap<String, Value>,
}

impl Volumes {
    /// Returns how a volume is shown. A plugin that cannot be asked is left out of it.
    pub fn view(&self, volume: &Arc<Volume>) -> View {
        if volume.driver == LOCAL {
            return self.plain(volume);
        }
        let Ok(plugin) = Plugin::find(&volume.driver) else { return self.plain(volume) };
        let told = plugin.get(&volume.name);
        // Many tell the place only when they are asked for it.
        let told = told.map(|told| match told.mountpoint.as_str() {
            "" => Told { mountpoint: plugin.path(&volume.name).unwrap_or_default(), ..told },
            _ => told,
        });
        told.map_or_else(|| self.plain(volume), |told| told_of(volume, told))
    }

    fn plain(&self, volume: &Arc<Volume>) -> View {
        let mountpoint = self.data(&volume.name);
        View { volume: Arc::clone(volume), mountpoint, created_at: None, status: BTreeMap::new() }
    }

    /// Returns how the volume called `name` is shown.
    ///
    /// # Errors
    ///
    /// `get NAME: no such volume` if neither we nor its plugin have one; why its plugin cannot be asked.
    pub fn inspect(&self, name: &str) -> Result<View> {
        let absent = || Error::not_found(format!("get {name}: no such volume"));
        let Ok(volume) = self.get(name) else {
            let (plugin, told) = with_plugins(name).ok_or_else(absent)?;
            return Ok(told_of(&foreign(&plugin, &told), told));
        };
        if volume.driver != LOCAL {
            let plugin = Plugin::find(&volume.driver);
            let plugin = plugin.map_err(|why| Error::not_found(format!("get {name}: {why}")))?;
            plugin.get(name).ok_or_else(absent)?;
        }
        Ok(self.view(&volume))
    }

    /// Returns all volumes, those that only plugins know among them, by name; and what could not be found out.
    pub fn views(&self) -> (Vec<View>, Vec<String>) {
        let (mut views, mut warnings) = (BTreeMap::new(), BTreeMap::new());
        let records = self.list();
        let mut answered = BTreeSet::from([LOCAL.to_owned()]);
        for plugin in Plugin::all() {
            let all = match plugin.list() {
                Ok(all) => all,
                Err(why) => {
                    warnings.insert(plugin.name().to_owned(), why);
                    continue;
                }
            };
            answered.insert(plugin.name().to_owned());
            for told in all {
                let own = records.iter().find(|own| own.name == told.name && own.driver == plugin.name());
                let volume = own.map_or_else(|| foreign(&plugin, &told), Arc::clone);
                views.insert(told.name.clone(), told_of(&volume, told));
            }
        }
        for volume in &records {
            let silent = !answered.contains(&volume.driver);
            if silent {
                let gone = || format!("plugin {:?} not found", volume.driver);
                warnings.entry(volume.driver.clone()).or_insert_with(gone);
            }
            if silent || volume.driver == LOCAL {
                views.insert(volume.name.clone(), self.plain(volume));
            }
        }
        (views.into_values().collect(), warnings.into_values().collect())
    }
}

/// Finds the plugin that has a volume called `name`.
pub(super) fn with_plugins(name: &str) -> Option<(Plugin, Told)> {
    Plugin::all().into_iter().find_map(|plugin| plugin.get(name).map(|told| (plugin, told)))
}

/// Makes up the record of a volume that was never used here.
fn foreign(plugin: &Plugin, told: &Told) -> Arc<Volume> {
    Arc::new(Volume {
        name: told.name.clone(),
        created: 0,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        driver: plugin.name().to_owned(),
        scope: plugin.scope(),
        made_for: None,
    })
}

fn told_of(volume: &Arc<Volume>, told: Told) -> View {
    View {
        volume: Arc::clone(volume),
        mountpoint: told.mountpoint.into(),
        created_at: Some(told.created_at).filter(|time| !time.is_empty()),
        status: told.status.unwrap_or_default(),
    }
}
