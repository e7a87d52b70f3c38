//! The streams of one process: what it reads and writes, and the clients at the other end.
//!
//! Everything is non-blocking and in step with the slowest client: while one is behind, the process is not read from, so
//! that in the end the process itself waits. Input works the other way round.

use crate::client::{Client, Received};
use crate::poller::{Interest, Number, Poller, Ready, Source};
use crate::protocol::AttachOptions;
use logs::Stream;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// So much input is kept for a process that does not read it.
const INPUT_LIMIT: usize = 64 * 1024;

/// Our ends of a process's streams.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Where its input is written to.
    pub(crate) input: Option<OwnedFd>,
    /// Where its output is read from.
    pub(crate) output: Option<OwnedFd>,
    /// Where its error output is read from.
    pub(crate) error_output: Option<OwnedFd>,
}

impl Ends {
    /// Makes the ends of a terminal of its master.
    pub(crate) fn of_terminal(master: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let input = rustix::io::fcntl_dupfd_cloexec(&master, 3)?;
        Ok(Self { input: Some(input), output: Some(master), error_output: None })
    }
}

/// When the input of a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// With that of a client.
    WithClient,
    /// With the process.
    WithProcess,
}

/// What happened to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detached {
    /// It typed the detach keys.
    ByKeys,
    /// It went away.
    Gone,
}

/// The streams of one process.
#[derive(Debug)]
pub(crate) struct Streams {
    number: Number,
    terminal: bool,
    output: Option<OwnedFd>,
    error_output: Option<OwnedFd>,
    input: Option<Input>,
    input_end: InputEnd,
    clients: BTreeMap<u32, Client>,
    /// Whether output is not read because a client is behind.
    held: bool,
}

#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    pending: Vec<u8>,
    /// Whether it is closed once everything is written.
    ending: bool,
}

impl Streams {
    /// Watches the ends of process `number`; they must not block.
    pub(crate) fn new(
        number: Number,
        ends: Ends,
        terminal: bool,
        input_end: InputEnd,
        poller: &Poller,
    ) -> Result<Self, Errno> {
        if let Some(output) = &ends.output {
            poller.add(output, Source::Output(number), Interest::READ)?;
        }
        if let Some(error_output) = &ends.error_output {
            poller.add(error_output, Source::ErrorOutput(number), Interest::READ)?;
        }
        Ok(Self {
            number,
            terminal,
            output: ends.output,
            error_output: ends.error_output,
            input: ends.input.map(|fd| Input { fd, pending: Vec::new(), ending: false }),
            input_end,
            clients: BTreeMap::new(),
            held: false,
        })
    }

    /// Attaches a client under the number `index`, which was not used before.
    pub(crate) fn attach(
        &mut self,
        index: u32,
        socket: OwnedFd,
        options: AttachOptions,
        poller: &Poller,
    ) -> Result<(), Errno> {
        let client = Client::new(socket, options, self.terminal);
        poller.add(&client, Source::Client(self.number, index), client.interest(self.is_input_full()))?;
        self.clients.insert(index, client);
        Ok(())
    }

    /// Returns the terminal, if it is one.
    pub(crate) fn terminal(&self) -> Option<&OwnedFd> {
        self.output.as_ref().filter(|_| self.terminal)
    }

