//! The executable out of the reach of containers.
//!
//! A process that enters a container, and one whose program is `/proc/self/exe`, show the container our own executable:
//! its root could open that, wait until nobody runs it, and write (CVE-2019-5736). So what enters containers runs from a
//! detached read-only mount of the executable, or from a sealed copy in memory where mounts cannot be made.

use super::Failure;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use sys::raw::MountAttributes;

const EXECUTABLE: &str = "/proc/self/exe";

/// Executes this program again from where nobody can write it, unless it runs from there. Returns if it does.
///
/// # Errors
///
/// If it can neither be mounted nor copied.
pub(super) fn ensure() -> Result<(), Failure> {
    if is_sealed()? {
        return Ok(());
    }
    let program = mounted().or_else(|_unprivileged| copied())?;
    let texts = |list: Vec<std::ffi::OsString>| -> Result<Vec<CString>, Failure> {
        list.into_iter().map(|text| Ok(CString::new(text.into_vec())?)).collect()
    };
    let variables = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let arguments = crate::finish::Strings::new(texts(std::env::args_os().collect())?);
    let environment = crate::finish::Strings::new(texts(variables.collect())?);
    // SAFETY: both lists end with null and point to strings that live until the call has returned.
    let errno = unsafe {
        sys::raw::execveat(
            program.as_raw_fd(),
            c"",
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(format!("execute {EXECUTABLE} again: {}", sys::message(errno)).into())
}

fn is_sealed() -> Result<bool, Failure> {
    let own = rustix::fs::open(EXECUTABLE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::fs::fstatvfs(&own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // Only memory files have seals.
    Ok(rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// Opens the executable in a read-only mount that nobody can reach to change it.
fn mounted() -> Result<OwnedFd, Failure> {
    let mount = sys::mount::bind(Path::new(EXECUTABLE), false)?;
    let read_only = MountAttributes { set: sys::mount::ATTR_RDONLY, ..MountAttributes::default() };
    sys::mount::set_attributes(mount.as_fd(), &read_only, false)?;
    Ok(mount)
}

fn copied() -> Result<OwnedFd, Failure> {
    let own = rustix::fs::open(EXECUTABLE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let copy = rustix::fs::memfd_create("wharf", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    while send(copy.as_fd(), own.as_fd())? > 0 {}
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(copy)
}

fn send(to: BorrowedFd<'_>, from: BorrowedFd<'_>) -> Result<usize, Failure> {
    Ok(rustix::fs::sendfile(to, from, None, 1 << 30)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_cannot_be_written() {
        let copy = copied().unwrap();
        assert!(rustix::fs::fcntl_get_seals(&copy).unwrap().contains(SealFlags::WRITE));
        assert!(rustix::io::pwrite(&copy, b"x", 0).is_err());
        let size = rustix::fs::fstat(&copy).unwrap().st_size;
        assert_eq!(u64::try_from(size).unwrap(), std::fs::metadata(EXECUTABLE).unwrap().len());
    }

    #[test]
    #[ignore = "root: makes a mount"]
    fn a_mount_cannot_be_written() {
        let mount = mounted().unwrap();
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        let error = rustix::fs::open(&path, OFlags::WRONLY, Mode::empty()).unwrap_err();
        // A running program is busy before it is read-only.
        assert!(matches!(error, rustix::io::Errno::ROFS | rustix::io::Errno::TXTBSY), "{error}");
        let status = rustix::fs::fstatvfs(&mount).unwrap();
        assert!(status.f_flag.contains(StatVfsMountFlags::RDONLY));
    }
}
