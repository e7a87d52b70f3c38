//! `create`, `run`, `start`.

use super::arguments::{Flag, Parsed};
use super::group::{self, Group};
use super::record::{self, Record};
use super::{Failure, Globals, console, control, notify, now, unprivileged, write_atomically};
use crate::create::{create_detached, start_detached};
use crate::listener::Agent;
use crate::prepare::Extras;
use crate::process::Program;
use crate::{Error, Launch, RootSwitch, Rootfs, Stdio, hooks, inspect, prepare, validate};
use oci::runtime::{NamespaceKind, Spec, State, Status};
use rustix::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) const CREATE_FLAGS: &[Flag] = &[
    Flag::value("bundle", "directory of the bundle (default: the present one)").short('b'),
    Flag::value("console-socket", "unix socket that is sent the master of the terminal"),
    Flag::value("pidfd-socket", "unix socket that is sent a pidfd of the process"),
    Flag::value("pid-file", "file to write the number of the process to"),
    Flag::value(
        "preserve-fds",
        "how many descriptors beyond the standard streams and $LISTEN_FDS the process keeps (default: 0)",
    ),
    Flag::switch("no-pivot", "change the root without pivot_root, as a root on a ramdisk needs it"),
    Flag::switch("no-new-keyring", "keep the caller's session keyring"),
];

pub(super) const RUN_FLAGS: &[Flag] = &[
    Flag::value("bundle", "directory of the bundle (default: the present one)").short('b'),
    Flag::value("console-socket", "unix socket that is sent the master of the terminal"),
    Flag::value("pidfd-socket", "unix socket that is sent a pidfd of the process"),
    Flag::value("pid-file", "file to write the number of the process to"),
    Flag::value(
        "preserve-fds",
        "how many descriptors beyond the standard streams and $LISTEN_FDS the process keeps (default: 0)",
    ),
    Flag::switch("no-pivot", "change the root without pivot_root, as a root on a ramdisk needs it"),
    Flag::switch("no-new-keyring", "keep the caller's session keyring"),
    Flag::switch("detach", "do not wait for the end of the process").short('d'),
    Flag::switch("keep", "do not delete the container when it has ended"),
    Flag::switch("no-subreaper", "accepted for compatibility: this runtime is never a subreaper"),
];

/// Reads the bundle's document, with its paths made absolute.
pub(super) fn load_spec(bundle: &Path) -> Result<Spec, Failure> {
    let path = bundle.join("config.json");
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("JSON specification file {} not found", path.display()).into());
        }
        other => other?,
    };
    let mut spec: Spec = serde_json::from_slice(&text).map_err(|error| match validate::culprit(&text) {
        Some(place) => format!("{place}: {error}"),
        None => error.to_string(),
    })?;
    validate::check(&spec, bundle)?;
    for mount in &mut spec.mounts {
        let bound = mount.kind.as_deref() == Some("bind")
            || mount.options.iter().any(|one| one == "bind" || one == "rbind");
        if let Some(source) = mount.source.as_mut().filter(|source| bound && !source.starts_with('/')) {
            *source = bundle.join(&*source).to_string_lossy().into_owned();
        }
    }
    Ok(spec)
}

/// What `create` and `run` have made.
struct Made {
    record: Record,
    directory: PathBuf,
    terminal: Option<OwnedFd>,
}

pub(super) fn create(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let made = make(globals, flags, true)?;
    hand_over(flags, &made)?;
    Ok(ExitCode::SUCCESS)
}

/// Gives away the terminal and tells the process's number.
fn hand_over(flags: &Parsed, made: &Made) -> Result<(), Failure> {
    if let (Some(master), Some(path)) = (&made.terminal, flags.value("console-socket")) {
        console::send(Path::new(path), master.as_fd())?;
    }
    hand_over_process(flags, &made.record)
}

/// Gives away a pidfd of the process, and tells its number.
fn hand_over_process(flags: &Parsed, record: &Record) -> Result<(), Failure> {
    if let Some(process) = record.process() {
        console::send_process(flags, process.as_fd())?;
    }
    hand_over_pid(flags, record)
}

/// Tells the process's number where it was asked for.
pub(super) fn hand_over_pid(flags: &Parsed, record: &Record) -> Result<(), Failure> {
    match flags.value("pid-file") {
        Some(path) => write_atomically(Path::new(path), record.pid.to_string().as_bytes()),
        None => Ok(()),
    }
}

