//! The way back from an image.

use super::super::arguments::Parsed;
use super::super::create::{self, hand_over_pid};
use super::super::group::{self, Group};
use super::super::record::{self, Record};
use super::super::{Failure, Globals, console, control, now};
use super::foreign::{NETWORK, network_path, sources};
use super::rpc::{Action, Criu, Given, Message, Notice, option};
use super::{DESCRIPTORS, check_user, find, shared_options};
use crate::create::resources;
use crate::hooks;
use crate::prepare::{Extras, open_root};
use crate::{Identity, Init, Rootfs};
use oci::runtime::{Hooks, Linux, Spec, Status};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where CRIU is given the network namespace.
const NETWORK_DESCRIPTOR: i32 = 10;

pub(in super::super) fn restore(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let bundle = std::path::absolute(flags.value("bundle").unwrap_or("."))?;
    let spec = create::load_spec(&bundle)?;
    check_user()?;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    console::check(flags, terminal, flags.has("detach"))?;
    if flags.has("no-pivot") {
        return Err("--no-pivot cannot be had at a restore: criu changes the root by pivot_root".into());
    }
    check_hooks(&spec)?;
    let criu = find(globals, flags)?;
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
    let (record, master) = made?;
    let process = record.process().ok_or("the container's process has ended")?;
    let handed = hand_over_terminal(flags, master.as_ref()).and_then(|()| {
        hand_over_pid(flags, &record)?;
        let hooks = record.spec.hooks.clone().unwrap_or_default();
        Ok(hooks::run(&hooks.poststart, &record.state(Status::Running))?)
    });
    if flags.has("detach") && handed.is_ok() {
        return Ok(ExitCode::SUCCESS);
    }
    let exit = handed.and_then(|()| console::attend(process.as_fd(), master.as_ref().map(AsFd::as_fd)));
    control::destroy(&record, &directory)?;
    Ok(ExitCode::from(u8::try_from(exit?.code()).unwrap_or(255)))
}

fn hand_over_terminal(flags: &Parsed, master: Option<&OwnedFd>) -> Result<(), Failure> {
    match (flags.value("console-socket"), master) {
        (Some(path), Some(master)) => console::send(Path::new(path), master.as_fd()),
        (Some(_), None) => Err("no process of the image has the terminal open".into()),
        (None, _) => Ok(()),
    }
}

/// Refuses hooks that are part of making a program's surroundings from inside, where it is already.
fn check_hooks(spec: &Spec) -> Result<(), Failure> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    for (name, hooks) in
        [("createContainer", &hooks.create_container), ("startContainer", &hooks.start_container)]
    {
        if !hooks.is_empty() {
            return Err(format!("hooks.{name} cannot be run at a restore: the program runs already").into());
        }
    }
    Ok(())
}

/// A container to go on from an image.
#[derive(Debug)]
pub struct Restore {
    /// The folder of the image.
    pub image: PathBuf,
    /// A folder for CRIU's log and for what is mounted meanwhile; must exist.
    pub work: PathBuf,
    /// What the container is called, for its cgroup and its hooks.
    pub identity: Identity,
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
    let Restore { image, work, identity, spec, rootfs, systemd, streams } = order;
    check_user()?;
    check_hooks(&spec)?;
    if spec.process.as_ref().is_some_and(|process| process.terminal) {
        return Err("a container with a terminal is restored by the command line alone".into());
    }
    let criu = Criu { program: Criu::program(None)?, image, work };
    let root = open_root(&rootfs)?;
    let streams = streams.each_ref().map(AsFd::as_fd);
    let manager = group::manager(systemd)?;
    let order = Revival { identity: &identity, spec: &spec, root, directory: &criu.work, manager };
    let Revived { pid, group, .. } = revive(&Parsed::default(), &criu, order, streams)?;
    let finished = (|| {
        let pidfd = sys::pidfd::open(pid)?;
        let hooks = spec.hooks.clone().unwrap_or_default();
        hooks::run(&hooks.poststart, &identity.state(&spec, Status::Running, Some(pid)))?;
        Ok(pidfd)
    })();
    match finished {
        Ok(pidfd) => Ok(Init { pid, pidfd, cgroup: group.cgroup }),
        Err(failure) => Err(given_up(&group, failure)),
    }
}

fn given_up(group: &Group, failure: Failure) -> Failure {
    group.cgroup.kill().ok();
    group.cgroup.delete().ok();
    failure
}

