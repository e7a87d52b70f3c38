//! `--security-opt`, `--log-opt`, `--storage-opt`, `--restart`, and the namespace modes.

use crate::values;
use api::StringMap;
use api::host_config::RestartPolicy;
use std::collections::BTreeSet;

/// What `--security-opt` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) options: Vec<String>,
    /// `systempaths=unconfined`: nothing is masked or read-only.
    pub(crate) open_paths: bool,
}

/// Reads `--security-opt`; a seccomp profile is replaced by what its file says, read by `read`.
pub(crate) fn security(
    texts: &[String],
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Security, String> {
    let mut security = Security::default();
    for text in texts {
        if text == "systempaths=unconfined" {
            security.open_paths = true;
            continue;
        }
        let (name, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some(pair) => pair,
            None if text == "no-new-privileges" => {
                security.options.push(text.clone());
                continue;
            }
            None => return Err(format!("Invalid --security-opt: {}", values::quote(text))),
        };
        if name != "seccomp" || matches!(value, "unconfined" | "builtin") {
            security.options.push(text.clone());
            continue;
        }
        let profile =
            read(value).map_err(|why| format!("opening seccomp profile ({value}) failed: {why}"))?;
        let profile: serde_json::Value = serde_json::from_str(&profile)
            .map_err(|error| format!("compacting json for seccomp profile ({value}) failed: {error}"))?;
        security.options.push(format!("seccomp={profile}"));
    }
    Ok(security)
}

/// The capabilities to add and to drop; `None` where nothing is asked for.
type Capabilities = (Option<Vec<String>>, Option<Vec<String>>);

/// Reads `--cap-add` and `--cap-drop`: full names, sorted; `ALL` swallows the others, adding beats dropping.
pub(crate) fn capabilities(add: &[String], drop: &[String]) -> Capabilities {
    let normal = |names: &[String]| -> BTreeSet<String> {
        let names = names.iter().map(|name| match name.trim().to_uppercase() {
            name if matches!(name.as_str(), "ALL" | "RESET") || name.starts_with("CAP_") => name,
            name => format!("CAP_{name}"),
        });
        let names: BTreeSet<String> = names.collect();
        if names.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { names }
    };
    let (add, drop) = (normal(add), normal(drop));
    let listed = |names: BTreeSet<String>| {
        Some(names.into_iter().filter(|name| name != "RESET").collect::<Vec<_>>())
            .filter(|names| !names.is_empty())
    };
    let drop = drop.difference(&add).cloned().collect();
    (listed(add), listed(drop))
}

/// Reads `--log-opt`.
pub(crate) fn log_options(driver: &str, texts: &[String]) -> Result<StringMap, String> {
    if driver == "none" && !texts.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(values::map(texts))
}

/// Reads `--storage-opt`.
pub(crate) fn storage_options(texts: &[String]) -> Result<StringMap, String> {
    if texts.iter().all(|text| text.contains('=')) {
        Ok(values::map(texts))
    } else {
        Err("invalid storage option".to_owned())
    }
}

/// Reads `--restart`: a name, and for `on-failure` how often.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    if text.is_empty() {
        return Ok(RestartPolicy::default());
    }
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let maximum_retry_count = match count {
        None => 0,
        Some(count) => count.parse().map_err(|_no_number| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// Says whether a mode of `--pid`, `--uts`, `--userns` or `--cgroupns` is one.
pub(crate) fn check_modes(pid: &str, uts: &str, userns: &str, cgroupns: &str) -> Result<(), String> {
    let of_container = pid.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    match () {
        () if !(matches!(pid, "" | "host") || of_container) => Err("--pid: invalid PID mode".to_owned()),
        () if !matches!(uts, "" | "host") => Err("--uts: invalid UTS mode".to_owned()),
        () if !matches!(userns, "" | "host") => Err("--userns: invalid USER mode".to_owned()),
        () if !matches!(cgroupns, "" | "host" | "private") => {
            Err("--cgroupns: invalid CGROUP mode".to_owned())
        }
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_and_compacted() {
        let texts = ["seccomp=/p.json", "no-new-privileges", "label:type:x", "systempaths=unconfined"];
        let texts = texts.map(str::to_owned);
        let parsed = security(&texts, |_| Ok("{ \"a\" : 1 }".to_owned())).unwrap();
        assert_eq!(parsed.options, ["seccomp={\"a\":1}", "no-new-privileges", "label:type:x"]);
        assert!(parsed.open_paths);
        let bad = security(&["x".to_owned()], |_| Err(String::new()));
        assert_eq!(bad, Err("Invalid --security-opt: \"x\"".to_owned()));
    }

    #[test]
    fn policies() {
        assert_eq!(restart_policy("on-failure:3").map(|policy| policy.maximum_retry_count), Ok(3));
        assert_eq!(restart_policy("always").map(|policy| policy.name), Ok("always".to_owned()));
        assert_eq!(
            restart_policy("a:b").unwrap_err(),
            "invalid restart policy format: maximum retry count must be an integer"
        );
        assert_eq!(check_modes("x", "", "", ""), Err("--pid: invalid PID mode".to_owned()));
        assert_eq!(check_modes("container:a", "host", "", "private"), Ok(()));
    }
}
