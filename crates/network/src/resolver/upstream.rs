//! One question on its way to the name servers outside.

use super::Forwarder;
use super::connection;
use super::message::{self, Query};
use crate::Protocol;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long one name server has to answer (Docker: 4 s).
const SERVER_PATIENCE: Duration = Duration::from_secs(4);
/// How long it may keep silent until the next one is asked beside it.
const SILENCE: Duration = Duration::from_secs(1);

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// From this address.
    Udp(SocketAddr),
    /// Over this connection.
    Tcp(u64),
}

/// What became of an attempt.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing yet.
    Waiting,
    /// This is the answer.
    Answered(Vec<u8>),
    /// The server cannot be reached, or says (in this answer) that it cannot help.
    Failed(Option<Vec<u8>>),
}

/// A question that is to be asked outside.
///
/// While one server keeps silent, others are asked as well: then there are several of these, with one `number`.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) number: u64,
    pub(super) query: Query,
    pub(super) client: Client,
    /// What the last server said that could not help.
    pub(super) refusal: Option<Vec<u8>>,
    pub(super) message: Vec<u8>,
    servers: VecDeque<Forwarder>,
}

impl Question {
    /// Returns the question of `message`, to be asked of `servers` in turn.
    pub(super) fn new(
        number: u64,
        query: Query,
        message: Vec<u8>,
        client: Client,
        servers: Vec<Forwarder>,
    ) -> Self {
        Self { number, query, client, refusal: None, message, servers: servers.into() }
    }

    /// Returns the same question for the servers that were not asked yet, which are no longer its own; `None` without any.
    pub(super) fn for_the_others(&mut self) -> Option<Self> {
        let servers = std::mem::take(&mut self.servers);
        let (number, query, message) = (self.number, self.query.clone(), self.message.clone());
        (!servers.is_empty()).then(|| Self::new(number, query, message, self.client, servers.into()))
    }

    /// Takes the next server to ask.
    pub(super) fn next_server(&mut self) -> Option<Forwarder> {
        self.servers.pop_front()
    }

    /// A server is asked as the resolver was: an answer too long for UDP comes back marked so, and is asked for again.
    pub(super) fn protocol(&self) -> Protocol {
        match self.client {
            Client::Udp(_) => Protocol::Udp,
            Client::Tcp(_) => Protocol::Tcp,
        }
    }

    /// Asks over `fd`, which is connected or connecting to a server; gives the question back if that fails at once.
    ///
    /// The question gets an id of its own, and the socket a port of its own: both must be guessed to forge an answer.
    pub(super) fn ask(mut self, fd: OwnedFd, now: Instant) -> Result<Upstream, Box<Self>> {
        let id = crate::random::bytes();
        message::set_id(&mut self.message, id);
        let mut outgoing = Vec::new();
        if self.protocol() == Protocol::Udp {
            if rustix::net::send(&fd, &self.message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_err() {
                return Err(Box::new(self));
            }
        } else {
            outgoing.extend(u16::try_from(self.message.len()).unwrap_or(0).to_be_bytes());
            outgoing.extend(&self.message);
        }
        let watched = EventFlags::empty();
        let (deadline, next_at) = (now + SERVER_PATIENCE, now + SILENCE);
        Ok(Upstream { question: self, fd, id, outgoing, incoming: Vec::new(), deadline, next_at, watched })
    }
}

/// A question that one server is being asked.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) question: Question,
    pub(super) deadline: Instant,
    /// When the next server is asked as well.
    pub(super) next_at: Instant,
    pub(super) watched: EventFlags,
    fd: OwnedFd,
    id: [u8; 2],
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

impl Upstream {
    pub(super) fn wanted(&self) -> EventFlags {
        if self.outgoing.is_empty() { EventFlags::IN } else { EventFlags::OUT }
    }

    /// Goes on after an event.
    pub(super) fn advance(&mut self, scratch: &mut [u8]) -> Progress {
        if !self.outgoing.is_empty() {
            if connection::send(&self.fd, &mut self.outgoing).is_err() {
                return Progress::Failed(None);
            }
            if !self.outgoing.is_empty() {
                return Progress::Waiting;
            }
        }
        let bytes = match rustix::net::recv(&self.fd, &mut *scratch, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => return Progress::Waiting,
            // Nobody listens there, or the server has closed the connection.
            Err(_) | Ok((0, _)) => return Progress::Failed(None),
            Ok((length, _)) => scratch.get(..length).unwrap_or_default(),
        };
        let answer = if self.question.protocol() == Protocol::Udp {
            bytes.to_vec()
        } else {
            self.incoming.extend_from_slice(bytes);
            let mut messages = connection::take_messages(&mut self.incoming);
            if messages.is_empty() {
                return Progress::Waiting;
            }
            messages.swap_remove(0)
        };
        if !self.question.query.is_answered_by(self.id, &answer) {
            // Forged or stray: the true answer may still come.
            return Progress::Waiting;
        }
        match message::code(&answer) {
            Some(message::SERVER_FAILURE | message::REFUSED) => Progress::Failed(Some(answer)),
            _ => Progress::Answered(answer),
        }
    }
}

impl AsFd for Upstream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
