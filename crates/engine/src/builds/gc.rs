//! How much of the build cache stays: limits by size, age and free space, and the rules of daemon.json (`builder.gc`).
//!
//! Pure, but for asking the file system how large it is. Rules are applied in turn, each to what the ones before left,
//! as in `BuildKit`; after each build and at the daemon's start, in the background.

use api::filters::Filters;
use std::time::Duration;

/// A size on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the file system.
    Percent(u8),
}

/// How much may stay; nothing said means that nothing stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// So much always stays.
    pub reserved: Option<Space>,
    /// More than this never stays, unless it is reserved.
    pub max_used: Option<Space>,
    /// So much of the file system is to be free.
    pub min_free: Option<Space>,
}

/// A rule of the collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Whether results go that images have, too.
    pub all: bool,
    /// What it is about; everything if empty.
    pub filters: Filters,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// How much stays.
    pub limits: Limits,
}

/// The file system that the cache is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) size: u64,
    pub(super) free: u64,
}

impl Disk {
    pub(super) fn of(path: &std::path::Path) -> Result<Self, rustix::io::Errno> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Self {
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

impl Space {
    fn bytes(self, disk: Disk) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => disk.size / 100 * u64::from(percent),
        }
    }
}

impl Limits {
    /// Returns how many bytes may stay of a cache of `total` bytes; 0 for nothing.
    pub(super) fn keep(&self, total: u64, disk: Disk) -> u64 {
        let bytes = |space: Option<Space>| space.map(|space| space.bytes(disk)).filter(|bytes| *bytes > 0);
        let excess = bytes(self.min_free).map(|wanted| wanted.saturating_sub(disk.free));
        let for_free = excess.map(|excess| total.saturating_sub(excess));
        let most = match (bytes(self.max_used), for_free) {
            (Some(used), Some(free)) => Some(used.min(free)),
            (used, free) => used.or(free),
        };
        // A reserve alone is what stays (`--keep-storage`).
        most.unwrap_or(0).max(bytes(self.reserved).unwrap_or(0))
    }
}

/// The rules unless daemon.json has its own; dockerd's.
pub fn default_rules(limits: Limits) -> Vec<Rule> {
    const DAY: u64 = 24 * 60 * 60;
    let limits = Limits {
        reserved: limits.reserved.or(Some(Space::Percent(10))),
        max_used: limits.max_used.or(Some(Space::Percent(75))),
        min_free: limits.min_free.or(Some(Space::Percent(20))),
    };
    let mut easy = Filters::default();
    for kind in ["source.local", "exec.cachemount", "source.git.checkout"] {
        easy.add("type", kind);
    }
    let half = Limits { reserved: Some(Space::Bytes(512_000_000)), ..Limits::default() };
    vec![
        // What is easily had again, first.
        Rule { filters: easy, unused_for: Some(Duration::from_secs(2 * DAY)), limits: half, all: false },
        Rule { unused_for: Some(Duration::from_secs(60 * DAY)), limits, ..Rule::default() },
        Rule { limits, ..Rule::default() },
        Rule { all: true, limits, ..Rule::default() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_say_how_much_stays() {
        let disk = Disk { size: 1000, free: 100 };
        let bytes = |bytes| Some(Space::Bytes(bytes));
        for (limits, expect) in [
            (Limits::default(), 0),
            (Limits { reserved: bytes(50), ..Limits::default() }, 50),
            (Limits { max_used: bytes(300), ..Limits::default() }, 300),
            (Limits { max_used: Some(Space::Percent(20)), ..Limits::default() }, 200),
            // 60 more are to be free: of 400, 340 stay.
            (Limits { min_free: bytes(160), ..Limits::default() }, 340),
            (Limits { min_free: bytes(90), ..Limits::default() }, 400),
            (Limits { min_free: bytes(160), max_used: bytes(300), ..Limits::default() }, 300),
            (Limits { min_free: bytes(900), reserved: bytes(70), ..Limits::default() }, 70),
            (Limits { min_free: bytes(160), reserved: bytes(370), max_used: bytes(380) }, 370),
        ] {
            assert_eq!(limits.keep(400, disk), expect, "{limits:?}");
        }
    }

    #[test]
    fn defaults_fill_what_is_not_said() {
        let rules = default_rules(Limits { reserved: Some(Space::Bytes(7)), ..Limits::default() });
        assert_eq!(rules.len(), 4);
        assert_eq!(rules[3].limits.reserved, Some(Space::Bytes(7)));
        assert_eq!(rules[3].limits.max_used, Some(Space::Percent(75)));
        assert!(rules[3].all && !rules[2].all);
    }
}
