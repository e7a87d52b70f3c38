//! The child's last part: descriptors, limits, identity, capabilities, seccomp, and the program itself.
//!
//! The order matters. Stray descriptors go before the working directory is entered (CVE-2024-21626). Without
//! `no_new_privs` a filter needs `CAP_SYS_ADMIN`, so it is installed before the capabilities are cut down; with it, it
//! comes last, so that it need not allow what is done here.

use crate::channel::{self, Failure, Report, Signal};
use crate::child::fail;
use crate::hooks::Inside;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::CpuSet;
use std::ffi::{CString, c_char};
use sys::capability::{self, Set, Sets};
use sys::path::resolve_bare;
use sys::raw;

/// What the last part works with.
#[derive(Debug)]
pub(crate) struct Finish {
    /// Descriptors 0, 1, 2; `None` if a step opened a terminal.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    /// Whether descriptor 0 becomes the controlling terminal.
    pub(crate) terminal: bool,
    /// Resource limits.
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    /// Name of a new session keyring.
    pub(crate) keyring: Option<CString>,
    /// User.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Supplementary groups; `None` if they stay as they are.
    pub(crate) groups: Option<Vec<Gid>>,
    /// Capabilities; `None` leaves them alone.
    pub(crate) capabilities: Option<Capabilities>,
    /// Whether exec never gives more privileges.
    pub(crate) no_new_privileges: bool,
    /// Filter and flags.
    pub(crate) seccomp: Option<crate::seccomp::Filter>,
    /// File creation mask.
    pub(crate) umask: u32,
    /// Working directory.
    pub(crate) directory: CString,
    /// What it is sent when the thread that cloned it ends.
    pub(crate) death_signal: Option<i32>,
    /// How many descriptors from 3 on the program keeps.
    pub(crate) preserved: u32,
    /// Scheduling policy.
    pub(crate) scheduler: Option<raw::SchedulerAttributes>,
    /// The processors it runs on.
    pub(crate) affinity: Option<CpuSet>,
    /// I/O priority.
    pub(crate) io_priority: Option<i32>,
    /// Execution domain.
    pub(crate) personality: Option<u32>,
    /// What runs in the container before the program.
    pub(crate) hooks: Option<Inside>,
    /// Whether the program's name has a slash: it is not looked for.
    pub(crate) direct: bool,
    /// Paths to try.
    pub(crate) candidates: Vec<CString>,
    /// `"exec PATH: "` for each of them, for what is said after the start.
    pub(crate) complaints: Vec<CString>,
    /// Arguments.
    pub(crate) arguments: Strings,
    /// Environment.
    pub(crate) environment: Strings,
}

/// The five sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) bounding: Set,
    pub(crate) sets: Sets,
    pub(crate) ambient: Set,
}

/// Strings with the list of pointers that exec takes.
pub(crate) struct Strings {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { strings, pointers }
    }

    pub(crate) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(f)
    }
}

/// Parts of the last part, as reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Part {
    Stdio,
    Terminal,
    Limit,
    Keyring,
    Directory,
    Breakout,
    Bounding,
    Groups,
    Gid,
    Uid,
    Capabilities,
    NoNewPrivileges,
    Seccomp,
    IoPriority,
    Personality,
    LookUp,
    Scheduler,
    Affinity,
    Listener,
    Hook,
}

impl Part {
    const ALL: [Self; 20] = [
        Self::Stdio,
        Self::Terminal,
        Self::Limit,
        Self::Keyring,
        Self::Directory,
        Self::Breakout,
        Self::Bounding,
        Self::Groups,
        Self::Gid,
        Self::Uid,
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::Seccomp,
        Self::IoPriority,
        Self::Personality,
        Self::LookUp,
        Self::Scheduler,
        Self::Affinity,
        Self::Listener,
        Self::Hook,
    ];

    /// The part with this number.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|part| *part as u32 == number)
    }

    /// What it was doing.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Stdio => "set up stdio",
            Self::Terminal => "set the controlling terminal",
            Self::Limit => "error setting rlimits",
            Self::Keyring => "join the session keyring",
            Self::Directory => "chdir to cwd",
            Self::Breakout => {
                "current working directory is outside of container mount namespace root -- possible container breakout \
                 detected"
            }
            Self::Bounding => "limit the bounding set",
            Self::Groups => "setgroups",
            Self::Gid => "setgid",
            Self::Uid => "setuid",
            Self::Capabilities => "unable to apply caps",
            Self::NoNewPrivileges => "set no_new_privs",
            Self::Seccomp => "unable to load seccomp program",
            Self::IoPriority => "set the I/O priority",
            Self::Personality => "set the personality",
            Self::LookUp => "find the program",
            Self::Scheduler => "set the scheduling policy",
            Self::Affinity => "set the processors",
            Self::Listener => "give away the seccomp listener",
            Self::Hook => "run the startContainer hooks",
        }
    }
}

