//! Speaking with CRIU: `criu swrk FD` takes one request over a socket of whole messages, tells of its steps by notifications that
//! wait for an answer, and ends (CRIU, `images/rpc.proto`, in protobuf's wire format).

use super::super::Failure;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Numbers of `criu_opts`.
pub(super) mod option {
    pub(in super::super) const IMAGES: u32 = 1;
    pub(in super::super) const PID: u32 = 2;
    pub(in super::super) const LEAVE_RUNNING: u32 = 3;
    pub(in super::super) const EXTERNAL_SOCKETS: u32 = 4;
    pub(in super::super) const TCP_ESTABLISHED: u32 = 5;
    pub(in super::super) const SHELL_JOB: u32 = 7;
    pub(in super::super) const FILE_LOCKS: u32 = 8;
    pub(in super::super) const LOG_LEVEL: u32 = 9;
    pub(in super::super) const LOG_FILE: u32 = 10;
    pub(in super::super) const PAGE_SERVER: u32 = 11;
    pub(in super::super) const NOTIFY: u32 = 12;
    pub(in super::super) const ROOT: u32 = 13;
    pub(in super::super) const PARENT_IMAGES: u32 = 14;
    pub(in super::super) const TRACK_MEMORY: u32 = 15;
    pub(in super::super) const AUTO_DEDUP: u32 = 16;
    pub(in super::super) const WORK: u32 = 17;
    pub(in super::super) const LINK_REMAP: u32 = 18;
    pub(in super::super) const CGROUP_ROOT: u32 = 25;
    pub(in super::super) const SIBLING: u32 = 26;
    pub(in super::super) const INHERIT: u32 = 27;
    pub(in super::super) const CGROUPS_MODE: u32 = 34;
    pub(in super::super) const EXTERNAL: u32 = 37;
    pub(in super::super) const EMPTY_NAMESPACES: u32 = 38;
    pub(in super::super) const FREEZER: u32 = 44;
    pub(in super::super) const LAZY_PAGES: u32 = 48;
    /// Terminals whose master is outside are told of, by `orphan-pts-master`.
    pub(in super::super) const ORPHAN_TERMINALS: u32 = 50;
    pub(in super::super) const SECURITY_PROFILE: u32 = 53;
    pub(in super::super) const MOUNT_CONTEXT: u32 = 63;
}

/// The answer to a notification is a request of this type.
const NOTIFY: u64 = 6;
/// Where CRIU finds its end of the socket.
const SOCKET: i32 = 3;

/// What is asked for: its number in `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Dump => "dump",
            Self::Restore => "restore",
            Self::PreDump => "pre-dump",
        }
    }
}

/// A message in protobuf's wire format, being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds a number that is not negative, or a choice.
    pub(super) fn number(&mut self, field: u32, value: impl TryInto<u64>) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value.try_into().unwrap_or_default());
        self
    }

    pub(super) fn set(&mut self, field: u32) -> &mut Self {
        self.number(field, 1_u64)
    }

    pub(super) fn text(&mut self, field: u32, value: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        let value = value.as_ref().as_encoded_bytes();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.0.len() as u64);
        self.0.extend_from_slice(&value.0);
        self
    }
}

/// The fields of a message; what is malformed ends them.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

/// `criu_resp`, as far as it is of use here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Response {
    kind: u64,
    success: bool,
    /// The step that is notified of.
    script: String,
    /// Of the container's init.
    pid: Option<i32>,
    problem: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Self {
        let mut response = Self::default();
        let pid = |number: u64| i32::try_from(number).ok().filter(|pid| *pid > 0);
        for (field, value) in Fields(bytes) {
            match (field, value) {
                (1, Value::Number(kind)) => response.kind = kind,
                (2, Value::Number(success)) => response.success = success != 0,
                (4, Value::Bytes(restore)) => {
                    for part in Fields(restore) {
                        if let (1, Value::Number(number)) = part {
                            response.pid = pid(number);
                        }
                    }
                }
                (5, Value::Bytes(notify)) => {
                    for part in Fields(notify) {
                        match part {
                            (1, Value::Bytes(script)) => {
                                response.script = String::from_utf8_lossy(script).into_owned();
                            }
                            (2, Value::Number(number)) => response.pid = pid(number),
                            _ => {}
                        }
                    }
                }
                (9, Value::Bytes(problem)) => {
                    response.problem = String::from_utf8_lossy(problem).into_owned();
                }
                _ => {}
            }
        }
        response
    }
}

