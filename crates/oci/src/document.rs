//! Descriptors, manifests and indexes (image-spec descriptor.md, manifest.md, image-index.md, and Docker's forms).
//!
//! Fields that this crate does not know are kept in `other`, so that a document can be changed without losing them.

use crate::lenient::null_default;
use crate::{Digest, Platform, media_type};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The annotation that names an image inside an OCI layout.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation under which containerd and Docker name an image inside an OCI layout, with its repository.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";
/// `BuildKit`'s annotation of index entries that are not images.
pub const ANNOTATION_REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Points to content: what it is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "null_default")]
    pub media_type: String,
    /// The digest of the raw content.
    pub digest: Digest,
    /// The size of the raw content in bytes.
    pub size: u64,
    /// Where else the content may be found.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form facts.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself in base64, for small things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What the content runs on; in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Makes a descriptor without optional fields.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// Makes the descriptor of `bytes`, by SHA-256.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self::new(media_type, Digest::sha256_of(bytes), size)
    }

    /// Says whether the content is an index.
    pub fn is_index(&self) -> bool {
        media_type::is_index(&self.media_type)
    }

    /// Says whether the content is an image manifest.
    pub fn is_manifest(&self) -> bool {
        media_type::is_manifest(&self.media_type)
    }

    /// Says whether this entry of an index is `BuildKit`'s attestation and not an image.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key(ANNOTATION_REFERENCE_TYPE)
    }
}

fn schema_version() -> u32 {
    2
}

/// An image for one platform: its configuration and its layers, base first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    #[serde(default = "schema_version")]
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, base first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// What this document is about, for referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form facts.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A list of manifests, usually one for each platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    #[serde(default = "schema_version")]
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// What this document is about, for referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form facts.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Manifest {
    /// Makes an OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: schema_version(),
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

