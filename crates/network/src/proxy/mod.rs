//! The port proxy: listeners on the host that pass published ports on to a container.
//!
//! Packets from outside are redirected by the packet filter and never come here. What comes here is what cannot be
//! redirected: connections to loopback addresses, connections of containers to ports published on the same host, and
//! IPv6 clients of a container that has only IPv4. Besides, a bound listener keeps the port from other processes.
//!
//! Everything hangs on one epoll descriptor: whoever owns the [`Proxy`] waits until it is readable ([`AsFd`]) and then
//! calls [`Proxy::dispatch`], which does a bounded amount of work and never waits. There are no threads. Memory is
//! bounded: a connection holds no buffer while its peers keep pace, and at most one of 64 KiB each way while they do not.

mod datagram;
mod listener;
mod stream;
#[cfg(test)]
mod tests;

pub use listener::Listener;

use crate::{Error, Protocol, poll};
use datagram::{Flow, FlowKey, Flows};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use stream::{End, Pair};

/// What errors are about.
const OBJECT: &str = "port proxy";
/// The connections or datagrams taken from one listener in one go.
const TAKEN_AT_ONCE: usize = 32;
/// The largest datagram, and the bytes moved in one step of a connection.
const BUFFER: usize = 64 * 1024;
/// How long a listener rests when the process has no descriptor left.
const REST: Duration = Duration::from_millis(100);
/// How often idle flows are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// The token of the timer; identifiers start above it.
const TIMER: u64 = 0;

/// What bounds a [`Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// After how long without a datagram a UDP flow is forgotten (Docker's proxy: 90 s).
    pub idle: Duration,
    /// The number of UDP flows of one listener; beyond it the longest idle one gives way.
    pub flows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(90), flows: 4096 }
    }
}

/// Names a listener of a [`Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

/// Listeners and the connections that came in through them.
#[derive(Debug)]
pub struct Proxy {
    epoll: OwnedFd,
    timer: OwnedFd,
    limits: Limits,
    next: u64,
    entries: HashMap<u64, Entry>,
    /// Listeners that wait for descriptors to become free.
    resting: Vec<u64>,
    armed: bool,
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Entry {
    Stream { listener: Listener, target: SocketAddr },
    Datagram { listener: Listener, target: SocketAddr, flows: Flows },
    Pair(Box<Pair>),
    Flow(Flow),
}

impl Proxy {
    /// Returns a proxy without listeners.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn new(limits: Limits) -> Result<Self, Error> {
        let epoll =
            epoll::create(CreateFlags::CLOEXEC).map_err(sys::Error::on("epoll_create1", "port proxy"))?;
        let timer = sys::event::timer()?;
        let proxy = Self {
            epoll,
            timer,
            limits,
            next: TIMER + 1,
            entries: HashMap::new(),
            resting: Vec::new(),
            armed: false,
            scratch: vec![0; BUFFER],
        };
        poll::watch(&proxy.epoll, &proxy.timer, TIMER, EventFlags::IN, OBJECT)?;
        Ok(proxy)
    }

