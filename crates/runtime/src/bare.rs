//! Bare calls that only the child makes, besides those of [`sys::raw`]. None of them allocates or takes a lock.

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::{c_int, c_long};
use sys::raw::Cloned;

fn checked(result: c_long) -> Result<c_long, Errno> {
    // `last_os_error` only reads the thread's errno: it does not allocate.
    let error = || Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    if result < 0 { Err(error()) } else { Ok(result) }
}

/// clone(2) as fork(2) makes it, with a descriptor: for where a filter may forbid [`sys::raw::clone3`]. The number in the parent's
/// answer is as this process sees it.
///
/// # Safety
///
/// In the child, until exec or exit, nothing may be used that another thread of the parent may have locked.
///
/// # Errors
///
/// Those of clone(2).
pub(crate) unsafe fn fork() -> Result<Cloned, Errno> {
    let mut pidfd: c_int = -1;
    let flags = c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child has its own copy of everything; the third argument is where CLONE_PIDFD stores,
    // on every architecture; it outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_clone, flags, 0_usize, std::ptr::from_mut(&mut pidfd), 0_usize, 0_usize)
    };
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

/// `struct sched_attr` of `sched_setattr(2)`, first version.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchedulerAttributes {
    /// Set by [`set_scheduler`].
    pub(crate) size: u32,
    /// `SCHED_*`.
    pub(crate) policy: u32,
    /// `SCHED_FLAG_*`.
    pub(crate) flags: u64,
    /// For the ordinary policies.
    pub(crate) nice: i32,
    /// For the real-time policies.
    pub(crate) priority: u32,
    /// Nanoseconds, for the deadline policy.
    pub(crate) runtime: u64,
    /// Nanoseconds, for the deadline policy.
    pub(crate) deadline: u64,
    /// Nanoseconds, for the deadline policy.
    pub(crate) period: u64,
}

/// `sched_setattr(2)` for the calling thread.
///
/// # Errors
///
/// Those of `sched_setattr(2)`.
pub(crate) fn set_scheduler(attributes: SchedulerAttributes) -> Result<(), Errno> {
    const SIZE: u32 = 48;
    let attributes = SchedulerAttributes { size: SIZE, ..attributes };
    // SAFETY: the structure is as long as its first field says.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0_i64, std::ptr::from_ref(&attributes), 0_i64) })
        .map(drop)
}
