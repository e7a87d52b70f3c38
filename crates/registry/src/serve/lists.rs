//! Lists: repositories, referrers, and what a search finds.

use super::App;
use super::body::blocking;
use super::call::{Answer, Call, OCI_FILTERS, parse_digest};
use super::manifests::page;
use crate::error::Result;
use crate::storage::manifest::Manifest;
use http::{StatusCode, header};
use oci::media_type;
use serde_json::{Value, json};
use std::sync::Arc;

/// How many results a page of a search has, and at most.
const RESULTS: usize = 25;
const MOST_RESULTS: usize = 100;

/// `GET /v2/_catalog`.
pub(super) async fn catalog(app: &Arc<App>, call: &Call) -> Result<Answer> {
    let storage = Arc::clone(&app.storage);
    let all = blocking(move || storage.repositories()).await?;
    page(call, "repositories", json!({}), "/v2/_catalog", &all, Some(app.config.catalog_page))
}

/// `GET /v2/NAME/referrers/DIGEST`: never "not found", so that clients know that this is answered here.
pub(super) async fn referrers(app: &Arc<App>, call: &Call, name: &str, digest: &str) -> Result<Answer> {
    let digest = parse_digest(digest)?;
    let (storage, owned) = (Arc::clone(&app.storage), name.to_owned());
    let found = blocking(move || storage.referrers(&owned, &digest)).await?;
    let wanted = call.parameter("artifactType").filter(|wanted| !wanted.is_empty());
    let manifests: Vec<Value> = found
        .iter()
        .map(|stored| Manifest::referrer(&stored.digest, &stored.media_type, &stored.bytes))
        .filter(|entry| wanted.is_none_or(|wanted| entry.get("artifactType") == Some(&json!(wanted))))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests});
    let answer = Answer::new(StatusCode::OK).with(header::CONTENT_TYPE, media_type::OCI_INDEX);
    let answer = if wanted.is_some() { answer.with(OCI_FILTERS, "artifactType") } else { answer };
    Ok(answer.body(index.to_string()))
}

/// `GET /v1/_ping`.
pub(super) fn ping() -> Answer {
    Answer::json(&json!(true)).with(http::HeaderName::from_static("x-docker-registry-version"), "0.9.1")
}

/// `GET /v1/search?q=…&n=…&page=…`, as Docker's clients ask.
pub(super) async fn search(app: &Arc<App>, call: &Call) -> Result<Answer> {
    let term = call.parameter("q").unwrap_or_default().to_lowercase();
    let size = call.number("n")?.unwrap_or(RESULTS).clamp(1, MOST_RESULTS);
    let number = call.number("page")?.unwrap_or(1).max(1);
    let (storage, wanted) = (Arc::clone(&app.storage), term.clone());
    let (total, results) = blocking(move || {
        let mut found = storage.repositories()?;
        // `library/x` is how Docker's clients ask for `x`.
        let short = wanted.strip_prefix("library/").unwrap_or(&wanted).to_owned();
        found.retain(|name| name.contains(&short));
        // The closest name first.
        found.sort_by_key(|name| (name.rsplit('/').next() != Some(short.as_str()), name.len(), name.clone()));
        let names = found.iter().skip((number - 1).saturating_mul(size)).take(size);
        let results: Vec<Value> = names
            .map(|name| {
                let latest = storage.tag(name, "latest").ok().flatten();
                let stored = latest.and_then(|digest| storage.manifest(name, &digest).ok().flatten());
                let description = stored.and_then(|stored| Manifest::description_of(&stored.bytes));
                json!({
                    "name": name, "description": description.unwrap_or_default(), "star_count": 0,
                    "is_official": false, "is_automated": false, "is_trusted": false,
                })
            })
            .collect();
        Ok((found.len(), results))
    })
    .await?;
    Ok(Answer::json(&json!({
        "query": term, "num_results": total, "page": number, "page_size": size,
        "num_pages": total.div_ceil(size), "results": results,
    })))
}
