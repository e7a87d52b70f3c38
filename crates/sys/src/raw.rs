//! Bare calls that `rustix` does not have.
//!
//! None of them allocates or takes a lock, so all may be used between clone and exec.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};

/// What one system call returned, as `libc::syscall` reports it.
fn checked(result: c_long) -> Result<c_long, Errno> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

fn last_error() -> Errno {
    // `last_os_error` only reads the thread's errno: it does not allocate.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Takes ownership of a descriptor that a call has just returned.
fn owned(result: c_long) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(checked(result)?).or(Err(Errno::BADF))?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The arguments of clone3(2), as in `linux/sched.h`.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The old one, with the new one's number and descriptor.
    Parent {
        /// Number of the new process, as seen here.
        pid: i32,
        /// Refers to the new process.
        pidfd: OwnedFd,
    },
}

/// clone3(2) without shared memory: the child goes on with a copy of everything. `CLONE_PIDFD` is added to `flags`.
///
/// `cgroup` is a directory of a version 2 hierarchy to begin in (`CLONE_INTO_CGROUP`, kernel ≥ 5.7).
///
/// # Safety
///
/// `flags` has none of `CLONE_VM`, `CLONE_THREAD`, `CLONE_SIGHAND`. In the child, until exec or exit, nothing may be used
/// that another thread of the parent may have locked (the allocator, stdio, …).
///
/// # Errors
///
/// Those of clone3(2).
pub unsafe fn clone3(
    flags: u64,
    exit_signal: c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Cloned, Errno> {
    let mut pidfd: c_int = -1;
    let pidfd_flag = u64::from(libc::CLONE_PIDFD.unsigned_abs());
    let mut arguments = CloneArguments {
        flags: flags | pidfd_flag,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: u64::from(exit_signal.unsigned_abs()),
        ..CloneArguments::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the structure has the size that is passed; `pidfd` outlives the call; without CLONE_VM the child has its own
    // copy of this stack. The rest is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&arguments), size_of::<CloneArguments>())
    };
    parted(result, pidfd)
}

/// Tells the two sides of a clone apart; `pidfd` is what `CLONE_PIDFD` stored.
fn parted(result: c_long, pidfd: c_int) -> Result<Cloned, Errno> {
    match checked(result)? {
        0 => Ok(Cloned::Child),
        pid => {
            let pid = i32::try_from(pid).or(Err(Errno::OVERFLOW))?;
            // SAFETY: CLONE_PIDFD made the kernel store a new descriptor there.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// clone(2) as fork(2) makes it, with a descriptor: for where a filter may forbid [`clone3`]. The number in the parent's
/// answer is as this process sees it.
///
/// # Safety
///
/// In the child, until exec or exit, nothing may be used that another thread of the parent may have locked.
///
/// # Errors
///
/// Those of clone(2).
pub unsafe fn fork() -> Result<Cloned, Errno> {
    let mut pidfd: c_int = -1;
    let flags = c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child has its own copy of everything; the third argument is where CLONE_PIDFD stores,
    // on every architecture; it outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_clone, flags, 0_usize, std::ptr::from_mut(&mut pidfd), 0_usize, 0_usize)
    };
    parted(result, pidfd)
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// One of `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    /// User namespace of `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

/// `mount_setattr(2)`, kernel ≥ 5.12.
///
/// # Errors
///
/// Those of `mount_setattr(2)`.
pub fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: c_int,
    attributes: &MountAttributes,
) -> Result<(), Errno> {
    // SAFETY: all pointers are valid for the call and the size is the structure's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    checked(result).map(drop)
}

/// `CLOSE_RANGE_CLOEXEC`: mark, do not close.
pub const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// `close_range(2)`, kernel ≥ 5.9 (`CLOSE_RANGE_CLOEXEC` ≥ 5.11).
///
/// # Safety
///
/// Nothing in this process may own a descriptor of the range and use it afterwards, unless `flags` only marks them.
///
/// # Errors
///
/// Those of `close_range(2)`.
pub unsafe fn close_range(first: u32, last: u32, flags: u32) -> Result<(), Errno> {
    // SAFETY: no pointers; ownership is the caller's promise.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Marks all descriptors from `first` on to be closed by exec.
///
/// # Errors
///
/// Those of `close_range(2)`.
pub fn mark_close_on_exec(first: u32) -> Result<(), Errno> {
    // SAFETY: nothing is closed now.
    unsafe { close_range(first, u32::MAX, CLOSE_RANGE_CLOEXEC) }
}

/// One instruction of a classic BPF program (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FilterInstruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if true.
    pub jump_true: u8,
    /// Instructions to skip if false.
    pub jump_false: u8,
    /// Operand.
    pub k: u32,
}

/// seccomp(2), `SECCOMP_SET_MODE_FILTER`. Returns the notification listener if `flags` asks for one.
///
/// # Errors
///
/// Those of seccomp(2).
pub fn seccomp_set_filter(flags: u32, program: &[FilterInstruction]) -> Result<Option<OwnedFd>, Errno> {
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const FilterInstruction,
    }
    let length = u16::try_from(program.len()).or(Err(Errno::INVAL))?;
    let program = Program { length, filter: program.as_ptr() };
    const SET_MODE_FILTER: c_long = 1;
    // SAFETY: the program is valid for the call; the kernel checks its contents.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, std::ptr::from_ref(&program)) };
    const NEW_LISTENER: u32 = 8;
    if flags & NEW_LISTENER == 0 { checked(result).map(|_| None) } else { owned(result).map(Some) }
}

/// prctl(2) with four numeric arguments.
///
/// # Errors
///
/// Those of prctl(2).
///
/// # Safety
///
/// The arguments must not be pointers to memory the call writes, nor change what the program relies on.
pub unsafe fn prctl(option: c_int, two: c_ulong, three: c_ulong, four: c_ulong) -> Result<c_long, Errno> {
    // SAFETY: the caller's promise.
    checked(unsafe { libc::syscall(libc::SYS_prctl, option, two, three, four, 0_u64) })
}

/// Joins a new session keyring (`KEYCTL_JOIN_SESSION_KEYRING`), named or anonymous.
///
/// # Errors
///
/// Those of keyctl(2); `NOSYS` where the kernel has no keys.
pub fn join_session_keyring(name: Option<&CStr>) -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: c_long = 1;
    let name: *const c_char = name.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the name is a valid string or null.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name) }).map(drop)
}

