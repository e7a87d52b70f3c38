//! End-to-end tests of the finished executable; the tests are in `tests/`, one file per feature.
//!
//! They run as root against the executable that the environment variable `WHARF` names, through our own command line
//! and through Docker's where it is installed: [`both`] runs the same arguments through each.

pub mod building;
pub mod bundle;
pub mod guest;

use testkit::{Engine, Output};

/// A command line under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandLine {
    /// Our own.
    Wharf,
    /// Docker's.
    Docker,
}

impl CommandLine {
    /// Runs a command and returns what came of it.
    pub fn run(self, engine: &Engine, arguments: &[&str]) -> Output {
        match self {
            Self::Wharf => engine.wharf(arguments),
            Self::Docker => engine.docker(arguments),
        }
    }
}

/// Returns the command lines to test: ours, and Docker's if it is installed.
pub fn command_lines() -> Vec<CommandLine> {
    let docker = std::process::Command::new("docker").arg("--version").output();
    let mut lines = vec![CommandLine::Wharf];
    if docker.is_ok_and(|output| output.status.success()) {
        lines.push(CommandLine::Docker);
    }
    lines
}

/// Runs the same arguments through each command line, and returns what ours gave after comparing the two.
///
/// Standard output and the exit code have to be equal. Standard error as well, but for the program's own name and the
/// hint to its help.
#[expect(clippy::missing_panics_doc, reason = "a difference is the test's failure")]
pub fn both(engine: &Engine, arguments: &[&str]) -> Output {
    let outputs: Vec<Output> = command_lines().iter().map(|line| line.run(engine, arguments)).collect();
    let plain = |text: &str| text.replace("wharf", "docker").replace("Wharf", "Docker");
    let (Some(ours), theirs) = (outputs.first(), outputs.get(1)) else { return engine.wharf(arguments) };
    if let Some(theirs) = theirs {
        assert_eq!(plain(&ours.stdout), plain(&theirs.stdout), "standard output of {arguments:?}");
        assert_eq!(plain(&ours.stderr), plain(&theirs.stderr), "standard error of {arguments:?}");
        assert_eq!(ours.code, theirs.code, "exit code of {arguments:?}");
    }
    ours.clone()
}
