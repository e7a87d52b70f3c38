//! The engines that are compared.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::{BuildKit, Engine, Namespaces, Scratch, image, until};

/// The size of each engine's disk in MiB; it only takes what is written.
const DISK: u64 = 16 << 10;

/// One engine, running, with `busybox:latest` in its store.
#[derive(Debug)]
pub(crate) enum Peer {
    Wharf(Box<Engine>),
    Docker {
        namespaces: Namespaces,
        scratch: Scratch,
        daemon: Child,
    },
    Podman {
        namespaces: Namespaces,
        scratch: Scratch,
    },
    /// Only for images: it has no command line that runs containers as the others do.
    Containerd {
        namespaces: Namespaces,
        scratch: Scratch,
        daemon: Child,
    },
    /// Only for builds.
    Buildah {
        namespaces: Namespaces,
        scratch: Scratch,
    },
    /// Only for builds.
    BuildKit(Box<BuildKit>),
}

impl Peer {
    /// Starts Wharf and every peer that is installed.
    pub(crate) fn all() -> Vec<Self> {
        let mut peers = vec![Self::Wharf(Box::new(Engine::on_own_disk(DISK)))];
        peers.extend(installed("dockerd").then(Self::docker));
        peers.extend(installed("podman").then(Self::podman));
        let files = Scratch::new();
        let archive = files.join("busybox.tar");
        image::write_busybox(&archive, "docker.io/library/busybox:latest");
        for peer in &peers {
            peer.ok(&["load", "-q", "-i", &archive.display().to_string()]);
        }
        // A peer that is installed may still be unable to run here (podman wants rlimits that not every root may set).
        peers.retain(|peer| {
            let runs = peer
                .command(&["run", "--rm", "busybox", "true"])
                .status()
                .is_ok_and(|status| status.success());
            if !runs {
                eprintln!("cannot run a container here, left out: {}", peer.name());
            }
            runs || matches!(peer, Self::Wharf(_))
        });
        peers
    }

