//! Project quotas: an upper bound on what is below a folder (quotactl(2), *`PRJQUOTA`*; ioctl\_fsxattr of xfs and ext4).
//!
//! A project is a number that every file below the folder inherits; the file system adds up what the files of a project
//! take. Which numbers are ours need not be stored: a project is free as long as nothing was said of it and it has no files.

use crate::{Error, Result};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// `linux/quota.h`.
const PRJQUOTA: u32 = 2;
const Q_GETQUOTA: u32 = 0x0080_0007;
const Q_SETQUOTA: u32 = 0x0080_0008;
/// `linux/dqblk_xfs.h`; the kernel answers it for every file system with quotas.
const Q_XGETQSTATV: u32 = 0x5808;
const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;
/// `dqb_valid`: the limits of blocks.
const QIF_BLIMITS: u32 = 1;
/// Limits of blocks are counted in these.
const BLOCK: u64 = 1024;
/// quotactl\_fd(2), the same on every architecture.
const SYS_QUOTACTL_FD: libc::c_long = 443;

/// `linux/fs.h`.
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// The first of our numbers; administrators and other engines begin with small ones.
const FIRST: u32 = 0x5748_0000;
/// How many numbers there are.
const COUNT: u32 = 1 << 16;

/// Held from the search of a free number until it is taken.
static CHOICE: Mutex<()> = Mutex::new(());

/// `struct if_dqblk` of `linux/quota.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct Limits {
    hard: u64,
    soft: u64,
    space: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    times: [u64; 2],
    valid: u32,
    padding: u32,
}

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// Says whether the file system of `folder` refuses what exceeds a project's limit (mount option `prjquota`).
pub fn is_enforced(folder: &Path) -> bool {
    let Ok(directory) = open(folder) else { return false };
    // `struct fs_quota_statv`: a version of 1, then the flags in the second pair of bytes.
    let mut state = [0_u16; 80];
    state[0] = u16::from_ne_bytes([1, 0]);
    // SAFETY: the buffer has the 160 bytes of the structure.
    let asked = unsafe { control(&directory, Q_XGETQSTATV, 0, state.as_mut_ptr().cast()) };
    asked.is_ok() && state[1] & FS_QUOTA_PDQ_ENFD != 0
}

/// Makes empty folders of one file system a project of their own, which holds `bytes` at most (rounded up to a KiB).
///
/// # Errors
///
/// Those of open(2), quotactl(2) and the ioctls: `OPNOTSUPP` or `NOTTY` where the file system has no projects, `SRCH` where
/// quotas are off; `NOSPC` if every number is taken.
pub fn limit(folders: &[&Path], bytes: u64) -> Result<()> {
    let Some(first) = folders.first() else { return Ok(()) };
    let directory = open(first)?;
    let _choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    let project = free_number(&directory, first)?;
    set(&directory, first, project, bytes.div_ceil(BLOCK))?;
    for folder in folders {
        if let Err(error) = join(folder, project) {
            // The first failure is the one to tell.
            drop(set(&directory, first, project, 0));
            return Err(error);
        }
    }
    Ok(())
}

/// Finds a project of which nothing was said and that has no files.
fn free_number(directory: &OwnedFd, folder: &Path) -> Result<u32> {
    // From the inode on, which is nobody else's, so that the first is free as a rule.
    let inode = rustix::fs::fstat(directory).map_err(Error::at("fstat", folder))?.st_ino;
    let begin = u32::try_from(inode % u64::from(COUNT)).unwrap_or(0);
    for project in (0..COUNT).map(|step| FIRST + (begin + step) % COUNT) {
        let mut now = Limits::default();
        // SAFETY: the structure is the one that the kernel fills.
        match unsafe { control(directory, Q_GETQUOTA, project, std::ptr::from_mut(&mut now).cast()) } {
            Ok(()) if now.hard | now.soft | now.space | now.inodes != 0 => {}
            // xfs knows nothing of a project that never was.
            Ok(()) | Err(Errno::NOENT) => return Ok(project),
            Err(errno) => {
                return Err(Error::new("quotactl", format!("Q_GETQUOTA {}", folder.display()), errno));
            }
        }
    }
    Err(Error::new("quotactl", format!("a free project for {}", folder.display()), Errno::NOSPC))
}

/// Has what will be made in a folder belong to a project, as the folder itself.
fn join(folder: &Path, project: u32) -> Result<()> {
    let directory = open(folder)?;
    let mut attributes = attributes(&directory, folder)?;
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: the request reads the structure, which lives until the call returns.
    let result = unsafe {
        libc::ioctl(directory.as_raw_fd(), FS_IOC_FSSETXATTR as _, std::ptr::from_ref(&attributes))
    };
    if result < 0 {
        return Err(Error::new("ioctl", format!("FS_IOC_FSSETXATTR {}", folder.display()), last_error()));
    }
    Ok(())
}

/// A project that is to be given back when its folder is gone.
#[derive(Debug)]
pub struct Project {
    number: u32,
}

/// Returns the project that [`limit`] made of a folder, `None` for any other.
pub fn project(folder: &Path) -> Option<Project> {
    let directory = open(folder).ok()?;
    let number = attributes(&directory, folder).ok()?.project;
    (FIRST..FIRST + COUNT).contains(&number).then_some(Project { number })
}

impl Project {
    /// Forgets the limit, so that the number can be another's. `near` is anything on the same file system.
    ///
    /// # Errors
    ///
    /// Those of open(2) and quotactl(2).
    pub fn forget(self, near: &Path) -> Result<()> {
        set(&open(near)?, near, self.number, 0)
    }
}

fn open(folder: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).map_err(Error::at("open", folder))
}

fn attributes(directory: &OwnedFd, folder: &Path) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the request fills the structure, which lives until the call returns.
    let result = unsafe {
        libc::ioctl(directory.as_raw_fd(), FS_IOC_FSGETXATTR as _, std::ptr::from_mut(&mut attributes))
    };
    if result < 0 {
        return Err(Error::new("ioctl", format!("FS_IOC_FSGETXATTR {}", folder.display()), last_error()));
    }
    Ok(attributes)
}

fn set(directory: &OwnedFd, folder: &Path, project: u32, blocks: u64) -> Result<()> {
    let mut limits = Limits { hard: blocks, valid: QIF_BLIMITS, ..Limits::default() };
    // SAFETY: the structure is the one that the kernel reads.
    unsafe { control(directory, Q_SETQUOTA, project, std::ptr::from_mut(&mut limits).cast()) }
        .map_err(|errno| Error::new("quotactl", format!("Q_SETQUOTA {}", folder.display()), errno))
}

/// quotactl\_fd(2) for projects.
///
/// # Safety
///
/// `address` is what `command` takes.
unsafe fn control(
    directory: &OwnedFd,
    command: u32,
    project: u32,
    address: *mut libc::c_void,
) -> std::result::Result<(), Errno> {
    let command = command << 8 | PRJQUOTA;
    // SAFETY: as the caller says.
    let result = unsafe { libc::syscall(SYS_QUOTACTL_FD, directory.as_raw_fd(), command, project, address) };
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Limits>(), size_of::<Attributes>()), (72, 28));
    }

    #[test]
    fn a_file_system_without_quotas_says_so() {
        let folder = std::env::temp_dir().join(format!("wharf-quota-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        if !is_enforced(&folder) {
            limit(&[&folder], 1 << 20).unwrap_err();
            assert!(project(&folder).is_none());
        }
        std::fs::remove_dir(&folder).unwrap();
    }
}
