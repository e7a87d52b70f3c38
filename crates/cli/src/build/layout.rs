//! `--build-context NAME=oci-layout://FOLDER[:TAG][@DIGEST]`: an image of a folder is loaded under a name of its own for as long as
//! the build goes on.

use crate::error::{Error, Result};
use crate::images;
use crate::program::Cli;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const INDEX: &str = "index.json";
const NAME: &str = "io.containerd.image.name";
const TAG: &str = "org.opencontainers.image.ref.name";

/// A part of a layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    folder: PathBuf,
    tag: Option<String>,
    digest: Option<String>,
}

/// An image that was loaded; it is gone when dropped.
pub(super) struct Loaded<'a> {
    cli: &'a Cli,
    pub(super) name: String,
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        // The daemon may be gone; what is left then has a name that says what it is.
        let removed =
            images::request(self.cli, "DELETE", &self.name, "").and_then(|request| Ok(request.done()?));
        drop(removed);
    }
}

impl Layout {
    /// Takes what follows `oci-layout://` apart.
    pub(super) fn parse(text: &str) -> Self {
        let (place, digest) =
            text.split_once('@').map_or((text, None), |(place, digest)| (place, Some(digest)));
        let (folder, tag) = match place.rsplit_once(':') {
            Some((folder, tag)) if !tag.contains('/') => (folder, Some(tag)),
            _ => (place, None),
        };
        Self { folder: folder.into(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) }
    }

    /// Loads it into the engine.
    pub(super) fn load<'a>(&self, cli: &'a Cli, number: usize) -> Result<Loaded<'a>> {
        let path = self.folder.join(INDEX);
        let shown = path.display().to_string();
        let bytes = std::fs::read(&path).map_err(Error::file("read", shown.clone()))?;
        let index: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::message(format!("{shown} is no index of an image layout: {error}")))?;
        let name = format!("wharf-build-context/{}-{number}:layout", std::process::id());
        let index = self.chosen(index, &name)?;
        let (mut reader, writer) = io::pipe().map_err(Error::file("open", "pipe"))?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(move || pack(&self.folder, &index, writer));
            let request = cli.client()?.request("POST", "/images/load").query("quiet", "1");
            let sent =
                request.stream(&mut reader, "application/x-tar").send().map(|response| response.bytes());
            drop(reader);
            let packed = packing.join().map_err(|_panic| Error::message("packing a layout failed"))?;
            packed.map_err(Error::file("read", self.folder.display().to_string()))?;
            let answer = sent??;
            let answer = String::from_utf8_lossy(&answer);
            if answer.contains("\"error\"") {
                return Err(Error::message(format!(
                    "the layout {} cannot be loaded: {answer}",
                    self.folder.display()
                )));
            }
            Ok(Loaded { cli, name })
        })
    }

    /// The index with the meant image alone, called `name`.
    fn chosen(&self, mut index: Value, name: &str) -> Result<Value> {
        let all = index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
        let tag = |one: &Value| one.pointer("/annotations")?.get(TAG)?.as_str().map(str::to_owned);
        let wanted = self.tag.as_deref().unwrap_or("latest");
        let found = match &self.digest {
            Some(digest) => all.iter().find(|one| one.get("digest").and_then(Value::as_str) == Some(digest)),
            None => match (all.iter().find(|one| tag(one).as_deref() == Some(wanted)), all.as_slice()) {
                (Some(one), _) => Some(one),
                (None, [one]) if self.tag.is_none() => Some(one),
                (None, _) => None,
            },
        };
        let what = self.digest.as_deref().unwrap_or(wanted);
        let mut found = found.cloned().ok_or_else(|| {
            Error::message(format!("the layout {} has no image {what}", self.folder.display()))
        })?;
        let annotations = serde_json::json!({ NAME: name, TAG: "layout" });
        if let (Some(one), Some(index)) = (found.as_object_mut(), index.as_object_mut()) {
            one.insert("annotations".to_owned(), annotations);
            index.insert("manifests".to_owned(), Value::Array(vec![found]));
        }
        Ok(index)
    }
}

/// Packs a layout with another index.
fn pack(folder: &Path, index: &Value, writer: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(1 << 17, writer));
    let add = |archive: &mut tar::Builder<_>, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes)
    };
    add(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add(&mut archive, INDEX, index.to_string().as_bytes())?;
    for algorithm in std::fs::read_dir(folder.join("blobs"))? {
        let algorithm = algorithm?;
        for blob in std::fs::read_dir(algorithm.path())? {
            let blob = blob?;
            let mut file = File::open(blob.path())?;
            let name = format!(
                "blobs/{}/{}",
                algorithm.file_name().to_string_lossy(),
                blob.file_name().to_string_lossy()
            );
            archive.append_file(name, &mut file)?;
        }
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layouts_are_named() {
        for (text, folder, tag, digest) in [
            ("/a/b", "/a/b", None, None),
            ("./a:v1", "./a", Some("v1"), None),
            ("/a:8/b", "/a:8/b", None, None),
            ("a@sha256:00", "a", None, Some("sha256:00")),
            ("a:v@sha256:00", "a", Some("v"), Some("sha256:00")),
        ] {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let expect = Layout { folder: folder.into(), tag: own(tag), digest: own(digest) };
            assert_eq!(Layout::parse(text), expect, "{text}");
        }
    }

    #[test]
    fn one_image_is_chosen() {
        let one = |digest: &str, tag: &str| json!({ "digest": digest, "annotations": { TAG: tag } });
        let index = json!({ "manifests": [one("sha256:1", "v1"), one("sha256:2", "latest")] });
        let chosen = |text: &str| {
            let index = Layout::parse(text).chosen(index.clone(), "n").ok()?;
            assert_eq!(index["manifests"][0]["annotations"][NAME], "n");
            index["manifests"][0]["digest"].as_str().map(str::to_owned)
        };
        assert_eq!(chosen("x").as_deref(), Some("sha256:2"));
        assert_eq!(chosen("x:v1").as_deref(), Some("sha256:1"));
        assert_eq!(chosen("x@sha256:1").as_deref(), Some("sha256:1"));
        assert_eq!(chosen("x:v2"), None);
        assert_eq!(chosen("x@sha256:3"), None);
    }
}