type Finished = Result<(), (Part, Errno)>;

/// Executes the program. Never returns.
pub(crate) fn run(finish: &Finish, channel: BorrowedFd<'_>, terminal: Option<&OwnedFd>) -> ! {
    // SAFETY: after `stdio` the channel has this number, until exec closes it.
    let moved = unsafe { BorrowedFd::borrow_raw(finish.channel()) };
    let told = |channel, (part, errno): (Part, Errno)| -> ! {
        fail(channel, Failure { step: Failure::FINISH, part: part as u32, errno })
    };
    if let Err(failed) = stdio(finish, channel, terminal) {
        told(channel, failed);
    }
    let program = match prepare(finish, moved) {
        Ok(program) => program,
        Err(failed) => told(moved, failed),
    };
    let Some(path) = finish.candidates.get(program) else { told(moved, (Part::LookUp, Errno::NOENT)) };
    // SAFETY: both lists end with null and point to strings that live as long as `finish`.
    let errno = unsafe { raw::execve(path, finish.arguments.as_ptr(), finish.environment.as_ptr()) };
    complain(finish, program, errno)
}

/// Says on the container's own standard error why the program did not start, as runc does once a container counts as
/// started, and ends with 255.
fn complain(finish: &Finish, program: usize, errno: Errno) -> ! {
    let say = |text: &[u8]| {
        // SAFETY: descriptor 2 was set up above.
        rustix::io::write(unsafe { BorrowedFd::borrow_raw(2) }, text).ok();
    };
    say(finish.complaints.get(program).map(|text| text.to_bytes()).unwrap_or_default());
    say(match errno {
        Errno::NOEXEC => b"exec format error\n",
        Errno::NOENT => b"no such file or directory\n",
        Errno::ACCESS => b"permission denied\n",
        Errno::TXTBSY => b"text file busy\n",
        Errno::TOOBIG => b"argument list too long\n",
        Errno::NOMEM => b"cannot allocate memory\n",
        Errno::INVAL => b"invalid argument\n",
        Errno::PERM => b"operation not permitted\n",
        Errno::LOOP => b"too many levels of symbolic links\n",
        _ => b"cannot be executed\n",
    });
    raw::exit_now(255)
}

impl Finish {
    /// Leaves the supplementary groups as they are if none are wanted: some user namespaces forbid the question.
    pub(crate) fn fix_groups(&mut self) {
        self.groups = self.groups.take().filter(|groups| !groups.is_empty());
    }

    /// The channel's number after everything else is closed: above what the program keeps. The hooks' two come next.
    fn channel(&self) -> i32 {
        i32::try_from(self.preserved).map_or(i32::MAX, |count| count.saturating_add(3))
    }
}

/// Puts the process's descriptors 0, 1 and 2 in their places.
pub(crate) fn take_streams(finish: &Finish, terminal: Option<&OwnedFd>) -> Result<(), Errno> {
    let sources = match (&finish.stdio, terminal) {
        (Some([stdin, stdout, stderr]), _) => [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
        (None, Some(slave)) => [slave.as_raw_fd(); 3],
        (None, None) => return Err(Errno::BADF),
    };
    for (source, target) in sources.into_iter().zip(0..) {
        // SAFETY: nothing in this process owns descriptors 0 to 2 any more; sources are above.
        if unsafe { libc::dup2(source, target) } < 0 {
            return Err(Errno::BADF);
        }
    }
    Ok(())
}

fn stdio(finish: &Finish, channel: BorrowedFd<'_>, terminal: Option<&OwnedFd>) -> Finished {
    let stdio = |errno| (Part::Stdio, errno);
    take_streams(finish, terminal).map_err(stdio)?;
    let first = finish.channel();
    let mut kept = 1;
    match &finish.hooks {
        None => place(channel.as_raw_fd(), first).map_err(stdio)?,
        Some(hooks) => {
            let [state, null] = hooks.descriptors();
            // Copied out of the way first: one may have another's future number.
            let high = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, first.saturating_add(3));
            let copies =
                [high(channel).map_err(stdio)?, high(state).map_err(stdio)?, high(null).map_err(stdio)?];
            for (copy, number) in copies.iter().zip(first..) {
                place(copy.as_raw_fd(), number).map_err(stdio)?;
            }
            kept = 3;
        }
    }
    // SAFETY: no other descriptor is used after this.
    unsafe { raw::close_range(first.unsigned_abs().saturating_add(kept), u32::MAX, 0) }.map_err(stdio)?;
    if finish.terminal {
        // SAFETY: TIOCSCTTY takes a number.
        if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
            return Err((Part::Terminal, Errno::NOTTY));
        }
    }
    Ok(())
}

