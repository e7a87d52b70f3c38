//! The resolver at 127.0.0.11, which answers the containers of user-defined networks.
//!
//! Names of containers are answered from a table ([`Names`]); everything else goes to the name servers of the host or the
//! user, asked from inside the container's namespace (or from the host's for servers on the host's loopback): the next one
//! when one refuses, and beside it when it keeps silent. Their answers are kept as long as they say. After Docker: A, AAAA, PTR and MX of known names; a known name without an address of the
//! family asked for is an empty answer, not an unknown name; time to live 600.
//!
//! Like the port proxy it hangs on one epoll descriptor ([`AsFd`]), [`Resolver::dispatch`] never waits, and everything a
//! container can make it hold is bounded.

mod cache;
mod connection;
mod message;
mod names;
mod sockets;
#[cfg(test)]
mod tests;
mod upstream;

pub use names::Names;

use crate::{Error, poll};
use cache::Cache;
use connection::Connection;
use message::{Query, Unreadable};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use sockets::Sockets;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use upstream::{Client, Progress, Question, Upstream};

/// The name servers asked for one question (Docker, and resolv.conf(5)).
const SERVERS: usize = 3;
/// The questions that may be on their way to name servers (Docker: 1024).
const QUESTIONS: usize = 1024;
/// The TCP connections that a container may have to its resolver, and for how long without a word.
const CONNECTIONS: usize = 64;
const CONNECTION_IDLE: Duration = Duration::from_secs(10);
/// How often time limits are looked at while something is on its way.
const TICK: Duration = Duration::from_millis(500);
/// What errors are about.
const OBJECT: &str = "resolver";
const TAKEN_AT_ONCE: usize = 32;
const BUFFER: usize = 64 * 1024;

const TIMER: u64 = 0;
const UDP: u64 = 1;
const TCP: u64 = 2;
const FIRST_FREE: u64 = 3;

/// A name server outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Forwarder {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it is asked from the host's namespace (a server on the host's loopback) and not from the container's.
    pub from_host: bool,
}

/// What the resolver knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The names it answers itself.
    pub names: Names,
    /// The servers it asks for other names, in order. None for a container that has internal networks only: nothing it
    /// asks may get out (CVE-2024-29018).
    pub forwarders: Vec<Forwarder>,
    /// Whether the user set `ndots` above 0: then names without a dot are not forwarded.
    pub keep_single_labels: bool,
}

/// The resolver of one container.
#[derive(Debug)]
pub struct Resolver {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: bool,
    /// Whether connections are not taken for the moment.
    resting: bool,
    netns: Option<OwnedFd>,
    sockets: Sockets,
    settings: Settings,
    connections: HashMap<u64, Connection>,
    upstreams: HashMap<u64, Upstream>,
    cache: Cache,
    next: u64,
    scratch: Vec<u8>,
}

impl Resolver {
    /// Opens the resolver inside `netns`, the container's network namespace, whose `lo` must be up.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Bind`].
    pub fn new(netns: OwnedFd, settings: Settings) -> Result<Self, Error> {
        let sockets = Sockets::open(netns.as_fd())?;
        Self::on(sockets, Some(netns), settings)
    }

    /// Builds a resolver on sockets; without `netns` every server is asked from the caller's namespace.
    fn on(sockets: Sockets, netns: Option<OwnedFd>, settings: Settings) -> Result<Self, Error> {
        let epoll =
            epoll::create(CreateFlags::CLOEXEC).map_err(sys::Error::on("epoll_create1", "resolver"))?;
        let timer = sys::event::timer()?;
        poll::watch(&epoll, &timer, TIMER, EventFlags::IN, OBJECT)?;
        poll::watch(&epoll, &sockets.udp, UDP, EventFlags::IN, OBJECT)?;
        poll::watch(&epoll, &sockets.tcp, TCP, EventFlags::IN, OBJECT)?;
        Ok(Self {
            epoll,
            timer,
            armed: false,
            resting: false,
            netns,
            sockets,
            settings,
            connections: HashMap::new(),
            upstreams: HashMap::new(),
            cache: Cache::default(),
            next: FIRST_FREE,
            scratch: vec![0; BUFFER],
        })
    }