/// The same for a command, which keeps a record of it. Returns the master of its terminal too, if it has one.
fn made_known(
    globals: &Globals,
    flags: &Parsed,
    criu: &Criu,
    (spec, directory, bundle): (Spec, &Path, &Path),
) -> Result<(Record, Option<OwnedFd>), Failure> {
    let id = flags.positional.first().cloned().unwrap_or_default();
    let root = spec.root.clone().ok_or("root property must not be empty")?;
    let rootfs = bundle.join(&root.path);
    // Nothing of it is seen by the host, and all goes with this process.
    sys::namespace::unshare(&[sys::namespace::Namespace::Mount])?;
    sys::mount::isolate()?;
    let root = sys::mount::bind(&rootfs, true)?;
    let manager = group::manager(globals.systemd)?;
    let identity = Identity { id: id.clone(), bundle: bundle.to_owned() };
    let order = Revival { identity: &identity, spec: &spec, root, directory, manager };
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let Revived { pid, group, master } = revive(flags, criu, order, streams)?;
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
        Ok((record, master))
    })();
    recorded.map_err(|failure| given_up(&group, failure))
}

/// What is to be made from an image.
struct Revival<'a> {
    identity: &'a Identity,
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
    /// Of the terminal that somebody outside had the other side of.
    master: Option<OwnedFd>,
}

/// Makes the group, mounts the root for CRIU, and has the processes made.
fn revive(
    flags: &Parsed,
    criu: &Criu,
    order: Revival<'_>,
    streams: [BorrowedFd<'_>; 3],
) -> Result<Revived, Failure> {
    let Revival { identity, spec, root, directory, manager } = order;
    let mut group = Group::make(spec, &identity.id, manager, &Extras::default())?;
    let hooks = spec.hooks.clone().unwrap_or_default();
    let mut master = None;
    let mut answer = |notice: Notice| match notice.step.as_str() {
        // What runc runs here too: there are namespaces, and nothing goes on in them yet.
        "setup-namespaces" => run_early(&hooks, identity, spec, notice.pid),
        "orphan-pts-master" => {
            master = notice.descriptors.into_iter().next();
            Ok(())
        }
        _ => Ok(()),
    };
    let restored = (|| {
        let none = Linux::default();
        let limits = resources(spec.linux.as_ref().unwrap_or(&none), &Extras::default());
        group.cgroup.apply(&limits)?;
        let place = mount_root(root, directory, spec)?;
        let network = network_path(spec).map(Path::new).map(sys::namespace::open).transpose()?;
        let descriptor = network.as_ref().map(|namespace| (namespace, NETWORK_DESCRIPTOR));
        let given = Given { streams, descriptors: descriptor.as_slice() };
        let made = restore_options(flags, &group, spec, &place).and_then(|mut options| {
            inherit(&mut options, &criu.image, descriptor.is_some())?;
            criu.ask(Action::Restore, options, &given, &mut answer)
        });
        // The container has mounts of its own.
        sys::mount::detach(&place).ok();
        std::fs::remove_dir(&place).ok();
        made?.ok_or_else(|| Failure::from("criu does not say what it has restored"))
    })();
    drop(group.holder.take());
    match restored {
        Ok(pid) => Ok(Revived { pid, group, master }),
        Err(failure) => Err(given_up(&group, failure)),
    }
}

fn run_early(hooks: &Hooks, identity: &Identity, spec: &Spec, pid: Option<i32>) -> Result<(), Failure> {
    let state = identity.state(spec, Status::Creating, pid);
    hooks::run(&hooks.prestart, &state)?;
    Ok(hooks::run(&hooks.create_runtime, &state)?)
}

fn restore_options(flags: &Parsed, group: &Group, spec: &Spec, root: &Path) -> Result<Message, Failure> {
    let mut options = shared_options(flags)?;
    options.text(option::ROOT, root).set(option::SIBLING);
    for (name, field) in
        [("lsm-profile", option::SECURITY_PROFILE), ("lsm-mount-context", option::MOUNT_CONTEXT)]
    {
        if let Some(value) = flags.value(name) {
            options.text(field, value);
        }
    }
    for (controllers, _, _) in group.cgroup.places() {
        // With version 2 the group is the one that the image names.
        if let [first, ..] = controllers {
            let mut place = Message::default();
            options.message(option::CGROUP_ROOT, place.text(1, first).text(2, &group.path));
        }
    }
    for source in sources(spec, &group.cgroup) {
        options.text(option::EXTERNAL, source);
    }
    Ok(options)
}

/// Lets the pipes that were standard streams be ours, and the network namespace the one that is given.
fn inherit(options: &mut Message, image: &Path, network: bool) -> Result<(), Failure> {
    let text = std::fs::read(image.join(DESCRIPTORS))
        .map_err(|error| format!("{DESCRIPTORS} of the image: {error}"))?;
    let streams: Vec<String> = serde_json::from_slice(&text)?;
    let pipes = (0..3).zip(streams).filter(|(_, stream)| stream.starts_with("pipe:"));
    let network = network.then(|| (NETWORK_DESCRIPTOR, NETWORK.to_owned()));
    for (number, key) in pipes.chain(network) {
        let mut given = Message::default();
        options.message(option::INHERIT, given.text(1, key).number(2, number));
    }
    Ok(())
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
