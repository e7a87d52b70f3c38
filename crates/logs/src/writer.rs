//! Bytes from a container's pipes → entries in the log.

use crate::file::{RotatingFile, repair_lines};
use crate::remote::{Message, Sender};
use crate::{Attributes, Driver, Error, LINE_LIMIT, Origin, Stream, encode, local};
use base::Timestamp;
use std::io::BufRead;
use std::path::Path;

/// Records are written when there are so many bytes of them: a batch of short lines grows twelve-fold.
const FLUSH_SIZE: usize = 64 * 1024;

/// Writes a container's log.
///
/// Owned by one process at a time. Nothing is buffered but the beginning of a line that has no end yet.
#[derive(Debug)]
pub struct Writer {
    sink: Option<Sink>,
    /// The other program that entries are sent to.
    sender: Option<Sender>,
    stdout: Partial,
    stderr: Partial,
}

/// Where entries go.
#[derive(Debug)]
struct Sink {
    file: RotatingFile,
    format: Format,
    attributes: Attributes,
    /// The records of the present batch.
    out: Vec<u8>,
    /// The common end of the JSON records of the present batch.
    tail: Vec<u8>,
}

impl Sink {
    /// Writes the records of the batch; what cannot be written is lost.
    fn flush(&mut self) -> Result<(), Error> {
        let outcome = if self.out.is_empty() { Ok(()) } else { self.file.append(&self.out) };
        self.out.clear();
        outcome
    }
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Local,
}

/// The beginning of a line of one stream.
#[derive(Debug, Default)]
struct Partial {
    text: Vec<u8>,
    /// When the first piece of a line that was cut had come: the other pieces have the same time.
    time: Option<Timestamp>,
}

impl Writer {
    /// Opens the log of `driver` at `path` and makes it if it is missing; its directory must be there.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Io`], or [`Error::Connect`] if there is nobody to send to.
    pub fn open(driver: &Driver, path: &Path, origin: impl Into<Origin>) -> Result<Self, Error> {
        let origin = origin.into();
        let attributes = origin.attributes.clone();
        let sender = match driver {
            Driver::Remote(remote) => Some(Sender::open(remote, origin)?),
            Driver::JsonFile(_) | Driver::Local(_) | Driver::None => None,
        };
        let kept = match driver.readable() {
            Driver::JsonFile(rotation) => Some((rotation, Format::Json, repair_lines as fn(&_) -> _)),
            Driver::Local(rotation) => Some((rotation, Format::Local, local::repair as fn(&_) -> _)),
            Driver::None | Driver::Remote(_) => None,
        };
        let sink = match kept {
            None => None,
            Some((rotation, format, repair)) => {
                let file = RotatingFile::open(path, rotation, repair)?;
                Some(Sink { file, format, attributes, out: Vec::new(), tail: Vec::new() })
            }
        };
        Ok(Self { sink, sender, stdout: Partial::default(), stderr: Partial::default() })
    }

    /// Writes what was read of `stream` at `time`: its lines together, by one write unless they are many; the rest is kept
    /// until its end comes.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Io`]; the lines of this batch are then (in part) lost, the writer stays usable.
    pub fn write(&mut self, stream: Stream, time: Timestamp, mut bytes: &[u8]) -> Result<(), Error> {
        if self.sink.is_none() && self.sender.is_none() {
            return Ok(());
        }
        let partial = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut batch = Batch {
            sink: self.sink.as_mut(),
            sender: self.sender.as_ref(),
            stream,
            time: None,
            failure: None,
        };
        while !bytes.is_empty() {
            bytes = take_line(&mut batch, partial, time, bytes);
        }
        batch.finish()
    }

    /// Ends `stream`: what came after its last line feed is written as it is.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Io`].
    pub fn end(&mut self, stream: Stream, time: Timestamp) -> Result<(), Error> {
        if self.sink.is_none() && self.sender.is_none() {
            return Ok(());
        }
        let partial = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut batch = Batch {
            sink: self.sink.as_mut(),
            sender: self.sender.as_ref(),
            stream,
            time: None,
            failure: None,
        };
        if !partial.text.is_empty() {
            batch.entry(partial.time.unwrap_or(time), &partial.text, true);
        }
        *partial = Partial::default();
        batch.finish()
    }

