//! A whole container, made ready for the child: every source open, every text laid out, every step in order.

use crate::finish::Finish;
use crate::mount::{Context, Mounts, clean, enter_cgroups};
use crate::process::{self, Program, Surroundings, text};
use crate::step::Step;
use crate::user::Files;
use crate::{Error, Launch, RootSwitch, Rootfs, sysctl};
use cgroups::Cgroup;
use oci::runtime::{Device, Linux, NamespaceKind, Process, Spec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::FileType;
use std::path::Path;
use sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Propagation};
use sys::namespace::Namespace;
use sys::raw::MountAttributes;

/// What the clone needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The detached root file system.
    pub(crate) root: OwnedFd,
    /// What the child does.
    pub(crate) steps: Vec<Step>,
    /// Its last part.
    pub(crate) finish: Finish,
    /// For messages about the program.
    pub(crate) program: Program,
    /// The master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// `CLONE_NEW*` of the clone.
    pub(crate) flags: i32,
    /// A process namespace to be born in.
    pub(crate) pid_namespace: Option<OwnedFd>,
    /// Whether it has a user namespace whose mappings the parent writes.
    pub(crate) user_namespace: bool,
}

/// Opens and lays out everything for `launch`, whose cgroup is made already.
pub(crate) fn container(launch: Launch, cgroup: &Cgroup) -> Result<Prepared, Error> {
    let Launch { spec, rootfs, stdio, root_switch, user, create_cwd, .. } = launch;
    let process = spec.process.as_ref().ok_or_else(|| Error::spec("process property must not be empty"))?;
    let linux = spec.linux.clone().unwrap_or_default();
    let root = open_root(&rootfs)?;
    let files = Files::read(root.as_fd());
    let mut streams = process::streams(stdio)?;
    let own = |kind| linux.namespaces.iter().find(|namespace| namespace.kind == kind);
    let context = Context {
        cgroup,
        cgroup_namespace: own(NamespaceKind::Cgroup).is_some_and(|one| one.path.is_none()),
    };
    let mounts = Mounts::plan(&spec.mounts, context)?;
    let (terminal, console) = match streams {
        Some(_) => (None, None),
        None => {
            let (master, slave, console) = make_terminal(process, &mounts)?;
            streams = Some(slave);
            (Some(master), console)
        }
    };
    let surroundings = Surroundings {
        seccomp: linux.seccomp.as_ref(),
        personality: linux.personality.as_ref(),
        keyring: Some("_ses.wharf"),
        death_signal: matches!(root_switch, RootSwitch::Empty(_)).then_some(libc::SIGKILL),
    };
    let finish = process::finish(process, user.as_ref(), &files, streams, &surroundings)?;
    let program = Program::new(process);
    let mut namespaces = Namespaces::sort(&linux)?;
    let mut steps = vec![Step::Session];
    if namespaces.user {
        steps.extend([Step::WaitAttached, Step::BecomeRoot]);
    }
    let pivot = enter_mount_namespace(root_switch, &linux, &mut namespaces, &mut steps);
    steps.append(&mut namespaces.join);
    if namespaces.flags & libc::CLONE_NEWNET != 0 {
        steps.push(Step::Loopback);
    }
    steps.push(Step::AttachRoot);
    name_host(&spec, &linux, &mut steps);
    steps.append(&mut fill_root(&spec, process, &linux, mounts, console, create_cwd)?);
    steps.push(Step::SwitchRoot { pivot });
    if !context.cgroup_namespace {
        // Last, so that the parent can set the limits meanwhile: a device rule must not meet a half-written list.
        steps.push(enter_cgroups(cgroup)?);
    }
    Ok(Prepared {
        root,
        steps,
        finish,
        program,
        terminal,
        flags: namespaces.flags,
        pid_namespace: namespaces.pid,
        user_namespace: namespaces.user,
    })
}

