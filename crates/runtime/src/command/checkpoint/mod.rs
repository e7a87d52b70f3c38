//! `checkpoint`, `restore`: a container's processes into files and back, by CRIU.
//!
//! The program `criu` of the distribution does it; what it is told is decided by pure functions here. Mounts of the host's
//! are told by their place, so that the same sources are mounted again; pipes that were standard streams are replaced by those
//! of `restore`. `descriptors.json` in the image has the streams, as runc writes it.
//!
//! Not there, and refused: containers with a terminal (CRIU gives one back only to who speaks its RPC), hooks that run before a
//! program or in its root (it runs already), and `--no-pivot` (the root is changed by CRIU).

use super::arguments::{Flag, Parsed};
use super::create::{self, hand_over_pid};
use super::group::{self, Group};
use super::record::{self, Record};
use super::{Failure, Globals, console, control, now};
use crate::create::resources;
use crate::hooks;
use crate::prepare::{Extras, open_root};
use crate::{Init, Rootfs};
use cgroups::Cgroup;
use oci::runtime::{Hooks, Linux, NamespaceKind, Spec, Status};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) const CHECKPOINT_FLAGS: &[Flag] = &[
    Flag::value("image-path", "directory of the image (default: \"checkpoint\")"),
    Flag::value("work-path", "directory of logs and work files (default: that of the image)"),
    Flag::value("parent-path", "the image of a pre-dump before, relative to this one"),
    Flag::switch("leave-running", "let the container run on"),
    Flag::switch("tcp-established", "take TCP connections along"),
    Flag::switch("ext-unix-sk", "allow unix sockets to the outside"),
    Flag::switch("shell-job", "allow a session begun outside"),
    Flag::switch("lazy-pages", "memory is fetched when it is used"),
    Flag::value("status-fd", "descriptor that criu writes a NUL to when it can be asked for pages"),
    Flag::value("page-server", "where memory is sent to, as ADDRESS:PORT"),
    Flag::switch("file-locks", "take file locks along"),
    Flag::switch("pre-dump", "memory only; the container runs on"),
    Flag::value("manage-cgroups-mode", "soft, full, strict or ignore (default: \"soft\")"),
    Flag::value("empty-ns", "a namespace that is made but not filled: network"),
    Flag::switch("auto-dedup", "drop pages of an earlier image that are there again"),
    Flag::switch("link-remap", "give removed files that are still open a name for the time being"),
];

pub(super) const RESTORE_FLAGS: &[Flag] = &[
    Flag::value("image-path", "directory of the image (default: \"checkpoint\")"),
    Flag::value("work-path", "directory of logs and work files (default: that of the image)"),
    Flag::switch("tcp-established", "take TCP connections along"),
    Flag::switch("ext-unix-sk", "allow unix sockets to the outside"),
    Flag::switch("shell-job", "allow a session begun outside"),
    Flag::switch("lazy-pages", "memory is fetched when it is used"),
    Flag::switch("file-locks", "take file locks along"),
    Flag::value("manage-cgroups-mode", "soft, full, strict or ignore (default: \"soft\")"),
    Flag::value("bundle", "directory of the bundle (default: the present one)").short('b'),
    Flag::switch("detach", "do not wait for the end of the process").short('d'),
    Flag::value("console-socket", "unix socket that is sent the master of the terminal"),
    Flag::value("pid-file", "file to write the number of the process to"),
    // Nothing to turn off: this runtime is never a subreaper.
    Flag::switch("no-subreaper", "accepted for compatibility: this runtime is never a subreaper"),
    Flag::switch("no-pivot", "change the root without pivot_root, as a root on a ramdisk needs it"),
    Flag::value("empty-ns", "a namespace that is made but not filled: network"),
    Flag::switch("auto-dedup", "drop pages of an earlier image that are there again"),
    Flag::switch("link-remap", "give removed files that are still open a name for the time being"),
    Flag::value("lsm-profile", "profile of a security module to restore with, as TYPE:NAME"),
    Flag::value("lsm-mount-context", "context of the mounts to restore with"),
];

