//! Bits as deflate packs them (RFC 1951, 3.1.1): the lowest first.

use std::io::{self, Read, Write};

const BUFFER: usize = 64 * 1024;

/// Takes bits from a stream of bytes.
pub(super) struct Reader<R> {
    from: R,
    buffer: Vec<u8>,
    position: usize,
    held: u64,
    count: u32,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), position: 0, held: 0, count: 0 }
    }

    /// Holds at least 32 bits, unless the stream ends before.
    fn refill(&mut self) -> io::Result<()> {
        while self.count <= 32 {
            let Some(byte) = self.buffer.get(self.position) else {
                self.buffer.resize(BUFFER, 0);
                self.position = 0;
                let length = read(&mut self.from, &mut self.buffer)?;
                self.buffer.truncate(length);
                if length == 0 {
                    return Ok(());
                }
                continue;
            };
            self.held |= u64::from(*byte) << self.count;
            self.count += 8;
            self.position += 1;
        }
        Ok(())
    }

    /// Returns the next bits, at most 32, without taking them; zeros stand for those behind the end.
    pub(super) fn peek(&mut self, bits: u32) -> io::Result<u32> {
        if self.count < bits {
            self.refill()?;
        }
        Ok(u32::try_from(self.held & ((1 << bits) - 1)).unwrap_or(0))
    }

    /// Takes bits that were peeked at.
    pub(super) fn take(&mut self, bits: u32) -> io::Result<()> {
        if self.count < bits {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.held >>= bits;
        self.count -= bits;
        Ok(())
    }

    /// Takes the next bits, at most 32.
    pub(super) fn get(&mut self, bits: u32) -> io::Result<u32> {
        let value = self.peek(bits)?;
        self.take(bits)?;
        Ok(value)
    }

    /// Takes the rest of the present byte.
    pub(super) fn align(&mut self) -> io::Result<u32> {
        self.get(self.count % 8)
    }

    /// Takes a whole byte.
    pub(super) fn byte(&mut self) -> io::Result<u8> {
        Ok(self.get(8)?.to_le_bytes()[0])
    }

    /// Says whether nothing is left.
    pub(super) fn at_end(&mut self) -> io::Result<bool> {
        if self.count == 0 {
            self.refill()?;
        }
        Ok(self.count == 0)
    }
}

fn read(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Puts bits into a stream of bytes.
pub(super) struct Writer<W> {
    to: W,
    held: u64,
    count: u32,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, held: 0, count: 0 }
    }

    /// Puts the lowest `bits` (at most 32) of `value`.
    pub(super) fn put(&mut self, value: u32, bits: u32) -> io::Result<()> {
        self.held |= u64::from(value) << self.count;
        self.count += bits;
        if self.count >= 32 {
            let low = u32::try_from(self.held & u64::from(u32::MAX)).unwrap_or(0);
            self.to.write_all(&low.to_le_bytes())?;
            self.held >>= 32;
            self.count -= 32;
        }
        Ok(())
    }

    /// Fills the present byte up with `value`.
    pub(super) fn align(&mut self, value: u32) -> io::Result<()> {
        self.put(value, (8 - self.count % 8) % 8)
    }

    /// Puts whole bytes; call it only at the beginning of one.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        while self.count > 0 {
            self.to.write_all(&[self.held.to_le_bytes()[0]])?;
            self.held >>= 8;
            self.count = self.count.saturating_sub(8);
        }
        self.to.write_all(bytes)
    }

    /// Returns the stream; an unfinished byte is filled up with zeros.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.bytes(&[])?;
        Ok(self.to)
    }
}

/// Writes a number in as few bytes as it needs, seven bits each.
pub(super) fn put_number(to: &mut impl Write, mut number: u64) -> io::Result<()> {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return to.write_all(&[low]);
        }
        to.write_all(&[low | 0x80])?;
    }
}

/// Reads what [`put_number`] wrote.
pub(super) fn get_number(from: &mut impl Read) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        number |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_got(values in proptest::collection::vec((any::<u32>(), 0..=32_u32), 0..200)) {
            let cut = |value: u32, bits: u32| u32::try_from(u64::from(value) & ((1 << bits) - 1)).unwrap();
            let mut writer = Writer::new(Vec::new());
            for (value, bits) in &values {
                writer.put(cut(*value, *bits), *bits).unwrap();
            }
            let bytes = writer.finish().unwrap();
            let mut reader = Reader::new(bytes.as_slice());
            for (value, bits) in &values {
                prop_assert_eq!(reader.get(*bits).unwrap(), cut(*value, *bits));
            }
        }

        #[test]
        fn numbers(number: u64) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number).unwrap();
            prop_assert_eq!(get_number(&mut bytes.as_slice()).unwrap(), number);
        }
    }

    #[test]
    fn the_end_is_seen() {
        let mut reader = Reader::new(&[0xff_u8][..]);
        assert_eq!(reader.get(3).unwrap(), 7);
        assert_eq!(reader.peek(15).unwrap(), 31);
        assert!(reader.take(6).is_err());
        assert_eq!(reader.align().unwrap(), 31);
        assert!(reader.at_end().unwrap());
        assert!(reader.byte().is_err());
    }
}