fn make(globals: &Globals, flags: &Parsed, detach: bool) -> Result<Made, Failure> {
    let (passed, preserved) = notify::preserved(flags)?;
    let directory = globals.container(flags)?;
    let id = flags.positional.first().cloned().unwrap_or_default();
    let bundle = std::path::absolute(flags.value("bundle").unwrap_or("."))?;
    let mut spec = load_spec(&bundle)?;
    console::check(flags, spec.process.as_ref().is_some_and(|process| process.terminal), detach)?;
    let mounts: Vec<String> = spec.mounts.iter().map(|mount| mount.destination.clone()).collect();
    inspect(&spec, &bundle).map_err(|error| placed(error.into(), &mounts))?;
    let unprivileged = unprivileged::is_needed();
    let manager = group::manager(globals.systemd)?;
    if let Some(manager) = &manager {
        group::scope(&spec, &id, manager)?;
        cgroups::systemd::check()?;
    }
    if let Some(process) = &mut spec.process {
        notify::announce(passed, &mut process.env);
    }
    std::fs::create_dir_all(&globals.root)?;
    match std::fs::create_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err("container with given ID already exists".into());
        }
        other => other?,
    }
    if unprivileged {
        unprivileged::enter(&mut spec)?;
    }
    let made = build(flags, (spec, preserved, unprivileged, manager), (&id, &directory, &bundle));
    if made.is_err() {
        std::fs::remove_dir_all(&directory).ok();
    }
    made.map_err(|failure| placed(failure, &mounts))
}

/// Looks at the root before anything is made.
fn inspect(spec: &Spec, bundle: &Path) -> Result<(), Error> {
    let root = spec.root.as_ref().map(|root| bundle.join(&root.path)).unwrap_or_default();
    let root = sys::path::open_directory(&root).map_err(Error::Root)?;
    inspect::inspect(spec, root.as_fd())
}

/// Says where in the document the failure has its reason, if that is known.
fn placed(failure: Failure, mounts: &[String]) -> Failure {
    match culprit(failure.as_ref(), mounts) {
        Some(place) => format!("{place}: {}", super::words(failure.as_ref())).into(),
        None => failure,
    }
}