/// Gives a descriptor the number `target`.
fn place(source: i32, target: i32) -> Result<(), Errno> {
    if source == target {
        return Ok(());
    }
    // SAFETY: from here on the number is only used for this; whoever owned it never runs again.
    if unsafe { libc::dup3(source, target, libc::O_CLOEXEC) } < 0 { Err(Errno::BADF) } else { Ok(()) }
}

/// Does everything before exec; returns which of the candidates is the program.
fn prepare(finish: &Finish, channel: BorrowedFd<'_>) -> Result<usize, (Part, Errno)> {
    let at = |part: Part| move |errno: Errno| (part, errno);
    for (resource, limit) in &finish.limits {
        rustix::process::setrlimit(*resource, *limit).map_err(at(Part::Limit))?;
    }
    if let Some(scheduler) = finish.scheduler {
        raw::set_scheduler(scheduler).map_err(at(Part::Scheduler))?;
    }
    if let Some(processors) = &finish.affinity {
        rustix::thread::sched_setaffinity(None, processors).map_err(at(Part::Affinity))?;
    }
    if let Some(priority) = finish.io_priority {
        raw::set_io_priority(priority).map_err(at(Part::IoPriority))?;
    }
    if let Some(persona) = finish.personality {
        raw::personality(persona).map_err(at(Part::Personality))?;
    }
    if let Some(name) = &finish.keyring {
        match raw::join_session_keyring(Some(name)) {
            // A kernel without keys, or one that a filter around us hides, has none to protect.
            Ok(()) | Err(Errno::NOSYS | Errno::PERM | Errno::DQUOT) => {}
            Err(errno) => return Err((Part::Keyring, errno)),
        }
    }
    own_stdio(finish.uid);
    let entered = enter_directory(finish);
    if !matches!(entered, Ok(()) | Err((Part::Directory, Errno::ACCESS))) {
        entered?;
    }
    become_user(finish)?;
    if entered.is_err() {
        // What root may not enter (a network file system) the user perhaps may.
        enter_directory(finish)?;
    }
    if let Some(signal) = finish.death_signal {
        // After the change of user, which would take it back, and before a filter that might forbid it.
        // SAFETY: numbers only; with a valid signal it cannot fail.
        unsafe { raw::prctl(libc::PR_SET_PDEATHSIG, u64::from(signal.unsigned_abs()), 0, 0) }.ok();
        // A parent that died before sends no signal any more.
        if channel::is_orphan(channel) {
            raw::exit_now(1);
        }
    }
    rustix::process::umask(Mode::from_raw_mode(finish.umask & 0o777));
    let early = finish.seccomp.as_ref().filter(|_| !finish.no_new_privileges);
    let late = finish.seccomp.as_ref().filter(|_| finish.no_new_privileges);
    if let Some(filter) = early {
        install(filter, channel)?;
    }
    if let Some(capabilities) = &finish.capabilities {
        capability::set(capabilities.sets).map_err(at(Part::Capabilities))?;
        capability::set_ambient(capabilities.ambient).map_err(at(Part::Capabilities))?;
    }
    if finish.no_new_privileges {
        // SAFETY: numbers only.
        unsafe { raw::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0) }.map_err(at(Part::NoNewPrivileges))?;
    }
    let program = look_up(finish).map_err(at(Part::LookUp))?;
    if let Some(filter) = late {
        install(filter, channel)?;
    }
    if let Some(hooks) = &finish.hooks {
        let first = finish.channel();
        // SAFETY: `stdio` has put the hooks' descriptors there.
        let state = unsafe { BorrowedFd::borrow_raw(first.saturating_add(1)) };
        // SAFETY: as above.
        let null = unsafe { BorrowedFd::borrow_raw(first.saturating_add(2)) };
        hooks.run(state, null).map_err(|(_, errno)| (Part::Hook, errno))?;
    }
    Ok(program)
}

/// Installs a filter; its listener, if it has one, is taken by the parent before this goes on.
fn install((filter, flags): &crate::seccomp::Filter, channel: BorrowedFd<'_>) -> Finished {
    let listener = sys::seccomp::install(filter, *flags).map_err(|errno| (Part::Seccomp, errno))?;
    let Some(listener) = listener else { return Ok(()) };
    let failed = |errno| (Part::Listener, errno);
    Report::Listener(listener.as_raw_fd().unsigned_abs()).write(channel).map_err(failed)?;
    // This read may be the listener's first question.
    if channel::wait(channel, Signal::Listener) { Ok(()) } else { Err(failed(Errno::PIPE)) }
}

