//! The codes of a deflate block (RFC 1951, 3.2), in both directions.

use super::bits;
use std::io::{self, Read, Write};

/// A code has at most so many bits.
const LONGEST: u32 = 15;
/// The order in which lengths of the code for code lengths come (RFC 1951, 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The symbol that ends a block.
const END: u16 = 256;
/// What stands for a match, from this symbol on: its shortest length, and how many further bits tell the rest.
const LENGTHS: [(u16, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
/// The same for distances.
const DISTANCES: [(u16, u32); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

/// What a block is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// A byte; which one, the plain text says.
    Literal,
    /// Bytes that were there before.
    Match {
        /// How many.
        length: u16,
        /// How far back.
        distance: u16,
    },
}

/// A token with its byte, or the end of the block.
pub(super) enum Symbol {
    Byte(u8),
    Match { length: u16, distance: u16 },
    End,
}

/// One code.
#[derive(Default)]
struct Code {
    /// By symbol: the bits, lowest first, and how many.
    bits: Vec<(u16, u32)>,
    /// By the next bits of the stream: symbol and length of its code; length 0 is no code.
    table: Vec<(u16, u32)>,
    width: u32,
}

impl Code {
    /// Makes the code with these lengths. Codes that leave bits unused are as good (Go writes them), too many are not.
    fn new(lengths: &[u8]) -> io::Result<Self> {
        let mut next = [0_u32; 17];
        for length in lengths.iter().filter(|length| **length > 0) {
            if let Some(count) = next.get_mut(usize::from(*length) + 1) {
                *count += 1;
            }
        }
        let mut code = 0;
        let width = lengths.iter().copied().max().map_or(0, u32::from);
        for (bits, slot) in (0_u32..).zip(next.iter_mut()).skip(1) {
            // The slot has how many codes are one bit shorter than its index.
            code = (code + *slot) << 1;
            *slot = code;
            if bits <= LONGEST && code > (1 << bits) {
                return Err(invalid("too many codes"));
            }
        }
        let mut made =
            Self { bits: Vec::with_capacity(lengths.len()), table: vec![(0, 0); 1 << width], width };
        for (symbol, length) in (0_u16..).zip(lengths) {
            let bits = u32::from(*length);
            let Some(slot) = next.get_mut(usize::from(*length)).filter(|_| bits > 0) else {
                made.bits.push((0, 0));
                continue;
            };
            let number = u16::try_from(*slot).map_err(|_overflow| invalid("too many codes"))?;
            *slot += 1;
            if u32::from(number) >= 1 << bits {
                return Err(invalid("too many codes"));
            }
            let reversed = number.reverse_bits() >> (16 - bits);
            made.bits.push((reversed, bits));
            for entry in made.table.iter_mut().skip(usize::from(reversed)).step_by(1 << bits) {
                *entry = (symbol, bits);
            }
        }
        Ok(made)
    }

    fn read<R: Read>(&self, from: &mut bits::Reader<R>) -> io::Result<u16> {
        let index = usize::try_from(from.peek(self.width)?).unwrap_or(0);
        match self.table.get(index) {
            Some((symbol, bits @ 1..)) => {
                from.take(*bits)?;
                Ok(*symbol)
            }
            _ => Err(invalid("bits that are no code")),
        }
    }

    fn write<W: Write>(&self, to: &mut bits::Writer<W>, symbol: u16) -> io::Result<()> {
        match self.bits.get(usize::from(symbol)) {
            Some((code, bits @ 1..)) => to.put(u32::from(*code), *bits),
            _ => Err(invalid("a symbol without a code")),
        }
    }
}

/// The codes of a block.
pub(super) struct Codes {
    literals: Code,
    distances: Code,
}

impl Codes {
    /// The codes that need no description (RFC 1951, 3.2.6).
    pub(super) fn fixed() -> io::Result<Self> {
        let lengths: Vec<u8> = [(8, 144), (9, 112), (7, 24), (8, 8)]
            .iter()
            .flat_map(|(length, count)| vec![*length; *count])
            .collect();
        Ok(Self { literals: Code::new(&lengths)?, distances: Code::new(&[5; 30])? })
    }

    /// Reads the description of codes and copies its bits to `copy`.
    pub(super) fn described<R: Read, W: Write>(
        from: &mut bits::Reader<R>,
        copy: &mut bits::Writer<W>,
    ) -> io::Result<Self> {
        let mut get = |from: &mut bits::Reader<R>, bits| {
            let value = from.get(bits)?;
            copy.put(value, bits)?;
            io::Result::Ok(value)
        };
        let literals = usize::try_from(get(from, 5)? + 257).unwrap_or(0);
        let distances = usize::try_from(get(from, 5)? + 1).unwrap_or(0);
        let count = usize::try_from(get(from, 4)? + 4).unwrap_or(0);
        let mut short = [0_u8; 19];
        for place in ORDER.iter().take(count) {
            if let Some(length) = short.get_mut(*place) {
                *length = get(from, 3)?.to_le_bytes()[0];
            }
        }
        let short = Code::new(&short)?;
        let mut lengths: Vec<u8> = Vec::with_capacity(literals + distances);
        while lengths.len() < literals + distances {
            let symbol = short.read(from)?;
            let (code, bits) = short.bits.get(usize::from(symbol)).copied().unwrap_or_default();
            copy.put(u32::from(code), bits)?;
            let mut get = |bits| {
                let value = from.get(bits)?;
                copy.put(value, bits)?;
                io::Result::Ok(value)
            };
            let (value, times) = match symbol {
                16 => (*lengths.last().ok_or_else(|| invalid("nothing to repeat"))?, get(2)? + 3),
                17 => (0, get(3)? + 3),
                18 => (0, get(7)? + 11),
                length => (length.to_le_bytes()[0], 1),
            };
            lengths.extend((0..times).map(|_| value));
        }
        match lengths.split_at_checked(literals) {
            Some((first, second)) if second.len() == distances => {
                Ok(Self { literals: Code::new(first)?, distances: Code::new(second)? })
            }
            _ => Err(invalid("too many code lengths")),
        }
    }

    pub(super) fn read<R: Read>(&self, from: &mut bits::Reader<R>) -> io::Result<Symbol> {
        let symbol = self.literals.read(from)?;
        if symbol < END {
            return Ok(Symbol::Byte(symbol.to_le_bytes()[0]));
        }
        if symbol == END {
            return Ok(Symbol::End);
        }
        let index = usize::from(symbol - END - 1);
        let (base, bits) = *LENGTHS.get(index).ok_or_else(|| invalid("no such length"))?;
        let length = base + u16::try_from(from.get(bits)?).unwrap_or(0);
        if length == 258 && index != LENGTHS.len() - 1 {
            // There are two ways to say it, of which the writer knows one.
            return Err(invalid("an unusual code for 258"));
        }
        let symbol = self.distances.read(from)?;
        let (base, bits) = *DISTANCES.get(usize::from(symbol)).ok_or_else(|| invalid("no such distance"))?;
        Ok(Symbol::Match { length, distance: base + u16::try_from(from.get(bits)?).unwrap_or(0) })
    }

    pub(super) fn write<W: Write>(&self, to: &mut bits::Writer<W>, symbol: &Symbol) -> io::Result<()> {
        let (length, distance) = match symbol {
            Symbol::Byte(byte) => return self.literals.write(to, u16::from(*byte)),
            Symbol::End => return self.literals.write(to, END),
            Symbol::Match { length, distance } => (*length, *distance),
        };
        let (index, base, bits) = find(&LENGTHS, length)?;
        self.literals.write(to, END + 1 + index)?;
        to.put(u32::from(length - base), bits)?;
        let (index, base, bits) = find(&DISTANCES, distance)?;
        self.distances.write(to, index)?;
        to.put(u32::from(distance - base), bits)
    }
}

/// Finds the last entry that is not beyond `value`.
fn find(table: &[(u16, u32)], value: u16) -> io::Result<(u16, u16, u32)> {
    let index = table.partition_point(|(base, _)| *base <= value);
    let index = index.checked_sub(1).ok_or_else(|| invalid("nothing is that short"))?;
    let (base, bits) = table.get(index).copied().unwrap_or_default();
    Ok((u16::try_from(index).unwrap_or(0), base, bits))
}

pub(super) fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_specification() {
        // RFC 1951, 3.2.2: lengths (3, 3, 3, 3, 3, 2, 4, 4) give 010 … 00, 1110, 1111.
        let code = Code::new(&[3, 3, 3, 3, 3, 2, 4, 4]).unwrap();
        let bits: Vec<String> = code
            .bits
            .iter()
            .map(|(code, bits)| (0..*bits).map(|bit| if code >> bit & 1 == 1 { '1' } else { '0' }).collect())
            .collect();
        assert_eq!(bits, ["010", "011", "100", "101", "110", "00", "1110", "1111"]);
        assert!(Code::new(&[1, 1, 1]).is_err());
        assert!(Code::new(&[0, 1, 0]).is_ok(), "one code alone");
        assert!(Code::new(&[0, 0]).is_ok(), "none at all");
    }

    #[test]
    fn every_length_and_distance_survives() {
        let codes = Codes::fixed().unwrap();
        let mut writer = bits::Writer::new(Vec::new());
        let matches = || {
            (3..=258)
                .map(|length| (length, 1))
                .chain((1..=32768_u16).step_by(7).map(|distance| (3, distance)))
        };
        for (length, distance) in matches() {
            codes.write(&mut writer, &Symbol::Match { length, distance }).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = bits::Reader::new(bytes.as_slice());
        for expected in matches() {
            let Symbol::Match { length, distance } = codes.read(&mut reader).unwrap() else { panic!() };
            assert_eq!((length, distance), expected);
        }
    }
}
