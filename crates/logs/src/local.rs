//! The `local` driver's records: a protobuf message (moby, *logdriver.LogEntry*) between two big-endian lengths.
//!
//! Fields: 1 source, 2 time in nanoseconds, 3 the line without its line feed, 4 partial. The length in front serves
//! reading forwards, the one behind reading backwards.

use crate::Stream;
use crate::file::Repair;
use base::Timestamp;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of one length.
pub(crate) const FRAME: usize = 4;

const SOURCE: u8 = 1 << 3 | 2;
const TIME: u8 = 2 << 3;
const LINE: u8 = 3 << 3 | 2;
const PARTIAL: u8 = 4 << 3;

/// A record of a `local` log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) stream: Stream,
    pub(crate) time: Timestamp,
    pub(crate) line: &'a [u8],
    pub(crate) partial: bool,
}

/// Appends a framed record.
pub(crate) fn encode(out: &mut Vec<u8>, record: &Record<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    let source = record.stream.as_str().as_bytes();
    out.push(SOURCE);
    varint(out, length(source.len()));
    out.extend_from_slice(source);
    out.push(TIME);
    varint(out, record.time.as_nanos().cast_unsigned());
    out.push(LINE);
    varint(out, length(record.line.len()));
    out.extend_from_slice(record.line);
    if record.partial {
        out.extend_from_slice(&[PARTIAL, 1]);
    }
    let body = out.len().saturating_sub(start + FRAME);
    let frame = u32::try_from(body).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(head) = out.get_mut(start..start + FRAME) {
        head.copy_from_slice(&frame);
    }
    out.extend_from_slice(&frame);
}

/// Decodes the message between the two lengths; `None` if it is not one.
pub(crate) fn decode(mut body: &[u8]) -> Option<Record<'_>> {
    let mut record =
        Record { stream: Stream::Stdout, time: Timestamp::from_nanos(0), line: &[], partial: false };
    while !body.is_empty() {
        let key = take_varint(&mut body)?;
        match (key >> 3, key & 7) {
            (1, 2) => {
                let source = take_bytes(&mut body)?;
                record.stream = if source == b"stderr" { Stream::Stderr } else { Stream::Stdout };
            }
            (2, 0) => record.time = Timestamp::from_nanos(take_varint(&mut body)?.cast_signed()),
            (3, 2) => record.line = take_bytes(&mut body)?,
            (4, 0) => record.partial = take_varint(&mut body)? != 0,
            (_, 0) => drop(take_varint(&mut body)?),
            (_, 2) => drop(take_bytes(&mut body)?),
            _ => return None,
        }
    }
    Some(record)
}

/// Reads one length.
pub(crate) fn frame(bytes: &[u8]) -> Option<usize> {
    let (head, _) = bytes.split_first_chunk::<FRAME>()?;
    usize::try_from(u32::from_be_bytes(*head)).ok()
}

/// Walks over the records of a file: a torn one at its end is cut off.
pub(crate) fn repair(file: &File) -> io::Result<Repair> {
    let size = file.metadata()?.len();
    let mut at = 0;
    let mut head = [0; FRAME];
    while at < size {
        let whole = match file.read_exact_at(&mut head, at) {
            Ok(()) => u64::from(u32::from_be_bytes(head)).saturating_add(length(2 * FRAME)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Repair::Truncate(at)),
            Err(error) => return Err(error),
        };
        if at.saturating_add(whole) > size {
            return Ok(Repair::Truncate(at));
        }
        at = at.saturating_add(whole);
    }
    Ok(Repair::None)
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "only the low seven bits are taken")]
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = usize::try_from(take_varint(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn decode_is_the_inverse_of_encode(nanos: i64, line: Vec<u8>, partial: bool, stderr: bool) {
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            proptest::prop_assume!(nanos != i64::MIN);
            let record = Record { stream, time: Timestamp::from_nanos(nanos), line: &line, partial };
            let mut out = Vec::new();
            encode(&mut out, &record);
            let size = frame(&out).unwrap();
            proptest::prop_assert_eq!(size, out.len() - 2 * FRAME);
            proptest::prop_assert_eq!(frame(&out[FRAME + size..]), Some(size));
            proptest::prop_assert_eq!(decode(&out[FRAME..FRAME + size]), Some(record));
        }

        #[test]
        fn no_bytes_make_it_fail(bytes: Vec<u8>) {
            std::hint::black_box(decode(&bytes));
        }
    }
}
