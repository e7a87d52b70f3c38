//! Installing a seccomp filter. Programs are compiled in the `runtime` crate.

pub use crate::raw::FilterInstruction as Instruction;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// `SECCOMP_FILTER_FLAG_TSYNC`.
pub const FLAG_TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`.
pub const FLAG_LOG: u32 = 2;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
pub const FLAG_SPEC_ALLOW: u32 = 4;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub const FLAG_NEW_LISTENER: u32 = 8;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, kernel ≥ 5.19.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 32;

/// Installs `program` on this thread; it needs `no_new_privs` or `CAP_SYS_ADMIN`. Allocates nothing.
///
/// # Errors
///
/// Those of seccomp(2).
pub fn install(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    crate::raw::seccomp_set_filter(flags, program)
}
