//! A connection to a service manager: its own socket, or a message bus that it is on.

use super::message::{self, Call, FIXED, Kind, Message, Reader, Writer};
use crate::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a manager may take to answer, and a job of it to be done (runc's limit).
const LIMIT: Duration = Duration::from_secs(30);

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
    /// Ends of jobs that were told before they were asked for: job, result.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// Connects to a manager's own socket `direct`, or to the bus at `bus`.
    pub(super) fn connect(direct: &Path, bus: &Path) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Connect { path, source }
        };
        if let Ok(stream) = UnixStream::connect(direct) {
            return Self::greet(stream).map_err(failed(direct));
        }
        let stream = UnixStream::connect(bus).map_err(failed(bus))?;
        let mut connection = Self::greet(stream).map_err(failed(bus))?;
        let about = |member| Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
        };
        connection.call(&about("Hello"), "", &Writer::default())?;
        let mut body = Writer::default();
        body.text(&format!("type='signal',interface='{MANAGER}',member='JobRemoved'"));
        connection.call(&about("AddMatch"), "s", &body)?;
        Ok(connection)
    }

    /// Says who this is: the kernel tells the other side (D-Bus Specification, *Authentication Protocol*).
    fn greet(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut stream = BufReader::new(stream);
        // No name with it, nor any data: in a user namespace it would be a wrong one. All in one, as systemd's own library does:
        // systemd 252 does not see a message that comes along with the last line.
        stream.get_mut().write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let mut line = Vec::new();
            stream.by_ref().take(4096).read_until(b'\n', &mut line)?;
            if line.starts_with(b"OK") {
                break;
            }
            if !line.starts_with(b"DATA") {
                let said = String::from_utf8_lossy(&line).trim().to_owned();
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, said));
            }
        }
        Ok(Self { stream, serial: 0, ended: Vec::new() })
    }

    /// Calls a method of the manager.
    pub(super) fn manager(
        &mut self,
        member: &'static str,
        signature: &str,
        body: &Writer,
    ) -> Result<Message, Error> {
        let about = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: MANAGER,
            member,
        };
        self.call(&about, signature, body)
    }

    /// Reads a property of the manager that is a text.
    pub(super) fn property(&mut self, name: &'static str) -> Result<String, Error> {
        let about = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
        };
        let mut body = Writer::default();
        body.text(MANAGER);
        body.text(name);
        let reply = self.call(&about, "ss", &body)?;
        reply.reader().variant_text().ok_or_else(|| malformed(name))
    }

    fn call(&mut self, about: &Call<'_>, signature: &str, body: &Writer) -> Result<Message, Error> {
        self.serial += 1;
        let failed = |source| Error::Exchange { call: about.member.to_owned(), source };
        let bytes = message::call(self.serial, about, signature, body);
        self.stream.get_mut().write_all(&bytes).map_err(failed)?;
        loop {
            let message = self.receive().map_err(failed)?;
            match message.kind {
                Kind::Return if message.reply_to == self.serial => return Ok(message),
                Kind::Error if message.reply_to == self.serial => {
                    let text = message.reader().text().filter(|text| !text.is_empty());
                    let text = text.unwrap_or_else(|| message.name.clone());
                    let call = about.member.to_owned();
                    return Err(Error::Refused { call, name: message.name, text });
                }
                _ => self.note(&message),
            }
        }
    }

    /// Waits for the end of `job`; returns how it ended.
    pub(super) fn wait(&mut self, job: &str) -> Result<String, Error> {
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| ended == job) {
                return Ok(result.clone());
            }
            let message =
                self.receive().map_err(|source| Error::Exchange { call: "JobRemoved".to_owned(), source })?;
            self.note(&message);
        }
    }

    /// `JobRemoved(u id, o job, s unit, s result)`
    fn note(&mut self, message: &Message) {
        let read = |mut reader: Reader<'_>| {
            reader.number()?;
            let job = reader.text()?;
            reader.text()?;
            Some((job, reader.text()?))
        };
        if message.kind == Kind::Signal && message.name == "JobRemoved" {
            self.ended.extend(read(message.reader()));
        }
    }

    fn receive(&mut self) -> std::io::Result<Message> {
        let wrong = || std::io::Error::new(std::io::ErrorKind::InvalidData, "not a D-Bus message");
        let mut fixed = [0; FIXED];
        self.stream.read_exact(&mut fixed)?;
        let mut bytes = vec![0; message::length(&fixed).ok_or_else(wrong)?];
        let (begin, rest) = bytes.split_at_mut_checked(FIXED).ok_or_else(wrong)?;
        begin.copy_from_slice(&fixed);
        self.stream.read_exact(rest)?;
        Message::parse(&bytes).ok_or_else(wrong)
    }
}

/// The error for an answer that has something else than was asked for.
pub(super) fn malformed(call: &str) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "an answer of another form");
    Error::Exchange { call: call.to_owned(), source }
}
