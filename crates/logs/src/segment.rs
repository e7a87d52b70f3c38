//! The files a log consists of, each a sequence of records.

use crate::decode::{self, LastTime};
use crate::file::{Origin, aside, aside_compressed};
use crate::{Entry, local};
use flate2::read::MultiGzDecoder;
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

/// Bytes read at a time when looking for the last lines.
const BLOCK: usize = 64 * 1024;
/// No record is longer: 16 KiB escaped six-fold, and the attributes. Anything else is rubbish.
const RECORD_LIMIT: usize = 4 * 1024 * 1024;

/// How the records of a log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Local,
}

/// One file of a log, open.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    compressed: bool,
    metadata: Metadata,
}

/// Opens the files of the log at `path`, the oldest first. Rotation may go on meanwhile: each file comes once.
pub(crate) fn open_all(path: &Path, max_files: u32) -> io::Result<Vec<Segment>> {
    let mut found: Vec<Segment> = Vec::new();
    found.extend(Segment::open(path, false)?);
    // Renames go upwards, so going upwards too misses none, but may meet one twice.
    for number in 1..max_files {
        let segment = match Segment::open(&aside(path, number), false)? {
            Some(plain) => Some(plain),
            None => Segment::open(&aside_compressed(path, number), true)?,
        };
        let Some(segment) = segment else { break };
        if !found.iter().any(|known| known.is_same(&segment)) {
            found.push(segment);
        }
    }
    found.reverse();
    Ok(found)
}

impl Segment {
    fn open(path: &Path, compressed: bool) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self { metadata: file.metadata()?, file, compressed })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says whether both are one file, or one is the other compressed.
    fn is_same(&self, other: &Self) -> bool {
        same((&self.file, &self.metadata, self.compressed), (&other.file, &other.metadata, other.compressed))
    }

    /// Says whether `self` is the file that `records` reads, compressed meanwhile or not.
    pub(crate) fn continues(&self, records: &Records) -> bool {
        records.file.metadata().is_ok_and(|metadata| {
            let other = (&records.file, &metadata, records.compressed);
            same((&self.file, &self.metadata, self.compressed), other)
        })
    }

    /// When the file was written to last.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        self.metadata.modified().ok()
    }

    /// Finds where the last `count` records start.
    pub(crate) fn find_tail(&self, format: Format, count: u64) -> io::Result<Tail> {
        match format {
            _ if self.compressed => {
                let mut records = self.records(format, Start::Offset(0))?;
                let mut total = 0_u64;
                while records.next()?.is_some() {
                    total = total.saturating_add(1);
                }
                Ok(total.checked_sub(count).map_or(Tail::Fewer(total), |skip| Tail::At(Start::Skip(skip))))
            }
            Format::Json => last_lines(&self.file, count),
            Format::Local => match last_frames(&self.file, count)? {
                Some(tail) => Ok(tail),
                None => self.last_records(format, count),
            },
        }
    }

    /// Finds the last records by reading all of them.
    fn last_records(&self, format: Format, count: u64) -> io::Result<Tail> {
        let mut records = self.records(format, Start::Offset(0))?;
        let mut offsets = VecDeque::new();
        let mut at = 0;
        while let Some(record) = records.next()? {
            offsets.push_back(at);
            at += length(record.len());
            if length(offsets.len()) > count {
                offsets.pop_front();
            }
        }
        let found = length(offsets.len());
        Ok(match offsets.front() {
            Some(first) if found == count => Tail::At(Start::Offset(*first)),
            _ => Tail::Fewer(found),
        })
    }

    /// Reads the records from `start` on.
    pub(crate) fn records(&self, format: Format, start: Start) -> io::Result<Records> {
        let mut file = self.file.try_clone()?;
        let skip = match start {
            Start::Offset(offset) => {
                file.seek(SeekFrom::Start(offset))?;
                0
            }
            Start::Skip(records) => {
                file.seek(SeekFrom::Start(0))?;
                records
            }
        };
        let input = if self.compressed {
            Input::Compressed(Box::new(MultiGzDecoder::new(BufReader::new(file))))
        } else {
            Input::Plain(file)
        };
        let mut records = Records {
            format,
            file: self.file.try_clone()?,
            compressed: self.compressed,
            input: BufReader::with_capacity(BLOCK, input),
            record: Vec::new(),
            whole: false,
            spoiled: false,
        };
        for _ in 0..skip {
            if records.next()?.is_none() {
                break;
            }
        }
        Ok(records)
    }
}

/// Says whether two files are one, or one of them is the other compressed.
fn same(one: (&File, &Metadata, bool), other: (&File, &Metadata, bool)) -> bool {
    if one.2 == other.2 {
        return one.1.dev() == other.1.dev() && one.1.ino() == other.1.ino();
    }
    let (compressed, plain) = if one.2 { (one, other) } else { (other, one) };
    Origin::read(compressed.0) == Some(Origin::of(plain.1))
}

/// Where to start reading in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At this byte.
    Offset(u64),
    /// After so many records.
    Skip(u64),
}

