//! The process that spawns supervisors, so that the daemon never forks and supervisors are nobody's children but init's.
//!
//! The daemon starts one zygote and speaks to it over a seqpacket pair. The zygote keeps
//!
//! - a detached, read-only bind of the executable: whoever gets hold of a supervisor's `/proc/PID/exe`, or of that of a
//!   container's first process before it executes, meets a mount that cannot be written;
//! - an empty mount namespace, which supervisors start containers from.
//!
//! The zygote lives in the empty namespace itself. A supervisor begins in the host's, where mount sources are and where a
//! dynamically linked executable finds its loader; in its own session, with nothing on its descriptors but its control
//! socket (0) and the empty mount namespace (1). The zygote reaps it if it ends first, and ends itself when the daemon's end
//! of the socket is closed; init reaps the supervisors then.

use crate::{Error, wire};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use sys::namespace::Namespace;
use sys::process::{Child, Command, Options, Place};

/// The executable's first argument for this role.
pub const ROLE: &str = "zygote";

/// `SIGCHLD`, signal(7).
const CHILD_ENDED: i32 = 17;

/// Asks for a supervisor; its control socket comes along.
#[derive(Debug, Serialize, Deserialize)]
struct Supervise {
    /// Shown in the process list: the container's identifier.
    name: String,
}

/// The supervisor's process, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
enum Spawned {
    Pid(i32),
    Failed(String),
}

/// The daemon's handle of its zygote. Dropping it ends the zygote; supervisors go on.
#[derive(Debug)]
pub struct Zygote {
    executable: PathBuf,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    socket: OwnedFd,
    child: Child,
}

impl Zygote {
    /// Starts the zygote of `executable`, which must run [`main`] if its first argument is [`ROLE`] and
    /// the supervisor if it is [`SUPERVISOR_ROLE`](crate::SUPERVISOR_ROLE).
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn spawn(executable: &Path) -> Result<Self, Error> {
        Ok(Self { executable: executable.to_owned(), running: Mutex::new(start(executable)?) })
    }

    /// Spawns a supervisor that serves the connection whose end is `control`; `name` is shown in the process list.
    ///
    /// A zygote that was killed is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::System`], [`Error::Refused`] with the zygote's reason.
    pub fn supervise(&self, control: OwnedFd, name: &str) -> Result<i32, Error> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match ask(&running.socket, control.as_fd(), name) {
            Err(Error::Closed { .. }) => {
                let gone = std::mem::replace(&mut *running, start(&self.executable)?);
                // Its number is freed; how it ended does not matter.
                gone.child.wait().ok();
                ask(&running.socket, control.as_fd(), name)
            }
            answer => answer,
        };
        // Only the supervisor holds its end now, so that its death is seen.
        drop(control);
        answer
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if rustix::net::shutdown(&running.socket, rustix::net::Shutdown::Both).is_ok() {
            running.child.wait().ok();
        }
    }
}

fn start(executable: &Path) -> Result<Running, Error> {
    let (ours, theirs) = sys::socket::seqpacket_pair().map_err(Error::system("make sockets for zygote"))?;
    let null = null().map_err(Error::io("open", "/dev/null"))?;
    let child = Command::new(executable)
        .name("wharf")
        .argument(ROLE)
        .descriptor(theirs.as_fd(), 0)
        .descriptor(null.as_fd(), 1)
        .descriptor(null.as_fd(), 2)
        .directory(Path::new("/"))
        .options(Options { new_session: true, ..Options::default() })
        .spawn()
        .map_err(Error::system("start zygote"))?;
    Ok(Running { socket: ours, child })
}

fn ask(socket: &OwnedFd, control: BorrowedFd<'_>, name: &str) -> Result<i32, Error> {
    let closed = |error| match error {
        Error::System { source, .. } if matches!(source.errno(), Errno::PIPE | Errno::CONNRESET) => {
            Error::Closed { peer: "zygote" }
        }
        other => other,
    };
    wire::send(socket.as_fd(), &Supervise { name: name.to_owned() }, &[control]).map_err(closed)?;
    match wire::receive(socket.as_fd()).map_err(closed)? {
        Some((Spawned::Pid(pid), _)) => Ok(pid),
        Some((Spawned::Failed(message), _)) => Err(Error::Refused {
            kind: base::Kind::Internal,
            message: format!("start supervisor: {message}"),
        }),
        None => Err(Error::Closed { peer: "zygote" }),
    }
}

