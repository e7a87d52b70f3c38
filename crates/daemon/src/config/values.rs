//! Single values of the configuration: sizes, limits, addresses, files, versions. Pure.

use super::parse::Given;
use super::resolve::{HostFacts, ValueError, error};
use api::ApiVersion;
use base::size::{self, Multiple};
use network::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;

/// The parent of containers' control groups, as dockerd has it.
const DEFAULT_CGROUP_PARENT: &str = "/docker";

pub(super) fn level(text: &str) -> Result<tracing::Level, ValueError> {
    match text {
        "trace" => Ok(tracing::Level::TRACE),
        "debug" => Ok(tracing::Level::DEBUG),
        "info" => Ok(tracing::Level::INFO),
        "warn" | "warning" => Ok(tracing::Level::WARN),
        "error" | "fatal" | "panic" => Ok(tracing::Level::ERROR),
        other => error(format!("invalid logging level: {other}")),
    }
}

pub(super) fn ip(name: &str, text: &str) -> Result<IpAddr, ValueError> {
    text.trim().parse().or_else(|_| error(format!("invalid IP address for {name}: {text}")))
}

pub(super) fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

pub(super) fn cgroup_parent(text: &str) -> Result<String, ValueError> {
    if text.is_empty() {
        return Ok(DEFAULT_CGROUP_PARENT.to_owned());
    }
    if text.split('/').any(|part| part == "..") {
        return error(format!("invalid cgroup-parent: {text}"));
    }
    Ok(format!("/{}", text.trim_matches('/')))
}

/// `base=172.80.0.0/16,size=24`.
pub(super) fn address_pool(text: &str) -> Result<(IpNet, u8), ValueError> {
    let (mut base, mut size) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("base", value)) => base = value.parse::<IpNet>().ok(),
            Some(("size", value)) => size = value.parse::<u8>().ok(),
            _ => return error(format!("unexpected key in default-address-pool: {field}")),
        }
    }
    match (base, size) {
        (Some(base), Some(size)) if size >= base.prefix() => Ok((base, size)),
        _ => error(format!("invalid default-address-pool: {text}")),
    }
}

/// `nofile=1024:2048` or `nofile=1024`.
pub(super) fn ulimit(text: &str) -> Result<(String, (i64, i64)), ValueError> {
    let wrong = || ValueError(format!("invalid ulimit argument: {text}"));
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (soft.parse().map_err(|_not| wrong())?, hard.parse().map_err(|_not| wrong())?);
    if hard != -1 && soft > hard {
        return error(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok((name.to_owned(), (soft, hard)))
}

/// Reads a size of memory or disk, in units of 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    size::parse(text.trim(), Multiple::Binary).ok().and_then(|bytes| u64::try_from(bytes).ok())
}

/// Checks a mirror's address and ends it with a slash (moby, *registry.ValidateMirror*).
pub(super) fn mirror(text: &str) -> Result<String, ValueError> {
    let trimmed = text.trim_end_matches('/');
    let Some((scheme, rest)) = trimmed.split_once("://") else {
        return error(format!(
            "invalid mirror: no scheme specified for {text:?}: must use either 'https://' or 'http://'"
        ));
    };
    if !matches!(scheme, "http" | "https") {
        return error(format!(
            "invalid mirror: unsupported scheme {scheme:?} in {text:?}: must use either 'https://' or 'http://'"
        ));
    }
    if rest.contains(['?', '#']) {
        return error(format!("invalid mirror: query or fragment at end of the URI {text:?}"));
    }
    Ok(format!("{trimmed}/"))
}

/// A file or folder; `None` if nothing is said.
pub(super) fn file(given: &Given, name: &str) -> Option<PathBuf> {
    given.last(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Where CDI's devices are described (moby: `/etc/cdi`, `/var/run/cdi`); nowhere if the feature is off.
pub(super) fn cdi_folders(given: &Given) -> Vec<PathBuf> {
    if given.all("feature").iter().any(|feature| feature == "cdi=false") {
        return Vec::new();
    }
    match given.all("cdi-spec-dir") {
        [] => ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
        folders => folders.iter().filter(|folder| !folder.is_empty()).map(PathBuf::from).collect(),
    }
}

/// The file wins over the environment, as in dockerd.
pub(super) fn oldest_api(given: &Given, facts: &HostFacts) -> Result<ApiVersion, ValueError> {
    let asked = given.last("min-api-version").map(str::to_owned).or_else(|| facts.oldest_api.clone());
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return Ok(ApiVersion::MIN) };
    match asked.parse::<ApiVersion>() {
        Ok(version) if version < ApiVersion::MIN => {
            error(format!("minimum supported API version is {}: {asked}", ApiVersion::MIN))
        }
        Ok(version) if version > ApiVersion::MAX => {
            error(format!("maximum supported API version is {}: {asked}", ApiVersion::MAX))
        }
        Ok(version) => Ok(version),
        Err(_not) => error(format!("invalid minimum API version: {asked}")),
    }
}
