//! The body that Wharf's own command line sends: what a query cannot carry, then the contexts.
//!
//! ```text
//! eight bytes, big-endian: the length of the document
//! the document: JSON, see Own
//! an archive: context/…, contexts/NUMBER/…, caches/NUMBER/…
//! ```
//!
//! `POST /build/context` comes before it: the client lists its files (a JSON array of `builder`'s `Listed`) and is told which are missing. Only those
//! are in the archive then.
//!
//! So secrets are in memory alone, on either side.

use crate::http::Failure;
use crate::routes::image::parse_platform;
use base64::Engine as _;
use engine::builds::{
    AllowedDevices, Annotation, CacheFrom, CacheTo, Context, ContextFolder, KnownFiles, Named, Place,
    Received, Request, Secret,
};
use oci::Reference;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The type of such a body.
pub(super) const CONTENT_TYPE: &str = "application/vnd.wharf.build.v1";
/// A longer document is refused: secrets are small.
const MAX_DOCUMENT: u64 = 16 << 20;

/// What a query cannot carry.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of wharf build, by name")]
pub(super) struct Own {
    /// Whether the body has this form at all.
    #[serde(skip)]
    is_own: bool,
    /// Whether the client understands events.
    pub(super) events: bool,
    /// Whether the archive is the context itself, and not what holds it.
    whole: bool,
    /// The Dockerfile, if it is not in the context.
    pub(super) dockerfile: Option<String>,
    /// Where it is fetched from, if it is elsewhere.
    pub(super) dockerfile_url: Option<String>,
    /// Secrets by name, in base 64.
    secrets: BTreeMap<String, String>,
    /// Sockets of agents by name, on this host.
    agents: BTreeMap<String, PathBuf>,
    /// Names of contexts in the archive.
    folders: Vec<String>,
    /// Images by name of context.
    images: BTreeMap<String, String>,
    /// URLs by name of context.
    pub(super) remotes: BTreeMap<String, String>,
    no_cache_filter: Vec<String>,
    allow: Vec<String>,
    explain: bool,
    /// The name of a list that the archive completes (`POST /build/context`).
    pub(super) listed: Option<String>,
    /// What the image is built for.
    platforms: Vec<String>,
    /// Facts of the image's documents.
    annotations: Vec<Fact>,
    /// Caches: images by name, or numbers of folders `caches/NUMBER` in the archive.
    cache_from: Vec<CacheSource>,
    cache_inline: bool,
    cache_to: Option<CacheTarget>,
}

/// The answer to `POST /build/context`.
#[derive(Serialize)]
pub(super) struct Missing {
    /// What the list is called.
    pub(super) id: String,
    /// The numbers of the entries that are to be sent.
    pub(super) missing: Vec<usize>,
}

/// A fact of one of the image's documents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fact {
    place: FactOf,
    /// The platform, if it is of one alone.
    #[serde(default)]
    platform: String,
    name: String,
    value: String,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum FactOf {
    Manifest,
    ManifestDescriptor,
    Index,
}

impl Fact {
    fn read(&self) -> Result<Annotation, Failure> {
        let place = match self.place {
            FactOf::Manifest => Place::Manifest,
            FactOf::ManifestDescriptor => Place::Descriptor,
            FactOf::Index => Place::Index,
        };
        let only = Some(self.platform.as_str()).filter(|text| !text.is_empty());
        let platform = only.map(parse_platform).transpose()?;
        Ok(Annotation { place, platform, name: self.name.clone(), value: self.value.clone() })
    }
}

/// A cache from elsewhere.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum CacheSource {
    Image(String),
    Folder(usize),
}

/// The cache that is given away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheTarget {
    /// Whether of all stages.
    all: bool,
    /// Whether with what the cache mounts hold.
    mounts: bool,
    /// References that the daemon pushes it to.
    push: Vec<String>,
    /// Whether the client fetches it as an image.
    keep: bool,
}

/// The folder with all that was sent.
pub(super) enum Base {
    /// It is gone after the build.
    Unpacked(ContextFolder),
    /// It stays for the next one.
    Kept(Received),
}

impl Base {
    fn path(&self) -> &Path {
        match self {
            Self::Unpacked(folder) => &folder.path,
            Self::Kept(received) => &received.folder,
        }
    }

    /// A context in it.
    fn context(&self, below: &str) -> Context {
        let folder = self.path().join(below);
        let known = match self {
            Self::Unpacked(_) => {
                // An empty context need not be in the archive.
                drop(std::fs::create_dir_all(&folder));
                None
            }
            Self::Kept(received) => {
                Some(KnownFiles { digests: Arc::clone(&received.digests), below: below.to_owned() })
            }
        };
        Context { folder, known }
    }
}

