//! Writes archives: ustar headers, preceded by a PAX header where a value does not fit.
//!
//! The same entries give the same bytes. Names that are not ASCII, long names and links, large numbers, fractions of
//! seconds and extended attributes go to the PAX header, as Go's `archive/tar` does it.

use super::header::{BLOCK, Entry, Kind, Time};
use std::io::{self, Read, Write};

/// The largest number in a field of eight bytes, in octal.
const MAX_SMALL: u64 = 0o777_7777;
/// The largest number in a field of twelve bytes, in octal.
const MAX_LARGE: u64 = 0o777_7777_7777;
const BUFFER: usize = 256 * 1024;

/// Writes entries to `W`, one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(to: W) -> Self {
        Self { to }
    }

    /// Writes an entry and, for a file, `entry.size` bytes of `data`. A map of holes is not written: `data` is read
    /// with its zeros.
    ///
    /// # Errors
    ///
    /// What the writer or `data` returns, and [`io::ErrorKind::UnexpectedEof`] if `data` is too short.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        let records = records(entry, size);
        if !records.is_empty() {
            let mut extended = Entry { name: b"PaxHeaders.0/entry".to_vec(), ..Entry::default() };
            extended.size = records.len() as u64;
            self.to.write_all(&block(&extended, b'x', extended.size))?;
            self.to.write_all(&records)?;
            self.pad(extended.size)?;
        }
        self.to.write_all(&block(entry, flag(entry.kind), size))?;
        self.copy(data, size)?;
        self.pad(size)
    }

    /// Writes a small file with fixed metadata: root's, mode 0644, 1970.
    ///
    /// # Errors
    ///
    /// What the writer returns.
    pub fn append_bytes(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        self.append(&Entry { name: name.as_bytes().to_vec(), size, ..Entry::default() }, &mut &*bytes)
    }

    /// Writes the end mark and returns the writer.
    ///
    /// # Errors
    ///
    /// What the writer returns.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn copy(&mut self, data: &mut dyn Read, size: u64) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER.min(usize::try_from(size).unwrap_or(BUFFER))];
        let mut left = size;
        while left > 0 {
            let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = buffer.get_mut(..length).unwrap_or_default();
            let count = match data.read(piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            self.to.write_all(piece.get(..count).unwrap_or_default())?;
            left -= count as u64;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        self.to.write_all([0; BLOCK].get(..padding).unwrap_or_default())
    }
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// The PAX records for what does not fit the header.
fn records(entry: &Entry, size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let mut record = |key: &[u8], value: &[u8]| {
        let body = key.len() + value.len() + 3;
        // The length counts its own digits.
        let mut length = body + 1;
        while body + length.to_string().len() != length {
            length = body + length.to_string().len();
        }
        records.extend_from_slice(length.to_string().as_bytes());
        records.push(b' ');
        records.extend_from_slice(key);
        records.push(b'=');
        records.extend_from_slice(value);
        records.push(b'\n');
    };
    let fits = |text: &[u8]| text.len() <= 100 && text.is_ascii();
    if u64::from(entry.gid) > MAX_SMALL {
        record(b"gid", entry.gid.to_string().as_bytes());
    }
    if !fits(&entry.link) {
        record(b"linkpath", &entry.link);
    }
    if entry.modified.nanoseconds != 0 || octal_seconds(entry.modified).is_none() {
        record(b"mtime", seconds(entry.modified).as_bytes());
    }
    if !fits(&entry.name) {
        record(b"path", &entry.name);
    }
    if size > MAX_LARGE {
        record(b"size", size.to_string().as_bytes());
    }
    if u64::from(entry.uid) > MAX_SMALL {
        record(b"uid", entry.uid.to_string().as_bytes());
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort();
    for (name, value) in xattrs {
        record(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

fn octal_seconds(time: Time) -> Option<u64> {
    u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= MAX_LARGE)
}

/// Prints a time as PAX wants it: the sign counts for the whole number.
fn seconds(time: Time) -> String {
    let (mut whole, mut fraction, mut sign) = (time.seconds, time.nanoseconds, "");
    if whole < 0 && fraction > 0 {
        whole += 1;
        fraction = 1_000_000_000 - fraction;
        sign = if whole == 0 { "-" } else { "" };
    }
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:09}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

/// Makes a header block; what does not fit is cut or zero, since the PAX header has it.
fn block(entry: &Entry, flag: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |offset: usize, bytes: &[u8]| {
        if let Some(field) = block.get_mut(offset..offset + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    let small = |value: u64| format!("{:07o}\0", if value > MAX_SMALL { 0 } else { value });
    let large = |value: u64| format!("{:011o}\0", if value > MAX_LARGE { 0 } else { value });
    let cut = |text: &[u8]| -> Vec<u8> {
        text.iter().take(100).map(|byte| if byte.is_ascii() { *byte } else { b'_' }).collect()
    };
    let (major, minor) = entry.device;
    put(0, &cut(&entry.name));
    put(100, small(u64::from(entry.mode & 0o7777)).as_bytes());
    put(108, small(entry.uid.into()).as_bytes());
    put(116, small(entry.gid.into()).as_bytes());
    put(124, large(size).as_bytes());
    put(136, large(octal_seconds(entry.modified).unwrap_or(0)).as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &cut(&entry.link));
    put(257, b"ustar\x0000");
    if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
        put(329, small(major.into()).as_bytes());
        put(337, small(minor.into()).as_bytes());
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    if let Some(field) = block.get_mut(148..156) {
        field.copy_from_slice(sum.as_bytes());
    }
    block
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;
    use proptest::prelude::*;

    fn round_trip(entry: &Entry, data: &[u8]) {
        let mut writer = Writer::new(Vec::new());
        writer.append(entry, &mut &*data).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        assert_eq!(reader.next_entry().unwrap().as_ref(), Some(entry));
        assert_eq!(reader.data().unwrap(), data);
        assert_eq!(reader.next_entry().unwrap(), None);
    }

    #[test]
    fn everything_that_does_not_fit_a_header() {
        let entry = Entry {
            name: [b"d/".repeat(60), "é".into()].concat(),
            mode: 0o4755,
            uid: u32::MAX - 1,
            gid: 3_000_000,
            size: 5,
            modified: Time { seconds: -2, nanoseconds: 750_000_000 },
            xattrs: vec![(b"security.capability".to_vec(), vec![1, 0, 0, 2, b'\n'])],
            ..Entry::default()
        };
        round_trip(&entry, b"hello");
        let link =
            Entry { kind: Kind::Symlink, link: vec![b'l'; 200], name: b"x".to_vec(), ..Entry::default() };
        round_trip(&link, b"");
        let node =
            Entry { kind: Kind::BlockDevice, device: (259, 70_000), name: b"n".to_vec(), ..Entry::default() };
        round_trip(&node, b"");
    }

    #[test]
    fn the_tar_crate_reads_it() {
        let mut writer = Writer::new(Vec::new());
        writer.append_bytes("a/b", b"hello").unwrap();
        writer.append_bytes(&"long/".repeat(40), &[7; 1000]).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect();
        assert_eq!(names, [b"a/b".to_vec(), b"long/".repeat(40)]);
    }

    proptest! {
        #[test]
        fn times_print_and_parse(seconds in -10_000_000_000_i64..100_000_000_000, nanoseconds in 0..1_000_000_000_u32) {
            let modified = Time { seconds, nanoseconds };
            round_trip(&Entry { name: b"t".to_vec(), modified, ..Entry::default() }, b"");
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut reader = Reader::new(bytes.as_slice());
            while let Ok(Some(_)) = reader.next_entry() {}
        }

        #[test]
        fn damaged_archives_never_panic(position in 0..3072_usize, value in any::<u8>()) {
            let mut writer = Writer::new(Vec::new());
            let entry = Entry { name: vec![b'n'; 150], size: 10, ..Entry::default() };
            writer.append(&entry, &mut &[7; 10][..]).unwrap();
            let mut bytes = writer.finish().unwrap();
            if let Some(byte) = bytes.get_mut(position) {
                *byte = value;
            }
            let mut reader = Reader::new(bytes.as_slice());
            while let Ok(Some(_)) = reader.next_entry() {
                while let Ok(length @ 1..) = reader.data().map(<[u8]>::len) {
                    reader.consume(length);
                }
            }
        }
    }
}
