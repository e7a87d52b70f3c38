//! Devices by name (`--device VENDOR/CLASS=NAME`): finding in the folders of the Container Device Interface what they need.
//!
//! The specification's rules (CNCF CDI, SPEC.md): of files in several folders those of the last folder win; a name that two
//! files of one folder have names nothing. Files that are wrong count as not there, and that is said in the log.

use super::spec::host_devices;
use crate::error::{Error, Result};
use builder::FoundDevice;
use oci::cdi::{Document, Edits, Invalid, split_name};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The class that a device may be asked for by (`BuildKit`).
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// That any build may have a device (`BuildKit`).
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// What a name stands for.
#[derive(Debug, Clone)]
struct Found {
    /// What every device of its file needs, and the file, whose changes are made once.
    common: (PathBuf, Edits),
    own: Edits,
    /// The folder's place; a higher one wins.
    priority: usize,
    /// Whether another file of the same folder has the name.
    ambiguous: bool,
    /// Free-form facts of its file and its own.
    facts: BTreeMap<String, String>,
}

/// Returns the changes that the devices `names` need, in order.
///
/// # Errors
///
/// Docker's text with the names that stand for nothing, or the device file that is not there.
pub(super) fn edits(folders: &[PathBuf], names: &[String]) -> Result<Vec<Edits>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let known = scan(folders);
    let found = |name: &String| known.get(name).filter(|found| !found.ambiguous);
    let missing: Vec<&str> = names.iter().filter(|name| found(name).is_none()).map(String::as_str).collect();
    if !missing.is_empty() {
        let text = format!("CDI device injection failed: unresolvable CDI devices {}", missing.join(", "));
        return Err(Error::invalid(text));
    }
    let mut files: Vec<&Path> = Vec::new();
    let mut edits = Vec::new();
    for found in names.iter().filter_map(found) {
        let (file, common) = &found.common;
        if !files.contains(&file.as_path()) {
            files.push(file);
            edits.push(completed(common)?);
        }
        edits.push(completed(&found.own)?);
    }
    Ok(edits)
}

/// Returns the names of all devices.
pub(super) fn names(folders: &[PathBuf]) -> Vec<String> {
    scan(folders).into_iter().filter(|(_, found)| !found.ambiguous).map(|(name, _)| name).collect()
}

/// Returns the devices that a build means by a name (`BuildKit`'s rules): one by its full name, the first of a kind, all
/// of a kind (`KIND=*`), or those of a class.
pub(super) fn meant(folders: &[PathBuf], name: &str) -> Vec<FoundDevice> {
    let known = scan(folders);
    let all = || known.iter().filter(|(_, found)| !found.ambiguous);
    let of_kind = |kind: &str| {
        let prefix = format!("{kind}=");
        all().filter(move |(full, _)| full.starts_with(&prefix)).collect::<Vec<_>>()
    };
    let mut meant = match name.split_once('=') {
        Some((kind, "*")) => of_kind(kind),
        Some(_) => all().filter(|(full, _)| *full == name).collect(),
        None if name.contains('/') => of_kind(name).into_iter().take(1).collect(),
        None => Vec::new(),
    };
    if meant.is_empty() {
        meant =
            all().filter(|(_, found)| found.facts.get(CLASS).is_some_and(|class| class == name)).collect();
    }
    let device = |(name, found): (&String, &Found)| FoundDevice {
        name: name.clone(),
        allowed_always: found
            .facts
            .get(AUTO_ALLOW)
            .is_some_and(|value| matches!(value.as_str(), "true" | "1")),
    };
    meant.into_iter().map(device).collect()
}

/// Says whether a text is such a name.
pub(super) fn is_name(text: &str) -> bool {
    split_name(text).is_some()
}

