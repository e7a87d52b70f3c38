//! Service notifications (`sd_notify(3)`) and sockets passed on (`sd_listen_fds(3)`), as runc handles them.
//!
//! The container is given a socket of its own at `/run/notify/notify.sock`; when it says that it is ready, that and the
//! number of its process are passed on to the caller's socket. Nothing else is.

use super::Failure;
use super::arguments::Parsed;
use oci::runtime::{Mount, Spec};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";

/// How many descriptors from 3 on the program keeps: those that the service manager has passed (`LISTEN_FDS`), then those
/// of `--preserve-fds`. All must be open. Asked before anything else is opened.
pub(super) fn preserved(flags: &Parsed) -> Result<(u32, u32), Failure> {
    let number = |text: &str| text.parse::<u32>().map_err(|error| format!("--preserve-fds {text}: {error}"));
    let further = flags.value("preserve-fds").map(number).transpose()?.unwrap_or(0);
    let passed = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse::<u32>().ok());
    let own = std::env::var("LISTEN_PID").ok().is_some_and(|pid| pid == std::process::id().to_string());
    let passed = passed.filter(|_| own).unwrap_or(0);
    let count = passed.saturating_add(further);
    for fd in 3..count.saturating_add(3) {
        let path = format!("/proc/self/fd/{fd}");
        if std::fs::symlink_metadata(&path).is_err() {
            return Err(format!("please check that the preserved-fd {fd} (of {count}) is open").into());
        }
    }
    Ok((passed, count))
}

/// Tells the program of the descriptors that the service manager has passed.
pub(super) fn announce(passed: u32, environment: &mut Vec<String>) {
    if passed > 0 {
        environment.push(format!("LISTEN_FDS={passed}"));
        environment.push("LISTEN_PID=1".to_owned());
    }
}

/// Gives the container a socket in `directory`, if the caller has one.
pub(super) fn prepare(directory: &Path, spec: &mut Spec) -> Result<(), Failure> {
    if std::env::var_os("NOTIFY_SOCKET").is_none_or(|path| path.is_empty()) {
        return Ok(());
    }
    let outside = directory.join("notify");
    std::fs::create_dir(&outside)?;
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o755))?;
    spec.mounts.push(Mount {
        destination: INSIDE.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(outside.to_string_lossy().into_owned()),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process.env.retain(|variable| !variable.starts_with("NOTIFY_SOCKET="));
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{NAME}"));
    }
    Ok(())
}

/// The container's socket and the caller's.
#[derive(Debug)]
pub(super) struct Proxy {
    socket: UnixDatagram,
    host: PathBuf,
}

impl Proxy {
    /// Listens, if the container of `directory` was given a socket and the caller has one.
    pub(super) fn begin(directory: &Path) -> Result<Option<Self>, Failure> {
        let host = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        let Some(host) = host.filter(|_| directory.join("notify").is_dir()) else { return Ok(None) };
        let path = directory.join("notify").join(NAME);
        let socket = UnixDatagram::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
        Ok(Some(Self { socket, host }))
    }

    /// Waits until the container is ready or has ended, and passes on that it is.
    pub(super) fn wait(&self, process: BorrowedFd<'_>, pid: i32) -> Result<(), Failure> {
        loop {
            let mut polled = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN),
            ];
            match rustix::event::poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Box::new(std::io::Error::from(errno))),
            }
            let [said, ended] = polled.map(|one| !one.revents().is_empty());
            if said {
                let mut text = [0; 4096];
                let length = self.socket.recv(&mut text)?;
                let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
                if let Some(ready) = text.lines().find(|line| line.starts_with("READY=")) {
                    return self.tell(&format!("{ready}\nMAINPID={pid}\n"));
                }
            } else if ended {
                return Ok(());
            }
        }
    }

    fn tell(&self, text: &str) -> Result<(), Failure> {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        let socket = UnixDatagram::unbound()?;
        let address = match self.host.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name)?,
            None => std::os::unix::net::SocketAddr::from_pathname(&self.host)?,
        };
        socket.send_to_addr(text.as_bytes(), &address)?;
        Ok(())
    }
}
