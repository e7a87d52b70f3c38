//! `load`: from an archive into the store.

use super::layers::{Layers, Taken};
use super::{DockerImage, INDEX, LAYOUT, MANIFEST};
use crate::Store;
use crate::compression::Decoder;
use crate::error::{Error, Result};
use crate::images::{MAX_CONFIG, MAX_MANIFEST};
use crate::tar::{Entry, Kind, Reader};
use oci::document::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME};
use oci::{Compression, Descriptor, Digest, ImageConfig, Index, Manifest, Reference, media_type};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read};

const BUFFER: usize = 256 * 1024;
/// Links within an archive are followed so often.
const MAX_LINKS: usize = 8;

/// An image that was loaded and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The manifest or index.
    pub target: Descriptor,
    /// The names it was given.
    pub names: Vec<Reference>,
    /// The images that had these names before and have none now.
    pub dangling: Vec<Digest>,
}

/// How far reading a layer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The layer's name in the archive, or its digest where that is the name.
    pub layer: String,
    /// Bytes read.
    pub current: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What a file of the archive turned out to be.
#[derive(Debug, Clone)]
enum Item {
    Layer(Taken),
    Blob { digest: Digest },
}

/// The files of an archive by clean name.
#[derive(Default)]
struct Contents {
    items: HashMap<String, Item>,
    links: HashMap<String, String>,
    documents: BTreeMap<&'static str, Vec<u8>>,
}

/// Loads all images of an archive and records them, each with its names, durably.
///
/// # Errors
///
/// [`Error::Load`] if it is no archive of images, those of [`crate::Layers::unpack`] and of recording. Images that
/// are already recorded then stay.
pub fn load(
    store: &Store,
    reader: &mut dyn Read,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<Vec<Loaded>> {
    let _lease = store.lease();
    let contents = Contents::read(store, reader, on_progress)?;
    let docker: Vec<DockerImage> = match contents.documents.get(MANIFEST) {
        Some(bytes) => parse(MANIFEST, bytes)?,
        None => Vec::new(),
    };
    if let Some(bytes) = contents.documents.get(INDEX) {
        let index: Index = parse(INDEX, bytes)?;
        return contents.load_layout(store, &index, &docker);
    }
    if contents.documents.contains_key(MANIFEST) {
        return docker.iter().map(|image| contents.load_docker(store, image)).collect();
    }
    Err(Error::Load("invalid archive: it has neither manifest.json nor index.json".to_owned()))
}

fn read_failed(error: io::Error) -> Error {
    match error.downcast::<crate::tar::Malformed>() {
        Ok(problem) => Error::Load(format!("invalid archive: {problem}")),
        Err(error) => Error::LayerStream(error),
    }
}

fn parse<T: for<'de> serde::Deserialize<'de>>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Load(format!("invalid {name} in the archive: {error}")))
}

impl Contents {
    /// Reads the archive to its end; its layers are unpacked meanwhile.
    fn read(store: &Store, reader: &mut dyn Read, on_progress: &mut dyn FnMut(&Progress)) -> Result<Self> {
        let decoder = Decoder::new(reader).map_err(read_failed)?;
        let mut archive = Reader::new(BufReader::with_capacity(BUFFER, decoder));
        let mut contents = Self::default();
        std::thread::scope(|scope| {
            let mut layers = Layers::new(store, scope);
            while let Some(entry) = archive.next_entry().map_err(read_failed)? {
                contents.take(store, &entry, &mut archive, &mut layers, on_progress)?;
            }
            archive.drain().map_err(read_failed)?;
            while let Some((name, layer)) = layers.settle()? {
                contents.items.insert(name, Item::Layer(layer));
            }
            Ok(contents)
        })
    }

