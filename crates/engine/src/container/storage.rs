//! How much a container's writable layer may hold: `--storage-opt size=`, by a project quota.

use super::Containers;
use crate::error::{Error, Result};
use api::StringMap;
use base::size::{self, Multiple};
use base::{ContainerId, Kind};
use store::Snapshot;

/// Reads a container's storage options; `None` says nothing of the size (moby, *overlay2*, `parseStorageOpt`).
pub(super) fn layer_size(options: &StringMap) -> Result<Option<u64>> {
    let mut bytes = None;
    for (key, value) in options {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("unknown option {key}")));
        }
        bytes = u64::try_from(size::parse(value, Multiple::Binary).map_err(Error::invalid)?).ok();
    }
    Ok(bytes)
}

impl Containers {
    /// Bounds an empty writable layer; nothing wanted, or 0, is no bound.
    pub(super) fn bound_layer(&self, snapshot: &Snapshot, options: &StringMap) -> Result<()> {
        let wanted = layer_size(options)?;
        let enforced = || sys::quota::is_enforced(&snapshot.upper);
        if !options.is_empty() && !enforced() {
            return Err(Error::invalid(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            ));
        }
        let Some(bytes) = wanted.or(self.settings.layer_size).filter(|bytes| *bytes > 0) else {
            return Ok(());
        };
        sys::quota::limit(&[&snapshot.upper, &snapshot.work], bytes).map_err(|error| {
            Error::known(Kind::Internal, format!("limit the writable layer: {}", base::chain(&error)))
        })
    }

    /// Takes a container's folders out of sight, and forgets their bound.
    pub(super) fn remove_folders(&self, id: &ContainerId) -> std::result::Result<(), store::Error> {
        let snapshots = self.store.snapshots();
        let project = sys::quota::project(&snapshots.of(id).upper);
        snapshots.remove(id)?;
        crate::forget_quota(project, &self.settings.data.containers());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockerds() {
        let read = |key: &str, value: &str| {
            let options = StringMap::from([(key.to_owned(), value.to_owned())]);
            layer_size(&options).map_err(|error| error.to_string())
        };
        assert_eq!(read("size", "120m"), Ok(Some(120 << 20)));
        assert_eq!(read("SIZE", "0"), Ok(Some(0)));
        assert_eq!(read("size", "much"), Err("invalid size: 'much'".to_owned()));
        assert_eq!(read("dm.basesize", "1g"), Err("unknown option dm.basesize".to_owned()));
    }
}
