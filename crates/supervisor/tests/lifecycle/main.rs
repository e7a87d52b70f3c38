//! Containers from start to end, by a real zygote and real supervisors.
//!
//! Needs root (namespaces, mounts, cgroups) and a static busybox. The executable is its own zygote and supervisor, so it
//! cannot use the usual harness; it takes the same arguments (`--include-ignored`, `--list`, a filter).
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test")]

mod bench;
mod cases;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(supervisor::zygote::ROLE) => return role(supervisor::zygote::main()),
        Some(supervisor::SUPERVISOR_ROLE) => return role(supervisor::main()),
        _ => {}
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filter: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted: Vec<_> = cases::ALL
        .iter()
        .filter(|(name, _)| filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str())))
        .collect();
    if has("--list") {
        for (name, _) in wanted {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !has("--include-ignored") && !has("--ignored") {
        for (name, _) in &wanted {
            println!("test {name} ... ignored, root: namespaces, mounts and cgroups");
        }
        println!("\ntest result: ok. 0 passed; 0 failed; {} ignored", wanted.len());
        return ExitCode::SUCCESS;
    }
    run(&wanted)
}

fn role(result: Result<(), supervisor::Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads a supervisor's standard error; its parent sees the code.
            std::fs::write("/tmp/wharf-test-role-error", base::chain(&error)).ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cases: &[&(&str, cases::Case)]) -> ExitCode {
    let bench = bench::Bench::new();
    let mut failed = 0;
    for (name, case) in cases {
        let start = Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&bench)));
        let outcome = if result.is_ok() { "ok" } else { "FAILED" };
        failed += i32::from(result.is_err());
        println!("test {name} ... {outcome} ({} ms)", start.elapsed().as_millis());
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {failed} failed",
        cases.len() - usize::try_from(failed).unwrap()
    );
    drop(bench);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
