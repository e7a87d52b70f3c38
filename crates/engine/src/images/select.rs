//! Which images a list or a prune means.
//!
//! Pure: facts in, decision out. `GET /images/json` and `POST /images/prune`, *filters*; the meaning is dockerd's.

use super::glob;
use crate::error::{Error, Result};
use api::filters::Filters;
use base::Timestamp;
use oci::Reference;
use std::collections::BTreeMap;
use store::Image;

/// The filters that a list takes.
pub const LIST_FILTERS: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];
/// The filters that a prune takes.
pub const PRUNE_FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];

/// Limits of the time at which an image was made; each is exclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Age {
    pub(super) before: Option<Timestamp>,
    pub(super) since: Option<Timestamp>,
}

impl Age {
    fn covers(self, created: Option<Timestamp>) -> bool {
        // An image that does not say when it was made was made at Go's zero time: before everything.
        let created = created.unwrap_or(Timestamp::ZERO);
        self.before.is_none_or(|before| created < before) && self.since.is_none_or(|since| created > since)
    }
}

/// Returns what a list shows of `image`: all of it, or with a `reference` filter the names that fit; `None` if nothing.
pub(super) fn listed(mut image: Image, filters: &Filters, age: Age) -> Result<Option<Image>> {
    if let Some(dangling) = filters.boolean("dangling").map_err(|error| invalid(&error))? {
        let bare = image.names.is_empty() && image.repo_digests.is_empty();
        if (dangling && !image.names.is_empty()) || (!dangling && bare) {
            return Ok(None);
        }
    }
    if !age.covers(image.created) || !fits_labels(&image.config.config.labels, filters) {
        return Ok(None);
    }
    if filters.contains("reference") {
        for names in [&mut image.names, &mut image.repo_digests] {
            let mut fitting = Vec::new();
            for name in names.drain(..) {
                if fits_any(filters, &name)? {
                    fitting.push(name);
                }
            }
            *names = fitting;
        }
        if image.names.is_empty() && image.repo_digests.is_empty() {
            return Ok(None);
        }
    }
    Ok(Some(image))
}

/// Says whether a prune takes `image`, as far as the image itself is concerned.
pub(super) fn is_pruned(image: &Image, filters: &Filters, age: Age) -> Result<bool> {
    let dangling = filters.boolean("dangling").map_err(|error| invalid(&error))?.unwrap_or(true);
    Ok((!dangling || image.names.is_empty())
        && age.covers(image.created)
        && fits_labels(&image.config.config.labels, filters))
}

fn fits_labels(labels: &BTreeMap<String, String>, filters: &Filters) -> bool {
    filters.labels("label", labels) && !(filters.contains("label!") && filters.labels("label!", labels))
}

