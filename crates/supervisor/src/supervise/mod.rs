//! The supervisor's process: one loop around one epoll.
//!
//! It begins with nothing but a socket to the daemon and an empty mount namespace, gets the container by one message,
//! starts it, and serves until it has ended for good. No step waits for a daemon: one may die, and another come by the
//! socket in the container's `EXEC` directory, at any time.
//!
//! The end, in this order: reap → drain output into log and clients → `exit.json` → tell → let clients go → take the mounts
//! apart, remove the cgroup → end the tenure → answer who asked for the stop → exit. So whoever hears of the end finds
//! everything that was written in the log, after a stop nothing holds the sources of mounts any more, and the next start,
//! which waits for the end of the tenure, never meets this one's tidying up.

mod ending;
mod exec;
mod launch;
mod memory;
mod names;
mod peers;
mod ports;
mod probe;
mod requests;
mod run;

use crate::foreign::Foreign;
use crate::poller::{Number, Poller, Ready, Source};
use crate::protocol::{Event, ExecExit, ExitRecord, Launch, Reply, Request, RestartPolicy, Target};
use crate::streams::Streams;
use crate::tenure::Tenure;
use crate::zygote::null;
use crate::{Error, protocol, restart, wire};
use base::Timestamp;
use exec::Exec;
pub(crate) use launch::Failure;
use logs::{Stream, Writer};
use network::proxy::{Listener, Proxy};
use network::resolver::Resolver;
use peers::Peers;
use probe::Probes;
use run::Run;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// So much is read from a container at once. As much as a pipe holds.
const READ_SIZE: usize = 64 * 1024;
/// How long the last output of a process is waited for, if somebody else holds its pipes.
const DRAIN_LIMIT: Duration = Duration::from_millis(250);
/// How long a client that has taken everything may keep its end open.
const LINGER_LIMIT: Duration = Duration::from_millis(100);
/// How long a client may take to take everything once the container has ended for good.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);
/// After so long without anything to do memory is given back.
const IDLE: Duration = Duration::from_secs(2);
/// So many ended execs are remembered for a daemon that was not there.
const REMEMBERED_EXECS: usize = 128;

/// Runs as a supervisor; returns when its container has ended for good and everything is cleaned up.
///
/// # Errors
///
/// [`Error`] if it cannot do its work at all. A container that cannot be started is not an error here: the daemon was told.
pub fn main() -> Result<(), Error> {
    let (control, empty) = take_descriptors()?;
    let Some(first) = first_request(&control)? else { return Ok(()) };
    let mut supervisor = Supervisor::new(first.launch, empty)?;
    let daemon = supervisor.peers.add(control, &supervisor.poller)?;
    if !supervisor.begin(daemon, first.descriptors, first.resolver) {
        return Ok(());
    }
    while !supervisor.is_done() {
        supervisor.turn()?;
    }
    // Nobody waits any more; a file that was put aside just now is compressed all the same.
    while supervisor.log.work() {}
    Ok(())
}

