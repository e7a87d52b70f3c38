//! Is a document one that can be followed? Asked before anything is made; the answer names the place in the document.
//!
//! What the kernel alone can know (whether a mount is possible, a limit is taken) is found out later. What a document has
//! beyond the specification is ignored, as config.md, *Extensibility*, wants it.

use crate::process::{processors, scheduler};
use crate::{Error, child, options, sysctl};
use oci::runtime::{Hook, IdMapping, Linux, Mount, NamespaceKind, Process, Resources, Spec};
use std::collections::BTreeSet;
use std::path::Path;
use sys::capability::Set;

type Checked = Result<(), Error>;

fn wrong(path: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::Invalid { path: path.into(), problem: problem.into() }
}

fn require(holds: bool, path: impl FnOnce() -> String, problem: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(wrong(path(), problem)) }
}

/// Words an error of a part as one of the place `path`.
fn placed<T>(path: &str, outcome: Result<T, Error>) -> Checked {
    outcome.map(drop).map_err(|error| wrong(path, error.to_string()))
}

/// Checks a document whose bundle is `bundle`.
///
/// # Errors
///
/// [`Error::Invalid`].
pub(crate) fn check(spec: &Spec, bundle: &Path) -> Checked {
    version(&spec.oci_version)?;
    let root = spec.root.as_ref().ok_or_else(|| wrong("root", "is missing"))?;
    require(!root.path.is_empty(), || "root.path".into(), "is empty")?;
    let directory = bundle.join(&root.path);
    require(
        directory.is_dir(),
        || "root.path".into(),
        format!("{} is not a directory", directory.display()),
    )?;
    let process = spec.process.as_ref().ok_or_else(|| wrong("process", "is missing"))?;
    check_process(process)?;
    let linux = spec.linux.clone().unwrap_or_default();
    let has = |kind| linux.namespaces.iter().any(|one| one.kind == kind);
    for (name, path) in [(&spec.hostname, "hostname"), (&spec.domainname, "domainname")] {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { continue };
        require(name.len() <= 64, || path.into(), "is longer than 64 bytes")?;
        require(has(NamespaceKind::Uts), || path.into(), "cannot be set without a UTS namespace")?;
    }
    for (mount, index) in spec.mounts.iter().zip(0..) {
        check_mount(mount, index, &linux)?;
    }
    let hooks = spec.hooks.clone().unwrap_or_default();
    for (name, hooks) in [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ] {
        check_hooks(name, hooks)?;
    }
    check_linux(&linux)
}

/// Versions 1.0.0 to 1.3.x, with whatever follows a `-` or `+`.
fn version(text: &str) -> Checked {
    let plain = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<u32> = plain.split('.').map_while(|part| part.parse().ok()).collect();
    let whole = plain.split('.').count() == 3;
    match numbers.as_slice() {
        [1, 0..=3, _] if whole => Ok(()),
        _ => Err(wrong("ociVersion", format!("{text:?} is not a version from 1.0.0 to 1.3.x"))),
    }
}

/// Checks a process, also one of `exec`.
pub(crate) fn check_process(process: &Process) -> Checked {
    require(!process.args.is_empty(), || "process.args".into(), "is empty")?;
    require(
        process.cwd.starts_with('/'),
        || "process.cwd".into(),
        format!("{:?} is not absolute", process.cwd),
    )?;
    for (texts, name) in [(&process.args, "args"), (&process.env, "env")] {
        for (text, index) in texts.iter().zip(0..) {
            require(!text.contains('\0'), || format!("process.{name}[{index}]"), "contains a NUL byte")?;
        }
    }
    for (variable, index) in process.env.iter().zip(0..) {
        let named = variable.split_once('=').is_some_and(|(name, _)| !name.is_empty());
        require(named, || format!("process.env[{index}]"), format!("{variable:?} is not NAME=VALUE"))?;
    }
    let umask = process.user.umask.unwrap_or(0);
    require(umask <= 0o7777, || "process.user.umask".into(), format!("{umask} is too large"))?;
    let mut seen = BTreeSet::new();
    for (limit, index) in process.rlimits.iter().zip(0..) {
        let path = || format!("process.rlimits[{index}]");
        require(
            child::resource(&limit.kind).is_some(),
            || path() + ".type",
            format!("{:?} is unknown", limit.kind),
        )?;
        require(seen.insert(&limit.kind), || path() + ".type", format!("{} is there twice", limit.kind))?;
        require(limit.soft <= limit.hard, || path() + ".soft", "is above the hard limit")?;
    }
    if let Some(sets) = &process.capabilities {
        for (names, set) in [
            (&sets.bounding, "bounding"),
            (&sets.effective, "effective"),
            (&sets.inheritable, "inheritable"),
            (&sets.permitted, "permitted"),
            (&sets.ambient, "ambient"),
        ] {
            for (name, index) in names.iter().zip(0..) {
                // One that only a newer kernel has begins like the others.
                let known = name.starts_with("CAP_") || Set::parse(name).is_some();
                let path = || format!("process.capabilities.{set}[{index}]");
                require(known, path, format!("{name:?} is no capability"))?;
            }
        }
    }
    if let Some(score) = process.oom_score_adj {
        let fits = (-1000..=1000).contains(&score);
        require(fits, || "process.oomScoreAdj".into(), format!("{score} is not from -1000 to 1000"))?;
    }
    if let Some(wanted) = &process.scheduler {
        placed("process.scheduler", scheduler(wanted))?;
    }
    if let Some(affinity) = &process.exec_cpu_affinity {
        for (list, name) in [(&affinity.initial, "initial"), (&affinity.last, "final")] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                placed(&format!("process.execCPUAffinity.{name}"), processors(list))?;
            }
        }
    }
    Ok(())
}

