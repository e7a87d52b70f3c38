//! Content by digest, as it was downloaded: `DATA/blobs/ALGORITHM/HEX`, or how to make it: `DATA/recipes/ALGORITHM/HEX`.
//!
//! A blob appears under its name by one rename once its digest is checked. Downloads in progress live in
//! `DATA/tmp/ingest` and go on where they stopped, also in the next process.

use crate::content::{Content, Key};
use crate::error::{At, Error, Result, failpoint};
use crate::recipe::Recipes;
use crate::workspace::Workspace;
use base::paths::DataPaths;
use oci::{Digest, Hasher};
use rustix::fs::FlockOperation;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

const BUFFER: usize = 256 * 1024;

/// The blobs of a store.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: PathBuf,
    recipes: Arc<Recipes>,
    workspace: Arc<Workspace>,
    content: Arc<Content>,
}

const ALGORITHMS: [&str; 3] = ["sha256", "sha384", "sha512"];

impl Blobs {
    pub(crate) fn new(paths: &DataPaths, workspace: Arc<Workspace>, content: Arc<Content>) -> Result<Self> {
        let recipes = Arc::new(Recipes::new(paths.recipes(), paths.layers(), Arc::clone(&workspace)));
        let blobs = Self { root: paths.blobs(), recipes, workspace, content };
        for root in [&blobs.root, &paths.recipes()] {
            for algorithm in ALGORITHMS {
                let path = root.join(algorithm);
                std::fs::create_dir_all(&path).at("create", &path)?;
            }
        }
        Ok(blobs)
    }

    pub(crate) fn recipes(&self) -> &Recipes {
        &self.recipes
    }

    /// Returns the bytes that the blob takes on the disk: its own, or those of its recipe.
    pub fn stored(&self, digest: &Digest) -> u64 {
        let size = |path: PathBuf| std::fs::symlink_metadata(path).ok().map(|metadata| metadata.len());
        size(self.path(digest)).or_else(|| size(self.recipes.path(digest))).unwrap_or(0)
    }

    /// Says whether the bytes themselves are here.
    pub(crate) fn is_whole(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Drops the bytes of a blob that has a recipe.
    pub(crate) fn drop_bytes(&self, digest: &Digest) -> Result<()> {
        self.workspace.discard(&self.path(digest))
    }

    /// Returns where the blob is, if its bytes are here.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// Says whether the blob is here.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Returns the blob's size in bytes, `None` if it is not here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        // Before the look, so that the collector cannot come in between.
        self.content.touch(Key::Blob(digest.clone()));
        let whole = std::fs::symlink_metadata(self.path(digest)).ok().map(|metadata| metadata.len());
        whole.or_else(|| self.recipes.size(digest))
    }

    /// Opens the blob for reading. One that was dropped is made again first, and checked.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] if it is not here, [`Error::WrongDigest`] if the layer that it is made of is damaged.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        self.content.touch(Key::Blob(digest.clone()));
        let path = self.path(digest);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.recipes.make(digest)?.ok_or_else(|| Error::NoBlob(digest.clone()))
            }
            outcome => outcome.at("open", &path),
        }
    }

    /// Returns the whole blob if it has at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`], [`Error::TooLarge`], and [`Error::WrongDigest`] if the file is damaged.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut file = self.open(digest)?;
        let path = self.path(digest);
        let size = file.metadata().at("stat", &path)?.len();
        if size > limit {
            return Err(Error::TooLarge { digest: digest.clone(), size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // The descriptor and not the name, which may go away meanwhile.
        (&mut file).take(limit).read_to_end(&mut bytes).at("read", &path)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != *digest {
            return Err(Error::WrongDigest { expected: digest.clone(), found });
        }
        Ok(bytes)
    }

    /// Stores `bytes` and returns their digest. Content that is here already is left as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256_of(bytes);
        if self.contains(&digest) {
            return Ok(digest);
        }
        let (mut file, unfinished) = self.workspace.file("blob")?;
        file.write_all(bytes).at("write", unfinished.path())?;
        failpoint("store.blob.publish")?;
        unfinished.publish(&self.path(&digest))?;
        Ok(digest)
    }

    /// Begins or resumes a download known as `key`: any text, usually the digest.
    ///
    /// Bytes that an earlier attempt wrote are read once, to go on with the hash.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if somebody else is writing under the same key.
    pub fn ingest(&self, key: &str) -> Result<Ingest> {
        let path = self.workspace.ingest().join(Digest::sha256_of(key.as_bytes()).hex());
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open().at("open", &path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Busy(key.to_owned())),
            outcome => outcome.at("lock", &path)?,
        }
        // The one who held the lock may have moved the file away since it was opened.
        use std::os::unix::fs::MetadataExt;
        let same = |metadata: std::fs::Metadata| file.metadata().is_ok_and(|own| own.ino() == metadata.ino());
        if !std::fs::symlink_metadata(&path).is_ok_and(same) {
            return Err(Error::Busy(key.to_owned()));
        }
        let mut ingest =
            Ingest { blobs: self.clone(), path, file, hasher: Some(Hasher::sha256()), written: 0 };
        ingest.resume()?;
        Ok(ingest)
    }

    /// Removes a blob at once; nothing may refer to it. "Not here" is success.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        self.content.forget(&Key::Blob(digest.clone()));
        self.workspace.discard(&self.recipes.path(digest))?;
        self.workspace.discard(&self.path(digest))
    }

    /// Returns the digests of all blobs, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Digest>> {
        let mut all = BTreeSet::new();
        let recipes = self.recipes.root();
        for (root, algorithm) in ALGORITHMS.iter().flat_map(|name| [(&*self.root, name), (recipes, name)]) {
            let path = root.join(algorithm);
            for entry in std::fs::read_dir(&path).at("list", &path)? {
                let name = entry.at("list", &path)?.file_name();
                // Foreign files are left alone.
                let digest = name.to_str().and_then(|hex| Digest::parse(&format!("{algorithm}:{hex}")).ok());
                all.extend(digest);
            }
        }
        Ok(all.into_iter().collect())
    }
}

