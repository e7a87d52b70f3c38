//! Block devices over files: loop devices (loop(4)).

use crate::{Error, Result};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// How often a device that someone else took meanwhile is looked for again.
const MAX_RACES: usize = 64;
/// linux/loop.h.
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;
/// The device is given back when nobody has it open or mounted any more.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` of linux/loop.h, `struct loop_info64` in it.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// Device, inode, device number, offset, size limit.
    places: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names_and_key: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// A loop device; it goes when this and every mount of it are gone.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _device: OwnedFd,
}

impl LoopDevice {
    /// Returns its name, `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a block device of a file.
///
/// # Errors
///
/// Those of open(2) and of the ioctls of loop(4); `BUSY` if others take every device first.
pub fn attach_file(file: &Path) -> Result<LoopDevice> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(Error::at("open", path))
    };
    let backing = open(file)?;
    let control = open(Path::new("/dev/loop-control"))?;
    for _ in 0..MAX_RACES {
        // SAFETY: the request takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(Error::new("ioctl", "LOOP_CTL_GET_FREE", last_error()));
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&path)?;
        let config = LoopConfig {
            fd: backing.as_raw_fd().unsigned_abs(),
            block_size: 0,
            places: [0; 5],
            number: 0,
            encryption: [0; 2],
            flags: LO_FLAGS_AUTOCLEAR,
            names_and_key: [0; 160],
            init: [0; 2],
            reserved: [0; 8],
        };
        // SAFETY: the request reads a `struct loop_config`, which lives until the call returns.
        let result =
            unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, std::ptr::from_ref(&config)) };
        match if result < 0 { last_error() } else { return Ok(LoopDevice { path, _device: device }) } {
            Errno::BUSY => {}
            errno => return Err(Error::new("ioctl", format!("LOOP_CONFIGURE of {}", path.display()), errno)),
        }
    }
    Err(Error::new("ioctl", "LOOP_CONFIGURE", Errno::BUSY))
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
