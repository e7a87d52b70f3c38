//! The executable: picks the role, nothing else.
//!
//! `wharf daemon …`, `wharf registry …` (also when called `registry`), `wharf runtime …` (also when called `wharf-runtime` or `runc`) and the command line for people; and, by the first argument or the name it is called by, the roles
//! that Wharf starts by itself: zygote, supervisor, and the init of containers with `--init`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let called = arguments.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str());
    match called {
        Some("docker-init") => return supervisor::init::main(&arguments),
        Some("wharf-runtime" | "runc") => {
            return runtime::command::program(arguments.get(1..).unwrap_or_default());
        }
        // As the entry point of images made for the well-known registry's commands.
        Some("registry") => return registry::main(arguments.get(1..).unwrap_or_default()),
        _ => {}
    }
    if let Ok(setting) = std::env::var(base::failpoint::VARIABLE)
        && let Err(part) = base::failpoint::arm(&setting)
    {
        complain(&format!("{}: {part:?} is neither NAME=abort nor NAME=fail", base::failpoint::VARIABLE));
        return ExitCode::from(2);
    }
    match arguments.get(1).map(String::as_str) {
        Some(supervisor::zygote::ROLE) => ended(supervisor::zygote::main()),
        Some(supervisor::SUPERVISOR_ROLE) => ended(supervisor::main()),
        Some("runtime") => runtime::command::program(arguments.get(2..).unwrap_or_default()),
        Some("daemon") => daemon::main(arguments.get(2..).unwrap_or_default()),
        Some("registry") => registry::main(arguments.get(2..).unwrap_or_default()),
        _ => cli::main(arguments),
    }
}

fn ended(outcome: Result<(), supervisor::Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&base::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn complain(line: &str) {
    // There is no other place to tell.
    drop(writeln!(std::io::stderr(), "wharf: {line}"));
}
