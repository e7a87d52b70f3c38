//! What is mounted in a container: from `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's `VOLUME`s to one list.
//!
//! Pure but for the look at the host's paths, which the caller passes in. Nothing is created here: a mount point names what
//! is to be there, and the service creates volumes and missing folders.

use super::record::{MountKind, MountPoint};
use crate::error::{Error, Result};
use api::host_config::Mount;
use std::collections::BTreeMap;

/// All that was asked.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// `HostConfig.Binds`.
    pub(super) binds: &'a [String],
    /// `HostConfig.Mounts`.
    pub(super) mounts: &'a [Mount],
    /// `HostConfig.Tmpfs`: path to options.
    pub(super) tmpfs: &'a BTreeMap<String, String>,
    /// `Config.Volumes`, the image's among them.
    pub(super) volumes: Vec<&'a str>,
    /// `HostConfig.VolumesFrom`, each with the mounts of the container it names and whether it wants them read-only.
    pub(super) from: Vec<(Vec<MountPoint>, Option<bool>)>,
}

/// A mount, and what is to be done before its first use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// The mount itself. The name of a volume that was given none is empty.
    pub(super) point: MountPoint,
    /// Labels of a volume that is to be created.
    pub(super) labels: BTreeMap<String, String>,
    /// Whether the host's folder is to be created if missing (`-v`, not `--mount`).
    pub(super) create_source: bool,
    /// Whether an empty volume gets the contents that the image has there.
    pub(super) copy: bool,
}

/// Returns the mounts in the order of their paths, so that outer ones come first.
///
/// # Errors
///
/// Fails with Docker's text for a specification that cannot be read, and for two mounts at one place.
pub(super) fn plan(asked: &Asked<'_>) -> Result<Vec<Planned>> {
    let mut planned: BTreeMap<String, Planned> = BTreeMap::new();
    for (points, read_only) in &asked.from {
        for point in points {
            let writable = point.writable && *read_only != Some(true);
            let point = MountPoint { writable, ..point.clone() };
            planned.insert(
                point.destination.clone(),
                Planned { point, labels: BTreeMap::new(), create_source: false, copy: false },
            );
        }
    }
    let mut own: Vec<String> = Vec::new();
    let mut add = |planned: &mut BTreeMap<String, Planned>, new: Planned| {
        let place = new.point.destination.clone();
        if own.contains(&place) {
            return Err(Error::invalid(format!("Duplicate mount point: {place}")));
        }
        own.push(place.clone());
        planned.insert(place, new);
        Ok(())
    };
    for bind in asked.binds {
        add(&mut planned, short(bind)?)?;
    }
    for mount in asked.mounts {
        add(&mut planned, long(mount)?)?;
    }
    for (path, options) in asked.tmpfs {
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        add(&mut planned, tmpfs(clean(path)?, options, true))?;
    }
    for path in &asked.volumes {
        let path = clean(path)?;
        if !planned.contains_key(&path) {
            planned.insert(path.clone(), volume(String::new(), path));
        }
    }
    Ok(planned.into_values().collect())
}

fn volume(name: String, destination: String) -> Planned {
    let anonymous = name.is_empty();
    let point = MountPoint {
        kind: MountKind::Volume,
        name,
        source: String::new(),
        destination,
        mode: String::new(),
        writable: true,
        propagation: String::new(),
        options: Vec::new(),
        anonymous,
    };
    Planned { point, labels: BTreeMap::new(), create_source: false, copy: true }
}

fn tmpfs(destination: String, options: Vec<String>, writable: bool) -> Planned {
    let mut planned = volume(String::new(), destination);
    planned.point.kind = MountKind::Tmpfs;
    planned.point.options = options;
    planned.point.writable = writable;
    planned.point.anonymous = false;
    planned.copy = false;
    planned
}