/// The folder of the image unless it is named, in the present one.
const IMAGE: &str = "checkpoint";
/// The standard streams, in the image.
const DESCRIPTORS: &str = "descriptors.json";
/// Where the network namespace is given to CRIU, and what it is called in the image.
const NETWORK_DESCRIPTOR: i32 = 10;
const NETWORK: &str = "extRootNetNS";

pub(super) fn checkpoint(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let record = Record::load(&directory)?;
    match record.status(&directory) {
        Status::Running | Status::Paused => {}
        status => {
            return Err(format!("container cannot be checkpointed in {status:?} state")
                .to_lowercase()
                .into());
        }
    }
    check(&record.spec)?;
    let criu = Criu::find(globals, flags)?;
    std::fs::create_dir_all(&criu.image)
        .map_err(|error| format!("make {}: {error}", criu.image.display()))?;
    let pre_dump = flags.has("pre-dump");
    let mut arguments = shared_arguments(flags)?;
    arguments.extend(["--tree".to_owned(), record.pid.to_string()]);
    arguments.extend(["--root".to_owned(), record.rootfs.display().to_string()]);
    arguments.extend(dump_arguments(flags)?);
    if let Some(freezer) = record.cgroup()?.directory("freezer") {
        arguments.extend(["--freeze-cgroup".to_owned(), freezer.display().to_string()]);
    }
    if !pre_dump {
        arguments.extend(external(&record)?);
        std::fs::write(criu.image.join(DESCRIPTORS), serde_json::to_vec(&streams(record.pid)?)?)?;
    }
    let told = flags.value("status-fd").map(status_descriptor).transpose()?;
    if let Some((_, number)) = &told {
        arguments.extend(["--status-fd".to_owned(), number.to_string()]);
    }
    let given = told.as_ref().map(|(descriptor, number)| (descriptor, *number));
    criu.run(if pre_dump { "pre-dump" } else { "dump" }, &arguments, given.as_slice())?;
    if !pre_dump && !flags.has("leave-running") {
        control::destroy(&record, &directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let bundle = std::path::absolute(flags.value("bundle").unwrap_or("."))?;
    let spec = create::load_spec(&bundle)?;
    check(&spec)?;
    console::check(flags, false, flags.has("detach"))?;
    if flags.has("no-pivot") {
        return Err("--no-pivot cannot be had at a restore: criu changes the root by pivot_root".into());
    }
    if let Some(name) = spec.hooks.as_ref().and_then(skipped_hooks) {
        return Err(format!("hooks.{name} cannot be run at a restore").into());
    }
    let criu = Criu::find(globals, flags)?;
    if !criu.image.is_dir() {
        return Err(format!("no image at {}", criu.image.display()).into());
    }
    std::fs::create_dir_all(&globals.root)?;
    match std::fs::create_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err("container with given ID already exists".into());
        }
        other => other?,
    }
    let made = made_known(globals, flags, &criu, (spec, &directory, &bundle));
    if made.is_err() {
        std::fs::remove_dir_all(&directory).ok();
    }
    let record = made?;
    let process = record.process().ok_or("the container's process has ended")?;
    let handed = hand_over_pid(flags, &record).and_then(|()| {
        let hooks = record.spec.hooks.clone().unwrap_or_default();
        Ok(hooks::run(&hooks.poststart, &record.state(Status::Running))?)
    });
    if flags.has("detach") && handed.is_ok() {
        return Ok(ExitCode::SUCCESS);
    }
    let exit = handed.and_then(|()| console::attend(process.as_fd(), None));
    control::destroy(&record, &directory)?;
    Ok(ExitCode::from(u8::try_from(exit?.code()).unwrap_or(255)))
}

/// A container to go on from an image.
#[derive(Debug)]
pub struct Restore {
    /// The folder of the image.
    pub image: PathBuf,
    /// A folder for CRIU's log and for what is mounted meanwhile; must exist.
    pub work: PathBuf,
    /// What the container is called.
    pub id: String,
    /// The document.
    pub spec: Spec,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Whether the cgroup is a scope of the host's systemd.
    pub systemd: bool,
    /// What takes the place of the pipes that were descriptors 0, 1 and 2.
    pub streams: [OwnedFd; 3],
}

