//! What is kept: blobs, and for each repository links to those that belong to it.
//!
//! The tree is the well-known registry's, so that a data directory can be taken over in either direction:
//!
//! ```text
//! ROOT/docker/registry/v2/
//!     blobs/ALGORITHM/HE/HEX/data                           content, once for all repositories
//!     repositories/NAME/_layers/ALGORITHM/HEX/link          NAME has this blob
//!     repositories/NAME/_manifests/revisions/ALG/HEX/link   NAME has this manifest
//!     repositories/NAME/_manifests/tags/TAG/current/link    what TAG means
//!     repositories/NAME/_manifests/tags/TAG/index/ALG/HEX/link   what it has ever meant
//!     repositories/NAME/_referrers/ALG/HEX/ALG/HEX/link     manifests whose subject is the first digest (ours alone)
//!     repositories/NAME/_uploads/ID/{data,startedat}        unfinished
//! ROOT/.wharf/{lock,tmp/}                                   ours
//! ```
//!
//! Everything an answer acknowledges has been synced ([`durable`]). All of it blocks.
//!
//! **Against the collector**: content is deleted only if nothing refers to it and nobody has asked for it of late.
//! Whoever is told that a blob is here makes it young again, and whoever adds a reference does so under the shared
//! lock, after having seen the content; the collector deletes under the exclusive lock, after a last look at the age.
//! So content is never taken from under a reference, also by a collector in another process.

pub(crate) mod collect;
pub(crate) mod durable;
pub(crate) mod manifest;
#[cfg(test)]
mod tests;
pub(crate) mod upload;

use crate::error::{At, Code, Error, Refusal, Result, present};
use manifest::Manifest;
use oci::{Digest, Hasher};
use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use serde_json::json;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Below this age content counts as just asked for, so that reading need not write.
const YOUNG: Duration = Duration::from_secs(600);
const ALGORITHMS: [&str; 3] = ["sha256", "sha384", "sha512"];
/// How deep repositories are looked for: a name has at most 255 characters, so at most 128 parts.
const MAX_DEPTH: usize = 128;

/// The storage of a registry. One value serves all requests.
#[derive(Debug)]
pub(crate) struct Storage {
    blobs: PathBuf,
    repositories: PathBuf,
    aside: PathBuf,
    lock: PathBuf,
    read_only: bool,
    pub(crate) uploads: upload::Open,
}

/// Holds the lock of additions or of the collector.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "the lock goes with the descriptor")] Option<File>);

