//! Volume drivers that are other programs (Docker's volume plugin protocol): JSON posted to a socket of theirs.
//!
//! A plugin called NAME is found as `NAME.sock` or `NAME/NAME.sock` below `/run/docker/plugins`, or by the address in
//! `NAME.spec` (`unix:///…`, `tcp://…`) or `NAME.json` below `/etc/docker/plugins` or `/usr/lib/docker/plugins`. What it
//! mounts is bound onto the volume's own folder while the volume is used, so that all else is as for other volumes.

use crate::http::{self, Address};
use api::StringMap;
use base::paths::{PLUGIN_SOCKETS, PLUGIN_SPECIFICATIONS};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// How long a plugin may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A plugin that was found and speaks the protocol.
#[derive(Debug)]
pub(super) struct Plugin {
    name: String,
    address: Address,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Activated {
    implements: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Answer {
    mountpoint: String,
    capabilities: Capabilities,
    volume: Option<Told>,
    volumes: Option<Vec<Told>>,
    err: String,
}

/// What a plugin tells of a volume.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) mountpoint: String,
    pub(super) created_at: String,
    pub(super) status: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Capabilities {
    scope: String,
}

impl Plugin {
    /// Finds a plugin and asks whether it is a volume driver.
    ///
    /// # Errors
    ///
    /// `plugin "NAME" not found`, or why it cannot be used.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        let address = locate(name)?.ok_or_else(|| format!("plugin {name:?} not found"))?;
        let plugin = Self { name: name.to_owned(), address };
        let activated: Activated = plugin.post("Plugin.Activate", &json!({}))?;
        if !activated.implements.iter().any(|what| what == "VolumeDriver") {
            return Err(format!("plugin {name:?} does not implement \"VolumeDriver\""));
        }
        Ok(plugin)
    }

    /// Returns the volume drivers among the plugins that are there now.
    pub(super) fn all() -> Vec<Self> {
        let entries = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let sockets = entries(PLUGIN_SOCKETS);
        let mut names = BTreeSet::new();
        for entry in sockets.chain(PLUGIN_SPECIFICATIONS.into_iter().flat_map(entries)) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let stem = [".sock", ".spec", ".json"].iter().find_map(|ending| name.strip_suffix(ending));
            names.insert(stem.unwrap_or(&name).to_owned());
        }
        // Others may be there for networks or logs, or may be gone and have left their sockets.
        names.iter().filter_map(|name| Self::find(name).ok()).collect()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the plugin knows of a volume; `None` if there is no such volume.
    pub(super) fn get(&self, volume: &str) -> Option<Told> {
        // How a plugin says so is not laid down: any error means it.
        self.call("Get", &json!({"Name": volume})).ok()?.volume.filter(|told| told.name == volume)
    }

    /// Returns all volumes of the plugin.
    pub(super) fn list(&self) -> Result<Vec<Told>, String> {
        Ok(self.call("List", &json!({}))?.volumes.unwrap_or_default())
    }

    /// Makes a volume; one that there is already is left as it is.
    pub(super) fn create(&self, volume: &str, options: &StringMap) -> Result<(), String> {
        self.call("Create", &json!({"Name": volume, "Opts": options})).map(drop)
    }

    /// Removes a volume.
    pub(super) fn remove(&self, volume: &str) -> Result<(), String> {
        self.call("Remove", &json!({"Name": volume})).map(drop)
    }

    /// Has a volume at hand for `user`, and returns where.
    pub(super) fn mount(&self, volume: &str, user: &str) -> Result<PathBuf, String> {
        let place = self.call("Mount", &json!({"Name": volume, "ID": user}))?.mountpoint;
        match place.starts_with('/') {
            true => Ok(PathBuf::from(place)),
            false => {
                Err(format!("plugin {:?} named no place where volume {volume} is: {place:?}", self.name))
            }
        }
    }

    /// Says that `user` needs a volume no more.
    pub(super) fn unmount(&self, volume: &str, user: &str) -> Result<(), String> {
        self.call("Unmount", &json!({"Name": volume, "ID": user})).map(drop)
    }

    /// Returns where a volume is on this host; empty if nowhere now.
    pub(super) fn path(&self, volume: &str) -> Result<String, String> {
        Ok(self.call("Path", &json!({"Name": volume}))?.mountpoint)
    }

    /// Returns `global` if the volumes are the same on all hosts, and `local` if not or if it does not say.
    pub(super) fn scope(&self) -> String {
        match self.call("Capabilities", &json!({})).map(|answer| answer.capabilities.scope) {
            Ok(scope) if scope == "global" => scope,
            _ => "local".to_owned(),
        }
    }

    fn call(&self, method: &str, body: &serde_json::Value) -> Result<Answer, String> {
        let answer: Answer = self.post(&format!("VolumeDriver.{method}"), body)?;
        match answer.err.as_str() {
            "" => Ok(answer),
            error => Err(format!("VolumeDriver.{method}: {error}")),
        }
    }

    fn post<T: DeserializeOwned>(&self, method: &str, body: &serde_json::Value) -> Result<T, String> {
        let failed = |why: &dyn std::fmt::Display| format!("plugin {:?}: {method}: {why}", self.name);
        let (path, body) = (format!("/{method}"), body.to_string());
        let answer = http::post(&self.address, &path, MEDIA_TYPE, body, PATIENCE);
        let answer = answer.map_err(|error| failed(&error))?;
        // An error is in the document, where there is one.
        let document = serde_json::from_slice(&answer.body);
        match (answer.status, document) {
            (200, Ok(document)) => Ok(document),
            (200, Err(error)) => Err(failed(&error)),
            (status, _) => {
                let said = serde_json::from_slice::<Answer>(&answer.body).map(|answer| answer.err);
                let said =
                    said.unwrap_or_else(|_error| String::from_utf8_lossy(&answer.body).trim().to_owned());
                Err(failed(&format!("status {status}: {said}")))
            }
        }
    }
}

/// Returns the address of the plugin called `name`.
fn locate(name: &str) -> Result<Option<Address>, String> {
    if base::VolumeName::parse(name).is_none() {
        return Ok(None);
    }
    let sockets = Path::new(PLUGIN_SOCKETS);
    for socket in [sockets.join(format!("{name}.sock")), sockets.join(name).join(format!("{name}.sock"))] {
        if socket.exists() {
            return Ok(Some(Address::Unix(socket)));
        }
    }
    for folder in PLUGIN_SPECIFICATIONS {
        let read =
            |ending: &str| std::fs::read_to_string(Path::new(folder).join(format!("{name}.{ending}"))).ok();
        if let Some(text) = read("spec") {
            return address(text.trim()).map(Some);
        }
        if let Some(text) = read("json") {
            return described(&text).map(Some);
        }
    }
    Ok(None)
}

/// The files of a plugin's description that say how TLS is spoken to it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secured {
    #[serde(default)]
    insecure_skip_verify: bool,
    #[serde(default, rename = "CAFile")]
    authority: String,
    #[serde(default, rename = "CertFile")]
    certificate: String,
    #[serde(default, rename = "KeyFile")]
    key: String,
}

