//! Questions to a registry that change nothing here: what a reference names, and whether credentials are good.

use super::select::invalid;
use super::{Images, blocking, pipe, registry_error, view};
use crate::error::{Error, Result};
use api::filters::Filters;
use api::image::DistributionInspect;
use api::registry::SearchResult;
use distribution::{Access, Credentials};
use oci::{Document, Platform, Reference};
use std::collections::BTreeMap;

/// How many results a search has at most, and if nobody says how many.
const MOST_RESULTS: usize = 100;
const RESULTS: usize = 25;
/// The filters of a search.
const SEARCH_FILTERS: [&str; 3] = ["is-automated", "is-official", "stars"];
/// The largest image configuration that is read.
const CONFIG_LIMIT: u64 = 8 << 20;

impl Images {
    /// Returns the answer to `GET /distribution/{name}/json`.
    ///
    /// # Errors
    ///
    /// The registry's, worded as Docker's.
    pub async fn inspect_remote(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<DistributionInspect> {
        let repository = self.client().repository(reference, credentials, Access::Pull);
        let fetched = repository.resolve().await.map_err(|error| registry_error(&error))?;
        let platforms: Vec<Platform> = match super::pull::parse(&fetched.descriptor, &fetched.bytes)? {
            Document::Index(index) => {
                index.manifests.into_iter().filter_map(|entry| entry.platform).collect()
            }
            Document::Manifest(manifest) if manifest.config.size <= CONFIG_LIMIT => {
                let mut blob = repository.blob(&manifest.config, 0);
                let mut bytes = Vec::new();
                while let Some(piece) = blob.chunk().await.map_err(|error| registry_error(&error))? {
                    bytes.extend_from_slice(&piece);
                }
                let right = manifest.config.digest.matches(&bytes);
                let config = serde_json::from_slice::<oci::ImageConfig>(&bytes).ok().filter(|_| right);
                config.map(|config| config.platform()).into_iter().collect()
            }
            Document::Manifest(_) => Vec::new(),
        };
        Ok(DistributionInspect {
            descriptor: view::descriptor(&fetched.descriptor),
            platforms: platforms.iter().map(view::platform_view).collect(),
        })
    }

    /// Returns the answer to `GET /images/search`: what the registry that `term` begins with has (`HOST:PORT/NAME`), or
    /// Docker Hub and then the `registries` that are configured here.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a filter or limit that is none; the registry's, if none of them answers.
    pub async fn search(
        &self,
        term: &str,
        limit: Option<i64>,
        filters: &Filters,
        registries: &[String],
        credentials: &Credentials,
    ) -> Result<Vec<SearchResult>> {
        let wanted = Wanted::read(filters)?;
        let limit = match limit {
            None | Some(0) => RESULTS,
            Some(limit) => {
                usize::try_from(limit).ok().filter(|limit| *limit <= MOST_RESULTS).ok_or_else(|| {
                    Error::invalid(format!("limit {limit} is outside the range of [1, {MOST_RESULTS}]"))
                })?
            }
        };
        let (domain, name) = registry_of(term)?;
        let mut domains = vec![(domain.unwrap_or("docker.io"), "")];
        if domain.is_none() {
            domains.extend(registries.iter().map(|host| (host.as_str(), host.as_str())));
        }
        let client = self.client();
        let (mut found, mut answered, mut failure) = (Vec::new(), false, None);
        for (index, (domain, shown)) in domains.into_iter().enumerate() {
            // The user's credentials belong to the first.
            let own = if index == 0 { credentials.clone() } else { Credentials::default() };
            match client.search(domain, name, limit, &own).await {
                Ok(hits) => {
                    answered = true;
                    let hits = hits.into_iter().filter(|hit| wanted.takes(hit));
                    found.extend(hits.map(|hit| result(hit, shown)));
                }
                Err(error) => {
                    tracing::debug!(domain, error = base::chain(&error), "a registry cannot be searched");
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if !answered => Err(registry_error(&error)),
            _ => {
                found.truncate(limit);
                Ok(found)
            }
        }
    }

    /// Downloads `url` into the blocking `take`, which is told through what it reads when that fails.
    ///
    /// # Errors
    ///
    /// That the address cannot be read; else what `take` returns.
    pub async fn fetch_into<T: Send + 'static>(
        &self,
        url: &str,
        progress: impl Fn(u64, u64) + Send,
        take: impl FnOnce(&mut dyn std::io::Read) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut download = self.client().download(url).await.map_err(|error| registry_error(&error))?;
        let (sender, mut receiver) = pipe::pipe();
        let taking = tokio::spawn(blocking(move || take(&mut receiver)));
        let (mut current, mut broken) = (0, None);
        loop {
            match download.chunk().await {
                Ok(Some(piece)) => {
                    current += piece.len() as u64;
                    progress(current, download.size.unwrap_or(0));
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
                Ok(None) => {
                    sender.finish();
                    break;
                }
                Err(error) => {
                    // The reader sees a broken pipe.
                    drop(sender);
                    broken = Some(registry_error(&error));
                    break;
                }
            }
        }
        let taken = taking.await.map_err(|error| Error::known(base::Kind::Internal, error.to_string()))?;
        broken.map_or(taken, Err)
    }

    /// Shows `credentials` to the registry at `server` (`POST /auth`); returns the token to keep in their place, if there is one.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if the registry does not take them.
    pub async fn login(
        &self,
        server: &str,
        credentials: &Credentials,
        verify: bool,
    ) -> Result<Option<String>> {
        let client = self.client_for(distribution::domain_of(server), verify);
        client.login(server, credentials).await.map_err(|error| registry_error(&error))
    }
}

/// Chooses the credentials for a reference's registry out of those by registry, as clients keep them.
pub(crate) fn credentials_for(all: &BTreeMap<String, Credentials>, reference: &Reference) -> Credentials {
    let registry = reference.domain();
    let keys = [registry, "https://index.docker.io/v1/", "docker.io"];
    let keys = if registry == "docker.io" { &keys[..] } else { &keys[..1] };
    keys.iter().find_map(|key| all.get(*key)).cloned().unwrap_or_default()
}

/// What a search's filters leave.
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: i64,
}

impl Wanted {
    fn read(filters: &Filters) -> Result<Self> {
        filters.validate(&SEARCH_FILTERS).map_err(|error| invalid(&error))?;
        let mut stars = 0;
        for text in filters.get("stars") {
            let number: i64 =
                text.parse().map_err(|_ignored| Error::invalid(format!("invalid filter 'stars={text}'")))?;
            stars = stars.max(number);
        }
        let truth = |name: &str| filters.boolean(name).map_err(|error| invalid(&error));
        Ok(Self { official: truth("is-official")?, automated: truth("is-automated")?, stars })
    }

    fn takes(&self, hit: &distribution::Hit) -> bool {
        self.official.is_none_or(|official| official == hit.is_official)
            && self.automated.is_none_or(|automated| automated == hit.is_automated)
            && hit.star_count >= self.stars
    }
}

fn result(hit: distribution::Hit, registry: &str) -> SearchResult {
    let distribution::Hit { name, description, star_count, is_official, is_automated } = hit;
    // What is found in a registry nobody named is shown as it is pulled.
    let name = if registry.is_empty() { name } else { format!("{registry}/{name}") };
    SearchResult { star_count, is_official, name, is_automated, description }
}

/// Splits what is searched for into a registry, if one is named, and the rest (moby, *splitReposSearchTerm*).
fn registry_of(term: &str) -> Result<(Option<&str>, &str)> {
    if term.contains("://") {
        return Err(Error::invalid(format!(
            "invalid repository name: repository name ({term}) should not have a scheme"
        )));
    }
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => Ok((Some(host), rest)),
        _ => Ok((None, term)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_terms() {
        for (term, expected) in [
            ("redis", (None, "redis")),
            ("me/redis", (None, "me/redis")),
            ("127.0.0.1:5000/redis", (Some("127.0.0.1:5000"), "redis")),
            ("localhost/a/b", (Some("localhost"), "a/b")),
        ] {
            assert_eq!(registry_of(term).unwrap(), expected, "{term}");
        }
        assert!(registry_of("https://x/y").is_err());
    }
}