fn check_mount(mount: &Mount, index: usize, linux: &Linux) -> Checked {
    let path = |field: &str| format!("mounts[{index}].{field}");
    let absolute = mount.destination.starts_with('/');
    require(absolute, || path("destination"), format!("{:?} is not absolute", mount.destination))?;
    let options = options::parse(&mount.options);
    let bind = options.bind.is_some() || mount.kind.as_deref() == Some("bind");
    if bind {
        let source = mount.source.as_deref().unwrap_or_default();
        require(!source.is_empty(), || path("source"), "is missing")?;
    } else {
        require(mount.kind.as_deref().is_some_and(|kind| !kind.is_empty()), || path("type"), "is missing")?;
    }
    let maps = [("uidMappings", &mount.uid_mappings), ("gidMappings", &mount.gid_mappings)];
    let given = maps.iter().filter(|(_, map)| !map.is_empty()).count();
    require(given != 1, || path("uidMappings"), "and gidMappings must be given together")?;
    for (name, map) in maps {
        check_map(&path(name), map)?;
    }
    let id_mapped = given > 0 || options.id_mapped.is_some();
    require(bind || !id_mapped, || path("options"), "only a bind can be id-mapped")?;
    let new_user = linux.namespaces.iter().any(|one| one.kind == NamespaceKind::User && one.path.is_none());
    let mapped = given > 0 || new_user;
    require(mapped || options.id_mapped.is_none(), || path("options"), "ask for mappings that are not there")
}

/// Ranges of ids must not be empty, nor meet on either side.
fn check_map(path: &str, map: &[IdMapping]) -> Checked {
    let meet = |one: u32, other: u32, sizes: (u32, u32)| {
        let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
        u64::from(one) < end(other, sizes.1) && u64::from(other) < end(one, sizes.0)
    };
    for (index, one) in map.iter().enumerate() {
        require(one.size > 0, || format!("{path}[{index}].size"), "is 0")?;
        for other in map.iter().take(index) {
            let sizes = (one.size, other.size);
            let inside = meet(one.container_id, other.container_id, sizes);
            require(!inside, || format!("{path}[{index}].containerID"), "is in another range already")?;
            let outside = meet(one.host_id, other.host_id, sizes);
            require(!outside, || format!("{path}[{index}].hostID"), "is in another range already")?;
        }
    }
    Ok(())
}

fn check_hooks(name: &str, hooks: &[Hook]) -> Checked {
    for (hook, index) in hooks.iter().zip(0..) {
        let path = |field: &str| format!("hooks.{name}[{index}].{field}");
        require(hook.path.starts_with('/'), || path("path"), format!("{:?} is not absolute", hook.path))?;
        require(
            hook.timeout.is_none_or(|seconds| seconds > 0),
            || path("timeout"),
            "is not greater than zero",
        )?;
    }
    Ok(())
}