impl Index {
    /// Makes an OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: schema_version(),
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// Returns the entry that runs best on `platform`; among equals the first. Attestations never count.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        self.ranked(platform).first().copied()
    }

    /// Returns the entries that may run on `platform`, the best first; equals stay in their order.
    ///
    /// An entry without a platform counts as the last resort, since its configuration would have to tell.
    pub fn ranked(&self, platform: &Platform) -> Vec<&Descriptor> {
        let rank = |entry: &Descriptor| match &entry.platform {
            Some(offered) => platform.preference(offered),
            None => Some(usize::MAX),
        };
        let entries = self.manifests.iter().filter(|entry| !entry.is_attestation());
        let mut ranked: Vec<_> = entries.filter_map(|entry| Some((rank(entry)?, entry))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// A parsed manifest or index.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// One platform.
    Manifest(Box<Manifest>),
    /// Many.
    Index(Box<Index>),
}

/// Why bytes are neither a manifest nor an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrongDocument {
    /// Not JSON, or a field of the wrong type.
    #[error("parse {0}")]
    Json(&'static str, #[source] serde_json::Error),
    /// It could be taken for both (CVE-2021-41190).
    #[error("ambiguous document: it has the fields of a manifest and of an index")]
    Ambiguous,
    /// What it says of itself is not what was expected.
    #[error("document is a {found:?}, not a {expected:?}")]
    MediaType {
        /// The media type it was announced with.
        expected: String,
        /// The media type it names.
        found: String,
    },
    /// Docker's schema 1 or something unknown.
    #[error("unsupported manifest media type {0:?}")]
    Unsupported(String),
}

/// Which of the fields that tell a manifest from an index are there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses a manifest or index; `announced` is the media type of its descriptor or answer, empty if unknown.
    ///
    /// # Errors
    ///
    /// Refuses what is both, what contradicts its announcement, and unknown kinds.
    pub fn parse(announced: &str, bytes: &[u8]) -> Result<Self, WrongDocument> {
        let json = |error| WrongDocument::Json("manifest", error);
        let shape: Shape = serde_json::from_slice(bytes).map_err(json)?;
        let found = shape.media_type.unwrap_or_default();
        let known = |name: &str| media_type::is_index(name) || media_type::is_manifest(name);
        if known(announced) && !found.is_empty() && found != announced {
            return Err(WrongDocument::MediaType { expected: announced.to_owned(), found });
        }
        let kind = if known(announced) { announced } else { found.as_str() };
        let like_manifest = shape.config.is_some() || shape.layers.is_some() || shape.fs_layers.is_some();
        let like_index = shape.manifests.is_some();
        if like_manifest && like_index {
            return Err(WrongDocument::Ambiguous);
        }
        let index = if known(kind) { media_type::is_index(kind) } else { like_index };
        if shape.fs_layers.is_some() || !(known(kind) || kind.is_empty()) || !(like_manifest || like_index) {
            let kind = if shape.fs_layers.is_some() { media_type::DOCKER_MANIFEST_V1 } else { kind };
            return Err(WrongDocument::Unsupported(kind.to_owned()));
        }
        if index != like_index {
            return Err(WrongDocument::Ambiguous);
        }
        if index {
            let index = serde_json::from_slice(bytes).map_err(|error| WrongDocument::Json("index", error))?;
            return Ok(Self::Index(Box::new(index)));
        }
        Ok(Self::Manifest(Box::new(serde_json::from_slice(bytes).map_err(json)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> Descriptor {
        Descriptor::of(media_type::OCI_CONFIG, b"{}")
    }

    #[test]
    fn a_manifest_keeps_what_it_does_not_know() {
        let manifest = Manifest::new(descriptor(), vec![Descriptor::of(media_type::OCI_LAYER, b"x")]);
        let mut value = serde_json::to_value(&manifest).unwrap();
        value.as_object_mut().unwrap().insert("vendor".into(), Value::from(7));
        let bytes = serde_json::to_vec(&value).unwrap();
        let Document::Manifest(parsed) = Document::parse(media_type::OCI_MANIFEST, &bytes).unwrap() else {
            panic!("not a manifest")
        };
        assert_eq!(parsed.other.get("vendor"), Some(&Value::from(7)));
        assert_eq!(serde_json::to_value(&parsed).unwrap(), value);
    }

    #[test]
    fn one_document_is_one_thing() {
        let config = serde_json::to_string(&descriptor()).unwrap();
        let check = |announced: &str, text: &str, expect: &str| {
            let outcome = match Document::parse(announced, text.as_bytes()) {
                Ok(Document::Manifest(_)) => "manifest".to_owned(),
                Ok(Document::Index(_)) => "index".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(outcome, expect, "{announced} {text}");
        };
        let manifest = format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[]}}");
        check("", &manifest, "manifest");
        check(media_type::DOCKER_MANIFEST, &manifest, "manifest");
        check("", "{\"manifests\":[]}", "index");
        check(
            media_type::OCI_INDEX,
            "{\"manifests\":null}",
            "unsupported manifest media type \"application/vnd.oci.image.index.v1+json\"",
        );
        let ambiguous = "ambiguous document: it has the fields of a manifest and of an index";
        check("", &format!("{{\"config\":{config},\"layers\":[],\"manifests\":[]}}"), ambiguous);
        check(media_type::OCI_INDEX, &manifest, ambiguous);
        check(media_type::OCI_MANIFEST, "{\"manifests\":[]}", ambiguous);
        check(
            media_type::OCI_MANIFEST,
            "{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}",
            "document is a \"application/vnd.oci.image.index.v1+json\", not a \"application/vnd.oci.image.manifest.v1+json\"",
        );
        check(
            "",
            "{\"schemaVersion\":1,\"fsLayers\":[]}",
            "unsupported manifest media type \"application/vnd.docker.distribution.manifest.v1+prettyjws\"",
        );
        check("", "{}", "unsupported manifest media type \"\"");
        check("", "nope", "parse manifest");
    }

    #[test]
    fn choosing_a_platform() {
        let entry = |platform: &str, content: &[u8]| Descriptor {
            platform: Some(Platform::parse(platform).unwrap()),
            ..Descriptor::of(media_type::OCI_MANIFEST, content)
        };
        let mut attestation = entry("linux/amd64", b"attestation");
        attestation.annotations.insert(ANNOTATION_REFERENCE_TYPE.into(), "attestation-manifest".into());
        let (old, new) = (entry("linux/386", b"386"), entry("linux/amd64", b"amd64"));
        let index = Index::new(vec![attestation, old.clone(), new.clone()]);
        assert_eq!(index.choose(&Platform::parse("linux/amd64").unwrap()), Some(&new));
        assert_eq!(index.choose(&Platform::parse("linux/386").unwrap()), Some(&old));
        assert_eq!(index.choose(&Platform::parse("linux/arm64").unwrap()), None);
    }
}
