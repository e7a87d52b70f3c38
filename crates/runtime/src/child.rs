//! The child between clone and exec.
//!
//! Nothing here allocates, locks, logs or unwinds: every text and descriptor was made by the parent, and an error is
//! reported as (step, part, errno). Descriptors are closed by exec, or before by [`crate::finish`].

use crate::channel::{self, Failure, Report, Signal};
use crate::copy_up;
use crate::finish::{self, Finish};
use crate::step::{PART_COPY, PART_INSIDE_PROC, PART_MOVE, Place, Step, Taken};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::Resource;
use std::ffi::CStr;
use sys::mount::ATTR_RDONLY;
use sys::path::{Create, create_in_root_bare, open_in_root_bare, resolve_bare};
use sys::raw::{self, MountAttributes};

/// What the child works with.
pub(crate) struct Child<'a> {
    /// To the parent.
    pub(crate) channel: BorrowedFd<'a>,
    /// The container's root; the present directory where there is none to make (exec).
    pub(crate) root: BorrowedFd<'a>,
    /// What to do.
    pub(crate) steps: &'a [Step],
    /// The last part.
    pub(crate) finish: &'a Finish,
    /// Where the start is asked for, if the parent does not stay to ask for it.
    pub(crate) listener: Option<BorrowedFd<'a>>,
    /// The user namespace in which the init is to begin.
    pub(crate) between: Option<Between<'a>>,
}

/// How a process begins in a user namespace that is there already: this child joins it and clones the process, so that all
/// new namespaces belong to it.
#[derive(Clone, Copy)]
pub(crate) struct Between<'a> {
    /// The user namespace, or a process.
    pub(crate) namespace: BorrowedFd<'a>,
    /// `CLONE_NEW*` of what is joined.
    pub(crate) kinds: i32,
    /// `CLONE_NEW*` of the init.
    pub(crate) flags: u64,
    /// The cgroup it begins in.
    pub(crate) into: Option<BorrowedFd<'a>>,
}

/// What steps leave for later ones.
#[derive(Default)]
struct Made {
    /// A procfs of the container's process namespace.
    proc: Option<OwnedFd>,
    /// The slave of the terminal.
    terminal: Option<OwnedFd>,
}

/// A failed part of a step.
type Stepped = Result<(), (u32, Errno)>;

fn whole(errno: Errno) -> (u32, Errno) {
    (0, errno)
}

/// Carries out all steps, waits for the start, and executes the program. Never returns.
pub(crate) fn run(child: &Child<'_>) -> ! {
    let mut made = Made::default();
    // What joins a container must not be looked into from there before it has become part of it (CVE-2016-9962).
    // SAFETY: PR_SET_DUMPABLE takes a number.
    unsafe { raw::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0) }.ok();
    if let Some(between) = child.between {
        go_between(between, child.channel);
    }
    rustix::process::umask(Mode::empty());
    reset_signals();
    for (index, step) in child.steps.iter().enumerate() {
        let outcome = crate::fault::step().and_then(|()| carry_out(step, child, &mut made));
        if let Err((part, errno)) = outcome {
            fail(child.channel, Failure { step: u32::try_from(index).unwrap_or(0), part, errno });
        }
    }
    // Who waits by itself must not keep the streams of the command that made it: its caller waits for their end.
    if child.listener.is_some()
        && let Err(errno) = finish::take_streams(child.finish, made.terminal.as_ref())
    {
        let part = finish::Part::Stdio as u32;
        fail(child.channel, Failure { step: Failure::FINISH, part, errno });
    }
    if Report::Ready.send(child.channel).is_err() {
        raw::exit_now(1);
    }
    let Some(listener) = child.listener else {
        if !channel::wait(child.channel, Signal::Start) {
            raw::exit_now(1);
        }
        finish::run(child.finish, child.channel, made.terminal.as_ref())
    };
    loop {
        let accepted = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC);
        match accepted {
            Ok(caller) if channel::wait(caller.as_fd(), Signal::Start) => {
                finish::run(child.finish, caller.as_fd(), made.terminal.as_ref())
            }
            // Whoever only looked in may do so.
            Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => raw::exit_now(1),
        }
    }
}

