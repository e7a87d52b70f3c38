//! Pseudo-terminals (pty(7)), also of a devpts that is not mounted anywhere yet.

use crate::{Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::Winsize;

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// What a terminal emulator holds.
    pub master: OwnedFd,
    /// What the program sees as its terminal.
    pub slave: OwnedFd,
    /// The slave's name in its devpts.
    pub number: u32,
}

/// Opens a new pseudo-terminal in the devpts whose root is `devpts`.
///
/// # Errors
///
/// Those of open(2) on `ptmx` and of the ioctls of pty(7).
pub fn open(devpts: BorrowedFd<'_>) -> Result<Pty> {
    open_bare(devpts).map_err(Error::on("open", "ptmx"))
}

/// As [`open`], allocating nothing: for use between clone and exec.
///
/// # Errors
///
/// As [`open`].
pub fn open_bare(devpts: BorrowedFd<'_>) -> std::result::Result<Pty, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(devpts, c"ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN stores an unsigned int there.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, std::ptr::from_mut(&mut number)) };
    if result < 0 {
        return Err(last_error());
    }
    let peer_flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags and returns a new descriptor; it follows no path.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, peer_flags) };
    if slave < 0 {
        return Err(last_error());
    }
    // SAFETY: the kernel has just made this descriptor.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    Ok(Pty { master, slave, number })
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Sets the size of a terminal; its foreground processes get `SIGWINCH` if it changes.
///
/// # Errors
///
/// `NOTTY` if it is none.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).map_err(Error::on("ioctl", "TIOCSWINSZ"))
}

/// Returns rows and columns of a terminal.
///
/// # Errors
///
/// `NOTTY` if it is none.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).map_err(Error::on("ioctl", "TIOCGWINSZ"))?;
    Ok((size.ws_row, size.ws_col))
}

/// Opens a new pseudo-terminal of the host's `/dev/pts`.
///
/// # Errors
///
/// As [`open`].
pub fn open_host() -> Result<Pty> {
    let devpts = crate::path::open_directory(std::path::Path::new("/dev/pts"))?;
    open(devpts.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "root: makes a devpts"]
    fn a_pty_of_a_detached_devpts_works() {
        let devpts =
            crate::mount::new("devpts", &[("newinstance", None), ("ptmxmode", Some("0666"))], 0).unwrap();
        let pty = open(devpts.as_fd()).unwrap();
        assert_eq!(pty.number, 0);
        resize(pty.master.as_fd(), 40, 100).unwrap();
        assert_eq!(size(pty.slave.as_fd()).unwrap(), (40, 100));
        rustix::io::write(&pty.slave, b"hello\n").unwrap();
        let mut buffer = [0; 16];
        let length = rustix::io::read(&pty.master, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello\r\n");
    }
}
