//! The runtime-spec of a container: a pure function of its record and the host's facts.
//!
//! runtime-spec config.md and config-linux.md; the defaults are dockerd's (masked paths, devices, sysctls, mounts).

mod linux;
mod mounts;
mod resources;

pub(super) use linux::{cgroup_path, masked, read_only};
pub(super) use resources::{host_devices, resources};

use super::capabilities;
use super::record::Container;
use super::security;
use crate::error::Result;
use api::host_config::ULIMITS;
use oci::runtime::{Capabilities, ConsoleSize, IdMap, Process, Rlimit, Root, Spec, User};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The search path of a container that names none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the executable is bound that plays init (`--init`); Docker's name, since scripts look for it.
pub(super) const INIT: &str = "/sbin/docker-init";

/// What the host and the daemon's configuration say.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of host and daemon")]
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Whether control groups are version 2 alone.
    pub(super) unified: bool,
    /// Capabilities the daemon has and so can give.
    pub(super) available: Vec<String>,
    /// Default of `no_new_privs`.
    pub(super) no_new_privileges: bool,
    /// Default seccomp profile.
    pub(super) seccomp: security::Seccomp,
    /// Default of `--init`.
    pub(super) init: bool,
    /// The executable to bind at [`INIT`].
    pub(super) executable: PathBuf,
    /// Default resource limits: name to soft and hard.
    pub(super) ulimits: BTreeMap<String, (i64, i64)>,
    /// Default size of `/dev/shm` in bytes.
    pub(super) shm_size: u64,
    /// Parent of the container's control group.
    pub(super) cgroup_parent: String,
    /// Whether that is a slice, and systemd makes the control group.
    pub(super) systemd_cgroups: bool,
    /// Folder with `hosts`, `hostname` and `resolv.conf`.
    pub(super) files: PathBuf,
    /// The layers of images that are mounted, topmost first, by where they are mounted.
    pub(super) views: BTreeMap<String, Vec<PathBuf>>,
    /// How identifiers are mapped; `None`: they are the host's.
    pub(super) owners: Option<IdMap>,
    /// The places of mounts whose files lie as the container sees them.
    pub(super) owned: BTreeSet<String>,
    /// Variables of links.
    pub(super) link_variables: Vec<String>,
    /// Namespaces of other containers to join: kind and path.
    pub(super) joined: Vec<(oci::runtime::NamespaceKind, String)>,
    /// The host's devices, for privileged containers: path, kind, numbers, mode.
    pub(super) devices: Vec<oci::runtime::Device>,
    /// Existing `thermal_throttle` folders, which are masked.
    pub(super) thermal: Vec<String>,
    /// The default hostname: the container's short ID.
    pub(super) hostname: String,
    /// Whether the host has `AppArmor`.
    pub(super) apparmor: bool,
    /// What devices by name need.
    pub(super) device_edits: Vec<oci::cdi::Edits>,
}

/// Returns the spec of `container`.
///
/// # Errors
///
/// Fails for options that name something unknown (capability, device, security option, resource limit).
pub(super) fn spec(container: &Container, facts: &Facts) -> Result<Spec> {
    let options = security::parse(container.host.security_opt.as_deref().unwrap_or_default())?;
    let granted = granted(container, facts)?;
    let mut spec = Spec {
        oci_version: oci::runtime::VERSION.to_owned(),
        process: Some(init(container, facts, &options, &granted)?),
        root: Some(Root { path: "rootfs".to_owned(), readonly: container.host.readonly_rootfs }),
        hostname: (!is_host(&container.host.uts_mode)).then(|| hostname(container, facts)),
        domainname: Some(container.config.domainname.clone()).filter(|name| !name.is_empty()),
        mounts: mounts::mounts(container, facts, &options),
        hooks: None,
        annotations: container.host.annotations.clone(),
        linux: Some(linux::linux(container, facts, &options, &granted)?),
    };
    for edits in &facts.device_edits {
        edits.apply(&mut spec);
    }
    Ok(spec)
}

/// Returns the capabilities the container gets.
///
/// # Errors
///
/// Fails for a name that is not a capability.
pub(super) fn granted(container: &Container, facts: &Facts) -> Result<Vec<String>> {
    let host = &container.host;
    let available: Vec<&str> = facts.available.iter().map(String::as_str).collect();
    capabilities::grant(
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
        host.privileged,
        &available,
    )
}

/// Returns the hostname inside.
pub(super) fn hostname(container: &Container, facts: &Facts) -> String {
    if container.config.hostname.is_empty() {
        facts.hostname.clone()
    } else {
        container.config.hostname.clone()
    }
}

