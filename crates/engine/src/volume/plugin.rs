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
    err: String,
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

fn described(text: &str) -> Result<Address, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Description {
        addr: String,
        #[serde(rename = "TLSConfig")]
        tls: Option<serde_json::Value>,
    }
    let found: Description =
        serde_json::from_str(text).map_err(|error| format!("description of a plugin: {error}"))?;
    if found.tls.is_some_and(|tls| !tls.is_null()) {
        return Err("plugins that are spoken to over TLS are not supported".to_owned());
    }
    address(&found.addr)
}

fn address(text: &str) -> Result<Address, String> {
    match text.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
        Some(("tcp" | "http", host)) if !host.is_empty() => {
            Ok(Address::Tcp(host.trim_end_matches('/').to_owned()))
        }
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
        for text in ["", "/run/x.sock", "unix://x", "https://h"] {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(described("{\"Addr\": \"tcp://h:1\", \"TLSConfig\": {}}").is_err());
        assert_eq!(locate("../x"), Ok(None));
    }
}