/// Joins the user namespace and clones the init as a sibling; returns in the init only.
fn go_between(between: Between<'_>, channel: BorrowedFd<'_>) {
    let told = |errno| -> ! { fail(channel, Failure { step: Failure::USER_NAMESPACE, part: 0, errno }) };
    if let Err(errno) = raw::setns(between.namespace, between.kinds) {
        told(errno);
    }
    let flags = between.flags | u64::from(libc::CLONE_PARENT.unsigned_abs());
    // SAFETY: no memory is shared; both sides make bare calls only. A sibling's exit signal is that of this process.
    match unsafe { raw::clone3(flags, 0, between.into) } {
        Ok(raw::Cloned::Child) => {}
        Ok(raw::Cloned::Parent { pidfd, .. }) => {
            let told = channel::send_with(channel, Report::Begun, pidfd.as_fd());
            raw::exit_now(i32::from(told.is_err()))
        }
        Err(errno) => told(errno),
    }
}

/// Reports a failure and ends.
pub(crate) fn fail(channel: BorrowedFd<'_>, failure: Failure) -> ! {
    // If the parent is gone there is nobody left to tell.
    Report::Failed(failure).send(channel).ok();
    raw::exit_now(1)
}

/// Gives every signal its default action and blocks none: the parent's choices are not the program's.
fn reset_signals() {
    for signal in 1..=sys::signal::MAX {
        // SIGKILL and SIGSTOP cannot be set and need not be.
        raw::reset_signal(signal).ok();
    }
    raw::sigprocmask(raw::MaskChange::Set, 0).ok();
}

fn carry_out(step: &Step, child: &Child<'_>, made: &mut Made) -> Stepped {
    match step {
        Step::Isolate { propagation } => {
            let flags = u32::try_from(*propagation).unwrap_or(0);
            let flags = rustix::mount::MountPropagationFlags::from_bits_retain(flags)
                | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change(c"/", flags).map_err(whole)
        }
        Step::AttachRoot { at } => attach_root(child.root, at.as_deref().unwrap_or(c"/")).map_err(whole),
        Step::PrivateProc => {
            made.proc = Some(make_file_system(c"proc", &[], 0).map_err(whole)?);
            Ok(())
        }
        Step::Make { kind, parameters, attributes, place, keep } => {
            let mount = make_file_system(kind, parameters, *attributes).map_err(whole)?;
            attach(child.root, mount.as_fd(), place)?;
            if *keep {
                made.proc = Some(mount);
            }
            Ok(())
        }
        Step::Bind { source, recursive, changes, place, .. } => {
            bind(child.root, (source, *recursive), changes, place)
        }
        Step::Attach { mount, place } => attach(child.root, mount.as_fd(), place),
        Step::Change { path, attributes } => {
            let target =
                open_in_root_bare(child.root, path, OFlags::PATH, ResolveFlags::empty()).map_err(whole)?;
            raw::mount_setattr(target.as_fd(), c"", libc::AT_EMPTY_PATH, attributes).map_err(whole)
        }
        Step::Directory { path } => {
            create_in_root_bare(child.root, path, Create::Directory, 0o755).map(drop).map_err(whole)
        }
        Step::Device { directory, name, mode, device, owner } => {
            make_device(child.root, (directory, name), *mode, *device, *owner).map_err(whole)
        }
        Step::Link { directory, name, target } => {
            let directory =
                create_in_root_bare(child.root, directory, Create::Directory, 0o755).map_err(whole)?;
            match rustix::fs::symlinkat(target.as_c_str(), &directory, name.as_c_str()) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(whole(errno)),
            }
        }
        Step::Console { devpts, number } => bind_console(child.root, *devpts, number).map_err(whole),
        Step::Mask { paths, directory, file } => mask(child.root, paths, [directory.as_fd(), file.as_fd()]),
        Step::ReadOnly { path } => make_read_only(child.root, path).map_err(whole),
        Step::RootReadOnly => {
            let attributes = MountAttributes { set: ATTR_RDONLY, ..MountAttributes::default() };
            raw::mount_setattr(child.root, c"", libc::AT_EMPTY_PATH, &attributes).map_err(whole)
        }
        Step::RootPropagation { propagation, recursive } => {
            let attributes = MountAttributes { propagation: *propagation, ..MountAttributes::default() };
            let flags = libc::AT_EMPTY_PATH | if *recursive { libc::AT_RECURSIVE } else { 0 };
            raw::mount_setattr(child.root, c"", flags, &attributes).map_err(whole)
        }
        Step::SwitchRoot { pivot } => switch_root(child.root, *pivot).map_err(whole),
        Step::Write { file, value } => {
            let proc = made.proc.as_ref().ok_or(whole(Errno::BADF))?;
            write_proc(proc.as_fd(), file, value).map_err(whole)
        }
        other => carry_out_further(other, child, made),
    }
}

