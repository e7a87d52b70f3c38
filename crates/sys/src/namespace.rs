//! Namespaces: open, make, enter, come back.
//!
//! Namespaces belong to threads. Whoever enters one on a pool thread strands what runs there next, so the helpers that
//! leave the thread as it was ([`within`], [`fresh`]) run their work on a thread of its own.

use crate::{Error, Result, raw};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// A kind of namespace (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// Mounts.
    Mount,
    /// Host and domain name.
    Uts,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Users and capabilities.
    User,
    /// Process numbers.
    Pid,
    /// Network devices, addresses, ports.
    Network,
    /// The view of the cgroup hierarchy.
    Cgroup,
    /// Boot and monotonic clock.
    Time,
}

impl Namespace {
    /// All kinds.
    pub const ALL: [Self; 8] =
        [Self::Mount, Self::Uts, Self::Ipc, Self::User, Self::Pid, Self::Network, Self::Cgroup, Self::Time];

    /// Returns the `CLONE_NEW*` flag.
    pub fn flag(self) -> i32 {
        match self {
            Self::Mount => libc::CLONE_NEWNS,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::User => libc::CLONE_NEWUSER,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => 0x80,
        }
    }

    /// Returns the name under `/proc/PID/ns`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::User => "user",
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Returns the path of this thread's namespace.
    pub fn own_path(self) -> PathBuf {
        PathBuf::from(format!("/proc/thread-self/ns/{}", self.name()))
    }
}

/// Returns the flags of a set of kinds.
pub fn flags(kinds: &[Namespace]) -> i32 {
    kinds.iter().fold(0, |flags, kind| flags | kind.flag())
}

/// Opens this thread's namespace of `kind`.
///
/// # Errors
///
/// `NOENT` if the kernel has no such kind.
pub fn current(kind: Namespace) -> Result<OwnedFd> {
    open(&kind.own_path())
}

/// Opens the namespace at `path`.
///
/// # Errors
///
/// Those of open(2).
pub fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(Error::at("open", path))
}

/// Moves this thread into new namespaces of these kinds.
///
/// # Errors
///
/// Those of unshare(2).
pub fn unshare(kinds: &[Namespace]) -> Result<()> {
    raw::unshare(flags(kinds)).map_err(|errno| Error::new("unshare", format_args!("{kinds:?}"), errno))
}

/// Moves this thread into the namespace `fd`, which must be of `kind`.
///
/// A thread of a process with several can enter a mount namespace only after it has its own file-system attributes;
/// that is seen to.
///
/// # Errors
///
/// Those of setns(2).
pub fn enter(fd: BorrowedFd<'_>, kind: Namespace) -> Result<()> {
    if kind == Namespace::Mount {
        raw::unshare(libc::CLONE_FS).map_err(Error::on("unshare", "CLONE_FS"))?;
    }
    raw::setns(fd, kind.flag()).map_err(Error::on("setns", kind.name()))
}

/// Runs `work` inside the namespace `fd` of `kind`, on a thread of its own, and returns its result.
///
/// # Errors
///
/// Those of setns(2).
pub fn within<T: Send>(fd: BorrowedFd<'_>, kind: Namespace, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_own_thread(|| enter(fd, kind).map(|()| work()))
}

/// Runs `work` inside new namespaces of `kinds`, on a thread of its own, and returns its result.
///
/// # Errors
///
/// Those of unshare(2).
pub fn fresh<T: Send>(kinds: &[Namespace], work: impl FnOnce() -> T + Send) -> Result<T> {
    on_own_thread(|| unshare(kinds).map(|()| work()))
}

/// Makes a new namespace of `kind` that lives as long as the descriptor (or something in it).
///
/// # Errors
///
/// Those of unshare(2).
pub fn create(kind: Namespace) -> Result<OwnedFd> {
    fresh(&[kind], || current(kind))?
}

/// Makes a user namespace with these mappings (lines of `/proc/PID/uid_map`), which lives as long as the descriptor.
///
/// # Errors
///
/// Those of clone3(2) and of writing the maps.
pub fn user(uid_map: &str, gid_map: &str) -> Result<OwnedFd> {
    born_in(
        Namespace::User,
        || Ok(()),
        |pid| {
            let write = |name: &str, map: &str| {
                crate::path::write_value(None, Path::new(&format!("/proc/{pid}/{name}")), map.as_bytes())
            };
            write("uid_map", uid_map)?;
            write("gid_map", gid_map)
        },
    )
}

/// Makes a namespace of `kind` that belongs to the user namespace `users`: whoever has the capabilities there has them
/// over it (`user_namespaces(7)`).
///
/// # Errors
///
/// Those of clone3(2), setns(2) and unshare(2).
pub fn create_owned(kind: Namespace, users: BorrowedFd<'_>) -> Result<OwnedFd> {
    born_in(
        kind,
        || {
            raw::setns(users, Namespace::User.flag())?;
            raw::unshare(kind.flag())
        },
        |_| Ok(()),
    )
}