    /// Gives memory back that only writing needs: nothing is expected to come soon.
    pub fn release(&mut self) {
        if let Some(sink) = &mut self.sink {
            sink.out = Vec::new();
        }
    }

    /// Says whether [`Writer::work`] has something to do.
    pub fn has_work(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.file.is_compressing())
    }

    /// Goes on with what need not be done at once (compressing a file put aside), for a few milliseconds.
    ///
    /// Returns whether there is more to do; call it again when there is nothing better to do.
    pub fn work(&mut self) -> bool {
        self.sink.as_mut().is_some_and(|sink| sink.file.compress_step())
    }
}

/// Takes one line, one piece of a long line, or the beginning of a line off the front of `bytes`.
fn take_line<'a>(batch: &mut Batch<'_>, partial: &mut Partial, time: Timestamp, bytes: &'a [u8]) -> &'a [u8] {
    let room = LINE_LIMIT.saturating_sub(partial.text.len());
    let (window, beyond) = bytes.split_at(room.min(bytes.len()));
    let line = through_line_feed(window);
    if let Some(end) = line {
        let (line, rest) = bytes.split_at(end);
        let at = partial.time.take().unwrap_or(time);
        if partial.text.is_empty() {
            batch.entry(at, line, false);
        } else {
            partial.text.extend_from_slice(line);
            batch.entry(at, &partial.text, false);
            partial.text.clear();
        }
        return rest;
    }
    if window.len() < room {
        partial.text.extend_from_slice(window);
        return beyond;
    }
    // A piece of a long line. Docker cuts through characters, which spoils them; here the cut comes before one.
    let at = *partial.time.get_or_insert(time);
    partial.text.extend_from_slice(window);
    let end = partial.text.len().saturating_sub(encode::unfinished_suffix(&partial.text));
    batch.entry(at, partial.text.get(..end).unwrap_or_default(), true);
    partial.text.drain(..end);
    beyond
}

/// Returns the length of the first line of `text`, its line feed included, or `None` if it has no end.
fn through_line_feed(text: &[u8]) -> Option<usize> {
    // Reading from a slice cannot fail; this is the standard library's way to its `memchr`.
    let mut rest = text;
    let length = rest.skip_until(b'\n').ok()?;
    (length > 0 && text.get(length - 1) == Some(&b'\n')).then_some(length)
}

/// The records of one read, collected for one write.
struct Batch<'a> {
    sink: Option<&'a mut Sink>,
    sender: Option<&'a Sender>,
    stream: Stream,
    /// The time that the sink's `tail` was made for.
    time: Option<Timestamp>,
    failure: Option<Error>,
}

impl Batch<'_> {
    /// Adds an entry; one that is not `partial` ends with its line feed.
    fn entry(&mut self, time: Timestamp, line: &[u8], partial: bool) {
        let plain = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(sender) = self.sender {
            sender.push(Message { stream: self.stream, time, line: plain.to_vec(), partial });
        }
        let Some(sink) = &mut self.sink else { return };
        let start = sink.out.len();
        match sink.format {
            Format::Json => {
                if self.time != Some(time) {
                    sink.tail.clear();
                    encode::tail(&mut sink.tail, self.stream, &sink.attributes, time);
                    self.time = Some(time);
                }
                sink.out.extend_from_slice(encode::HEAD);
                encode::escape(&mut sink.out, line);
                sink.out.extend_from_slice(&sink.tail);
            }
            Format::Local => {
                local::encode(
                    &mut sink.out,
                    &local::Record { stream: self.stream, time, line: plain, partial },
                );
            }
        }
        let more = sink.out.len().saturating_sub(start);
        if sink.file.is_full(start, more) {
            let entry = sink.out.split_off(start);
            let flushed = sink.flush();
            let outcome = sink.file.rotate();
            sink.out = entry;
            self.note(flushed.and(outcome));
        } else if sink.out.len() >= FLUSH_SIZE {
            let flushed = sink.flush();
            self.note(flushed);
        }
    }

    /// Remembers the first failure.
    fn note(&mut self, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            self.failure.get_or_insert(error);
        }
    }

    fn finish(mut self) -> Result<(), Error> {
        if let Some(sink) = &mut self.sink {
            let flushed = sink.flush();
            self.note(flushed);
        }
        self.failure.map_or(Ok(()), Err)
    }
}