/// A download in progress. Dropped without [`Ingest::commit`], it stays for the next attempt.
#[derive(Debug)]
pub struct Ingest {
    blobs: Blobs,
    path: PathBuf,
    file: File,
    /// None if somebody else computes the digest of the same bytes.
    hasher: Option<Hasher>,
    written: u64,
}

impl Ingest {
    /// Returns how many bytes are here already: the offset to go on from.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Throws away what is here and starts again from 0.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).at("truncate", &self.path)?;
        io::Seek::rewind(&mut self.file).at("rewind", &self.path)?;
        self.hasher = Some(Hasher::sha256());
        self.written = 0;
        Ok(())
    }

    /// Opens what is written so far, to be read from the beginning beside the writing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).at("open", &self.path)
    }

    /// Checks digest and size (if known) and makes the blob visible.
    ///
    /// What does not match is thrown away, so that the next attempt starts anew.
    ///
    /// # Errors
    ///
    /// [`Error::WrongSize`], [`Error::WrongDigest`], [`Error::Io`].
    pub fn commit(mut self, digest: &Digest, size: Option<u64>) -> Result<()> {
        if let Some(expected) = size.filter(|size| *size != self.written) {
            let found = self.written;
            // Too short may be only unfinished; too long can never become right.
            if found > expected {
                self.restart()?;
            }
            return Err(Error::WrongSize { digest: digest.clone(), expected, found });
        }
        let found = self.digest(digest)?;
        if found != *digest {
            self.restart()?;
            return Err(Error::WrongDigest { expected: digest.clone(), found });
        }
        self.publish(digest)
    }

    /// Makes the blob visible under whatever SHA-256 digest it has.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn commit_as_is(self) -> Result<(Digest, u64)> {
        let digest = self.sha256()?;
        let size = self.written;
        self.publish(&digest)?;
        Ok((digest, size))
    }

    /// Does not hash what is written from now on: the bytes of a plain archive are hashed while it is unpacked.
    pub(crate) fn leave_hash_to_others(&mut self) {
        self.hasher = None;
    }

    /// Makes the blob visible under the digest that somebody else computed of exactly these bytes.
    pub(crate) fn commit_known(self, digest: &Digest) -> Result<u64> {
        let size = self.written;
        self.publish(digest)?;
        Ok(size)
    }

    fn publish(self, digest: &Digest) -> Result<()> {
        failpoint("store.ingest.publish")?;
        self.blobs.content.touch(Key::Blob(digest.clone()));
        let place = self.blobs.path(digest);
        std::fs::rename(&self.path, &place).at("rename to", &place)
    }

    /// Throws it away.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn discard(self) -> Result<()> {
        self.blobs.workspace.discard(&self.path)
    }

    fn digest(&self, like: &Digest) -> Result<Digest> {
        if like.algorithm() == oci::Algorithm::Sha256 {
            return self.sha256();
        }
        self.hash(Hasher::new(like.algorithm()))
    }

    fn sha256(&self) -> Result<Digest> {
        match &self.hasher {
            Some(hasher) => Ok(hasher.clone().finish()),
            None => self.hash(Hasher::sha256()),
        }
    }

    fn hash(&self, mut hasher: Hasher) -> Result<Digest> {
        io::copy(&mut self.reader()?, &mut hasher).at("read", &self.path)?;
        Ok(hasher.finish())
    }

    fn resume(&mut self) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = self.file.read(&mut buffer).at("read", &self.path)?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { return Ok(()) };
            if let Some(hasher) = &mut self.hasher {
                hasher.update(piece);
            }
            self.written += count as u64;
        }
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes.get(..count).unwrap_or_default());
        }
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from `R` and writes everything that passes to an [`Ingest`].
#[derive(Debug)]
pub struct Tee<'a, R> {
    from: R,
    to: &'a mut Ingest,
}

impl<'a, R: Read> Tee<'a, R> {
    /// Couples a reader and a download.
    pub fn new(from: R, to: &'a mut Ingest) -> Self {
        Self { from, to }
    }
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.to.write_all(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}
