//! Searching registries: the old index protocol (`GET /v1/search`) that Docker's `search` speaks, or else a registry's
//! catalog, whose names are compared here.

use crate::auth::Subject;
use crate::credentials::Credentials;
use crate::endpoint;
use crate::error::Error;
use crate::exchange::{Answer, Call};
use crate::repository::next_page;
use crate::{Client, uri};
use http::{Method, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The largest page of results or of a catalog.
const PAGE_LIMIT: u64 = 8 << 20;
/// How many pages of a catalog are read.
const PAGES: usize = 100;
/// The host that searches Docker Hub.
const HUB_INDEX: &str = "index.docker.io";

/// One repository that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Hit {
    /// Its name, without its registry.
    pub name: String,
    /// What it is, in its owner's words.
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// Whether Docker vouches for it.
    pub is_official: bool,
    /// Whether it was built by the registry.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<Hit>,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// Returns at most `limit` repositories of the registry `domain` (`host[:port]`, `docker.io`) whose names have
    /// something to do with `term`.
    ///
    /// # Errors
    ///
    /// The registry's refusal, or that it cannot be reached.
    pub async fn search(
        &self,
        domain: &str,
        term: &str,
        limit: usize,
        credentials: &Credentials,
    ) -> Result<Vec<Hit>, Error> {
        let authority = if domain == "docker.io" { HUB_INDEX } else { domain };
        let endpoints = endpoint::endpoints(authority, &[], &self.inner().settings.insecure);
        let Some(endpoint) = endpoints.last() else { return Ok(Vec::new()) };
        let path = uri::with_query("/v1/search", "q", term);
        let call = Call::new(Method::GET, uri::with_query(&path, "n", &limit.to_string()));
        let subject = Subject { endpoint, credentials, scope: "registry:catalog:*" };
        let mut hits = match self.inner().exchange.success(subject, &call).await {
            Ok(answer) => self.document::<Results>(answer).await?.results,
            Err(Error::Refused { refusal }) if refusal.status == 404 && domain != "docker.io" => {
                self.catalog(subject, term).await?
            }
            Err(error) => return Err(error),
        };
        hits.truncate(limit);
        Ok(hits)
    }

    async fn catalog(&self, subject: Subject<'_>, term: &str) -> Result<Vec<Hit>, Error> {
        let term = term.strip_prefix("library/").unwrap_or(term).to_lowercase();
        let mut call = Call::new(Method::GET, "/v2/_catalog?n=1000".to_owned());
        let mut hits = Vec::new();
        for _ in 0..PAGES {
            let answer = self.inner().exchange.success(subject, &call).await?;
            let url = answer.url.clone();
            let next =
                answer.header(&header::LINK).and_then(next_page).and_then(|link| uri::join(&url, link));
            let names = self.document::<Catalog>(answer).await?.repositories.unwrap_or_default();
            let found = names.into_iter().filter(|name| name.contains(&term));
            hits.extend(found.map(|name| Hit { name, ..Hit::default() }));
            match next
                .filter(|next| uri::same_origin(next, &url))
                .and_then(|next| Some(next.path_and_query()?.to_string()))
            {
                Some(next) => call.path = next,
                None => break,
            }
        }
        Ok(hits)
    }

    async fn document<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, Error> {
        let url = answer.url;
        let bytes = self.inner().exchange.transport.read(&url, answer.response, PAGE_LIMIT).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Protocol { url: uri::without_query(&url), problem: error.to_string() })
    }
}