    /// Replaces what the resolver knows. Questions on their way are not affected.
    pub fn update(&mut self, settings: Settings) {
        if settings.forwarders != self.settings.forwarders {
            self.cache.clear();
        }
        self.settings = settings;
    }

    /// Does what can be done now, and returns. What is left makes the descriptor readable again.
    ///
    /// # Errors
    /// [`Error::System`] if the epoll descriptor fails.
    pub fn dispatch(&mut self) -> Result<(), Error> {
        for event in poll::events(&self.epoll, OBJECT)? {
            match event.data.u64() {
                TIMER => self.tick(Instant::now())?,
                UDP => self.receive(),
                TCP => self.accept(),
                token => self.handle(token),
            }
        }
        let idle = self.upstreams.is_empty() && self.connections.is_empty() && !self.resting;
        if !self.armed && !idle {
            sys::event::set_timer(self.timer.as_fd(), Some(TICK))?;
            self.armed = true;
        }
        Ok(())
    }

    fn receive(&mut self) {
        for _ in 0..TAKEN_AT_ONCE {
            let Ok(Some(received)) = sys::datagram::receive(self.sockets.udp.as_fd(), &mut self.scratch)
            else {
                return;
            };
            let message = self.scratch.get(..received.length).unwrap_or_default().to_vec();
            self.take(&message, Client::Udp(received.peer));
        }
    }

    fn accept(&mut self) {
        for _ in 0..TAKEN_AT_ONCE {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let fd = match rustix::net::accept_with(&self.sockets.tcp, flags) {
                Ok(fd) => fd,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                // No descriptor is left: the next tick tries again, instead of being told for ever.
                Err(_) => {
                    self.resting = epoll::delete(&self.epoll, &self.sockets.tcp).is_ok();
                    return;
                }
            };
            if self.connections.len() >= CONNECTIONS {
                // The longest silent one gives way, so that a container cannot lock itself out for good.
                let oldest = self.connections.iter().min_by_key(|(_, connection)| connection.last_used());
                let Some(oldest) = oldest.map(|(id, _)| *id) else { return };
                self.connections.remove(&oldest);
            }
            let id = self.identifier();
            if poll::watch(&self.epoll, &fd, id, EventFlags::IN, OBJECT).is_ok() {
                self.connections.insert(id, Connection::new(fd));
            }
        }
    }

    fn handle(&mut self, id: u64) {
        if let Some(mut connection) = self.connections.remove(&id) {
            let messages = connection.advance(&mut self.scratch);
            if self.keep_connection(id, connection) {
                for message in messages {
                    self.take(&message, Client::Tcp(id));
                }
            }
        } else if let Some(mut upstream) = self.upstreams.remove(&id) {
            match upstream.advance(&mut self.scratch) {
                Progress::Waiting => self.keep(id, upstream),
                Progress::Answered(answer) => self.finish(&upstream.question, Some(answer)),
                Progress::Failed(answer) => {
                    let mut question = upstream.question;
                    question.refusal = answer.or(question.refusal);
                    self.ask_next(question);
                }
            }
        }
    }

    /// Answers a question, or sends it on.
    fn take(&mut self, message: &[u8], client: Client) {
        let query = match message::parse(message) {
            Ok(query) => query,
            Err(Unreadable::Ignore) => return,
            Err(Unreadable::Malformed(id)) => return self.reply(client, &message::malformed(id)),
        };
        if let Some(answer) = self.settings.answer(&query) {
            return self.reply_fitting(client, &query, answer);
        }
        if let Some(mut answer) = self.cache.get(message, Instant::now()) {
            message::set_id(&mut answer, query.id);
            return self.reply_fitting(client, &query, answer);
        }
        if self.upstreams.len() >= QUESTIONS {
            return;
        }
        let servers: Vec<Forwarder> = self.settings.forwarders.iter().copied().take(SERVERS).collect();
        let number = self.identifier();
        self.ask_next(Question::new(number, query, message.to_vec(), client, servers));
    }

