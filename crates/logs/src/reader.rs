//! Entries back from the log.

use crate::decode::LastTime;
use crate::follow::Watch;
use crate::segment::{Format, Records, Segment, Start, Tail, open_all};
use crate::{Attributes, Driver, Error, Stopper, Stream};
use base::Timestamp;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which entries are wanted (`GET /containers/{id}/logs`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// No entries before this time.
    pub since: Option<Timestamp>,
    /// No entries after this time; following ends there.
    pub until: Option<Timestamp>,
    /// Only so many entries from the end, of those that were there when the reader was made; `None`: all.
    ///
    /// As in Docker the entries are counted before the times are looked at.
    pub tail: Option<u64>,
    /// Whether to wait for more.
    pub follow: bool,
}

/// One entry: a line, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it was written to.
    pub stream: Stream,
    /// When it was read from the container.
    pub time: Timestamp,
    /// The text, with its line feed unless the line goes on.
    pub line: Vec<u8>,
    /// Labels, variables and tag that were to be logged.
    pub attributes: Attributes,
}

/// Gives the entries of a log in order.
///
/// Blocking; with [`Query::follow`] until its [`Stopper`] is used. What is not an entry (a line torn by a power cut)
/// is passed over.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    max_files: u32,
    format: Format,
    query: Query,
    waiting: VecDeque<(Segment, Start)>,
    current: Option<Records>,
    last_time: LastTime,
    watch: Option<Watch>,
    stopper: Stopper,
    ended: bool,
}

impl Reader {
    /// Opens the log of `driver` at `path`. A log that does not exist (yet) is empty.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotReadable`] for the driver `none`, or [`Error::Io`].
    pub fn open(driver: &Driver, path: &Path, query: Query) -> Result<Self, Error> {
        let (rotation, format) = match driver.readable() {
            Driver::JsonFile(rotation) => (rotation, Format::Json),
            Driver::Local(rotation) => (rotation, Format::Local),
            Driver::None | Driver::Remote(_) => return Err(Error::NotReadable),
        };
        let stopper = Stopper::new(path)?;
        // Watched first, so that nothing that comes while the files are opened is missed.
        let watch = query.follow.then(|| Watch::new(path, stopper.clone()));
        let waiting = open_all(path, rotation.max_files)
            .and_then(|segments| select(segments, format, &query))
            .map_err(Error::io("read log", path))?;
        Ok(Self {
            path: path.to_owned(),
            max_files: rotation.max_files,
            format,
            query,
            waiting,
            current: None,
            last_time: LastTime::default(),
            watch,
            stopper,
            ended: false,
        })
    }

    /// Returns what ends this reader from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Returns the next entry in the files, whatever its time.
    fn read(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if self.current.is_none() {
                let Some((segment, start)) = self.waiting.pop_front() else { return Ok(None) };
                self.current = Some(segment.records(self.format, start)?);
            }
            let Some(records) = &mut self.current else { return Ok(None) };
            match records.next()? {
                Some(record) => {
                    if let Some(entry) = Records::decode(self.format, record, &mut self.last_time) {
                        return Ok(Some(entry));
                    }
                }
                // The last file may grow; it is kept if it is going to be followed.
                None if self.waiting.is_empty() && self.watch.is_some() => return Ok(None),
                None => self.current = None,
            }
        }
    }

    /// Looks what has become of the file being followed: it grows, was cut short, or was put aside.
    ///
    /// Returns whether there are further files to read.
    fn advance(&mut self) -> io::Result<bool> {
        let mut segments: VecDeque<_> = open_all(&self.path, self.max_files)?.into();
        if let Some(current) = &mut self.current {
            if segments.back().is_some_and(|newest| newest.continues(current)) {
                current.rewind_if_truncated()?;
                return Ok(false);
            }
            if let Some(known) = segments.iter().position(|segment| segment.continues(current)) {
                segments.drain(..=known);
            }
        }
        if segments.is_empty() {
            return Ok(false);
        }
        self.waiting.extend(segments.into_iter().map(|segment| (segment, Start::Offset(0))));
        Ok(true)
    }

    /// Waits for another entry; `None` at the end.
    fn wait_for_next(&mut self) -> Result<Option<Entry>, Error> {
        let failed = |path: &Path, error| Error::io("follow log", path)(error);
        loop {
            if self.stopper.is_cancelled() {
                return Ok(None);
            }
            // Asked before reading: what was written before `finish` is then read for certain.
            let finishing = self.stopper.is_finishing();
            if let Some(entry) = self.read().map_err(|error| failed(&self.path, error))? {
                return Ok(Some(entry));
            }
            if self.watch.is_none() {
                return Ok(None);
            }
            let limit = self.query.until.map(remaining);
            if limit == Some(Duration::ZERO) {
                return Ok(None);
            }
            // A file put aside gets no more: what is left of it is read, then the next ones.
            if self.advance().map_err(|error| failed(&self.path, error))? {
                continue;
            }
            if finishing {
                return Ok(None);
            }
            if let Some(watch) = &self.watch {
                watch.wait(limit).map_err(|errno| failed(&self.path, errno.into()))?;
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.wait_for_next() {
                Ok(Some(entry)) if self.query.since.is_some_and(|since| entry.time < since) => {}
                Ok(Some(entry)) if self.query.until.is_some_and(|until| entry.time > until) => {
                    self.ended = true;
                }
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Decides which files to read, and from where.
fn select(segments: Vec<Segment>, format: Format, query: &Query) -> io::Result<VecDeque<(Segment, Start)>> {
    let mut selected = VecDeque::new();
    let mut wanted = query.tail;
    let newest = segments.len();
    for (index, segment) in segments.into_iter().enumerate().rev() {
        // A file put aside before `since` has nothing to give; one second for the coarse clock of file systems.
        let old = query.since.zip(segment.modified()).is_some_and(|(since, modified)| {
            Timestamp::from_system(modified + Duration::from_secs(1)) < since
        });
        if index + 1 < newest && old {
            break;
        }
        let start = match wanted {
            None => Start::Offset(0),
            Some(count) => match segment.find_tail(format, count)? {
                Tail::At(start) => {
                    wanted = Some(0);
                    start
                }
                Tail::Fewer(found) => {
                    wanted = Some(count.saturating_sub(found));
                    Start::Offset(0)
                }
            },
        };
        selected.push_front((segment, start));
        if wanted == Some(0) {
            break;
        }
    }
    Ok(selected)
}

/// Returns the time from now to `until`.
fn remaining(until: Timestamp) -> Duration {
    let until = UNIX_EPOCH + Duration::from_nanos(u64::try_from(until.as_nanos()).unwrap_or(0));
    until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}
