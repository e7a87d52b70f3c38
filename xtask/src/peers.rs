//! Clients and suites of others for our registry, from Go's module proxy: each is optional.

use crate::steps::{have, root, run, warn};
use std::path::PathBuf;
use std::process::Command;

/// Programs and where they come from.
const PROGRAMS: [(&str, &str); 3] = [
    ("crane", "github.com/google/go-containerregistry/cmd/crane@v0.20.6"),
    ("regctl", "github.com/regclient/regclient/cmd/regctl@v0.9.0"),
    (
        "conformance",
        "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111",
    ),
];

/// Builds those that are not here yet and returns the folder where they are.
pub(crate) fn install() -> PathBuf {
    let folder = root().join("target/peers");
    for (name, module) in PROGRAMS.iter().filter(|(name, _)| !folder.join(name).is_file()) {
        let mut command = Command::new("go");
        command.args(["install", module]).env("GOBIN", &folder).env("CGO_ENABLED", "0").current_dir("/");
        if !have("go") || run(&mut command).is_err() {
            warn(&format!("skipped: what needs {name}, which cannot be had from Go's module proxy"));
        }
    }
    folder
}
