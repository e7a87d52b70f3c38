//! Image references: `[DOMAIN/]PATH[:TAG][@DIGEST]`.
//!
//! The grammar is that of `distribution/reference`; *familiar* is Docker's short form, in which `docker.io/library/`
//! is left out. Error texts are Docker's, since scripts match them.

use crate::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The domain that is meant when none is named.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that is meant when neither tag nor digest is named.
pub const DEFAULT_TAG: &str = "latest";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
const LOCALHOST: &str = "localhost";

/// Names an image: a repository with its domain, and perhaps a tag, a digest or both.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReference {
    /// The text does not fit the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hexadecimal digits are an identifier, not a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// Domain and path are too long together.
    #[error("repository name must not be more than {MAX_NAME} characters")]
    TooLong,
    /// The digest is not one.
    #[error("{0}")]
    Digest(#[from] crate::InvalidDigest),
}

impl Reference {
    /// Parses a reference as a user types it: `alpine` means `docker.io/library/alpine`. No tag is added.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the text, in Docker's words.
    pub fn parse_normalized(text: &str) -> Result<Self, InvalidReference> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidReference::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split_once(':').map_or(remainder.as_str(), |(name, _)| name);
        if remote.chars().any(char::is_uppercase) {
            return Err(InvalidReference::Uppercase(remote.to_owned()));
        }
        let (named, digest) = match remainder.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match named.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (named, None),
        };
        if !is_domain(&domain) || !is_path(path) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(InvalidReference::Format);
        }
        if digest.is_some_and(|digest| !looks_like_digest(digest)) {
            return Err(InvalidReference::Format);
        }
        if path.len() > MAX_NAME {
            return Err(InvalidReference::TooLong);
        }
        let digest = digest.map(Digest::parse).transpose()?;
        let path = path.to_owned();
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest })
    }

    /// Returns the registry's host, perhaps with a port: `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository within its registry: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns domain and path: `docker.io/library/alpine`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns Docker's short form of the repository: `alpine`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        // "library/a/b" cannot be shortened: "a/b" would be another repository.
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Returns the tag, if one is named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one is named.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the same reference, with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// Returns the same repository with `tag` and no digest.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidReference::Format`] if `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Returns the same repository with `digest` and no tag: a repo digest.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// Returns the repository alone, without tag and digest.
    #[must_use]
    pub fn without_tag(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// Returns Docker's short form with tag and digest: `alpine:latest`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    fn suffix(&self) -> String {
        let mut text = String::new();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse_normalized(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_normalized(&text).map_err(serde::de::Error::custom)
    }
}

/// Splits off the domain, as Docker decides what is one: it has a dot or colon, is `localhost`, or has upper case.
fn split_domain(text: &str) -> (String, String) {
    let (domain, remainder) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == LOCALHOST || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    // Only the name counts: `x@sha256:…` and `x:tag` have no slash of their own.
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}{remainder}"));
    }
    (domain.to_owned(), remainder.to_owned())
}

fn is_domain(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return !address.is_empty()
            && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    port.is_none_or(is_port) && host.split('.').all(is_domain_component)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| alphanumeric(*b));
    let bytes = text.as_bytes();
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(is_separator)
}

