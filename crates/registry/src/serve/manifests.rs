//! Manifests and tags (distribution-spec, *Pulling manifests*, *Pushing manifests*, *Content management*).

use super::App;
use super::blobs::is_known;
use super::body::{self, blocking};
use super::call::{Answer, CONTENT_DIGEST, Call, OCI_SUBJECT, OCI_TAG, encode, parse_digest};
use crate::error::{Code, Error, Refusal, Result};
use crate::notify::{Action, Target};
use crate::route::is_tag;
use crate::storage::Stored;
use crate::storage::manifest::Manifest;
use http::{Method, StatusCode, header};
use hyper::body::Incoming;
use oci::{Algorithm, Digest, Hasher, media_type};
use serde_json::json;
use std::sync::Arc;

/// How a path names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Tag(String),
    Digest(Digest),
}

impl Name {
    /// Reads the last part of a path.
    fn parse(text: &str) -> Result<Self> {
        if text.contains(':') {
            return parse_digest(text).map(Self::Digest);
        }
        if is_tag(text) {
            return Ok(Self::Tag(text.to_owned()));
        }
        Err(Refusal::with(Code::TagInvalid, json!({"tag": text})).into())
    }

    fn unknown(&self, name: &str) -> Error {
        let detail = match self {
            Self::Tag(tag) => json!({"Name": name, "Tag": tag}),
            Self::Digest(digest) => json!({"Name": name, "Revision": digest.to_string()}),
        };
        Refusal::with(Code::ManifestUnknown, detail).into()
    }
}

async fn find(app: &Arc<App>, name: &str, wanted: &Name) -> Result<Option<Stored>> {
    let (storage, owned, wanted) = (Arc::clone(&app.storage), name.to_owned(), wanted.clone());
    blocking(move || {
        let digest = match wanted {
            Name::Digest(digest) => Some(digest),
            Name::Tag(tag) => storage.tag(&owned, &tag)?,
        };
        digest.map_or(Ok(None), |digest| storage.manifest(&owned, &digest))
    })
    .await
}

/// `GET` and `HEAD` of a manifest.
pub(super) async fn get(app: &Arc<App>, call: &Call, name: &str, reference: &str) -> Result<Answer> {
    let wanted = Name::parse(reference)?;
    if let Some(proxy) = &app.proxy {
        let (tag, digest) = match &wanted {
            Name::Tag(tag) => (Some(tag.as_str()), None),
            Name::Digest(digest) => (None, Some(digest)),
        };
        proxy.refresh(&app.storage, name, tag, digest).await?;
    }
    let stored = find(app, name, &wanted).await?.ok_or_else(|| wanted.unknown(name))?;
    let answer = |status| {
        Answer::new(status)
            .with(header::CONTENT_TYPE, &stored.media_type)
            .with(CONTENT_DIGEST, stored.digest.to_string())
            .with(header::ETAG, format!("\"{}\"", stored.digest))
    };
    if is_known(call, &stored.digest) {
        return Ok(answer(StatusCode::NOT_MODIFIED));
    }
    if call.parts.method == Method::HEAD {
        return Ok(answer(StatusCode::OK).with(header::CONTENT_LENGTH, stored.bytes.len().to_string()));
    }
    let tag = match wanted {
        Name::Tag(tag) => tag,
        Name::Digest(_) => String::new(),
    };
    app.notify.tell(
        call,
        Action::Pull,
        &target(name, &stored.media_type, &stored.digest, &stored.bytes, &tag),
    );
    Ok(answer(StatusCode::OK).body(stored.bytes))
}

fn target(name: &str, media_type: &str, digest: &Digest, bytes: &[u8], tag: &str) -> Target {
    Target {
        media_type: media_type.to_owned(),
        digest: Some(digest.clone()),
        size: bytes.len() as u64,
        repository: name.to_owned(),
        path: format!("/v2/{name}/manifests/{digest}"),
        tag: tag.to_owned(),
        ..Target::default()
    }
}