fn check_linux(linux: &Linux) -> Checked {
    check_namespaces(linux)?;
    for (device, index) in linux.devices.iter().zip(0..) {
        let path = |field: &str| format!("linux.devices[{index}].{field}");
        require(device.path.starts_with('/'), || path("path"), format!("{:?} is not absolute", device.path))?;
        let known = matches!(device.kind.as_str(), "b" | "c" | "u" | "p");
        require(known, || path("type"), format!("{:?} is none of b, c, u, p", device.kind))?;
        for (number, field) in [(device.major, "major"), (device.minor, "minor")] {
            let fits = device.kind == "p" || u32::try_from(number).is_ok();
            require(fits, || path(field), format!("{number} is no device number"))?;
        }
    }
    for name in linux.sysctl.keys() {
        placed(&format!("linux.sysctl[{name:?}]"), sysctl::file(name, linux))?;
    }
    for (paths, name) in [(&linux.masked_paths, "maskedPaths"), (&linux.readonly_paths, "readonlyPaths")] {
        for (path, index) in paths.iter().zip(0..) {
            require(
                path.starts_with('/'),
                || format!("linux.{name}[{index}]"),
                format!("{path:?} is not absolute"),
            )?;
        }
    }
    let propagation = linux.rootfs_propagation.as_deref().unwrap_or_default();
    let plain = propagation.strip_prefix('r').unwrap_or(propagation);
    let known = matches!(plain, "" | "private" | "shared" | "slave" | "unbindable");
    require(known, || "linux.rootfsPropagation".into(), format!("{propagation:?} is unknown"))?;
    if let Some(personality) = &linux.personality {
        let known = matches!(personality.domain.as_str(), "LINUX" | "LINUX32");
        require(known, || "linux.personality.domain".into(), format!("{:?} is unknown", personality.domain))?;
        require(personality.flags.is_empty(), || "linux.personality.flags".into(), "are not defined")?;
    }
    if let Some(seccomp) = &linux.seccomp {
        placed("linux.seccomp", crate::seccomp::program(seccomp))?;
    }
    require(linux.intel_rdt.is_none(), || "linux.intelRdt".into(), "is not supported")?;
    check_net_devices(linux)?;
    linux.resources.as_ref().map_or(Ok(()), check_resources)
}

fn check_net_devices(linux: &Linux) -> Checked {
    let own = linux.namespaces.iter().any(|one| one.kind == NamespaceKind::Network);
    let none = linux.net_devices.is_empty();
    require(own || none, || "linux.netDevices".into(), "cannot be moved without a network namespace")?;
    let mut inside = BTreeSet::new();
    for (name, device) in &linux.net_devices {
        let path = || format!("linux.netDevices[{name:?}]");
        let new = device.name.as_deref().filter(|new| !new.is_empty()).unwrap_or(name);
        for name in [name.as_str(), new] {
            // dev_valid_name of the kernel.
            let wrong =
                |letter: char| letter == '/' || letter == ':' || letter == '\0' || letter.is_whitespace();
            let fits = (1..16).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(wrong);
            require(fits, path, format!("{name:?} is no name of a device"))?;
        }
        require(inside.insert(new), path, format!("another device is called {new:?} inside"))?;
    }
    Ok(())
}

fn check_namespaces(linux: &Linux) -> Checked {
    let mut seen = BTreeSet::new();
    for (namespace, index) in linux.namespaces.iter().zip(0..) {
        let path = |field: &str| format!("linux.namespaces[{index}].{field}");
        require(
            seen.insert(namespace.kind),
            || path("type"),
            format!("{:?} is there twice", namespace.kind),
        )?;
        let Some(place) = namespace.path.as_deref().filter(|place| !place.is_empty()) else { continue };
        require(place.starts_with('/'), || path("path"), format!("{place:?} is not absolute"))?;
        let opened =
            sys::namespace::open(Path::new(place)).map_err(|error| wrong(path("path"), error.to_string()))?;
        let kind = sys::namespace::kind_of(rustix::fd::AsFd::as_fd(&opened));
        let fits = kind.is_ok_and(|kind| kind == crate::prepare::kernel_kind(namespace.kind).flag());
        require(fits, || path("path"), format!("{place} is not a namespace of that type"))?;
    }
    let user = linux.namespaces.iter().find(|one| one.kind == NamespaceKind::User);
    for (name, map) in [("uidMappings", &linux.uid_mappings), ("gidMappings", &linux.gid_mappings)] {
        let path = format!("linux.{name}");
        check_map(&path, map)?;
        let (fits, problem) = match user {
            None => (map.is_empty(), "need a user namespace"),
            Some(one) if one.path.is_none() => (!map.is_empty(), "is needed by the user namespace"),
            Some(_) => (map.is_empty(), "cannot be given to a user namespace that is there"),
        };
        require(fits, || path, problem)?;
    }
    for clock in linux.time_offsets.keys() {
        let path = || format!("linux.timeOffsets[{clock:?}]");
        require(matches!(clock.as_str(), "monotonic" | "boottime"), path, "is no clock that can be set")?;
        let own = linux.namespaces.iter().any(|one| one.kind == NamespaceKind::Time && one.path.is_none());
        require(own, path, "needs a new time namespace")?;
    }
    Ok(())
}

