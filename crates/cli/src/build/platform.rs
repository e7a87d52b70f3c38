//! `--platform`: what is built for, and the files of several platforms side by side.

use crate::error::{Error, Result};
use crate::flags::Matches;
use oci::Platform;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The argument that makes an index of one platform, too.
const INDEX: &str = "BUILDKIT_MULTI_PLATFORM=";

/// What is built for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    /// In the order they were given, each once; none for the engine's own.
    pub(super) platforms: Vec<String>,
    /// Whether the result is an index.
    pub(super) is_index: bool,
}

impl Targets {
    /// Reads the flags.
    pub(super) fn parse(matches: &Matches) -> Result<Self> {
        Self::of(matches.list("platform"), matches.list("build-arg"))
    }

    fn of(texts: &[String], arguments: &[String]) -> Result<Self> {
        let mut platforms = Vec::new();
        for text in texts.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty()) {
            let platform = Platform::parse(text).map_err(|error| Error::message(error.to_string()))?;
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        let forced = arguments.iter().filter_map(|text| text.strip_prefix(INDEX)).next_back();
        let is_index = platforms.len() > 1 || matches!(forced, Some("1" | "true"));
        Ok(Self { platforms: platforms.iter().map(ToString::to_string).collect(), is_index })
    }

    /// The platforms whose files are put side by side, each in a folder of its own; none if there is only one.
    pub(super) fn split(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let several = self.platforms.len() > 1;
        let folder = |platform: &str| PathBuf::from(platform.replace('/', "_"));
        self.platforms.iter().filter(move |_| several).map(move |text| (text.as_str(), folder(text)))
    }
}

/// Adds what is in an archive to another one, in a folder.
pub(super) fn add(
    source: &mut dyn Read,
    folder: &Path,
    target: &mut tar::Builder<impl Write>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(source);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = folder.join(entry.path()?);
        let mut header = entry.header().clone();
        let link = entry.link_name()?.map(|link| match header.entry_type() {
            tar::EntryType::Link => folder.join(link),
            _ => link.into_owned(),
        });
        if let Some(attributes) = entry.pax_extensions()? {
            let kept: Vec<_> =
                attributes.flatten().filter(|it| !matches!(it.key_bytes(), b"path" | b"linkpath")).collect();
            let kept = kept.iter().filter_map(|it| Some((it.key().ok()?, it.value_bytes())));
            target.append_pax_extensions(kept)?;
        }
        match link {
            Some(link) => target.append_link(&mut header, path, link)?,
            None => target.append_data(&mut header, path, &mut entry)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (flags, arguments, expect, is_index) in [
            (&[][..], &[][..], &[][..], false),
            (&["linux/amd64"], &[], &["linux/amd64"], false),
            (&["linux/amd64"], &["BUILDKIT_MULTI_PLATFORM=1"], &["linux/amd64"], true),
            (&["linux/amd64,arm64", "linux/arm64/v8"], &[], &["linux/amd64", "linux/arm64"], true),
        ] {
            let targets = Targets::of(&texts(flags), &texts(arguments)).unwrap();
            assert_eq!((targets.platforms, targets.is_index), (texts(expect), is_index), "{flags:?}");
        }
        assert!(Targets::of(&texts(&["linux/a b"]), &[]).is_err());
        let folders: Vec<_> = Targets::of(&texts(&["amd64,arm/v6"]), &[]).unwrap().platforms;
        assert_eq!(folders.len(), 2);
    }

    #[test]
    fn archives_are_put_side_by_side() {
        let mut source = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_size(2);
        source.append_data(&mut header, "d/f", &b"hi"[..]).unwrap();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Link);
        source.append_link(&mut header, "h", "d/f").unwrap();
        header.set_entry_type(tar::EntryType::Symlink);
        source.append_link(&mut header, "s", "/d/f").unwrap();
        let source = source.into_inner().unwrap();
        let mut target = tar::Builder::new(Vec::new());
        add(&mut source.as_slice(), Path::new("linux_arm64"), &mut target).unwrap();
        let made = target.into_inner().unwrap();
        let mut archive = tar::Archive::new(made.as_slice());
        let shown: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                let link = entry.link_name().unwrap().map(|link| link.display().to_string());
                format!("{} {} {text}", entry.path().unwrap().display(), link.unwrap_or_default())
            })
            .collect();
        assert_eq!(shown, ["linux_arm64/d/f  hi", "linux_arm64/h linux_arm64/d/f ", "linux_arm64/s /d/f "]);
    }
}
