//! The fuzz targets of `fuzz/`: checked by every test run, fed with random input on request.
//!
//! The folder is laid out as cargo-fuzz wants it, but neither that nor a nightly toolchain is needed: the coverage that
//! libFuzzer steers by is a pass of the compiler, and without it the sanitizers would find nothing in safe code.

use crate::steps::{cargo, root, run, say};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Where it is built: not beside `cargo build`'s own output, which has other flags.
const OUTPUT: &str = "target/fuzz";
/// The triple is named so that build scripts and macros do not get the flags.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What makes a program steerable, and strict.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// Checks that the targets compile. Needs no C++ compiler.
///
/// # Errors
///
/// Returns a line if they do not.
pub(crate) fn check() -> Result<(), String> {
    run(cargo()
        .args(["check", "--manifest-path", "fuzz/Cargo.toml", "--no-default-features", "--bins"])
        .args(["--target-dir", "target"]))
}

/// Runs the targets for some seconds each.
///
/// # Errors
///
/// Returns a line for seconds that are no number, a target that does not compile, and an input on which one fails.
pub(crate) fn command(arguments: &[String]) -> Result<ExitCode, String> {
    let (seconds, wanted) = match arguments.split_first() {
        Some((seconds, wanted)) => (seconds.parse().map_err(|error| format!("{seconds}: {error}"))?, wanted),
        None => (60_u32, arguments),
    };
    run(cargo()
        .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--bins", "--target", TRIPLE])
        .args(["--target-dir", OUTPUT])
        .env("RUSTFLAGS", FLAGS))?;
    let all = targets();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        return Err(format!("no fuzz target named {unknown}"));
    }
    for name in all.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        say(&format!("==> {name}"));
        let folder = |kind: &str| root().join("fuzz").join(kind).join(name);
        let (corpus, artifacts) = (folder("corpus"), folder("artifacts"));
        for made in [&corpus, &artifacts] {
            std::fs::create_dir_all(made).map_err(|error| format!("{}: {error}", made.display()))?;
        }
        let mut command = Command::new(root().join(OUTPUT).join(TRIPLE).join("release").join(name));
        // What is found goes to the first folder, what others gave is only read.
        command.args([&corpus, &folder("seeds")]).arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.args([
            "-max_len=65536",
            "-rss_limit_mb=1024",
            "-timeout=10",
            "-verbosity=0",
            "-print_final_stats=1",
        ]);
        run(&mut command)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of the targets.
fn targets() -> Vec<String> {
    let files = std::fs::read_dir(root().join("fuzz/targets")).into_iter().flatten().flatten();
    let mut names: Vec<String> = files
        .filter_map(|entry| {
            let path: PathBuf = entry.path();
            let rust = path.extension().is_some_and(|extension| extension == "rs");
            rust.then(|| path.file_stem()?.to_str().map(str::to_owned))?
        })
        .collect();
    names.sort();
    names
}
