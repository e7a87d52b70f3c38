//! From an archive to what of it is not in the layer's files, and back (the idea of tar-split).
//!
//! ```text
//! record = { number bytes | 0 size length name }    so many bytes as they are; or a file's content, and its name
//! ```
//!
//! Numbers are LEB128. A file of the archive that is not the same in the layer (replaced later on, reached through a link,
//! sparse) is kept as it is if it is small.

use super::bits::{get_number, put_number};
use super::huffman::invalid;
use crate::layers::name;
use crate::tar::{Kind, Reader};
use rustix::fs::{OFlags, ResolveFlags};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Files up to this size are compared before they are left out, and kept if they differ.
const SMALL: u64 = 1 << 20;
/// So many bytes are kept together.
const GATHERED: usize = 64 * 1024;

/// What is recorded of the bytes that pass.
struct Tape<W> {
    record: W,
    /// Bytes that are to be kept.
    gathered: Vec<u8>,
    /// Whether what passes now is in a file.
    skipping: bool,
}

impl<W: Write> Tape<W> {
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            put_number(&mut self.record, self.gathered.len() as u64)?;
            self.record.write_all(&self.gathered)?;
            self.gathered.clear();
        }
        Ok(())
    }

    fn file(&mut self, size: u64, path: &[u8]) -> io::Result<()> {
        self.flush()?;
        for number in [0, size, path.len() as u64] {
            put_number(&mut self.record, number)?;
        }
        self.record.write_all(path)
    }
}

/// Passes an archive on to its parser, and what is consumed to the tape.
struct Tap<R, W> {
    from: R,
    tape: Rc<RefCell<Tape<W>>>,
    failed: Option<io::Error>,
}

impl<R: BufRead, W: Write> BufRead for Tap<R, W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.from.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        let mut tape = self.tape.borrow_mut();
        if !tape.skipping {
            let piece = self.from.fill_buf().map(|piece| piece.get(..count).unwrap_or_default());
            self.failed = piece.and_then(|piece| tape.keep(piece)).err();
        }
        self.from.consume(count);
    }
}

impl<R: BufRead, W: Write> Read for Tap<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Reads the archive of the layer whose files are in `root` and writes the record.
///
/// # Errors
///
/// What the reader or the writer returns; [`io::ErrorKind::InvalidData`] for what cannot be recorded.
pub(super) fn split<R: BufRead, W: Write>(archive: R, root: &OwnedFd, record: W) -> io::Result<W> {
    let tape = Rc::new(RefCell::new(Tape { record, gathered: Vec::new(), skipping: false }));
    let tap = Tap { from: archive, tape: Rc::clone(&tape), failed: None };
    let mut reader = Reader::new(tap);
    while let Some(entry) = reader.next_entry()? {
        if entry.kind != Kind::File || entry.size == 0 || entry.sparse.is_some() {
            continue;
        }
        let path = name::clean(&entry.name).map_err(io::Error::other)?;
        let Some(file) =
            open(root, &path)?.filter(|file| file.metadata().is_ok_and(|found| found.len() == entry.size))
        else {
            continue;
        };
        tape.borrow_mut().skipping = true;
        let (same, seen) = same(&mut reader, file, entry.size <= SMALL)?;
        let mut tape = tape.borrow_mut();
        tape.skipping = false;
        if same {
            tape.file(entry.size, &path)?;
        } else if let Some(seen) = seen {
            tape.keep(&seen)?;
        } else {
            return Err(invalid("a large file is not as in the archive"));
        }
    }
    reader.drain()?;
    drop(reader);
    let tape = Rc::into_inner(tape).ok_or_else(|| invalid("the archive is still being read"))?;
    let mut tape = tape.into_inner();
    tape.flush()?;
    Ok(tape.record)
}

/// Compares the entry's data with a file; also returns the data if that is asked for.
fn same<R: BufRead>(
    reader: &mut Reader<R>,
    file: File,
    remember: bool,
) -> io::Result<(bool, Option<Vec<u8>>)> {
    let mut seen = remember.then(Vec::new);
    let mut file = io::BufReader::with_capacity(GATHERED, file);
    let mut same = true;
    loop {
        let piece = reader.data()?;
        if piece.is_empty() {
            return Ok((same, seen));
        }
        let mut count = piece.len();
        if same {
            let other = file.fill_buf()?;
            let common = count.min(other.len());
            same = common > 0 && piece.get(..common) == other.get(..common);
            if same {
                file.consume(common);
                count = common;
            }
        }
        if let Some(seen) = &mut seen {
            seen.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
        reader.consume(count);
    }
}

/// Opens a file of the layer; `None` if the name leads to none, or through a link.
fn open(root: &OwnedFd, path: &[u8]) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match sys::path::resolve_bare(root.as_fd(), path, flags, resolve) {
        Ok(file) => {
            Ok(Some(File::from(file)).filter(|file| file.metadata().is_ok_and(|found| found.is_file())))
        }
        Err(error) if error == rustix::io::Errno::NOENT || error == rustix::io::Errno::LOOP => Ok(None),
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads the archive that a record and the layer's files make.
pub(super) struct Joined<R> {
    record: R,
    root: OwnedFd,
    file: Option<File>,
    left: u64,
}

impl<R: Read> Joined<R> {
    pub(super) fn new(record: R, root: OwnedFd) -> Self {
        Self { record, root, file: None, left: 0 }
    }

    /// Goes to the next piece; says whether there is one.
    fn next(&mut self) -> io::Result<bool> {
        let number = match get_number(&mut self.record) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        };
        (self.file, self.left) = (None, number);
        if number == 0 {
            self.left = get_number(&mut self.record)?;
            let length = get_number(&mut self.record)?;
            let mut path = Vec::new();
            (&mut self.record).take(length).read_to_end(&mut path)?;
            let file = open(&self.root, &path)?;
            self.file = Some(file.ok_or_else(|| invalid("a file of the layer is not there"))?);
        }
        Ok(true)
    }
}

impl<R: Read> Read for Joined<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            if !self.next()? {
                return Ok(0);
            }
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..most).unwrap_or_default();
        let count = match &mut self.file {
            Some(file) => file.read(piece)?,
            None => self.record.read(piece)?,
        };
        if count == 0 && most > 0 {
            return Err(invalid("a file of the layer is too short"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