/// Says whether the container's first process is our init.
pub(super) fn wants_init(container: &Container, facts: &Facts) -> bool {
    container.host.init.unwrap_or(facts.init) && container.host.pid_mode.is_empty()
}

fn is_host(mode: &str) -> bool {
    mode == "host"
}

/// Returns the container's process alone, which further ones take after.
///
/// # Errors
///
/// As [`spec`], for what concerns a process.
pub(super) fn process(container: &Container, facts: &Facts) -> Result<Process> {
    let options = security::parse(container.host.security_opt.as_deref().unwrap_or_default())?;
    init(container, facts, &options, &granted(container, facts)?)
}

fn init(
    container: &Container,
    facts: &Facts,
    options: &security::Options,
    granted: &[String],
) -> Result<Process> {
    let config = &container.config;
    let mut args: Vec<String> = Vec::new();
    if wants_init(container, facts) {
        args.extend([INIT.to_owned(), "--".to_owned()]);
    }
    args.extend(config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned());
    let [height, width] = container.host.console_size;
    Ok(Process {
        terminal: config.tty,
        console_size: (height > 0 && width > 0).then_some(ConsoleSize { height, width }),
        // The runtime resolves names in the container's own files, as the user of the launch.
        user: User::default(),
        args,
        env: environment(container, facts),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
        capabilities: Some(capability_sets(granted)),
        rlimits: rlimits(container, facts)?,
        no_new_privileges: options.no_new_privileges.unwrap_or(facts.no_new_privileges),
        // As dockerd, what names a profile is passed over where there is no AppArmor.
        apparmor_profile: options.apparmor.clone().filter(|_| facts.apparmor),
        oom_score_adj: i32::try_from(container.host.oom_score_adj).ok().filter(|score| *score != 0),
        ..Process::default()
    })
}

/// Returns the sets of the init: inheritable and ambient stay empty (CVE-2022-24769).
pub(super) fn capability_sets(granted: &[String]) -> Capabilities {
    Capabilities {
        bounding: granted.to_vec(),
        effective: granted.to_vec(),
        permitted: granted.to_vec(),
        ..Capabilities::default()
    }
}

/// Returns the variables in Docker's order: PATH, HOSTNAME, TERM, links, then what was asked (later ones win).
pub(super) fn environment(container: &Container, facts: &Facts) -> Vec<String> {
    let mut variables = vec![PATH.to_owned(), format!("HOSTNAME={}", hostname(container, facts))];
    if container.config.tty {
        variables.push("TERM=xterm".to_owned());
    }
    variables.extend(facts.link_variables.iter().cloned());
    override_variables(&mut variables, container.config.env.as_deref().unwrap_or_default());
    variables
}

/// Sets `changes` in `variables`; a change without `=` removes the variable.
pub(super) fn override_variables(variables: &mut Vec<String>, changes: &[String]) {
    for change in changes {
        let (name, given) = match change.split_once('=') {
            Some((name, _)) => (name, true),
            None => (change.as_str(), false),
        };
        let place = variables.iter().position(|old| old.split('=').next() == Some(name));
        match (place.and_then(|place| variables.get_mut(place)), given) {
            (Some(old), true) => old.clone_from(change),
            (None, true) => variables.push(change.clone()),
            (Some(_), false) => variables.retain(|old| old.split('=').next() != Some(name)),
            (None, false) => {}
        }
    }
}

fn rlimits(container: &Container, facts: &Facts) -> Result<Vec<Rlimit>> {
    let mut wanted = facts.ulimits.clone();
    for limit in container.host.resources.ulimits.iter().flatten() {
        wanted.insert(limit.name.clone(), (limit.soft, limit.hard));
    }
    let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    wanted
        .into_iter()
        .map(|(name, (soft, hard))| {
            if ULIMITS.contains(&name.as_str()) {
                let kind = format!("RLIMIT_{}", name.to_uppercase());
                Ok(Rlimit { kind, soft: value(soft), hard: value(hard) })
            } else {
                Err(crate::Error::invalid(format!("invalid ulimit type: {name}")))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_variables_win_and_bare_names_remove() {
        let mut variables = vec!["A=1".to_owned(), "B=2".to_owned()];
        override_variables(&mut variables, &["B=3".to_owned(), "C=4".to_owned(), "A".to_owned()]);
        assert_eq!(variables, ["B=3", "C=4"]);
    }
}
