//! The streaming parser.

use super::header::{BLOCK, Dialect, Entry, Header, Kind};
use super::pax::Records;
use super::{Malformed, Time, sparse};
use std::io::BufRead;

/// An extended header or a long name may have so many bytes, as in Go.
const MAX_EXTENDED: u64 = 1 << 20;

/// Reads the entries of an archive in order, without a copy of their data.
///
/// After [`Reader::next_entry`], the entry's data is read with [`Reader::data`] until that returns nothing; data that
/// is not read is skipped. Any error ends the archive: do not go on after one.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// Data of the present entry that is still to come.
    remaining: u64,
    /// Padding after it.
    padding: u64,
    entries: u64,
}

/// What came before a header and applies to it.
#[derive(Default)]
struct Extended {
    records: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// Takes an archive that is not compressed.
    pub fn new(source: R) -> Self {
        Self { source, remaining: 0, padding: 0, entries: 0 }
    }

    /// Returns the number of entries seen so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Goes to the next entry; `None` at the end mark (or where the stream ends instead of it, as Go allows).
    ///
    /// # Errors
    ///
    /// [`std::io::ErrorKind::InvalidData`] around a [`Malformed`] if this is not an archive, or what the source returns.
    pub fn next_entry(&mut self) -> std::io::Result<Option<Entry>> {
        let mut extended = Extended::default();
        loop {
            self.skip_data()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.flag() {
                b'x' => {
                    let data = self.extended(&header)?;
                    extended.records = Some(Records::parse(&data).map_err(invalid)?);
                }
                b'g' => drop(self.extended(&header)?),
                b'L' => extended.name = Some(until_nul(self.extended(&header)?)),
                b'K' => extended.link = Some(until_nul(self.extended(&header)?)),
                _ => {
                    self.entries += 1;
                    return self.entry(&header, extended).map(Some);
                }
            }
        }
    }

