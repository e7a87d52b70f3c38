//! Moves bytes between the user's streams and a hijacked connection.

use crate::error::{Error, Result};
use crate::terminal::{Escape, RawMode, detach_keys};
use api::stream::{Decoder, Stream, UnknownStream};
use client::Hijacked;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Which streams are connected, and how.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "three streams and a mode, as the API has them")]
pub(crate) struct Attached<'a> {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
    /// As the user writes them; empty for the default.
    pub(crate) detach_keys: &'a str,
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closed it: the process has ended.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// Copies until the connection ends. Standard input is read by a thread that is left behind, blocked, at the end.
pub(crate) fn copy(hijacked: Hijacked, attached: Attached<'_>) -> Result<End> {
    let keys = detach_keys(attached.detach_keys)?;
    let raw = if attached.stdin && attached.tty { RawMode::enter() } else { None };
    let detached = Arc::new(AtomicBool::new(false));
    let connection = hijacked.writer().map_err(Error::file("clone", "connection"))?;
    if attached.stdin {
        let escape = attached.tty.then(|| Escape::new(keys));
        let detached = Arc::clone(&detached);
        thread::spawn(move || send_input(connection, escape, &detached));
    } else {
        // Without input there is nothing to send; the engine need not wait for any.
        drop(connection.close_write());
    }
    let multiplexed = !attached.tty && hijacked.multiplexed() != Some(false);
    let result = if !attached.stdout && !attached.stderr {
        drain(hijacked)
    } else if multiplexed {
        receive_frames(hijacked, attached)
    } else {
        receive_raw(hijacked)
    };
    drop(raw);
    if detached.load(Ordering::SeqCst) {
        return Ok(End::Detached);
    }
    result.map(|()| End::Closed)
}

fn send_input(mut connection: client::Stream, mut escape: Option<Escape>, detached: &AtomicBool) {
    let mut input = io::stdin();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let typed = buffer.get(..length).unwrap_or_default();
        let Some(escape) = &mut escape else {
            if connection.write_all(typed).is_err() {
                return;
            }
            continue;
        };
        let typed = escape.push(typed);
        if connection.write_all(&typed.bytes).is_err() {
            return;
        }
        if typed.detach {
            detached.store(true, Ordering::SeqCst);
            drop(connection.close());
            return;
        }
    }
    // The other side sees the end of input and may still send output.
    drop(connection.close_write());
}

fn drain(mut hijacked: Hijacked) -> Result<()> {
    let copied = io::copy(&mut hijacked, &mut io::sink());
    copied.map(drop).map_err(Error::file("read", "stream"))
}

fn receive_raw(mut hijacked: Hijacked) -> Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = match hijacked.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A peer that is gone is the end of the stream.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(Error::file("read", "stream")(error)),
        };
        write(&mut io::stdout(), buffer.get(..length).unwrap_or_default())?;
    }
}

fn receive_frames(mut hijacked: Hijacked, attached: Attached<'_>) -> Result<()> {
    frames(&mut hijacked, attached.stdout, attached.stderr)
}

/// What stops the copying of frames.
enum Stop {
    Unknown(UnknownStream),
    Failed(Error),
}

impl From<UnknownStream> for Stop {
    fn from(unknown: UnknownStream) -> Self {
        Self::Unknown(unknown)
    }
}

/// Takes frames apart and writes them to standard output and standard error.
pub(crate) fn frames(source: &mut impl Read, stdout: bool, stderr: bool) -> Result<()> {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(Error::file("read", "stream")(error)),
        };
        // What came at once and follows one another on one stream is written at once.
        let mut out = Vec::new();
        let outcome = decoder.push(buffer.get(..length).unwrap_or_default(), |stream, payload| {
            let written = match stream {
                Stream::Stdin | Stream::Stdout if stdout => {
                    out.extend_from_slice(payload);
                    Ok(())
                }
                Stream::Stderr if stderr => {
                    let before = write(&mut io::stdout(), &std::mem::take(&mut out));
                    before.and_then(|()| write(&mut io::stderr(), payload))
                }
                Stream::SystemError => {
                    let text = String::from_utf8_lossy(payload);
                    Err(Error::message(format!("error from daemon in stream: {text}")))
                }
                Stream::Stdin | Stream::Stdout | Stream::Stderr => Ok(()),
            };
            written.map_err(Stop::Failed)
        });
        write(&mut io::stdout(), &out)?;
        match outcome {
            Ok(()) => {}
            Err(Stop::Unknown(unknown)) => return Err(Error::message(unknown.to_string())),
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
}

fn write(output: &mut impl Write, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    output.write_all(bytes).and_then(|()| output.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Exit(1),
        _ => Error::file("write", "output")(error),
    })
}
