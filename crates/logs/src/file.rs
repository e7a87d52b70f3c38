//! The file being written, and those put aside: `NAME`, `NAME.1` (the newest), `NAME.2`, …, or `NAME.N.gz`.
//!
//! A file is put aside by renames only, never truncated, so that a reader that has it open loses nothing.

use crate::{Error, Rotation};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Docker's mode for log files.
const MODE: u32 = 0o640;

/// How much one step of compression reads.
const STEP: usize = 128 * 1024;

/// Returns the name of the `number`-th file put aside.
pub(crate) fn aside(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".{number}"))
}

/// Returns the name of the `number`-th file put aside once it is compressed.
pub(crate) fn aside_compressed(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".{number}.gz"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A log file that is put aside when it is full.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
    compression: Option<Step>,
}

/// A compression under way.
#[derive(Debug)]
struct Step {
    source: File,
    target: GzEncoder<File>,
}

impl RotatingFile {
    /// Opens the log at `path` for appending, and makes it if it is missing.
    ///
    /// `repair` says what to append if the file does not end as a whole record does (the host went down).
    pub(crate) fn open(
        path: &Path,
        rotation: Rotation,
        repair: fn(&File) -> io::Result<Repair>,
    ) -> Result<Self, Error> {
        let mut file = open(path, false)?;
        let failed = Error::io("open log", path);
        let size = (|| {
            match repair(&file)? {
                Repair::None => {}
                Repair::Append(bytes) => file.write_all(bytes)?,
                Repair::Truncate(size) => file.set_len(size)?,
            }
            Ok(file.metadata()?.len())
        })()
        .map_err(failed)?;
        let mut this = Self { path: path.to_owned(), rotation, file, size, compression: None };
        this.start_compression();
        Ok(this)
    }

    /// Says whether `more` bytes after `pending` ones (not yet written) do not fit any more.
    pub(crate) fn is_full(&self, pending: usize, more: usize) -> bool {
        let Some(max) = self.rotation.max_size else { return false };
        let before = self.size.saturating_add(length(pending));
        before > 0 && before.saturating_add(length(more)) > max
    }

