//! A container's streams: attach and logs.

use super::{Services, blocking, now, route};
use crate::http::body::{self, Writer};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::websocket::{self, Attached};
use crate::http::{Answer, Call, Failure, hijack};
use api::stream::{self, Stream};
use base::Timestamp;
use engine::Engine;
use engine::container::{AttachRequest, Attachment, LogStream};
use http::Method;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::POST, "/containers/{name}/attach", |s, call| {
            Box::pin(attach(Arc::clone(&s.engine), call))
        }),
        route(Method::GET, "/containers/{name}/attach/ws", |s, call| {
            Box::pin(attach_socket(Arc::clone(&s.engine), call))
        }),
        route(Method::GET, "/containers/{name}/logs", |s, call| Box::pin(logs(Arc::clone(&s.engine), call))),
    ]
}

/// The content type of a stream: framed ones are named so since 1.42.
pub(super) fn content_type(call: &Call, terminal: bool) -> &'static str {
    if !terminal && call.at_least(42) { hijack::MULTIPLEXED } else { hijack::RAW }
}

/// What an attach call asks for.
fn attach_request(call: &Call, raw: bool) -> AttachRequest<'_> {
    AttachRequest {
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        stream: call.query.flag("stream"),
        raw,
        detach_keys: call.query.some("detachKeys"),
    }
}

/// What is written of the past, if that is asked for: whose, and how.
fn attach_past(call: &Call, framed: bool) -> Option<(String, Format)> {
    let (stdout, stderr) = (call.query.flag("stdout"), call.query.flag("stderr"));
    let format = Format { stdout, stderr, framed, timestamps: false, details: false };
    call.query.flag("logs").then(|| (call.name().to_owned(), format))
}

async fn attach(engine: Arc<Engine>, mut call: Call) -> Answer {
    let attachment = engine.containers.attach(call.name(), attach_request(&call, false))?;
    let past = attach_past(&call, !attachment.terminal);
    let kind = content_type(&call, attachment.terminal);
    let (response, hijacked) = hijack::hijack(&mut call, kind)
        .map_err(|error| Failure::new(base::Kind::Internal, format!("make a socket pair: {error}")))?;
    connect(engine, attachment, past, Attached::Hijack(hijacked));
    Ok(response)
}

/// Attach over a websocket: what the container says is not framed, whatever it is.
async fn attach_socket(engine: Arc<Engine>, mut call: Call) -> Answer {
    let attachment = engine.containers.attach(call.name(), attach_request(&call, true))?;
    let past = attach_past(&call, false);
    let (response, upgrade) = websocket::accept(&mut call)?;
    connect(engine, attachment, past, Attached::Socket(upgrade));
    Ok(response)
}

/// Gives a client's connection to the container once the answer is sent.
fn connect(engine: Arc<Engine>, attachment: Attachment, past: Option<(String, Format)>, attached: Attached) {
    tokio::spawn(async move {
        let client = match attached.into_fd().await {
            Ok(client) => client,
            Err(error) => return tracing::debug!(%error, "a client went away before it was attached"),
        };
        let attached = blocking(move || {
            if let Some((name, format)) = past {
                replay(&engine, &name, format, &client)?;
            }
            engine.containers.connect(attachment, client).map_err(Failure::from)
        });
        if let Err(failure) = attached.await {
            tracing::warn!(error = failure.message, "a client could not be attached");
        }
    });
}

/// Writes what the container has said so far to a client.
fn replay(engine: &Engine, name: &str, format: Format, client: &OwnedFd) -> Result<(), Failure> {
    let broken = |error: std::io::Error| {
        Failure::new(base::Kind::Internal, format!("write the log to a client: {error}"))
    };
    let log = engine.containers.logs(name, logs::Query::default())?;
    let mut client = std::os::unix::net::UnixStream::from(client.try_clone().map_err(broken)?);
    client.set_nonblocking(false).map_err(broken)?;
    for entry in log.reader {
        let entry = entry?;
        if format.wants(&entry) {
            client.write_all(&format.line(&entry)).map_err(broken)?;
        }
    }
    Ok(())
}

/// How log entries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the API's logs call, by name")]
struct Format {
    stdout: bool,
    stderr: bool,
    /// In frames that name the stream.
    framed: bool,
    /// Each line begins with its time.
    timestamps: bool,
    /// Each line begins with its attributes.
    details: bool,
}

