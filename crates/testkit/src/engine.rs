//! A daemon under test, and the two command lines that speak to it.

use crate::{Namespaces, Scratch, image, until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit status; −1 after a signal.
    pub code: i32,
}

impl Output {
    /// Returns standard output of a command that succeeded, and panics with what it said otherwise.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Returns standard output without white space at its ends, of a command that succeeded.
    pub fn line(self) -> String {
        self.ok().trim().to_owned()
    }
}

/// A daemon with its own data, sockets and namespaces.
#[derive(Debug)]
pub struct Engine {
    namespaces: Namespaces,
    scratch: Scratch,
    flags: Vec<String>,
    daemon: Option<Child>,
}

impl Engine {
    /// Starts a daemon.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a daemon with further flags.
    pub fn start_with(flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut engine = Self { namespaces: Namespaces::new(), scratch: Scratch::new(), flags, daemon: None };
        std::fs::write(engine.scratch.join("daemon.json"), "{}").expect("write the daemon's configuration");
        engine.start_daemon();
        engine
    }

    /// Starts a daemon whose data lies on a file system of its own, of `megabytes`, in memory.
    pub fn on_small_disk(megabytes: u32) -> Self {
        let size = format!("size={megabytes}m");
        Self::on_mounted(|namespaces, data| {
            let mut mount = namespaces.command("mount");
            run(mount.args(["-t", "tmpfs", "-o", &size, "tmpfs", &data.display().to_string()])).ok();
        })
    }

    /// Starts a daemon whose data lies on a disk of its own, of `megabytes`.
    pub fn on_own_disk(megabytes: u64) -> Self {
        Self::on_mounted(|namespaces, data| {
            namespaces.mount_disk(&data.with_file_name("disk"), data, megabytes);
        })
    }

    fn on_mounted(mount: impl FnOnce(&Namespaces, &Path)) -> Self {
        let mut engine =
            Self { namespaces: Namespaces::new(), scratch: Scratch::new(), flags: Vec::new(), daemon: None };
        std::fs::write(engine.scratch.join("daemon.json"), "{}").expect("write the daemon's configuration");
        let data = engine.scratch.join("data");
        std::fs::create_dir(&data).expect("make the data root");
        mount(&engine.namespaces, &data);
        engine.start_daemon();
        engine
    }

    /// Starts a daemon that has the image `busybox:latest`.
    pub fn with_busybox() -> Self {
        let engine = Self::start();
        engine.load_busybox("busybox:latest");
        engine
    }

    /// Loads busybox under `name`.
    pub fn load_busybox(&self, name: &str) {
        let archive = self.scratch.join("busybox.tar");
        image::write_busybox(&archive, name);
        self.wharf(&["load", "-q", "-i", &archive.display().to_string()]).ok();
    }

    /// The executable under test: the environment variable `WHARF`.
    pub fn executable() -> PathBuf {
        PathBuf::from(
            std::env::var_os("WHARF")
                .expect("WHARF names the executable under test (cargo xtask test sets it)"),
        )
    }

    /// Starts the daemon (again) and waits until it answers.
    pub fn start_daemon(&mut self) {
        self.spawn_daemon(&[]);
    }

    /// Starts the daemon again so that it dies at a failpoint, as by `kill -9`.
    pub fn doom_daemon(&mut self, point: &str) {
        self.stop_daemon();
        self.spawn_daemon(&[("WHARF_FAILPOINTS", &format!("{point}=abort"))]);
    }

    /// Waits for the end of a daemon that dies by itself, and starts the next one.
    pub fn replace_dead_daemon(&mut self) {
        self.reap_daemon();
        self.start_daemon();
    }

