//! A repository at its registry: manifests, tags, and the way to its blobs.

use crate::auth::Subject;
use crate::blob::Blob;
use crate::credentials::Credentials;
use crate::endpoint::{self, Endpoint, Mirror};
use crate::error::{Error, Refusal};
use crate::exchange::{Answer, Call};
use crate::{Client, hosts, uri};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use oci::{Descriptor, Digest, Document, Hasher, Reference, media_type};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The largest manifest or index; distribution-spec 1.1 asks registries to take at least 4 MiB.
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest page of tags, and how many pages are read.
const TAGS_LIMIT: u64 = 4 << 20;
const TAG_PAGES: usize = 1000;

const ACCEPT: [&str; 4] =
    [media_type::OCI_INDEX, media_type::DOCKER_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST];

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a repository is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// A manifest or index as it came; its bytes have the descriptor's digest.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// The raw document.
    pub bytes: Bytes,
}

/// A repository as one user sees it. Cheap to clone; clones share what they learn about endpoints.
#[derive(Debug, Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    reference: Reference,
    credentials: Credentials,
    access: Access,
    scope: String,
    endpoints: Vec<Endpoint>,
    /// Why there are none.
    unusable: Option<hosts::Unusable>,
    /// The endpoint that answered last: blobs are asked for where the manifest was.
    current: AtomicUsize,
}

impl Repository {
    pub(crate) fn new(
        client: Client,
        reference: Reference,
        credentials: Credentials,
        access: Access,
    ) -> Self {
        let settings = &client.inner().settings;
        let mirrors: &[Mirror] = match access {
            Access::Pull => &settings.mirrors,
            // Nobody pushes to a mirror.
            Access::Push => &[],
        };
        let mut endpoints = endpoint::endpoints(reference.domain(), mirrors, &settings.insecure);
        // A small file, if there is one; containerd reads it as often.
        let found = hosts::endpoints(&settings.certs_dirs, reference.domain(), &settings.insecure, access);
        let unusable = match found {
            Ok(None) => None,
            Ok(Some(hosts)) => {
                endpoints.pop();
                endpoints.extend(hosts);
                None
            }
            Err(error) => {
                endpoints.clear();
                Some(error)
            }
        };
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", reference.path());
        let current = AtomicUsize::new(0);
        Self {
            inner: Arc::new(Inner {
                client,
                reference,
                credentials,
                access,
                scope,
                endpoints,
                unusable,
                current,
            }),
        }
    }

    /// Returns the reference this repository was made for, with its tag or digest.
    pub fn reference(&self) -> &Reference {
        &self.inner.reference
    }

