//! What must hold whatever a client of the builder sends, for the fuzz target.

use crate::git::GitSource;
use crate::source::{Listed, validate};
use crate::{AllowedDevices, tree};
use dockerfile::{Checks, Device, Mount};

/// Reads a request: the URL of a context in the first line, the value of a flag of `RUN` in the second, then a list of files.
///
/// # Panics
///
/// When a part of a repository that is taken leads out of it, or a list that is taken has an entry that is in no folder of it.
pub fn request(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (url, flag, list) = (line(), line(), line());
    let (url, flag) = (String::from_utf8_lossy(url), String::from_utf8_lossy(flag));
    if let Ok(Some(source)) = GitSource::parse(&url) {
        assert!(url.starts_with(&source.repository) && !source.repository.contains(['#', '?']), "{url:?}");
    }
    for name in tree::clip(&flag) {
        assert!(name != b".." && !name.is_empty(), "{flag:?}");
    }
    drop((Mount::parse(&flag), Checks::parse(&flag)));
    if let Ok(device) = Device::parse(&flag) {
        assert!(
            AllowedDevices::Named(vec![device.name.clone()]) != AllowedDevices::All
                && !device.name.is_empty()
        );
    }
    let Ok(list) = serde_json::from_slice::<Vec<Listed>>(list) else { return };
    if validate(&list).is_ok() {
        let mut folders = vec![""];
        for listed in &list {
            let parent = listed.path.rsplit_once('/').map_or("", |(parent, _)| parent);
            assert!(folders.contains(&parent), "{:?}", listed.path);
            assert!(!listed.path.split('/').any(|name| matches!(name, "" | "." | "..")), "{:?}", listed.path);
            if listed.mode & 0o170_000 == 0o040_000 {
                folders.push(&listed.path);
            }
        }
    }
}
