//! A registry on a loopback port of a test's network namespace: Debian's docker-registry, or our own.

use crate::{Engine, Namespaces, Scratch, until};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A registry inside the namespaces it was started in, at `127.0.0.1:5000` unless it was told otherwise.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    program: String,
    data: Scratch,
    address: String,
}

impl Registry {
    /// The registry's host and port.
    pub const HOST: &'static str = "127.0.0.1:5000";

    /// Starts an open registry.
    pub fn start(namespaces: &Namespaces) -> Self {
        Self::start_with(namespaces, "")
    }

    /// Starts a registry with further lines in its configuration.
    pub fn start_with(namespaces: &Namespaces, further: &str) -> Self {
        Self::launch(namespaces, "docker-registry", Self::HOST, further)
    }

    /// Starts the registry of the executable under test at `address`, with further lines in its configuration.
    pub fn start_own(namespaces: &Namespaces, address: &str, further: &str) -> Self {
        let program = format!("{} registry", Engine::executable().display());
        Self::launch(namespaces, &program, address, further)
    }

    fn launch(namespaces: &Namespaces, program: &str, address: &str, further: &str) -> Self {
        let data = Scratch::new();
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n{further}",
            data.path().display(),
        );
        std::fs::write(data.join("config.yml"), text).expect("write the registry's configuration");
        let process = Self::spawn(namespaces, program, address, &data);
        let registry = Self { process, program: program.to_owned(), data, address: address.to_owned() };
        registry.wait(namespaces);
        registry
    }

    fn spawn(namespaces: &Namespaces, program: &str, address: &str, data: &Scratch) -> Child {
        let mut words = program.split(' ');
        let mut command = namespaces.command(words.next().unwrap_or_default());
        let log =
            std::fs::File::options().create(true).append(true).open(data.join("log")).expect("open a log");
        command.args(words).arg("serve").arg(data.join("config.yml")).env("REGISTRY_HTTP_ADDR", address);
        command.stdout(Stdio::null()).stderr(log).spawn().expect("start a registry")
    }

    fn wait(&self, namespaces: &Namespaces) {
        until("the registry to answer", Duration::from_secs(20), || {
            let answers = |scheme: &str| {
                let mut curl = namespaces.command("curl");
                curl.args(["-sk", "-o", "/dev/null", &format!("{scheme}://{}/v2/", self.address)]);
                curl.status().is_ok_and(|status| status.success())
            };
            (answers("http") || answers("https")).then_some(())
        });
    }

    /// Ends the registry as by `kill -9` and starts it again on the same data.
    pub fn restart(&mut self, namespaces: &Namespaces) {
        self.process.kill().expect("kill the registry");
        self.process.wait().expect("wait for the registry");
        self.process = Self::spawn(namespaces, &self.program, &self.address, &self.data);
        self.wait(namespaces);
    }

    /// The folder of its data, configuration and log.
    pub fn folder(&self) -> &Path {
        self.data.path()
    }

    /// Copies a docker archive to `NAME` (repository and tag) in the registry.
    pub fn push(&self, namespaces: &Namespaces, archive: &Path, name: &str) {
        let mut command: Command = namespaces.command("skopeo");
        command.args(["copy", "-q", "--dest-tls-verify=false"]);
        command
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{name}", self.address));
        let output = command.output().expect("run skopeo");
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
