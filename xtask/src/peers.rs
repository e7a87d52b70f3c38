//! Clients and suites of others, for our registry and for the engine, from the registries of their languages: each is
//! optional, and installed once.

use crate::steps::{cargo, have, root, run, warn};
use std::path::{Path, PathBuf};
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

/// Installs those that are not here yet and returns the folder where they are.
pub(crate) fn install() -> PathBuf {
    let folder = root().join("target/peers");
    for (name, module) in PROGRAMS.iter().filter(|(name, _)| !folder.join(name).is_file()) {
        let mut command = Command::new("go");
        command.args(["install", module]).env("GOBIN", &folder).env("CGO_ENABLED", "0").current_dir("/");
        if !have("go") || run(&mut command).is_err() {
            warn(&format!("skipped: what needs {name}, which cannot be had from Go's module proxy"));
        }
    }
    for (name, program, make) in CLIENTS {
        let done = folder.join(format!("{name}.made"));
        let source = root().join("tests/clients");
        let wanted = inputs(&source.join(name));
        if std::fs::read(&done).is_ok_and(|made| made == wanted) {
            continue;
        }
        drop(std::fs::create_dir_all(&folder));
        let made = if have(program) { make(&source.join(name), &folder) } else { Err(String::new()) };
        match made {
            Ok(()) => drop(std::fs::write(done, wanted)),
            Err(_) => warn(&format!(
                "skipped: what tests/clients/{name} is for; it needs {program} and its registry"
            )),
        }
    }
    folder
}

type Make = fn(&Path, &Path) -> Result<(), String>;

/// The engine's clients and a builder in `tests/clients`: the folder, the program that makes it, and how.
const CLIENTS: [(&str, &str, Make); 5] = [
    ("buildkit", "go", |source, folder| {
        let programs = ["buildkitd", "buildctl"].map(|name| format!("github.com/moby/buildkit/cmd/{name}"));
        let mut command = Command::new("go");
        command.args(["build", "-ldflags=-s -w", "-o"]).arg(folder).args(programs);
        run(command.env("CGO_ENABLED", "0").current_dir(source))
    }),
    ("go", "go", |source, folder| {
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(folder.join("client-go")).arg(".").env("CGO_ENABLED", "0");
        run(command.current_dir(source))
    }),
    ("bollard", "cc", |source, folder| {
        run(cargo()
            .args(["build", "--quiet", "--locked"])
            .current_dir(source)
            .env("CARGO_TARGET_DIR", folder.join("bollard")))?;
        copy(&folder.join("bollard/debug/client-bollard"), &folder.join("client-bollard"))
    }),
    ("python", "python3", |source, folder| {
        let place = folder.join("clients-python");
        run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
        let mut pip = Command::new(place.join("bin/pip"));
        run(pip.args(["install", "--quiet", "-r"]).arg(source.join("requirements.txt")))
    }),
    ("node", "npm", |source, folder| {
        let place = folder.join("clients-node");
        std::fs::create_dir_all(&place).map_err(|error| error.to_string())?;
        for file in ["package.json", "walk.mjs"] {
            copy(&source.join(file), &place.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        run(&mut npm)
    }),
];

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(drop).map_err(|error| format!("{}: {error}", from.display()))
}

/// All that a client is made of, so that it is made again when that has changed.
fn inputs(folder: &Path) -> Vec<u8> {
    let mut files: Vec<PathBuf> = [folder.to_path_buf(), folder.join("src")]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).flatten().collect()
}