impl From<Secured> for tls::Client {
    fn from(given: Secured) -> Self {
        let file = |path: String| Some(path).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            authority: file(given.authority),
            identity: file(given.certificate).zip(file(given.key)),
            skip_verify: given.insecure_skip_verify,
        }
    }
}

fn described(text: &str) -> Result<Address, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Description {
        addr: String,
        #[serde(rename = "TLSConfig")]
        tls: Option<Secured>,
    }
    let found: Description =
        serde_json::from_str(text).map_err(|error| format!("description of a plugin: {error}"))?;
    Ok(match (address(&found.addr)?, found.tls) {
        // It is the configuration that makes a connection secure, whatever the address begins with.
        (Address::Tcp(host) | Address::Tls(host, _), Some(tls)) => Address::Tls(host, tls.into()),
        (address, _) => address,
    })
}

fn address(text: &str) -> Result<Address, String> {
    let of = |host: &str| host.trim_end_matches('/').to_owned();
    match text.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
        Some(("tcp" | "http", host)) if !host.is_empty() => Ok(Address::Tcp(of(host))),
        Some(("https", host)) if !host.is_empty() => Ok(Address::Tls(of(host), tls::Client::default())),
        _ => Err(format!("address of a plugin that cannot be used: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_plugins() {
        assert_eq!(address("unix:///run/x.sock"), Ok(Address::Unix("/run/x.sock".into())));
        assert_eq!(address("tcp://127.0.0.1:80"), Ok(Address::Tcp("127.0.0.1:80".into())));
        assert_eq!(described("{\"Name\": \"x\", \"Addr\": \"http://h:1\"}"), Ok(Address::Tcp("h:1".into())));
        for text in ["", "/run/x.sock", "unix://x", "ftp://h"] {
            assert!(address(text).is_err(), "{text}");
        }
        let files = tls::Client {
            authority: Some("/ca".into()),
            identity: Some(("/cert".into(), "/key".into())),
            skip_verify: false,
        };
        let given = "{\"CAFile\": \"/ca\", \"CertFile\": \"/cert\", \"KeyFile\": \"/key\"}";
        let text = format!("{{\"Addr\": \"https://h:1/\", \"TLSConfig\": {given}}}");
        assert_eq!(described(&text), Ok(Address::Tls("h:1".to_owned(), files)));
        assert_eq!(locate("../x"), Ok(None));
    }
}
