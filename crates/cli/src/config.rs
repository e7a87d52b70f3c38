//! The user's `config.json` (`~/.docker`, or `--config`, or `DOCKER_CONFIG`), shared with Docker's own client.

use api::StringMap;
use api::registry::AuthConfig;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The key of Docker Hub's credentials.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// The parts of the file that are used here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ConfigFile {
    pub(crate) auths: BTreeMap<String, AuthConfig>,
    pub(crate) ps_format: String,
    pub(crate) images_format: String,
    pub(crate) networks_format: String,
    pub(crate) volumes_format: String,
    pub(crate) stats_format: String,
    pub(crate) detach_keys: String,
    pub(crate) current_context: String,
    pub(crate) creds_store: String,
    pub(crate) cred_helpers: StringMap,
    pub(crate) prune_filters: Vec<String>,
    pub(crate) proxies: BTreeMap<String, Proxy>,
}

/// Proxies that containers get as environment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Proxy {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

impl ConfigFile {
    /// Reads the file in `directory`; a missing or damaged one counts as empty.
    pub(crate) fn load(directory: &Path) -> Self {
        std::fs::read(directory.join("config.json"))
            .ok()
            .and_then(|bytes| api::decode(&bytes).ok())
            .unwrap_or_default()
    }

    /// Returns the header that carries the credentials for the registry of a reference, base64 of JSON.
    pub(crate) fn auth_header(&self, domain: &str) -> String {
        let credentials = self.credentials(domain);
        URL_SAFE.encode(serde_json::to_vec(&credentials).unwrap_or_default())
    }

    /// Returns the value of `X-Registry-Config`: the credentials for all registries.
    pub(crate) fn all_auth_header(&self) -> String {
        URL_SAFE.encode(serde_json::to_vec(&self.all_credentials()).unwrap_or_default())
    }

    /// Returns the credentials for all registries that the file names, by the file's keys.
    fn all_credentials(&self) -> BTreeMap<String, AuthConfig> {
        let keys = self.auths.keys().chain(self.cred_helpers.keys());
        keys.map(|key| (key.clone(), self.stored(key))).collect()
    }

    /// Returns the helper program that keeps the credentials of a server.
    pub(crate) fn helper_for(&self, server: &str) -> Option<&str> {
        let helper = self.cred_helpers.get(server).unwrap_or(&self.creds_store);
        Some(helper.as_str()).filter(|helper| !helper.is_empty())
    }

    fn credentials(&self, domain: &str) -> AuthConfig {
        self.stored(if domain == "docker.io" { HUB } else { domain })
    }

    /// Returns the credentials that are kept for a server.
    pub(crate) fn stored(&self, server: &str) -> AuthConfig {
        if let Some(found) = self.helper_for(server).and_then(|helper| from_helper(helper, server)) {
            return found;
        }
        let Some(stored) = self.auths.iter().find(|(key, _)| *key == server || bare(key) == server) else {
            return AuthConfig::default();
        };
        let mut found = stored.1.clone();
        if let Some((username, password)) = decoded(&found.auth) {
            (found.username, found.password) = (username, password);
            found.auth.clear();
        }
        server.clone_into(&mut found.serveraddress);
        found
    }

    /// Returns the environment that containers get for the proxies of this engine.
    pub(crate) fn proxy_environment(&self, host: &str) -> Vec<(String, String)> {
        let Some(proxy) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else {
            return Vec::new();
        };
        let values = [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("NO_PROXY", &proxy.no_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
        ];
        let set = values.into_iter().filter(|(_, value)| !value.is_empty());
        set.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value.clone())])
            .collect()
    }
}

/// Returns the host of a key that old clients wrote as an URL.
fn bare(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or_default()
}

fn decoded(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Asks a helper for the credentials of a server; it answers JSON.
fn from_helper(name: &str, server: &str) -> Option<AuthConfig> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let output = helper(name, "get", server.as_bytes())?;
    let answer: Answer = api::decode(&output).ok()?;
    let mut found = AuthConfig { serveraddress: server.to_owned(), ..AuthConfig::default() };
    if answer.username == "<token>" {
        found.identitytoken = answer.secret;
    } else {
        (found.username, found.password) = (answer.username, answer.secret);
    }
    Some(found)
}

/// Runs `docker-credential-NAME ACTION`, which takes its subject on its input; `None` if it fails.
pub(crate) fn helper(name: &str, action: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(input).ok()?;
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}
