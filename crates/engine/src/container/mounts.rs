//! What is mounted in a container: from `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's `VOLUME`s to one list.
//!
//! Pure but for the look at the host's paths, which the caller passes in. Nothing is created here: a mount point names what
//! is to be there, and the service creates volumes and missing folders.

use super::idmap;
use super::record::{MountKind, MountPoint};
use crate::error::{Error, Result};
use api::host_config::{BindOptions, Mount, TmpfsOptions, VolumeOptions};
use api::volume::CreateRequest;
use std::collections::BTreeMap;

/// All that was asked.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// `HostConfig.Binds`.
    pub(super) binds: &'a [String],
    /// `HostConfig.Mounts`.
    pub(super) mounts: &'a [Mount],
    /// `HostConfig.VolumeDriver`, of the volumes that `binds` and `volumes` name.
    pub(super) driver: &'a str,
    /// `HostConfig.Tmpfs`: path to options.
    pub(super) tmpfs: &'a BTreeMap<String, String>,
    /// `Config.Volumes`, the image's among them.
    pub(super) volumes: Vec<&'a str>,
    /// `HostConfig.VolumesFrom`, each with the mounts of the container it names and whether it wants them read-only.
    pub(super) from: Vec<(Vec<MountPoint>, Option<bool>)>,
}

/// A mount, and what is to be done before its first use.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    /// The mount itself. The name of a volume that was given none is empty.
    pub(super) point: MountPoint,
    /// The volume to create if there is none; without a name for an anonymous one.
    pub(super) volume: CreateRequest,
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
                Planned { point, volume: CreateRequest::default(), create_source: false, copy: false },
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
        let mut new = short(bind)?;
        asked.driver.clone_into(&mut new.volume.driver);
        add(&mut planned, new)?;
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
        planned.entry(path.clone()).or_insert_with(|| {
            let mut new = volume(String::new(), path);
            asked.driver.clone_into(&mut new.volume.driver);
            new
        });
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
        subpath: String::new(),
        image: None,
    };
    Planned { point, volume: CreateRequest::default(), create_source: false, copy: true }
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

/// How a bind may propagate.
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Parses `[SOURCE:]DESTINATION[:MODE]` (moby, *volume/mounts*, `ParseMountRaw`).
fn short(text: &str) -> Result<Planned> {
    let wrong = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match *parts.as_slice() {
        [destination] if !destination.is_empty() => ("", destination, ""),
        // A volume without a name cannot have a mode.
        [source, destination] if !source.is_empty() && !is_mode(destination) => (source, destination, ""),
        [source, destination, mode] if !source.is_empty() => (source, destination, mode),
        _ => return Err(wrong()),
    };
    let map = mode.split(',').find_map(idmap::parse).transpose().map_err(Error::invalid)?;
    if !is_mode(mode) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let has = |word: &str| mode.split(',').any(|part| part == word);
    let propagation = PROPAGATIONS.into_iter().find(|word| has(word));
    let is_bind = source.starts_with('/');
    let destination = match target(destination) {
        Ok(_) if is_bind && has("nocopy") => Err("field VolumeOptions must not be specified".to_owned()),
        Ok(_) if !is_bind && propagation.is_some() => {
            Err("field BindOptions must not be specified".to_owned())
        }
        checked => checked,
    };
    let destination = destination.map_err(|what| {
        let kind = if is_bind { "bind" } else { "volume" };
        Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {what}"
        ))
    })?;
    let mut planned = volume(String::new(), destination);
    if is_bind {
        planned.point.kind = MountKind::Bind;
        planned.point.source = clean_path(source);
        planned.point.anonymous = false;
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
    if map.is_some() {
        planned.point.options.extend(mode.split(',').filter(|word| is_map(word)).map(str::to_owned));
    }
    planned.point.writable = !has("ro");
    planned.copy = planned.copy && !has("nocopy");
    Ok(planned)
}

/// Says whether each word is known and at most one of each sort is given.
fn is_mode(mode: &str) -> bool {
    const SORTS: [&[&str]; 5] =
        [&["ro", "rw"], &["z", "Z"], &["nocopy"], &PROPAGATIONS, &["consistent", "cached", "delegated"]];
    let words = || mode.split(',').filter(|_| !mode.is_empty());
    let given = |sort: &[&str]| words().filter(|word| sort.contains(word)).count();
    let maps = words().filter(|word| is_map(word)).count();
    maps <= 1
        && SORTS.iter().all(|sort| given(sort) <= 1)
        && SORTS.iter().map(|sort| given(sort)).sum::<usize>() + maps == words().count()
}

fn is_map(word: &str) -> bool {
    idmap::parse(word).is_some()
}

/// Reads the long form (Engine API, *Mount*).
fn long(mount: &Mount) -> Result<Planned> {
    kind_of(mount)
        .map_err(|what| Error::invalid(format!("invalid mount config for type {:?}: {what}", mount.kind)))
}