/// The steps that are not about mounts.
fn carry_out_further(step: &Step, child: &Child<'_>, made: &mut Made) -> Stepped {
    match step {
        Step::Session => rustix::process::setsid().map(drop).map_err(whole),
        Step::Join { namespace, flags, .. } => raw::setns(namespace.as_fd(), *flags).map_err(whole),
        Step::Unshare { flags } => raw::unshare(*flags).map_err(whole),
        Step::WaitAttached => wait(child, Signal::Attached),
        Step::EnterCgroups { entrances } => {
            entrances.iter().try_for_each(|entrance| write_all(entrance.as_fd(), b"0")).map_err(whole)
        }
        Step::BecomeRoot => become_root().map_err(whole),
        Step::Hostname(name) => raw::sethostname(name).map_err(whole),
        Step::Domainname(name) => raw::setdomainname(name).map_err(whole),
        Step::Loopback => loopback_up().map_err(whole),
        Step::Terminal { size, console } => {
            let slave = open_terminal(child.channel, *size).map_err(whole)?;
            if *console {
                let mount = clone_mount(slave.as_fd(), c"", false).map_err(whole)?;
                attach_console(child.root, mount.as_fd()).map_err(whole)?;
            }
            made.terminal = Some(slave);
            Ok(())
        }
        Step::RuntimeHooks => {
            Report::Hooks.send(child.channel).map_err(whole)?;
            wait(child, Signal::Hooks)
        }
        Step::Hooks(hooks) => hooks.run_here(),
        Step::LookUp => match finish::missing(child.finish) {
            None => Ok(()),
            Some(errno) => {
                let part = finish::Part::LookUp as u32;
                fail(child.channel, Failure { step: Failure::FINISH, part, errno })
            }
        },
        Step::Affinity(processors) => rustix::thread::sched_setaffinity(None, processors).map_err(whole),
        _ => Err(whole(Errno::NOSYS)),
    }
}

/// Waits for the parent's word; without a parent there is nothing to go on for.
fn wait(child: &Child<'_>, signal: Signal) -> Stepped {
    if channel::wait(child.channel, signal) {
        return Ok(());
    }
    raw::exit_now(1)
}

