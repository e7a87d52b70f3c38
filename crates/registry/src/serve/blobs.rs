//! Blobs on their way out (distribution-spec, *Pulling blobs*), and their removal.

use super::App;
use super::body::{self, blocking};
use super::call::{Answer, CONTENT_DIGEST, Call, parse_digest};
use super::uploads::target;
use crate::error::{Code, Error, Refusal, Result};
use crate::notify::{Action, Target};
use http::{Method, StatusCode, header};
use oci::Digest;
use serde_json::json;
use std::io;
use std::sync::Arc;

/// Content by digest never changes.
const FOR_EVER: &str = "max-age=31536000";

fn unknown(digest: &Digest) -> Error {
    Refusal::with(Code::BlobUnknown, json!({"digest": digest.to_string()})).into()
}

/// What part of a blob is wanted (RFC 9110, 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Bytes { first: u64, length: u64 },
    Unsatisfiable,
}

impl Part {
    /// Reads a `Range` header. Several ranges, and what is no range, get all of it.
    fn of(header: Option<&str>, size: u64) -> Self {
        let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
            return Self::All;
        };
        let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else {
            return Self::All;
        };
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let (first, last) = match (first.trim().is_empty(), last.trim().is_empty()) {
            (true, true) => return Self::All,
            (true, false) => match number(last) {
                Some(0) => return Self::Unsatisfiable,
                Some(suffix) => (size.saturating_sub(suffix), u64::MAX),
                None => return Self::All,
            },
            (false, true) => match number(first) {
                Some(first) => (first, u64::MAX),
                None => return Self::All,
            },
            (false, false) => match (number(first), number(last)) {
                (Some(first), Some(last)) => (first, last),
                _ => return Self::All,
            },
        };
        if first >= size || last < first {
            return Self::Unsatisfiable;
        }
        Self::Bytes { first, length: last.min(size - 1) - first + 1 }
    }
}

/// `GET` and `HEAD` of a blob.
pub(super) async fn get(app: &Arc<App>, call: &Call, name: &str, digest: &str) -> Result<Answer> {
    let digest = parse_digest(digest)?;
    let head = call.parts.method == Method::HEAD;
    let answer = |size: u64| {
        Answer::new(StatusCode::OK)
            .with(header::ACCEPT_RANGES, "bytes")
            .with(header::CACHE_CONTROL, FOR_EVER)
            .with(header::CONTENT_TYPE, "application/octet-stream")
            .with(CONTENT_DIGEST, digest.to_string())
            .with(header::ETAG, format!("\"{digest}\""))
            .with(header::CONTENT_LENGTH, size.to_string())
    };
    if head {
        return match size(app, name, &digest).await? {
            Some(size) => Ok(answer(size)),
            None => Err(unknown(&digest)),
        };
    }
    if is_known(call, &digest) && size(app, name, &digest).await?.is_some() {
        return Ok(Answer::new(StatusCode::NOT_MODIFIED).with(header::ETAG, format!("\"{digest}\"")));
    }
    if let Some(proxy) = &app.proxy
        && let Some((size, body)) =
            proxy.blob(&app.storage, name, &digest, call.header(&header::RANGE).is_some()).await?
    {
        app.notify.tell(call, Action::Pull, &target(name, &digest, size));
        return Ok(answer(size).stream(body));
    }
    let range = call.header(&header::RANGE).map(str::to_owned);
    let (storage, owned, wanted) = (Arc::clone(&app.storage), name.to_owned(), digest.clone());
    let found = blocking(move || {
        let Some((file, size)) = storage.open_blob(&owned, &wanted)? else { return Ok(None) };
        let part = Part::of(range.as_deref(), size);
        let (first, length) = match part {
            Part::All => (0, size),
            Part::Bytes { first, length } => (first, length),
            Part::Unsatisfiable => (0, 0),
        };
        let path = storage.blob_path(&wanted);
        let read = |source: io::Error| Error::Io { operation: "read", path: path.clone(), source };
        Ok(Some((size, part, body::file(file, first, length).map_err(read)?)))
    })
    .await?;
    let Some((size, part, body)) = found else { return Err(unknown(&digest)) };
    let answer = match part {
        Part::All => answer(size),
        Part::Bytes { first, length } => {
            let mut partial = answer(length).done();
            *partial.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{}/{size}", first + length - 1);
            Answer::from(partial).with(header::CONTENT_RANGE, range)
        }
        Part::Unsatisfiable => {
            let headers = vec![(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Err(Error::Refused(Refusal { headers, ..Refusal::new(Code::RangeInvalid) }));
        }
    };
    app.notify.tell(call, Action::Pull, &target(name, &digest, size));
    Ok(answer.stream(body))
}

/// Says whether the client has the content already.
pub(super) fn is_known(call: &Call, digest: &Digest) -> bool {
    let tags = call.header(&header::IF_NONE_MATCH).unwrap_or_default();
    tags.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == digest.to_string())
}

async fn size(app: &Arc<App>, name: &str, digest: &Digest) -> Result<Option<u64>> {
    let (storage, owned, wanted) = (Arc::clone(&app.storage), name.to_owned(), digest.clone());
    match (blocking(move || storage.stat(&owned, &wanted)).await?, &app.proxy) {
        (None, Some(proxy)) => proxy.size(name, digest).await,
        (found, _) => Ok(found),
    }
}

/// `DELETE` of a blob: the repository does not have it any more; its bytes go with the next collection.
pub(super) async fn delete(app: &Arc<App>, call: &Call, name: &str, digest: &str) -> Result<Answer> {
    let digest = parse_digest(digest)?;
    let (storage, owned, wanted) = (Arc::clone(&app.storage), name.to_owned(), digest.clone());
    if !blocking(move || storage.unlink_blob(&owned, &wanted)).await? {
        return Err(unknown(&digest));
    }
    let target = Target { repository: name.to_owned(), digest: Some(digest), ..Target::default() };
    app.notify.tell(call, Action::Delete, &target);
    Ok(Answer::new(StatusCode::ACCEPTED).nothing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let bytes = |first, length| Part::Bytes { first, length };
        for (header, expected) in [
            (None, Part::All),
            (Some("bytes=0-0"), bytes(0, 1)),
            (Some("bytes=500-1499"), bytes(500, 500)),
            (Some("bytes=999-"), bytes(999, 1)),
            (Some("bytes=-10"), bytes(990, 10)),
            (Some("bytes=-5000"), bytes(0, 1000)),
            (Some("bytes=1000-"), Part::Unsatisfiable),
            (Some("bytes=5-4"), Part::Unsatisfiable),
            (Some("bytes=-0"), Part::Unsatisfiable),
            (Some("bytes=0-1,5-6"), Part::All),
            (Some("lines=1-2"), Part::All),
            (Some("bytes=x"), Part::All),
        ] {
            assert_eq!(Part::of(header, 1000), expected, "{header:?}");
        }
        assert_eq!(Part::of(Some("bytes=0-0"), 0), Part::Unsatisfiable);
    }
}
