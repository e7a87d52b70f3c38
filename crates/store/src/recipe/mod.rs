//! How to make an archive again, bit for bit, of the layer that it was unpacked to: what is not in the layer's files
//! ([`split`]), and how its compressor went about it ([`deflate`]).
//!
//! A recipe is only kept if following it was seen to give the blob's digest, and whoever follows it checks that again.
//! The format is in docs/formats/layers.md.

mod bits;
mod deflate;
mod huffman;
mod predict;
mod split;
#[cfg(test)]
mod tests;

use crate::error::{At, Error, Result};
use crate::workspace::Workspace;
use oci::{Compression, Digest, Hasher};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek as _, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BUFFER: usize = 256 * 1024;
const VERSION: u32 = 1;
/// The records are compressed at this level: they are written once and small.
const LEVEL: i32 = 9;
/// The first line has at most so many bytes.
const MOST_HEAD: u64 = 4096;

/// Why there is no recipe for a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Compressed with something that is not understood.
    #[error("compressed in a way that cannot be repeated")]
    Compression,
    /// The archive cannot be made of the layer.
    #[error("the archive cannot be made of the layer's files")]
    Archive,
    /// The recipe would hardly be smaller.
    #[error("its recipe would hardly be smaller")]
    NoGain,
}

/// The first line of a recipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    /// The blob's size in bytes.
    size: u64,
    diff_id: Digest,
    /// Whether the archive is compressed with gzip.
    gzip: bool,
    /// The bytes of the first record; those of the second, if it is compressed, follow.
    split: u64,
}

/// The recipes of a store.
#[derive(Debug, Clone)]
pub(crate) struct Recipes {
    root: PathBuf,
    layers: PathBuf,
    workspace: Arc<Workspace>,
}

impl Recipes {
    pub(crate) fn new(root: PathBuf, layers: PathBuf, workspace: Arc<Workspace>) -> Self {
        Self { root, layers, workspace }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.algorithm().as_str()).join(digest.hex())
    }

    fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex()).join(crate::layers::DIFF)
    }

    fn head(&self, digest: &Digest) -> Option<Head> {
        let file = File::open(self.path(digest)).ok()?;
        let head = head(&mut BufReader::with_capacity(512, file)).ok()?;
        self.layer(&head.diff_id).exists().then_some(head)
    }

    /// Returns the size of a blob that can be made, `None` if there is no recipe or not what it needs.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        self.head(digest).map(|head| head.size)
    }

    /// Returns the layer that a blob can be made of.
    pub(crate) fn layer_of(&self, digest: &Digest) -> Option<Digest> {
        self.head(digest).map(|head| head.diff_id)
    }

    /// Makes a blob, as a file without a name; `None` if there is no recipe or not what it needs.
    pub(crate) fn make(&self, digest: &Digest) -> Result<Option<File>> {
        let path = self.path(digest);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            outcome => self.follow(outcome.at("open", &path)?, digest),
        }
    }

    fn follow(&self, recipe: File, digest: &Digest) -> Result<Option<File>> {
        let mut recipe = BufReader::with_capacity(BUFFER, recipe);
        let path = self.path(digest);
        let head = head(&mut recipe).at("read", &path)?;
        let Some(root) = open(&self.layer(&head.diff_id))? else { return Ok(None) };
        let split = recipe.get_ref().try_clone().at("open", &path)?;
        let start = recipe.stream_position().at("read", &path)?;
        let at = |offset, length| Piece { file: split.try_clone(), offset, left: length };
        let plain = unpacked(at(start, head.split)).at("read", &path)?;
        let mut plain = split::Joined::new(plain, root);
        let (file, unfinished) = self.workspace.file("made")?;
        std::fs::remove_file(unfinished.path()).at("remove", unfinished.path())?;
        let mut sink = Hashing { hasher: Hasher::new(digest.algorithm()), to: file };
        let mut buffered = BufWriter::with_capacity(BUFFER, &mut sink);
        let made = if head.gzip {
            let mut record = unpacked(at(start + head.split, u64::MAX)).at("read", &path)?;
            deflate::replay(&mut BufReader::with_capacity(BUFFER, plain), &mut record, &mut buffered)
        } else {
            io::copy(&mut plain, &mut buffered).map(drop)
        };
        let made = made.and_then(|()| buffered.flush());
        drop(buffered);
        let Hashing { hasher, to: mut file } = sink;
        let found = hasher.finish();
        match made {
            // Files that are shorter or not there: the layer is damaged, whatever comes out.
            Err(error) if is_content(&error) => {
                return Err(Error::WrongDigest { expected: digest.clone(), found });
            }
            outcome => outcome.at("make a blob by", &path)?,
        }
        if found != *digest {
            return Err(Error::WrongDigest { expected: digest.clone(), found });
        }
        file.rewind().at("rewind", &path)?;
        Ok(Some(file))
    }

    /// Writes the recipe for a blob and follows it once. It is durable when this returns; nothing else has changed.
    ///
    /// `reader` gives the blob's bytes; it may fail to end this early.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::LayerStream`].
    pub(crate) fn write(
        &self,
        digest: &Digest,
        size: u64,
        diff_id: &Digest,
        reader: &mut dyn Read,
    ) -> Result<std::result::Result<(), Unfit>> {
        let Some(root) = open(&self.layer(diff_id))? else { return Ok(Err(Unfit::Archive)) };
        let mut reader = BufReader::with_capacity(BUFFER, reader);
        let compression = Compression::sniff(reader.fill_buf().map_err(Error::LayerStream)?);
        let gzip = match compression {
            Compression::None => false,
            Compression::Gzip => true,
            Compression::Zstd => return Ok(Err(Unfit::Compression)),
        };
        let (files, unfinished) = self.workspace.file("recipe")?;
        let (tokens, other) = self.workspace.file("recipe")?;
        let recorded = record(reader, &root, files, gzip.then_some(tokens));
        let (mut files, tokens) = match recorded {
            Ok(recorded) => recorded,
            Err(error) if is_content(&error) => {
                return Ok(Err(if gzip { Unfit::Compression } else { Unfit::Archive }));
            }
            Err(error) => return Err(Error::LayerStream(error)),
        };
        let split = files.stream_position().at("write", unfinished.path())?;
        let head = Head { version: VERSION, size, diff_id: diff_id.clone(), gzip, split };
        let (whole, recipe) = self.workspace.file("recipe")?;
        let path = recipe.path().to_owned();
        let length = assemble(whole, &head, [Some(files), tokens]).at("write", &path)?;
        drop((unfinished, other));
        if length > size / 4 * 3 {
            return Ok(Err(Unfit::NoGain));
        }
        match self.follow(File::open(&path).at("open", &path)?, digest) {
            Ok(Some(_)) => {}
            Ok(None) | Err(Error::WrongDigest { .. }) => return Ok(Err(Unfit::Archive)),
            Err(error) => return Err(error),
        }
        let place = self.path(digest);
        recipe.publish(&place)?;
        let parent = place.parent().unwrap_or(&self.root);
        let directory = File::open(parent).at("open", parent)?;
        directory.sync_all().at("sync", parent)?;
        Ok(Ok(()))
    }
}

