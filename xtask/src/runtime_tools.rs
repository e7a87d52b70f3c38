//! The validation programs of opencontainers/runtime-tools against `wharf runtime`.
//!
//! Each of its programs is a runtime's user that writes TAP. `runtime_tools.txt` names those that pass; one of them that no
//! longer does fails this step. The module comes through Go's proxy; without Go, or without the proxy, the step is skipped.

use crate::steps::{have, is_root, root, run, say, warn};
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The module, at the commit that the list was made with.
const MODULE: &str = "github.com/opencontainers/runtime-tools@v0.9.1-0.20250523060157-0ea5ed0382a2";
/// The programs that pass.
const EXPECTED: &str = include_str!("runtime_tools.txt");
/// How many run at once: they sleep most of their time.
const LANES: usize = 6;
/// How long one program may take, in seconds.
const LIMIT: &str = "120";

/// Runs the programs that are expected to pass, with the runtime of the executable `wharf`.
///
/// # Errors
///
/// Returns the programs that do not pass, or what cannot be built.
pub(crate) fn check(wharf: &Path) -> Result<(), String> {
    if !is_root() || !have("go") {
        warn("skipped: runtime-tools needs root and Go");
        return Ok(());
    }
    let Some(module) = download() else {
        warn("skipped: runtime-tools cannot be had from Go's module proxy");
        return Ok(());
    };
    let names: Vec<&str> =
        EXPECTED.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let folder = prepare(&module, wharf, &names)?;
    // Those about control groups all use the same one: one after the other.
    let (groups, others): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| name.starts_with("linux_cgroups") || name.ends_with("resources"));
    let queue = Mutex::new(VecDeque::from(others));
    let failed = Mutex::new(Vec::new());
    let judge = |name: &str| {
        if let Err(reason) = verdict(&folder, name) {
            failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name} ({reason})"));
        }
    };
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        scope.spawn(|| groups.iter().for_each(|name| judge(name)));
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(name) = next() {
                    judge(name);
                }
            });
        }
    });
    remove_groups();
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(&format!("runtime-tools: {} of {} programs pass", names.len() - failed.len(), names.len()));
    if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
}

/// Removes the parents of groups, which are nobody's to remove: neither the programs' nor the runtime's.
fn remove_groups() {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        for group in ["testdir/cgrouptest", "testdir", "cgrouptest"] {
            drop(fs::remove_dir(hierarchy.path().join(group)));
        }
    }
}

/// Fetches the module and returns where it is; `None` if it cannot be had.
fn download() -> Option<PathBuf> {
    let output =
        Command::new("go").args(["mod", "download", "-json", MODULE]).current_dir("/").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \""))?;
    line.split('"').next().map(PathBuf::from).filter(|folder| folder.is_dir())
}

/// Builds the programs and returns the folder to run them in, with what they look for there.
fn prepare(module: &Path, wharf: &Path, names: &[&str]) -> Result<PathBuf, String> {
    let folder = root().join("target/runtime-tools");
    fs::create_dir_all(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
    let mut command = Command::new("go");
    // Static, since some of it runs in the containers.
    command.args(["build", "-mod=readonly", "-ldflags=-s -w", "-o"]).arg(&folder).env("CGO_ENABLED", "0");
    command.args(names.iter().map(|name| format!("./validation/{name}"))).arg("./cmd/runtimetest");
    run(command.current_dir(module))?;
    let link = |target: &Path, name: &str| {
        let place = folder.join(name);
        drop(fs::remove_file(&place));
        symlink(target, &place).map_err(|error| format!("link {}: {error}", place.display()))
    };
    let wharf = fs::canonicalize(wharf).map_err(|error| format!("find {}: {error}", wharf.display()))?;
    link(&wharf, "wharf-runtime")?;
    for rootfs in ["rootfs-amd64.tar.gz", "rootfs-386.tar.gz"] {
        link(&module.join(rootfs), rootfs)?;
    }
    Ok(folder)
}

/// Runs one program: it passes if it says so of something and denies nothing.
fn verdict(folder: &Path, name: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot be run: {error}");
    let log = folder.join(format!("{name}.log"));
    let out = fs::File::create(&log).map_err(failed)?;
    // Some leave mounts and folders behind: they go with a namespace and a folder of the program's own.
    let scratch = folder.join(format!("{name}.tmp"));
    fs::create_dir_all(&scratch).map_err(failed)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .args(["timeout", "--kill-after=5", LIMIT, &format!("./{name}")])
        .env("RUNTIME", folder.join("wharf-runtime"))
        .env("TMPDIR", &scratch);
    command.current_dir(folder).stdin(Stdio::null()).stderr(out.try_clone().map_err(failed)?).stdout(out);
    let status = command.status().map_err(failed)?;
    drop(fs::remove_dir_all(&scratch));
    let said = fs::read_to_string(&log).map_err(failed)?;
    let count = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
    match (status.success(), count("ok "), count("not ok ")) {
        (true, 1.., 0) => Ok(()),
        (_, ok, not) => Err(format!("{status}, {ok} ok, {not} not ok, see {}", log.display())),
    }
}
