//! End-to-end tests of the finished executable; the tests are in `tests/`, one file per feature.
//!
//! They run as root against the executable that the environment variable `WHARF` names, through our own command line
//! and through Docker's where it is installed: [`both`] runs the same arguments through each.

pub mod building;
pub mod bundle;
pub mod guest;
pub mod made;

use std::path::Path;
use std::process::Command;
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
    let docker = Command::new("docker").arg("--version").output();
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

/// Makes an authority (`ca.pem`), a certificate for 127.0.0.1 (`server.pem`, `server-key.pem`) and one for a client, by
/// `openssl`; `None` if there is none.
pub fn certificates(folder: &Path) -> Option<()> {
    let script = "set -e
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca-key.pem -out ca.pem \\
            -subj /CN=authority -days 2
        for who in server client; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $who-key.pem -out $who.csr \\
                -subj /CN=$who
            echo 'subjectAltName=IP:127.0.0.1' > $who.ext
            openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out $who.pem -days 2 \\
                -extfile $who.ext
        done";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().ok()?;
    output.status.success().then_some(())
}