/// A step of CRIU's that waits for an answer.
#[derive(Debug)]
pub(super) struct Notice {
    /// Its name.
    pub(super) step: String,
    /// The container's init, in CRIU's own namespace of processes, if there is one yet.
    pub(super) pid: Option<i32>,
    /// What came with it.
    pub(super) descriptors: Vec<OwnedFd>,
}

/// What CRIU's process is given.
pub(super) struct Given<'a> {
    pub(super) streams: [BorrowedFd<'a>; 3],
    /// Descriptors with their numbers there, which are above [`SOCKET`].
    pub(super) descriptors: &'a [(&'a OwnedFd, i32)],
}

/// The program and its folders.
#[derive(Debug)]
pub(super) struct Criu {
    pub(super) program: PathBuf,
    pub(super) image: PathBuf,
    pub(super) work: PathBuf,
}

impl Criu {
    /// Finds the program, called `name` or as the distribution calls it.
    pub(super) fn program(name: Option<&Path>) -> Result<PathBuf, Failure> {
        let name = name.unwrap_or(Path::new("criu"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let found = if name.components().count() > 1 {
            Some(name.to_owned()).filter(|path| path.is_file())
        } else {
            places.map(|folder| folder.join(name)).find(|place| place.is_file())
        };
        found.ok_or_else(|| format!("{} is not there: it is in the package criu", name.display()).into())
    }

    /// Has something done. `answer` is called for each step; if it fails, what was begun is undone and that is the failure.
    /// Returns the number of a restored init.
    pub(super) fn ask(
        &self,
        action: Action,
        mut options: Message,
        given: &Given<'_>,
        answer: &mut dyn FnMut(Notice) -> Result<(), Failure>,
    ) -> Result<Option<i32>, Failure> {
        let open = |folder: &Path| {
            std::fs::File::open(folder).map_err(|error| format!("open {}: {error}", folder.display()))
        };
        // It opens these two through this process's `/proc/PID/fd`.
        let (image, work) = (open(&self.image)?, open(&self.work)?);
        let log = format!("{}.log", action.name());
        options.number(option::IMAGES, image.as_raw_fd()).number(option::WORK, work.as_raw_fd());
        options.number(option::LOG_LEVEL, 4).text(option::LOG_FILE, &log).set(option::NOTIFY);
        options.set(option::ORPHAN_TERMINALS);
        let mut request = Message::default();
        request.number(1, action as u64).message(2, &options);

        let (ours, theirs) = sys::socket::seqpacket_pair()?;
        let mut command = sys::process::Command::new(&self.program);
        command.argument("swrk").argument(SOCKET.to_string()).inherit_environment();
        if std::env::var_os("PATH").is_none() {
            // It runs programs of its own.
            command.variable("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }
        for (stream, number) in given.streams.iter().zip(0..) {
            command.descriptor(*stream, number);
        }
        command.descriptor(theirs.as_fd(), SOCKET);
        for (descriptor, number) in given.descriptors {
            command.descriptor(descriptor.as_fd(), *number);
        }
        let child = command.spawn()?;
        drop(command);
        drop(theirs);
        let outcome = converse(ours.as_fd(), (action, &request), answer);
        drop(ours);
        let exit = child.wait()?;
        let problem = match outcome {
            // After a preparing dump it waits for the next one, and calls it an error that none comes.
            Ok(pid) if exit == sys::pidfd::Exit::Code(0) || action == Action::PreDump => return Ok(pid),
            Ok(_) => String::new(),
            Err(Refusal::Ours(failure)) => return Err(failure),
            Err(Refusal::Theirs(problem)) => problem,
        };
        let log = self.work.join(log);
        let said = std::fs::read(&log).unwrap_or_default();
        let reason = complaint(&String::from_utf8_lossy(&said))
            .or_else(|| Some(problem).filter(|problem| !problem.is_empty()))
            .unwrap_or_else(|| "no reason given".to_owned());
        Err(format!("criu {} failed: {reason}; log file: {}", action.name(), log.display()).into())
    }
}

/// Why something was not done.
enum Refusal {
    Ours(Failure),
    /// What CRIU says beside its log.
    Theirs(String),
}

impl<E: Into<Failure>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

fn converse(
    socket: BorrowedFd<'_>,
    (action, request): (Action, &Message),
    answer: &mut dyn FnMut(Notice) -> Result<(), Failure>,
) -> Result<Option<i32>, Refusal> {
    sys::socket::send_with_fds(socket, &request.0, &[])?;
    let mut failed = None;
    loop {
        let mut buffer = vec![0; sys::socket::next_size(socket)?.max(1)];
        let (length, descriptors) = sys::socket::recv_with_fds(socket, &mut buffer)?;
        let response = Response::parse(buffer.get(..length).unwrap_or_default());
        if length == 0 || !response.success {
            return Err(failed.map_or(Refusal::Theirs(response.problem), Refusal::Ours));
        }
        if response.kind == action as u64 {
            return failed.map_or(Ok(response.pid), |failure| Err(Refusal::Ours(failure)));
        }
        if response.kind != NOTIFY {
            return Err(Refusal::Theirs(format!("an answer of type {} was not asked for", response.kind)));
        }
        let notice = Notice { step: response.script, pid: response.pid, descriptors };
        let done = answer(notice);
        let mut reply = Message::default();
        reply.number(1, NOTIFY).number(3, u64::from(done.is_ok()));
        failed = failed.or(done.err());
        sys::socket::send_with_fds(socket, &reply.0, &[])?;
    }
}

/// The first error of CRIU's log: those after it follow from it. A host without network taps is told as one, and is none.
fn complaint(log: &str) -> Option<String> {
    let mut errors = log.lines().filter_map(|line| line.split_once("Error (")?.1.split_once("): "));
    let error = errors.find(|(place, _)| !place.starts_with("criu/tun.c"));
    error.map(|(_, reason)| reason.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_protobuf_has_them() {
        let mut inner = Message::default();
        inner.text(2, "ab");
        let mut message = Message::default();
        message.number(1, 5).set(12).number(38, 0x4000_0000_u64).message(25, &inner);
        let expect = b"\x08\x05\x60\x01\xb0\x02\x80\x80\x80\x80\x04\xca\x01\x04\x12\x02ab";
        assert_eq!(message.0, expect);
        let read: Vec<_> = Fields(&message.0).collect();
        let expect = [
            (1, Value::Number(5)),
            (12, Value::Number(1)),
            (38, Value::Number(0x4000_0000)),
            (25, Value::Bytes(b"\x12\x02ab")),
        ];
        assert_eq!(read, expect);
    }

    #[test]
    fn answers_are_read_and_nonsense_is_none() {
        let restored = b"\x08\x02\x10\x01\x22\x02\x08\x2a";
        let expect = Response { kind: 2, success: true, pid: Some(42), ..Response::default() };
        assert_eq!(Response::parse(restored), expect);
        let notified = b"\x08\x06\x10\x01\x2a\x06\x0a\x02go\x10\x07";
        let expect =
            Response { kind: 6, success: true, script: "go".into(), pid: Some(7), ..Response::default() };
        assert_eq!(Response::parse(notified), expect);
        for length in 0..notified.len() {
            assert_ne!(Response::parse(&notified[..length]), expect);
        }
        for bytes in [&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x2a\x7f", b"\x0b", b""] {
            assert_eq!(Response::parse(bytes), Response::default());
        }
    }

    #[test]
    fn the_first_error_is_the_reason() {
        let log = "(00.00) Error (criu/tun.c:85): tun: no\n(00.01) Warn  (x.c:1): eh\n(00.02) Error (criu/mount.c:9): mnt: no\n(00.03) Error (y.c:1): then\n";
        assert_eq!(complaint(log), Some("mnt: no".to_owned()));
        assert_eq!(complaint(""), None);
    }
}