fn is_separator(text: &str) -> bool {
    matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-')
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The reference grammar's own idea of a digest, wider than the digests that exist.
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let component = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(component)
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(text: &str, full: &str, familiar: &str) {
        let reference = Reference::parse_normalized(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(reference.to_string(), full, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
        assert_eq!(Reference::parse_normalized(full), Ok(reference.clone()), "{text}");
        assert_eq!(Reference::parse_normalized(familiar), Ok(reference), "{text}");
    }

    #[test]
    fn normalises_as_docker_does() {
        check("alpine", "docker.io/library/alpine", "alpine");
        check("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20");
        check("library/alpine", "docker.io/library/alpine", "alpine");
        check("docker.io/alpine", "docker.io/library/alpine", "alpine");
        check("index.docker.io/alpine", "docker.io/library/alpine", "alpine");
        check("index.docker.io/library/alpine:x", "docker.io/library/alpine:x", "alpine:x");
        check("user/app", "docker.io/user/app", "user/app");
        check("library/a/b", "docker.io/library/a/b", "library/a/b");
        check("localhost/app", "localhost/app", "localhost/app");
        check("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1");
        check("quay.io/a/b/c:T-1_x.", "quay.io/a/b/c:T-1_x.", "quay.io/a/b/c:T-1_x.");
        check("[fd00:1:2::3]:75/repo:tag", "[fd00:1:2::3]:75/repo:tag", "[fd00:1:2::3]:75/repo:tag");
        check("Host/app", "Host/app", "Host/app");
        check("a/foo__bar--baz.q_z", "docker.io/a/foo__bar--baz.q_z", "a/foo__bar--baz.q_z");
        let digest = format!("sha256:{HEX}");
        check(
            &format!("alpine@{digest}"),
            &format!("docker.io/library/alpine@{digest}"),
            &format!("alpine@{digest}"),
        );
        check(&format!("a/b:t@{digest}"), &format!("docker.io/a/b:t@{digest}"), &format!("a/b:t@{digest}"));
    }

    #[test]
    fn refuses_in_dockers_words() {
        let upper =
            |name: &str| format!("invalid reference format: repository name ({name}) must be lowercase");
        let format = || "invalid reference format".to_owned();
        for (text, expect) in [
            ("", format()),
            (":", format()),
            ("a:", format()),
            ("a@", format()),
            ("-a", format()),
            ("a-", format()),
            ("a..b", format()),
            ("a___b", format()),
            ("a//b", format()),
            ("/a", format()),
            ("a/", format()),
            ("a b", format()),
            ("docker.io/", format()),
            ("x.y:port/a", format()),
            ("-x.y/a", format()),
            ("[::1/a", format()),
            ("a:-x", format()),
            ("a@sha256:abc", format()),
            (&format!("a@sha256:{}", "0".repeat(40)), "invalid checksum digest length".to_owned()),
            (&format!("a@md5:{}", "0".repeat(32)), "unsupported digest algorithm".to_owned()),
            ("a\u{e9}", format()),
            ("Alpine", upper("library/Alpine")),
            ("user/App:x", upper("user/App")),
            (HEX, format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            (&"a".repeat(256), "repository name must not be more than 255 characters".to_owned()),
            (&format!("a:{}", "t".repeat(129)), format()),
        ] {
            let error = Reference::parse_normalized(text).expect_err(text);
            assert_eq!(error.to_string(), expect, "{text}");
        }
    }

    #[test]
    fn parts_and_changes() {
        let reference = Reference::parse_normalized("quay.io/a/b").unwrap();
        assert_eq!((reference.domain(), reference.path()), ("quay.io", "a/b"));
        assert_eq!(reference.clone().with_default_tag().tag(), Some("latest"));
        assert_eq!(reference.with_tag("x").unwrap().familiar(), "quay.io/a/b:x");
        assert!(reference.with_tag("/").is_err());
        let digest = Digest::sha256_of(b"");
        let pinned = reference.with_tag("x").unwrap().with_digest(&digest);
        assert_eq!(pinned.to_string(), format!("quay.io/a/b@{digest}"));
        assert_eq!(pinned.clone().with_default_tag(), pinned);
        assert_eq!(pinned.without_tag(), reference);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _parsed = Reference::parse_normalized(&text);
        }

        #[test]
        fn print_then_parse_is_identity(
            text in "([a-z0-9.:]{1,8}/)?[a-z0-9]{1,4}([._-][a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,5}){0,2}(:[A-Za-z0-9_][\\w.-]{0,6})?"
        ) {
            if let Ok(reference) = Reference::parse_normalized(&text) {
                prop_assert_eq!(&Reference::parse_normalized(&reference.to_string()).unwrap(), &reference);
                prop_assert_eq!(&Reference::parse_normalized(&reference.familiar()).unwrap(), &reference);
            }
        }
    }
}
