//! Which facilities the running kernel lacks.

use crate::raw;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsopen};

/// Something that this kernel does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lack {
    /// A system call.
    #[error("the system call {name} (Linux {since})")]
    Call {
        /// Its name.
        name: &'static str,
        /// The version that brought it.
        since: &'static str,
    },
    /// A file system.
    #[error("the file system {name} (CONFIG_{option})")]
    FileSystem {
        /// Its name.
        name: &'static str,
        /// The kernel's build option.
        option: &'static str,
    },
}

/// Calls that containers are made with: name, number, version. Each refuses what `raw::knows` passes.
const CALLS: [(&str, libc::c_long, &str); 6] = [
    ("fsopen", libc::SYS_fsopen, "5.2"),
    ("open_tree", libc::SYS_open_tree, "5.2"),
    ("move_mount", libc::SYS_move_mount, "5.2"),
    ("pidfd_open", libc::SYS_pidfd_open, "5.3"),
    ("clone3", libc::SYS_clone3, "5.3"),
    ("mount_setattr", libc::SYS_mount_setattr, "5.12"),
];

const FILE_SYSTEMS: [(&str, &str); 3] =
    [("overlay", "OVERLAY_FS"), ("tmpfs", "TMPFS"), ("mqueue", "POSIX_MQUEUE")];

/// Returns what is missing of all that a container is made with. Needs `CAP_SYS_ADMIN` to see file systems.
pub fn lacking() -> Vec<Lack> {
    let calls = CALLS.iter().filter(|(_, number, _)| !raw::knows(*number));
    let mut lacking: Vec<Lack> = calls.map(|(name, _, since)| Lack::Call { name, since }).collect();
    let absent = |name: &str| matches!(fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC), Err(Errno::NODEV));
    let systems = FILE_SYSTEMS.iter().filter(|(name, _)| absent(name));
    lacking.extend(systems.map(|(name, option)| Lack::FileSystem { name, option }));
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_with_all_lacks_nothing() {
        assert_eq!(lacking(), []);
        // Numbers beyond any table are unknown.
        assert!(!raw::knows(100_000));
    }

    #[test]
    fn what_is_missing_is_named() {
        let call = Lack::Call { name: "fsopen", since: "5.2" };
        assert_eq!(call.to_string(), "the system call fsopen (Linux 5.2)");
    }
}
