//! Which capabilities a container gets (compat with dockerd's `--cap-add` and `--cap-drop`).

use crate::error::{Error, Result};

/// Every capability, in the kernel's order (linux/capability.h; kernel ≥ 5.9 has all 41).
pub(super) const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container gets that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Returns the names in the kernel's spelling; `ALL` stays `ALL`.
///
/// # Errors
///
/// `invalid CapAdd: unknown capability: "CAP_X"`, with `list` naming the option.
pub(super) fn normalize(list: &str, names: &[String]) -> Result<Vec<String>> {
    names
        .iter()
        .map(|name| {
            let upper = name.trim().to_uppercase();
            if upper == "ALL" {
                return Ok(upper);
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if ALL.contains(&full.as_str()) {
                Ok(full)
            } else {
                Err(Error::invalid(format!("invalid {list}: unknown capability: \"{full}\"")))
            }
        })
        .collect()
}

/// Returns the capability set for what was asked. `available` is what the daemon itself has, the most it can give.
///
/// # Errors
///
/// Fails for a name that is not a capability.
pub(super) fn grant(
    add: &[String],
    drop: &[String],
    privileged: bool,
    available: &[&str],
) -> Result<Vec<String>> {
    let (add, drop) = (normalize("CapAdd", add)?, normalize("CapDrop", drop)?);
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    if privileged {
        return Ok(available.iter().map(|name| (*name).to_owned()).collect());
    }
    let (all_added, all_dropped) = (has(&add, "ALL"), has(&drop, "ALL"));
    let wanted = |name: &str| {
        if all_added {
            !has(&drop, name)
        } else if all_dropped {
            has(&add, name)
        } else {
            has(&add, name) || (DEFAULT.contains(&name) && !has(&drop, name))
        }
    };
    Ok(ALL
        .iter()
        .filter(|name| wanted(name))
        // Asking for ALL means all there is; a single one that the host lacks is refused by the kernel, by name.
        .filter(|name| !all_added || available.contains(name))
        .map(|name| (*name).to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expect: usize, has: &[&str], lacks: &[&str]) {
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let granted = grant(&own(add), &own(drop), false, &ALL).unwrap();
        assert_eq!(granted.len(), expect, "{add:?} {drop:?}");
        assert!(has.iter().all(|name| granted.iter().any(|granted| granted == name)));
        assert!(!lacks.iter().any(|name| granted.iter().any(|granted| granted == name)));
    }

    #[test]
    fn add_and_drop_combine_as_in_docker() {
        check(&[], &[], 14, &["CAP_KILL"], &["CAP_SYS_ADMIN"]);
        check(&["sys_admin"], &["CAP_KILL"], 14, &["CAP_SYS_ADMIN"], &["CAP_KILL"]);
        check(&["ALL"], &["net_raw"], 40, &["CAP_BPF"], &["CAP_NET_RAW"]);
        check(&["net_raw"], &["all"], 1, &["CAP_NET_RAW"], &[]);
        let error = grant(&["bogus".to_owned()], &[], false, &ALL).unwrap_err();
        assert_eq!(error.to_string(), "invalid CapAdd: unknown capability: \"CAP_BOGUS\"");
    }
}