/// Where the last records of a file start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    At(Start),
    /// The file has only so many.
    Fewer(u64),
}

/// Reads the records of a file one by one; can go on when the file has grown.
#[derive(Debug)]
pub(crate) struct Records {
    format: Format,
    file: File,
    compressed: bool,
    input: BufReader<Input>,
    record: Vec<u8>,
    /// Whether `record` was given out; if not, it is the beginning of one.
    whole: bool,
    /// Whether the file cannot be read beyond this point.
    spoiled: bool,
}

#[derive(Debug)]
enum Input {
    Plain(File),
    Compressed(Box<MultiGzDecoder<BufReader<File>>>),
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            // A file that ends too soon (no space left while it was compressed) gives what it has.
            Self::Compressed(decoder) => match decoder.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }
}

impl Records {
    /// Returns the next record, or `None` if there is no whole one (yet).
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.whole {
            self.record.clear();
            self.whole = false;
        }
        if self.spoiled {
            return Ok(None);
        }
        self.whole = match self.format {
            Format::Json => {
                self.input.read_until(b'\n', &mut self.record)?;
                self.record.last() == Some(&b'\n')
            }
            Format::Local => self.fill_frame()?,
        };
        Ok(self.whole.then_some(&self.record))
    }

    /// Decodes a record that [`Records::next`] gave.
    pub(crate) fn decode(format: Format, record: &[u8], last: &mut LastTime) -> Option<Entry> {
        match format {
            Format::Json => decode::json(record, last),
            Format::Local => {
                let body = record.get(local::FRAME..record.len().saturating_sub(local::FRAME))?;
                let record = local::decode(body)?;
                let mut line = record.line.to_vec();
                if !record.partial {
                    line.push(b'\n');
                }
                Some(Entry { stream: record.stream, time: record.time, line, attributes: Default::default() })
            }
        }
    }

    /// Starts again if somebody has cut the file shorter than what was read.
    pub(crate) fn rewind_if_truncated(&mut self) -> io::Result<()> {
        let Input::Plain(file) = self.input.get_mut() else { return Ok(()) };
        if file.metadata()?.len() < file.stream_position()? {
            self.input.seek_to_start()?;
            self.record.clear();
            self.whole = false;
        }
        Ok(())
    }

    fn fill_frame(&mut self) -> io::Result<bool> {
        if !self.fill(local::FRAME)? {
            return Ok(false);
        }
        let body = local::frame(&self.record).unwrap_or(usize::MAX);
        if body > RECORD_LIMIT {
            self.spoiled = true;
            return Ok(false);
        }
        self.fill(body + 2 * local::FRAME)
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        while self.record.len() < want {
            let available = self.input.fill_buf()?;
            let take = available.len().min(want - self.record.len());
            let Some(taken) = available.get(..take).filter(|taken| !taken.is_empty()) else {
                return Ok(false);
            };
            self.record.extend_from_slice(taken);
            self.input.consume(take);
        }
        Ok(true)
    }
}

/// Going back to the start of a buffered plain file.
trait SeekToStart {
    fn seek_to_start(&mut self) -> io::Result<()>;
}

impl SeekToStart for BufReader<Input> {
    fn seek_to_start(&mut self) -> io::Result<()> {
        let stale = self.buffer().len();
        self.consume(stale);
        match self.get_mut() {
            Input::Plain(file) => file.seek(SeekFrom::Start(0)).map(drop),
            Input::Compressed(_) => Ok(()),
        }
    }
}

/// Finds where the last `count` lines start, reading backwards.
fn last_lines(file: &File, count: u64) -> io::Result<Tail> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    // The line feed at the end of the last line is the first one met.
    let mut met = 0_u64;
    while end > 0 {
        let start = end.saturating_sub(length(BLOCK));
        let size = usize::try_from(end - start).unwrap_or(BLOCK);
        let part = block.get_mut(..size).unwrap_or_default();
        file.read_exact_at(part, start)?;
        for (index, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if met == count {
                return Ok(Tail::At(Start::Offset(start + length(index) + 1)));
            }
            met += 1;
        }
        end = start;
    }
    Ok(if met == count { Tail::At(Start::Offset(0)) } else { Tail::Fewer(met) })
}

/// Finds where the last `count` frames start, from length to length backwards; `None` if they do not fit together.
fn last_frames(file: &File, count: u64) -> io::Result<Option<Tail>> {
    let read = |at| {
        let mut bytes = [0; local::FRAME];
        file.read_exact_at(&mut bytes, at).map(|()| u64::from(u32::from_be_bytes(bytes)))
    };
    let mut at = file.metadata()?.len();
    for found in 0..count {
        if at == 0 {
            return Ok(Some(Tail::Fewer(found)));
        }
        let Some(behind) = at.checked_sub(length(local::FRAME)) else { return Ok(None) };
        let size = read(behind)?;
        let Some(front) = behind.checked_sub(size.saturating_add(length(local::FRAME))) else {
            return Ok(None);
        };
        if read(front)? != size {
            return Ok(None);
        }
        at = front;
    }
    Ok(Some(Tail::At(Start::Offset(at))))
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
