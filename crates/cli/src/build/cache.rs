//! `--cache-from` and `--cache-to`: caches that travel, as images in registries, folders, or within the built image.

use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::images;
use crate::program::Cli;
use serde::Serialize;
use std::path::PathBuf;

/// A cache from elsewhere, as the daemon is told it (`routes/build/own.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// An image's name.
    Image(String),
    /// The number of a folder that is sent.
    Folder(usize),
}

/// The cache that is given away, as the daemon is told it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Target {
    all: bool,
    mounts: bool,
    push: Vec<String>,
    keep: bool,
}

/// What the flags say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Caches {
    pub(super) sources: Vec<Source>,
    /// Folders to be sent, in the order of their numbers.
    pub(super) folders: Vec<PathBuf>,
    pub(super) inline: bool,
    pub(super) target: Option<Target>,
    /// Folders that the cache is written to.
    written: Vec<PathBuf>,
}

/// A value of one of the flags, taken apart.
#[derive(Debug, Default)]
struct Value<'a> {
    kind: &'a str,
    reference: &'a str,
    path: &'a str,
    all: bool,
    mounts: bool,
}

impl Caches {
    /// Reads the flags.
    pub(super) fn parse(matches: &Matches) -> Result<Self> {
        Self::of(matches.list("cache-from"), matches.list("cache-to"))
    }

    fn of(from: &[String], to: &[String]) -> Result<Self> {
        let mut caches = Self::default();
        for text in from {
            let value = Value::parse(text, "cache-from", "src")?;
            match value.kind {
                "registry" => caches.sources.push(Source::Image(value.reference.to_owned())),
                "local" => {
                    caches.sources.push(Source::Folder(caches.folders.len()));
                    caches.folders.push(PathBuf::from(value.path));
                }
                other => return Err(Error::message(format!("unknown cache importer: {other}"))),
            }
        }
        for text in to {
            let value = Value::parse(text, "cache-to", "dest")?;
            if value.kind == "inline" {
                caches.inline = true;
                continue;
            }
            let wanted = Target { all: value.all, mounts: value.mounts, ..Target::default() };
            let target = caches.target.get_or_insert_with(|| wanted.clone());
            if (target.all, target.mounts) != (wanted.all, wanted.mounts) {
                return Err(Error::message("all of --cache-to must have the same mode and mounts"));
            }
            match value.kind {
                "registry" => target.push.push(value.reference.to_owned()),
                "local" => {
                    target.keep = true;
                    caches.written.push(PathBuf::from(value.path));
                }
                other => return Err(Error::message(format!("unknown cache exporter: {other}"))),
            }
        }
        Ok(caches)
    }

    /// Fetches the cache, an image at the daemon, into the folders.
    pub(super) fn finish(&self, cli: &Cli, id: &str) -> Result<()> {
        if id.is_empty() {
            return Ok(());
        }
        let write = |folder: &PathBuf| -> Result<()> {
            // The names of an earlier one's documents are those of the new one.
            let mut response = cli.client()?.request("GET", "/images/get").query("names", id).send()?;
            crate::containers::copy::unpack_tree(&mut response, folder)
        };
        let written = self.written.iter().try_for_each(write);
        let removed = images::request(cli, "DELETE", id, "").and_then(|request| Ok(request.done()?));
        written.and(removed)
    }
}

impl<'a> Value<'a> {
    fn parse(text: &'a str, flag: &str, place: &str) -> Result<Self> {
        // A name alone is an image, as in Docker.
        if !text.contains('=') && text != "inline" {
            return Ok(Self { kind: "registry", reference: text, ..Self::default() });
        }
        let mut value = Self { kind: if text == "inline" { text } else { "" }, ..Self::default() };
        for field in text.split(',').filter(|field| *field != "inline") {
            let wrong = || Error::message(format!("invalid value {field} of --{flag}"));
            let (name, setting) = field.split_once('=').ok_or_else(wrong)?;
            match (name, setting) {
                ("type", kind) => value.kind = kind,
                ("ref", reference) => value.reference = reference,
                (name, path) if name == place => value.path = path,
                ("mode", "min" | "max") if flag == "cache-to" => value.all = setting == "max",
                // So it is with all that is given away here.
                ("compression", "gzip") | ("oci-mediatypes" | "image-manifest", "true")
                    if flag == "cache-to" => {}
                ("mounts", "true" | "false") if flag == "cache-to" => value.mounts = setting == "true",
                _ => return Err(wrong()),
            }
        }
        match value {
            Self { kind: "registry", reference: "", .. } => {
                Err(Error::message(format!("--{flag} type=registry needs ref=NAME")))
            }
            Self { kind: "local", path: "", .. } => {
                Err(Error::message(format!("--{flag} type=local needs {place}=FOLDER")))
            }
            Self { kind: "", .. } => Err(Error::message(format!("type required for --{flag} {text:?}"))),
            value => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn caches_are_read() {
        let from = texts(&["reg/x", "type=local,src=a", "type=registry,ref=reg/y", "type=local,src=b"]);
        let to = texts(&[
            "type=inline",
            "type=registry,ref=reg/z,mode=max,mounts=true",
            "type=local,dest=c,mode=max,mounts=true",
        ]);
        let caches = Caches::of(&from, &to).unwrap();
        let image = |name: &str| Source::Image(name.to_owned());
        assert_eq!(caches.sources, [image("reg/x"), Source::Folder(0), image("reg/y"), Source::Folder(1)]);
        assert_eq!(caches.folders, [PathBuf::from("a"), PathBuf::from("b")]);
        assert!(caches.inline);
        let target = Target { all: true, mounts: true, push: texts(&["reg/z"]), keep: true };
        assert_eq!(caches.target, Some(target));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (from, to, expect) in [
            (&["type=gha"][..], &[][..], "unknown cache importer: gha"),
            (&["type=inline"], &[], "unknown cache importer: inline"),
            (&["type=local"], &[], "--cache-from type=local needs src=FOLDER"),
            (&["ref=x"], &[], "type required for --cache-from \"ref=x\""),
            (&["type=registry,ref=x,mode=max"], &[], "invalid value mode=max of --cache-from"),
            (&[], &["type=registry"], "--cache-to type=registry needs ref=NAME"),
            (&[], &["type=local,dest=x,mode=mid"], "invalid value mode=mid of --cache-to"),
            (
                &[],
                &["a", "type=local,dest=x,mode=max"],
                "all of --cache-to must have the same mode and mounts",
            ),
        ] {
            let error = Caches::of(&texts(from), &texts(to)).unwrap_err();
            assert_eq!(error.to_string(), expect);
        }
    }
}