/// Takes over what the zygote left on the descriptors and puts `/dev/null` in its place.
fn take_descriptors() -> Result<(OwnedFd, OwnedFd), Error> {
    let failed =
        |what: &'static str| move |errno: rustix::io::Errno| Error::io("take over", what)(errno.into());
    let control =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(failed("control socket"))?;
    let empty = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)
        .map_err(failed("empty mount namespace"))?;
    let null = null().map_err(Error::io("open", "/dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(failed("stdin"))?;
    rustix::stdio::dup2_stdout(&null).map_err(failed("stdout"))?;
    rustix::stdio::dup2_stderr(&null).map_err(failed("stderr"))?;
    Ok((control, empty))
}

/// What a supervisor is given at first.
struct First {
    launch: Launch,
    descriptors: Vec<OwnedFd>,
    resolver: Option<protocol::Resolver>,
}

/// Waits for the container; `None` if the daemon has changed its mind, or died.
fn first_request(control: &OwnedFd) -> Result<Option<First>, Error> {
    let mut resolver = None;
    loop {
        let reply = match wire::receive(control.as_fd())? {
            Some((Request::Launch(launch), descriptors)) => {
                return Ok(Some(First { launch: *launch, descriptors, resolver }));
            }
            Some((Request::Resolve(known), _)) => {
                resolver = Some(*known);
                Reply::Done
            }
            Some(_) => peers::conflict("the container has not been launched yet"),
            None => return Ok(None),
        };
        wire::send(control.as_fd(), &wire::Outgoing::Reply(reply), &[])?;
    }
}

/// Returns the present time.
fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// Where in its life the container is.
#[derive(Debug)]
enum Phase {
    /// It runs, or its last output is being read.
    Running(Box<Run>),
    /// It has ended and starts again at this time.
    Waiting { record: ExitRecord, start_at: Instant },
    /// It has ended for good; clients may still be taking their last output.
    Ended { record: ExitRecord, since: Instant },
}

/// Everything there is.
#[derive(Debug)]
struct Supervisor {
    poller: Poller,
    peers: Peers,
    listener: Option<OwnedFd>,
    /// The container as it was launched; kept for the next starts.
    launch: Launch,
    /// Another runtime, if the container is not run by our own.
    foreign: Option<Rc<Foreign>>,
    policy: RestartPolicy,
    history: restart::History,
    netns: Option<OwnedFd>,
    users: Option<OwnedFd>,
    empty: OwnedFd,
    log: Writer,
    ports: Option<Proxy>,
    /// Sockets that do nothing but keep others from published ports.
    held: Vec<Listener>,
    resolver: Option<Resolver>,
    phase: Phase,
    /// Given back once nothing of the container is left; its next start waits for that.
    tenure: Option<Tenure>,
    /// The streams of the present run's first process, of execs, and of what has ended but has clients left.
    streams: BTreeMap<Number, Streams>,
    execs: BTreeMap<Number, Exec>,
    ended_execs: VecDeque<ExecExit>,
    probes: Option<Probes>,
    next_number: Number,
    next_client: u32,
    buffer: Vec<u8>,
    /// Whether memory was given back since the last event.
    resting: bool,
}

impl Supervisor {
    fn new(launch: Launch, empty: OwnedFd) -> Result<Self, Error> {
        let poller = Poller::new().map_err(|errno| Error::io("make", "epoll")(errno.into()))?;
        let none = Writer::open(&logs::Driver::None, &PathBuf::new(), logs::Attributes::new());
        let log = none.map_err(|_impossible| Error::Unexpected("no log"))?;
        let history = restart::History { restart_count: launch.restart_count, last_delay: None };
        Ok(Self {
            poller,
            peers: Peers::default(),
            listener: None,
            foreign: None,
            policy: launch.restart,
            history,
            netns: None,
            users: None,
            empty,
            log,
            ports: None,
            held: Vec::new(),
            resolver: None,
            phase: Phase::Ended { record: ending::never_ran(), since: Instant::now() },
            tenure: Tenure::begin(&launch.exec_dir),
            streams: BTreeMap::new(),
            execs: BTreeMap::new(),
            ended_execs: VecDeque::new(),
            probes: None,
            next_number: 1,
            next_client: 0,
            buffer: Vec::new(),
            resting: false,
            launch,
        })
    }

    /// Carries out [`Request::Launch`]; says whether there is a container to look after.
    fn begin(&mut self, first: u32, descriptors: Vec<OwnedFd>, resolver: Option<protocol::Resolver>) -> bool {
        let started = self.prepare(descriptors, resolver).and_then(|clients| self.start(clients));
        match started {
            Ok(()) => {
                self.peers.subscribe(first);
                let reply = self.started_reply();
                self.peers.reply(first, reply, &self.poller);
                self.settle();
                true
            }
            Err(failure) => {
                self.remove_socket();
                self.peers.reply(first, failure.into_reply(), &self.poller);
                false
            }
        }
    }

    fn started_reply(&self) -> Reply {
        match &self.phase {
            Phase::Running(run) => Reply::Started { pid: run.pid, started_at: run.started_at },
            Phase::Waiting { .. } | Phase::Ended { .. } => peers::conflict("the container is not running"),
        }
    }

    /// Waits once, and serves what came.
    fn turn(&mut self) -> Result<(), Error> {
        let limit = if self.log.has_work() {
            Some(Duration::ZERO)
        } else {
            let now = Instant::now();
            let until_due = self.next_deadline().map(|deadline| deadline.saturating_duration_since(now));
            let until_idle = (!self.resting).then_some(IDLE);
            match (until_due, until_idle) {
                (Some(due), Some(idle)) => Some(due.min(idle)),
                (due, idle) => due.or(idle),
            }
        };
        let ready = self.poller.wait(limit).map_err(|errno| Error::io("wait for", "events")(errno.into()))?;
        if ready.is_empty() {
            if self.log.has_work() {
                self.log.work();
            } else if limit.is_some_and(|limit| limit >= IDLE) {
                self.rest();
            }
        } else {
            self.resting = false;
        }
        for event in ready {
            self.serve(event);
        }
        self.end_hold();
        self.tick(Instant::now());
        if self.foreign.is_some() {
            self.reap_strangers();
        }
        Ok(())
    }

    /// Reaps what another runtime has left to this process, but for what is watched.
    fn reap_strangers(&self) {
        let mut known: Vec<i32> = self.execs.values().map(|exec| exec.pid).collect();
        if let Phase::Running(run) = &self.phase {
            known.push(run.pid);
        }
        crate::foreign::reap_strangers(&known);
    }

    /// Gives memory back: the container is quiet, and may stay so for days.
    fn rest(&mut self) {
        self.resting = true;
        self.buffer = Vec::new();
        self.log.release();
        // A host that cannot do it keeps some pages mapped.
        sys::memory::release_program().ok();
    }

    fn serve(&mut self, ready: Ready) {
        match ready.source {
            Source::Listener => self.accept(),
            Source::Connection(index) => {
                if let Some((request, descriptors)) = self.peers.receive(index, &self.poller) {
                    self.request(index, request, descriptors);
                }
            }
            Source::Exit(number) => self.process_ended(number),
            Source::Output(number) => self.read(number, Stream::Stdout),
            Source::ErrorOutput(number) => self.read(number, Stream::Stderr),
            Source::Input(number) => {
                if let Some(streams) = self.streams.get_mut(&number) {
                    streams.write_input(&self.poller);
                }
            }
            Source::Client(number, index) => self.serve_client(number, index, ready),
            Source::Memory => self.memory_event(),
            Source::Ports => self.serve_ports(),
            Source::Resolver => self.serve_names(),
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        // Nobody to be told if this fails: the daemon sees that it is not served.
        if let Ok(Some(socket)) = sys::socket::accept(listener.as_fd()) {
            let own = rustix::process::geteuid().as_raw();
            if sys::socket::peer(socket.as_fd()).is_ok_and(|peer| peer.uid == own) {
                self.peers.add(socket, &self.poller).ok();
            }
        }
    }

    /// Reads once from a process.
    fn read(&mut self, number: Number, stream: Stream) {
        let Some(streams) = self.streams.get_mut(&number) else { return };
        self.buffer.resize(READ_SIZE, 0);
        let is_init = matches!(&self.phase, Phase::Running(run) if run.number == number);
        let mut sink = Sink::choose(is_init, &mut self.log, self.probes.as_mut(), number);
        streams.read(stream, &self.poller, &mut self.buffer, &mut |stream, bytes| sink.take(stream, bytes));
        self.let_go_of_empty(number);
    }

    fn serve_client(&mut self, number: Number, index: u32, ready: Ready) {
        let Some(streams) = self.streams.get_mut(&number) else { return };
        self.buffer.resize(READ_SIZE, 0);
        let detached = streams.serve_client(index, ready, &self.poller, &mut self.buffer);
        if let Some(detached) = detached
            && let Some(target) = self.target(number)
        {
            let by_keys = detached == crate::streams::Detached::ByKeys;
            self.peers.tell(Event::Detached { by_keys, target }, &self.poller);
        }
        self.let_go_of_empty(number);
    }

    /// Returns which process `number` is; `None` for probes and for what has ended.
    fn target(&self, number: Number) -> Option<Target> {
        match &self.phase {
            Phase::Running(run) if run.number == number => Some(Target::Init),
            _ => self.execs.get(&number).map(|exec| Target::Exec(exec.id)),
        }
    }

    /// Forgets streams that have ended, whose process is gone, and that no client is attached to.
    fn let_go_of_empty(&mut self, number: Number) {
        let is_used = matches!(&self.phase, Phase::Running(run) if run.number == number)
            || self.execs.contains_key(&number)
            || self.probes.as_ref().is_some_and(|probes| probes.is_running(number));
        if !is_used && self.streams.get(&number).is_some_and(|streams| !streams.has_clients()) {
            self.streams.remove(&number);
        }
    }

    /// Returns a number that no process has had.
    fn take_number(&mut self) -> Number {
        let number = self.next_number;
        // 24 bits of an epoll event; after 16 million execs in one container numbers are used again.
        self.next_number = if number >= 0xff_ffff { 1 } else { number + 1 };
        number
    }

    fn take_client_number(&mut self) -> u32 {
        let number = self.next_client;
        self.next_client = number.wrapping_add(1);
        number
    }

    /// Says whether nothing is left to be done.
    fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. }) && self.streams.is_empty()
    }
}

/// Where the output of a process goes besides to its clients.
enum Sink<'a> {
    Log(&'a mut Writer),
    Probe(&'a mut Probes),
    Nowhere,
}

impl<'a> Sink<'a> {
    fn choose(is_init: bool, log: &'a mut Writer, probes: Option<&'a mut Probes>, number: Number) -> Self {
        match probes {
            _ if is_init => Self::Log(log),
            Some(probes) if probes.is_running(number) => Self::Probe(probes),
            _ => Self::Nowhere,
        }
    }

    /// Takes a piece; an empty one is the end.
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        match self {
            // A log that cannot be written (no space left) must not stop the container; what is lost is lost.
            Self::Log(log) if bytes.is_empty() => drop(log.end(stream, now())),
            Self::Log(log) => drop(log.write(stream, now(), bytes)),
            Self::Probe(probes) => probes.capture(bytes),
            Self::Nowhere => {}
        }
    }
}
