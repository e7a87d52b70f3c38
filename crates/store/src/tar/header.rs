//! One 512-byte header block.

use super::Malformed;

/// The size of a block.
pub(crate) const BLOCK: usize = 512;

/// A point in time, as utimensat(2) takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its data follows.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as in the archive: not yet cleaned or checked.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Permissions and the set-ID and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size of the file, holes included.
    pub size: u64,
    /// When it was last changed.
    pub modified: Time,
    /// The major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data of a sparse file belongs: offset and length, in order. `None` if it is not sparse.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            name: Vec::new(),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            modified: Time::default(),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}

/// Which dialect a header block is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V7,
    Ustar,
    Gnu,
}

/// The fields of a block as bytes.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    bytes: [u8; BLOCK],
}

impl Header {
    /// Takes a block whose checksum is right.
    pub(crate) fn parse(bytes: [u8; BLOCK]) -> Result<Self, Malformed> {
        let header = Self { bytes };
        let stored = header.number(148, 8, "checksum")?;
        let outside = |index: usize| !(148..156).contains(&index);
        let value = |(index, byte): (usize, u8)| if outside(index) { i64::from(byte) } else { 32 };
        let signed =
            |(index, byte): (usize, u8)| if outside(index) { i64::from(byte.cast_signed()) } else { 32 };
        let sum: i64 = bytes.iter().copied().enumerate().map(value).sum();
        if stored != sum {
            let sum: i64 = bytes.iter().copied().enumerate().map(signed).sum();
            if stored != sum {
                return Err(Malformed::Checksum);
            }
        }
        Ok(header)
    }

    /// Takes an extension block of an old GNU sparse file, which has no checksum.
    pub(crate) fn extension(bytes: [u8; BLOCK]) -> Self {
        Self { bytes }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self.field(257, 8) {
            b"ustar  \0" => Dialect::Gnu,
            // The version should follow, "00"; some writers get it wrong.
            [b'u', b's', b't', b'a', b'r', b'\0', ..] => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub(crate) fn flag(&self) -> u8 {
        self.bytes.get(156).copied().unwrap_or(0)
    }

    /// The name, with the prefix of ustar.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = if self.dialect() == Dialect::Ustar { self.text(345, 155) } else { b"" };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(crate) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(crate) fn size(&self) -> Result<u64, Malformed> {
        u64::try_from(self.number(124, 12, "size")?).map_err(|_negative| Malformed::Field("size"))
    }

    pub(crate) fn mode(&self) -> Result<u32, Malformed> {
        // Some writers put the file type above the permissions; only these count.
        let mode = self.number(100, 8, "mode")? & 0o7777;
        u32::try_from(mode).map_err(|_impossible| Malformed::Field("mode"))
    }

    pub(crate) fn uid(&self) -> Result<i64, Malformed> {
        self.number(108, 8, "uid")
    }

    pub(crate) fn gid(&self) -> Result<i64, Malformed> {
        self.number(116, 8, "gid")
    }

    pub(crate) fn modified(&self) -> Result<i64, Malformed> {
        self.number(136, 12, "mtime")
    }

    pub(crate) fn device(&self) -> Result<(u32, u32), Malformed> {
        if self.dialect() == Dialect::V7 {
            return Ok((0, 0));
        }
        let part = |offset| {
            u32::try_from(self.number(offset, 8, "device number")?)
                .map_err(|_outside| Malformed::Field("device number"))
        };
        Ok((part(329)?, part(337)?))
    }

    /// The bytes of a field; the whole block is there, so an empty answer means a wrong constant here.
    pub(crate) fn field(&self, offset: usize, length: usize) -> &[u8] {
        self.bytes.get(offset..offset + length).unwrap_or_default()
    }

    fn text(&self, offset: usize, length: usize) -> &[u8] {
        let field = self.field(offset, length);
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        field.get(..end).unwrap_or_default()
    }

    fn number(&self, offset: usize, length: usize, what: &'static str) -> Result<i64, Malformed> {
        number(self.field(offset, length)).ok_or(Malformed::Field(what))
    }
}

/// Reads a number: octal digits within spaces and NULs, or base 256 if the first bit is set.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            // The first bit marks the notation and is not part of the number.
            let byte = match (index, negative) {
                (0, false) => byte & 0x7f,
                (0, true) => byte | 0x80,
                _ => *byte,
            };
            value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
            if index == 0 && negative {
                value = i64::from(byte.cast_signed());
            }
        }
        return Some(value);
    }
    let space = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !space(byte)).unwrap_or(field.len());
    let rest = field.get(start..)?;
    let end = rest.iter().position(space).unwrap_or(rest.len());
    let (digits, tail) = (rest.get(..end)?, rest.get(end..)?);
    // What follows a NUL is not part of the field.
    let tail = tail.split(|byte| *byte == 0).next()?;
    if !tail.iter().all(|byte| *byte == b' ') {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| {
        let digit = (b'0'..=b'7').contains(digit).then(|| i64::from(digit - b'0'))?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |field: &[u8], expect: Option<i64>| assert_eq!(number(field), expect, "{field:?}");
        check(b"0000644\0", Some(0o644));
        check(b"    644 ", Some(0o644));
        check(b"\0\0\0\0\0\0\0\0", Some(0));
        check(b"        ", Some(0));
        check(b"0000648\0", None);
        check(b"12 34567", None);
        check(b"777\0junk", Some(0o777));
        check(b"77777777777\0", Some(0o77_777_777_777));
        check(b"\x80\0\0\0\0\0\x01\0", Some(256));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1));
        check(b"\xff\xff\xff\xff\xff\xff\xff\x00", Some(-256));
        check(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None);
        check(b"", None);
    }

    #[test]
    fn checksums() {
        assert_eq!(Header::parse([7; BLOCK]).err(), Some(Malformed::Field("checksum")));
        let mut block = [0_u8; BLOCK];
        block[148..156].copy_from_slice(b"0000401\0");
        assert_eq!(Header::parse(block).err(), Some(Malformed::Checksum));
        block[148..156].copy_from_slice(b"0000400\0");
        assert!(Header::parse(block).is_ok());
    }
}