impl Format {
    fn wants(self, entry: &logs::Entry) -> bool {
        match entry.stream {
            logs::Stream::Stdout => self.stdout,
            logs::Stream::Stderr => self.stderr,
        }
    }

    fn line(self, entry: &logs::Entry) -> Vec<u8> {
        let mut line = Vec::with_capacity(entry.line.len() + 32);
        if self.timestamps {
            line.extend_from_slice(entry.time.fixed().as_bytes());
            line.push(b' ');
        }
        if self.details {
            let pairs =
                entry.attributes.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
            line.extend_from_slice(pairs.collect::<Vec<_>>().join(",").as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(&entry.line);
        if !self.framed {
            return line;
        }
        let stream = match entry.stream {
            logs::Stream::Stdout => Stream::Stdout,
            logs::Stream::Stderr => Stream::Stderr,
        };
        stream::frame(stream, &line)
    }
}

/// Go's `url.QueryEscape`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

async fn logs(engine: Arc<Engine>, call: Call) -> Answer {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    // The container's absence is told before what is wrong with the parameters.
    engine.containers.get(call.name())?;
    if !stdout && !stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let asked = logs::Query {
        since: time(&call, "since")?,
        until: time(&call, "until")?,
        tail: match query.get("tail") {
            "" | "all" => None,
            // dockerd takes everything that is no number for "all".
            text => text.parse().ok(),
        },
        follow: query.flag("follow"),
    };
    let LogStream { reader, terminal, end } = engine.containers.logs(call.name(), asked)?;
    let format = Format {
        stdout,
        stderr,
        framed: !terminal,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
    };
    let followed = query.flag("follow");
    let (writer, response) = body::streamed(content_type(&call, terminal));
    let stopper = reader.stopper();
    let watched = writer.clone();
    let passing = tokio::task::spawn_blocking(move || pass(reader, format, followed, &writer));
    tokio::spawn(async move {
        let mut passing = passing;
        let ended = async {
            match end {
                Some(end) => drop(end.wait().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = &mut passing => return,
            // Nothing is written any more: what is there is the rest.
            () = ended => stopper.finish(),
            () = watched.gone() => stopper.cancel(),
        }
        tokio::select! {
            _ = &mut passing => {}
            () = watched.gone() => stopper.cancel(),
        }
    });
    Ok(response)
}

fn time(call: &Call, name: &str) -> Result<Option<Timestamp>, Failure> {
    match call.query.get(name) {
        "" | "0" => Ok(None),
        text => crate::time::point(text, now()).map(Some).ok_or_else(|| {
            Failure::invalid(format!(
                "invalid value for {name:?}: failed to parse value as time or duration: {text:?}"
            ))
        }),
    }
}

/// How many bytes of a log go into one piece of the answer.
const PIECE: usize = 64 << 10;

/// Passes entries on until the log ends or the client goes; each at once if the log is `followed`.
fn pass(reader: logs::Reader, format: Format, followed: bool, writer: &Writer) {
    let mut piece = Vec::new();
    for entry in reader {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return tracing::error!(error = base::chain(&error), "a log cannot be read"),
        };
        if format.wants(&entry) {
            piece.extend_from_slice(&format.line(&entry));
        }
        let full = !piece.is_empty() && (followed || piece.len() >= PIECE);
        if full && writer.write_blocking(std::mem::take(&mut piece)).is_err() {
            return;
        }
    }
    if !piece.is_empty() {
        // Nobody reads it if the client is gone.
        writer.write_blocking(piece).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let entry = logs::Entry {
            stream: logs::Stream::Stderr,
            time: Timestamp::from_nanos(1_500_000_000),
            line: b"oops\n".to_vec(),
            attributes: [("a".to_owned(), "b c".to_owned()), ("d".to_owned(), "e".to_owned())].into(),
        };
        let plain = Format { stdout: true, stderr: true, framed: false, timestamps: false, details: false };
        for (format, expect) in [
            (plain, &b"oops\n"[..]),
            (Format { timestamps: true, ..plain }, b"1970-01-01T00:00:01.500000000Z oops\n"),
            (Format { details: true, ..plain }, b"a=b+c,d=e oops\n"),
            (Format { framed: true, ..plain }, b"\x02\0\0\0\0\0\0\x05oops\n"),
        ] {
            assert_eq!(format.line(&entry), expect);
        }
        assert!(!Format { stderr: false, ..plain }.wants(&entry));
    }
}
