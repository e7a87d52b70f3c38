//! Running programs and telling the user about it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Prints a line to standard output.
pub(crate) fn say(line: &str) {
    // Nothing useful can be done when nobody reads.
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Prints a line to standard error.
pub(crate) fn warn(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs `program` to its end.
///
/// # Errors
///
/// Returns a line naming the program if it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// Returns a `cargo` of the toolchain that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Says whether `program` is on the search path.
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// Says whether the effective user is root.
pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Installs distribution packages where there is apt and we are root. Returns those that could not be had.
pub(crate) fn install(packages: &[&str]) -> Vec<String> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    if !have("apt-get") || !is_root() {
        return missing.into_iter().map(str::to_owned).collect();
    }
    warn(&format!("installing {}", missing.join(" ")));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "Dpkg::Use-Pty=0"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
        run(&mut command)
    };
    if let Err(message) = apt(&["update"]) {
        warn(&message);
    }
    missing
        .into_iter()
        .filter(|package| apt(&["install", "-y", "--no-install-recommends", package]).is_err())
        .map(str::to_owned)
        .collect()
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}
