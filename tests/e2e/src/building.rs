//! What the tests of builds share: contexts, and builds through either command line.
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "test code: a failed set-up ends the test"
)]

use std::path::Path;
use testkit::{Engine, Output, Scratch};

/// Makes a folder with these files.
pub fn context(files: &[(&str, &str)]) -> Scratch {
    let scratch = Scratch::new();
    for (name, text) in files {
        let path = scratch.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    scratch
}

/// Returns a path as text.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Builds the context as `built` with our command line.
pub fn build(engine: &Engine, context: &Scratch, flags: &[&str]) -> Output {
    let folder = text(context.path());
    engine.wharf(&[&["build", "--progress", "plain", "-t", "built"], flags, &[folder.as_str()]].concat())
}

/// Builds the context as `built` with Docker's command line.
pub fn classic(engine: &Engine, context: &Scratch, flags: &[&str]) -> Output {
    let mut command = engine.command("docker");
    command.env("DOCKER_BUILDKIT", "0").args(["build", "-t", "built"]).args(flags).arg(context.path());
    let output = command.output().unwrap();
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// Runs a shell's script in the image `built`.
pub fn in_image(engine: &Engine, script: &str) -> String {
    engine.wharf(&["run", "--rm", "built", "sh", "-c", script]).line()
}