fn open_root(rootfs: &Rootfs) -> Result<OwnedFd, Error> {
    let root = match rootfs {
        Rootfs::Path(path) => sys::mount::bind(path, true),
        Rootfs::Overlay(overlay) => {
            let lower: Vec<&Path> = overlay.lower.iter().map(AsRef::as_ref).collect();
            // The marker of a run before this one would forbid the mount; its upper directory is still good as long as
            // the machine has not gone down since, which the engine knows.
            sys::mount::clear_volatile(&overlay.work).map_err(Error::Root)?;
            sys::mount::overlay(&lower, &overlay.upper, &overlay.work, overlay.volatile)
        }
    }
    .map_err(Error::Root)?;
    let private = MountAttributes { propagation: Propagation::Private.flag(), ..MountAttributes::default() };
    sys::mount::set_attributes(root.as_fd(), &private, true).map_err(Error::Root)?;
    Ok(root)
}

/// Makes the terminal in the container's devpts (or the host's, if it has none of its own): master, the slave three
/// times, and the step that binds `/dev/console`.
fn make_terminal(process: &Process, mounts: &Mounts) -> Result<(OwnedFd, [OwnedFd; 3], Option<Step>), Error> {
    let failed = Error::system("make the terminal");
    let mount = mounts.steps.iter().find_map(|step| match step {
        Step::Attach { mount, .. } if Some(rustix::fd::AsRawFd::as_raw_fd(mount)) == mounts.devpts => {
            Some(mount)
        }
        _ => None,
    });
    let pty = match mount {
        Some(devpts) => sys::terminal::open(devpts.as_fd()),
        None => sys::terminal::open_host(),
    }
    .map_err(failed)?;
    if let Some(size) = &process.console_size {
        let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        sys::terminal::resize(pty.master.as_fd(), small(size.height), small(size.width))
            .map_err(Error::system("size the terminal"))?;
    }
    let console = match mounts.devpts {
        Some(devpts) if !mounts.foreign_dev => {
            Some(Step::Console { devpts, number: text("terminal", pty.number.to_string())? })
        }
        _ => None,
    };
    let again = || {
        rustix::io::fcntl_dupfd_cloexec(&pty.slave, 3)
            .map_err(|errno| Error::system("make the terminal")(sys::Error::new("fcntl", "slave", errno)))
    };
    let slaves = [again()?, again()?, again()?];
    Ok((pty.master, slaves, console))
}

/// The namespaces of the document, sorted by how they are entered.
#[derive(Debug, Default)]
struct Namespaces {
    /// Made by the clone.
    flags: i32,
    /// Joined by the child.
    join: Vec<Step>,
    /// Born in.
    pid: Option<OwnedFd>,
    /// A new user namespace.
    user: bool,
    /// A new time namespace.
    time: bool,
}

fn kernel_kind(kind: NamespaceKind) -> Namespace {
    match kind {
        NamespaceKind::Pid => Namespace::Pid,
        NamespaceKind::Network => Namespace::Network,
        NamespaceKind::Mount => Namespace::Mount,
        NamespaceKind::Ipc => Namespace::Ipc,
        NamespaceKind::Uts => Namespace::Uts,
        NamespaceKind::User => Namespace::User,
        NamespaceKind::Cgroup => Namespace::Cgroup,
        NamespaceKind::Time => Namespace::Time,
    }
}