    /// Fetches the manifest or index that the reference names.
    ///
    /// # Errors
    ///
    /// `NotFound` for an unknown tag or repository and for a refused one, in Docker's words; others as they come.
    pub async fn resolve(&self) -> Result<Fetched, Error> {
        let reference = &self.inner.reference;
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => self.fetch(&digest.to_string(), Some(digest), "").await,
            (None, tag) => self.fetch(tag.unwrap_or(oci::reference::DEFAULT_TAG), None, "").await,
        }
    }

    /// Fetches the manifest or index that `descriptor` names.
    ///
    /// # Errors
    ///
    /// As [`Repository::resolve`]; also if the size is not the descriptor's.
    pub async fn manifest(&self, descriptor: &Descriptor) -> Result<Fetched, Error> {
        let name = descriptor.digest.to_string();
        let fetched = self.fetch(&name, Some(&descriptor.digest), &descriptor.media_type).await?;
        if fetched.descriptor.size != descriptor.size {
            let problem = format!("size is {}, not {}", fetched.descriptor.size, descriptor.size);
            return Err(Error::Protocol { url: name, problem });
        }
        Ok(fetched)
    }

    /// Asks what the reference names, without fetching it: registries do not count this as a pull.
    ///
    /// Returns `None` if the registry does not tell.
    ///
    /// # Errors
    ///
    /// As [`Repository::resolve`].
    pub async fn head(&self) -> Result<Option<Descriptor>, Error> {
        let reference = &self.inner.reference;
        let digest = reference.digest().map(ToString::to_string);
        let name = digest.as_deref().or_else(|| reference.tag()).unwrap_or(oci::reference::DEFAULT_TAG);
        let call = manifest_call(Method::HEAD, self, name);
        let mut last = None;
        let by_digest = digest.is_some();
        for (index, endpoint) in self.endpoints().filter(|(_, endpoint)| endpoint.serves(by_digest)) {
            match self.repeated(endpoint, &call).await {
                Ok(answer) => {
                    self.inner.current.store(index, Ordering::Relaxed);
                    return Ok(described(&answer));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(self.worded(last))
    }

    /// Returns all tags, in the registry's order.
    ///
    /// # Errors
    ///
    /// As [`Repository::resolve`].
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut all = Vec::new();
        let mut call = Call::new(Method::GET, self.path("tags/list"));
        let endpoint = self.origin()?;
        for _ in 0..TAG_PAGES {
            let answer = self.repeated(endpoint, &call).await.map_err(|error| self.worded(Some(error)))?;
            let next = answer
                .header(&header::LINK)
                .and_then(next_page)
                .and_then(|link| uri::join(&answer.url, link));
            let url = answer.url.clone();
            let page = self.exchange().transport.read(&url, answer.response, TAGS_LIMIT).await?;
            let page: Page = serde_json::from_slice(&page).map_err(|error| Error::Protocol {
                url: uri::without_query(&url),
                problem: error.to_string(),
            })?;
            all.extend(page.tags.unwrap_or_default());
            match next.filter(|next| uri::same_origin(next, &url)) {
                Some(next) => call.path = next.to_string(),
                None => break,
            }
        }
        Ok(all)
    }

    /// Returns the blob that `descriptor` names, from its `offset`-th byte on. Nothing is sent yet.
    pub fn blob(&self, descriptor: &Descriptor, offset: u64) -> Blob {
        Blob::new(self.clone(), descriptor, offset)
    }

    async fn fetch(&self, name: &str, expected: Option<&Digest>, announced: &str) -> Result<Fetched, Error> {
        let call = manifest_call(Method::GET, self, name);
        let mut last = None;
        let by_digest = expected.is_some();
        for (index, endpoint) in self.endpoints().filter(|(_, endpoint)| endpoint.serves(by_digest)) {
            match self.fetch_from(endpoint, &call, expected, announced).await {
                Ok(fetched) => {
                    self.inner.current.store(index, Ordering::Relaxed);
                    return Ok(fetched);
                }
                Err(error) => {
                    if !endpoint.origin {
                        tracing::warn!(mirror = endpoint.authority, error = %base::chain(&error), "mirror cannot serve the manifest");
                    }
                    last = Some(error);
                }
            }
        }
        Err(self.worded(last))
    }

    async fn fetch_from(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        expected: Option<&Digest>,
        announced: &str,
    ) -> Result<Fetched, Error> {
        let mut failed = 0;
        loop {
            let outcome = async {
                let answer = self.exchange().success(self.subject(endpoint), call).await?;
                let url = answer.url.clone();
                let told = answer.header(&CONTENT_DIGEST).map(str::to_owned);
                let media_type = answer.header(&header::CONTENT_TYPE).unwrap_or_default();
                let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
                let bytes = self.exchange().transport.read(&url, answer.response, MANIFEST_LIMIT).await?;
                verified(bytes, &media_type, expected, told.as_deref(), announced)
            };
            match outcome.await {
                Err(error) if error.is_transient() => {
                    failed += 1;
                    self.inner.client.back_off(failed, error).await?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Sends `call`, again after transient failures, and returns the answer of success.
    pub(crate) async fn repeated(&self, endpoint: &Endpoint, call: &Call) -> Result<Answer, Error> {
        let mut failed = 0;
        loop {
            match self.exchange().success(self.subject(endpoint), call).await {
                Err(error) if error.is_transient() => {
                    failed += 1;
                    self.inner.client.back_off(failed, error).await?;
                }
                outcome => return outcome,
            }
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn exchange(&self) -> &crate::exchange::Exchange {
        &self.inner.client.inner().exchange
    }

    pub(crate) fn subject<'a>(&'a self, endpoint: &'a Endpoint) -> Subject<'a> {
        Subject { endpoint, credentials: &self.inner.credentials, scope: &self.inner.scope }
    }

    pub(crate) fn scope(&self) -> &str {
        &self.inner.scope
    }

    /// Returns the path of `rest` within the repository.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.inner.reference.path())
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        self.inner.endpoints.iter().enumerate()
    }

    pub(crate) fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.inner.endpoints.get(index)
    }

    pub(crate) fn current(&self) -> usize {
        self.inner.current.load(Ordering::Relaxed)
    }

    /// Returns the registry that the reference names.
    pub(crate) fn origin(&self) -> Result<&Endpoint, Error> {
        self.inner.endpoints.last().ok_or_else(|| self.worded(None))
    }

    /// Words a registry's refusal as Docker does.
    pub(crate) fn worded(&self, error: Option<Error>) -> Error {
        let reference = &self.inner.reference;
        let Some(error) = error else {
            return match self.inner.unusable.clone() {
                Some(hosts::Unusable { path, problem }) => Error::Hosts { path, problem },
                None => {
                    let problem = "no host serves this".to_owned();
                    Error::Protocol { url: reference.domain().to_owned(), problem }
                }
            };
        };
        let Error::Refused { refusal } = &error else { return error };
        let detail = refusal.to_string();
        match (refusal.code.as_str(), refusal.status) {
            ("DENIED", _) if self.inner.access == Access::Pull => {
                Error::AccessDenied { name: reference.familiar_name(), detail }
            }
            ("MANIFEST_UNKNOWN", _) => Error::ManifestNotFound { reference: reference.familiar(), detail },
            ("NAME_UNKNOWN", _) => Error::RepositoryNotFound { name: reference.familiar_name(), detail },
            ("", 404) => {
                let words = Refusal { message: "not found".to_owned(), ..refusal.clone() };
                Error::ManifestNotFound { reference: reference.familiar(), detail: words.to_string() }
            }
            _ => error,
        }
    }
}

fn manifest_call(method: Method, repository: &Repository, name: &str) -> Call {
    ACCEPT
        .iter()
        .fold(Call::new(method, repository.path(&format!("manifests/{name}"))), |call, media_type| {
            call.header(header::ACCEPT, HeaderValue::from_static(media_type))
        })
}

/// Checks a manifest's bytes against everything that was said about them.
fn verified(
    bytes: Bytes,
    media_type: &str,
    expected: Option<&Digest>,
    told: Option<&str>,
    announced: &str,
) -> Result<Fetched, Error> {
    // A digest in the reference decides; else the registry's own claim, so that a broken proxy is noticed.
    let told = told.and_then(|told| Digest::parse(told).ok());
    let digest = match expected.or(told.as_ref()) {
        Some(claimed) => {
            let mut hasher = Hasher::new(claimed.algorithm());
            hasher.update(&bytes);
            let found = hasher.finish();
            if found != *claimed {
                return Err(Error::WrongDigest { expected: claimed.to_string(), found: found.to_string() });
            }
            found
        }
        None => Digest::sha256_of(&bytes),
    };
    let known = |name: &str| media_type::is_index(name) || media_type::is_manifest(name);
    let said = if known(announced) { announced } else { media_type };
    let kind = match Document::parse(said, &bytes) {
        Ok(_) if known(said) => said.to_owned(),
        Ok(Document::Index(index)) => index.media_type.unwrap_or_else(|| media_type::OCI_INDEX.to_owned()),
        Ok(Document::Manifest(manifest)) => {
            manifest.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned())
        }
        Err(oci::WrongDocument::Unsupported(media_type)) => {
            return Err(Error::UnsupportedManifest { media_type });
        }
        Err(error) => {
            return Err(Error::Protocol { url: digest.to_string(), problem: base::chain(&error) });
        }
    };
    let size = bytes.len() as u64;
    Ok(Fetched { descriptor: Descriptor::new(&kind, digest, size), bytes })
}

/// Reads a descriptor out of the headers of an answer to `HEAD`.
fn described(answer: &Answer) -> Option<Descriptor> {
    let digest = Digest::parse(answer.header(&CONTENT_DIGEST)?).ok()?;
    let size = answer.header(&header::CONTENT_LENGTH)?.parse().ok()?;
    let media_type = answer.header(&header::CONTENT_TYPE)?.split(';').next()?.trim();
    Some(Descriptor::new(media_type, digest, size))
}

/// Returns the target of `<URL>; rel="next"` (RFC 8288).
pub(crate) fn next_page(link: &str) -> Option<&str> {
    let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.replace('"', "").contains("rel=next").then_some(url)
}