/// Names the place in the document of what only the kernel or the image could find out.
fn culprit(failure: &(dyn std::error::Error + 'static), mounts: &[String]) -> Option<String> {
    match failure.downcast_ref()? {
        Error::Executable { .. } => Some("process.args[0]".to_owned()),
        Error::User(_) => Some("process.user".to_owned()),
        Error::Mount { destination, .. } => {
            mounts.iter().position(|one| one == destination).map(|index| format!("mounts[{index}]"))
        }
        _ => None,
    }
}

fn build(
    flags: &Parsed,
    (mut spec, preserved, unprivileged, manager): (Spec, u32, bool, Option<PathBuf>),
    (id, directory, bundle): (&str, &Path, &Path),
) -> Result<Made, Failure> {
    let root = spec.root.clone().ok_or("root property must not be empty")?;
    let rootfs = bundle.join(&root.path);
    notify::prepare(directory, &mut spec)?;
    let wants_terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let host_mounts = !has_mount_namespace(&spec);
    let state = State {
        oci_version: oci::runtime::VERSION.to_owned(),
        id: id.to_owned(),
        status: Status::Creating,
        pid: None,
        bundle: bundle.to_string_lossy().into_owned(),
        annotations: spec.annotations.clone(),
    };
    let extras = Extras {
        state: Some(state.clone()),
        preserved,
        old_keyring: flags.has("no-new-keyring"),
        host_mounts,
        unprivileged: unprivileged.then(unprivileged::maker),
        left: true,
    };
    prepare::refuse(&spec, &extras)?;
    let Group { cgroup, path, systemd, holder } = Group::make(&spec, id, manager, &extras)?;
    let listener = sys::socket::listen_seqpacket(&record::socket(directory))?;
    sys::socket::set_nonblocking(listener.as_fd(), false)?;
    let launch = Launch {
        spec: spec.clone(),
        rootfs: Rootfs::Path(rootfs.clone()),
        stdio: if wants_terminal { Stdio::Terminal } else { console::own_streams()? },
        root_switch: if flags.has("no-pivot") {
            RootSwitch::Empty(sys::namespace::empty_mount_namespace()?)
        } else {
            RootSwitch::Pivot
        },
        user: None,
        create_cwd: true,
        cgroup: Some(path.clone()),
        systemd: false,
        identity: None,
    };
    let made = create_detached(launch, &cgroup, &listener, &extras);
    drop(holder);
    if let Err(error) = &made {
        cgroup.delete().ok();
        if host_mounts {
            sys::mount::detach(&rootfs).ok();
        }
        if matches!(error, Error::Hook { .. }) {
            // The container's life is over (runtime.md, *Lifecycle*); the first error is the one to tell.
            let hooks = spec.hooks.clone().unwrap_or_default();
            hooks::run(&hooks.poststop, &State { status: Status::Stopped, ..state }).ok();
        }
    }
    let made = made?;
    let (start_time, _) = record::process_times(made.pid).ok_or("the container's process has ended")?;
    let record = Record {
        id: id.to_owned(),
        pid: made.pid,
        start_time,
        bundle: bundle.to_owned(),
        rootfs,
        created: now(),
        cgroup: path,
        systemd,
        host_mounts,
        fixed_groups: extras.unprivileged.is_some_and(|maker| maker.fixed_groups),
        spec,
    };
    if let Err(failure) = record.save(directory) {
        control::destroy(&record, directory)?;
        return Err(failure);
    }
    Ok(Made { record, directory: directory.to_owned(), terminal: made.terminal })
}

fn has_mount_namespace(spec: &Spec) -> bool {
    let namespaces = spec.linux.as_ref().map(|linux| linux.namespaces.as_slice()).unwrap_or_default();
    namespaces.iter().any(|one| one.kind == NamespaceKind::Mount)
}

pub(super) fn start(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let record = Record::load(&directory)?;
    let proxy = notify::Proxy::begin(&directory)?;
    begin(&record, &directory)?;
    if let (Some(proxy), Some(process)) = (proxy, record.process()) {
        proxy.wait(process.as_fd(), record.pid)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn begin(record: &Record, directory: &Path) -> Result<(), Failure> {
    match record.status(directory) {
        Status::Created => {}
        Status::Stopped => return Err("cannot start a container that has stopped".into()),
        _ => return Err("cannot start an already running container".into()),
    }
    let process = record.process().ok_or("cannot start a container that has stopped")?;
    let socket = record::socket(directory);
    let connected = sys::socket::connect_seqpacket(&socket)?;
    let wanted = record.spec.process.clone().unwrap_or_default();
    let seccomp = record.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let agent = Agent::of(seccomp, Some(&record.state(Status::Created)));
    let started =
        start_detached(connected, &Program::new(&wanted), agent.as_ref(), (process.as_fd(), record.pid));
    std::fs::remove_file(&socket)?;
    started?;
    let hooks = record.spec.hooks.clone().unwrap_or_default();
    hooks::run(&hooks.poststart, &record.state(Status::Running)).map_err(|error| {
        // A failed hook ends the container (runtime.md, *Lifecycle*).
        sys::pidfd::kill(process.as_fd()).ok();
        error.into()
    })
}

pub(super) fn run(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let detach = flags.has("detach");
    let made = make(globals, flags, detach)?;
    let Made { record, directory, terminal } = &made;
    // This process is the parent, so it can wait; opened before anything can have ended.
    let process = record.process().ok_or("the container's process has ended")?;
    let outcome = (|| {
        if detach { hand_over(flags, &made) } else { hand_over_process(flags, record) }?;
        let proxy = notify::Proxy::begin(directory)?;
        begin(record, directory)?;
        if detach {
            if let Some(proxy) = proxy {
                proxy.wait(process.as_fd(), record.pid)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(proxy) = proxy {
            let (process, pid) = (process.try_clone()?, record.pid);
            // Its failure is the caller's loss of a word, not the container's.
            std::thread::spawn(move || proxy.wait(process.as_fd(), pid).is_ok());
        }
        let exit = console::attend(process.as_fd(), terminal.as_ref().map(AsFd::as_fd))?;
        Ok(ExitCode::from(u8::try_from(exit.code()).unwrap_or(255)))
    })();
    if (!detach || outcome.is_err()) && !flags.has("keep") {
        control::destroy(record, directory)?;
    }
    outcome
}