impl Namespaces {
    fn sort(linux: &Linux) -> Result<Self, Error> {
        let mut sorted = Self::default();
        let mut has_mount = false;
        for namespace in &linux.namespaces {
            let kind = kernel_kind(namespace.kind);
            let path = namespace.path.as_deref().filter(|path| !path.is_empty());
            match (kind, path) {
                (Namespace::Mount, None) => has_mount = true,
                (Namespace::Mount | Namespace::User, Some(_)) => {
                    return Err(Error::Unsupported(format!("joining a {} namespace", kind.name())));
                }
                (Namespace::User, None) => {
                    sorted.user = true;
                    sorted.flags |= kind.flag();
                }
                // Entered where the process is in its cgroup.
                (Namespace::Cgroup, None) => {}
                (Namespace::Time, None) => sorted.time = true,
                (_, None) => sorted.flags |= kind.flag(),
                (_, Some(path)) => {
                    let opened = sys::namespace::open(Path::new(path))
                        .map_err(|source| Error::System { what: "open a namespace", source })?;
                    if kind == Namespace::Pid {
                        sorted.pid = Some(opened);
                    } else {
                        let name = format!("{} namespace {path}", kind.name());
                        sorted.join.push(Step::Join { namespace: opened, flags: kind.flag(), name });
                    }
                }
            }
        }
        if !has_mount {
            // Without one the mounts of the container would be the host's.
            return Err(Error::spec("a mount namespace is needed"));
        }
        if sorted.time {
            sorted.join.push(Step::Unshare { flags: Namespace::Time.flag() });
        }
        Ok(sorted)
    }
}

/// Lays out how the child gets a mount namespace of its own; says whether the root is then changed by `pivot_root`.
fn enter_mount_namespace(
    switch: RootSwitch,
    linux: &Linux,
    namespaces: &mut Namespaces,
    steps: &mut Vec<Step>,
) -> bool {
    match switch {
        // A user namespace may not enter a mount namespace of the host's: it copies the present one.
        RootSwitch::Empty(empty) if !namespaces.user => {
            let name = "empty mount namespace".to_owned();
            steps.push(Step::Join { namespace: empty, flags: libc::CLONE_NEWNS, name });
            steps.push(Step::Unshare { flags: libc::CLONE_NEWNS });
            false
        }
        RootSwitch::Empty(_) | RootSwitch::Pivot => {
            namespaces.flags |= libc::CLONE_NEWNS;
            let propagation = match linux.rootfs_propagation.as_deref() {
                Some("shared" | "rshared" | "slave" | "rslave") => Propagation::Slave,
                _ => Propagation::Private,
            };
            steps.push(Step::Isolate { propagation: propagation.flag() });
            true
        }
    }
}

fn name_host(spec: &Spec, linux: &Linux, steps: &mut Vec<Step>) {
    // Only a namespace made here may be named: another container's or the host's keeps its name.
    let own = linux.namespaces.iter().any(|one| one.kind == NamespaceKind::Uts && one.path.is_none());
    if !own {
        return;
    }
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        steps.push(Step::Hostname(name.as_bytes().to_vec()));
    }
    if let Some(name) = spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        steps.push(Step::Domainname(name.as_bytes().to_vec()));
    }
}

/// Everything between the attached root and the switch to it.
fn fill_root(
    spec: &Spec,
    process: &Process,
    linux: &Linux,
    mut mounts: Mounts,
    console: Option<Step>,
    create_cwd: bool,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let mut writes = process::label_steps(process)?;
    for (key, value) in &linux.sysctl {
        let file = sysctl::file(key, linux)?;
        let file = text("sysctl", file.into_os_string().into_encoded_bytes())?;
        writes.push(Step::Write { file, value: value.as_bytes().to_vec() });
    }
    for (clock, offset) in &linux.time_offsets {
        let value = format!("{clock} {} {}\n", offset.secs, offset.nanosecs).into_bytes();
        writes.push(Step::Write { file: c"self/timens_offsets".to_owned(), value });
    }
    if !writes.is_empty() && !mounts.has_proc {
        steps.push(Step::PrivateProc);
    }
    steps.append(&mut mounts.steps);
    if !mounts.foreign_dev {
        devices(linux, &mut steps)?;
        links(&mut steps);
        steps.extend(console);
    }
    if create_cwd && process.cwd.starts_with('/') {
        steps.push(Step::Directory { path: text("cwd", process.cwd.as_str())? });
    }
    steps.append(&mut writes);
    steps.append(&mut mounts.later);
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        steps.push(Step::RootReadOnly);
    }
    for path in &linux.readonly_paths {
        steps.push(Step::ReadOnly { path: text("read-only path", path.as_str())? });
    }
    if !linux.masked_paths.is_empty() {
        steps.push(mask(&linux.masked_paths)?);
    }
    if let Some(propagation) = root_propagation(linux)? {
        steps.push(Step::RootPropagation { propagation: propagation.flag() });
    }
    Ok(steps)
}