    fn take<R: BufRead>(
        &mut self,
        store: &Store,
        entry: &Entry,
        archive: &mut Reader<R>,
        layers: &mut Layers<'_, '_>,
        on_progress: &mut dyn FnMut(&Progress),
    ) -> Result<()> {
        let clean = |name: &[u8]| {
            let name = crate::layers::name::clean(name)?;
            String::from_utf8(name)
                .map_err(|_bytes| Error::Load("invalid archive: a name is not text".to_owned()))
        };
        let name = clean(&entry.name)?;
        match entry.kind {
            Kind::Symlink => {
                let (parent, _) = crate::layers::name::split(name.as_bytes());
                let target = crate::layers::name::resolve(parent, &entry.link);
                self.links.insert(name, clean(&target)?);
                return Ok(());
            }
            Kind::HardLink => {
                self.links.insert(name, clean(&entry.link)?);
                return Ok(());
            }
            Kind::File => {}
            Kind::Directory | Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => return Ok(()),
        }
        for document in [INDEX, MANIFEST, LAYOUT] {
            if name == document {
                let bytes = small(archive, entry.size, MAX_CONFIG, &name)?;
                self.documents.insert(document, bytes);
                return Ok(());
            }
        }
        let expected = blob_digest(&name);
        // It is here already, and whoever needs it unpacked will do that.
        if let Some(digest) = expected.clone().filter(|digest| store.blobs().contains(digest)) {
            let item = present(store, digest)?;
            self.items.insert(name, item);
            return Ok(());
        }
        let start = archive.data().map_err(read_failed)?;
        if !looks_like_layer(start, entry.size) {
            let bytes = small(archive, entry.size, MAX_CONFIG, &name)?;
            self.items.insert(name, Item::Blob { digest: put(store, &bytes, expected.as_ref())? });
            return Ok(());
        }
        let compression = Compression::sniff(start);
        if layers.are_enough()
            && let Some((name, layer)) = layers.settle()?
        {
            self.items.insert(name, Item::Layer(layer));
        }
        let mut progress = Progress { layer: name.clone(), current: 0, total: entry.size };
        layers.begin(name, compression, expected)?;
        loop {
            let piece = archive.data().map_err(read_failed)?;
            let count = piece.len();
            if count == 0 {
                break;
            }
            if !layers.write(piece)? {
                // It is refused: the oldest to fail says why.
                while layers.settle()?.is_some() {}
                return Err(Error::Cancelled);
            }
            archive.consume(count);
            progress.current += count as u64;
            on_progress(&progress);
        }
        layers.end();
        Ok(())
    }

    /// Finds a file by a name in `manifest.json`, through the links older versions of Docker write for equal layers.
    fn item(&self, name: &str) -> Result<&Item> {
        let cleaned = crate::layers::name::clean(name.as_bytes())?;
        let mut name = String::from_utf8_lossy(&cleaned).into_owned();
        for _ in 0..MAX_LINKS {
            if let Some(item) = self.items.get(&name) {
                return Ok(item);
            }
            let Some(target) = self.links.get(&name) else { break };
            name.clone_from(target);
        }
        Err(Error::Load(format!("invalid archive: {name} is not in it")))
    }

    /// Builds a manifest for an image that has none, and records it.
    fn load_docker(&self, store: &Store, image: &DockerImage) -> Result<Loaded> {
        let Item::Blob { digest: config_digest } = self.item(&image.config)? else {
            return Err(Error::Load(format!("invalid archive: {} is not a configuration", image.config)));
        };
        let bytes = store.blobs().read(config_digest, MAX_CONFIG)?;
        let config: ImageConfig = parse(&image.config, &bytes)?;
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(Error::Load(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                config.rootfs.diff_ids.len(),
                image.layers.len()
            )));
        }
        let mut layers = Vec::new();
        for (name, expected) in image.layers.iter().zip(&config.rootfs.diff_ids) {
            let Item::Layer(Taken { digest, size, compression, diff_id }) = self.item(name)? else {
                return Err(Error::Load(format!("invalid archive: {name} is not a layer")));
            };
            if let Some(found) = diff_id.as_ref().filter(|found| *found != expected) {
                return Err(Error::WrongDiffId { expected: expected.clone(), found: found.clone() });
            }
            layers.push(Descriptor::new(compression.oci_layer(), digest.clone(), *size));
        }
        let manifest = Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &bytes), layers);
        let manifest = serde_json::to_vec(&manifest).map_err(|error| Error::Load(error.to_string()))?;
        store.blobs().put(&manifest)?;
        let target = Descriptor {
            platform: Some(config.platform()),
            ..Descriptor::of(media_type::OCI_MANIFEST, &manifest)
        };
        record(store, target, names(&image.repo_tags)?)
    }

    /// Records the images of an OCI layout; the names are in its annotations, or in Docker's list beside it.
    fn load_layout(&self, store: &Store, index: &Index, docker: &[DockerImage]) -> Result<Vec<Loaded>> {
        let mut images: Vec<(Descriptor, Vec<Reference>)> = Vec::new();
        for entry in index.manifests.iter().filter(|entry| !entry.is_attestation()) {
            if !entry.is_index() && !entry.is_manifest() {
                continue;
            }
            let name = annotated_name(entry);
            match images.iter_mut().find(|(other, _)| other.digest == entry.digest) {
                Some((_, names)) => names.extend(name),
                None => images.push((entry.clone(), name.into_iter().collect())),
            }
        }
        if images.is_empty() {
            return Err(Error::Load("invalid archive: its index names no image".to_owned()));
        }
        images
            .into_iter()
            .map(|(target, mut own)| {
                if own.is_empty() {
                    own = self.docker_names(store, &target, docker)?;
                }
                record(store, target, own)
            })
            .collect()
    }

    /// The names that `manifest.json` has for the image with the same configuration.
    fn docker_names(
        &self,
        store: &Store,
        target: &Descriptor,
        docker: &[DockerImage],
    ) -> Result<Vec<Reference>> {
        if docker.is_empty() || !target.is_manifest() {
            return Ok(Vec::new());
        }
        let bytes = store.blobs().read(&target.digest, MAX_MANIFEST)?;
        let manifest: Manifest = parse("manifest", &bytes)?;
        let same = |image: &&DockerImage| matches!(self.item(&image.config), Ok(Item::Blob { digest }) if *digest == manifest.config.digest);
        docker.iter().find(same).map_or(Ok(Vec::new()), |image| names(&image.repo_tags))
    }
}