/// bpf(2) with a command whose attributes are `attributes`.
///
/// # Safety
///
/// `T` is the layout the command expects, and all pointers in it are valid for the call.
///
/// # Errors
///
/// Those of bpf(2).
pub unsafe fn bpf<T>(command: c_int, attributes: &mut T) -> Result<c_long, Errno> {
    // SAFETY: the caller's promise.
    checked(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) })
}

/// Takes ownership of a descriptor returned by [`bpf`].
///
/// # Errors
///
/// `BADF` for a number that cannot be one.
///
/// # Safety
///
/// `number` is what a bpf command that makes a descriptor has just returned.
pub unsafe fn own_bpf_descriptor(number: c_long) -> Result<OwnedFd, Errno> {
    owned(number)
}

/// signalfd4(2) for the set `mask` (bit N-1 is signal N).
///
/// # Errors
///
/// Those of signalfd4(2).
pub fn signalfd(mask: u64) -> Result<OwnedFd, Errno> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask is eight bytes, as the size says.
    owned(unsafe { libc::syscall(libc::SYS_signalfd4, -1_i64, std::ptr::from_ref(&mask), 8_usize, flags) })
}

/// How [`sigprocmask`] changes the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskChange {
    /// Adds to it.
    Block,
    /// Takes away from it.
    Unblock,
    /// Replaces it.
    Set,
}

/// `rt_sigprocmask(2)` for this thread; returns the old mask (bit N-1 is signal N).
///
/// # Errors
///
/// Those of `rt_sigprocmask(2)`.
pub fn sigprocmask(how: MaskChange, mask: u64) -> Result<u64, Errno> {
    let how = match how {
        MaskChange::Block => libc::SIG_BLOCK,
        MaskChange::Unblock => libc::SIG_UNBLOCK,
        MaskChange::Set => libc::SIG_SETMASK,
    };
    let mut old = 0_u64;
    // SAFETY: both sets are eight bytes, as the size says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            std::ptr::from_ref(&mask),
            std::ptr::from_mut(&mut old),
            8_usize,
        )
    };
    checked(result).map(|_| old)
}

