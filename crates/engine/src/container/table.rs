//! All containers by identifier and name.

use super::handle::Handle;
use crate::error::{Error, Result};
use base::ContainerId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All containers; names are unique.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_id: BTreeMap<ContainerId, Arc<Handle>>,
    names: BTreeMap<String, ContainerId>,
}

impl Table {
    /// Returns the container with that identifier, that name (with or without the leading slash), or that unique prefix.
    ///
    /// # Errors
    ///
    /// `No such container: X`, or that the prefix fits several.
    pub(super) fn find(&self, text: &str) -> Result<Arc<Handle>> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let exact = ContainerId::parse(text).ok().or_else(|| self.names.get(name).copied());
        let exact = exact.or_else(|| self.linked(name));
        if let Some(handle) = exact.and_then(|id| self.by_id.get(&id)) {
            return Ok(Arc::clone(handle));
        }
        if text.is_empty() || text.len() > 64 {
            return Err(Error::not_found(format!("No such container: {text}")));
        }
        let mut fits = self.by_id.values().filter(|handle| handle.id.to_string().starts_with(text));
        match (fits.next(), fits.next()) {
            (None, _) => Err(Error::not_found(format!("No such container: {text}"))),
            (Some(handle), None) => Ok(Arc::clone(handle)),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("multiple IDs found with provided prefix: {text}")))
            }
        }
    }

    /// What a link leads to by its name, `PARENT/ALIAS`.
    fn linked(&self, name: &str) -> Option<ContainerId> {
        let (parent, alias) = name.split_once('/')?;
        let parent = self.by_id.get(self.names.get(parent)?)?.get();
        parent.links.iter().find(|link| link.alias == alias).map(|link| link.child)
    }

    /// Returns all containers, newest first.
    pub(super) fn all(&self) -> Vec<Arc<Handle>> {
        let mut all: Vec<_> = self.by_id.values().cloned().collect();
        all.sort_by_key(|handle| std::cmp::Reverse(handle.get().created));
        all
    }

    pub(super) fn by_id(&self, id: &ContainerId) -> Option<Arc<Handle>> {
        self.by_id.get(id).cloned()
    }

    /// Takes a name for a container.
    ///
    /// # Errors
    ///
    /// Docker's conflict text if another container has it.
    pub(super) fn reserve(&mut self, name: &str, id: ContainerId) -> Result<()> {
        match self.names.get(name) {
            Some(holder) if *holder != id => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove \
                 (or rename) that container to be able to reuse that name."
            ))),
            _ => {
                self.names.insert(name.to_owned(), id);
                Ok(())
            }
        }
    }

    /// Gives a name back if that container has it.
    pub(super) fn release(&mut self, name: &str, id: &ContainerId) {
        if self.names.get(name) == Some(id) {
            self.names.remove(name);
        }
    }

    pub(super) fn insert(&mut self, handle: Arc<Handle>) {
        self.by_id.insert(handle.id, handle);
    }

    /// Takes a container and all its names out.
    pub(super) fn remove(&mut self, id: &ContainerId) {
        self.by_id.remove(id);
        self.names.retain(|_, holder| holder != id);
    }
}