    /// Returns the names of peers that are not there.
    pub(crate) fn absent(present: &[Self]) -> Vec<&'static str> {
        let has = |name: &str| present.iter().any(|peer| peer.name() == name);
        ["docker", "podman"].into_iter().filter(|name| !has(name)).collect()
    }

    fn docker() -> Self {
        let (namespaces, scratch) = place();
        let folder = scratch.path().display();
        let mut command = namespaces.command("dockerd");
        command
            .args(["--data-root", &format!("{folder}/data"), "--exec-root", &format!("{folder}/exec")])
            .args(["-p", &format!("{folder}/pid"), "-H", &format!("unix://{folder}/docker.sock")])
            .args(["--cgroup-parent", &format!("/{}", name_of(scratch.path()))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let daemon = command.spawn().expect("start dockerd");
        Self::Docker { namespaces, scratch, daemon }.answering()
    }

    /// Waits until its daemon answers.
    fn answering(self) -> Self {
        until(&format!("{} to answer", self.name()), Duration::from_secs(60), || {
            self.command(&["version"]).status().is_ok_and(|status| status.success()).then_some(())
        });
        self
    }

    fn podman() -> Self {
        let (namespaces, scratch) = place();
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        std::fs::write(scratch.join("containers.conf"), limits).expect("write podman's configuration");
        Self::Podman { namespaces, scratch }
    }

    /// Starts containerd, if it is installed.
    pub(crate) fn containerd() -> Option<Self> {
        if !installed("containerd") || !installed("ctr") {
            return None;
        }
        let (namespaces, scratch) = place();
        let mut command = namespaces.command("containerd");
        command
            .arg("-c")
            .arg(testkit::containerd_config(&scratch, "data/root"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let daemon = command.spawn().expect("start containerd");
        Some(Self::Containerd { namespaces, scratch, daemon }.answering())
    }

    /// Starts buildah, if it is installed, with the image.
    pub(crate) fn buildah() -> Option<Self> {
        if !installed("buildah") {
            return None;
        }
        let (namespaces, scratch) = place();
        let archive = scratch.join("busybox.tar");
        image::write_busybox(&archive, "docker.io/library/busybox:latest");
        let peer = Self::Buildah { namespaces, scratch };
        peer.ok(&["pull", "-q", &format!("docker-archive:{}", archive.display())]);
        Some(peer)
    }

    /// Starts `BuildKit`, if `cargo xtask peers` has made it.
    pub(crate) fn buildkit() -> Option<Self> {
        let (namespaces, scratch) = place();
        BuildKit::start(namespaces, scratch).map(|kit| Self::BuildKit(Box::new(kit)))
    }

    /// Builds a folder as `bench`, and saves it as an archive if asked.
    pub(crate) fn build(&self, folder: &Path, cold: bool, save: Option<&Path>) {
        let context = folder.display().to_string();
        let mut words: Vec<String> = Vec::new();
        match self {
            Self::Buildah { .. } => {
                // Processes in a changed root: of the other kinds crun refuses to run beside version 1 control groups.
                let flags = ["bud", "-q", "--isolation", "chroot", "--pull-never", "--layers", "-t", "bench"];
                words.extend(flags.map(str::to_owned));
            }
            Self::BuildKit(kit) => {
                words = kit.words(folder);
                words.push("--output".to_owned());
                words.push(match save {
                    None => "type=image,name=bench".to_owned(),
                    Some(archive) => format!("type=oci,compression=gzip,dest={}", archive.display()),
                });
            }
            _ => words.extend(["build", "-q", "-t", "bench"].map(str::to_owned)),
        }
        if cold {
            words.push("--no-cache".to_owned());
        }
        if !matches!(self, Self::BuildKit(_)) {
            words.push(context);
        }
        self.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let Some(archive) = save else { return };
        let archive = archive.display().to_string();
        match self {
            Self::BuildKit(_) => {}
            Self::Buildah { .. } => {
                drop(std::fs::remove_file(&archive));
                self.ok(&["push", "-q", "--format", "oci", "bench", &format!("oci-archive:{archive}:bench")]);
            }
            _ => self.ok(&["save", "-o", &archive, "bench"]),
        }
    }

    /// The name of its command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Wharf(_) => "wharf",
            Self::Docker { .. } => "docker",
            Self::Podman { .. } => "podman",
            Self::Containerd { .. } => "containerd",
            Self::Buildah { .. } => "buildah",
            Self::BuildKit(_) => "buildkit",
        }
    }

    /// Returns a command of its command line, silent.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self {
            Self::Wharf(engine) => engine.wharf_command(),
            Self::Docker { namespaces, scratch, .. } => {
                let mut command = namespaces.command("docker");
                command.env("DOCKER_HOST", format!("unix://{}", scratch.join("docker.sock").display()));
                command.env("DOCKER_BUILDKIT", "0");
                command
            }
            Self::Podman { namespaces, scratch } => {
                let mut command = namespaces.command("podman");
                command.env("CONTAINERS_CONF", scratch.join("containers.conf"));
                command.args(["--root", &scratch.join("data/root").display().to_string()]);
                command.args(["--runroot", &scratch.join("run").display().to_string()]);
                command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
                if hybrid() {
                    command.args(["--runtime", "runc"]);
                }
                command
            }
            Self::Containerd { namespaces, scratch, .. } => {
                let mut command = namespaces.command("ctr");
                command.args(["-a", &scratch.join("sock").display().to_string()]);
                command
            }
            Self::Buildah { namespaces, scratch } => {
                let mut command = namespaces.command("buildah");
                command.args(["--root", &scratch.join("data/root").display().to_string()]);
                command.args(["--runroot", &scratch.join("run").display().to_string()]);
                command.args(["--storage-driver", "overlay"]).env("TMPDIR", scratch.path());
                command
            }
            Self::BuildKit(kit) => kit.command(&[]),
        };
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs a command that has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) {
        let output = self.command(arguments).stderr(Stdio::piped()).output().expect("run a command line");
        assert!(
            output.status.success(),
            "{} {arguments:?}: {}",
            self.name(),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The namespaces it runs in.
    pub(crate) fn namespaces(&self) -> &Namespaces {
        match self {
            Self::Wharf(engine) => engine.namespaces(),
            Self::Docker { namespaces, .. }
            | Self::Podman { namespaces, .. }
            | Self::Containerd { namespaces, .. }
            | Self::Buildah { namespaces, .. } => namespaces,
            Self::BuildKit(kit) => kit.namespaces(),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        match self {
            Self::Wharf(_) => {}
            Self::Docker { scratch, daemon, .. } => {
                drop(Command::new("kill").arg(daemon.id().to_string()).status());
                drop(daemon.wait());
                unmount_below(scratch.path());
                // runc leaves the parent of containers' groups.
                for folder in testkit::cgroup_folders(&name_of(scratch.path())) {
                    drop(std::fs::remove_dir(folder));
                }
            }
            Self::Podman { scratch, .. } | Self::Buildah { scratch, .. } => unmount_below(scratch.path()),
            // Its own value ends it, after what is mounted there was let go of.
            Self::BuildKit(kit) => unmount_below(kit.scratch().path()),
            Self::Containerd { scratch, daemon, .. } => {
                drop(daemon.kill());
                drop(daemon.wait());
                unmount_below(scratch.path());
            }
        }
    }
}

/// Namespaces, and a folder in which `data` is a disk of its own: the machine's may be one without a journal, on which everything
/// is slow that is made when much was removed a moment ago.
fn place() -> (Namespaces, Scratch) {
    let (namespaces, scratch) = (Namespaces::new(), Scratch::new());
    let data = scratch.join("data");
    std::fs::create_dir(&data).expect("make a folder");
    namespaces.mount_disk(&scratch.join("disk"), &data, DISK);
    (namespaces, scratch)
}

/// Whether version 1 control groups stand beside a version 2 hierarchy, which crun, podman's own choice, refuses.
fn hybrid() -> bool {
    Path::new("/sys/fs/cgroup/memory").is_dir()
}

pub(crate) fn installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file())
}

fn name_of(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("bench").to_owned()
}

/// Lets go of mounts that an engine left visible here.
fn unmount_below(folder: &Path) {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = folder.display().to_string();
    for point in
        table.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&below))
    {
        drop(Command::new("umount").args(["-l", point]).status());
    }
}
