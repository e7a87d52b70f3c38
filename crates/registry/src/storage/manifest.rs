//! Manifests as the registry sees them: what they are and what they need. Pure.
//!
//! The bytes are kept as they came; only what decides is read. A document that could be taken for two kinds is
//! refused (CVE-2021-41190).

use crate::error::{Code, Refusal};
use oci::{Digest, media_type};
use serde::Deserialize;
use serde_json::{Value, json};

/// What was removed from image-spec before 1.1, and still is pushed by some.
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// A manifest or index that may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Its media type.
    pub(crate) media_type: String,
    /// The blobs and manifests that the repository must have.
    pub(crate) needed: Vec<Digest>,
    /// What it refers to.
    pub(crate) subject: Option<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<Value>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Link>,
    layers: Option<Vec<Link>>,
    blobs: Option<Vec<Link>>,
    manifests: Option<Vec<Link>>,
    fs_layers: Option<Value>,
    subject: Option<Link>,
    annotations: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    media_type: Option<String>,
    digest: Digest,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Link {
    /// Whether its content is elsewhere, as for layers that may not be distributed.
    fn is_foreign(&self) -> bool {
        let media_type = self.media_type.as_deref().unwrap_or_default();
        media_type.contains(".nondistributable.")
            || media_type.contains(".foreign.")
            || self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::with(Code::ManifestInvalid, detail.into())
}

impl Manifest {
    /// Reads a manifest that was sent as `content_type`, which may be empty.
    ///
    /// # Errors
    ///
    /// [`Code::ManifestInvalid`].
    pub(crate) fn parse(content_type: &str, bytes: &[u8]) -> Result<Self, Refusal> {
        let announced = content_type.split(';').next().unwrap_or_default().trim();
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        if let Some(named) =
            raw.media_type.as_deref().filter(|named| !announced.is_empty() && *named != announced)
        {
            return Err(invalid(format!("the document is {named:?}, but was sent as {announced:?}")));
        }
        let named = raw.media_type.as_deref().unwrap_or(announced);
        if raw.fs_layers.is_some() || named.starts_with("application/vnd.docker.distribution.manifest.v1+") {
            return Err(invalid("schema 1 manifests are not taken any more"));
        }
        let like_image = raw.config.is_some() || raw.layers.is_some();
        if like_image && raw.manifests.is_some() {
            return Err(invalid("the document has the fields of a manifest and of an index"));
        }
        let kind = kind_of(&raw);
        let fits = match named {
            "" => true,
            named if media_type::is_manifest(named) => raw.config.is_some() && raw.layers.is_some(),
            named if media_type::is_index(named) => raw.manifests.is_some() && !like_image,
            ARTIFACT => !like_image && raw.manifests.is_none(),
            named => return Err(invalid(format!("unknown media type {named:?}"))),
        };
        if !fits || kind.is_none() {
            return Err(invalid("the document does not have the fields of its media type"));
        }
        if named != ARTIFACT && raw.schema_version != Some(json!(2)) {
            return Err(invalid("schemaVersion is not 2"));
        }
        let media_type =
            if named.is_empty() { kind.unwrap_or_default().to_owned() } else { named.to_owned() };
        let lists = [&raw.layers, &raw.blobs, &raw.manifests];
        let links = raw.config.iter().chain(lists.into_iter().flatten().flatten());
        let mut needed: Vec<Digest> =
            links.filter(|link| !link.is_foreign()).map(|link| link.digest.clone()).collect();
        needed.sort();
        needed.dedup();
        Ok(Self { media_type, needed, subject: raw.subject.map(|subject| subject.digest) })
    }

    /// Returns the media type of a manifest that is kept.
    pub(crate) fn media_type_of(bytes: &[u8]) -> String {
        let raw = serde_json::from_slice::<Raw>(bytes).ok();
        let kind = |raw: Raw| raw.media_type.clone().or_else(|| kind_of(&raw).map(str::to_owned));
        raw.and_then(kind).unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned())
    }

    /// Returns what a manifest that is kept refers to.
    pub(crate) fn subject_of(bytes: &[u8]) -> Option<Digest> {
        serde_json::from_slice::<Raw>(bytes).ok()?.subject.map(|subject| subject.digest)
    }

    /// Returns everything that a manifest that is kept points to, foreign layers too, so that nothing of it is
    /// collected.
    pub(crate) fn links_of(bytes: &[u8]) -> Vec<Digest> {
        let Ok(raw) = serde_json::from_slice::<Raw>(bytes) else { return Vec::new() };
        let lists = [&raw.layers, &raw.blobs, &raw.manifests];
        let links = raw.config.iter().chain(lists.into_iter().flatten().flatten());
        links.map(|link| link.digest.clone()).collect()
    }

    /// Returns the title that an image gives itself, for searches.
    pub(crate) fn description_of(bytes: &[u8]) -> Option<String> {
        let raw = serde_json::from_slice::<Raw>(bytes).ok()?;
        let text = raw.annotations?.get("org.opencontainers.image.description")?.as_str()?.to_owned();
        Some(text)
    }

    /// Returns the descriptor of a referring manifest (distribution-spec, *Listing Referrers*).
    pub(crate) fn referrer(digest: &Digest, media_type: &str, bytes: &[u8]) -> Value {
        let raw = serde_json::from_slice::<Raw>(bytes).ok();
        let mut descriptor =
            json!({"mediaType": media_type, "size": bytes.len(), "digest": digest.to_string()});
        let (Some(raw), Some(object)) = (raw, descriptor.as_object_mut()) else { return descriptor };
        let from_config = raw.config.and_then(|config| config.media_type);
        let kind = raw.artifact_type.filter(|kind| !kind.is_empty()).or(from_config);
        if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
            object.insert("artifactType".to_owned(), kind.into());
        }
        if let Some(annotations) = raw.annotations.filter(Value::is_object) {
            object.insert("annotations".to_owned(), annotations);
        }
        descriptor
    }
}

