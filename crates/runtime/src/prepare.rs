//! A whole container, made ready for the child: every source open, every text laid out, every step in order.

use crate::finish::Finish;
use crate::hooks::Inside;
use crate::mount::{Context, Mapped, Mounts, enter_cgroups};
use crate::process::{self, Program, Surroundings, text};
use crate::step::Step;
use crate::user::Files;
use crate::{Error, ImageUser, Overlay, RootSwitch, Rootfs, Stdio, bind, devices, sysctl};
use cgroups::Cgroup;
use oci::runtime::{Hooks, Linux, NamespaceKind, Process, Spec, State};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::FileType;
use std::ffi::CString;
use std::path::Path;
use sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Propagation};
use sys::namespace::Namespace;
use sys::raw::MountAttributes;

/// What only the command line gives.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// The container's state, but for the number of its process: for hooks and the filter's listener, which cannot be served
    /// without.
    pub(crate) state: Option<State>,
    /// How many descriptors from 3 on the program keeps.
    pub(crate) preserved: u32,
    /// Whether the session keyring stays the caller's.
    pub(crate) old_keyring: bool,
    /// Whether a document without a mount namespace is followed: its mounts stay until the container is deleted.
    pub(crate) host_mounts: bool,
    /// Whether the maker is root of a user namespace only: device nodes are bound.
    pub(crate) unprivileged: Option<Unprivileged>,
    /// Whether the container is left to itself: it does not end with its maker, and whether there is a program is told now rather
    /// than at the start.
    pub(crate) left: bool,
}

/// A maker without privileges.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unprivileged {
    /// Whether supplementary groups cannot be changed.
    pub(crate) fixed_groups: bool,
}

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
    /// The master of its terminal, if it is made already.
    pub(crate) terminal: Option<OwnedFd>,
    /// `CLONE_NEW*` of the clone.
    pub(crate) flags: i32,
    /// Namespaces that the parent visits for the clone: the child is born in them.
    pub(crate) visits: Vec<(Namespace, OwnedFd)>,
    /// The user namespace.
    pub(crate) user: UserNamespace,
}

/// The user namespace of a container.
#[derive(Debug, Default)]
pub(crate) enum UserNamespace {
    /// Its maker's.
    #[default]
    Same,
    /// A new one, whose mappings the parent writes.
    New,
    /// One that is there.
    Joined(OwnedFd),
}

/// What a container is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes<'a> {
    pub(crate) spec: &'a Spec,
    /// That of the document, or an empty one.
    pub(crate) linux: &'a Linux,
    pub(crate) rootfs: &'a Rootfs,
    pub(crate) user: Option<&'a ImageUser>,
    pub(crate) create_cwd: bool,
}