    /// Sends a question to its next name server.
    fn ask_next(&mut self, mut question: Question) {
        while let Some(server) = question.next_server() {
            let netns = if server.from_host { None } else { self.netns.as_ref().map(AsFd::as_fd) };
            let Ok(fd) = sockets::outgoing(netns, question.protocol(), server.address) else { continue };
            match question.ask(fd, Instant::now()) {
                Ok(upstream) => {
                    let id = self.identifier();
                    return self.keep(id, upstream);
                }
                Err(back) => question = *back,
            }
        }
        let refusal = question.refusal.take();
        self.finish(&question, refusal);
    }

    fn keep(&mut self, id: u64, mut upstream: Upstream) {
        if rewatch(&self.epoll, &upstream, id, upstream.watched, upstream.wanted()).is_ok() {
            upstream.watched = upstream.wanted();
            self.upstreams.insert(id, upstream);
        } else {
            self.finish(&upstream.question, None);
        }
    }

    /// Gives a client its answer; without one the failure of the servers, unless another is still being asked.
    fn finish(&mut self, question: &Question, answer: Option<Vec<u8>>) {
        let helped = |code| !matches!(code, message::SERVER_FAILURE | message::REFUSED);
        if answer.as_deref().and_then(message::code).is_some_and(helped) {
            self.upstreams.retain(|_, other| other.question.number != question.number);
        } else if self.upstreams.values().any(|other| other.question.number == question.number) {
            return;
        }
        match answer {
            Some(mut answer) => {
                self.cache.put(&question.message, &answer, Instant::now());
                message::set_id(&mut answer, question.query.id);
                self.reply_fitting(question.client, &question.query, answer);
            }
            None => self.reply(question.client, &question.query.empty(message::SERVER_FAILURE)),
        }
    }

    fn reply_fitting(&mut self, client: Client, query: &Query, answer: Vec<u8>) {
        let answer = if matches!(client, Client::Udp(_)) { query.fit_udp(answer) } else { answer };
        self.reply(client, &answer);
    }

    fn reply(&mut self, client: Client, answer: &[u8]) {
        match client {
            // The client may be gone; it will ask again if not.
            Client::Udp(peer) => {
                sys::datagram::send(self.sockets.udp.as_fd(), answer, peer, None).unwrap_or_default();
            }
            Client::Tcp(id) => {
                if let Some(mut connection) = self.connections.remove(&id) {
                    connection.send(answer);
                    self.keep_connection(id, connection);
                }
            }
        }
    }

    /// Keeps a connection that can still be of use, watched for what it waits for.
    fn keep_connection(&mut self, id: u64, mut connection: Connection) -> bool {
        let wanted = connection.wanted();
        let kept =
            connection.is_open() && rewatch(&self.epoll, &connection, id, connection.watched, wanted).is_ok();
        if kept {
            connection.watched = wanted;
            self.connections.insert(id, connection);
        }
        kept
    }

    fn tick(&mut self, now: Instant) -> Result<(), Error> {
        sys::event::drain(self.timer.as_fd());
        self.armed = false;
        if std::mem::take(&mut self.resting) {
            poll::watch(&self.epoll, &self.sockets.tcp, TCP, EventFlags::IN, OBJECT)?;
        }
        self.connections
            .retain(|_, connection| now.saturating_duration_since(connection.last_used()) < CONNECTION_IDLE);
        let room = QUESTIONS.saturating_sub(self.upstreams.len());
        let silent = self.upstreams.values_mut().filter(|upstream| upstream.next_at <= now);
        let others: Vec<Question> =
            silent.filter_map(|upstream| upstream.question.for_the_others()).take(room).collect();
        others.into_iter().for_each(|question| self.ask_next(question));
        let late: Vec<u64> = self
            .upstreams
            .iter()
            .filter_map(|(id, upstream)| (upstream.deadline <= now).then_some(*id))
            .collect();
        for id in late {
            if let Some(upstream) = self.upstreams.remove(&id) {
                self.ask_next(upstream.question);
            }
        }
        Ok(())
    }