/// Parses `[SOURCE:]DESTINATION[:MODE]`.
fn short(text: &str) -> Result<Planned> {
    let wrong = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match *parts.as_slice() {
        [destination] => ("", destination, ""),
        [source, destination] if destination.starts_with('/') => (source, destination, ""),
        // `/path:ro` is an anonymous volume with a mode.
        [destination, mode] if destination.starts_with('/') && is_mode(mode) => ("", destination, mode),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(wrong()),
    };
    if destination.is_empty() || (source.is_empty() && parts.len() == 3) {
        return Err(wrong());
    }
    let destination = clean(destination).map_err(|error| match destination.starts_with('/') {
        true => error,
        false => Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"volume\": invalid mount path: \
             '{destination}' mount path must be absolute"
        )),
    })?;
    if !is_mode(mode) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let has = |word: &str| mode.split(',').any(|part| part == word);
    let mut planned = volume(String::new(), destination);
    if source.starts_with('/') {
        planned.point.kind = MountKind::Bind;
        planned.point.source = clean_path(source);
        planned.point.anonymous = false;
        let propagation = ["private", "rprivate", "shared", "rshared", "slave", "rslave"]
            .into_iter()
            .find(|word| has(word));
        propagation.unwrap_or("rprivate").clone_into(&mut planned.point.propagation);
        planned.create_source = true;
        planned.copy = false;
    } else if !source.is_empty() {
        if !base::id::is_restricted_name(source) {
            return Err(Error::invalid(format!(
                "create {source}: {source:?} includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        source.clone_into(&mut planned.point.name);
        planned.point.anonymous = false;
    }
    mode.clone_into(&mut planned.point.mode);
    planned.point.writable = !has("ro");
    planned.copy = planned.copy && !has("nocopy");
    Ok(planned)
}

fn is_mode(mode: &str) -> bool {
    const WORDS: [&str; 14] = [
        "ro",
        "rw",
        "z",
        "Z",
        "nocopy",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "consistent",
        "cached",
        "delegated",
    ];
    mode.is_empty() || mode.split(',').all(|word| WORDS.contains(&word))
}

/// Reads the long form (Engine API, *Mount*).
fn long(mount: &Mount) -> Result<Planned> {
    let wrong =
        |what: String| Error::invalid(format!("invalid mount config for type {:?}: {what}", mount.kind));
    if mount.target.is_empty() {
        return Err(wrong("field Target must not be empty".to_owned()));
    }
    if !mount.target.starts_with('/') {
        return Err(wrong(format!("invalid mount path: '{}' mount path must be absolute", mount.target)));
    }
    let destination = clean(&mount.target)?;
    let mut planned = match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(wrong("field Source must not be empty".to_owned()));
            }
            if !mount.source.starts_with('/') {
                return Err(wrong(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            let mut planned = volume(String::new(), destination);
            planned.point.kind = MountKind::Bind;
            planned.point.source = clean_path(&mount.source);
            planned.point.anonymous = false;
            let options = mount.bind_options.clone().unwrap_or_default();
            planned.point.propagation =
                if options.propagation.is_empty() { "rprivate".to_owned() } else { options.propagation };
            if options.non_recursive {
                planned.point.options.push("bind".to_owned());
            }
            planned.create_source = options.create_mountpoint;
            planned.copy = false;
            planned
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            let mut planned = volume(mount.source.clone(), destination);
            planned.labels = options.labels;
            planned.copy = !options.no_copy;
            if !options.subpath.is_empty() {
                planned.point.options.push(format!("subpath={}", options.subpath));
            }
            planned
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(wrong("field Source must not be specified".to_owned()));
            }
            let asked = mount.tmpfs_options.clone().unwrap_or_default();
            let mut options = Vec::new();
            if asked.size_bytes > 0 {
                options.push(format!("size={}", asked.size_bytes));
            }
            if asked.mode > 0 {
                options.push(format!("mode={:o}", asked.mode));
            }
            options.extend(asked.options.iter().map(|pair| pair.join("=")));
            tmpfs(destination, options, true)
        }
        _ => return Err(Error::invalid(format!("mount type unknown: {:?}", mount.kind))),
    };
    planned.point.writable = !mount.read_only;
    Ok(planned)
}

/// Returns an absolute path without `.`, `..`, double or trailing slashes; `/` itself is refused.
fn clean(path: &str) -> Result<String> {
    let cleaned = clean_path(path);
    if cleaned == "/" {
        return Err(Error::invalid("invalid specification: destination can't be '/'"));
    }
    if !path.starts_with('/') {
        return Err(Error::invalid(format!("invalid mount path: '{path}' mount path must be absolute")));
    }
    Ok(cleaned)
}

fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(MountKind, &str, &str, bool), &str>) {
        let found = short(text).map_err(|error| error.to_string());
        let found = found.as_ref().map_err(String::as_str).map(|planned| {
            let point = &planned.point;
            let from = if point.kind == MountKind::Bind { &point.source } else { &point.name };
            (point.kind, from.as_str(), point.destination.as_str(), point.writable)
        });
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn short_forms() {
        use MountKind::{Bind, Volume};
        check("/a:/b", Ok((Bind, "/a", "/b", true)));
        check("/a/../c:/b/:ro", Ok((Bind, "/c", "/b", false)));
        check("data:/b:z,ro", Ok((Volume, "data", "/b", false)));
        check("/b", Ok((Volume, "", "/b", true)));
        check("/a:/b:bogus", Err("invalid mode: bogus"));
        check("a:b:c:d", Err("invalid volume specification: 'a:b:c:d'"));
        check("/a:/", Err("invalid specification: destination can't be '/'"));
    }

    #[test]
    fn later_sources_override_and_doubles_are_refused() {
        let from = short("old:/data").unwrap().point;
        let asked = Asked {
            binds: &["/host:/data".to_owned()],
            mounts: &[],
            tmpfs: &BTreeMap::new(),
            volumes: vec!["/data", "/other"],
            from: vec![(vec![from], None)],
        };
        let planned = plan(&asked).unwrap();
        let kinds: Vec<_> =
            planned.iter().map(|planned| (planned.point.destination.as_str(), planned.point.kind)).collect();
        assert_eq!(kinds, [("/data", MountKind::Bind), ("/other", MountKind::Volume)]);
        let twice = Asked { binds: &["/a:/x".to_owned(), "/b:/x/".to_owned()], from: vec![], ..asked };
        assert_eq!(plan(&twice).unwrap_err().to_string(), "Duplicate mount point: /x");
    }
}