    /// Returns the next piece of the entry's data, empty at its end; [`Reader::consume`] says how much of it is done.
    ///
    /// # Errors
    ///
    /// If the stream ends too early, or what the source returns.
    pub fn data(&mut self) -> std::io::Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let piece = self.source.fill_buf()?;
        if piece.is_empty() {
            return Err(invalid(Malformed::Truncated));
        }
        let end = piece.len().min(limit);
        Ok(piece.get(..end).unwrap_or_default())
    }

    /// Marks `count` bytes of the last piece as done.
    pub fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.remaining = self.remaining.saturating_sub(count as u64);
    }

    /// Reads the rest of the stream behind the end mark.
    ///
    /// # Errors
    ///
    /// What the source returns.
    pub fn drain(&mut self) -> std::io::Result<()> {
        loop {
            let count = self.source.fill_buf()?.len();
            if count == 0 {
                return Ok(());
            }
            self.source.consume(count);
        }
    }

    fn skip_data(&mut self) -> std::io::Result<()> {
        let mut left = self.remaining + self.padding;
        self.remaining = 0;
        self.padding = 0;
        while left > 0 {
            let piece = self.source.fill_buf()?;
            if piece.is_empty() {
                return Err(invalid(Malformed::Truncated));
            }
            let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.source.consume(count);
            left -= count as u64;
        }
        Ok(())
    }

    /// Reads a block; `None` if the stream ends before its first byte.
    fn block(&mut self) -> std::io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let piece = self.source.fill_buf()?;
            if piece.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(invalid(Malformed::Truncated)) };
            }
            let count = piece.len().min(BLOCK - filled);
            if let (Some(to), Some(from)) = (block.get_mut(filled..filled + count), piece.get(..count)) {
                to.copy_from_slice(from);
            }
            self.source.consume(count);
            filled += count;
        }
        Ok(Some(block))
    }

    /// Reads a header; `None` at the end. Two blocks of zeros end an archive; one alone is an error, as in Go.
    fn header(&mut self) -> std::io::Result<Option<Header>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Header::parse(block).map(Some).map_err(invalid);
        }
        match self.block()? {
            None => Ok(None),
            Some(second) if second == [0; BLOCK] => Ok(None),
            Some(_) => Err(invalid(Malformed::Checksum)),
        }
    }

    fn set_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn extended(&mut self, header: &Header) -> std::io::Result<Vec<u8>> {
        let size = header.size().map_err(invalid)?;
        if size > MAX_EXTENDED {
            return Err(invalid(Malformed::TooLong(size)));
        }
        self.set_data(size);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        loop {
            let piece = self.data()?;
            let count = piece.len();
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(piece);
            self.consume(count);
        }
    }

    fn entry(&mut self, header: &Header, extended: Extended) -> std::io::Result<Entry> {
        let records = extended.records.unwrap_or_default();
        let mut entry = fields(header, &records).map_err(invalid)?;
        if let Some(name) = extended.name {
            entry.name = name;
        }
        if let Some(link) = extended.link {
            entry.link = link;
        }
        let flag = header.flag();
        entry.kind = match flag {
            // Before POSIX a directory was a file whose name ends in a slash.
            b'\0' if entry.name.ends_with(b"/") => Kind::Directory,
            b'0' | b'\0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(invalid(Malformed::Type(char::from(other)))),
        };
        let size = records.size.map_or_else(|| header.size(), Ok).map_err(invalid)?;
        entry.size = size;
        if entry.kind != Kind::File {
            // As in Go: such entries have no data, whatever their size says.
            entry.size = 0;
            self.set_data(0);
            return Ok(entry);
        }
        self.set_data(size);
        self.sparse(&mut entry, header, &records, size)?;
        Ok(entry)
    }

    fn sparse(
        &mut self,
        entry: &mut Entry,
        header: &Header,
        records: &Records,
        size: u64,
    ) -> std::io::Result<()> {
        let pax = &records.sparse;
        let (map, real_size, data_size) = if header.flag() == b'S' {
            if header.dialect() != Dialect::Gnu {
                return Err(invalid(Malformed::Sparse));
            }
            let mut map = Vec::new();
            let mut more = sparse::old_gnu(header, false, &mut map).map_err(invalid)?;
            while more {
                let block = self.block()?.ok_or_else(|| invalid(Malformed::Truncated))?;
                more = sparse::old_gnu(&Header::extension(block), true, &mut map).map_err(invalid)?;
            }
            (map, sparse::old_gnu_size(header).map_err(invalid)?, size)
        } else if pax.major == Some(1) && pax.minor == Some(0) {
            let mut left = size;
            let (map, taken) = sparse::from_data(|| {
                left = left.checked_sub(BLOCK as u64).ok_or_else(|| invalid(Malformed::Sparse))?;
                self.block()?.ok_or_else(|| invalid(Malformed::Truncated))
            })?;
            (map, pax.real_size.ok_or_else(|| invalid(Malformed::Sparse))?, size - taken)
        } else if pax.major.unwrap_or(0) == 0 && pax.blocks.is_some() {
            let real_size = pax.real_size.ok_or_else(|| invalid(Malformed::Sparse))?;
            (sparse::from_records(pax).map_err(invalid)?, real_size, size)
        } else {
            return Ok(());
        };
        sparse::check(&map, real_size, data_size).map_err(invalid)?;
        if let Some(name) = &pax.name {
            entry.name.clone_from(name);
        }
        // The padding is that of all the data, the map included.
        self.remaining = data_size;
        entry.size = real_size;
        entry.sparse = Some(map);
        Ok(())
    }
}

/// Reads the fields that a header and its extended records share.
fn fields(header: &Header, records: &Records) -> Result<Entry, Malformed> {
    let id = |number: i64, what| u32::try_from(number).map_err(|_outside| Malformed::Field(what));
    let seconds = || header.modified().map(|seconds| Time { seconds, nanoseconds: 0 });
    Ok(Entry {
        name: records.path.clone().unwrap_or_else(|| header.name()),
        kind: Kind::File,
        link: records.link.clone().unwrap_or_else(|| header.link()),
        mode: header.mode()?,
        uid: id(records.uid.map_or_else(|| header.uid(), Ok)?, "uid")?,
        gid: id(records.gid.map_or_else(|| header.gid(), Ok)?, "gid")?,
        size: 0,
        modified: records.modified.map_or_else(seconds, Ok)?,
        device: if matches!(header.flag(), b'3' | b'4') { header.device()? } else { (0, 0) },
        xattrs: records.xattrs.clone(),
        sparse: None,
    })
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

fn invalid(problem: Malformed) -> std::io::Error {
    problem.into()
}