/// Returns the media type of a document that does not name one.
fn kind_of(raw: &Raw) -> Option<&'static str> {
    if raw.manifests.is_some() {
        Some(media_type::OCI_INDEX)
    } else if raw.config.is_some() && raw.layers.is_some() {
        Some(media_type::OCI_MANIFEST)
    } else if raw.media_type.as_deref() == Some(ARTIFACT) {
        Some(ARTIFACT)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn descriptor(byte: &str) -> Value {
        json!({"mediaType": "m/x", "size": 1, "digest": format!("sha256:{}", byte.repeat(32))})
    }

    #[test]
    fn what_is_taken_and_what_not() {
        let image = json!({"schemaVersion": 2, "config": descriptor("aa"), "layers": [descriptor("bb"), descriptor("aa")]});
        let index = json!({"schemaVersion": 2, "manifests": [descriptor("cc")]});
        let mut both = image.clone();
        both["manifests"] = json!([]);
        let mut named = image.clone();
        named["mediaType"] = json!(media_type::DOCKER_MANIFEST);
        let mut foreign = image.clone();
        foreign["layers"][0]["mediaType"] = json!(media_type::OCI_LAYER_NONDISTRIBUTABLE_GZIP);
        for (content_type, document, expected) in [
            ("", &image, Ok((media_type::OCI_MANIFEST, 2))),
            (
                "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
                &image,
                Ok((media_type::OCI_MANIFEST, 2)),
            ),
            (media_type::DOCKER_MANIFEST, &named, Ok((media_type::DOCKER_MANIFEST, 2))),
            (media_type::OCI_MANIFEST, &foreign, Ok((media_type::OCI_MANIFEST, 1))),
            (media_type::OCI_INDEX, &index, Ok((media_type::OCI_INDEX, 1))),
            (media_type::OCI_MANIFEST, &named, Err(())),
            (media_type::OCI_INDEX, &image, Err(())),
            ("", &both, Err(())),
            ("text/plain", &image, Err(())),
            ("", &json!({"schemaVersion": 2}), Err(())),
            ("", &json!({"schemaVersion": 1, "fsLayers": []}), Err(())),
            ("", &json!([]), Err(())),
        ] {
            let found = Manifest::parse(content_type, document.to_string().as_bytes());
            let summary =
                found.as_ref().map(|found| (found.media_type.as_str(), found.needed.len())).map_err(drop);
            assert_eq!(summary, expected, "{content_type} {document}: {found:?}");
        }
    }

    #[test]
    fn referrers_say_what_they_are() {
        let digest = Digest::sha256_of(b"");
        let mut image =
            json!({"schemaVersion": 2, "config": descriptor("aa"), "layers": [], "annotations": {"a": "b"}});
        let of = |image: &Value| Manifest::referrer(&digest, "t", image.to_string().as_bytes());
        assert_eq!(of(&image)["artifactType"], "m/x");
        assert_eq!(of(&image)["annotations"]["a"], "b");
        image["artifactType"] = json!("own/type");
        assert_eq!(of(&image)["artifactType"], "own/type");
        let index = json!({"schemaVersion": 2, "manifests": []});
        assert_eq!(of(&index).get("artifactType"), None);
    }

    proptest! {
        #[test]
        fn no_document_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in ".{0,30}") {
            drop(Manifest::parse(&kind, &bytes));
            Manifest::links_of(&bytes);
            Manifest::media_type_of(&bytes);
        }

        #[test]
        fn no_shape_is_too_odd(
            version in 0..4_u8, config in any::<bool>(), lists in prop::collection::vec(0..4_usize, 0..4), digest in "[a-z0-9:]{0,80}",
        ) {
            let mut document = json!({"schemaVersion": version});
            if config {
                document["config"] = json!({"digest": digest});
            }
            for (key, list) in ["layers", "blobs", "manifests", "fsLayers"].iter().zip(lists) {
                document[*key] = (0..list).map(|_| json!({"digest": digest})).collect();
            }
            drop(Manifest::parse("", document.to_string().as_bytes()));
        }
    }
}