/// Says why none of the candidates can be the program, as far as is sure before the user and the working directory are
/// entered: for telling it when the container is made rather than when it is started.
pub(crate) fn missing(finish: &Finish) -> Option<Errno> {
    if finish.candidates.iter().any(|path| path.to_bytes().first() != Some(&b'/')) {
        return None;
    }
    match look_up(finish) {
        // What root may not read (a network file system) the user perhaps may.
        Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::ISDIR)) => Some(errno),
        Err(Errno::ACCESS) if finish.direct => Some(Errno::ACCESS),
        _ => None,
    }
}

/// Lets the user open its own pipes and terminal again through `/dev/stdout`, as runc does, and lets null devices be the
/// container's.
fn own_stdio(uid: u32) {
    for number in 0..3 {
        // SAFETY: descriptors 0 to 2 were set up above.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(status) = rustix::fs::fstat(fd) else { continue };
        if is_null(&status) {
            own_null(number);
            continue;
        }
        let is_terminal = rustix::termios::isatty(fd);
        let is_pipe = FileType::from_raw_mode(status.st_mode) == FileType::Fifo;
        if status.st_uid != uid && (is_terminal || is_pipe) {
            // A pipe of another file system may refuse; then it stays as it was.
            rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None).ok();
        }
    }
}

fn is_null(status: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == rustix::fs::makedev(1, 3)
}

/// Replaces the host's null device as a stream by the container's own, as runc does: the host's is on a mount that the container
/// does not have, which CRIU cannot make again. What is no null device there is left alone.
fn own_null(number: i32) {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(own) = rustix::fs::open(c"/dev/null", flags, Mode::empty()) else { return };
    if rustix::fs::fstat(&own).is_ok_and(|status| is_null(&status)) {
        // SAFETY: nothing in this process owns descriptors 0 to 2 as more than a number. Failing, the old one stays.
        unsafe { libc::dup2(own.as_raw_fd(), number) };
    }
}

fn enter_directory(finish: &Finish) -> Finished {
    let failed = |errno| (Part::Directory, errno);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = finish.directory.as_c_str();
    let directory = resolve_bare(CWD, path, flags, ResolveFlags::NO_MAGICLINKS).map_err(failed)?;
    rustix::process::fchdir(&directory).map_err(failed)?;
    let mut path = [0_u8; 4096];
    // SAFETY: pointer and length belong together. The C library's getcwd hides what is looked for here.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    // From outside the root the kernel says "(unreachable)/…" (getcwd(2)).
    if length <= 0 || path.first() != Some(&b'/') {
        return Err((Part::Breakout, Errno::NOENT));
    }
    Ok(())
}

fn become_user(finish: &Finish) -> Finished {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let at = |part: Part| move |errno: Errno| (part, errno);
    if let Some(capabilities) = &finish.capabilities {
        capability::limit_bounding(capabilities.bounding).map_err(at(Part::Bounding))?;
    }
    let (uid, gid) = (Uid::from_raw(finish.uid), Gid::from_raw(finish.gid));
    if finish.capabilities.is_some() {
        // SAFETY: numbers only.
        unsafe { raw::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0) }.map_err(at(Part::Capabilities))?;
    }
    if let Some(groups) = &finish.groups {
        set_thread_groups(groups).map_err(at(Part::Groups))?;
    }
    set_thread_res_gid(gid, gid, gid).map_err(at(Part::Gid))?;
    set_thread_res_uid(uid, uid, uid).map_err(at(Part::Uid))?;
    if finish.capabilities.is_some() {
        // SAFETY: numbers only.
        unsafe { raw::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0) }.map_err(at(Part::Capabilities))?;
        // Leaving root empties the effective set; what is still permitted is needed for a moment.
        let now = capability::current().map_err(at(Part::Capabilities))?;
        capability::set(Sets { effective: now.permitted, ..now }).map_err(at(Part::Capabilities))?;
    }
    Ok(())
}

/// Finds the program as Go's `LookPath` does, which decides what Docker's users are told.
fn look_up(finish: &Finish) -> Result<usize, Errno> {
    for (index, path) in finish.candidates.iter().enumerate() {
        match executable(path) {
            Ok(()) => return Ok(index),
            Err(errno) if finish.direct => return Err(errno),
            Err(_) => {}
        }
    }
    Err(Errno::NOENT)
}

fn executable(path: &CString) -> Result<(), Errno> {
    let status = rustix::fs::statat(CWD, path.as_c_str(), AtFlags::empty())?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    match rustix::fs::accessat(CWD, path.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS) {
        // A filter may forbid the question; exec itself then gives the answer.
        Ok(()) | Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}
