//! The project's automation: `cargo xtask COMMAND`.
//!
//! No dependencies, so that the first build starts with Wharf itself.

mod build;
mod compat;
mod fields;
mod fuzz;
mod peers;
mod runtime_tools;
mod steps;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  wharf [ARG...]   build the static release and run it (also: cargo wharf)
  build [--dist]   build the static release and print where it is
  test  [STEP...]  run every check and test, or the named steps
  bench [ROW...]   time Wharf beside the engines that are installed
  fuzz [SECONDS [TARGET...]]
                   feed each fuzz target random input for a minute or SECONDS
  compat FOLDER    write docs/compat/ from Docker's tables (WHARF names the executable)
  peers            install the clients and suites of others that tests use, and print their folder
  tidy             check the crate arrows, file sizes and module headers";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_deref() {
        Some("wharf") => build::run(&rest),
        Some("build") => build::build(rest.iter().any(|flag| flag == "--dist")).map(|path| {
            steps::say(&path.display().to_string());
            ExitCode::SUCCESS
        }),
        Some("test") => test::test(&rest),
        Some("bench") => build::bench(&rest),
        Some("fuzz") => fuzz::command(&rest),
        Some("compat") => compat::command(rest.first()),
        Some("peers") => {
            steps::say(&peers::install().display().to_string());
            Ok(ExitCode::SUCCESS)
        }
        Some("tidy") => tidy::command(),
        _ => Err(USAGE.to_owned()),
    };
    outcome.unwrap_or_else(|message| {
        steps::warn(&message);
        ExitCode::from(2)
    })
}