    fn identifier(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }
}

impl AsFd for Resolver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Settings {
    /// Returns the answer to a question that is not forwarded.
    fn answer(&self, query: &Query) -> Option<Vec<u8>> {
        let local = || {
            let name = query.name.as_deref().filter(|_| query.is_plain())?;
            match query.kind {
                message::A | message::AAAA => Some(query.addresses(&rotated(self.names.addresses(name)?))),
                message::MX => self.names.addresses(name).map(|_| query.empty(message::NO_ERROR)),
                message::PTR => Some(query.pointer(self.names.name(message::reverse_address(name)?)?)),
                _ => None,
            }
        };
        if let Some(answer) = local() {
            return Some(answer);
        }
        let single = query.name.as_deref().is_some_and(|name| !name.contains('.'));
        if self.keep_single_labels && single && matches!(query.kind, message::A | message::AAAA) {
            return Some(query.empty(message::NO_ERROR));
        }
        self.forwarders.is_empty().then(|| query.empty(message::SERVER_FAILURE))
    }
}

/// What [`crate::judge::dns`] does.
pub(crate) fn judge(bytes: &[u8]) {
    let mut stream = bytes.to_vec();
    let messages = connection::take_messages(&mut stream);
    let length: usize = messages.iter().map(|message| message.len() + 2).sum();
    assert_eq!(length + stream.len(), bytes.len(), "TCP: messages of other bytes than came");
    if let Some((lives, _)) = cache::lives(bytes) {
        assert!(lives.iter().all(|at| at + 4 <= bytes.len()), "{lives:?} of {} bytes", bytes.len());
    }
    let query = match message::parse(bytes) {
        Ok(query) => query,
        Err(Unreadable::Ignore) => return,
        Err(Unreadable::Malformed(id)) => {
            return assert_eq!(bytes.first_chunk(), Some(&id), "the answer to what is malformed");
        }
    };
    let addresses: Vec<std::net::IpAddr> = (0..200_u8)
        .flat_map(|host| [[10, 0, 0, host].into(), [0xfd, 0, 0, 0, 0, 0, 0, u16::from(host)].into()])
        .collect();
    let mut settings = Settings::default();
    for address in &addresses {
        settings.names.add(query.name.as_deref().unwrap_or("web"), *address);
        settings.names.add_pointer(*address, &"name.".repeat(60));
    }
    for keep_single_labels in [false, true] {
        settings.keep_single_labels = keep_single_labels;
        // Without servers outside there is an answer to everything.
        let answer = settings.answer(&query);
        let answer = answer.unwrap_or_else(|| unreachable!("no answer to {query:?}"));
        assert!(query.is_answered_by(query.id, &answer), "{query:?} {answer:?}");
        let short = query.fit_udp(answer.clone());
        assert!(query.is_answered_by(query.id, &short), "{query:?} {short:?}");
        assert!(
            short == answer || short.len() <= bytes.len(),
            "cut down to more than the question: {short:?}"
        );
    }
}

/// Several addresses take turns in being first.
fn rotated(addresses: &[std::net::IpAddr]) -> Vec<std::net::IpAddr> {
    let mut addresses = addresses.to_vec();
    if addresses.len() > 1 {
        let [turn] = crate::random::bytes::<1>();
        let count = addresses.len();
        addresses.rotate_left(usize::from(turn) % count);
    }
    addresses
}

/// Changes what epoll reports of a descriptor; one that waits for nothing is taken out, lest its hang-up be reported for
/// ever.
fn rewatch(
    epoll: &OwnedFd,
    fd: impl AsFd,
    token: u64,
    known: EventFlags,
    wanted: EventFlags,
) -> Result<(), Errno> {
    if known == wanted {
        Ok(())
    } else if known.is_empty() {
        epoll::add(epoll, fd, EventData::new_u64(token), wanted)
    } else if wanted.is_empty() {
        epoll::delete(epoll, fd)
    } else {
        epoll::modify(epoll, fd, EventData::new_u64(token), wanted)
    }
}
