//! The contexts on disk, in the layout of Docker's client: below the configuration directory,
//! `contexts/meta/HASH/meta.json` and `contexts/tls/HASH/docker/*.pem`, HASH the SHA-256 of the name.

use crate::error::{Error, Result, reason};
use client::{Host, Tls};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The context that is always there: the socket that flags and the environment name.
pub(crate) const DEFAULT: &str = "default";
/// The endpoint that contexts have.
const ENDPOINT: &str = "docker";
/// The files of TLS that a context may have.
pub(crate) const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// TLS files: name → content.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// A context as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
}

/// What a context says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    #[serde(rename = "Description", skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// What others have put there.
    #[serde(flatten)]
    pub(crate) others: BTreeMap<String, Value>,
}

/// Where an engine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    #[serde(rename = "Host", skip_serializing_if = "String::is_empty")]
    pub(crate) host: String,
    #[serde(rename = "SkipTLSVerify")]
    pub(crate) skip_tls_verify: bool,
}

impl Meta {
    /// Returns where the context's engine is.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoints.get(ENDPOINT).cloned().unwrap_or_default()
    }

    /// Makes a context of a name, a description and an endpoint.
    pub(crate) fn new(name: &str, description: &str, endpoint: Endpoint) -> Self {
        Self {
            name: name.to_owned(),
            metadata: Metadata { description: description.to_owned(), others: BTreeMap::new() },
            endpoints: BTreeMap::from([(ENDPOINT.to_owned(), endpoint)]),
        }
    }
}

/// The contexts of a configuration directory.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(config_dir: &Path) -> Self {
        Self { root: config_dir.join("contexts") }
    }

    pub(crate) fn meta_folder(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(hash(name))
    }

    pub(crate) fn tls_folder(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(hash(name))
    }

    /// Returns the context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Meta> {
        let path = self.meta_folder(name).join("meta.json");
        let text = std::fs::read(&path).map_err(|error| {
            let missing = if error.kind() == ErrorKind::NotFound { "context not found: " } else { "" };
            Error::message(format!("context {name:?}: {missing}open {}: {}", path.display(), reason(&error)))
        })?;
        api::decode(&text)
            .map_err(|error| Error::message(format!("context {name:?}: parsing {}: {error}", path.display())))
    }

    /// Says whether there is a context of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.meta_folder(name).is_dir()
    }

    /// Returns all contexts, by name.
    pub(crate) fn list(&self) -> Vec<Meta> {
        let folders = std::fs::read_dir(self.root.join("meta")).into_iter().flatten().flatten();
        let texts = folders.filter_map(|folder| std::fs::read(folder.path().join("meta.json")).ok());
        let mut all: Vec<Meta> = texts.filter_map(|text| api::decode(&text).ok()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Writes a context.
    pub(crate) fn put(&self, meta: &Meta) -> Result<()> {
        let text = serde_json::to_vec(meta).unwrap_or_default();
        write(&self.meta_folder(&meta.name).join("meta.json"), &text)
    }

    /// Replaces the TLS files of a context: name → content.
    pub(crate) fn put_tls(&self, name: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
        remove(&self.tls_folder(name))?;
        for (file, content) in files {
            write(&self.tls_folder(name).join(ENDPOINT).join(file), content)?;
        }
        Ok(())
    }

    /// Returns the TLS files that a context has: name → content.
    pub(crate) fn tls_files(&self, name: &str) -> Files {
        let folder = self.tls_folder(name).join(ENDPOINT);
        let read = |file: &&str| Some(((*file).to_owned(), std::fs::read(folder.join(file)).ok()?));
        TLS_FILES.iter().filter_map(read).collect()
    }

    /// Removes a context with its TLS files.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        remove(&self.meta_folder(name))?;
        remove(&self.tls_folder(name))
    }

    /// Returns the address of a context's engine.
    pub(crate) fn host(&self, name: &str) -> Result<Host> {
        let endpoint = self.get(name)?.endpoint();
        let folder = self.tls_folder(name).join(ENDPOINT);
        let file = |file: &str| Some(folder.join(file)).filter(|path| path.is_file());
        let tls = Tls {
            authority: file("ca.pem"),
            identity: file("cert.pem").zip(file("key.pem")),
            skip_verify: endpoint.skip_tls_verify,
        };
        let secured = tls != Tls::default();
        Ok(Host::parse(&endpoint.host, secured.then_some(&tls))?)
    }
}

fn hash(name: &str) -> String {
    Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let shown = path.display().to_string();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::file("mkdir", folder.display().to_string()))?;
    }
    std::fs::write(path, content).map_err(Error::file("open", shown))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("remove", folder.display().to_string())(error))
        }
        _ => Ok(()),
    }
}

/// Checks the name of a new context.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::message("context name cannot be empty"));
    }
    if name == DEFAULT {
        return Err(Error::message("\"default\" is a reserved context name"));
    }
    let follows = |sign: char| sign.is_ascii_alphanumeric() || "_.+-".contains(sign);
    let mut signs = name.chars();
    let valid = signs.next().is_some_and(|first| first.is_ascii_alphanumeric());
    if valid && name.len() > 1 && signs.all(follows) {
        return Ok(());
    }
    Err(Error::message(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_dockers() {
        let endpoint = Endpoint { host: "tcp://h:1".to_owned(), skip_tls_verify: false };
        let text = serde_json::to_string(&Meta::new("foo", "", endpoint)).unwrap();
        let expect = r#"{"Name":"foo","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":false}}}"#;
        assert_eq!(text, expect);
        assert_eq!(hash("foo"), "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae");
        assert!(["a b", "a", "-ab", "default", ""].iter().all(|name| check_name(name).is_err()));
        assert!(check_name("a.b+c-1").is_ok());
    }
}