fn record(store: &Store, mut target: Descriptor, names: Vec<Reference>) -> Result<Loaded> {
    // They belong to the archive's index.
    target.annotations.clear();
    let before: Vec<Digest> =
        names.iter().filter_map(|name| store.images().resolve(name)).map(|old| old.digest).collect();
    store.images().record(&target, &names)?;
    let dangling = |id: &Digest| {
        *id != target.digest && store.images().get(id).is_ok_and(|image| image.repo_digests.is_empty())
    };
    let dangling = before.into_iter().filter(dangling).collect();
    Ok(Loaded { target, names, dangling })
}

fn names(texts: &[String]) -> Result<Vec<Reference>> {
    let parse = |text: &String| Ok(Reference::parse_normalized(text)?.with_default_tag());
    texts.iter().map(parse).collect()
}

/// The name of an entry in a layout's index: containerd's annotation has it whole; in OCI's own it may be a mere tag.
fn annotated_name(entry: &Descriptor) -> Option<Reference> {
    let whole = entry.annotations.get(ANNOTATION_IMAGE_NAME);
    let own = entry.annotations.get(ANNOTATION_REF_NAME).filter(|name| name.contains(['/', ':']));
    let reference = Reference::parse_normalized(whole.or(own)?).ok()?;
    Some(reference.with_default_tag())
}

/// The digest in a layout's `blobs/ALGORITHM/HEX`.
fn blob_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// Guesses by the first bytes; what is wrong shows when it is unpacked.
fn looks_like_layer(start: &[u8], size: u64) -> bool {
    let tar = start.get(257..262) == Some(b"ustar");
    // The end mark alone, of a layer without files.
    let empty =
        size.is_multiple_of(512) && start.get(..512).is_some_and(|block| block.iter().all(|byte| *byte == 0));
    tar || empty || Compression::sniff(start) != Compression::None
}

/// Reads a small file into memory.
fn small<R: BufRead>(archive: &mut Reader<R>, size: u64, limit: u64, name: &str) -> Result<Vec<u8>> {
    if size > limit {
        return Err(Error::Load(format!("invalid archive: {name} has {size} bytes, more than {limit}")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    Data(archive).read_to_end(&mut bytes).map_err(read_failed)?;
    Ok(bytes)
}

fn put(store: &Store, bytes: &[u8], expected: Option<&Digest>) -> Result<Digest> {
    if let Some(expected) = expected.filter(|expected| !expected.matches(bytes)) {
        return Err(Error::WrongDigest { expected: expected.clone(), found: Digest::sha256_of(bytes) });
    }
    match expected {
        Some(expected) if expected.algorithm() != oci::Algorithm::Sha256 => {
            let mut ingest = store.blobs().ingest(&expected.to_string())?;
            ingest.restart()?;
            io::copy(&mut &*bytes, &mut ingest).map_err(Error::LayerStream)?;
            ingest.commit(expected, None)?;
            Ok(expected.clone())
        }
        _ => store.blobs().put(bytes),
    }
}

/// Describes a blob that the store has already.
fn present(store: &Store, digest: Digest) -> Result<Item> {
    let mut file = store.blobs().open(&digest)?;
    let mut start = [0; 512];
    let size = store.blobs().size(&digest).unwrap_or(0);
    let length = usize::try_from(size).unwrap_or(usize::MAX).min(start.len());
    let start = start.get_mut(..length).unwrap_or_default();
    file.read_exact(start).map_err(Error::LayerStream)?;
    if !looks_like_layer(start, size) {
        return Ok(Item::Blob { digest });
    }
    Ok(Item::Layer(Taken { digest, size, compression: Compression::sniff(start), diff_id: None }))
}

/// The data of an archive's present entry.
struct Data<'a, R>(&'a mut Reader<R>);

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.0.data()?;
        let count = piece.read(buffer)?;
        self.0.consume(count);
        Ok(count)
    }
}
