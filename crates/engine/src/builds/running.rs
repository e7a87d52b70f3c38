//! Builds that go on, by the names that their clients gave them: so that others can end them (`POST /build/cancel`).

use super::Builds;
use builder::Cancel;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Builds by name.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<BTreeMap<String, Cancel>>);

/// A build has its name until this is dropped.
#[derive(Debug)]
pub struct Named {
    builds: Builds,
    id: String,
}

impl Builds {
    /// Gives a build a name; a later one of the same name takes it over, as in dockerd.
    #[must_use]
    pub fn name(&self, id: &str, cancel: &Cancel) -> Named {
        let mut all = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id.to_owned(), cancel.clone());
        Named { builds: self.clone(), id: id.to_owned() }
    }

    /// Ends a build; one that does not go on is none to be ended.
    pub fn cancel(&self, id: &str) {
        let all = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cancel = all.get(id).cloned();
        drop(all);
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.builds.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
