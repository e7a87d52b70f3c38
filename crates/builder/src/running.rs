//! `RUN`: the key of a command, what is mounted for it, and its layer.

use crate::agent::Agent;
use crate::cache::{Inputs, Mounted};
use crate::error::{Error, Result};
use crate::evaluate::State;
use crate::job::Job;
use crate::request::Context;
use crate::stage::At;
use crate::step::{Desk, Tree, brief, chain};
use crate::transfer::{self, Options};
use crate::tree::Count;
use crate::worker::{Event, MountSource, Process, ProcessMount};
use crate::{place, tree};
use dockerfile::{Heredoc, Mount, MountKind, Network, Owner, Patterns, Run, Security, Sharing};
use oci::Platform;
use rustix::fs::{Gid, Mode, Uid};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What the kernel says to a program of another processor.
const NOT_EXECUTABLE: &str = "exec format error";
/// Where the file of a here-document with a `#!` line is.
const SCRIPTS: &str = "/dev/pipes";
/// The argument that keeps the cache mounts of some builds apart.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// The argument that names the host of commands.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// A mount with its variables expanded and its target absolute.
struct Planned {
    mount: Mount,
    target: String,
    /// What of it decides on the result.
    input: String,
}

/// Everything that is mounted for one command, gone when dropped.
#[derive(Default)]
struct Mounts {
    mounts: Vec<ProcessMount>,
    env: Vec<String>,
    /// In use until the command has ended.
    _caches: Vec<Mounted>,
    /// Reachable until the command has ended.
    _agents: Vec<Agent>,
    /// Targets in the root file system, and whether each is a folder.
    targets: Vec<(String, bool)>,
}

