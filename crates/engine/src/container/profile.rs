//! A user's own seccomp profile (`--security-opt seccomp=FILE`): Docker's JSON form → runtime-spec.
//!
//! The form differs from runtime-spec's in `archMap` and in per-rule conditions (`includes`, `excludes`) on
//! architectures, capabilities and the kernel's version; rules whose conditions do not hold are left out.

use crate::error::{Error, Result};
use oci::runtime::{Action, Argument, Seccomp, Syscall};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Map>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Map {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Parses a profile and applies its conditions for this host and the capabilities `granted`.
///
/// # Errors
///
/// `Decoding seccomp profile failed: …` for what is not a profile.
pub(super) fn parse(text: &str, granted: &[String]) -> Result<Seccomp> {
    let failed = |why: String| Error::invalid(format!("Decoding seccomp profile failed: {why}"));
    let profile: Profile = serde_json::from_str(text).map_err(|error| failed(error.to_string()))?;
    if profile.architectures.is_some() && profile.arch_map.is_some() {
        return Err(failed(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either one"
                .to_owned(),
        ));
    }
    let (native, arch) = match std::env::consts::ARCH {
        "aarch64" => ("SCMP_ARCH_AARCH64", "arm64"),
        _ => ("SCMP_ARCH_X86_64", "amd64"),
    };
    let mut architectures = profile.architectures.unwrap_or_default();
    for map in profile.arch_map.into_iter().flatten().filter(|map| map.architecture == native) {
        architectures.push(map.architecture);
        architectures.extend(map.sub_architectures.into_iter().flatten());
    }
    let mut syscalls = Vec::new();
    for rule in profile.syscalls.into_iter().flatten() {
        if rule.name.is_some() && rule.names.is_some() {
            return Err(failed(
                "both 'name' and 'names' are specified in the seccomp profile, use either one".to_owned(),
            ));
        }
        let included = rule.includes.as_ref().is_none_or(|condition| condition.holds(arch, granted));
        let excluded = rule.excludes.as_ref().is_some_and(|condition| condition.excludes(arch, granted));
        if included && !excluded {
            syscalls.push(Syscall {
                names: rule.names.or_else(|| rule.name.map(|name| vec![name])).unwrap_or_default(),
                action: rule.action,
                errno_ret: rule.errno_ret,
                args: rule.args.unwrap_or_default(),
            });
        }
    }
    Ok(Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags.unwrap_or_default(),
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    })
}

impl Condition {
    /// As `includes`: every named condition holds.
    fn holds(&self, arch: &str, granted: &[String]) -> bool {
        self.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(|name| name == arch))
            && self.caps.iter().flatten().all(|name| granted.contains(name))
            && self.min_kernel.as_deref().is_none_or(kernel_is_at_least)
    }

    /// As `excludes`: any named condition holds.
    fn excludes(&self, arch: &str, granted: &[String]) -> bool {
        self.arches.iter().flatten().any(|name| name == arch)
            || self.caps.iter().flatten().any(|name| granted.contains(name))
            || self.min_kernel.as_deref().is_some_and(kernel_is_at_least)
    }
}

fn kernel_is_at_least(wanted: &str) -> bool {
    let numbers = |text: &str| {
        let mut parts = text.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    numbers(&release) >= numbers(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_choose_rules() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
            {"architecture":"SCMP_ARCH_AARCH64"}],"syscalls":[
            {"names":["a"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["b"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"name":"c","action":"SCMP_ACT_ALLOW","includes":{"minKernel":"2.6"}}]}"#;
        let names = |granted: &[String]| -> Vec<String> {
            parse(text, granted).unwrap().syscalls.into_iter().flat_map(|rule| rule.names).collect()
        };
        assert_eq!(names(&[]), ["b", "c"]);
        assert_eq!(names(&["CAP_SYS_ADMIN".to_owned()]), ["a", "c"]);
        assert!(parse("{}", &[]).unwrap_err().to_string().starts_with("Decoding seccomp profile failed"));
    }
}
