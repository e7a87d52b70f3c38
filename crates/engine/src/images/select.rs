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

/// Says whether a list shows `image`.
pub(super) fn is_listed(image: &Image, filters: &Filters, age: Age) -> Result<bool> {
    if let Some(dangling) = filters.boolean("dangling").map_err(|error| invalid(&error))? {
        let bare = image.names.is_empty() && image.repo_digests.is_empty();
        if (dangling && !image.names.is_empty()) || (!dangling && bare) {
            return Ok(false);
        }
    }
    if !age.covers(image.created) || !fits_labels(&image.config.config.labels, filters) {
        return Ok(false);
    }
    if !filters.contains("reference") {
        return Ok(true);
    }
    for pattern in filters.get("reference") {
        for reference in image.names.iter().chain(&image.repo_digests) {
            if fits_pattern(pattern, reference)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
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

    fn listed(image: &Image, filters: &str) -> bool {
        is_listed(image, &Filters::parse(filters).unwrap(), Age::default()).unwrap()
    }

    #[test]
    fn dangling_means_without_tag() {
        let (tagged, by_digest, bare) =
            (image(&["a:1"], &["a@"], None, &[]), image(&[], &["a@"], None, &[]), image(&[], &[], None, &[]));
        let check = |filters: &str| [&tagged, &by_digest, &bare].map(|image| listed(image, filters));
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
        for (pattern, expected) in [
            ("alpine", true),
            ("alp*", true),
            ("alpine:3.*", true),
            ("alpine:3.18", false),
            ("docker.io/library/alpine", false),
            ("*/*/*", true),
            ("localhost:5000/x/*", true),
            ("localhost:5000/*", false),
        ] {
            assert_eq!(listed(&image, &format!(r#"{{"reference":["{pattern}"]}}"#)), expected, "{pattern}");
        }
        let broken = is_listed(&image, &Filters::parse(r#"{"reference":["["]}"#).unwrap(), Age::default());
        assert!(broken.unwrap_err().to_string().contains("syntax error in pattern"));
    }

    #[test]
    fn ages_and_labels_narrow() {
        let image = image(&["a:1"], &[], Some(100), &[("k", "v")]);
        let within = |before: Option<i64>, since: Option<i64>| {
            let age =
                Age { before: before.map(Timestamp::from_nanos), since: since.map(Timestamp::from_nanos) };
            is_listed(&image, &Filters::default(), age).unwrap()
        };
        assert_eq!([within(Some(101), None), within(Some(100), None)], [true, false]);
        assert_eq!([within(None, Some(99)), within(None, Some(100))], [true, false]);
        assert!(listed(&image, r#"{"label":["k=v"]}"#) && !listed(&image, r#"{"label":["k=w"]}"#));
        assert!(!listed(&image, r#"{"label!":["k"]}"#) && listed(&image, r#"{"label!":["other"]}"#));
    }
}