/// Has a container's processes made from an image, by CRIU. The init is a child of the calling thread, and dies with it if it was
/// made by [`create`](crate::create) for who stays.
///
/// The root is mounted in the calling thread's mount namespace meanwhile, which should be its own.
///
/// # Errors
///
/// [`Error::Criu`](crate::Error::Criu); the cgroup is gone again then.
pub fn restore_here(order: Restore) -> Result<Init, crate::Error> {
    revive_here(order).map_err(|failure| crate::Error::Criu(failure.to_string()))
}

fn revive_here(order: Restore) -> Result<Init, Failure> {
    let Restore { image, work, id, spec, rootfs, systemd, streams } = order;
    check(&spec)?;
    let criu = Criu { program: Criu::program(None)?, image, work };
    let root = open_root(&rootfs)?;
    let [stdin, stdout, stderr] = streams.each_ref().map(AsFd::as_fd);
    let order =
        Revival { id: &id, spec: &spec, root, directory: &criu.work, manager: group::manager(systemd)? };
    let Revived { pid, group } = revive(&Parsed::default(), &criu, order, [stdin, stdout, stderr])?;
    let pidfd = sys::pidfd::open(pid)?;
    Ok(Init { pid, pidfd, cgroup: group.cgroup })
}

/// The same for a command, which keeps a record of it.
fn made_known(
    globals: &Globals,
    flags: &Parsed,
    criu: &Criu,
    (spec, directory, bundle): (Spec, &Path, &Path),
) -> Result<Record, Failure> {
    let id = flags.positional.first().cloned().unwrap_or_default();
    let root = spec.root.clone().ok_or("root property must not be empty")?;
    let rootfs = bundle.join(&root.path);
    // Nothing of it is seen by the host, and all goes with this process.
    sys::namespace::unshare(&[sys::namespace::Namespace::Mount])?;
    sys::mount::isolate()?;
    let root = sys::mount::bind(&rootfs, true)?;
    let manager = group::manager(globals.systemd)?;
    let order = Revival { id: &id, spec: &spec, root, directory, manager };
    let streams = [
        std::io::stdin().as_fd().try_clone_to_owned()?,
        std::io::stdout().as_fd().try_clone_to_owned()?,
        std::io::stderr().as_fd().try_clone_to_owned()?,
    ];
    let Revived { pid, group } = revive(flags, criu, order, streams.each_ref().map(AsFd::as_fd))?;
    let recorded = (|| {
        let (start_time, _) = record::process_times(pid).ok_or("the container's process has ended")?;
        let record = Record {
            id: id.clone(),
            pid,
            start_time,
            bundle: bundle.to_owned(),
            rootfs,
            created: now(),
            cgroup: group.path.clone(),
            systemd: group.systemd.clone(),
            host_mounts: false,
            fixed_groups: false,
            spec: spec.clone(),
        };
        record.save(directory)?;
        Ok(record)
    })();
    if recorded.is_err() {
        group.cgroup.kill().ok();
        group.cgroup.delete().ok();
    }
    recorded
}

/// What is to be made from an image.
struct Revival<'a> {
    id: &'a str,
    spec: &'a Spec,
    /// The root, not mounted yet.
    root: OwnedFd,
    /// Where it is mounted below.
    directory: &'a Path,
    /// Which service manager makes the cgroup.
    manager: Option<PathBuf>,
}

struct Revived {
    pid: i32,
    group: Group,
}

