//! eBPF programs that decide about devices of a version 2 cgroup.

use crate::raw;
use crate::{Error, Result};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// One eBPF instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// Destination register in the low, source in the high four bits.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const FLAG_ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
///
/// # Errors
///
/// Those of bpf(2); `INVAL` or `ACCESS` if the kernel's verifier refuses it.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let mut attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        ..Load::default()
    };
    let failed = Error::on("bpf", "load device program");
    // SAFETY: this is the layout of BPF_PROG_LOAD; program and licence outlive the call.
    let number = match unsafe { raw::bpf(PROG_LOAD, &mut attributes) } {
        Ok(number) => number,
        Err(errno) => return Err(failed(errno)),
    };
    // SAFETY: the command has just returned this descriptor.
    unsafe { raw::own_bpf_descriptor(number) }.map_err(failed)
}

/// Puts `program` in force in the cgroup instead of all others attached there.
///
/// # Errors
///
/// Those of bpf(2).
pub fn replace_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let old = attached(cgroup)?;
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().unsigned_abs();
    let mut attach = Attach {
        target: number(cgroup),
        program: number(program),
        kind: ATTACH_CGROUP_DEVICE,
        flags: FLAG_ALLOW_MULTI,
        ..Attach::default()
    };
    // SAFETY: this is the layout of BPF_PROG_ATTACH.
    unsafe { raw::bpf(PROG_ATTACH, &mut attach) }.map_err(Error::on("bpf", "attach device program"))?;
    // The new one is in force first: at no moment is everything allowed.
    for id in old {
        let mut by_id = ById { id, ..ById::default() };
        // SAFETY: this is the layout of BPF_PROG_GET_FD_BY_ID.
        let Ok(found) = (unsafe { raw::bpf(PROG_GET_FD_BY_ID, &mut by_id) }) else { continue };
        // SAFETY: the command has just returned this descriptor.
        let old =
            unsafe { raw::own_bpf_descriptor(found) }.map_err(Error::on("bpf", "old device program"))?;
        let mut detach = Attach {
            target: number(cgroup),
            program: old.as_raw_fd().unsigned_abs(),
            kind: ATTACH_CGROUP_DEVICE,
            ..Attach::default()
        };
        // SAFETY: this is the layout of BPF_PROG_DETACH.
        unsafe { raw::bpf(PROG_DETACH, &mut detach) }.map_err(Error::on("bpf", "detach device program"))?;
    }
    Ok(())
}

/// Returns the ids of the device programs attached to the cgroup itself.
fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut ids = vec![0_u32; 64];
    let mut query = Query {
        target: cgroup.as_raw_fd().unsigned_abs(),
        kind: ATTACH_CGROUP_DEVICE,
        program_ids: ids.as_mut_ptr() as u64,
        count: 64,
        ..Query::default()
    };
    // SAFETY: this is the layout of BPF_PROG_QUERY; the array has as many places as it says.
    unsafe { raw::bpf(PROG_QUERY, &mut query) }.map_err(Error::on("bpf", "query device programs"))?;
    ids.truncate(usize::try_from(query.count).unwrap_or(0));
    Ok(ids)
}