    fn spawn_daemon(&mut self, environment: &[(&str, &str)]) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.scratch.join("daemon.log"))
            .expect("open the daemon's log");
        let folder = self.scratch.path().display();
        let mut command = self.namespaces.command(&Self::executable().display().to_string());
        command
            .arg("daemon")
            .args(["--data-root", &format!("{folder}/data"), "--exec-root", &format!("{folder}/exec")])
            .args(["--pidfile", &format!("{folder}/pid"), "-H", &self.host()])
            .args([
                "--config-file",
                &format!("{folder}/daemon.json"),
                "--cgroup-parent",
                &self.cgroup_parent(),
            ])
            .args(&self.flags)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        self.daemon = Some(command.spawn().expect("start the daemon"));
        until("the daemon to answer", Duration::from_secs(20), || {
            let socket = self.scratch.join("wharf.sock");
            if std::os::unix::net::UnixStream::connect(socket).is_ok() {
                return Some(());
            }
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
            assert!(ended.is_none(), "the daemon ended: {}", self.daemon_log());
            None
        });
    }

    /// Gives the daemon other flags from its next start on.
    pub fn replace_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Ends the daemon as by `kill -9`, at once.
    pub fn kill_daemon(&mut self) {
        let pid = std::fs::read_to_string(self.scratch.join("pid")).expect("read the pid file");
        let killed = Command::new("kill").args(["-9", pid.trim()]).status().expect("run kill");
        assert!(killed.success(), "kill the daemon");
        self.reap_daemon();
    }

    /// Asks the daemon to end and waits for it.
    pub fn stop_daemon(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        drop(Command::new("kill").arg(daemon.id().to_string()).status());
        self.reap_daemon();
    }

    fn reap_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait().expect("wait for the daemon");
        }
    }

    /// The API's address.
    pub fn host(&self) -> String {
        format!("unix://{}", self.scratch.join("wharf.sock").display())
    }

    /// The engine's own parent of control groups.
    pub fn cgroup_parent(&self) -> String {
        let name = self.scratch.path().file_name().and_then(|name| name.to_str()).unwrap_or("wharf-test");
        format!("/{name}")
    }

    /// The folder of the engine's data, sockets and logs.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The namespaces it runs in.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// What the daemon has logged.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("daemon.log")).unwrap_or_default()
    }

    /// Returns our own command line, ready for arguments.
    pub fn wharf_command(&self) -> Command {
        self.command(&Self::executable().display().to_string())
    }

    /// Returns `program` inside the namespaces, with the engine's address in its environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.namespaces.command(program);
        command.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.scratch.join("config"));
        command
    }

    /// Runs our own command line.
    pub fn wharf(&self, arguments: &[&str]) -> Output {
        run(self.wharf_command().args(arguments))
    }

    /// Runs Docker's command line.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        run(self.command("docker").args(arguments))
    }

    /// Runs `program` in the namespaces.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        run(self.command(program).args(arguments))
    }

    /// Returns the control groups that exist below the engine's parent.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let parents = self.cgroup_parents();
        let entries = parents.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
        entries
            .flat_map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()))
            .collect()
    }

    /// Returns where the engine's parent of control groups may be, in each hierarchy.
    fn cgroup_parents(&self) -> Vec<PathBuf> {
        cgroup_folders(&self.cgroup_parent())
    }
}

/// Returns the folders of the control group `path` (from the root of each hierarchy) that there are.
pub fn cgroup_folders(path: &str) -> Vec<PathBuf> {
    let path = path.trim_start_matches('/');
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    hierarchies
        .map(|entry| entry.path().join(path))
        .chain([Path::new("/sys/fs/cgroup").join(path)])
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Runs a command to its end with no input.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("run a command");
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The log is what explains a failure.
            let log = self.daemon_log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            for line in tail.iter().rev() {
                drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("daemon: {line}\n")));
            }
        } else if self.daemon.is_some() {
            let containers = self.wharf(&["ps", "-aq"]).ok();
            let ids: Vec<&str> = containers.split_whitespace().collect();
            if !ids.is_empty() {
                self.wharf(&[&["rm", "-f", "-v"], ids.as_slice()].concat()).ok();
            }
        }
        self.stop_daemon();
        // What is frozen does not die.
        for group in self.cgroups() {
            for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
                let file = group.join(file);
                if file.exists() {
                    drop(std::fs::write(file, word));
                }
            }
        }
        for pid in self.namespaces.processes() {
            drop(Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status());
        }
        // Killed processes leave their groups a moment later.
        let gone = |group: &PathBuf| std::fs::remove_dir(group).is_ok() || !group.exists();
        let begin = Instant::now();
        loop {
            let left = self.cgroups().iter().filter(|group| !gone(group)).count();
            let parents = self.cgroup_parents().iter().filter(|group| !gone(group)).count();
            if left + parents == 0 || begin.elapsed() > Duration::from_secs(3) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
