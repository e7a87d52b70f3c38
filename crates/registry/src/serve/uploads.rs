//! Blobs on their way in (distribution-spec, *Pushing blobs*).

use super::App;
use super::body::{self, blocking};
use super::call::{Answer, CONTENT_DIGEST, Call, UPLOAD_ID, parse_digest};
use crate::error::{Code, Error, Refusal, Result};
use crate::notify::{Action, Target};
use crate::route::is_name;
use http::{StatusCode, header};
use hyper::body::Incoming;
use oci::{Algorithm, Digest};
use serde_json::json;
use std::sync::Arc;

use crate::storage::upload::Session;

/// The media type of blobs in events.
const OCTETS: &str = "application/octet-stream";

/// `POST /v2/NAME/blobs/uploads/`: mounts a blob, takes it whole, or begins an upload.
pub(super) async fn begin(app: &Arc<App>, call: &Call, name: &str, body: Incoming) -> Result<Answer> {
    if let Some(digest) = call.digest("mount")?
        && let Some(answer) = mount(app, call, name, &digest).await?
    {
        return Ok(answer);
    }
    let whole = call.digest("digest")?;
    let algorithm = match (&whole, call.parameter("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, None | Some("sha256")) => Algorithm::Sha256,
        (None, Some("sha384")) => Algorithm::Sha384,
        (None, Some("sha512")) => Algorithm::Sha512,
        (None, Some(other)) => {
            return Err(Refusal::with(Code::DigestInvalid, json!({"algorithm": other})).into());
        }
    };
    let (storage, owned) = (Arc::clone(&app.storage), name.to_owned());
    let (id, session) = blocking(move || storage.begin(&owned, algorithm)).await?;
    match whole {
        Some(digest) => {
            let session = body::receive(session, body).await?;
            finish(app, call, name, session, digest).await
        }
        None => Ok(standing(call, name, &id, &session, StatusCode::ACCEPTED)),
    }
}

async fn mount(app: &Arc<App>, call: &Call, name: &str, digest: &Digest) -> Result<Option<Answer>> {
    let from = call.parameter("from").filter(|from| !from.is_empty()).map(str::to_owned);
    if from.as_ref().is_some_and(|from| !is_name(from)) {
        return Ok(None);
    }
    // Without a source the digest alone would open other people's repositories.
    if from.is_none() && !app.gate.is_open() {
        return Ok(None);
    }
    let (storage, owned, wanted, source) =
        (Arc::clone(&app.storage), name.to_owned(), digest.clone(), from.clone());
    let size = blocking(move || storage.mount(&owned, source.as_deref(), &wanted)).await?;
    let Some(size) = size else { return Ok(None) };
    let target = Target { from_repository: from, ..target(name, digest, size) };
    app.notify.tell(call, Action::Mount, &target);
    Ok(Some(created(call, name, digest)))
}

/// Describes a blob in an event.
pub(super) fn target(name: &str, digest: &Digest, size: u64) -> Target {
    Target {
        media_type: OCTETS.to_owned(),
        digest: Some(digest.clone()),
        size,
        repository: name.to_owned(),
        path: format!("/v2/{name}/blobs/{digest}"),
        ..Target::default()
    }
}

fn created(call: &Call, name: &str, digest: &Digest) -> Answer {
    Answer::new(StatusCode::CREATED)
        .with(header::LOCATION, call.address(&format!("/v2/{name}/blobs/{digest}")))
        .with(CONTENT_DIGEST, digest.to_string())
        .nothing()
}

/// Says where an upload stands.
fn standing(call: &Call, name: &str, id: &str, session: &Session, status: StatusCode) -> Answer {
    let answer = Answer::new(status);
    // RFC 9110, 8.6: an answer of status 204 has no length.
    let answer = if status == StatusCode::NO_CONTENT { answer } else { answer.nothing() };
    place(call, name, id, session.written())
        .into_iter()
        .fold(answer, |answer, (header, value)| answer.with(header, value))
}

fn place(call: &Call, name: &str, id: &str, written: u64) -> Vec<(http::HeaderName, String)> {
    vec![
        (header::LOCATION, call.address(&format!("/v2/{name}/blobs/uploads/{id}"))),
        (header::RANGE, format!("0-{}", written.saturating_sub(1))),
        (UPLOAD_ID, id.to_owned()),
    ]
}

/// Takes an upload for this request.
async fn session(app: &Arc<App>, name: &str, id: &str) -> Result<Session> {
    let (storage, name, id) = (Arc::clone(&app.storage), name.to_owned(), id.to_owned());
    blocking(move || storage.session(&name, &id)).await
}

/// `GET` of an upload.
pub(super) async fn status(app: &Arc<App>, call: &Call, name: &str, id: &str) -> Result<Answer> {
    let session = session(app, name, id).await?;
    Ok(standing(call, name, id, &session, StatusCode::NO_CONTENT))
}

/// `DELETE` of an upload.
pub(super) async fn cancel(app: &Arc<App>, name: &str, id: &str) -> Result<Answer> {
    let session = session(app, name, id).await?;
    let storage = Arc::clone(&app.storage);
    blocking(move || storage.cancel(session)).await?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}

/// `PATCH` of an upload: the next chunk, or all of it as a stream.
pub(super) async fn append(
    app: &Arc<App>,
    call: &Call,
    name: &str,
    id: &str,
    body: Incoming,
) -> Result<Answer> {
    let session = session(app, name, id).await?;
    follows(call, name, id, &session)?;
    let session = body::receive(session, body).await?;
    Ok(standing(call, name, id, &session, StatusCode::ACCEPTED))
}

/// `PUT` of an upload: the last chunk, and the digest of everything.
pub(super) async fn close(
    app: &Arc<App>,
    call: &Call,
    name: &str,
    id: &str,
    body: Incoming,
) -> Result<Answer> {
    let digest = call.parameter("digest").filter(|text| !text.is_empty());
    let digest = digest.ok_or_else(|| Refusal::with(Code::DigestInvalid, "digest missing"))?;
    let digest = parse_digest(digest)?;
    let session = session(app, name, id).await?;
    follows(call, name, id, &session)?;
    let session = body::receive(session, body).await?;
    finish(app, call, name, session, digest).await
}

async fn finish(app: &Arc<App>, call: &Call, name: &str, session: Session, digest: Digest) -> Result<Answer> {
    let (storage, owned, wanted) = (Arc::clone(&app.storage), name.to_owned(), digest.clone());
    let size = blocking(move || storage.finish(&owned, session, &wanted)).await?;
    app.notify.tell(call, Action::Push, &target(name, &digest, size));
    Ok(created(call, name, &digest))
}

/// Checks that a chunk continues where the upload stands; chunks without a place always do.
fn follows(call: &Call, name: &str, id: &str, session: &Session) -> Result<()> {
    let Some(range) = call.header(&header::CONTENT_RANGE) else { return Ok(()) };
    let length = call.header(&header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    let written = session.written();
    match chunk(range) {
        Some((first, last)) if first == written => match length {
            Some(length) if last - first + 1 != length => Err(Refusal::new(Code::SizeInvalid).into()),
            _ => Ok(()),
        },
        Some(_) => {
            let headers = place(call, name, id, written);
            Err(Error::Refused(Refusal { headers, ..Refusal::new(Code::RangeInvalid) }))
        }
        None => Err(Refusal::with(Code::BlobUploadInvalid, json!({"Content-Range": range})).into()),
    }
}

/// Reads `FIRST-LAST`, also as RFC 9110 writes it (`bytes FIRST-LAST/SIZE`).
fn chunk(range: &str) -> Option<(u64, u64)> {
    let range = range.trim();
    let range = range.strip_prefix("bytes").map_or(range, |rest| rest.trim_start_matches(['=', ' ']));
    let (range, _) = range.split_once('/').unwrap_or((range, ""));
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_chunks() {
        for (text, expected) in [
            ("0-99", Some((0, 99))),
            ("bytes 100-199/*", Some((100, 199))),
            ("bytes=5-5", Some((5, 5))),
            ("9-8", None),
            ("x", None),
            ("-5", None),
        ] {
            assert_eq!(chunk(text), expected, "{text}");
        }
    }
}
