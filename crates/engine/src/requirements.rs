//! What the engine cannot do without, looked for before anything is touched, so that the reason is told plainly.

use crate::error::{Error, Result};
use base::Kind;
use sys::capability::Set;

/// Capabilities without which no container can be made, and what for.
const CAPABILITIES: [(&str, &str); 6] = [
    ("CAP_SYS_ADMIN", "to make namespaces and mounts"),
    ("CAP_NET_ADMIN", "to make networks"),
    ("CAP_CHOWN", "to unpack images"),
    ("CAP_DAC_OVERRIDE", "to unpack images"),
    ("CAP_MKNOD", "to make devices"),
    ("CAP_SYS_CHROOT", "to enter a container's root"),
];

/// What this process and its kernel have.
#[derive(Debug)]
struct Facts {
    root: bool,
    capabilities: Set,
    kernel: String,
    lacking: Vec<String>,
}

/// Checks that the engine can work here as this user.
///
/// # Errors
///
/// Says everything that is missing.
pub fn check() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    judge(&Facts {
        root,
        capabilities: sys::capability::current().map_or(Set::default(), |sets| sets.effective),
        kernel: kernel.trim().to_owned(),
        // Asked by root alone: others may not see.
        lacking: if root {
            sys::kernel::lacking().iter().map(ToString::to_string).collect()
        } else {
            Vec::new()
        },
    })
}

fn judge(facts: &Facts) -> Result<()> {
    let refused = |message: String| Err(Error::known(Kind::NotImplemented, message));
    if !facts.root {
        return refused("the daemon needs to be started with root privileges".to_owned());
    }
    let missing = |name: &str| Set::parse(name).is_some_and(|one| !facts.capabilities.contains(one));
    let capabilities: Vec<String> = CAPABILITIES
        .iter()
        .filter(|(name, _)| missing(name))
        .map(|(name, purpose)| format!("{name} ({purpose})"))
        .collect();
    if !capabilities.is_empty() {
        return refused(format!("the daemon lacks {}", capabilities.join(", ")));
    }
    if !facts.lacking.is_empty() {
        return refused(format!("the kernel ({}) lacks {}", facts.kernel, facts.lacking.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_missing_is_named() {
        let all =
            CAPABILITIES.iter().fold(Set::default(), |all, (name, _)| all.union(Set::parse(name).unwrap()));
        let facts = |root, capabilities, lacking: &[&str]| Facts {
            root,
            capabilities,
            kernel: "5.1.0".to_owned(),
            lacking: lacking.iter().map(|text| (*text).to_owned()).collect(),
        };
        let message = |facts: &Facts| judge(facts).map_err(|error| error.to_string());
        assert_eq!(message(&facts(true, all, &[])), Ok(()));
        assert_eq!(
            message(&facts(false, all, &[])).unwrap_err(),
            "the daemon needs to be started with root privileges"
        );
        assert_eq!(
            message(&facts(true, Set::parse("CAP_SYS_ADMIN").unwrap(), &[])).unwrap_err().split(',').count(),
            5
        );
        assert_eq!(
            message(&facts(true, all, &["one", "two"])).unwrap_err(),
            "the kernel (5.1.0) lacks one, two"
        );
    }
}