fn fits_any(filters: &Filters, reference: &Reference) -> Result<bool> {
    for pattern in filters.get("reference") {
        if fits_pattern(pattern, reference)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Says whether a `reference` pattern fits the familiar reference or the familiar name alone.
fn fits_pattern(pattern: &str, reference: &Reference) -> Result<bool> {
    let matches = |text: &str| {
        let broken =
            || Error::invalid(format!("invalid filter 'reference={pattern}': syntax error in pattern"));
        glob::matches(pattern, text).ok_or_else(broken)
    };
    Ok(matches(&reference.familiar())? || matches(&reference.familiar_name())?)
}

/// A filter that is refused.
pub(super) fn invalid(error: &api::filters::InvalidFilter) -> Error {
    Error::invalid(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::{Descriptor, Digest, ImageConfig, Manifest, Platform, media_type};
    use std::sync::Arc;

    fn image(names: &[&str], repo_digests: &[&str], created: Option<i64>, labels: &[(&str, &str)]) -> Image {
        let target = Descriptor::of(media_type::OCI_MANIFEST, b"target");
        let parse = |text: &&str| {
            Reference::parse_normalized(&text.replace('@', &format!("@{}", target.digest))).unwrap()
        };
        let mut config = ImageConfig::default();
        config.config.labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Image {
            manifest: target.clone(),
            document: Arc::new(Manifest::new(target.clone(), Vec::new())),
            platform: Platform::host(),
            config: Arc::new(config),
            config_digest: Digest::sha256_of(b"config"),
            diff_ids: Vec::new(),
            names: names.iter().map(parse).collect(),
            repo_digests: repo_digests.iter().map(parse).collect(),
            content_size: 0,
            unpacked_size: None,
            created: created.map(Timestamp::from_nanos),
            tagged: Timestamp::ZERO,
            target,
        }
    }

    fn shown(image: &Image, filters: &str) -> Option<Image> {
        listed(image.clone(), &Filters::parse(filters).unwrap(), Age::default()).unwrap()
    }

    fn is_listed(image: &Image, filters: &str) -> bool {
        shown(image, filters).is_some()
    }

    #[test]
    fn dangling_means_without_tag() {
        let (tagged, by_digest, bare) =
            (image(&["a:1"], &["a@"], None, &[]), image(&[], &["a@"], None, &[]), image(&[], &[], None, &[]));
        let check = |filters: &str| [&tagged, &by_digest, &bare].map(|image| is_listed(image, filters));
        assert_eq!(check(""), [true, true, true]);
        assert_eq!(check(r#"{"dangling":["true"]}"#), [false, true, true]);
        assert_eq!(check(r#"{"dangling":["false"]}"#), [true, true, false]);
        let pruned = |filters: &str| {
            let filters = Filters::parse(filters).unwrap();
            [&tagged, &by_digest, &bare].map(|image| is_pruned(image, &filters, Age::default()).unwrap())
        };
        assert_eq!(pruned(""), [false, true, true]);
        assert_eq!(pruned(r#"{"dangling":["false"]}"#), [true, true, true]);
    }

    #[test]
    fn references_are_patterns_of_familiar_names() {
        let image = image(&["alpine:3.19", "localhost:5000/x/y:v1"], &["alpine@"], None, &[]);
        let (first, second) = ("alpine:3.19", "localhost:5000/x/y:v1");
        for (pattern, expected) in [
            ("alpine", &[first, "alpine@"][..]),
            ("alp*", &[first, "alpine@"]),
            ("alpine:3.*", &[first]),
            ("alpine:3.18", &[]),
            ("docker.io/library/alpine", &[]),
            ("*/*/*", &[second]),
            ("localhost:5000/x/*", &[second]),
            ("localhost:5000/*", &[]),
        ] {
            let shown = shown(&image, &format!(r#"{{"reference":["{pattern}"]}}"#));
            let names = shown.iter().flat_map(|image| image.names.iter().chain(&image.repo_digests));
            let digest = image.target.digest.to_string();
            let names: Vec<_> = names.map(|name| name.familiar().replace(&digest, "")).collect();
            assert_eq!(
                (names, shown.is_some()),
                (expected.iter().map(|&name| name.to_owned()).collect(), !expected.is_empty()),
                "{pattern}"
            );
        }
        let broken = listed(image, &Filters::parse(r#"{"reference":["["]}"#).unwrap(), Age::default());
        assert!(broken.unwrap_err().to_string().contains("syntax error in pattern"));
    }

    #[test]
    fn ages_and_labels_narrow() {
        let image = image(&["a:1"], &[], Some(100), &[("k", "v")]);
        let within = |before: Option<i64>, since: Option<i64>| {
            let age =
                Age { before: before.map(Timestamp::from_nanos), since: since.map(Timestamp::from_nanos) };
            listed(image.clone(), &Filters::default(), age).unwrap().is_some()
        };
        assert_eq!([within(Some(101), None), within(Some(100), None)], [true, false]);
        assert_eq!([within(None, Some(99)), within(None, Some(100))], [true, false]);
        assert!(is_listed(&image, r#"{"label":["k=v"]}"#) && !is_listed(&image, r#"{"label":["k=w"]}"#));
        assert!(!is_listed(&image, r#"{"label!":["k"]}"#) && is_listed(&image, r#"{"label!":["other"]}"#));
    }
}