/// Opens and lays out everything for a container whose `root` is open and whose cgroup is made already.
pub(crate) fn container(
    wishes: Wishes<'_>,
    root: OwnedFd,
    stdio: Stdio,
    root_switch: RootSwitch,
    cgroup: &Cgroup,
    extras: &Extras,
) -> Result<Prepared, Error> {
    let Wishes { spec, linux, rootfs, user, .. } = wishes;
    let process = spec.process.as_ref().ok_or_else(|| Error::spec("process property must not be empty"))?;
    let none = Hooks::default();
    let hooks = spec.hooks.as_ref().unwrap_or(&none);
    let mut namespaces = Namespaces::sort(linux, extras)?;
    let files = Files::read(root.as_fd());
    let streams = process::streams(stdio)?;
    let own = |kind| linux.namespaces.iter().find(|namespace| namespace.kind == kind);
    let context = Context {
        cgroup,
        cgroup_namespace: own(NamespaceKind::Cgroup).is_some_and(|one| one.path.is_none()),
        mapped: (!matches!(namespaces.user, UserNamespace::Same))
            .then_some(Mapped { uids: &linux.uid_mappings, gids: &linux.gid_mappings }),
        by_child: match namespaces.mount {
            MountNamespace::Hosts => true,
            MountNamespace::Joined => false,
            MountNamespace::New => matches!(root_switch, RootSwitch::Pivot),
        },
        label: linux.mount_label.as_deref().filter(|label| !label.is_empty() && has_selinux()),
    };
    let mounts = Mounts::plan(&spec.mounts, context)?;
    let Terminal { master: terminal, slave, console, inside } = match streams {
        Some(streams) => Terminal { slave: Some(streams), ..Terminal::default() },
        None => terminal(process, &mounts)?,
    };
    let streams = slave;
    let name = extras.state.as_ref().map_or("wharf", |state| state.id.as_str());
    let keyring = (!extras.old_keyring).then(|| format!("_ses.{name}"));
    let surroundings = Surroundings {
        seccomp: linux.seccomp.as_ref(),
        personality: linux.personality.as_ref(),
        keyring: keyring.as_deref(),
        // Who has a name for it lets it live on by itself.
        death_signal: (matches!(root_switch, RootSwitch::Empty(_)) && !extras.left).then_some(libc::SIGKILL),
        preserved: extras.preserved,
        hooks: Inside::new(&hooks.start_container)?,
    };
    let mut finish = process::finish(process, user, &files, streams, surroundings)?;
    if extras.unprivileged.is_some_and(|maker| maker.fixed_groups) {
        finish.fix_groups();
    }
    let program = Program::new(process);
    let mut steps = vec![Step::Session];
    match namespaces.user {
        UserNamespace::Same => {}
        UserNamespace::New => steps.extend([Step::WaitAttached, Step::BecomeRoot]),
        UserNamespace::Joined(_) => steps.push(Step::BecomeRoot),
    }
    let pivot = enter_mount_namespace(root_switch, linux, &mut namespaces, &mut steps);
    steps.append(&mut namespaces.join);
    if namespaces.flags & libc::CLONE_NEWNET != 0 {
        steps.push(Step::Loopback);
    }
    // Hooks look for the container's mounts where the document says that its root is; and a bind of the host's root must
    // not have the container's over it.
    let seen = context.by_child && context.mapped.is_none() && matches!(rootfs, Rootfs::Path(_));
    let in_place = seen || !hooks.create_container.is_empty() || namespaces.mount == MountNamespace::Hosts;
    steps.push(Step::AttachRoot { at: in_place.then(|| host_path(rootfs)).transpose()? });
    name_host(spec, linux, &mut steps);
    steps.append(&mut fill_root(wishes, process, extras, mounts, console)?);
    steps.append(&mut enter_root(hooks, linux, pivot)?);
    steps.extend(inside);
    if extras.left {
        steps.push(Step::LookUp);
    }
    if !context.cgroup_namespace {
        // Last, so that the parent can set the limits meanwhile: a device rule must not meet a half-written list.
        steps.push(enter_cgroups(cgroup)?);
    }
    let Namespaces { flags, visits, user, .. } = namespaces;
    Ok(Prepared { root, steps, finish, program, terminal, flags, visits, user })
}

/// The hooks that see both roots, and the change from one to the other.
fn enter_root(hooks: &Hooks, linux: &Linux, pivot: bool) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        steps.push(Step::RuntimeHooks);
    }
    steps.extend(Inside::new(&hooks.create_container)?.map(Step::Hooks));
    steps.push(Step::SwitchRoot { pivot });
    if let Some((propagation, recursive)) = root_propagation(linux)? {
        // Only now: a shared root cannot be pivoted to.
        steps.push(Step::RootPropagation { propagation: propagation.flag(), recursive });
    }
    Ok(steps)
}