    /// Appends `bytes`, a sequence of whole records.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.size = self.size.saturating_add(length(bytes.len()));
                Ok(())
            }
            Err(error) => {
                // What was torn off half-way must not spoil the next record. The disk being full, taking bytes back
                // is the one thing that works.
                drop(self.file.set_len(self.size));
                Err(Error::io("write log", &self.path)(error))
            }
        }
    }

    /// Puts the present file aside and goes on with an empty one.
    pub(crate) fn rotate(&mut self) -> Result<(), Error> {
        while self.compress_step() {}
        let failed = |error| Error::io("rotate log", &self.path)(error);
        let kept = self.rotation.max_files.saturating_sub(1);
        if kept == 0 {
            let fresh = with_suffix(&self.path, ".new");
            self.file = open(&fresh, true)?;
            fs::rename(&fresh, &self.path).map_err(failed)?;
        } else {
            for number in (1..kept).rev() {
                self.shift(number).map_err(failed)?;
            }
            // A plain and a compressed file of one number never stand side by side.
            remove(&aside_compressed(&self.path, 1)).map_err(failed)?;
            fs::rename(&self.path, aside(&self.path, 1)).map_err(failed)?;
            self.file = open(&self.path, true)?;
        }
        self.size = 0;
        self.start_compression();
        Ok(())
    }

    /// Renames file `number` to `number + 1`, replacing what is there.
    fn shift(&self, number: u32) -> io::Result<()> {
        let next = number.saturating_add(1);
        let plain = rename(&aside(&self.path, number), &aside(&self.path, next))?;
        let compressed = rename(&aside_compressed(&self.path, number), &aside_compressed(&self.path, next))?;
        if plain {
            remove(&aside_compressed(&self.path, next))?;
        } else if compressed {
            remove(&aside(&self.path, next))?;
        }
        Ok(())
    }

    /// Starts to compress the newest file put aside, if that is wanted and it is not done.
    ///
    /// A failure here leaves the file as it is: a log that is larger than it could be.
    fn start_compression(&mut self) {
        if !self.rotation.compress || self.rotation.max_files < 2 {
            return;
        }
        let Ok(source) = File::open(aside(&self.path, 1)) else { return };
        let Ok(metadata) = source.metadata() else { return };
        let Ok(target) = open(&with_suffix(&self.path, ".1.gz.tmp"), true) else { return };
        let origin = Origin::of(&metadata).to_extra_field();
        let target = GzBuilder::new().extra(origin).write(target, Compression::fast());
        self.compression = Some(Step { source, target });
    }

    /// Says whether a file put aside is being compressed.
    pub(crate) fn is_compressing(&self) -> bool {
        self.compression.is_some()
    }

    /// Goes on compressing for a moment; says whether there is more to do.
    pub(crate) fn compress_step(&mut self) -> bool {
        let Some(step) = &mut self.compression else { return false };
        let mut buffer = Vec::new();
        let more = (&mut step.source).take(length(STEP)).read_to_end(&mut buffer).and_then(|count| {
            step.target.write_all(&buffer)?;
            Ok(count > 0)
        });
        if matches!(more, Ok(true)) {
            return true;
        }
        let Some(step) = self.compression.take() else { return false };
        let unfinished = with_suffix(&self.path, ".1.gz.tmp");
        // The time stays that of the last entry, by which readers pass over files too old for them.
        let done = more
            .and_then(|_| step.target.finish())
            .and_then(|target| target.set_modified(step.source.metadata()?.modified()?))
            .and_then(|_| fs::rename(&unfinished, aside_compressed(&self.path, 1)));
        match done {
            Ok(()) => drop(fs::remove_file(aside(&self.path, 1))),
            Err(_kept_plain) => drop(fs::remove_file(unfinished)),
        }
        false
    }
}

/// Which file a compressed one was made of, kept in its header's extra field (RFC 1952, *FEXTRA*): so that a reader that has
/// read the plain file does not read it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    inode: u64,
    size: u64,
    modified_nanos: u64,
}

impl Origin {
    const SIZE: usize = 28;

    /// Returns the identity of a plain file.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let nanos = metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec());
        Self { inode: metadata.ino(), size: metadata.size(), modified_nanos: nanos.cast_unsigned() }
    }

    fn to_extra_field(self) -> Vec<u8> {
        let numbers = [self.inode, self.size, self.modified_nanos];
        b"Wh\x18\0".iter().copied().chain(numbers.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    /// Reads the identity of the plain file off the compressed one.
    pub(crate) fn read(compressed: &File) -> Option<Self> {
        let mut header = [0; 12 + Self::SIZE];
        compressed.read_exact_at(&mut header, 0).ok()?;
        let field = header.get(12..)?.strip_prefix(b"Wh\x18\0")?;
        let mut numbers = field.chunks_exact(8).map(|bytes| bytes.try_into().map(u64::from_le_bytes));
        let mut next = || numbers.next()?.ok();
        Some(Self { inode: next()?, size: next()?, modified_nanos: next()? })
    }
}

/// What a file needs before records can be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// It ends with a whole record.
    None,
    /// These bytes end the torn record; readers skip it.
    Append(&'static [u8]),
    /// The torn record is cut off at this size.
    Truncate(u64),
}

/// Reads the last byte of a file of lines: a torn line is ended, so that the next one stands by itself.
pub(crate) fn repair_lines(mut file: &File) -> io::Result<Repair> {
    if file.metadata()?.len() == 0 {
        return Ok(Repair::None);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(if last == *b"\n" { Repair::None } else { Repair::Append(b"\n") })
}

fn open(path: &Path, empty: bool) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)
        .and_then(|file| if empty { file.set_len(0).map(|()| file) } else { Ok(file) })
        .map_err(Error::io("open log", path))
}

/// Renames; `false` if there is nothing to rename.
fn rename(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
