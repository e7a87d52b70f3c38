//! `--security-opt`: what a container's security options ask for.

use crate::error::{Error, Result};

/// Which seccomp profile is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Seccomp {
    /// The daemon's default.
    #[default]
    Default,
    /// The engine's own for the container's capabilities.
    BuiltIn,
    /// None.
    Unconfined,
    /// The user's own, as a JSON document.
    Profile(String),
}

/// The options, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `no-new-privileges`; `None` leaves it to the daemon's default.
    pub(super) no_new_privileges: Option<bool>,
    /// `seccomp=…`.
    pub(super) seccomp: Seccomp,
    /// `apparmor=…`.
    pub(super) apparmor: Option<String>,
    /// `label=…`, without `disable`.
    pub(super) labels: Vec<String>,
    /// `writable-cgroups`.
    pub(super) writable_cgroups: bool,
}

/// Parses options as `KEY=VALUE` (or the old `KEY:VALUE`).
///
/// # Errors
///
/// `invalid --security-opt 2: …` for an unknown key or a bad boolean.
pub(super) fn parse(options: &[String]) -> Result<Options> {
    let mut parsed = Options::default();
    for option in options {
        if option == "no-new-privileges" {
            parsed.no_new_privileges = Some(true);
            continue;
        }
        if option == "writable-cgroups" {
            parsed.writable_cgroups = true;
            continue;
        }
        if option == "disable" {
            continue;
        }
        let Some((key, value)) = option.split_once('=').or_else(|| option.split_once(':')) else {
            return Err(Error::invalid(format!("invalid --security-opt 1: {option:?}")));
        };
        let boolean = || match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(Error::invalid(format!("invalid --security-opt 2: {option:?}"))),
        };
        match key {
            "label" if value == "disable" => {}
            "label" => parsed.labels.push(value.to_owned()),
            "apparmor" => parsed.apparmor = Some(value.to_owned()),
            "seccomp" => {
                parsed.seccomp = match value {
                    "unconfined" => Seccomp::Unconfined,
                    "builtin" => Seccomp::BuiltIn,
                    profile => Seccomp::Profile(profile.to_owned()),
                }
            }
            "no-new-privileges" => parsed.no_new_privileges = Some(boolean()?),
            "writable-cgroups" => parsed.writable_cgroups = boolean()?,
            // Go's %q prints as Debug does here.
            _ => return Err(Error::invalid(format!("invalid --security-opt 2: {option:?}"))),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_or_refused() {
        let one = |text: &str| parse(&[text.to_owned()]);
        assert_eq!(one("no-new-privileges").unwrap().no_new_privileges, Some(true));
        assert_eq!(one("no-new-privileges=false").unwrap().no_new_privileges, Some(false));
        assert_eq!(one("seccomp=unconfined").unwrap().seccomp, Seccomp::Unconfined);
        assert_eq!(one("seccomp:{}").unwrap().seccomp, Seccomp::Profile("{}".to_owned()));
        assert_eq!(one("bogus=1").unwrap_err().to_string(), "invalid --security-opt 2: \"bogus=1\"");
        assert_eq!(one("bogus").unwrap_err().to_string(), "invalid --security-opt 1: \"bogus\"");
    }
}