fn root_propagation(linux: &Linux) -> Result<Option<Propagation>, Error> {
    match linux.rootfs_propagation.as_deref().unwrap_or_default().trim_start_matches('r') {
        "" | "private" => Ok(None),
        "shared" => Ok(Some(Propagation::Shared)),
        "slave" => Ok(Some(Propagation::Slave)),
        "unbindable" => Ok(Some(Propagation::Unbindable)),
        other => Err(Error::Spec(format!("rootfsPropagation={other} is not supported"))),
    }
}

fn mask(paths: &[String]) -> Result<Step, Error> {
    let failed = |source| Error::System { what: "prepare masks", source };
    let attributes = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    let directory = sys::mount::tmpfs(&[("size", "4k"), ("nr_inodes", "2")], attributes).map_err(failed)?;
    Ok(Step::Mask {
        paths: paths.iter().map(|path| text("masked path", path.as_str())).collect::<Result<_, _>>()?,
        directory,
        file: null_device()?,
    })
}

/// Binds the host's null device, after making sure that it is one (CVE-2025-31133).
fn null_device() -> Result<OwnedFd, Error> {
    use rustix::fs::{Mode, OFlags};
    let failed =
        |errno| Error::System { what: "open /dev/null", source: sys::Error::new("open", "/dev/null", errno) };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(failed)?;
    let status = rustix::fs::fstat(&null).map_err(failed)?;
    let is_device = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice;
    if !is_device || status.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(failed(rustix::io::Errno::NODEV));
    }
    sys::mount::bind_fd(null.as_fd(), false)
        .map_err(|source| Error::System { what: "bind /dev/null", source })
}

/// What every container has in `/dev` (runtime-spec config-linux.md, *Default Devices*).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

fn devices(linux: &Linux, steps: &mut Vec<Step>) -> Result<(), Error> {
    for (name, major, minor) in DEVICES {
        let path = format!("/dev/{name}");
        if linux.devices.iter().any(|device| clean(&device.path) == path) {
            continue;
        }
        steps.push(Step::Device {
            directory: c"/dev".to_owned(),
            name: text("device", name)?,
            mode: libc::S_IFCHR | 0o666,
            device: rustix::fs::makedev(major, minor),
            owner: (0, 0),
        });
    }
    linux.devices.iter().try_for_each(|one| {
        steps.push(device(one)?);
        Ok(())
    })
}

fn device(device: &Device) -> Result<Step, Error> {
    let path = clean(&device.path);
    let wrong = || Error::Spec(format!("invalid device {:?}", device.path));
    let (directory, name) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(wrong)?;
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        _ => return Err(wrong()),
    };
    let number = |number: i64| u32::try_from(number).map_err(|_range| wrong());
    let number = if kind == libc::S_IFIFO {
        0
    } else {
        rustix::fs::makedev(number(device.major)?, number(device.minor)?)
    };
    Ok(Step::Device {
        directory: text("device", if directory.is_empty() { "/" } else { directory })?,
        name: text("device", name)?,
        mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
        device: number,
        owner: (device.uid.unwrap_or(0), device.gid.unwrap_or(0)),
    })
}

fn links(steps: &mut Vec<Step>) {
    let mut links = vec![
        (c"fd", c"/proc/self/fd"),
        (c"stdin", c"/proc/self/fd/0"),
        (c"stdout", c"/proc/self/fd/1"),
        (c"stderr", c"/proc/self/fd/2"),
        (c"ptmx", c"pts/ptmx"),
    ];
    if Path::new("/proc/kcore").exists() {
        links.push((c"core", c"/proc/kcore"));
    }
    steps.extend(links.into_iter().map(|(name, target)| Step::Link {
        directory: c"/dev".to_owned(),
        name: name.to_owned(),
        target: target.to_owned(),
    }));
}
