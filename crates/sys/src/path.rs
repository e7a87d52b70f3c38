//! Paths that a container, an image or a client has a say in: resolved beneath a directory's descriptor, never above it.
//!
//! By openat2(2), or component by component where that call is not known or a seccomp filter denies it.

mod walk;

use crate::{Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How often a racing rename is tried again.
const MAX_RACES: usize = 64;

/// Returns the name of this process's descriptor under `/proc`.
pub fn of_descriptor(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Opens a directory of the host, to resolve paths beneath it.
///
/// # Errors
///
/// Those of open(2).
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::at("open", path))
}

/// Opens `path` as if `root` were `/`: links, `..` and absolute paths stay beneath it. Magic links are refused.
///
/// `CLOEXEC` is added. To create a file use [`create_in_root`].
///
/// # Errors
///
/// Those of openat2(2).
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    openat2(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` beneath `dir`; a path that would leave it is refused (`XDEV`).
///
/// # Errors
///
/// Those of openat2(2).
pub fn open_beneath(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    openat2(dir, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

fn openat2(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    resolve_bare(dir, path, flags, resolve).map_err(Error::at("openat2", path))
}

/// Opens `path` as openat2(2) does with these flags, also where there is no such call. Allocates nothing for a `&CStr`.
///
/// `CLOEXEC` is added. Without `IN_ROOT` and `BENEATH` the path must be absolute.
///
/// # Errors
///
/// Those of openat2(2).
pub fn resolve_bare<P: Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
    resolve: ResolveFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..MAX_RACES {
        let opened = match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            // An older kernel, or a filter that has not heard of it.
            Err(Errno::NOSYS | Errno::PERM) => path.into_with_c_str(|path| {
                walk::Walk { missing: None, flags, resolve }.open(dir, path.to_bytes())
            }),
            other => other,
        };
        match opened {
            // The kernel asks to try again when something was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// What [`create_in_root`] makes of a path that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// Returns an `O_PATH` descriptor of `path` beneath `root`, after making what is missing of it: directories (mode 0755) on the
/// way, and at the end what `last` says with `mode`. What exists is left as it is, whatever its type.
///
/// Links are followed beneath `root` only, also dangling ones, as `mkdir -p` in a chroot would not: the target is made.
///
/// # Errors
///
/// `NOTDIR` if something on the way is no directory, `LOOP`, and those of mkdirat(2) and openat(2).
pub fn create_in_root(root: BorrowedFd<'_>, path: &Path, last: Create, mode: u32) -> Result<OwnedFd> {
    let text = CString::new(path.as_os_str().as_bytes()).or(Err(Error::Nul { what: "path" }))?;
    create_in_root_bare(root, &text, last, mode).map_err(Error::at("create", path))
}

/// As [`create_in_root`], allocating nothing: for use between clone and exec.
///
/// # Errors
///
/// As [`create_in_root`].
pub fn create_in_root_bare(
    root: BorrowedFd<'_>,
    path: &CStr,
    last: Create,
    mode: u32,
) -> std::result::Result<OwnedFd, Errno> {
    match open_in_root_bare(root, path, OFlags::PATH, ResolveFlags::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mode = Mode::from_raw_mode(mode);
    if let Some(made) = make_last(root, path, last, mode)? {
        return Ok(made);
    }
    let walk =
        walk::Walk { missing: Some((last, mode)), flags: OFlags::PATH, resolve: ResolveFlags::IN_ROOT };
    for _ in 0..MAX_RACES {
        match walk.open(root, path.to_bytes()) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Makes the last component if only that is missing, which is the usual case; `None` if there is more to it.
fn make_last(
    root: BorrowedFd<'_>,
    path: &CStr,
    last: Create,
    mode: Mode,
) -> std::result::Result<Option<OwnedFd>, Errno> {
    let bytes = path.to_bytes();
    let split = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let parent = bytes.get(..split).ok_or(Errno::INVAL)?;
    // The end of a C string is one too.
    let name = path.to_bytes_with_nul().get(split..).ok_or(Errno::INVAL)?;
    let name = CStr::from_bytes_with_nul(name).or(Err(Errno::INVAL))?;
    if matches!(name.to_bytes(), b"" | b"." | b"..") {
        return Ok(None);
    }
    let mut above = [0_u8; 4096];
    let parent = if parent.is_empty() { b"." } else { parent };
    above.get_mut(..parent.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(parent);
    let above = CStr::from_bytes_until_nul(&above).or(Err(Errno::NAMETOOLONG))?;
    let parent = match open_in_root_bare(root, above, OFlags::PATH, ResolveFlags::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    make(parent.as_fd(), name, last, mode)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
    // A dangling link was there: its target is to be made.
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&made)?.st_mode);
    Ok((kind != FileType::Symlink).then_some(made))
}

/// As [`open_in_root`], allocating nothing; `resolve` is added to what confines the path.
///
/// # Errors
///
/// Those of openat2(2).
pub fn open_in_root_bare(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> std::result::Result<OwnedFd, Errno> {
    resolve_bare(root, path, flags, resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// As [`create_in_root`] for a directory.
///
/// # Errors
///
/// As [`create_in_root`]; `NOTDIR` if it exists and is no directory.
pub fn mkdir_all_in_root(root: BorrowedFd<'_>, path: &Path, mode: u32) -> Result<OwnedFd> {
    let made = create_in_root(root, path, Create::Directory, mode)?;
    match file_type(made.as_fd())? {
        FileType::Directory => Ok(made),
        _ => Err(Error::new("mkdir", path.display(), Errno::NOTDIR)),
    }
}

/// Returns the type of what `fd` refers to.
///
/// # Errors
///
/// Those of fstat(2).
pub fn file_type(fd: BorrowedFd<'_>) -> Result<FileType> {
    let status = rustix::fs::fstat(fd).map_err(Error::on("fstat", "descriptor"))?;
    Ok(FileType::from_raw_mode(status.st_mode))
}

fn make(dir: BorrowedFd<'_>, name: &CStr, kind: Create, mode: Mode) -> std::result::Result<(), Errno> {
    let made = match kind {
        Create::Directory => rustix::fs::mkdirat(dir, name, mode),
        Create::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, mode).map(drop)
        }
    };
    match made {
        // Somebody else was first: what it is shows when it is opened.
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Opens again, with other flags, what an `O_PATH` descriptor refers to.
///
/// # Errors
///
/// Those of open(2); needs `/proc`.
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    let path = of_descriptor(fd);
    rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(Error::at("open", &path))
}

/// Reads a whole (small or kernel-made) file of the host.
///
/// # Errors
///
/// Those of open(2) and read(2).
pub fn read_to_end(path: &Path) -> Result<Vec<u8>> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::at("open", path))?;
    read_fd_to_end(file.as_fd(), usize::MAX).map_err(Error::at("read", path))
}

/// Reads from `fd` to its end, at most `limit` bytes.
///
/// # Errors
///
/// Those of read(2); `FBIG` if there is more than `limit`.
pub fn read_fd_to_end(fd: BorrowedFd<'_>, limit: usize) -> std::result::Result<Vec<u8>, Errno> {
    let mut contents = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => return Ok(contents),
            Ok(length) => contents.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if contents.len() > limit {
            return Err(Errno::FBIG);
        }
    }
}

/// Writes `value` to a kernel-made file (`/proc`, cgroups) in one write.
///
/// # Errors
///
/// Those of open(2) and write(2).
pub fn write_value(dir: Option<BorrowedFd<'_>>, path: &Path, value: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match dir {
        Some(dir) => rustix::fs::openat(dir, path, flags, Mode::empty()),
        None => rustix::fs::openat(CWD, path, flags, Mode::empty()),
    }
    .map_err(Error::at("open", path))?;
    loop {
        match rustix::io::write(&file, value) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                let value = OsStr::from_bytes(value).display();
                return Err(Error::new("write", format_args!("{value} to {}", path.display()), errno));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("wharf-sys-path-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn links_never_lead_above_the_root() {
        let outer = scratch("links");
        let inner = outer.join("root");
        std::fs::create_dir(&inner).unwrap();
        symlink("/etc", inner.join("absolute")).unwrap();
        symlink("../../..", inner.join("up")).unwrap();
        symlink("a/b", inner.join("dangling")).unwrap();
        symlink("loop", inner.join("loop")).unwrap();
        symlink("../run/./stub//file", inner.join("resolv")).unwrap();
        let root = open_directory(&inner).unwrap();
        let made = |path: &str| {
            let fd = mkdir_all_in_root(root.as_fd(), Path::new(path), 0o700)?;
            Ok::<_, Error>(std::fs::read_link(of_descriptor(fd.as_fd())).unwrap())
        };
        assert_eq!(made("absolute/x").unwrap(), inner.join("etc/x"));
        assert_eq!(made("up/up/y").unwrap(), inner.join("y"));
        assert_eq!(made("/../../../z").unwrap(), inner.join("z"));
        assert_eq!(made("dangling/c/../d").unwrap(), inner.join("a/b/d"));
        assert_eq!(made("/").unwrap(), inner);
        assert_eq!(made("loop/x").unwrap_err().errno(), Errno::LOOP);
        create_in_root(root.as_fd(), Path::new("resolv"), Create::File, 0o644).unwrap();
        assert!(inner.join("run/stub/file").is_file());
        let long = "x/".repeat(4000);
        assert!(create_in_root(root.as_fd(), Path::new(&long), Create::Directory, 0o755).is_err());
        let file = create_in_root(root.as_fd(), Path::new("deep/er/file"), Create::File, 0o644).unwrap();
        assert_eq!(file_type(file.as_fd()).unwrap(), FileType::RegularFile);
        assert_eq!(made("deep/er/file").unwrap_err().errno(), Errno::NOTDIR);
        assert_eq!(made("deep/er/file/below").unwrap_err().errno(), Errno::NOTDIR);
        assert_eq!(std::fs::read_dir(&outer).unwrap().count(), 1);
        assert!(open_beneath(root.as_fd(), Path::new("up/x"), OFlags::PATH).is_err());
        std::fs::remove_dir_all(&outer).unwrap();
    }

    #[test]
    fn whole_files_are_read_up_to_a_limit() {
        let outer = scratch("read");
        let path = outer.join("file");
        std::fs::write(&path, vec![b'x'; 20_000]).unwrap();
        assert_eq!(read_to_end(&path).unwrap().len(), 20_000);
        let fd = rustix::fs::open(&path, OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(read_fd_to_end(fd.as_fd(), 100).unwrap_err(), Errno::FBIG);
        write_value(None, &path, b"abc").unwrap();
        std::fs::remove_dir_all(&outer).unwrap();
    }
}