/// Opens `/dev/null`.
pub(crate) fn null() -> std::io::Result<OwnedFd> {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from)
}

/// Runs as the zygote; returns when the daemon's end of the socket on descriptor 0 is closed.
///
/// # Errors
///
/// [`Error::System`] if it cannot do its work at all.
pub fn main() -> Result<(), Error> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(|errno| Error::io("take over", "control socket")(errno.into()))?;
    let null = null().map_err(Error::io("open", "/dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| Error::io("replace", "stdin")(errno.into()))?;
    let own = Own::prepare(null)?;
    let children =
        sys::signal::descriptor(&[CHILD_ENDED]).map_err(Error::system("watch for ended children"))?;
    loop {
        let mut watched = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io("wait for", "requests")(errno.into())),
        }
        let [request, ended] = watched.map(|watched| !watched.revents().is_empty());
        if ended {
            reap(&children);
        }
        if request && !serve(&socket, &own)? {
            return Ok(());
        }
    }
}

/// What the zygote holds for its supervisors.
#[derive(Debug)]
struct Own {
    /// The detached, read-only bind of the executable.
    program: OwnedFd,
    /// The empty mount namespace.
    empty: OwnedFd,
    /// The host's mount namespace.
    host: OwnedFd,
    /// The root directory there.
    root: OwnedFd,
    /// `/dev/null`.
    null: OwnedFd,
}

impl Own {
    /// Opens and makes everything, and moves this process into the empty namespace.
    fn prepare(null: OwnedFd) -> Result<Self, Error> {
        let failed = || Error::system("make empty mount namespace");
        let program = read_only_executable()?;
        let host = sys::namespace::current(Namespace::Mount).map_err(failed())?;
        let root = std::fs::File::open("/").map_err(Error::io("open", "/"))?.into();
        let empty = sys::namespace::empty_mount_namespace().map_err(failed())?;
        sys::namespace::enter(empty.as_fd(), Namespace::Mount).map_err(failed())?;
        Ok(Self { program, empty, host, root, null })
    }
}

/// Makes the detached, read-only bind that supervisors are executed through.
fn read_only_executable() -> Result<OwnedFd, Error> {
    let failed = || Error::system("bind executable read-only");
    let program = sys::mount::bind(Path::new("/proc/self/exe"), false).map_err(failed())?;
    let attributes = sys::raw::MountAttributes {
        set: rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
        ..sys::raw::MountAttributes::default()
    };
    sys::mount::set_attributes(program.as_fd(), &attributes, false).map_err(failed())?;
    Ok(program)
}

/// Serves one request; `false` when there will be no more.
fn serve(socket: &OwnedFd, own: &Own) -> Result<bool, Error> {
    let (request, descriptors) = match wire::receive::<Supervise>(socket.as_fd()) {
        Ok(Some(received)) => received,
        Ok(None) => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some(control) = descriptors.first() else { return Err(Error::Unexpected("control socket missing")) };
    let spawned = Command::from_descriptor(own.program.as_fd(), "wharf")
        .argument(crate::SUPERVISOR_ROLE)
        .argument(&request.name)
        .descriptor(control.as_fd(), 0)
        .descriptor(own.empty.as_fd(), 1)
        .descriptor(own.null.as_fd(), 2)
        .place(Place { namespace: own.host.as_fd(), root: own.root.as_fd() })
        .options(Options { new_session: true, ..Options::default() })
        .spawn();
    let answer = match spawned {
        Ok(child) => Spawned::Pid(child.pid),
        Err(error) => Spawned::Failed(error.to_string()),
    };
    match wire::send(socket.as_fd(), &answer, &[]) {
        // The daemon has died since; the supervisor sees its own connection closed.
        Err(Error::System { source, .. }) if source.errno() == Errno::PIPE => Ok(false),
        other => other.map(|()| true),
    }
}

/// Frees the numbers of the supervisors that have ended.
fn reap(children: &OwnedFd) {
    while let Ok(Some(_)) = sys::signal::take(children.as_fd()) {}
    while let Ok(Some(_)) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
}