/// Has a short-lived process make a namespace of `kind`, and opens it: only a process with one thread can enter a user
/// namespace. What it does `before` must be fit for a child of a process with threads (bare calls). User namespaces are made
/// by the clone itself.
fn born_in(
    kind: Namespace,
    before: impl FnOnce() -> std::result::Result<(), Errno>,
    then: impl FnOnce(i32) -> Result<()>,
) -> Result<OwnedFd> {
    let failed = |errno| Error::new("clone3", format_args!("{} namespace", kind.name()), errno);
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed);
    let ((wait, hold), (ready, tell)) = (pipe()?, pipe()?);
    let flags = if kind == Namespace::User { kind.flag() } else { 0 };
    // SAFETY: no memory is shared; the child only makes bare calls and ends.
    match unsafe { raw::clone3(u64::from(flags.unsigned_abs()), libc::SIGCHLD, None) } {
        Ok(raw::Cloned::Child) => {
            drop(hold);
            let outcome = before().err().map_or(0, Errno::raw_os_error);
            rustix::io::write(&tell, &outcome.to_ne_bytes()).ok();
            // Until the parent closes its end or is gone.
            rustix::io::read(&wait, &mut [0_u8; 1]).ok();
            raw::exit_now(0)
        }
        Ok(raw::Cloned::Parent { pid, pidfd }) => {
            drop(tell);
            let made = || {
                let mut outcome = [0; 4];
                let told = rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut outcome));
                match (told, i32::from_ne_bytes(outcome)) {
                    (Ok(4), 0) => {}
                    (Ok(4), errno) => return Err(failed(Errno::from_raw_os_error(errno))),
                    _ => return Err(failed(Errno::CHILD)),
                }
                then(pid)?;
                open(Path::new(&format!("/proc/{pid}/ns/{}", kind.name())))
            };
            let made = made();
            drop(hold);
            crate::pidfd::wait(pidfd.as_fd())?;
            made
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// Returns the `CLONE_NEW*` flag of the namespace that a descriptor refers to (`NS_GET_NSTYPE`).
///
/// # Errors
///
/// `NOTTY` if it is no namespace.
pub fn kind_of(fd: BorrowedFd<'_>) -> Result<i32> {
    use rustix::fd::AsRawFd;
    const GET_TYPE: u32 = 0xb703;
    // SAFETY: the request takes no argument.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), GET_TYPE as _) };
    if kind >= 0 {
        return Ok(kind);
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOTTY);
    Err(Error::new("ioctl", "NS_GET_NSTYPE", errno))
}

pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| {
            Error::new("clone", "thread", Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A visit to another namespace by a thread that may do so; dropping it goes back.
///
/// If going back fails the process is ended: it must not go on in the wrong place.
#[derive(Debug)]
pub struct Visit {
    home: OwnedFd,
    kind: Namespace,
}

impl Visit {
    /// Enters `fd`, which must be of `kind`. Not for mount and user namespaces (`INVAL`): there is no clean way back.
    ///
    /// # Errors
    ///
    /// Those of setns(2).
    pub fn enter(fd: BorrowedFd<'_>, kind: Namespace) -> Result<Self> {
        if matches!(kind, Namespace::Mount | Namespace::User) {
            return Err(Error::new("setns", kind.name(), Errno::INVAL));
        }
        let home = current(kind)?;
        enter(fd, kind)?;
        Ok(Self { home, kind })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if enter(self.home.as_fd(), self.kind).is_err() {
            std::process::abort();
        }
    }
}

/// Makes a mount namespace whose only mount is an empty, read-only tmpfs, private and of no use to anybody.
///
/// A container started from it has nothing of the host to copy, and nothing to unmount (see the project's notes on the hot path).
///
/// # Errors
///
/// Those of the mount calls; needs `CAP_SYS_ADMIN`.
pub fn empty_mount_namespace() -> Result<OwnedFd> {
    use rustix::mount::{MoveMountFlags, UnmountFlags};
    fresh(&[Namespace::Mount], || {
        // Opened first: afterwards there is no /proc to open it through.
        let namespace = current(Namespace::Mount)?;
        crate::mount::isolate()?;
        let empty = crate::mount::tmpfs(&[("mode", "0555"), ("size", "4k"), ("nr_inodes", "2")], 0)?;
        rustix::mount::move_mount(
            &empty,
            c"",
            rustix::fs::CWD,
            c"/",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(Error::on("move_mount", "/"))?;
        rustix::process::fchdir(&empty).map_err(Error::on("fchdir", "empty root"))?;
        // pivot_root(".", ".") stacks the old root over the new one; detaching "." then drops it.
        rustix::process::pivot_root(c".", c".").map_err(Error::on("pivot_root", "empty root"))?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH).map_err(Error::on("umount2", "old root"))?;
        Ok(namespace)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "root: makes and enters namespaces"]
    fn a_visit_ends_where_it_began() {
        let identity = || std::fs::read_link(Namespace::Network.own_path()).unwrap();
        let home = identity();
        let other = create(Namespace::Network).unwrap();
        let there = within(other.as_fd(), Namespace::Network, identity).unwrap();
        assert_ne!(there, home);
        let visit = Visit::enter(other.as_fd(), Namespace::Network).unwrap();
        assert_eq!(identity(), there);
        drop(visit);
        assert_eq!(identity(), home);
    }

    #[test]
    #[ignore = "root: makes and enters namespaces"]
    fn the_empty_namespace_is_empty() {
        let empty = empty_mount_namespace().unwrap();
        let (entries, proc) = within(empty.as_fd(), Namespace::Mount, || {
            (std::fs::read_dir("/").unwrap().count(), std::fs::metadata("/proc").is_ok())
        })
        .unwrap();
        assert_eq!((entries, proc), (0, false));
        assert!(std::fs::metadata("/proc/self").is_ok());
    }
}