impl Own {
    /// Reads the document.
    ///
    /// # Errors
    ///
    /// That it is not one.
    pub(super) fn read(reader: &mut dyn Read) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::invalid(format!("invalid build request: {why}"));
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(|error| invalid(error.to_string()))?;
        let length = u64::from_be_bytes(length);
        if length > MAX_DOCUMENT {
            return Err(invalid(format!("its document has {length} bytes")));
        }
        let mut document = Vec::new();
        reader.take(length).read_to_end(&mut document).map_err(|error| invalid(error.to_string()))?;
        // The parser's own message could quote a secret.
        let own: Self = serde_json::from_slice(&document)
            .map_err(|error| invalid(format!("its document is wrong at column {}", error.column())))?;
        Ok(Self { is_own: true, ..own })
    }

    /// Adds what it says to the request.
    ///
    /// # Errors
    ///
    /// A secret that is not base 64.
    pub(super) fn apply(&self, request: &mut Request) -> Result<(), Failure> {
        for (name, value) in &self.secrets {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(value)
                .map_err(|_quotes| Failure::invalid(format!("the secret {name} is not base 64")))?;
            request.secrets.insert(name.clone(), Secret(bytes));
        }
        request.agents.clone_from(&self.agents);
        request.no_cache_filter.clone_from(&self.no_cache_filter);
        request.explain = self.explain;
        // Other bodies say nothing of them: the query does.
        if self.is_own {
            request.platforms =
                self.platforms.iter().map(|text| parse_platform(text)).collect::<Result<_, _>>()?;
        }
        request.annotations = self.annotations.iter().map(Fact::read).collect::<Result<_, _>>()?;
        request.cache_inline |= self.cache_inline;
        if let Some(target) = &self.cache_to {
            request.cache_to = Some(CacheTo { all: target.all, mounts: target.mounts });
            request.keep_cache = target.keep;
        }
        for (name, image) in &self.images {
            request.contexts.insert(name.clone(), Named::Image(image.clone()));
        }
        if self.is_own {
            request.allow_host_network = false;
            self.entitle(request)?;
        }
        Ok(())
    }

    /// `--allow`
    fn entitle(&self, request: &mut Request) -> Result<(), Failure> {
        let mut devices = Vec::new();
        for name in &self.allow {
            match name.split_once('=') {
                None if name == "security.insecure" => request.allow_insecure = true,
                None if name == "network.host" => request.allow_host_network = true,
                None if name == "device" => request.allow_devices = AllowedDevices::All,
                Some(("device", _)) => devices.push(name.trim_start_matches("device=").to_owned()),
                _ => return Err(Failure::invalid(format!("unknown entitlement {name}"))),
            }
        }
        if request.allow_devices != AllowedDevices::All {
            request.allow_devices = AllowedDevices::Named(devices);
        }
        Ok(())
    }

    /// Returns where the daemon pushes the cache to.
    ///
    /// # Errors
    ///
    /// What is no reference.
    pub(super) fn cache_push(&self) -> Result<Vec<Reference>, Failure> {
        let names = self.cache_to.iter().flat_map(|target| &target.push);
        let parse = |name: &String| match Reference::parse_normalized(name) {
            Ok(reference) if reference.digest().is_none() => Ok(reference.with_default_tag()),
            Ok(_) => Err(Failure::invalid(format!("a cache cannot be pushed to a digest: {name}"))),
            Err(error) => Err(Failure::invalid(format!("invalid reference {name:?} of a cache: {error}"))),
        };
        names.map(parse).collect()
    }

    /// Where the build context is in what was unpacked.
    pub(super) fn context(&self, base: &Base) -> Context {
        if !self.is_own || self.whole {
            return Context { folder: base.path().to_owned(), known: None };
        }
        base.context("context")
    }

    /// Adds the further contexts and caches that were unpacked.
    pub(super) fn contexts(&self, base: &Base, request: &mut Request) {
        for (index, name) in self.folders.iter().enumerate() {
            let context = base.context(&format!("contexts/{index}"));
            request.contexts.insert(name.clone(), Named::Folder(context));
        }
        request.cache_from.extend(self.cache_from.iter().map(|source| match source {
            CacheSource::Image(name) => CacheFrom::Image(name.clone()),
            CacheSource::Folder(index) => {
                CacheFrom::Folder(base.path().join("caches").join(index.to_string()))
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_never_quoted() {
        let body = |text: &str| [&(text.len() as u64).to_be_bytes()[..], text.as_bytes(), b"rest"].concat();
        let bytes = body(r#"{"secrets":{"k":"c2VjcmV0"},"folders":["x"],"allow":["network.host"]}"#);
        let mut reader = bytes.as_slice();
        let own = Own::read(&mut reader).unwrap();
        assert_eq!(reader, b"rest");
        let mut request = Request::default();
        own.apply(&mut request).unwrap();
        assert_eq!(request.secrets.get("k"), Some(&Secret(b"secret".to_vec())));
        assert!(request.allow_host_network && !request.allow_insecure);
        assert!(!format!("{request:?}").contains("c2VjcmV0"));
        for text in [r#"{"secrets":{"k":"geheim""#, r#"{"secrets":"geheim"}"#, r#"{"x":1}"#] {
            let error = Own::read(&mut body(text).as_slice()).err().unwrap();
            assert!(!error.message.contains("geheim"), "{}", error.message);
        }
    }
}