impl Job<'_> {
    /// `RUN`.
    pub(crate) fn run(&self, at: At<'_>, run: &Run, state: &mut State) -> Result<()> {
        let network = self.network(run)?;
        if run.security == Security::Insecure && !self.request.allow_insecure {
            return Err(Error::Invalid(
                "security.insecure is not allowed (the build needs --allow security.insecure)".to_owned(),
            ));
        }
        let devices = crate::device::devices(&run.devices, &self.request.allow_devices, self.worker)?;
        let hostname = self.request.arguments.get(HOSTNAME).cloned().flatten().unwrap_or_default();
        let planned = self.plan(run, state)?;
        let words = match &run.script {
            Some(document) => vec![format!("{SCRIPTS}/{}", document.name)],
            None => run.command.words(&state.shell()),
        };
        let diff_ids = state.config.rootfs.diff_ids.clone();
        let mut inputs = self.run_inputs(run, state, &words, &planned, &network);
        if !devices.is_empty() {
            inputs.push(("the devices".to_owned(), devices.join(" ")));
        }
        if !hostname.is_empty() {
            inputs.push(("the host's name".to_owned(), hostname.clone()));
        }
        let found = self.cached(at, &inputs, state, |_claim| {
            let desk = Desk::new(self.cache.store())?;
            let mut lower = self.lower(&diff_ids)?;
            let prepared = self.prepare(&desk, &planned, run.script.as_ref())?;
            if !prepared.targets.is_empty() {
                lower.insert(0, skeleton(&desk, &lower, &prepared.targets)?);
            }
            let mut env = state.environment();
            env.extend(state.undeclared_proxies(&self.given));
            env.extend(prepared.env.iter().cloned());
            let process = Process {
                args: words.clone(),
                env,
                user: state.config.config.user.clone(),
                directory: state.config.config.working_dir.clone(),
                lower,
                upper: desk.upper(),
                work: desk.folder.join("work"),
                mounts: prepared.mounts.clone(),
                network: network.clone(),
                privileged: run.security == Security::Insecure,
                hostname,
                devices,
            };
            // Like a container's, though there is none that could be named.
            let id = oci::Digest::sha256_of(desk.folder.as_os_str().as_encoded_bytes());
            let id = id.hex().get(..12).unwrap_or_default().to_owned();
            self.tell(Event::Running { step: at.number, id });
            let platform = state.config.platform();
            let mut is_executable = true;
            let ran = self.worker.run(&process, self.cancel, &mut |stream, bytes| {
                is_executable &= !String::from_utf8_lossy(bytes).trim_end().ends_with(NOT_EXECUTABLE);
                self.tell(Event::Output { step: at.number, stream, bytes: bytes.to_vec() });
            })?;
            if ran.code != 0 && !is_executable && !Platform::host().matches(&platform) {
                return Err(emulator(&platform));
            }
            if ran.code != 0 {
                return Err(Error::Command { command: words.join(" "), code: ran.code });
            }
            drop(prepared);
            self.adopt(&desk)
        })?;
        let arguments = self.argument_prefix(state);
        self.add(state, found, format!("RUN {arguments}{}", words.join(" ")));
        Ok(())
    }

    /// `|2 a=b c=d `, as histories have it.
    fn argument_prefix(&self, state: &State) -> String {
        if state.arguments.is_empty() {
            return String::new();
        }
        let mut text = format!("|{} ", state.arguments.len());
        for (name, value) in &state.arguments {
            text.push_str(&format!("{name}={value} "));
        }
        text
    }

    fn network(&self, run: &Run) -> Result<String> {
        match run.network {
            Network::Default => Ok(self.request.network.clone()),
            Network::None => Ok("none".to_owned()),
            Network::Host if self.request.allow_host_network || self.request.network == "host" => {
                Ok("host".to_owned())
            }
            Network::Host => Err(Error::Invalid(
                "network.host is not allowed (the build needs --allow network.host)".to_owned(),
            )),
        }
    }

    fn run_inputs(
        &self,
        run: &Run,
        state: &State,
        words: &[String],
        planned: &[Planned],
        network: &str,
    ) -> Inputs {
        let config = &state.config.config;
        let mut inputs: Inputs = vec![
            ("the layers below".to_owned(), chain(&state.config.rootfs.diff_ids)),
            ("the command".to_owned(), brief(&format!("{words:?}"))),
            ("the user".to_owned(), config.user.clone()),
            ("the working directory".to_owned(), config.working_dir.clone()),
            ("the network".to_owned(), network.to_owned()),
            ("the hosts".to_owned(), brief(&self.worker.surroundings())),
            ("the security mode".to_owned(), format!("{:?}", run.security)),
        ];
        if let Some(document) = &run.script {
            inputs.push(("the script".to_owned(), brief(&document.content())));
        }
        let arguments: Vec<&str> = state.arguments.iter().map(|(name, _)| name.as_str()).collect();
        for entry in state.environment() {
            let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
            let kind = if arguments.contains(&name) { "the argument" } else { "the variable" };
            inputs.push((format!("{kind} {name}"), brief(value)));
        }
        for mount in planned {
            inputs.push((format!("the mount at {}", mount.target), mount.input.clone()));
        }
        if let Some(epoch) = self.epoch {
            inputs.push(("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string()));
        }
        inputs
    }

    /// Expands the mounts and finds out what of them decides on the result.
    fn plan(&self, run: &Run, state: &State) -> Result<Vec<Planned>> {
        let mut planned = Vec::new();
        let mut sockets = 0;
        for text in &run.mounts {
            let text = state.expand(text).map_err(Error::Invalid)?;
            let mount = Mount::parse(&text).map_err(Error::Invalid)?;
            let target = match &mount.target {
                Some(target) => state.path(target).trim_end_matches('/').to_owned(),
                None if matches!(mount.kind, MountKind::Ssh { .. }) => {
                    format!("/run/buildkit/ssh_agent.{sockets}")
                }
                None => String::new(),
            };
            if matches!(mount.target.as_deref(), Some("/" | "")) {
                return Err(Error::Invalid(format!("invalid mount target {:?}", mount.target)));
            }
            let input = match &mount.kind {
                MountKind::Bind { from, source } => {
                    let digest = match self.tree(from.as_deref())? {
                        Tree::Layers(diff_ids) => format!("{} {source}", chain(&diff_ids)),
                        Tree::Folder(context) => {
                            let root = sys::path::open_directory(&context.folder).map_err(Error::system)?;
                            let found = tree::find(root.as_fd(), source)?;
                            let count = Count { owners: false, known: context.known.as_ref() };
                            let look = || tree::digest_of(&found, count, &Patterns::default());
                            let digest = match &context.known {
                                Some(known) => self.cache.digest(&known.part(source, "bind"), look)?,
                                None => look()?,
                            };
                            digest.to_string()
                        }
                    };
                    format!("bind {digest} {}", mount.writable)
                }
                // What is in them does not count: neither a cache's content nor a secret's value.
                MountKind::Cache { id, .. } => format!("cache {id:?}"),
                MountKind::Tmpfs { size } => format!("tmpfs {size:?}"),
                MountKind::Secret { id, env, .. } => format!("secret {id} {env:?}"),
                MountKind::Ssh { id, .. } => {
                    sockets += 1;
                    format!("ssh {id}")
                }
            };
            planned.push(Planned { mount, target, input });
        }
        Ok(planned)
    }

    /// Makes what is to be mounted.
    fn prepare(&self, desk: &Desk, planned: &[Planned], script: Option<&Heredoc>) -> Result<Mounts> {
        let mut all = Mounts::default();
        for (index, Planned { mount, target, .. }) in planned.iter().enumerate() {
            let (source, is_folder) = match &mount.kind {
                MountKind::Bind { from, source } => {
                    self.bind(desk, &self.tree(from.as_deref())?, source, mount.writable, index)?
                }
                MountKind::Cache { id, from, source, sharing, owner } => {
                    let id = self.cache_mount_id(id.as_deref().unwrap_or(target));
                    let mounted = self.cache_mount(&id, *sharing)?;
                    let data = mounted.folder.join("data");
                    if mounted.is_new || !data.exists() {
                        self.fill(desk, &data, from.as_deref(), source, *owner)?;
                        self.take_mount(desk, &id, &data)?;
                    }
                    self.note_mount(&id);
                    all._caches.push(mounted);
                    (MountSource::Path(data), true)
                }
                MountKind::Tmpfs { size } => (MountSource::Memory(*size), true),
                MountKind::Secret { id, env, required, owner } => {
                    let Some(secret) = self.request.secrets.get(id) else {
                        if *required {
                            return Err(Error::NotFound(format!("secret {id}: not found")));
                        }
                        continue;
                    };
                    if let Some(name) = env {
                        all.env.push(format!("{name}={}", String::from_utf8_lossy(&secret.0)));
                    }
                    if target.is_empty() {
                        continue;
                    }
                    let place = memory_file(desk, index, &secret.0, *owner)?;
                    (MountSource::Path(place), false)
                }
                MountKind::Ssh { id, required, owner } => {
                    let Some(socket) = self.request.agents.get(id) else {
                        if *required {
                            return Err(Error::NotFound(format!("unset ssh forward key {id}")));
                        }
                        continue;
                    };
                    all.env.push(format!("SSH_AUTH_SOCK={target}"));
                    let agent = Agent::forward(&desk.folder, &format!("agent-{index}"), socket, *owner)?;
                    let source = MountSource::Path(agent.path.clone());
                    all._agents.push(agent);
                    (source, false)
                }
            };
            all.targets.push((target.clone(), is_folder));
            let writable =
                mount.writable || matches!(mount.kind, MountKind::Tmpfs { .. } | MountKind::Ssh { .. });
            all.mounts.push(ProcessMount { target: target.clone(), source, writable });
        }
        if let Some(document) = script {
            let owner = Owner { mode: 0o755, uid: 0, gid: 0 };
            let place = memory_file(desk, planned.len(), document.content().as_bytes(), owner)?;
            let target = format!("{SCRIPTS}/{}", document.name);
            all.mounts.push(ProcessMount { target, source: MountSource::Path(place), writable: false });
        }
        // The kernel's own file systems cover these.
        all.targets.retain(|(target, _)| {
            !["/dev/", "/proc/", "/sys/"].iter().any(|covered| target.starts_with(covered))
        });
        Ok(all)
    }

    /// A part of a tree as a mount's source, and whether it is a folder. What is written to it is thrown away.
    fn bind(
        &self,
        desk: &Desk,
        tree: &Tree,
        source: &str,
        writable: bool,
        index: usize,
    ) -> Result<(MountSource, bool)> {
        let (root, base) = match tree {
            Tree::Folder(Context { folder, .. }) => {
                (sys::path::open_directory(folder).map_err(Error::system)?, folder.clone())
            }
            Tree::Layers(diff_ids) => {
                let place = desk.make(&format!("mounts/{index}"))?;
                let view = desk.view(&self.lower(diff_ids)?)?;
                if diff_ids.is_empty() {
                    (view, desk.folder.join("empty"))
                } else {
                    sys::mount::attach_at(view.as_fd(), &place).map_err(Error::system)?;
                    (sys::path::open_directory(&place).map_err(Error::system)?, place)
                }
            }
        };
        let found = tree::find(root.as_fd(), source)?;
        let one =
            found.into_iter().next().ok_or_else(|| Error::NotFound(format!("{source} is not there")))?;
        let mut path = base;
        for name in &one.place.path {
            path.push(std::ffi::OsStr::from_bytes(name));
        }
        let is_folder = one.place.is_folder();
        if !writable {
            return Ok((MountSource::Path(path), is_folder));
        }
        if !is_folder {
            let copy = desk.folder.join(format!("file-{index}"));
            std::fs::copy(&path, &copy).map_err(Error::file("copy", &path))?;
            return Ok((MountSource::Path(copy), false));
        }
        let (upper, work) = (format!("upper-{index}"), format!("work-{index}"));
        desk.make(&upper)?;
        desk.make(&work)?;
        let place = desk.make(&format!("mounts/rw-{index}"))?;
        let overlay = desk.overlay(&[path], &upper, &work)?;
        sys::mount::attach_at(overlay.as_fd(), &place).map_err(Error::system)?;
        Ok((MountSource::Path(place), true))
    }

    fn cache_mount_id(&self, id: &str) -> String {
        let namespace = self.request.arguments.get(CACHE_NAMESPACE).cloned().flatten().unwrap_or_default();
        if namespace.is_empty() { id.to_owned() } else { format!("{namespace}/{id}") }
    }

    fn cache_mount(&self, id: &str, sharing: Sharing) -> Result<Mounted> {
        self.cache.mount(id, sharing == Sharing::Locked, sharing == Sharing::Private, self.cancel)
    }

    /// Gives a new cache mount its first content.
    fn fill(&self, desk: &Desk, data: &Path, from: Option<&str>, source: &str, owner: Owner) -> Result<()> {
        std::fs::create_dir_all(data).map_err(Error::file("create", data))?;
        if from.is_some() {
            let root = match self.tree(from)? {
                Tree::Folder(context) => sys::path::open_directory(&context.folder).map_err(Error::system)?,
                Tree::Layers(diff_ids) => desk.view(&self.lower(&diff_ids)?)?,
            };
            let found = tree::find(root.as_fd(), source)?;
            let to = std::fs::File::open(data).map_err(Error::file("open", data))?;
            transfer::copy(&found, to.as_fd(), "/", &Options::default())?;
        }
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::chown(data, Some(uid), Some(gid)).map_err(Error::file("chown", data))?;
        rustix::fs::chmod(data, Mode::from_raw_mode(owner.mode)).map_err(Error::file("chmod", data))
    }
}

/// What a command of another platform needs.
fn emulator(platform: &Platform) -> Error {
    Error::Invalid(format!(
        "commands of {platform} need an emulator on this host, registered in binfmt_misc with the flag F (as Debian's qemu-user-static does)"
    ))
}

/// Makes the places that things are mounted on, in a layer of their own on top of the others: the command finds them,
/// and its own layer has nothing of them.
fn skeleton(desk: &Desk, lower: &[PathBuf], targets: &[(String, bool)]) -> Result<PathBuf> {
    let layer = desk.make("places")?;
    desk.make("places-work")?;
    let root = desk.overlay(lower, "places", "places-work")?;
    let make = place::Make { uid: 0, gid: 0 };
    for (target, is_folder) in targets {
        let failed = || Error::name("create the mount point", target.as_bytes());
        let found = place::find(root.as_fd(), target.as_bytes(), true, Some(make)).map_err(failed())?;
        if found.stat.is_some() {
            continue;
        }
        let (parent, name) = (&found.parent, found.name.as_slice());
        if *is_folder {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(failed())?;
        } else {
            rustix::fs::mknodat(
                parent,
                name,
                rustix::fs::FileType::RegularFile,
                Mode::from_raw_mode(0o644),
                0,
            )
            .map_err(failed())?;
        }
    }
    Ok(layer)
}

/// Writes a file that never reaches a disk.
fn memory_file(desk: &Desk, index: usize, bytes: &[u8], owner: Owner) -> Result<PathBuf> {
    let place = desk.make(&format!("mounts/file-{index}"))?;
    let memory = sys::mount::tmpfs(&[("mode", "0700")], 0).map_err(Error::system)?;
    sys::mount::attach_at(memory.as_fd(), &place).map_err(Error::system)?;
    let path = place.join("file");
    std::fs::write(&path, bytes).map_err(Error::file("write", &path))?;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::chown(&path, Some(uid), Some(gid)).map_err(Error::file("chown", &path))?;
    rustix::fs::chmod(&path, Mode::from_raw_mode(owner.mode)).map_err(Error::file("chmod", &path))?;
    Ok(path)
}
