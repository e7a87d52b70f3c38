//! `--annotation [PLACE[PLATFORM],…:]NAME=VALUE`: facts of the manifests of an image, of its index, and of the descriptors in
//! the index.

use crate::error::{Error, Result};
use serde::Serialize;

/// The documents that may have facts, as they are named.
const PLACES: [&str; 3] = ["manifest", "index", "manifest-descriptor"];

/// A fact, as the daemon is told it (`routes/build/own.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Annotation {
    place: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    name: String,
    value: String,
}

/// Reads the flags; `is_index` says whether there will be an index.
pub(super) fn parse(texts: &[String], is_index: bool) -> Result<Vec<Annotation>> {
    let mut all = Vec::new();
    for text in texts {
        let wrong = || Error::message(format!("invalid annotation {text:?}, expected key=value"));
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let (places, name) = name.split_once(':').unwrap_or(("manifest", name));
        if name.is_empty() {
            return Err(wrong());
        }
        for place in places.split(',') {
            let (place, platform) = match place.strip_suffix(']').and_then(|place| place.split_once('[')) {
                Some((place, platform)) if place != "index" => (place, platform),
                Some(_) => return Err(Error::message(format!("an index has no platform: {text:?}"))),
                None => (place, ""),
            };
            if !PLACES.contains(&place) {
                return Err(Error::message(format!("unknown annotation type {place:?} of {text:?}")));
            }
            if place != "manifest" && !is_index {
                let text = format!("annotations of type {place:?} need an index, which one image has not");
                return Err(Error::message(text));
            }
            all.push(Annotation {
                place: place.to_owned(),
                platform: platform.to_owned(),
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read() {
        let shown = |text: &str, is_index| match parse(&[text.to_owned()], is_index) {
            Ok(all) => all
                .iter()
                .map(|it| format!("{}[{}] {}={}", it.place, it.platform, it.name, it.value))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        };
        for (text, is_index, expect) in [
            ("a=b=c", false, "manifest[] a=b=c"),
            ("manifest:a=b", false, "manifest[] a=b"),
            ("manifest[linux/arm64]:a=b", true, "manifest[linux/arm64] a=b"),
            ("index,manifest-descriptor:a=", true, "index[] a= manifest-descriptor[] a="),
            ("index:a=b", false, "annotations of type \"index\" need an index, which one image has not"),
            ("index[linux/amd64]:a=b", true, "an index has no platform: \"index[linux/amd64]:a=b\""),
            ("indx:a=b", true, "unknown annotation type \"indx\" of \"indx:a=b\""),
            ("a", true, "invalid annotation \"a\", expected key=value"),
        ] {
            assert_eq!(shown(text, is_index), expect, "{text}");
        }
    }
}
