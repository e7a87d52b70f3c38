//! Debian's docker-registry on a loopback port of a test's network namespace.

use crate::{Namespaces, Scratch, until};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A registry at `127.0.0.1:5000` inside the namespaces it was started in.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    _data: Scratch,
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
        let data = Scratch::new();
        let config = data.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{}\"}}\n{further}",
            data.path().display(),
            Self::HOST
        );
        std::fs::write(&config, text).expect("write the registry's configuration");
        let mut command = namespaces.command("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("start docker-registry");
        let registry = Self { process, _data: data };
        until("the registry to answer", Duration::from_secs(20), || {
            let mut curl = namespaces.command("curl");
            curl.args(["-s", "-o", "/dev/null", &format!("http://{}/v2/", Self::HOST)]);
            curl.status().is_ok_and(|status| status.success()).then_some(())
        });
        registry
    }

    /// Copies a docker archive to `NAME` (repository and tag) in the registry.
    pub fn push(&self, namespaces: &Namespaces, archive: &Path, name: &str) {
        let mut command: Command = namespaces.command("skopeo");
        command.args(["copy", "-q", "--dest-tls-verify=false"]);
        command
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{name}", Self::HOST));
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
