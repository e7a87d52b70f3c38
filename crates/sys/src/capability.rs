//! Capabilities (capabilities(7)): names, sets, and dropping them.

use crate::raw;
use rustix::io::Errno;

/// Names by number, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The highest capability this program knows.
pub const LAST: u8 = 40;

/// A set of capabilities: bit N is capability N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set(pub u64);

impl Set {
    /// All that this program knows.
    pub const ALL: Self = Self((1 << (LAST as u64 + 1)) - 1);

    /// Parses one name, with or without `CAP_`, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES.iter().position(|known| *known == short).map(|number| Self(1 << number))
    }

    /// Says whether all of `other` is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns what is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns what is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the names, with `CAP_`, in the kernel's order.
    pub fn names(self) -> Vec<String> {
        let known = NAMES.iter().enumerate();
        known.filter(|(number, _)| self.0 >> number & 1 == 1).map(|(_, name)| format!("CAP_{name}")).collect()
    }
}

/// The three sets of capset(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sets {
    /// In force now.
    pub effective: Set,
    /// What may be put in force.
    pub permitted: Set,
    /// What exec may keep.
    pub inheritable: Set,
}

/// Returns this thread's sets. Allocates nothing.
///
/// # Errors
///
/// Those of capget(2).
pub fn current() -> Result<Sets, Errno> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(Sets {
        effective: Set(sets.effective.bits()),
        permitted: Set(sets.permitted.bits()),
        inheritable: Set(sets.inheritable.bits()),
    })
}

/// Sets this thread's sets. Allocates nothing.
///
/// # Errors
///
/// `PERM` for what is not permitted now.
pub fn set(sets: Sets) -> Result<(), Errno> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(sets.effective.0),
            permitted: CapabilitySet::from_bits_retain(sets.permitted.0),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable.0),
        },
    )
}

/// Drops from the bounding set all that is not in `keep`. Allocates nothing; needs `CAP_SETPCAP`.
///
/// # Errors
///
/// Those of prctl(2).
pub fn limit_bounding(keep: Set) -> Result<(), Errno> {
    for number in 0..64_u64 {
        if keep.0 >> number & 1 == 1 {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes a number.
        match unsafe { raw::prctl(libc::PR_CAPBSET_DROP, number, 0, 0) } {
            Ok(_) => {}
            // The first number the kernel does not know ends the list.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Returns the bounding set of this thread: what a container may be given at most.
pub fn bounding() -> Set {
    let mut set = Set::default();
    for number in 0..=u64::from(LAST) {
        // SAFETY: PR_CAPBSET_READ takes a number.
        if unsafe { raw::prctl(libc::PR_CAPBSET_READ, number, 0, 0) } == Ok(1) {
            set.0 |= 1 << number;
        }
    }
    set
}

/// Makes the ambient set exactly `wanted`; what is not both permitted and inheritable is left out, as runc does. Allocates nothing.
///
/// # Errors
///
/// Those of prctl(2) but `PERM`.
pub fn set_ambient(wanted: Set) -> Result<(), Errno> {
    const RAISE: u64 = 2;
    const CLEAR_ALL: u64 = 4;
    // SAFETY: numbers only.
    unsafe { raw::prctl(libc::PR_CAP_AMBIENT, CLEAR_ALL, 0, 0) }?;
    for number in 0..=u64::from(LAST) {
        if wanted.0 >> number & 1 == 0 {
            continue;
        }
        // SAFETY: numbers only.
        match unsafe { raw::prctl(libc::PR_CAP_AMBIENT, RAISE, number, 0) } {
            Ok(_) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits() {
        for (name, bit) in [
            ("CAP_CHOWN", Some(0)),
            ("sys_admin", Some(21)),
            ("Cap_Checkpoint_Restore", Some(40)),
            ("NOPE", None),
        ] {
            assert_eq!(Set::parse(name), bit.map(|bit| Set(1 << bit)), "{name}");
        }
        assert_eq!(Set(0b1_0000_0001).names(), ["CAP_CHOWN", "CAP_SETPCAP"]);
        assert_eq!(Set::ALL.names().len(), 41);
        assert!(Set::ALL.contains(bounding()));
    }
}
