//! Building the static executable, with what that needs.

use crate::steps::{cargo, have, install, root, run as run_program, warn};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Builds the static release and replaces this process by it, with `arguments`.
///
/// # Errors
///
/// Returns a line naming what failed.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let path = build(false)?;
    let error = Command::new(&path).args(arguments).exec();
    Err(format!("run {}: {error}", path.display()))
}

/// Builds the static release and times it beside the engines that are installed.
///
/// # Errors
///
/// Returns a line naming what failed.
pub(crate) fn bench(rows: &[String]) -> Result<ExitCode, String> {
    let path = build(true)?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "bench", "--"]).args(rows).env("WHARF", path);
    run_program(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the executable and returns its path: static with musl where that can be had, else for the host.
///
/// # Errors
///
/// Returns a line naming what failed.
pub(crate) fn build(dist: bool) -> Result<PathBuf, String> {
    let target = static_target();
    let profile = if dist { "dist" } else { "release" };
    let mut command = cargo();
    command.args(["build", "--package", "wharf", "--profile", profile]);
    let target_dir =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut folder = target_dir;
    if let Some(target) = &target {
        command.args(["--target", target]);
        folder.push(target);
    } else {
        warn("building for the host's own target: the executable will not be static and starts slower");
    }
    run_program(&mut command)?;
    Ok(folder.join(profile).join("wharf"))
}

/// Returns the musl target of this machine once it can be built for.
fn static_target() -> Option<String> {
    let architecture = std::env::consts::ARCH;
    let target = format!("{architecture}-unknown-linux-musl");
    if !has_target(&target) && have("rustup") {
        warn(&format!("adding the Rust target {target}"));
        if let Err(message) = run_program(Command::new("rustup").args(["target", "add", &target])) {
            warn(&message);
        }
    }
    if !has_target(&target) {
        warn(&format!("the Rust target {target} cannot be had"));
        return None;
    }
    if !have("musl-gcc") && !install(&["musl-tools"]).is_empty() {
        warn("musl-gcc is missing (package musl-tools)");
        return None;
    }
    Some(target)
}

fn has_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(output) = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output()
    else {
        return false;
    };
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success() && PathBuf::from(folder).is_dir()
}
