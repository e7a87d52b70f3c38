//! Maps of sparse files: where the data that is there belongs.

use super::Malformed;
use super::header::{BLOCK, Header, number};
use super::pax::{SparseRecords, decimal};

/// A map may have so many parts; each costs an entry in memory and a system call.
const MAX_PARTS: usize = 1 << 20;

/// The parts of a map: offset and length.
pub(crate) type Map = Vec<(u64, u64)>;

/// Takes the parts in the old GNU header (offset 386, four) or an extension block (offset 0, 21).
///
/// Says whether an extension block follows.
pub(crate) fn old_gnu(block: &Header, extension: bool, map: &mut Map) -> Result<bool, Malformed> {
    let (start, count, flag) = if extension { (0, 21, 504) } else { (386, 4, 482) };
    for index in 0..count {
        let part = block.field(start + index * 24, 24);
        let (offset, length) = part.split_at_checked(12).ok_or(Malformed::Sparse)?;
        if offset.first() == Some(&0) {
            break;
        }
        let value = |field: &[u8]| {
            number(field).and_then(|number| u64::try_from(number).ok()).ok_or(Malformed::Sparse)
        };
        map.push((value(offset)?, value(length)?));
    }
    if map.len() > MAX_PARTS {
        return Err(Malformed::Sparse);
    }
    Ok(block.field(flag, 1).first().is_some_and(|flag| *flag != 0))
}

/// The real size in an old GNU header.
pub(crate) fn old_gnu_size(block: &Header) -> Result<u64, Malformed> {
    number(block.field(483, 12)).and_then(|number| u64::try_from(number).ok()).ok_or(Malformed::Sparse)
}

/// Makes the map of PAX formats 0.0 and 0.1 from the records.
pub(crate) fn from_records(records: &SparseRecords) -> Result<Map, Malformed> {
    let blocks = records.blocks.and_then(|blocks| usize::try_from(blocks).ok());
    if !records.numbers.len().is_multiple_of(2) || blocks != Some(records.numbers.len() / 2) {
        return Err(Malformed::Sparse);
    }
    Ok(records.numbers.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect())
}

/// Reads the map of PAX format 1.0 from the beginning of the data; returns it and how many bytes of data it took.
///
/// `next` gives the next block.
pub(crate) fn from_data<E: From<Malformed>>(
    mut next: impl FnMut() -> Result<[u8; BLOCK], E>,
) -> Result<(Map, u64), E> {
    let mut blocks = 0_u64;
    let mut pending: Vec<u8> = Vec::new();
    let mut numbers: Vec<u64> = Vec::new();
    let mut wanted: Option<usize> = None;
    loop {
        if wanted.is_some_and(|wanted| numbers.len() >= wanted) {
            let map = numbers.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
            return Ok((map.collect(), blocks * BLOCK as u64));
        }
        pending.extend_from_slice(&next()?);
        blocks += 1;
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            let Some(end) = pending.iter().position(|byte| *byte == b'\n') else { break };
            let line: Vec<u8> = pending.drain(..=end).collect();
            let value = line.strip_suffix(b"\n").and_then(decimal);
            let value = value.and_then(|value| u64::try_from(value).ok()).ok_or(Malformed::Sparse)?;
            if wanted.is_some() {
                numbers.push(value);
                continue;
            }
            let parts = usize::try_from(value).ok().filter(|parts| *parts <= MAX_PARTS);
            wanted = Some(parts.ok_or(Malformed::Sparse)? * 2);
        }
        // A number has at most 20 digits; a block without a line end is not a map.
        if pending.len() > BLOCK {
            return Err(Malformed::Sparse.into());
        }
    }
}

/// Refuses a map whose parts overlap, go backwards or leave the file, or do not add up to the data.
pub(crate) fn check(map: &Map, real_size: u64, data_size: u64) -> Result<(), Malformed> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for (offset, length) in map {
        if *offset < end {
            return Err(Malformed::Sparse);
        }
        end = offset.checked_add(*length).ok_or(Malformed::Sparse)?;
        sum = sum.checked_add(*length).ok_or(Malformed::Sparse)?;
    }
    if end > real_size || sum != data_size { Err(Malformed::Sparse) } else { Ok(()) }
}