/// Refuses what this does not do, or cannot for this caller.
pub(crate) fn refuse(spec: &Spec, extras: &Extras) -> Result<(), Error> {
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    let unsupported = |what: &str| Err(Error::Unsupported(what.to_owned()));
    if linux.intel_rdt.is_some() {
        return unsupported("linux.intelRdt");
    }
    if !linux.net_devices.is_empty() && extras.unprivileged.is_some() {
        return unsupported("linux.netDevices without privileges");
    }
    if extras.state.is_none() {
        if spec.hooks.as_ref().is_some_and(|hooks| *hooks != Hooks::default()) {
            return unsupported("hooks");
        }
        if linux.seccomp.as_ref().is_some_and(crate::seccomp::notifies) {
            return unsupported("seccomp notification");
        }
    }
    Ok(())
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn host_path(rootfs: &Rootfs) -> Result<CString, Error> {
    use std::os::unix::ffi::OsStrExt;
    match rootfs {
        Rootfs::Path(path) => text("root.path", path.as_os_str().as_bytes()),
        Rootfs::Overlay(_) => Err(Error::spec("the root file system has no place on the host")),
    }
}

/// Opens the root file system, detached and cut off from the host.
pub(crate) fn open_root(rootfs: &Rootfs) -> Result<OwnedFd, Error> {
    let root = match rootfs {
        Rootfs::Path(path) => sys::mount::bind(path, true),
        Rootfs::Overlay(overlay) => {
            let lower: Vec<&Path> = overlay.lower.iter().map(AsRef::as_ref).collect();
            // The marker of a run before this one would forbid the mount; its upper directory is still good as long as
            // the machine has not gone down since, which the engine knows.
            sys::mount::clear_volatile(&overlay.work).map_err(Error::Root)?;
            let Overlay { upper, work, volatile, .. } = overlay;
            match &overlay.owners {
                None => sys::mount::overlay(&lower, upper, work, *volatile),
                Some(map) => bind::with_owners(map, |owners| {
                    sys::mount::overlay_owned(&lower, upper, work, *volatile, owners)
                }),
            }
        }
    }
    .map_err(Error::Root)?;
    let private = MountAttributes { propagation: Propagation::Private.flag(), ..MountAttributes::default() };
    sys::mount::set_attributes(root.as_fd(), &private, true).map_err(Error::Root)?;
    Ok(root)
}

/// Rows and columns of the terminal.
pub(crate) fn size(process: &Process) -> Option<(u16, u16)> {
    let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    process.console_size.as_ref().map(|size| (small(size.height), small(size.width)))
}

/// How the process gets its terminal.
#[derive(Debug, Default)]
struct Terminal {
    /// The master, if the terminal is made already.
    master: Option<OwnedFd>,
    /// The slave, three times.
    slave: Option<[OwnedFd; 3]>,
    /// The step that binds `/dev/console`.
    console: Option<Step>,
    /// The step that makes the terminal, if it can only be made in the container.
    inside: Option<Step>,
}

/// Makes the terminal in the container's devpts (or the host's, if it has none of its own).
fn terminal(process: &Process, mounts: &Mounts) -> Result<Terminal, Error> {
    let failed = Error::system("make the terminal");
    if mounts.late_devpts {
        let inside = Step::Terminal { size: size(process), console: !mounts.foreign_dev };
        return Ok(Terminal { inside: Some(inside), ..Terminal::default() });
    }
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
    if let Some((rows, columns)) = size(process) {
        sys::terminal::resize(pty.master.as_fd(), rows, columns)
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
    let slave = Some([again()?, again()?, again()?]);
    Ok(Terminal { master: Some(pty.master), slave, console, inside: None })
}

/// Which mounts a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum MountNamespace {
    /// Its maker's: no namespace is named.
    #[default]
    Hosts,
    /// Those of a namespace that is there.
    Joined,
    /// Its own.
    New,
}

/// The namespaces of the document, sorted by how they are entered.
#[derive(Debug, Default)]
struct Namespaces {
    /// Made by the clone.
    flags: i32,
    /// Joined by the child.
    join: Vec<Step>,
    /// Born in.
    visits: Vec<(Namespace, OwnedFd)>,
    /// The user namespace.
    user: UserNamespace,
    /// The mounts.
    mount: MountNamespace,
}

pub(crate) fn kernel_kind(kind: NamespaceKind) -> Namespace {
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
    fn sort(linux: &Linux, extras: &Extras) -> Result<Self, Error> {
        let mut sorted = Self::default();
        let mut new_time = false;
        // In a user namespace of its own the child may not enter those of others: the parent does it for it.
        let mapped = linux.namespaces.iter().any(|one| one.kind == NamespaceKind::User);
        for namespace in &linux.namespaces {
            let kind = kernel_kind(namespace.kind);
            let path = namespace.path.as_deref().filter(|path| !path.is_empty());
            match (kind, path) {
                (Namespace::Mount, None) => sorted.mount = MountNamespace::New,
                (Namespace::User, None) => {
                    sorted.user = UserNamespace::New;
                    sorted.flags |= kind.flag();
                }
                // Entered where the process is in its cgroup.
                (Namespace::Cgroup, None) => {}
                (Namespace::Time, None) => new_time = true,
                (_, None) => sorted.flags |= kind.flag(),
                (_, Some(path)) => {
                    let opened = sys::namespace::open(Path::new(path))
                        .map_err(|source| Error::System { what: "open a namespace", source })?;
                    match kind {
                        Namespace::User => sorted.user = UserNamespace::Joined(opened),
                        Namespace::Pid => sorted.visits.push((kind, opened)),
                        Namespace::Mount | Namespace::Time => sorted.join_later(kind, opened, path),
                        _ if mapped => sorted.visits.push((kind, opened)),
                        _ => sorted.join_later(kind, opened, path),
                    }
                }
            }
        }
        if sorted.mount == MountNamespace::Hosts && !extras.host_mounts {
            // Without one the mounts of the container would be the host's.
            return Err(Error::spec("a mount namespace is needed"));
        }
        if new_time {
            sorted.join.push(Step::Unshare { flags: Namespace::Time.flag() });
        }
        Ok(sorted)
    }

    fn join_later(&mut self, kind: Namespace, namespace: OwnedFd, path: &str) {
        if kind == Namespace::Mount {
            self.mount = MountNamespace::Joined;
        }
        let name = format!("{} namespace {path}", kind.name());
        self.join.push(Step::Join { namespace, flags: kind.flag(), name });
    }
}

/// Lays out how the child gets a mount namespace of its own; says whether the root is then changed by `pivot_root`.
fn enter_mount_namespace(
    switch: RootSwitch,
    linux: &Linux,
    namespaces: &mut Namespaces,
    steps: &mut Vec<Step>,
) -> bool {
    match (namespaces.mount, switch) {
        (MountNamespace::Hosts, _) => return false,
        (MountNamespace::Joined, _) => return true,
        // A user namespace may not enter a mount namespace of the host's: it copies the present one.
        (MountNamespace::New, RootSwitch::Empty(empty)) if matches!(namespaces.user, UserNamespace::Same) => {
            let name = "empty mount namespace".to_owned();
            steps.push(Step::Join { namespace: empty, flags: libc::CLONE_NEWNS, name });
            steps.push(Step::Unshare { flags: libc::CLONE_NEWNS });
            return false;
        }
        (MountNamespace::New, _) => {}
    }
    namespaces.flags |= libc::CLONE_NEWNS;
    let propagation = match linux.rootfs_propagation.as_deref() {
        Some("shared" | "rshared" | "slave" | "rslave") => Propagation::Slave,
        _ => Propagation::Private,
    };
    steps.push(Step::Isolate { propagation: propagation.flag() });
    true
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
    wishes: Wishes<'_>,
    process: &Process,
    extras: &Extras,
    mut mounts: Mounts,
    console: Option<Step>,
) -> Result<Vec<Step>, Error> {
    let Wishes { spec, linux, create_cwd, .. } = wishes;
    let own_users = linux.namespaces.iter().any(|one| one.kind == NamespaceKind::User);
    let mapped = own_users || extras.unprivileged.is_some();
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
        devices::add(linux, mapped, &mut steps)?;
        devices::links(&mut steps);
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
    Ok(steps)
}

fn root_propagation(linux: &Linux) -> Result<Option<(Propagation, bool)>, Error> {
    let wanted = linux.rootfs_propagation.as_deref().unwrap_or_default();
    let (plain, recursive) = match wanted.strip_prefix('r') {
        Some(plain) => (plain, true),
        None => (wanted, false),
    };
    let propagation = match plain {
        "" | "private" => return Ok(None),
        "shared" => Propagation::Shared,
        "slave" => Propagation::Slave,
        "unbindable" => Propagation::Unbindable,
        _ => return Err(Error::Spec(format!("rootfsPropagation={wanted} is not supported"))),
    };
    Ok(Some((propagation, recursive)))
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
    sys::mount::bind_private(null.as_fd()).map_err(|source| Error::System { what: "bind /dev/null", source })
}