/// The text is what is wrong.
fn kind_of(mount: &Mount) -> Result<Planned, String> {
    if mount.target.is_empty() {
        return Err(missing("Target"));
    }
    let destination = target(&mount.target)?;
    let extra = [
        ("BindOptions", mount.bind_options.is_some(), "bind"),
        ("VolumeOptions", mount.volume_options.is_some(), "volume"),
        ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
        ("ImageOptions", mount.image_options.is_some(), "image"),
    ];
    let known = extra.iter().any(|(_, _, kind)| *kind == mount.kind);
    if let Some((field, ..)) = extra.iter().find(|(_, given, kind)| known && *given && *kind != mount.kind) {
        return Err(format!("field {field} must not be specified"));
    }
    let mut planned = volume(String::new(), destination);
    planned.point.writable = !mount.read_only;
    if !mount.id_map.is_empty() {
        if !matches!(mount.kind.as_str(), "bind" | "volume") {
            return Err("field IDMap must not be specified".to_owned());
        }
        let option = format!("idmap={}", mount.id_map);
        idmap::parse(&option).transpose()?;
        planned.point.options.push(option);
    }
    match mount.kind.as_str() {
        "bind" => bind(&mut planned, mount, &mount.bind_options.clone().unwrap_or_default())?,
        "volume" => named(&mut planned, mount, mount.volume_options.clone().unwrap_or_default())?,
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err("field Source must not be specified".to_owned());
            }
            let options = memory(&mount.tmpfs_options.clone().unwrap_or_default())?;
            return Ok(tmpfs(planned.point.destination, options, !mount.read_only));
        }
        "image" => {
            if mount.source.is_empty() {
                return Err(missing("Source"));
            }
            planned.point.kind = MountKind::Image;
            planned.point.source.clone_from(&mount.source);
            planned.point.subpath = local(&mount.image_options.clone().unwrap_or_default().subpath)?;
            planned.point.writable = false;
            planned.point.anonymous = false;
            planned.copy = false;
        }
        _ => return Err("mount type unknown".to_owned()),
    }
    Ok(planned)
}

fn missing(field: &str) -> String {
    format!("field {field} must not be empty")
}

fn absolute(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("invalid mount path: '{path}' mount path must be absolute"));
    }
    Ok(clean_path(path))
}

/// A path that stays inside of what it is taken of.
fn local(path: &str) -> Result<String, String> {
    let depth = path.split('/').try_fold(0_i32, |depth, part| match part {
        "" | "." => Some(depth),
        ".." => Some(depth - 1).filter(|depth| *depth >= 0),
        _ => Some(depth + 1),
    });
    if path.starts_with('/') || depth.is_none() {
        return Err("subpath must be a relative path within the volume".to_owned());
    }
    Ok(clean_path(path).trim_start_matches('/').to_owned())
}

fn bind(planned: &mut Planned, mount: &Mount, options: &BindOptions) -> Result<(), String> {
    if mount.source.is_empty() {
        return Err(missing("Source"));
    }
    let point = &mut planned.point;
    point.kind = MountKind::Bind;
    point.source = absolute(&mount.source)?;
    point.anonymous = false;
    point.propagation = match options.propagation.as_str() {
        "" => "rprivate".to_owned(),
        mode if PROPAGATIONS.contains(&mode) => mode.to_owned(),
        mode => return Err(format!("invalid propagation mode: {mode}")),
    };
    if options.non_recursive {
        point.options.push("bind".to_owned());
    }
    if options.read_only_force_recursive {
        if !mount.read_only {
            return Err("mount source must be ReadOnly to use ReadOnlyForceRecursive".to_owned());
        }
        if options.non_recursive || options.read_only_non_recursive {
            return Err(
                "conflicting options: ReadOnlyForceRecursive and a mount that is not recursive".to_owned()
            );
        }
        if point.propagation != "rprivate" {
            return Err("mount propagation must be rprivate to use ReadOnlyForceRecursive".to_owned());
        }
    }
    if options.read_only_non_recursive {
        if !mount.read_only {
            return Err("mount source must be ReadOnly to use ReadOnlyNonRecursive".to_owned());
        }
        point.options.push("ro".to_owned());
    }
    planned.create_source = options.create_mountpoint;
    planned.copy = false;
    Ok(())
}

fn named(planned: &mut Planned, mount: &Mount, options: VolumeOptions) -> Result<(), String> {
    let point = &mut planned.point;
    point.anonymous = mount.source.is_empty();
    if point.anonymous && !options.subpath.is_empty() {
        return Err("must not set Subpath when using anonymous volumes".to_owned());
    }
    if point.anonymous && mount.read_only {
        return Err("must not set ReadOnly mode when using anonymous volumes".to_owned());
    }
    point.name.clone_from(&mount.source);
    point.subpath = local(&options.subpath)?;
    planned.copy = !options.no_copy;
    let driver = options.driver_config.unwrap_or_default();
    planned.volume = CreateRequest {
        labels: options.labels,
        driver: driver.name,
        driver_opts: driver.options,
        ..CreateRequest::default()
    };
    Ok(())
}