/// A manifest as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its media type.
    pub(crate) media_type: String,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Storage {
    /// Opens the storage below `root`, made if absent; deletes what a crash left unfinished.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn open(root: &Path, read_only: bool) -> Result<Self> {
        let own = root.join(".wharf");
        let base = root.join("docker/registry/v2");
        let storage = Self {
            blobs: base.join("blobs"),
            repositories: base.join("repositories"),
            aside: own.join("tmp"),
            lock: own.join("lock"),
            read_only,
            uploads: upload::Open::default(),
        };
        if read_only {
            return Ok(storage);
        }
        for folder in [&storage.blobs, &storage.repositories, &storage.aside] {
            durable::make_folders(folder)?;
        }
        File::options().create(true).append(true).open(&storage.lock).at("create", &storage.lock)?;
        Ok(storage)
    }

    /// Deletes what an earlier process left unfinished. Only the server does this, and before it serves.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn sweep(&self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        for entry in std::fs::read_dir(&self.aside).at("list", &self.aside)? {
            let path = entry.at("list", &self.aside)?.path();
            let folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            let removed = if folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            present(removed).at("remove", &path)?;
        }
        Ok(())
    }

    /// Says whether the storage can be reached at all.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn probe(&self) -> Result<()> {
        std::fs::read_dir(&self.repositories).at("list", &self.repositories).map(drop)
    }

    fn held(&self, operation: FlockOperation) -> Result<Held> {
        if self.read_only {
            return Ok(Held(None));
        }
        let file = File::open(&self.lock).at("open", &self.lock)?;
        rustix::fs::flock(&file, operation).at("lock", &self.lock)?;
        Ok(Held(Some(file)))
    }

    /// Keeps the collector out while a reference is added.
    pub(crate) fn adding(&self) -> Result<Held> {
        self.held(FlockOperation::LockShared)
    }

    /// Keeps additions out while content is deleted.
    pub(crate) fn deleting(&self) -> Result<Held> {
        self.held(FlockOperation::LockExclusive)
    }

    // Paths.

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let pair = hex.get(..2).unwrap_or(hex);
        self.blobs.join(digest.algorithm().as_str()).join(pair).join(hex).join("data")
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.repositories.join(name)
    }

    fn layer_link(&self, name: &str, digest: &Digest) -> PathBuf {
        link(&self.repository(name).join("_layers"), digest)
    }

    fn revision_link(&self, name: &str, digest: &Digest) -> PathBuf {
        link(&self.repository(name).join("_manifests/revisions"), digest)
    }

    fn tags_folder(&self, name: &str) -> PathBuf {
        self.repository(name).join("_manifests/tags")
    }

    fn referrers_folder(&self, name: &str, subject: &Digest) -> PathBuf {
        let folder = self.repository(name).join("_referrers");
        folder.join(subject.algorithm().as_str()).join(subject.hex())
    }

    // Blobs.

    /// Returns the size of a blob of the repository, which stays for a while; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn stat(&self, name: &str, digest: &Digest) -> Result<Option<u64>> {
        if !self.has(name, digest)? {
            return Ok(None);
        }
        self.stat_content(digest, YOUNG)
    }

    /// Says whether the repository has the blob, or a manifest of that digest.
    fn has(&self, name: &str, digest: &Digest) -> Result<bool> {
        let there = |path: PathBuf| path.try_exists().at("stat", &path);
        Ok(there(self.layer_link(name, digest))? || there(self.revision_link(name, digest))?)
    }

    /// Returns the size of content in whatever repository, and makes it young if it is older than `young`.
    fn stat_content(&self, digest: &Digest, young: Duration) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        // Before the look, so that the collector cannot come in between.
        let Some(metadata) = present(std::fs::metadata(&path)).at("stat", &path)? else { return Ok(None) };
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if self.read_only || age.is_some_and(|age| age < young) {
            return Ok(Some(metadata.len()));
        }
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: keep, last_modification: now };
        match rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => Ok(None),
            outcome => outcome.at("touch", &path).map(|()| Some(metadata.len())),
        }
    }

    /// Opens a blob of the repository and returns its size; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn open_blob(&self, name: &str, digest: &Digest) -> Result<Option<(File, u64)>> {
        if !self.has(name, digest)? {
            return Ok(None);
        }
        self.open_content(digest)
    }

    fn open_content(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let path = self.blob_path(digest);
        let Some(file) = present(File::open(&path)).at("open", &path)? else { return Ok(None) };
        let size = file.metadata().at("stat", &path)?.len();
        Ok(Some((file, size)))
    }

    /// Gives the repository a blob that `from`, or any repository if it is `None`, has; says whether one was found.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn mount(&self, name: &str, from: Option<&str>, digest: &Digest) -> Result<Option<u64>> {
        if let Some(from) = from
            && !self.has(from, digest)?
        {
            return Ok(None);
        }
        let _held = self.adding()?;
        let Some(size) = self.stat_content(digest, Duration::ZERO)? else { return Ok(None) };
        self.link(&self.layer_link(name, digest), digest)?;
        Ok(Some(size))
    }

    /// Writes a link unless it is there.
    fn link(&self, path: &Path, digest: &Digest) -> Result<()> {
        if path.try_exists().at("stat", path)? {
            return Ok(());
        }
        durable::write(&self.aside, path, digest.to_string().as_bytes())
    }

    /// Takes a blob from the repository; says whether it had it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn unlink_blob(&self, name: &str, digest: &Digest) -> Result<bool> {
        durable::remove_file(&self.layer_link(name, digest))
    }

    // Manifests.

    /// Returns what a tag means.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn tag(&self, name: &str, tag: &str) -> Result<Option<Digest>> {
        read_link(&self.tags_folder(name).join(tag).join("current/link"))
    }

    /// Returns a manifest of the repository.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if its bytes are not what its digest says.
    pub(crate) fn manifest(&self, name: &str, digest: &Digest) -> Result<Option<Stored>> {
        let link = self.revision_link(name, digest);
        if !link.try_exists().at("stat", &link)? {
            return Ok(None);
        }
        self.read_manifest(digest)
    }

    fn read_manifest(&self, digest: &Digest) -> Result<Option<Stored>> {
        let Some((mut file, size)) = self.open_content(digest)? else { return Ok(None) };
        let path = self.blob_path(digest);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // The descriptor and not the name, which may go away meanwhile.
        (&mut file).take(size).read_to_end(&mut bytes).at("read", &path)?;
        if !digest.matches(&bytes) {
            return Err(Error::Damaged(digest.clone()));
        }
        let media_type = Manifest::media_type_of(&bytes);
        Ok(Some(Stored { digest: digest.clone(), media_type, bytes }))
    }

    /// Keeps a manifest, and lets `tags` mean it.
    ///
    /// # Errors
    ///
    /// [`Code::ManifestBlobUnknown`] for each blob or manifest that it needs and the repository does not have.
    pub(crate) fn put_manifest(
        &self,
        name: &str,
        digest: &Digest,
        bytes: &[u8],
        manifest: &Manifest,
        tags: &[String],
    ) -> Result<()> {
        let _held = self.adding()?;
        for needed in &manifest.needed {
            let here = self.has(name, needed)? && self.stat_content(needed, Duration::ZERO)?.is_some();
            if !here {
                let detail = json!({"digest": needed.to_string()});
                return Err(Refusal::with(Code::ManifestBlobUnknown, detail).into());
            }
        }
        if self.stat_content(digest, Duration::ZERO)?.is_none() {
            durable::write(&self.aside, &self.blob_path(digest), bytes)?;
        }
        if let Some(subject) = &manifest.subject {
            self.link(&link(&self.referrers_folder(name, subject), digest), digest)?;
        }
        self.link(&self.revision_link(name, digest), digest)?;
        for tag in tags {
            self.set_tag(name, tag, digest)?;
        }
        Ok(())
    }

    fn set_tag(&self, name: &str, tag: &str, digest: &Digest) -> Result<()> {
        let folder = self.tags_folder(name).join(tag);
        self.link(&link(&folder.join("index"), digest), digest)?;
        durable::write(&self.aside, &folder.join("current/link"), digest.to_string().as_bytes())
    }

    /// Takes a tag away; says whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn delete_tag(&self, name: &str, tag: &str) -> Result<bool> {
        durable::remove_folder(&self.aside, &self.tags_folder(name).join(tag))
    }

    /// Takes a manifest from the repository, and the tags that mean it; says whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn delete_manifest(&self, name: &str, digest: &Digest) -> Result<bool> {
        let Some(stored) = self.manifest(name, digest).or_else(|error| match error {
            // What is damaged can still be thrown away.
            Error::Damaged(_) => {
                Ok(Some(Stored { digest: digest.clone(), media_type: String::new(), bytes: Vec::new() }))
            }
            error => Err(error),
        })?
        else {
            // Its content may be gone while the link is still there.
            return durable::remove_file(&self.revision_link(name, digest));
        };
        for tag in self.tags(name)?.unwrap_or_default() {
            if self.tag(name, &tag)?.as_ref() == Some(digest) {
                self.delete_tag(name, &tag)?;
            }
        }
        if let Some(subject) = Manifest::subject_of(&stored.bytes) {
            durable::remove_file(&link(&self.referrers_folder(name, &subject), digest))?;
        }
        durable::remove_file(&self.revision_link(name, digest))
    }

    /// Returns all tags in the order of their bytes; `None` if there is no such repository.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn tags(&self, name: &str) -> Result<Option<Vec<String>>> {
        if !is_repository(&self.repository(name)) {
            return Ok(None);
        }
        let folder = self.tags_folder(name);
        let mut tags = Vec::new();
        for tag in names(&folder)? {
            // A crash between the two links of a new tag leaves one without a meaning.
            if folder.join(&tag).join("current/link").try_exists().unwrap_or(false) {
                tags.push(tag);
            }
        }
        tags.sort();
        Ok(Some(tags))
    }

    /// Returns the manifests of the repository, in no order.
    pub(crate) fn revisions(&self, name: &str) -> Result<Vec<Digest>> {
        linked(&self.repository(name).join("_manifests/revisions"))
    }

    /// Returns the blobs of the repository, in no order.
    pub(crate) fn layers(&self, name: &str) -> Result<Vec<Digest>> {
        linked(&self.repository(name).join("_layers"))
    }

    /// Returns the manifests whose subject is `digest`, in the order of their digests.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn referrers(&self, name: &str, digest: &Digest) -> Result<Vec<Stored>> {
        let mut all = linked(&self.referrers_folder(name, digest))?;
        all.sort();
        let mut found = Vec::new();
        for digest in all {
            match self.manifest(name, &digest) {
                Ok(stored) => found.extend(stored),
                Err(Error::Damaged(digest)) => tracing::error!(%digest, "a referring manifest is damaged"),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Returns the names of all repositories, in the order of their bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn repositories(&self) -> Result<Vec<String>> {
        self.folders(&["_manifests", "_layers"])
    }

    /// Returns the names of all folders that are or may become repositories.
    pub(crate) fn all_folders(&self) -> Result<Vec<String>> {
        self.folders(&["_manifests", "_layers", "_uploads"])
    }

    /// Returns the names of the folders that have one of `marks` in them.
    fn folders(&self, marks: &[&str]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((name, depth)) = folders.pop() {
            let children = names(&self.repositories.join(&name))?;
            if children.iter().any(|child| marks.contains(&child.as_str())) {
                found.push(name.clone());
            }
            let deeper = children.into_iter().filter(|child| depth < MAX_DEPTH && !child.starts_with('_'));
            let join = |child: String| if name.is_empty() { child } else { format!("{name}/{child}") };
            folders.extend(deeper.map(|child| (join(child), depth + 1)));
        }
        found.sort();
        Ok(found)
    }

    /// Checks that a file has the digest, reading all of it.
    pub(crate) fn hash(file: &mut File, digest: &Digest, path: &Path) -> Result<bool> {
        let mut hasher = Hasher::new(digest.algorithm());
        std::io::copy(file, &mut hasher).at("read", path)?;
        Ok(hasher.finish() == *digest)
    }
}

fn link(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(digest.algorithm().as_str()).join(digest.hex()).join("link")
}

fn is_repository(folder: &Path) -> bool {
    ["_manifests", "_layers"].iter().any(|part| folder.join(part).is_dir())
}

fn read_link(path: &Path) -> Result<Option<Digest>> {
    let text = present(std::fs::read_to_string(path)).at("read", path)?;
    // An empty link is what a power cut can leave of another registry's: there is nothing then.
    Ok(text.and_then(|text| Digest::parse(text.trim()).ok()))
}

/// Returns the names in a folder, none if it is absent.
fn names(folder: &Path) -> Result<Vec<String>> {
    let Some(entries) = present(std::fs::read_dir(folder)).at("list", folder)? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for entry in entries {
        all.extend(entry.at("list", folder)?.file_name().into_string().ok());
    }
    Ok(all)
}

/// Returns the digests that are linked below `folder`.
fn linked(folder: &Path) -> Result<Vec<Digest>> {
    let mut all = Vec::new();
    for algorithm in ALGORITHMS {
        let folder = folder.join(algorithm);
        for hex in names(&folder)? {
            if folder.join(&hex).join("link").try_exists().unwrap_or(false) {
                all.extend(Digest::parse(&format!("{algorithm}:{hex}")).ok());
            }
        }
    }
    Ok(all)
}
