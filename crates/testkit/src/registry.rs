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

    /// Makes a certificate that signs itself, `tls.crt`, and its key, `tls.key`, in `files`; returns the lines of a
    /// configuration that show it. `names` is what it is for: `DNS:localhost,IP:127.0.0.1`.
    pub fn certificate(files: &Scratch, names: &str) -> String {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=test", "-addext", &format!("subjectAltName={names}")])
            .arg("-keyout")
            .arg(files.join("tls.key"))
            .arg("-out")
            .arg(files.join("tls.crt"))
            .output()
            .expect("run openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let path = files.path().display();
        format!("http: {{tls: {{certificate: {path}/tls.crt, key: {path}/tls.key}}}}\n")
    }

    /// Makes a file of passwords, `htpasswd`, in `files`, by which `alice` has the password `secret`; returns the lines of a
    /// configuration that ask for them.
    pub fn passwords(files: &Scratch) -> String {
        let path = files.join("htpasswd");
        let line = "alice:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
        std::fs::write(&path, line).expect("write a file of passwords");
        format!("auth: {{htpasswd: {{realm: Test, path: {}}}}}\n", path.display())
    }

    /// The most memory that the registry has had, in KiB (`VmHWM`).
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("read the registry's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim_end_matches("kB").trim().parse().expect("a number of KiB")
    }

    /// Ends the registry as by `kill -9` and starts it again on the same data.
    pub fn restart(&mut self, namespaces: &Namespaces) {
        self.process.kill().expect("kill the registry");
        self.process.wait().expect("wait for the registry");
        self.process = Self::spawn(namespaces, &self.program, &self.address, &self.data);
        self.wait(namespaces);
    }

    /// Asks the registry to end, as service managers do.
    pub fn terminate(&self) {
        let sent = Command::new("kill").arg(self.process.id().to_string()).status();
        assert!(sent.expect("run kill").success());
    }

    /// Waits for the registry's end; says whether it was a regular one.
    pub fn wait_for_end(&mut self) -> bool {
        self.process.wait().expect("wait for the registry").success()
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
