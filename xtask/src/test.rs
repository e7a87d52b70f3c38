//! Every check and test of the project, in the order of what fails fastest.

use crate::steps::{cargo, install, is_root, run, say, warn};
use crate::{build, fuzz, peers, runtime_tools, tidy};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Distribution packages that the tests use.
const PACKAGES: &[&str] = &[
    "buildah",
    "busybox-static",
    "docker-registry",
    "docker.io",
    "etcd-server",
    "iproute2",
    "musl-tools",
    "nftables",
    "skopeo",
    "umoci",
    "mmdebstrap",
    "curl",
    "crun",
    "docker-compose",
    "openssl",
];

type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("fmt", || run(cargo().args(["fmt", "--all", "--check"]))),
    ("tidy", tidy::check),
    ("clippy", || run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))),
    ("doc", || {
        run(cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("fuzz", fuzz::check),
    ("unit", unit),
    ("e2e", end_to_end),
    ("runtime-tools", || runtime_tools::check(&executable()?)),
];

/// Runs all steps, or those named in `wanted`, and prints a summary.
///
/// # Errors
///
/// Returns the name of a step that does not exist.
pub(crate) fn test(wanted: &[String]) -> Result<ExitCode, String> {
    if let Some(unknown) = wanted.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        return Err(format!("no step named {unknown}"));
    }
    let missing = install(PACKAGES);
    for package in &missing {
        warn(&format!("skipped: what needs the package {package}, which cannot be had here"));
    }
    let mut failed = Vec::new();
    for (name, step) in
        STEPS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|want| want == name))
    {
        say(&format!("==> {name}"));
        let begin = Instant::now();
        match step() {
            Ok(()) => say(&format!("==> {name}: passed in {:.0} s", begin.elapsed().as_secs_f32())),
            Err(message) => {
                say(&format!("==> {name}: FAILED: {message}"));
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        say("all steps passed");
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("failed: {}", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

/// Unit and documentation tests; the privileged ones too where we are root.
fn unit() -> Result<(), String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--exclude", "e2e", "--no-fail-fast"]);
    if is_root() {
        command.args(["--", "--include-ignored"]);
    } else {
        warn("not root: privileged tests are left out (they count as ignored)");
    }
    run(&mut command)
}

/// The tests of the finished executable.
fn end_to_end() -> Result<(), String> {
    if !is_root() {
        warn("skipped: the end-to-end tests need root");
        return Ok(());
    }
    let mut command = cargo();
    command.args(["test", "--package", "e2e", "--no-fail-fast"]).env("WHARF", executable()?);
    run(command.env("WHARF_PEERS", peers::install()))
}

/// The executable under test: that of the environment variable `WHARF`, or a new build.
fn executable() -> Result<PathBuf, String> {
    std::env::var_os("WHARF").map_or_else(|| build::build(false), |path| Ok(path.into()))
}