fn memory(asked: &TmpfsOptions) -> Result<Vec<String>, String> {
    let mut options = Vec::new();
    if asked.size_bytes < 0 {
        return Err(format!("invalid size: {}", asked.size_bytes));
    }
    if asked.size_bytes > 0 {
        options.push(format!("size={}", asked.size_bytes));
    }
    if asked.mode > 0 {
        options.push(format!("mode={:o}", asked.mode));
    }
    for option in &asked.options {
        match option.as_slice() {
            [flag] if matches!(flag.as_str(), "exec" | "noexec") => options.push(flag.clone()),
            other => return Err(format!("invalid option: {:?}", other.join("="))),
        }
    }
    Ok(options)
}

/// Returns an absolute path without `.`, `..`, double or trailing slashes; `/` itself is refused.
fn clean(path: &str) -> Result<String> {
    target(path).map_err(Error::invalid)
}

/// Where something may be mounted: an absolute path that is not the root.
fn target(path: &str) -> Result<String, String> {
    match absolute(path)?.as_str() {
        "/" => Err("invalid specification: destination can't be '/'".to_owned()),
        cleaned => Ok(cleaned.to_owned()),
    }
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
        check("/a:/b:ro,idmap=uids=1000-0-1", Ok((Bind, "/a", "/b", false)));
        check("/a:/b:idmap=x", Err("invalid idmap=x: \"x\" is neither uids=… nor gids=…"));
        check("/a:/b:bogus", Err("invalid mode: bogus"));
        check("a:b:c:d", Err("invalid volume specification: 'a:b:c:d'"));
        let wrong = "invalid volume specification: ";
        let refused = |text: &str, why: &str| check(text, Err(&format!("{wrong}'{text}'{why}")));
        for text in ["", ":/b", "/b:ro", "vol:", ":", "a:b:c:d"] {
            refused(text, "");
        }
        let (bind, volume) =
            (": invalid mount config for type \"bind\": ", ": invalid mount config for type \"volume\": ");
        refused("/a:/", &format!("{bind}invalid specification: destination can't be '/'"));
        refused("/a:b", &format!("{bind}invalid mount path: 'b' mount path must be absolute"));
        refused("vol:b", &format!("{volume}invalid mount path: 'b' mount path must be absolute"));
        refused("/a:/b:nocopy", &format!("{bind}field VolumeOptions must not be specified"));
        refused("vol:/b:rprivate", &format!("{volume}field BindOptions must not be specified"));
        for mode in ["ro,rw", "rshared,rslave", "z,Z", "nocopy,nocopy", "ro,", "cached,delegated"] {
            check(&format!("/a:/b:{mode}"), Err(&format!("invalid mode: {mode}")));
        }
    }

    #[test]
    fn later_sources_override_and_doubles_are_refused() {
        let from = short("old:/data").unwrap().point;
        let asked = Asked {
            binds: &["/host:/data".to_owned()],
            driver: "",
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

    #[test]
    fn long_forms() {
        let refusal = |document: serde_json::Value| {
            let mount: Mount = serde_json::from_value(document).unwrap();
            long(&mount).err().map(|error| error.to_string())
        };
        for (document, expect) in [
            (r#"{"Type":"x","Target":"/a"}"#, r#"invalid mount config for type "x": mount type unknown"#),
            (
                r#"{"Type":"bind","Target":"/a"}"#,
                r#"invalid mount config for type "bind": field Source must not be empty"#,
            ),
            (
                r#"{"Type":"bind","Source":"/a","Target":"/"}"#,
                r#"invalid mount config for type "bind": invalid specification: destination can't be '/'"#,
            ),
            (
                r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Propagation":"up"}}"#,
                r#"invalid mount config for type "bind": invalid propagation mode: up"#,
            ),
            (
                r#"{"Type":"volume","Target":"/b","BindOptions":{}}"#,
                r#"invalid mount config for type "volume": field BindOptions must not be specified"#,
            ),
            (
                r#"{"Type":"volume","Target":"/b","ReadOnly":true}"#,
                r#"invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes"#,
            ),
            (
                r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"Subpath":"a/../../b"}}"#,
                r#"invalid mount config for type "volume": subpath must be a relative path within the volume"#,
            ),
            (
                r#"{"Type":"tmpfs","Target":"/b","TmpfsOptions":{"Options":[["suid"]]}}"#,
                r#"invalid mount config for type "tmpfs": invalid option: "suid""#,
            ),
            (r#"{"Type":"image","Source":"a","Target":"/b","ImageOptions":{"Subpath":"a/./b"}}"#, ""),
        ] {
            let found = refusal(serde_json::from_str(document).unwrap());
            assert_eq!(found.as_deref().unwrap_or_default(), expect, "{document}");
        }
    }
}
