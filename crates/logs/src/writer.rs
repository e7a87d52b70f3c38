//! Bytes from a container's pipes → entries in the log.

use crate::file::{RotatingFile, repair_lines};
use crate::{Attributes, Driver, Error, LINE_LIMIT, Stream, encode, local};
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
    /// Returns [`Error::Io`].
    pub fn open(driver: &Driver, path: &Path, attributes: Attributes) -> Result<Self, Error> {
        let (rotation, format) = match driver {
            Driver::JsonFile(rotation) => (*rotation, Format::Json),
            Driver::Local(rotation) => (*rotation, Format::Local),
            Driver::None => {
                return Ok(Self { sink: None, stdout: Partial::default(), stderr: Partial::default() });
            }
        };
        let repair = match format {
            Format::Json => repair_lines,
            Format::Local => local::repair,
        };
        let file = RotatingFile::open(path, rotation, repair)?;
        let sink = Sink { file, format, attributes, out: Vec::new(), tail: Vec::new() };
        Ok(Self { sink: Some(sink), stdout: Partial::default(), stderr: Partial::default() })
    }

    /// Writes what was read of `stream` at `time`: its lines together, by one write unless they are many; the rest is kept
    /// until its end comes.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Io`]; the lines of this batch are then (in part) lost, the writer stays usable.
    pub fn write(&mut self, stream: Stream, time: Timestamp, mut bytes: &[u8]) -> Result<(), Error> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let partial = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut batch = Batch { sink, stream, time: None, failure: None };
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
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let partial = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut batch = Batch { sink, stream, time: None, failure: None };
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
    sink: &'a mut Sink,
    stream: Stream,
    /// The time that the sink's `tail` was made for.
    time: Option<Timestamp>,
    failure: Option<Error>,
}

impl Batch<'_> {
    /// Adds an entry; one that is not `partial` ends with its line feed.
    fn entry(&mut self, time: Timestamp, line: &[u8], partial: bool) {
        let start = self.sink.out.len();
        match self.sink.format {
            Format::Json => {
                if self.time != Some(time) {
                    self.sink.tail.clear();
                    encode::tail(&mut self.sink.tail, self.stream, &self.sink.attributes, time);
                    self.time = Some(time);
                }
                self.sink.out.extend_from_slice(encode::HEAD);
                encode::escape(&mut self.sink.out, line);
                self.sink.out.extend_from_slice(&self.sink.tail);
            }
            Format::Local => {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let record = local::Record { stream: self.stream, time, line, partial };
                local::encode(&mut self.sink.out, &record);
            }
        }
        let more = self.sink.out.len().saturating_sub(start);
        if self.sink.file.is_full(start, more) {
            let entry = self.sink.out.split_off(start);
            self.flush();
            if let Err(error) = self.sink.file.rotate() {
                self.failure.get_or_insert(error);
            }
            self.sink.out = entry;
        } else if self.sink.out.len() >= FLUSH_SIZE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.sink.out.is_empty()
            && let Err(error) = self.sink.file.append(&self.sink.out)
        {
            self.failure.get_or_insert(error);
        }
        self.sink.out.clear();
    }

    fn finish(mut self) -> Result<(), Error> {
        self.flush();
        self.failure.map_or(Ok(()), Err)
    }
}