    /// Says whether all output has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.output.is_none() && self.error_output.is_none()
    }

    /// Says whether there is a client left.
    pub(crate) fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Says whether some client has not taken everything yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.clients.values().any(Client::is_behind)
    }

    /// Reads once from `stream`, if there is something: into `buffer`, to every client and to `sink`. An empty piece for
    /// `sink` is the stream's end.
    pub(crate) fn read(
        &mut self,
        stream: Stream,
        poller: &Poller,
        buffer: &mut [u8],
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> ReadOutcome {
        let source = match stream {
            Stream::Stdout => &mut self.output,
            Stream::Stderr => &mut self.error_output,
        };
        let Some(fd) = source else { return ReadOutcome::End };
        let count = match rustix::io::read(&*fd, &mut *buffer) {
            Ok(count) => count,
            Err(Errno::AGAIN) => return ReadOutcome::Nothing,
            Err(Errno::INTR) => return ReadOutcome::More,
            // A terminal that nobody has open any more answers EIO.
            Err(_end) => 0,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        sink(stream, bytes);
        if bytes.is_empty() {
            poller.remove(&*fd);
            *source = None;
            return ReadOutcome::End;
        }
        let gone: Vec<u32> = self
            .clients
            .iter_mut()
            .filter_map(|(index, client)| (!client.push(stream, bytes)).then_some(*index))
            .collect();
        for index in gone {
            self.remove_client(index, poller);
        }
        for (index, client) in &self.clients {
            if client.is_behind() {
                Self::watch(self.number, *index, client, is_full(self.input.as_ref()), poller);
            }
        }
        self.hold(poller);
        ReadOutcome::More
    }

    /// Reads everything that is there now, however far behind clients are; says whether all output has ended.
    ///
    /// What is there is bounded by what pipes hold, as nobody writes any more.
    pub(crate) fn drain(
        &mut self,
        poller: &Poller,
        buffer: &mut [u8],
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> bool {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.read(stream, poller, buffer, sink) == ReadOutcome::More {}
        }
        self.has_ended()
    }

    /// Writes waiting input, now that there is room.
    pub(crate) fn write_input(&mut self, poller: &Poller) {
        let was_full = self.is_input_full();
        self.flush_input(poller);
        if was_full && !self.is_input_full() {
            self.watch_clients(poller);
        }
    }

    /// Serves a client; says what became of it if it is no longer attached.
    pub(crate) fn serve_client(
        &mut self,
        index: u32,
        ready: Ready,
        poller: &Poller,
        buffer: &mut [u8],
    ) -> Option<Detached> {
        if ready.writable
            && let Some(client) = self.clients.get_mut(&index)
            && !client.flush()
        {
            return self.lose(index, poller);
        }
        let detached = if ready.readable { self.receive(index, ready.gone, poller, buffer) } else { None };
        if let Some(client) = self.clients.get(&index) {
            Self::watch(self.number, index, client, self.is_input_full(), poller);
        }
        self.hold(poller);
        detached
    }

    /// Ends the streams towards the clients; each is gone when it has taken everything and closed its end.
    pub(crate) fn finish(&mut self, poller: &Poller) {
        for fd in [self.output.take(), self.error_output.take()].into_iter().flatten() {
            poller.remove(&fd);
        }
        self.close_input(poller);
        for client in self.clients.values_mut() {
            client.finish();
        }
        self.watch_clients(poller);
    }

    /// Lets go of the clients that have taken everything, whether they have closed their end or not.
    pub(crate) fn drop_finished_clients(&mut self, poller: &Poller) {
        let finished: Vec<u32> = self
            .clients
            .iter()
            .filter_map(|(index, client)| client.is_finished().then_some(*index))
            .collect();
        for index in finished {
            self.remove_client(index, poller);
        }
    }

    fn receive(&mut self, index: u32, gone: bool, poller: &Poller, buffer: &mut [u8]) -> Option<Detached> {
        let client = self.clients.get_mut(&index)?;
        match client.receive(buffer) {
            Received::Bytes(count) => {
                if !client.is_typing() {
                    return None;
                }
                let mut typed = Vec::new();
                let detach = client.typed(buffer.get(..count).unwrap_or_default(), &mut typed);
                self.take_input(&typed, poller);
                if detach {
                    if let Some(client) = self.clients.get_mut(&index) {
                        client.finish();
                        if client.is_finished() {
                            self.remove_client(index, poller);
                        }
                    }
                    return Some(Detached::ByKeys);
                }
                None
            }
            Received::Nothing => gone.then(|| self.lose(index, poller)).flatten(),
            Received::End => {
                let ends_input =
                    client.has_input() && self.input_end == InputEnd::WithClient && !self.terminal;
                if ends_input {
                    self.end_input(poller);
                }
                if gone { self.lose(index, poller) } else { None }
            }
            Received::Gone => self.lose(index, poller),
        }
    }

    /// A client has vanished: nothing changes for the process, but that its input may end.
    fn lose(&mut self, index: u32, poller: &Poller) -> Option<Detached> {
        let client = self.clients.get(&index)?;
        let finished = client.is_finished();
        if client.has_input() && self.input_end == InputEnd::WithClient && !self.terminal {
            self.end_input(poller);
        }
        self.remove_client(index, poller);
        self.hold(poller);
        (!finished).then_some(Detached::Gone)
    }

    fn take_input(&mut self, bytes: &[u8], poller: &Poller) {
        let Some(input) = &mut self.input else { return };
        if input.ending {
            return;
        }
        input.pending.extend_from_slice(bytes);
        self.flush_input(poller);
        if self.is_input_full() {
            self.watch_clients(poller);
        }
    }

    fn end_input(&mut self, poller: &Poller) {
        if let Some(input) = &mut self.input {
            input.ending = true;
            self.flush_input(poller);
        }
    }

    fn flush_input(&mut self, poller: &Poller) {
        let Some(input) = &mut self.input else { return };
        while !input.pending.is_empty() {
            match rustix::io::write(&input.fd, &input.pending) {
                Ok(written) => drop(input.pending.drain(..written.min(input.pending.len()))),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // Being watched already is fine.
                    poller.add(&input.fd, Source::Input(self.number), Interest::WRITE).ok();
                    return;
                }
                // The process has closed its input.
                Err(_closed) => return self.close_input(poller),
            }
        }
        poller.remove(&input.fd);
        input.pending.shrink_to(0);
        if input.ending {
            self.close_input(poller);
        }
    }

    fn close_input(&mut self, poller: &Poller) {
        if let Some(input) = self.input.take() {
            poller.remove(&input.fd);
            // Clients that were held may go on: what they send is dropped.
            self.watch_clients(poller);
        }
    }

    fn is_input_full(&self) -> bool {
        is_full(self.input.as_ref())
    }

    fn remove_client(&mut self, index: u32, poller: &Poller) {
        if let Some(client) = self.clients.remove(&index) {
            poller.remove(&client);
        }
    }

    fn watch_clients(&self, poller: &Poller) {
        for (index, client) in &self.clients {
            Self::watch(self.number, *index, client, self.is_input_full(), poller);
        }
    }

    fn watch(number: Number, index: u32, client: &Client, hold_input: bool, poller: &Poller) {
        // The descriptor is watched as long as the client is there, so this cannot fail.
        poller.change(client, Source::Client(number, index), client.interest(hold_input)).ok();
    }

    /// Stops or starts to read output, as clients are behind or not.
    fn hold(&mut self, poller: &Poller) {
        let behind = self.is_behind();
        if behind == self.held {
            return;
        }
        self.held = behind;
        let sources = [
            (&self.output, Source::Output(self.number)),
            (&self.error_output, Source::ErrorOutput(self.number)),
        ];
        for (fd, source) in sources {
            let Some(fd) = fd else { continue };
            if behind {
                // Removed, not merely muted: the end of a pipe is always reported.
                poller.remove(fd);
            } else {
                poller.add(fd, source, Interest::READ).ok();
            }
        }
    }
}

fn is_full(input: Option<&Input>) -> bool {
    input.is_some_and(|input| input.pending.len() >= INPUT_LIMIT)
}

/// What reading once has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// Something; there may be more.
    More,
    /// Nothing now.
    Nothing,
    /// The stream has ended.
    End,
}

/// Makes the pipe of an output stream: our end, which does not block, and the process's.
pub(crate) fn output_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Makes the pipe of an input stream: our end, which does not block, and the process's.
pub(crate) fn input_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}