/// Sets the action of `signal` to its default.
///
/// # Errors
///
/// Those of `rt_sigaction(2)`.
pub fn reset_signal(signal: c_int) -> Result<(), Errno> {
    // The kernel's structure: handler, flags, restorer, mask; all zero is SIG_DFL. aarch64 has no restorer: the larger size does no harm.
    let action = [0_u64; 4];
    // SAFETY: the structure is at least as large as the kernel reads; no old action is asked for.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), std::ptr::null::<c_void>(), 8_usize)
    };
    checked(result).map(drop)
}

/// execveat(2). Returns only on failure.
///
/// # Safety
///
/// `arguments` and `environment` end with a null pointer, and all others point to strings.
pub unsafe fn execveat(
    dir: RawFd,
    path: &CStr,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    flags: c_int,
) -> Errno {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_execveat, dir, path.as_ptr(), arguments, environment, flags) };
    last_error()
}

/// execve(2). Returns only on failure.
///
/// # Safety
///
/// As [`execveat`].
pub unsafe fn execve(
    path: &CStr,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Errno {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), arguments, environment) };
    last_error()
}

/// unshare(2) by `CLONE_NEW*` flags and `CLONE_FS`.
///
/// # Errors
///
/// `INVAL` for `CLONE_FILES`, `CLONE_VM` and the like; otherwise those of unshare(2).
pub fn unshare(flags: c_int) -> Result<(), Errno> {
    let allowed = libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP
        | 0x80 // CLONE_NEWTIME
        | libc::CLONE_FS;
    if flags & !allowed != 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: none of these flags changes what descriptors or memory this thread sees.
    checked(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// setns(2): `fd` is a namespace or a pidfd, `flags` `CLONE_NEW*`.
///
/// # Errors
///
/// Those of setns(2).
pub fn setns(fd: BorrowedFd<'_>, flags: c_int) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    checked(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags) }).map(drop)
}

/// sethostname(2).
///
/// # Errors
///
/// Those of sethostname(2).
pub fn sethostname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length belong together.
    checked(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.len()) }).map(drop)
}

/// setdomainname(2).
///
/// # Errors
///
/// Those of setdomainname(2).
pub fn setdomainname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length belong together.
    checked(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) }).map(drop)
}

/// `ioprio_set(2)` for the calling thread.
///
/// # Errors
///
/// Those of `ioprio_set(2)`.
pub fn set_io_priority(value: c_int) -> Result<(), Errno> {
    // SAFETY: no memory is involved. 1 is IOPRIO_WHO_PROCESS, 0 the caller.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, 1_i64, 0_i64, value) }).map(drop)
}

/// personality(2).
///
/// # Errors
///
/// Those of personality(2).
pub fn personality(persona: u32) -> Result<(), Errno> {
    // SAFETY: affects the execution domain only.
    checked(unsafe { libc::syscall(libc::SYS_personality, c_ulong::from(persona)) }).map(drop)
}

/// Ends this process at once, without running anything.
pub fn exit_now(code: c_int) -> ! {
    loop {
        // SAFETY: never returns.
        unsafe { libc::syscall(libc::SYS_exit_group, code) };
    }
}

/// Says whether the kernel knows a system call, by making it with arguments that it must refuse.
///
/// Only calls may be named that refuse −1 and null pointers in their places before they do anything.
pub(crate) fn knows(number: c_long) -> bool {
    // SAFETY: the callers name calls alone that check these arguments first; none of them is a valid pointer.
    let answer = unsafe { libc::syscall(number, -1_i64, 0_i64, 0_i64, -1_i64, -1_i64, -1_i64) };
    answer >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// `struct sched_attr` of `sched_setattr(2)`, first version.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerAttributes {
    /// Set by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the ordinary policies.
    pub nice: i32,
    /// For the real-time policies.
    pub priority: u32,
    /// Nanoseconds, for the deadline policy.
    pub runtime: u64,
    /// Nanoseconds, for the deadline policy.
    pub deadline: u64,
    /// Nanoseconds, for the deadline policy.
    pub period: u64,
}

/// `sched_setattr(2)` for the calling thread.
///
/// # Errors
///
/// Those of `sched_setattr(2)`.
pub fn set_scheduler(attributes: SchedulerAttributes) -> Result<(), Errno> {
    const SIZE: u32 = 48;
    let attributes = SchedulerAttributes { size: SIZE, ..attributes };
    // SAFETY: the structure is as long as its first field says.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0_i64, std::ptr::from_ref(&attributes), 0_i64) })
        .map(drop)
}
