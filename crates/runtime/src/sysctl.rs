//! Kernel parameters: only those that belong to one of the container's own namespaces.

use crate::Error;
use oci::runtime::{Linux, NamespaceKind};
use std::path::PathBuf;

const IPC: [&str; 7] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Returns the file of a parameter beneath `/proc`, if the container may have its own value.
///
/// # Errors
///
/// [`Error::Spec`] for what would change the host, or is no name at all.
pub(crate) fn file(key: &str, linux: &Linux) -> Result<PathBuf, Error> {
    let own = |kind| linux.namespaces.iter().any(|namespace| namespace.kind == kind);
    // Both forms are in use; whichever separator comes first decides (sysctl(8)).
    let first = key.find(['.', '/']).and_then(|place| key.get(place..=place));
    let (dotted, path) = match first {
        Some("/") => (swap(key), key.to_owned()),
        _ => (key.to_owned(), swap(key)),
    };
    let clean = |part: &str| !part.is_empty() && part != "." && part != "..";
    let named = !key.contains(['\0', '\n']) && path.split('/').all(clean);
    let namespaced = if IPC.contains(&dotted.as_str())
        || dotted == "kernel.shm_rmid_forced"
        || dotted.starts_with("fs.mqueue.")
    {
        own(NamespaceKind::Ipc)
    } else if dotted.starts_with("net.") {
        own(NamespaceKind::Network)
    } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
        own(NamespaceKind::Uts)
    } else if dotted.starts_with("user.") {
        own(NamespaceKind::User)
    } else {
        false
    };
    if !named || !namespaced {
        return Err(Error::Spec(format!("sysctl {key:?} is not in a separate kernel namespace")));
    }
    Ok(PathBuf::from("sys").join(path))
}

fn swap(key: &str) -> String {
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swapped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::Namespace;

    #[test]
    fn only_namespaced_parameters_are_allowed() {
        let linux = Linux {
            namespaces: vec![Namespace::new(NamespaceKind::Ipc), Namespace::new(NamespaceKind::Network)],
            ..Linux::default()
        };
        for (key, expect) in [
            ("net.ipv4.ip_forward", Some("sys/net/ipv4/ip_forward")),
            ("net/ipv4/conf/eth0.1/forwarding", Some("sys/net/ipv4/conf/eth0.1/forwarding")),
            ("net.ipv4.conf.eth0/1.forwarding", Some("sys/net/ipv4/conf/eth0.1/forwarding")),
            ("kernel.msgmax", Some("sys/kernel/msgmax")),
            ("fs.mqueue.msg_max", Some("sys/fs/mqueue/msg_max")),
            ("kernel.domainname", None),
            ("kernel.core_pattern", None),
            ("vm.swappiness", None),
            ("net/../kernel/core_pattern", None),
            ("net.ipv4.x\nkernel.core_pattern", None),
            ("", None),
        ] {
            assert_eq!(file(key, &linux).ok(), expect.map(PathBuf::from), "{key:?}");
        }
        assert!(file("net.ipv4.ip_forward", &Linux::default()).is_err());
    }
}