/// `PUT` of a manifest.
pub(super) async fn put(
    app: &Arc<App>,
    call: &Call,
    name: &str,
    reference: &str,
    body: Incoming,
) -> Result<Answer> {
    let named = Name::parse(reference)?;
    let too_large = Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        ..Refusal::with(Code::SizeInvalid, json!({"limit": app.config.storage.manifest_limit}))
    };
    let bytes = body::collect(body, app.config.storage.manifest_limit, too_large).await?;
    let (algorithm, expected) = match &named {
        Name::Digest(digest) => (digest.algorithm(), Some(digest.clone())),
        // A tag can be pushed with a digest of the client's choice.
        Name::Tag(_) => match call.digest("digest")? {
            Some(digest) => (digest.algorithm(), Some(digest)),
            None => (Algorithm::Sha256, None),
        },
    };
    let mut hasher = Hasher::new(algorithm);
    hasher.update(&bytes);
    let digest = hasher.finish();
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        let detail = json!({"Digest": expected.to_string(), "Reason": "content does not match"});
        return Err(Refusal::with(Code::DigestInvalid, detail).into());
    }
    let mut manifest = Manifest::parse(call.header(&header::CONTENT_TYPE).unwrap_or_default(), &bytes)?;
    if app.config.storage.sparse && media_type::is_index(&manifest.media_type) {
        manifest.needed.clear();
    }
    let tags = match &named {
        Name::Tag(tag) => vec![tag.clone()],
        Name::Digest(_) => wanted_tags(call)?,
    };
    let (storage, owned, kept, parsed, wanted, all) = (
        Arc::clone(&app.storage),
        name.to_owned(),
        digest.clone(),
        manifest.clone(),
        bytes.clone(),
        tags.clone(),
    );
    blocking(move || storage.put_manifest(&owned, &kept, &wanted, &parsed, &all)).await?;
    let mut answer = Answer::new(StatusCode::CREATED)
        .with(header::LOCATION, call.address(&format!("/v2/{name}/manifests/{digest}")))
        .with(CONTENT_DIGEST, digest.to_string())
        .nothing();
    if let Some(subject) = &manifest.subject {
        answer = answer.with(OCI_SUBJECT, subject.to_string());
    }
    if matches!(named, Name::Digest(_)) && !tags.is_empty() {
        answer = answer.with(OCI_TAG, tags.join(", "));
    }
    let tag = tags.first().map_or("", String::as_str);
    app.notify.tell(call, Action::Push, &target(name, &manifest.media_type, &digest, &bytes, tag));
    Ok(answer)
}

/// The tags that a manifest pushed by digest is to have.
fn wanted_tags(call: &Call) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    for (_, tag) in call.parameters.iter().filter(|(name, _)| name == "tag") {
        if !is_tag(tag) {
            return Err(Refusal::with(Code::TagInvalid, json!({"tag": tag})).into());
        }
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    Ok(tags)
}

/// `DELETE` of a manifest or tag.
pub(super) async fn delete(app: &Arc<App>, call: &Call, name: &str, reference: &str) -> Result<Answer> {
    let wanted = Name::parse(reference)?;
    let (storage, owned, named) = (Arc::clone(&app.storage), name.to_owned(), wanted.clone());
    let there = blocking(move || match named {
        Name::Tag(tag) => storage.delete_tag(&owned, &tag),
        Name::Digest(digest) => storage.delete_manifest(&owned, &digest),
    })
    .await?;
    if !there {
        return Err(wanted.unknown(name));
    }
    let (tag, digest) = match wanted {
        Name::Tag(tag) => (tag, None),
        Name::Digest(digest) => (String::new(), Some(digest)),
    };
    app.notify.tell(
        call,
        Action::Delete,
        &Target { repository: name.to_owned(), tag, digest, ..Target::default() },
    );
    Ok(Answer::new(StatusCode::ACCEPTED).nothing())
}

/// `GET /v2/NAME/tags/list`.
pub(super) async fn tags(app: &Arc<App>, call: &Call, name: &str) -> Result<Answer> {
    if let Some(proxy) = &app.proxy
        && let Some(all) = proxy.tags(name).await
    {
        return page(call, "tags", json!({"name": name}), &format!("/v2/{name}/tags/list"), &all, None);
    }
    let (storage, owned) = (Arc::clone(&app.storage), name.to_owned());
    let all = blocking(move || storage.tags(&owned)).await?;
    let all = all.ok_or_else(|| Refusal::with(Code::NameUnknown, json!({"name": name})))?;
    page(call, "tags", json!({"name": name}), &format!("/v2/{name}/tags/list"), &all, None)
}

/// Answers with the part of `all`, which is sorted, that `n` and `last` ask for.
pub(super) fn page(
    call: &Call,
    key: &str,
    mut document: serde_json::Value,
    path: &str,
    all: &[String],
    longest: Option<usize>,
) -> Result<Answer> {
    let last = call.parameter("last").unwrap_or_default();
    let start = if last.is_empty() { 0 } else { all.partition_point(|entry| entry.as_str() <= last) };
    let rest = all.get(start..).unwrap_or_default();
    let limit = call.number("n")?.or(longest);
    let limit = longest.map_or(limit, |longest| limit.map(|limit| limit.min(longest)));
    let entries = rest.get(..limit.unwrap_or(rest.len()).min(rest.len())).unwrap_or_default();
    if let Some(object) = document.as_object_mut() {
        object.insert(key.to_owned(), entries.into());
    }
    let answer = Answer::json(&document);
    match (entries.last(), limit) {
        (Some(end), Some(limit)) if entries.len() < rest.len() => {
            let next = call.address(&format!("{path}?last={}&n={limit}", encode(end)));
            Ok(answer.with(header::LINK, format!("<{next}>; rel=\"next\"")))
        }
        _ => Ok(answer),
    }
}