fn scan(folders: &[PathBuf]) -> BTreeMap<String, Found> {
    let mut known: BTreeMap<String, Found> = BTreeMap::new();
    for (priority, folder) in folders.iter().enumerate() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for file in entries.map(|entry| entry.path()) {
            let document = match read(&file) {
                Ok(Some(document)) => document,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "a file of CDI devices is passed over");
                    continue;
                }
            };
            for device in document.devices {
                let name = format!("{}={}", document.kind, device.name);
                let ambiguous = known.get(&name).is_some_and(|other| other.priority == priority);
                let common = (file.clone(), document.container_edits.clone());
                let mut facts = document.annotations.clone();
                facts.extend(device.annotations);
                known.insert(name, Found { common, own: device.container_edits, priority, ambiguous, facts });
            }
        }
    }
    known
}

/// Reads a file; `None` if its name says that it is something else.
fn read(file: &Path) -> Result<Option<Document>, Invalid> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    let text = || std::fs::read_to_string(file).map_err(|error| Invalid(base::io_message(&error)));
    let document: Document = match extension {
        Some("json") => serde_json::from_str(&text()?).map_err(|error| Invalid(error.to_string()))?,
        Some("yaml" | "yml") => {
            let options = serde_saphyr::options! { strict_booleans: true, legacy_octal_numbers: true };
            let parsed = serde_saphyr::from_str_with_options(&text()?, options);
            parsed.map_err(|error| Invalid(error.to_string()))?
        }
        _ => return Ok(None),
    };
    document.check()?;
    Ok(Some(document))
}

/// Looks up on the host what device nodes do not say.
fn completed(edits: &Edits) -> Result<Edits> {
    let mut edits = edits.clone();
    for node in &mut edits.device_nodes {
        let numbered = node.major.is_some() && node.minor.is_some();
        if !node.kind.is_empty() && (numbered || node.kind == "p") {
            continue;
        }
        let path = if node.host_path.is_empty() { &node.path } else { &node.host_path };
        let found = host_devices(path)?;
        let [device] = found.as_slice() else {
            return Err(Error::invalid(format!("CDI device injection failed: {path} is not a device node")));
        };
        node.kind.clone_from(&device.kind);
        node.major = node.major.or(Some(device.major));
        node.minor = node.minor.or(Some(device.minor));
    }
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_folders_win_and_twins_name_nothing() {
        let root = std::env::temp_dir().join(format!("wharf-cdi-{}", std::process::id()));
        let (low, high) = (root.join("a"), root.join("b"));
        for folder in [&low, &high] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let write = |path: PathBuf, env: &str, names: &[&str]| {
            let devices: Vec<String> = names
                .iter()
                .map(|name| format!("{{name: {name}, containerEdits: {{env: [{env}]}}}}"))
                .collect();
            let text = format!(
                "cdiVersion: 0.6.0\nkind: v.org/c\ncontainerEdits: {{env: [COMMON=1]}}\ndevices: [{}]\n",
                devices.join(", ")
            );
            std::fs::write(path, text).unwrap();
        };
        write(low.join("one.yaml"), "X=low", &["a", "b"]);
        write(high.join("two.yml"), "X=high", &["a"]);
        write(low.join("three.yaml"), "X=twin", &["b"]);
        std::fs::write(low.join("bad.json"), "{").unwrap();
        std::fs::write(low.join("note.txt"), "{").unwrap();
        let folders = [low, high];
        assert_eq!(names(&folders), ["v.org/c=a"]);
        let found = edits(&folders, &["v.org/c=a".to_owned(), "v.org/c=a".to_owned()]).unwrap();
        let env: Vec<&str> = found.iter().flat_map(|edits| &edits.env).map(String::as_str).collect();
        assert_eq!(env, ["COMMON=1", "X=high", "X=high"]);
        let error = edits(&folders, &["v.org/c=b".to_owned(), "v.org/c=z".to_owned()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CDI device injection failed: unresolvable CDI devices v.org/c=b, v.org/c=z"
        );
        std::fs::remove_dir_all(&root).unwrap();
    }
}