/// Makes the group, mounts the root for CRIU, and has the processes made.
fn revive(
    flags: &Parsed,
    criu: &Criu,
    order: Revival<'_>,
    streams: [BorrowedFd<'_>; 3],
) -> Result<Revived, Failure> {
    let Revival { id, spec, root, directory, manager } = order;
    let mut group = Group::make(spec, id, manager, &Extras::default())?;
    let (cgroup, path) = (&group.cgroup, &group.path);
    let restored = (|| {
        let none = Linux::default();
        let limits = resources(spec.linux.as_ref().unwrap_or(&none), &Extras::default());
        cgroup.apply(&limits)?;
        let place = mount_root(root, directory, spec)?;
        let pid_file = directory.join("restored.pid");
        let mut arguments = shared_arguments(flags)?;
        let mut add =
            |name: &str, value: &Path| arguments.extend([name.to_owned(), value.display().to_string()]);
        add("--root", &place);
        add("--pidfile", &pid_file);
        arguments.extend(["--restore-detached", "--restore-sibling"].map(str::to_owned));
        for name in ["lsm-profile", "lsm-mount-context"] {
            arguments.extend(
                flags.value(name).map(|value| [format!("--{name}"), value.to_owned()]).into_iter().flatten(),
            );
        }
        for (controllers, _, _) in cgroup.places() {
            // With version 2 the group is the one that the image names.
            if let [first, ..] = controllers {
                arguments.extend(["--cgroup-root".to_owned(), format!("{first}:{path}")]);
            }
        }
        arguments.extend(sources(spec, cgroup));
        arguments.extend(inherited(&criu.image)?);
        let network = network_path(spec).map(Path::new).map(sys::namespace::open).transpose()?;
        let given = network.as_ref().map(|namespace| (namespace, NETWORK_DESCRIPTOR));
        if given.is_some() {
            arguments.extend(["--inherit-fd".to_owned(), format!("fd[{NETWORK_DESCRIPTOR}]:{NETWORK}")]);
        }
        let made = criu.run_with("restore", &arguments, given.as_slice(), streams);
        // The container has mounts of its own.
        sys::mount::detach(&place).ok();
        std::fs::remove_dir(&place).ok();
        made?;
        let pid: i32 = std::fs::read_to_string(&pid_file)?.trim().parse()?;
        std::fs::remove_file(&pid_file)?;
        Ok::<i32, Failure>(pid)
    })();
    drop(group.holder.take());
    match restored {
        Ok(pid) => Ok(Revived { pid, group }),
        Err(failure) => {
            group.cgroup.kill().ok();
            group.cgroup.delete().ok();
            Err(failure)
        }
    }
}

/// Where CRIU says that pages can be had: a descriptor of ours, and its number there.
fn status_descriptor(number: &str) -> Result<(OwnedFd, i32), Failure> {
    let wrong = |error: &dyn std::error::Error| format!("invalid status-fd {number}: {error}");
    let parsed: i32 = number.parse().map_err(|error| wrong(&error))?;
    let opened = std::fs::File::options().write(true).open(format!("/proc/self/fd/{parsed}"));
    Ok((opened.map_err(|error| wrong(&error))?.into(), parsed))
}

/// Returns the first kind of hook that has no place in a restore.
fn skipped_hooks(hooks: &Hooks) -> Option<&'static str> {
    let all = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
    ];
    all.into_iter().find(|(_, hooks)| !hooks.is_empty()).map(|(name, _)| name)
}

/// Refuses what CRIU cannot be told of.
fn check(spec: &Spec) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err("checkpoint and restore need root: criu fills namespaces that belong to the host".into());
    }
    if spec.process.as_ref().is_some_and(|process| process.terminal) {
        return Err(
            "a container with a terminal cannot be checkpointed or restored: the program criu gives no \
                    terminal back"
                .into(),
        );
    }
    Ok(())
}

/// The program and its folders.
#[derive(Debug)]
struct Criu {
    program: PathBuf,
    image: PathBuf,
    work: PathBuf,
}

impl Criu {
    fn find(globals: &Globals, flags: &Parsed) -> Result<Self, Failure> {
        let program = Self::program(globals.criu.as_deref());
        let image = std::path::absolute(flags.value("image-path").unwrap_or(IMAGE))?;
        let work = match flags.value("work-path") {
            Some(work) => std::path::absolute(work)?,
            None => image.clone(),
        };
        std::fs::create_dir_all(&work).map_err(|error| format!("make {}: {error}", work.display()))?;
        Ok(Self { program: program?, image, work })
    }