fn become_root() -> Result<(), Errno> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    match set_thread_groups(&[]) {
        // Mappings without privileges deny it.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

const EMPTY_TO_PATH: MoveMountFlags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;

fn attach_root(root: BorrowedFd<'_>, at: &CStr) -> Result<(), Errno> {
    rustix::mount::move_mount(root, c"", CWD, at, EMPTY_TO_PATH)?;
    // Relative look-ups must not begin in what is covered now.
    rustix::process::fchdir(root)
}

fn make_file_system(
    kind: &CStr,
    parameters: &[(std::ffi::CString, Option<std::ffi::CString>)],
    attributes: u32,
) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in parameters {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?,
            None => rustix::mount::fsconfig_set_flag(&context, key.as_c_str())?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn bind(
    root: BorrowedFd<'_>,
    (source, recursive): (&CStr, bool),
    changes: &[(MountAttributes, bool)],
    place: &Place,
) -> Stepped {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = rustix::mount::open_tree(CWD, source, flags).map_err(whole)?;
    for (attributes, recursive) in changes {
        let flags = libc::AT_EMPTY_PATH | if *recursive { libc::AT_RECURSIVE } else { 0 };
        raw::mount_setattr(mount.as_fd(), c"", flags, attributes).map_err(whole)?;
    }
    attach(root, mount.as_fd(), place)
}

fn is_procfs(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let magic = rustix::fs::fstatfs(fd)?.f_type;
    Ok(u64::try_from(magic).is_ok_and(|magic| magic == PROC_SUPER_MAGIC))
}

fn attach(root: BorrowedFd<'_>, mount: BorrowedFd<'_>, place: &Place) -> Stepped {
    let (target, existed) = target(root, place).map_err(whole)?;
    // Volumes and images must not put something of theirs where the kernel's answers are looked for.
    if !place.inside_proc && is_procfs(target.as_fd()).map_err(whole)? {
        return Err((PART_INSIDE_PROC, Errno::PERM));
    }
    if existed && place.taken.mode {
        let mode = rustix::fs::fstat(&target).map_err(whole)?.st_mode;
        let permissions = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(mount, c".", permissions, AtFlags::empty()).map_err(whole)?;
    }
    if existed && place.taken.content {
        copy_up::copy(target.as_fd(), mount).map_err(|errno| (PART_COPY, errno))?;
    }
    let moved = move_onto(mount, target.as_fd());
    // The kernel says EINVAL for many things; this one users meet.
    if moved == Err(Errno::INVAL) && is_directory(mount) != is_directory(target.as_fd()) {
        return Err((PART_MOVE, Errno::NOTDIR));
    }
    moved.map_err(|errno| (PART_MOVE, errno))
}

/// Opens the place of a mount, made if it is not there; says whether it was.
fn target(root: BorrowedFd<'_>, place: &Place) -> Result<(OwnedFd, bool), Errno> {
    if !place.ordinary && place.taken == Taken::default() {
        return Ok((create_in_root_bare(root, &place.target, place.create, 0o755)?, true));
    }
    let resolve = if place.ordinary { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
    match open_in_root_bare(root, &place.target, OFlags::PATH, resolve) {
        Err(Errno::NOENT) => Ok((create_in_root_bare(root, &place.target, place.create, 0o755)?, false)),
        other => Ok((other?, true)),
    }
}

fn is_directory(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

fn move_onto(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = EMPTY_TO_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags)
}

fn make_device(
    root: BorrowedFd<'_>,
    (directory, name): (&CStr, &CStr),
    mode: u32,
    device: u64,
    (uid, gid): (u32, u32),
) -> Result<(), Errno> {
    let directory = create_in_root_bare(root, directory, Create::Directory, 0o755)?;
    let kind = FileType::from_raw_mode(mode);
    match rustix::fs::mknodat(&directory, name, kind, Mode::from_raw_mode(mode & 0o7777), device) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let owner = Some(rustix::process::Uid::from_raw(uid));
    let group = Some(rustix::process::Gid::from_raw(gid));
    rustix::fs::chownat(&directory, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
}

fn clone_mount(fd: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(fd, path, flags)
}

fn bind_console(root: BorrowedFd<'_>, devpts: i32, number: &CStr) -> Result<(), Errno> {
    // SAFETY: a step before attached this mount, and its descriptor stays open until exec.
    let devpts = unsafe { BorrowedFd::borrow_raw(devpts) };
    let slave = clone_mount(devpts, number, false)?;
    attach_console(root, slave.as_fd())
}

fn attach_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<(), Errno> {
    let directory = create_in_root_bare(root, c"dev", Create::Directory, 0o755)?;
    // Whatever the image has under this name is not followed (CVE-2025-52565).
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(&directory, c"console", flags, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(Errno::EXIST | Errno::NXIO) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(&directory, c"console", flags, Mode::empty())?;
    move_onto(slave, target.as_fd())
}

fn mask(root: BorrowedFd<'_>, paths: &[std::ffi::CString], covers: [BorrowedFd<'_>; 2]) -> Stepped {
    // The first use attaches the parent's mount itself, further ones copies of it: a detached mount cannot be copied
    // before kernel 6.15.
    let mut used = [false, false];
    for (index, path) in paths.iter().enumerate() {
        let at = |errno| (u32::try_from(index).unwrap_or(u32::MAX), errno);
        let target = match open_in_root_bare(root, path, OFlags::PATH, ResolveFlags::empty()) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(errno) => return Err(at(errno)),
        };
        let mode = rustix::fs::fstat(&target).map_err(at)?.st_mode;
        let kind = usize::from(FileType::from_raw_mode(mode) != FileType::Directory);
        let (Some(cover), Some(used)) = (covers.get(kind), used.get_mut(kind)) else { continue };
        if *used {
            let copy = clone_mount(*cover, c"", false).map_err(at)?;
            move_onto(copy.as_fd(), target.as_fd()).map_err(at)?;
        } else {
            move_onto(*cover, target.as_fd()).map_err(at)?;
            *used = true;
        }
    }
    Ok(())
}

fn make_read_only(root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = match open_in_root_bare(root, path, OFlags::PATH, ResolveFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let copy = clone_mount(target.as_fd(), c"", true)?;
    let attributes = MountAttributes { set: ATTR_RDONLY, ..MountAttributes::default() };
    raw::mount_setattr(copy.as_fd(), c"", libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, &attributes)?;
    move_onto(copy.as_fd(), target.as_fd())
}

fn switch_root(root: BorrowedFd<'_>, pivot: bool) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    if pivot {
        // pivot_root(2): the old root is stacked over the new one, and goes with the detach.
        rustix::process::pivot_root(c".", c".")?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    } else {
        rustix::process::chroot(c".")?;
    }
    rustix::process::chdir(c"/")
}

fn write_proc(proc: BorrowedFd<'_>, file: &CStr, value: &[u8]) -> Result<(), Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = resolve_bare(proc, file, flags, resolve)?;
    write_all(file.as_fd(), value)
}

/// Writes a value that the kernel takes whole or not at all.
fn write_all(file: BorrowedFd<'_>, value: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::io::write(file, value) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

fn loopback_up() -> Result<(), Errno> {
    use rustix::fd::AsRawFd;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    // struct ifreq: 16 bytes of name, then (for flags) a short.
    let mut request = [0_u8; 40];
    for (place, byte) in request.iter_mut().zip(*b"lo") {
        *place = byte;
    }
    for (place, byte) in request.iter_mut().skip(16).zip((libc::IFF_UP | libc::IFF_RUNNING).to_ne_bytes()) {
        *place = byte;
    }
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: SIOCSIFFLAGS reads a `struct ifreq`, which is as large as the request.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, request.as_ptr()) };
    if result < 0 { Err(Errno::IO) } else { Ok(()) }
}

/// Opens a terminal in the devpts that the container has; what is not one is refused.
fn open_terminal(channel: BorrowedFd<'_>, size: Option<(u16, u16)>) -> Result<OwnedFd, Errno> {
    const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let devpts = resolve_bare(CWD, c"/dev/pts", flags, resolve)?;
    let magic = rustix::fs::fstatfs(&devpts)?.f_type;
    if !u64::try_from(magic).is_ok_and(|magic| magic == DEVPTS_SUPER_MAGIC) {
        return Err(Errno::NODEV);
    }
    let pty = sys::terminal::open_bare(devpts.as_fd())?;
    if let Some((rows, columns)) = size {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&pty.master, size)?;
    }
    channel::send_with(channel, Report::Terminal, pty.master.as_fd())?;
    Ok(pty.slave)
}

/// The number of a resource limit, for [`crate::finish`].
pub(crate) fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}