    /// Passes what comes in through `listener` on to `target`.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn add(&mut self, listener: Listener, target: SocketAddr) -> Result<Key, Error> {
        let id = self.identifier();
        poll::watch(&self.epoll, &listener, token(id, Side::Client), EventFlags::IN, OBJECT)?;
        let entry = match listener.protocol() {
            Protocol::Udp => Entry::Datagram { listener, target, flows: Flows::default() },
            Protocol::Tcp | Protocol::Sctp => Entry::Stream { listener, target },
        };
        self.entries.insert(id, entry);
        Ok(Key(id))
    }

    /// Closes a listener. Its connections go on to their end, its UDP flows are forgotten.
    ///
    /// Returns it, no longer watched, for use elsewhere; `None` if it is not there.
    pub fn remove(&mut self, key: Key) -> Option<Listener> {
        let listener = match self.entries.remove(&key.0)? {
            Entry::Stream { listener, .. } | Entry::Datagram { listener, .. } => listener,
            Entry::Pair(_) | Entry::Flow(_) => return None,
        };
        self.entries.retain(|_, entry| !matches!(entry, Entry::Flow(flow) if flow.listener == key.0));
        self.resting.retain(|resting| *resting != key.0);
        // It may be resting, and then is not watched.
        epoll::delete(&self.epoll, &listener).ok();
        Some(listener)
    }

    /// Returns the listeners: protocol, address, and where what comes in goes.
    pub fn listeners(&self) -> Vec<(Key, Protocol, SocketAddr, SocketAddr)> {
        let listener = |(id, entry): (&u64, &Entry)| match entry {
            Entry::Stream { listener, target } | Entry::Datagram { listener, target, .. } => {
                Some((Key(*id), listener.protocol(), listener.address(), *target))
            }
            Entry::Pair(_) | Entry::Flow(_) => None,
        };
        self.entries.iter().filter_map(listener).collect()
    }

    /// Returns the number of connections and UDP flows.
    pub fn connections(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry, Entry::Pair(_) | Entry::Flow(_))).count()
    }

    /// Does what can be done now, and returns. What is left makes the descriptor readable again.
    ///
    /// # Errors
    /// [`Error::System`] if the epoll descriptor fails; failures of single connections end those.
    pub fn dispatch(&mut self) -> Result<(), Error> {
        for event in poll::events(&self.epoll, OBJECT)? {
            match event.data.u64() {
                TIMER => self.tick(Instant::now())?,
                token => self.handle(token)?,
            }
        }
        Ok(())
    }

    /// Serves the entry an event is about; it may be gone since.
    fn handle(&mut self, token: u64) -> Result<(), Error> {
        let id = token >> 1;
        let Some(entry) = self.entries.remove(&id) else { return Ok(()) };
        let mut result = Ok(());
        let kept = match entry {
            Entry::Stream { listener, target } => {
                result = self.accept(id, &listener, target);
                Some(Entry::Stream { listener, target })
            }
            Entry::Datagram { listener, target, mut flows } => {
                result = self.receive(id, &listener, target, &mut flows);
                Some(Entry::Datagram { listener, target, flows })
            }
            Entry::Pair(mut pair) => {
                let alive = pair.advance(&mut self.scratch);
                (alive && self.rewatch(id, &mut pair).is_ok()).then_some(Entry::Pair(pair))
            }
            Entry::Flow(mut flow) => {
                if let Some(Entry::Datagram { listener, .. }) = self.entries.get(&flow.listener) {
                    flow.pass_back(listener.as_fd(), &mut self.scratch, TAKEN_AT_ONCE);
                }
                Some(Entry::Flow(flow))
            }
        };
        if let Some(entry) = kept {
            self.entries.insert(id, entry);
        }
        result
    }

    fn accept(&mut self, id: u64, listener: &Listener, target: SocketAddr) -> Result<(), Error> {
        for _ in 0..TAKEN_AT_ONCE {
            let client = match listener.accept() {
                Ok(Some(client)) => client,
                Ok(None) => return Ok(()),
                Err(errno) => return self.pause_if_exhausted(id, listener, errno),
            };
            let Ok(mut pair) = Pair::connect(client, listener.protocol(), target) else { continue };
            let id = self.identifier();
            if self.rewatch(id, &mut pair).is_ok() {
                self.entries.insert(id, Entry::Pair(Box::new(pair)));
            }
        }
        Ok(())
    }

    fn receive(
        &mut self,
        id: u64,
        listener: &Listener,
        target: SocketAddr,
        flows: &mut Flows,
    ) -> Result<(), Error> {
        for _ in 0..TAKEN_AT_ONCE {
            // An error here is an ICMP answer to something sent back to a client that is gone.
            let Ok(Some(received)) = sys::datagram::receive(listener.as_fd(), &mut self.scratch) else {
                return Ok(());
            };
            let key = FlowKey { peer: received.peer, local: received.destination };
            let known = flows.get(&key).filter(|flow| self.entries.contains_key(flow));
            let flow = match known {
                Some(flow) => flow,
                None => match self.open_flow(id, key, target, flows) {
                    Ok(flow) => flow,
                    Err(errno) => {
                        self.pause_if_exhausted(id, listener, errno)?;
                        continue;
                    }
                },
            };
            if let (Some(Entry::Flow(flow)), Some(bytes)) =
                (self.entries.get_mut(&flow), self.scratch.get(..received.length))
            {
                flow.pass_on(bytes);
            }
        }
        Ok(())
    }

    fn open_flow(
        &mut self,
        listener: u64,
        key: FlowKey,
        target: SocketAddr,
        flows: &mut Flows,
    ) -> Result<u64, Errno> {
        if flows.len() >= self.limits.flows {
            let entries = &self.entries;
            let used = |id: u64| match entries.get(&id) {
                Some(Entry::Flow(flow)) => Some(flow.last_used),
                _ => None,
            };
            if let Some(oldest) = flows.remove_oldest(used) {
                self.entries.remove(&oldest);
            }
        }
        let flow = Flow::open(listener, key, target)?;
        let id = self.identifier();
        poll::watch(&self.epoll, &flow, token(id, Side::Server), EventFlags::IN, OBJECT)
            .map_err(|error| errno(&error))?;
        self.entries.insert(id, Entry::Flow(flow));
        flows.insert(key, id);
        self.arm(SWEEP).map_err(|error| errno(&error))?;
        Ok(id)
    }

    /// Without free descriptors a listener would be reported again and again: it rests for a while.
    fn pause_if_exhausted(&mut self, id: u64, listener: &Listener, errno: Errno) -> Result<(), Error> {
        if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
            && !self.resting.contains(&id)
            && epoll::delete(&self.epoll, listener).is_ok()
        {
            self.resting.push(id);
            self.armed = false;
            self.arm(REST)?;
        }
        Ok(())
    }

    /// The timer has fired.
    fn tick(&mut self, now: Instant) -> Result<(), Error> {
        sys::event::drain(self.timer.as_fd());
        self.armed = false;
        for id in std::mem::take(&mut self.resting) {
            if let Some(Entry::Stream { listener, .. } | Entry::Datagram { listener, .. }) =
                self.entries.get(&id)
            {
                poll::watch(&self.epoll, listener, token(id, Side::Client), EventFlags::IN, OBJECT)?;
            }
        }
        let idle = self.limits.idle;
        let expired = |flow: &Flow| now.saturating_duration_since(flow.last_used) >= idle;
        self.entries.retain(|_, entry| !matches!(entry, Entry::Flow(flow) if expired(flow)));
        let mut left = 0;
        let living: Vec<u64> = self
            .entries
            .iter()
            .filter_map(|(id, entry)| matches!(entry, Entry::Flow(_)).then_some(*id))
            .collect();
        for entry in self.entries.values_mut() {
            if let Entry::Datagram { flows, .. } = entry {
                flows.retain(|id| living.contains(&id));
                left += flows.len();
            }
        }
        if left > 0 { self.arm(SWEEP.min(idle)) } else { Ok(()) }
    }

    /// Sets the timer unless it is set already.
    fn arm(&mut self, delay: Duration) -> Result<(), Error> {
        if !self.armed {
            sys::event::set_timer(self.timer.as_fd(), Some(delay.min(self.limits.idle)))?;
            self.armed = true;
        }
        Ok(())
    }

    /// Lets epoll report exactly what the pair waits for.
    ///
    /// An end that waits for nothing is taken out: epoll would report its hang-up for ever.
    fn rewatch(&self, id: u64, pair: &mut Pair) -> Result<(), Error> {
        let (client, server) = pair.wanted();
        self.rewatch_end(&mut pair.client, token(id, Side::Client), client)?;
        self.rewatch_end(&mut pair.server, token(id, Side::Server), server)
    }

    fn rewatch_end(&self, end: &mut End, token: u64, wanted: EventFlags) -> Result<(), Error> {
        if end.watched == wanted {
            return Ok(());
        }
        if end.watched.is_empty() {
            poll::watch(&self.epoll, &end.fd, token, wanted, OBJECT)?;
        } else if wanted.is_empty() {
            epoll::delete(&self.epoll, &end.fd).map_err(sys::Error::on("epoll_ctl", "port proxy"))?;
        } else {
            epoll::modify(&self.epoll, &end.fd, EventData::new_u64(token), wanted)
                .map_err(sys::Error::on("epoll_ctl", "port proxy"))?;
        }
        end.watched = wanted;
        Ok(())
    }

    fn identifier(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Which descriptor of an entry an event is about. Both are served at any event; the tokens only have to differ.
#[derive(Debug, Clone, Copy)]
enum Side {
    Client,
    Server,
}

fn token(id: u64, side: Side) -> u64 {
    id << 1 | u64::from(matches!(side, Side::Server))
}

fn errno(error: &Error) -> Errno {
    match error {
        Error::System(error) => error.errno(),
        _ => Errno::IO,
    }
}
