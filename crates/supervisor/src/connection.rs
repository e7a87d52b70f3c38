//! The daemon's side of the protocol.

use crate::Error;
use crate::protocol::{Event, Launch, Reply, Request, Status};
use crate::wire::{self, Outgoing};
use base::{Kind, Timestamp};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// A connection to a supervisor on which requests are made, one at a time. Blocking.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

/// How a container was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Its first process.
    pub pid: i32,
    /// When.
    pub started_at: Timestamp,
}

/// Why a container or an exec could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program cannot be started.
    #[error("{message}")]
    Failed {
        /// What kind of error it is.
        kind: Kind,
        /// The error, in the words that users of Docker know.
        message: String,
        /// The exit code Docker gives it: 126, 127 or 128.
        exit_code: i32,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl base::Classify for StartError {
    fn kind(&self) -> Kind {
        match self {
            Self::Failed { kind, .. } => *kind,
            Self::Other(error) => error.kind(),
        }
    }
}

impl Connection {
    /// Connects to the socket of a supervisor.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if no supervisor is there (any more), [`Error::System`] otherwise.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        match sys::socket::connect_seqpacket(path) {
            Ok(socket) => Ok(Self { socket }),
            Err(error)
                if matches!(error.errno(), rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) =>
            {
                Err(Error::Closed { peer: "supervisor" })
            }
            Err(error) => Err(Error::system("connect to supervisor")(error)),
        }
    }

    /// Makes the pair for a new supervisor: the daemon's connection and the end for
    /// [`Zygote::supervise`](crate::Zygote::supervise).
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn pair() -> Result<(Self, OwnedFd), Error> {
        let (socket, other) =
            sys::socket::seqpacket_pair().map_err(Error::system("make sockets for supervisor"))?;
        Ok((Self { socket }, other))
    }

    /// Starts the container and turns the connection into its stream of events.
    ///
    /// `descriptors`: the network namespace if [`Launch::netns`], the user namespace if [`Launch::users`], then the sockets of
    /// [`Launch::ports`], then the clients of [`Launch::attach`]. Blocks until the program was executed or failed to be.
    ///
    /// # Errors
    ///
    /// [`StartError::Failed`] if the container cannot run; [`Error::Closed`] if the supervisor died.
    pub fn launch(
        self,
        launch: Box<Launch>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Started, EventStream), StartError> {
        match self.call(&Request::Launch(launch), descriptors)? {
            Reply::Started { pid, started_at } => {
                Ok((Started { pid, started_at }, EventStream { socket: self.socket }))
            }
            Reply::Failed { kind, message, exit_code } => {
                Err(StartError::Failed { kind, message, exit_code })
            }
            other => Err(unexpected(other).into()),
        }
    }

    /// Bounds how long each further message may take, for requests that must not hang on one container.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn set_patience(&self, patience: Duration) -> Result<(), Error> {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};
        for which in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&self.socket, which, Some(patience))
                .map_err(sys::Error::on("setsockopt", "supervisor"))
                .map_err(Error::system("set up connection"))?;
        }
        Ok(())
    }

    /// Makes a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the supervisor is gone. A refusal is a [`Reply`], not an error; see [`Connection::done`].
    pub fn call(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Reply, Error> {
        wire::send(self.socket.as_fd(), request, descriptors).map_err(closed_if_gone)?;
        loop {
            match wire::receive(self.socket.as_fd()).map_err(closed_if_gone)? {
                Some((Outgoing::Reply(reply), _)) => return Ok(reply),
                // Nobody subscribed on this connection; what was under way is of no use here.
                Some((Outgoing::Event(_), _)) => {}
                None => return Err(Error::Closed { peer: "supervisor" }),
            }
        }
    }

    /// Makes a request whose only good answer is [`Reply::Done`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the supervisor's reason, or as [`Connection::call`].
    pub fn done(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match self.call(request, descriptors)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Asks how things are.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub fn status(&self) -> Result<Status, Error> {
        match self.call(&Request::Status, &[])? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected(other)),
        }
    }

    /// Turns the connection into a stream of events: what is so now, and each change from now on.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub fn subscribe(self) -> Result<(Status, EventStream), Error> {
        match self.call(&Request::Subscribe, &[])? {
            Reply::Status(status) => Ok((*status, EventStream { socket: self.socket })),
            other => Err(unexpected(other)),
        }
    }
}

/// What a supervisor tells.
#[derive(Debug)]
pub struct EventStream {
    socket: OwnedFd,
}

impl EventStream {
    /// Waits for the next event; `None` when the supervisor is gone.
    ///
    /// After [`Event::Exited`] the end follows. An end without it means that the supervisor was killed, or that this
    /// side did not read for so long that the supervisor gave it up: connect again to tell.
    ///
    /// # Errors
    ///
    /// [`Error::System`] with `AGAIN` if [`EventStream::set_nonblocking`] was called and nothing is there.
    pub fn next(&self) -> Result<Option<Event>, Error> {
        loop {
            return match wire::receive(self.socket.as_fd()) {
                Ok(Some((Outgoing::Event(event), _))) => Ok(Some(event)),
                Ok(Some((Outgoing::Reply(_), _))) => continue,
                Ok(None) => Ok(None),
                Err(Error::System { source, .. }) if source.errno() == rustix::io::Errno::CONNRESET => {
                    Ok(None)
                }
                Err(error) => Err(error),
            };
        }
    }

    /// Lets [`EventStream::next`] fail with `AGAIN` instead of waiting: for use with poll or epoll.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn set_nonblocking(&self) -> Result<(), Error> {
        sys::socket::set_nonblocking(self.socket.as_fd(), true).map_err(Error::system("set up event stream"))
    }
}

impl AsFd for EventStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn closed_if_gone(error: Error) -> Error {
    use rustix::io::Errno;
    match error {
        Error::System { source, .. } if matches!(source.errno(), Errno::PIPE | Errno::CONNRESET) => {
            Error::Closed { peer: "supervisor" }
        }
        other => other,
    }
}

/// What a reply means that is not the one hoped for.
fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Error { kind, message } | Reply::Failed { kind, message, .. } => {
            Error::Refused { kind, message }
        }
        Reply::Done | Reply::Started { .. } | Reply::ExecStarted { .. } | Reply::Status(_) => {
            Error::Unexpected("reply of another request")
        }
    }
}