fn check_resources(resources: &Resources) -> Checked {
    let path = |field: &str| format!("linux.resources.{field}");
    for (rule, index) in resources.devices.iter().zip(0..) {
        let field = |field: &str| path(&format!("devices[{index}].{field}"));
        let kind = rule.kind.as_deref().unwrap_or_default();
        require(
            matches!(kind, "" | "a" | "b" | "c"),
            || field("type"),
            format!("{kind:?} is none of a, b, c"),
        )?;
        let access = rule.access.as_deref().unwrap_or_default();
        require(
            access.chars().all(|one| "rwm".contains(one)),
            || field("access"),
            format!("{access:?} is not of rwm"),
        )?;
    }
    if let Some(memory) = &resources.memory {
        let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
        require(swap <= 0 || limit <= 0 || swap >= limit, || path("memory.swap"), "is below memory.limit")?;
        require(swap <= 0 || limit != -1, || path("memory.swap"), "is limited while memory.limit is not")?;
        let swappiness = memory.swappiness.unwrap_or(0);
        require(swappiness <= 100, || path("memory.swappiness"), format!("{swappiness} is above 100"))?;
    }
    if let Some(cpu) = &resources.cpu {
        for (list, field) in [(&cpu.cpus, "cpu.cpus"), (&cpu.mems, "cpu.mems")] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                placed(&path(field), processors(list))?;
            }
        }
        let idle = cpu.idle.unwrap_or(0);
        require((0..=1).contains(&idle), || path("cpu.idle"), format!("{idle} is neither 0 nor 1"))?;
        let quota = cpu.quota.is_some_and(|quota| quota != 0) || cpu.period.is_some_and(|period| period != 0);
        let twice = quota && resources.unified.contains_key("cpu.max");
        require(!twice, || path("unified[\"cpu.max\"]"), "contradicts cpu.quota and cpu.period")?;
    }
    if let Some(block_io) = &resources.block_io {
        let weight = block_io.weight.unwrap_or(0);
        let fits = weight == 0 || (10..=1000).contains(&weight);
        require(fits, || path("blockIO.weight"), format!("{weight} is not from 10 to 1000"))?;
    }
    for file in resources.unified.keys() {
        let plain = !file.contains('/') && !file.is_empty();
        require(plain, || path(&format!("unified[{file:?}]")), "is not the name of a file")?;
    }
    Ok(())
}

/// Finds the place in a text that is no document: the smallest part without which it would be one.
pub(crate) fn culprit(text: &[u8]) -> Option<String> {
    use serde_json::Value;
    let mut document: Value = serde_json::from_slice(text).ok()?;
    let fits = |document: &Value| serde_json::from_value::<Spec>(document.clone()).is_ok();
    let (mut pointer, mut path) = (String::new(), String::new());
    loop {
        let node = document.pointer(&pointer)?.clone();
        let children: Vec<(String, String)> = match &node {
            Value::Object(fields) => {
                let dot = if path.is_empty() { "" } else { "." };
                fields.keys().map(|key| (key.clone(), format!("{path}{dot}{key}"))).collect()
            }
            Value::Array(items) => {
                (0..items.len()).map(|index| (index.to_string(), format!("{path}[{index}]"))).collect()
            }
            _ => Vec::new(),
        };
        let mut found = None;
        for (key, child_path) in children {
            let mut without = node.clone();
            match &mut without {
                Value::Object(fields) => drop(fields.remove(&key)),
                Value::Array(items) => drop(items.remove(key.parse().ok()?)),
                _ => {}
            }
            *document.pointer_mut(&pointer)? = without;
            let good = fits(&document);
            *document.pointer_mut(&pointer)? = node.clone();
            if good {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                found = Some((format!("{pointer}/{escaped}"), child_path));
                break;
            }
        }
        match found {
            Some((next, child)) => (pointer, path) = (next, child),
            None => return (!path.is_empty()).then_some(path),
        }
    }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
