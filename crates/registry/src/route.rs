//! From a path to what it names. Pure.
//!
//! Repository names contain slashes, so paths are read from their end (distribution-spec, *Endpoints*).

use oci::Reference;

/// The longest repository name, as Docker's registry allows.
const MAX_NAME: usize = 255;

/// What a path names; digests and identifiers are still as they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(&'a str),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(&'a str, &'a str),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(&'a str, &'a str),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(&'a str),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(&'a str, &'a str),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(&'a str, &'a str),
    /// `/v1/_ping`, which clients ask before they search.
    Ping,
    /// `/v1/search`
    Search,
}

impl<'a> Route<'a> {
    /// Reads a path; `None` if it names nothing. The repository's name is not checked yet.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        match path {
            "/v2" | "/v2/" => return Some(Self::Base),
            "/v2/_catalog" => return Some(Self::Catalog),
            "/v1/_ping" => return Some(Self::Ping),
            "/v1/search" => return Some(Self::Search),
            _ => {}
        }
        let rest = path.strip_prefix("/v2/")?;
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags(name));
        }
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Some(Self::Uploads(name));
        }
        let (before, last) = rest.rsplit_once('/')?;
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            return Some(Self::Upload(name, last));
        }
        if let Some(name) = before.strip_suffix("/blobs") {
            return Some(Self::Blob(name, last));
        }
        if let Some(name) = before.strip_suffix("/manifests") {
            return Some(Self::Manifest(name, last));
        }
        before.strip_suffix("/referrers").map(|name| Self::Referrers(name, last))
    }

    /// The repository that the path is about.
    pub(crate) fn name(&self) -> Option<&'a str> {
        match self {
            Self::Base | Self::Catalog | Self::Ping | Self::Search => None,
            Self::Tags(name)
            | Self::Uploads(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }
}

/// Says whether `name` may name a repository. What passes is safe as a path on disk: no empty, hidden or
/// upward component.
pub(crate) fn is_name(name: &str) -> bool {
    // A domain before it makes the parser read all of it as a path.
    name.len() <= MAX_NAME
        && !name.contains([':', '@'])
        && Reference::parse_normalized(&format!("localhost/{name}"))
            .is_ok_and(|reference| reference.path() == name)
}

/// Says whether `tag` may be a tag.
pub(crate) fn is_tag(tag: &str) -> bool {
    !tag.contains(['/', '@', ':'])
        && Reference::parse_normalized(&format!("localhost/a:{tag}"))
            .is_ok_and(|reference| reference.tag() == Some(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_and_what_they_name() {
        for (path, expected) in [
            ("/v2/", Some(Route::Base)),
            ("/v2", Some(Route::Base)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v1/search", Some(Route::Search)),
            ("/v2/a/tags/list", Some(Route::Tags("a"))),
            ("/v2/a/b/manifests/latest", Some(Route::Manifest("a/b", "latest"))),
            ("/v2/manifests/manifests/x", Some(Route::Manifest("manifests", "x"))),
            ("/v2/a/blobs/sha256:00", Some(Route::Blob("a", "sha256:00"))),
            ("/v2/a/blobs/uploads/", Some(Route::Uploads("a"))),
            ("/v2/a/blobs/uploads", Some(Route::Uploads("a"))),
            ("/v2/a/blobs/uploads/1-2", Some(Route::Upload("a", "1-2"))),
            ("/v2/a/referrers/sha256:00", Some(Route::Referrers("a", "sha256:00"))),
            ("/v2/a", None),
            ("/", None),
            ("/v2/manifests/x", None),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }

    #[test]
    fn names_and_tags() {
        for name in ["a", "library/busybox", "a/b/c/d", "a-b__c.d", "localhost/x", "sha256"] {
            assert!(is_name(name), "{name}");
        }
        for name in
            ["", "/", "a//b", "A", "a/", "/a", "..", "a/../b", "_a", "a/_layers", ".a", "a:b", "a@b", "a b"]
        {
            assert!(!is_name(name), "{name}");
        }
        assert!(!is_name(&"a".repeat(256)));
        assert!(is_tag("latest") && is_tag("1.0_x-Y") && is_tag("_") && !is_tag("") && !is_tag(".."));
        assert!(!is_tag(&"a".repeat(129)) && !is_tag("a/b") && !is_tag("-a"));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_stays_below_the_root(path in "(/v2/)?[a-z0-9._/%:@-]{0,60}") {
            if let Some(name) = Route::parse(&path).and_then(|route| route.name()).filter(|name| is_name(name)) {
                prop_assert!(name.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '_'])));
            }
        }
    }
}
