//! `BuildKit` as a peer: its daemon in namespaces of its own, and builds through its own client.
//!
//! `cargo xtask peers` makes both of the module in `tests/clients/buildkit`.

use crate::{Namespaces, Scratch, image, until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `BuildKit`, with `busybox` to build on.
#[derive(Debug)]
pub struct BuildKit {
    namespaces: Namespaces,
    scratch: Scratch,
    program: PathBuf,
    daemon: Child,
    /// The folder of the base image, and its digest.
    base: (PathBuf, String),
}

impl BuildKit {
    /// Starts it in namespaces, with a scratch folder in which `data` may be a disk; `None` if it was not made here.
    pub fn start(namespaces: Namespaces, scratch: Scratch) -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("WHARF_PEERS")?);
        let (server, program) = (folder.join("buildkitd"), folder.join("buildctl"));
        if !server.is_file() || !program.is_file() {
            return None;
        }
        let at = |name: &str| scratch.join(name).display().to_string();
        let base = scratch.join("base");
        let digest = image::write_busybox_layout(&base);
        let log = std::fs::File::create(scratch.join("buildkitd.log")).expect("create a log");
        let mut command = namespaces.command(&server.display().to_string());
        command
            .args(["--config", "/dev/null", "--root", &at("data/buildkit")])
            .args(["--addr", &format!("unix://{}", at("buildkit.sock"))])
            .args(["--containerd-worker=false", "--oci-worker-binary", "runc", "--oci-worker-net", "host"])
            .args(["--oci-worker-snapshotter", "overlayfs", "--allow-insecure-entitlement", "network.host"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let daemon = command.spawn().expect("start buildkitd");
        let kit = Self { namespaces, scratch, program, daemon, base: (base, digest) };
        until("buildkitd to answer", PATIENCE, || {
            let mut command = kit.command(&["debug", "workers"]);
            command.status().is_ok_and(|status| status.success()).then_some(())
        });
        Some(kit)
    }

    /// A command of its client, silent.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.namespaces.command(&self.program.display().to_string());
        command.arg("--addr").arg(format!("unix://{}", self.scratch.join("buildkit.sock").display()));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The words by which a folder is built, but for where the result goes.
    pub fn words(&self, context: &Path) -> Vec<String> {
        let context = context.display();
        let (base, digest) = &self.base;
        let mut words: Vec<String> =
            ["build", "--progress", "plain", "--frontend", "dockerfile.v0"].map(str::to_owned).into();
        for (flag, value) in [
            ("--local", format!("context={context}")),
            ("--local", format!("dockerfile={context}")),
            ("--oci-layout", format!("base={}", base.display())),
            ("--opt", format!("context:busybox=oci-layout://base@{digest}")),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        words
    }

    /// Its namespaces.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Its scratch folder.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}

impl Drop for BuildKit {
    fn drop(&mut self) {
        drop(Command::new("kill").arg(self.daemon.id().to_string()).status());
        drop(self.daemon.wait());
    }
}
