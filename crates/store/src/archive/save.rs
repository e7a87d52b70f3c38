//! `save`: from the store into an archive.

use super::{DockerImage, INDEX, LAYOUT, LAYOUT_CONTENT, MANIFEST};
use crate::Store;
use crate::content::Key;
use crate::error::{At, Error, Result};
use crate::tar::{Entry, Kind, Writer};
use oci::document::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME};
use oci::{Descriptor, Digest, Index, Platform, Reference};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The image.
    pub id: Digest,
    /// The names it has in the archive.
    pub names: Vec<Reference>,
}

/// An image to save.
struct Selected {
    target: Descriptor,
    names: BTreeSet<Reference>,
}

/// Writes the images that `texts` name (by name or ID) with all their platforms to an archive that old and new
/// engines load.
///
/// An image named by its ID has no name in the archive; a repository without a tag stands for all its tags. Equal
/// images give equal bytes.
///
/// # Errors
///
/// [`Error::NoImage`] and others of [`crate::Images::find`], before anything is written; [`Error::LayerStream`] if
/// `writer` fails.
pub fn save(
    store: &Store,
    texts: &[String],
    platform: Option<&Platform>,
    writer: &mut dyn Write,
) -> Result<Vec<Saved>> {
    let _lease = store.lease();
    let selected = select(store, texts, platform)?;
    let mut blobs = BTreeSet::new();
    let mut index = Index::new(Vec::new());
    let mut docker = Vec::new();
    for image in selected.values() {
        for key in store.images().reachable(&image.target)? {
            if let Key::Blob(digest) = key {
                blobs.insert(digest);
            }
        }
        index.manifests.extend(index_entries(image));
        docker.push(docker_image(store, image)?);
    }
    let mut archive = Writer::new(writer);
    write_blobs(store, &mut archive, &blobs)?;
    let json = |value: serde_json::Result<Vec<u8>>| value.map_err(|error| Error::Load(error.to_string()));
    for (name, bytes) in [
        (INDEX, json(serde_json::to_vec(&index))?),
        (MANIFEST, json(serde_json::to_vec(&docker))?),
        (LAYOUT, LAYOUT_CONTENT.into()),
    ] {
        archive.append_bytes(name, &bytes).map_err(Error::LayerStream)?;
    }
    archive.finish().map_err(Error::LayerStream)?;
    let saved = |image: Selected| Saved { id: image.target.digest, names: image.names.into_iter().collect() };
    Ok(selected.into_values().map(saved).collect())
}

fn select(
    store: &Store,
    texts: &[String],
    platform: Option<&Platform>,
) -> Result<BTreeMap<Digest, Selected>> {
    let mut selected: BTreeMap<Digest, Selected> = BTreeMap::new();
    let mut add = |target: Descriptor, name: Option<Reference>| {
        let digest = target.digest.clone();
        let image = selected.entry(digest).or_insert_with(|| Selected { target, names: BTreeSet::new() });
        image.names.extend(name);
    };
    for text in texts {
        let reference = Reference::parse_normalized(text).ok();
        let repository = reference.as_ref().filter(|name| name.tag().is_none() && name.digest().is_none());
        let tags = repository.map(|name| store.images().tags(name)).unwrap_or_default();
        if platform.is_none() && !tags.is_empty() {
            for (name, target) in tags {
                add(target, Some(name));
            }
            continue;
        }
        let image = match platform {
            Some(platform) => store.images().find_for(text, platform)?,
            None => store.images().find(text)?,
        };
        // Found by its name, and not by an ID that looks like one.
        let name = reference.map(Reference::with_default_tag);
        let name = name
            .filter(|name| store.images().resolve(name).is_some_and(|target| target.digest == *image.id()));
        let target = if platform.is_some() { image.manifest } else { image.target };
        add(target, name.filter(|name| name.tag().is_some()));
    }
    Ok(selected)
}

/// One entry for each name, as containerd writes it; one without a name if there is none.
fn index_entries(image: &Selected) -> Vec<Descriptor> {
    if image.names.is_empty() {
        return vec![image.target.clone()];
    }
    let entry = |name: &Reference| {
        let mut entry = image.target.clone();
        entry.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), name.to_string());
        entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.tag().unwrap_or_default().to_owned());
        entry
    };
    image.names.iter().map(entry).collect()
}

fn docker_image(store: &Store, image: &Selected) -> Result<DockerImage> {
    let seen = store.images().view(&image.target)?;
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
    Ok(DockerImage {
        config: path(&seen.config_digest),
        repo_tags: image.names.iter().map(Reference::familiar).collect(),
        layers: seen.document.layers.iter().map(|layer| path(&layer.digest)).collect(),
    })
}

fn write_blobs<W: Write>(store: &Store, archive: &mut Writer<W>, blobs: &BTreeSet<Digest>) -> Result<()> {
    let directory = |name: String| Entry {
        name: name.into_bytes(),
        kind: Kind::Directory,
        mode: 0o755,
        ..Entry::default()
    };
    let algorithms: BTreeSet<&str> = blobs.iter().map(|digest| digest.algorithm().as_str()).collect();
    let directories = algorithms.iter().map(|algorithm| format!("blobs/{algorithm}/"));
    for name in std::iter::once("blobs/".to_owned()).chain(directories) {
        archive.append(&directory(name), &mut std::io::empty()).map_err(Error::LayerStream)?;
    }
    for digest in blobs {
        let mut file = store.blobs().open(digest)?;
        let path = store.blobs().path(digest);
        let entry = Entry {
            name: format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex()).into_bytes(),
            mode: 0o644,
            size: file.metadata().at("stat", &path)?.len(),
            ..Entry::default()
        };
        archive.append(&entry, &mut file).map_err(Error::LayerStream)?;
    }
    Ok(())
}
