//! The socket of an ssh agent as a command sees it: one of its own, with the owner and mode that were asked for, from which
//! connections are passed on. The agent's own socket is never inside.

use crate::error::{Error, Result};
use dockerfile::Owner;
use rustix::fs::{Gid, Mode, Uid};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Connections beyond so many at once are closed.
const MAX_CONNECTIONS: usize = 32;

/// A socket whose connections are passed on, until it is dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Where it is.
    pub(crate) path: PathBuf,
    listener: Arc<UnixListener>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Makes the socket `name` in `folder`.
    pub(crate) fn forward(folder: &Path, name: &str, agent: &Path, owner: Owner) -> Result<Self> {
        let path = folder.join(name);
        let place = sys::path::open_directory(folder).map_err(Error::system)?;
        // A socket's address is short; a descriptor's path always is.
        let short = PathBuf::from(format!("/proc/self/fd/{}/{name}", place.as_raw_fd()));
        let listener = Arc::new(UnixListener::bind(&short).map_err(Error::file("bind", &path))?);
        rustix::fs::chown(&path, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
            .map_err(Error::file("chown", &path))?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(owner.mode)).map_err(Error::file("chmod", &path))?;
        let (own, agent) = (Arc::clone(&listener), agent.to_owned());
        let thread = std::thread::Builder::new().name("ssh agent".to_owned());
        let thread = thread.spawn(move || accept(&own, &agent)).map_err(Error::file("start", &path))?;
        Ok(Self { path, listener, thread: Some(thread) })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It makes `accept` fail.
        if rustix::net::shutdown(self.listener.as_fd(), rustix::net::Shutdown::Both).is_ok()
            && let Some(thread) = self.thread.take()
        {
            drop(thread.join());
        }
    }
}

fn accept(listener: &UnixListener, agent: &Path) {
    let count = Arc::new(());
    while let Ok((client, _)) = listener.accept() {
        if Arc::strong_count(&count) > MAX_CONNECTIONS {
            continue;
        }
        let (agent, counted) = (agent.to_owned(), Arc::clone(&count));
        let passing = move || {
            if let Err(error) = pass_on(&client, &agent) {
                tracing::debug!(%error, "a connection to an ssh agent");
            }
            drop(counted);
        };
        drop(std::thread::Builder::new().name("ssh agent".to_owned()).spawn(passing));
    }
}

/// Passes bytes both ways until either side has ended.
fn pass_on(client: &UnixStream, agent: &Path) -> std::io::Result<()> {
    let agent = UnixStream::connect(agent)?;
    std::thread::scope(|scope| {
        scope.spawn(|| copy(client, &agent));
        copy(&agent, client);
    });
    Ok(())
}

fn copy(mut from: &UnixStream, mut to: &UnixStream) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let Some(bytes) = piece.get(..length) else { break };
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    // Who waits for the other direction learns of it.
    for socket in [from, to] {
        drop(socket.shutdown(Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn connections_are_passed_on_until_it_is_gone() {
        let scratch = Scratch::new();
        let real = scratch.path().join("real");
        let listener = UnixListener::bind(&real).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut asked = [0; 3];
            peer.read_exact(&mut asked).unwrap();
            peer.write_all(b"answer").unwrap();
            asked
        });
        let deep = scratch.path().join("d".repeat(100));
        std::fs::create_dir(&deep).unwrap();
        let owner = Owner { mode: 0o640, uid: 0, gid: 0 };
        let owner = Owner {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            ..owner
        };
        let agent = Agent::forward(&deep, "agent-0", &real, owner).unwrap();
        assert_eq!(agent.path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
        let place = sys::path::open_directory(&deep).unwrap();
        let short = format!("/proc/self/fd/{}/agent-0", place.as_raw_fd());
        let mut client = UnixStream::connect(&short).unwrap();
        client.write_all(b"ask").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((answer.as_str(), &answering.join().unwrap()), ("answer", b"ask"));
        drop(agent);
        assert!(UnixStream::connect(&short).is_err());
    }
}