type Recorded = (File, Option<File>);

/// Reads the archive once and writes both records.
fn record(reader: impl BufRead, root: &OwnedFd, files: File, tokens: Option<File>) -> io::Result<Recorded> {
    let packed = |file| zstd::stream::write::Encoder::new(file, LEVEL);
    let Some(tokens) = tokens else {
        return Ok((split::split(reader, root, packed(files)?)?.finish()?, None));
    };
    let recorder = deflate::Recorder::new(reader, packed(tokens)?);
    let mut plain = BufReader::with_capacity(BUFFER, recorder);
    let files = split::split(&mut plain, root, packed(files)?)?.finish()?;
    Ok((files, Some(plain.into_inner().finish().finish()?)))
}

/// Writes the recipe and syncs it; returns its size.
fn assemble(mut whole: File, head: &Head, parts: [Option<File>; 2]) -> io::Result<u64> {
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    whole.write_all(&line)?;
    for mut part in parts.into_iter().flatten() {
        part.rewind()?;
        io::copy(&mut part, &mut whole)?;
    }
    whole.sync_all()?;
    whole.stream_position()
}

fn head(recipe: &mut impl BufRead) -> io::Result<Head> {
    let mut line = Vec::new();
    recipe.take(MOST_HEAD).read_until(b'\n', &mut line)?;
    let head: Head = serde_json::from_slice(&line)?;
    if head.version == VERSION { Ok(head) } else { Err(huffman::invalid("a recipe of another version")) }
}

fn unpacked(piece: Piece) -> io::Result<BufReader<zstd::stream::read::Decoder<'static, BufReader<Piece>>>> {
    Ok(BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::new(piece)?.single_frame()))
}

fn open(root: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(root, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(None),
        outcome => outcome.map(Some).at("open", root),
    }
}

/// Says whether the bytes are at fault, and not the disk.
fn is_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, Other, UnexpectedEof};
    error.raw_os_error().is_none() && matches!(error.kind(), InvalidData | UnexpectedEof | Other)
}

/// A part of a file, read by offset, so that several readers do not disturb one another.
struct Piece {
    file: io::Result<File>,
    offset: u64,
    left: u64,
}

impl Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        let file = self.file.as_ref().map_err(|error| io::Error::from(error.kind()))?;
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Hashes what passes.
struct Hashing<W> {
    hasher: Hasher,
    to: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
