//! Checks that no compiler makes: the crate arrows, file sizes, module headers, literals outside their homes.

use crate::steps::{root, say};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Lines above which a source file is too long to be read in one sitting.
const MAX_LINES: usize = 1000;

/// Which of our crates each crate may depend on. A new arrow is a design change: ARCHITECTURE.md has the reasons.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("oci", &[]),
    ("api", &["oci"]),
    ("gotemplate", &[]),
    ("sys", &[]),
    ("cgroups", &["oci", "sys"]),
    ("store", &["base", "oci", "sys"]),
    ("dockerfile", &["base"]),
    ("builder", &["base", "oci", "sys", "store", "dockerfile"]),
    ("tls", &[]),
    ("distribution", &["base", "oci", "tls"]),
    ("registry", &["base", "oci", "distribution"]),
    ("network", &["base", "sys"]),
    ("logs", &["base", "sys", "gotemplate", "tls"]),
    ("runtime", &["base", "oci", "sys", "cgroups"]),
    ("supervisor", &["base", "oci", "sys", "cgroups", "runtime", "network", "logs"]),
    (
        "engine",
        &[
            "base",
            "oci",
            "api",
            "sys",
            "cgroups",
            "store",
            "tls",
            "builder",
            "distribution",
            "network",
            "logs",
            "runtime",
            "supervisor",
        ],
    ),
    ("daemon", &["base", "oci", "api", "engine", "logs", "store", "distribution", "network", "sys"]),
    ("client", &["api", "tls"]),
    ("cli", &["base", "oci", "api", "client", "gotemplate", "dockerfile"]),
    ("wharf", &["base", "daemon", "cli", "supervisor", "runtime", "registry"]),
    ("testkit", &["sys"]),
    ("e2e", &["testkit"]),
    ("bench", &["testkit"]),
    ("xtask", &[]),
];

/// Runs the checks and says so.
///
/// # Errors
///
/// Never: what is wrong is printed and the exit code says so.
pub(crate) fn command() -> Result<ExitCode, String> {
    match check() {
        Ok(()) => {
            say("tidy");
            Ok(ExitCode::SUCCESS)
        }
        Err(message) => {
            say(&message);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Runs the checks.
///
/// # Errors
///
/// Returns all that is wrong, a line each.
pub(crate) fn check() -> Result<(), String> {
    let mut wrong = Vec::new();
    let manifests = manifests();
    for (name, path) in &manifests {
        arrows(name, path, &manifests, &mut wrong);
        let folder = path.parent().unwrap_or(path);
        for file in sources(folder) {
            source(&file, &mut wrong);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn manifests() -> BTreeMap<String, PathBuf> {
    let root = root();
    let folders = [root.join("crates"), root.join("tests")];
    let members = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    members
        .map(|entry| entry.path())
        .chain([root.join("xtask")])
        .map(|folder| folder.join("Cargo.toml"))
        .filter(|manifest| manifest.is_file())
        .filter_map(|manifest| {
            let name = manifest.parent()?.file_name()?.to_str()?.to_owned();
            Some((name, manifest))
        })
        .collect()
}

/// Compares what a manifest's `[dependencies]` name with the table.
fn arrows(name: &str, manifest: &Path, all: &BTreeMap<String, PathBuf>, wrong: &mut Vec<String>) {
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        wrong.push(format!("{name}: not in the crate table of xtask/src/tidy.rs and ARCHITECTURE.md"));
        return;
    };
    let text = fs::read_to_string(manifest).unwrap_or_default();
    let mut in_dependencies = false;
    for line in text.lines() {
        if line.starts_with('[') {
            in_dependencies = line.trim() == "[dependencies]";
        } else if in_dependencies {
            let dependency = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if all.contains_key(dependency) && !allowed.contains(&dependency) {
                wrong.push(format!("{name} -> {dependency}: this arrow is not in the crate table"));
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn source(file: &Path, wrong: &mut Vec<String>) {
    let shown = file.strip_prefix(root()).unwrap_or(file).display().to_string();
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        wrong.push(format!("{shown}: {lines} lines; split it by responsibility (at most {MAX_LINES})"));
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        wrong.push(format!("{shown}: no module header (//!)"));
    }
    for word in ["todo!(", "unimplemented!("] {
        if text.contains(word) && !shown.starts_with("xtask") {
            wrong.push(format!("{shown}: {word}…) left in"));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        assert_eq!(super::check(), Ok(()));
    }
}
