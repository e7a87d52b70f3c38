//! One daemon per data root: its lock, its pid file, and telling others that it is ready.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Why this process cannot be the daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// Another daemon has the data.
    #[error("failed to start daemon: another daemon uses {0}")]
    DataInUse(PathBuf),
    /// Another daemon has the pid file.
    #[error(
        "failed to start daemon, ensure wharf is not running or delete {path}: process with PID {pid} is still running"
    )]
    Running {
        /// The pid file.
        path: PathBuf,
        /// Who is in it.
        pid: i32,
    },
    /// The system refused.
    #[error("failed to start daemon: {operation} {path}")]
    System {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn system(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstanceError + use<> {
    let path = path.to_owned();
    move |source| InstanceError::System { operation, path, source }
}

/// Holds the data root for as long as it lives (a file lock: a dead process holds none).
#[derive(Debug)]
pub struct DataLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Makes the data root, which only root may enter, and locks it.
///
/// # Errors
///
/// [`InstanceError::DataInUse`] if another daemon has it.
pub fn lock(root: &Path, path: &Path) -> Result<DataLock, InstanceError> {
    make_folder(root, 0o710)?;
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(system("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(DataLock(file)),
        Err(fs::TryLockError::WouldBlock) => Err(InstanceError::DataInUse(root.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(system("lock", path)(error)),
    }
}

/// Makes a folder with its parents; an existing one keeps its mode.
///
/// # Errors
///
/// The system's answer.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), InstanceError> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(system("create", parent))?;
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(system("create", path))
}

/// The pid file; removed when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes this process's id.
    ///
    /// # Errors
    ///
    /// [`InstanceError::Running`] if the file names a living process of the same executable. (dockerd takes any living
    /// process for a daemon, so that a left-over file can keep it down.)
    pub fn write(path: &Path) -> Result<Self, InstanceError> {
        if let Some(pid) = living(path) {
            return Err(InstanceError::Running { path: path.to_owned(), pid });
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(system("create", parent))?;
        }
        fs::write(path, std::process::id().to_string()).map_err(system("write", path))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else may have taken it away; then there is nothing to do.
        drop(fs::remove_file(&self.0));
    }
}

fn living(path: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    if pid == i32::try_from(std::process::id()).ok()? {
        return None;
    }
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let own = std::env::current_exe().ok()?;
    (executable.file_name() == own.file_name()).then_some(pid)
}

/// Returns the id of a group by its name or number; `None` if there is no such group.
pub fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let mut text = String::new();
    File::open("/etc/group").ok()?.read_to_string(&mut text).ok()?;
    parse_group(&text, name)
}

fn parse_group(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// Tells whoever started this process that clients are served: a line to `ready_fd`, and the service manager's
/// datagram (`sd_notify(3)`) if `notify_socket` names its socket.
///
/// # Errors
///
/// The system's answer; nobody is harmed if it is ignored.
pub fn tell_ready(ready: Option<OwnedFd>, notify_socket: Option<&str>) -> io::Result<()> {
    if let Some(fd) = ready {
        File::from(fd).write_all(b"ready\n")?;
    }
    if let Some(name) = notify_socket {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wharf-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn data_has_one_daemon() {
        let root = folder("lock");
        let lock_file = root.join("lock");
        let first = lock(&root, &lock_file).unwrap();
        assert!(matches!(lock(&root, &lock_file), Err(InstanceError::DataInUse(_))));
        drop(first);
        drop(lock(&root, &lock_file).unwrap());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_pid_file_of_the_dead_does_not_count() {
        let root = folder("pid");
        let path = root.join("sub/wharf.pid");
        fs::create_dir_all(root.join("sub")).unwrap();
        // No process has this id; then the parent, which is another executable.
        for text in
            ["4194304", &rustix::process::getppid().unwrap().as_raw_nonzero().to_string(), "rubbish", ""]
        {
            fs::write(&path, text).unwrap();
            let file = PidFile::write(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
            drop(file);
            assert!(!path.exists());
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn groups_are_found_by_name_or_number() {
        let text = "root:x:0:\ndocker:x:998:alice,bob\n";
        assert_eq!(parse_group(text, "docker"), Some(998));
        assert_eq!(parse_group(text, "dock"), None);
        assert_eq!(group_id("17"), Some(17));
    }

    #[test]
    fn readiness_is_told_on_the_descriptor() {
        let (mut reader, writer) = io::pipe().unwrap();
        tell_ready(Some(writer.into()), None).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ready\n");
    }
}
