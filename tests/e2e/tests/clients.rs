//! Docker's client for Go, bollard, the Python SDK and both testcontainers, unmodified: each walks through an image's pull,
//! containers and their streams, networks and volumes. The programs are in `tests/clients/`; `cargo xtask test` installs
//! them in the folder that `WHARF_PEERS` names, and what cannot be had is said to be skipped.

#![expect(clippy::expect_used, reason = "test code: a failed step ends the test")]

use e2e::bundle::skipped;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use testkit::{Engine, Registry, image};

fn peer(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("WHARF_PEERS").map(|folder| Path::new(&folder).join(name));
    let found = found.filter(|path| path.exists());
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// Runs a client against an engine and a registry that has one image.
fn walk(program: &Path, arguments: &[&str]) {
    let engine = Engine::start();
    let registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    let archive = engine.folder().join("box.tar");
    image::write_busybox(&archive, "box:latest");
    registry.push(engine.namespaces(), &archive, "box:1");
    let before = engine.wharf(&["volume", "ls", "-q"]).ok();
    let mut command = engine.command(&program.display().to_string());
    command.args(arguments).arg(format!("{}/box:1", Registry::HOST)).current_dir(engine.folder());
    // Its sweeper is an image of the well-known registry.
    command.env("TESTCONTAINERS_RYUK_DISABLED", "true").env("HOME", engine.folder());
    let output = command.stdin(Stdio::null()).output().expect("run a client");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&said));
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).ok(), before, "volumes left");
    let networks = engine.wharf(&["network", "ls", "--format", "{{.Name}}"]).ok();
    assert_eq!(networks, "bridge\nhost\nnone\n", "networks left");
}

#[test]
fn go() {
    if let Some(program) = peer("client-go") {
        walk(&program, &[]);
    }
}

#[test]
fn bollard() {
    if let Some(program) = peer("client-bollard") {
        walk(&program, &[]);
    }
}

#[test]
fn python_and_its_testcontainers() {
    if let Some(folder) = peer("clients-python") {
        walk(&folder.join("bin/python"), &[&script("python/walk.py")]);
    }
}

#[test]
fn node_with_testcontainers() {
    if let Some(folder) = peer("clients-node") {
        // Modules are looked for beside the script.
        walk(Path::new("node"), &[&folder.join("walk.mjs").display().to_string()]);
    }
}

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients").join(name).display().to_string()
}
