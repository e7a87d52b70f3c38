//! Memory of this process that is not needed for now.

use crate::{Error, Result};
use rustix::io::Errno;
use std::ffi::c_void;
use std::path::Path;

/// Lets go of the program's own code and constants; what is used again comes back from the page cache.
///
/// For a process that has done much at its start and then mostly sleeps: what stays mapped is what it uses when it wakes
/// up. Only mappings that are backed by a file, cannot be written and have no page of their own (no relocation was
/// made in them) are let go of, so that what comes back is what was there.
///
/// # Errors
///
/// Those of reading `/proc/self/smaps` and of madvise(2).
pub fn release_program() -> Result<()> {
    let maps = crate::path::read_to_end(Path::new("/proc/self/smaps"))?;
    for (start, end) in unchanged(&String::from_utf8_lossy(&maps)) {
        let length = end.saturating_sub(start);
        // SAFETY: the range is a private mapping of a file that nobody can write to and none of whose pages were changed, so
        // its contents are the same after MADV_DONTNEED; no reference into it can see a difference.
        let result = unsafe {
            libc::madvise(std::ptr::without_provenance_mut::<c_void>(start), length, libc::MADV_DONTNEED)
        };
        if result != 0 {
            let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
            return Err(Error::new("madvise", "program", errno));
        }
    }
    Ok(())
}

/// Finds the mappings that are as their files are: read-only, private, of a file, without anonymous pages.
fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(range) = header(line) {
            candidate = range;
        } else if let Some(kilobytes) = line.strip_prefix("Anonymous:") {
            let changed = kilobytes.trim().strip_suffix(" kB").is_none_or(|count| count != "0");
            found.extend(candidate.take().filter(|_| !changed));
        }
    }
    found
}

/// Reads the first line of a mapping; the inner value is the range of one that may be let go of.
fn header(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let range = usize::from_str_radix(start, 16).ok().zip(usize::from_str_radix(end, 16).ok())?;
    let (permissions, _offset, _device, inode) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some((matches!(permissions, "r-xp" | "r--p") && inode != "0").then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
00400000-00401000 r--p 00000000 fe:00 57 /x
Rss:                   4 kB
Anonymous:             0 kB
00401000-00500000 r-xp 00001000 fe:00 57 /x
Anonymous:             0 kB
VmFlags: rd ex
00500000-00510000 r--p 00100000 fe:00 57 /x
Anonymous:             8 kB
00510000-00520000 rw-p 00110000 fe:00 57 /x
Anonymous:             0 kB
7ff000000000-7ff000001000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_in_the_file_is_let_go_of() {
        assert_eq!(unchanged(SMAPS), [(0x40_0000, 0x40_1000), (0x40_1000, 0x50_0000)]);
    }

    #[test]
    fn the_program_goes_on() {
        release_program().unwrap();
        assert_eq!(format!("{:?}", std::thread::current().name().is_some()), "true");
    }
}