    /// Finds the program, called `name` or as the distribution calls it.
    fn program(name: Option<&Path>) -> Result<PathBuf, Failure> {
        let name = name.unwrap_or(Path::new("criu"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let found = if name.components().count() > 1 {
            Some(name.to_owned()).filter(|path| path.is_file())
        } else {
            places.map(|folder| folder.join(name)).find(|place| place.is_file())
        };
        found.ok_or_else(|| format!("{} is not there: it is in the package criu", name.display()).into())
    }

    /// Runs `criu ACTION …` to its end, with our standard streams and those descriptors.
    fn run(&self, action: &str, arguments: &[String], given: &[(&OwnedFd, i32)]) -> Result<(), Failure> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        self.run_with(action, arguments, given, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
    }

    fn run_with(
        &self,
        action: &str,
        arguments: &[String],
        given: &[(&OwnedFd, i32)],
        [stdin, stdout, stderr]: [BorrowedFd<'_>; 3],
    ) -> Result<(), Failure> {
        let log = format!("{action}.log");
        let mut command = sys::process::Command::new(&self.program);
        command.argument(action).argument("--images-dir").argument(&self.image);
        command.argument("--work-dir").argument(&self.work);
        command.argument("--log-file").argument(&log).argument("-v4");
        for argument in arguments {
            command.argument(argument);
        }
        command.inherit_environment().descriptor(stdin, 0).descriptor(stdout, 1).descriptor(stderr, 2);
        if std::env::var_os("PATH").is_none() {
            // It runs programs of its own.
            command.variable("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }
        for (descriptor, number) in given {
            command.descriptor(descriptor.as_fd(), *number);
        }
        match command.run()? {
            sys::pidfd::Exit::Code(0) => Ok(()),
            _ => {
                let path = self.work.join(log);
                let said = std::fs::read(&path).unwrap_or_default();
                let reason = complaint(&String::from_utf8_lossy(&said));
                Err(format!("criu {action} failed: {reason}; log file: {}", path.display()).into())
            }
        }
    }
}

/// The first error of CRIU's log: those after it follow from it. A host without network taps is told as one, and is none.
fn complaint(log: &str) -> String {
    let errors = log.lines().filter_map(|line| line.split_once("Error (")?.1.split_once("): "));
    let error = errors.filter(|(place, _)| !place.starts_with("criu/tun.c")).map(|(_, reason)| reason).next();
    error.map_or_else(|| "no reason given".to_owned(), |reason| reason.trim().to_owned())
}

/// What dump and restore are told alike.
fn shared_arguments(flags: &Parsed) -> Result<Vec<String>, Failure> {
    let mut arguments = Vec::new();
    for name in [
        "tcp-established",
        "ext-unix-sk",
        "shell-job",
        "file-locks",
        "lazy-pages",
        "auto-dedup",
        "link-remap",
    ] {
        if flags.has(name) {
            arguments.push(format!("--{name}"));
        }
    }
    match flags.value("manage-cgroups-mode").unwrap_or("soft") {
        mode @ ("soft" | "full" | "strict" | "ignore") => arguments.push(format!("--manage-cgroups={mode}")),
        other => return Err(format!("invalid manage-cgroups-mode: {other}").into()),
    }
    match flags.value("empty-ns") {
        None => {}
        Some("network") => arguments.extend(["--empty-ns", "net"].map(str::to_owned)),
        Some(other) => return Err(format!("namespace {other} is not supported").into()),
    }
    Ok(arguments)
}

fn dump_arguments(flags: &Parsed) -> Result<Vec<String>, Failure> {
    let mut arguments = Vec::new();
    if flags.has("leave-running") {
        arguments.push("--leave-running".to_owned());
    }
    if flags.has("pre-dump") || flags.value("parent-path").is_some() {
        arguments.push("--track-mem".to_owned());
    }
    if let Some(parent) = flags.value("parent-path") {
        if Path::new(parent).is_absolute() {
            return Err("--parent-path must be relative to the image path".into());
        }
        arguments.extend(["--prev-images-dir".to_owned(), parent.to_owned()]);
    }
    if let Some(server) = flags.value("page-server") {
        let (address, port) = server
            .rsplit_once(':')
            .filter(|(address, port)| !address.is_empty() && port.parse::<u16>().is_ok())
            .ok_or("Use --page-server ADDRESS:PORT to specify page server")?;
        arguments.push("--page-server".to_owned());
        arguments.extend(["--address", address, "--port", port].map(str::to_owned));
    }
    Ok(arguments)
}

/// The places in the container where something of the host is mounted, with what is mounted there again.
fn host_mounts<'a>(spec: &'a Spec, group: Option<&'a Path>) -> Vec<(String, String)> {
    let is_bind = |mount: &oci::runtime::Mount| {
        mount.kind.as_deref() == Some("bind")
            || mount.options.iter().any(|one| one == "bind" || one == "rbind")
    };
    let clean = |path: &str| format!("/{}", path.trim_matches('/'));
    let mut found = Vec::new();
    for mount in &spec.mounts {
        let place = clean(&mount.destination);
        if is_bind(mount) {
            found.push((place, mount.source.clone().unwrap_or_default()));
        } else if let (Some("cgroup" | "cgroup2"), Some(group)) = (mount.kind.as_deref(), group) {
            found.push((place, group.display().to_string()));
        }
    }
    found
}

/// What of the container is not its own, for a dump.
fn external(record: &Record) -> Result<Vec<String>, Failure> {
    let mut arguments = Vec::new();
    let mut add = |what: String| arguments.extend(["--external".to_owned(), what]);
    let cgroup = record.cgroup()?;
    for (place, _) in host_mounts(&record.spec, unified(&cgroup)) {
        add(format!("mnt[{place}]:{place}"));
    }
    let inside = PathBuf::from(format!("/proc/{}/root", record.pid));
    for path in masked(&record.spec) {
        let status = std::fs::symlink_metadata(inside.join(path.trim_start_matches('/')));
        if status.is_ok_and(|status| !status.is_dir()) {
            add(format!("mnt[{path}]:{path}"));
        }
    }
    if let Some(path) = network_path(&record.spec) {
        let inode = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?.ino();
        add(format!("net[{inode}]:{NETWORK}"));
    }
    Ok(arguments)
}

/// The same for a restore: what is mounted at which of the places.
fn sources(spec: &Spec, cgroup: &Cgroup) -> Vec<String> {
    let masks = masked(spec).iter().map(|path| (path.clone(), "/dev/null".to_owned()));
    let all = host_mounts(spec, unified(cgroup)).into_iter().chain(masks);
    all.flat_map(|(place, source)| ["--external".to_owned(), format!("mnt[{place}]:{source}")]).collect()
}

fn masked(spec: &Spec) -> &[String] {
    spec.linux.as_ref().map(|linux| linux.masked_paths.as_slice()).unwrap_or_default()
}

/// The group's directory, where version 2 is alone.
fn unified(cgroup: &Cgroup) -> Option<&Path> {
    match cgroup.places().as_slice() {
        [([], _, directory)] => Some(directory),
        _ => None,
    }
}

fn network_path(spec: &Spec) -> Option<&str> {
    let namespaces = spec.linux.as_ref().map(|linux| linux.namespaces.as_slice()).unwrap_or_default();
    let network = namespaces.iter().find(|one| one.kind == NamespaceKind::Network);
    network.and_then(|one| one.path.as_deref()).filter(|path| !path.is_empty())
}

/// What descriptors 0, 1 and 2 of a process are.
fn streams(pid: i32) -> Result<Vec<String>, Failure> {
    let stream = |number: i32| {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        match target {
            Ok(target) => Ok(target.display().to_string()),
            // Closed by the program.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error.into()),
        }
    };
    (0..3).map(stream).collect()
}

/// Lets the pipes that were standard streams be ours.
fn inherited(image: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read(image.join(DESCRIPTORS))
        .map_err(|error| format!("{DESCRIPTORS} of the image: {error}"))?;
    let streams: Vec<String> = serde_json::from_slice(&text)?;
    let pipes = (0..3).zip(streams).filter(|(_, stream)| stream.starts_with("pipe:"));
    Ok(pipes.flat_map(|(number, pipe)| ["--inherit-fd".to_owned(), format!("fd[{number}]:{pipe}")]).collect())
}

/// Mounts the root where CRIU finds it, and makes the places of mounts that are missing in it.
fn mount_root(root: OwnedFd, directory: &Path, spec: &Spec) -> Result<PathBuf, Failure> {
    use sys::path::Create;
    let place = directory.join("criu-root");
    std::fs::create_dir(&place)?;
    sys::mount::attach_at(root.as_fd(), &place)?;
    drop(root);
    let root = sys::path::open_directory(&place)?;
    let within = |path: &str, other: &str| {
        path != other && path.starts_with(&format!("{}/", other.trim_end_matches('/')))
    };
    let kept = |path: &str| {
        spec.mounts.iter().any(|other| {
            // What lies in such a mount comes back with it.
            other.kind.as_deref().is_some_and(|kind| kind != "bind") && within(path, &other.destination)
        })
    };
    for mount in spec.mounts.iter().filter(|mount| !kept(&mount.destination)) {
        let source = mount.source.as_deref().map(Path::new);
        let is_file = mount.kind.as_deref().is_none_or(|kind| kind == "bind")
            && source.is_some_and(|source| source.exists() && !source.is_dir());
        let last = if is_file { Create::File } else { Create::Directory };
        sys::path::create_in_root(root.as_fd(), Path::new(&mount.destination), last, 0o755)?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::arguments;
    use oci::runtime::{Mount, Namespace};

    fn parsed(flags: &[Flag], words: &[&str]) -> Parsed {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        arguments::parse(&words, flags).unwrap()
    }

    #[test]
    fn flags_become_crius() {
        let all =
            ["--tcp-established", "--shell-job", "--empty-ns", "network", "--manage-cgroups-mode=full", "c"];
        let shared = shared_arguments(&parsed(CHECKPOINT_FLAGS, &all)).unwrap();
        let expect = ["--tcp-established", "--shell-job", "--manage-cgroups=full", "--empty-ns", "net"];
        assert_eq!(shared, expect);
        for (words, expect) in [
            (&["--leave-running"][..], Ok(&["--leave-running"][..])),
            (&["--pre-dump"], Ok(&["--track-mem"])),
            (&["--parent-path", "../a"], Ok(&["--track-mem", "--prev-images-dir", "../a"])),
            (&["--parent-path", "/a"], Err("--parent-path must be relative to the image path")),
            (&["--page-server", "::1:80"], Ok(&["--page-server", "--address", "::1", "--port", "80"])),
            (&["--page-server", "host"], Err("Use --page-server ADDRESS:PORT to specify page server")),
        ] {
            let got = dump_arguments(&parsed(CHECKPOINT_FLAGS, words)).map_err(|error| error.to_string());
            let expect = expect.map(|words| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
            assert_eq!(got, expect.map_err(str::to_owned), "{words:?}");
        }
        let refused = |words: &[&str]| shared_arguments(&parsed(CHECKPOINT_FLAGS, words)).is_err();
        assert!(refused(&["--empty-ns", "pid"]) && refused(&["--manage-cgroups-mode", "x"]));
    }

    #[test]
    fn what_is_the_hosts_is_told_by_its_place() {
        let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
            destination: destination.to_owned(),
            kind: Some(kind.to_owned()),
            source: Some(source.to_owned()),
            options: options.iter().map(|&one| one.to_owned()).collect(),
            ..Mount::default()
        };
        let network = Namespace { kind: NamespaceKind::Network, path: Some("/ns".to_owned()) };
        let spec = Spec {
            mounts: vec![
                mount("/proc", "proc", "proc", &[]),
                mount("/data/", "none", "/host/data", &["rbind"]),
                mount("/sys/fs/cgroup", "cgroup", "cgroup", &[]),
            ],
            linux: Some(Linux { namespaces: vec![network], ..Linux::default() }),
            ..Spec::default()
        };
        let pair = |place: &str, source: &str| (place.to_owned(), source.to_owned());
        assert_eq!(host_mounts(&spec, None), [pair("/data", "/host/data")]);
        let all = host_mounts(&spec, Some(Path::new("/group")));
        assert_eq!(all, [pair("/data", "/host/data"), pair("/sys/fs/cgroup", "/group")]);
        assert_eq!(network_path(&spec), Some("/ns"));
    }

    #[test]
    fn the_first_error_is_the_reason() {
        let log = "(00.00) Error (criu/tun.c:85): tun: no\n(00.01) Warn  (x.c:1): eh\n(00.02) Error (criu/mount.c:9): mnt: no\n(00.03) Error (y.c:1): then\n";
        assert_eq!(complaint(log), "mnt: no");
        assert_eq!(complaint(""), "no reason given");
    }
}
