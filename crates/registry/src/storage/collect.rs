//! Garbage: content that no manifest of any repository needs. Mark and sweep, while others read and write.

use super::{Storage, durable, names};
use crate::error::{At, Error, Result, present};
use crate::storage::manifest::Manifest;
use oci::Digest;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

/// File times come from a clock that ticks a few times a second.
const TICK: Duration = Duration::from_millis(50);

/// How a collection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    /// How long content stays after it was last asked for.
    pub(crate) grace: Duration,
    /// Whether manifests without a tag go, unless an index or a subject that stays needs them.
    pub(crate) untagged: bool,
    /// Whether nothing is deleted.
    pub(crate) dry_run: bool,
}

/// What a collection found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Collected {
    /// How many blobs and manifests stay.
    pub(crate) marked: usize,
    /// Manifests without a tag that are gone, with their repository.
    pub(crate) untagged: Vec<(String, Digest)>,
    /// Content that is gone.
    pub(crate) blobs: Vec<Digest>,
    /// Its size.
    pub(crate) bytes: u64,
}

impl Storage {
    /// Deletes what nothing refers to.
    ///
    /// # Errors
    ///
    /// Those of the file system. A manifest that cannot be read ends the collection: what it needs is unknown.
    pub(crate) fn collect(&self, options: Options) -> Result<Collected> {
        let begin = SystemTime::now();
        let mut collected = Collected::default();
        let mut marked = HashSet::new();
        let repositories = self.repositories()?;
        for name in &repositories {
            let gone = self.mark(name, options, &mut marked)?;
            collected.untagged.extend(gone.into_iter().map(|digest| (name.clone(), digest)));
        }
        collected.marked = marked.len();
        for (name, digest) in &collected.untagged {
            if !options.dry_run {
                self.delete_manifest(name, digest)?;
            }
        }
        let before = begin.checked_sub(options.grace + TICK).unwrap_or(SystemTime::UNIX_EPOCH);
        self.sweep_blobs(&marked, before, options.dry_run, &mut collected)?;
        if !options.dry_run {
            self.drop_empty_links(&repositories)?;
        }
        Ok(collected)
    }

    /// Marks what a repository needs; returns the manifests that go.
    fn mark(&self, name: &str, options: Options, marked: &mut HashSet<Digest>) -> Result<Vec<Digest>> {
        let mut documents = HashMap::new();
        for digest in self.revisions(name)? {
            // One whose content is gone needs nothing.
            if let Some(stored) = self.manifest(name, &digest)? {
                documents.insert(digest, stored.bytes);
            }
        }
        let mut gone = Vec::new();
        if options.untagged {
            let kept = self.kept(name, &documents)?;
            gone = documents.keys().filter(|digest| !kept.contains(*digest)).cloned().collect();
            gone.sort();
            documents.retain(|digest, _| kept.contains(digest));
        }
        for (digest, bytes) in documents {
            marked.extend(Manifest::links_of(&bytes));
            marked.insert(digest);
        }
        Ok(gone)
    }

    /// Returns the manifests that a tag leads to: themselves, through an index, or by referring to one that stays.
    fn kept(&self, name: &str, documents: &HashMap<Digest, Vec<u8>>) -> Result<HashSet<Digest>> {
        let mut kept = HashSet::new();
        let mut next = Vec::new();
        for tag in self.tags(name)?.unwrap_or_default() {
            next.extend(self.tag(name, &tag)?);
        }
        let mut referrers: HashMap<Digest, Vec<&Digest>> = HashMap::new();
        for (digest, bytes) in documents {
            if let Some(subject) = Manifest::subject_of(bytes) {
                referrers.entry(subject).or_default().push(digest);
            }
        }
        while let Some(digest) = next.pop() {
            let Some(bytes) = documents.get(&digest) else { continue };
            if kept.insert(digest.clone()) {
                next.extend(Manifest::links_of(bytes));
                next.extend(referrers.get(&digest).into_iter().flatten().copied().cloned());
            }
        }
        Ok(kept)
    }

    fn sweep_blobs(
        &self,
        marked: &HashSet<Digest>,
        before: SystemTime,
        dry_run: bool,
        collected: &mut Collected,
    ) -> Result<()> {
        for algorithm in super::ALGORITHMS {
            let folder = self.blobs.join(algorithm);
            for pair in names(&folder)? {
                for hex in names(&folder.join(&pair))? {
                    let Ok(digest) = Digest::parse(&format!("{algorithm}:{hex}")) else { continue };
                    if marked.contains(&digest) {
                        continue;
                    }
                    let gone =
                        if dry_run { self.old(&digest, before)? } else { self.sweep_one(&digest, before)? };
                    if let Some(size) = gone {
                        collected.bytes += size;
                        collected.blobs.push(digest);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the size of content that nobody asked for since `before`.
    fn old(&self, digest: &Digest, before: SystemTime) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        let metadata = present(std::fs::metadata(&path)).at("stat", &path)?;
        let old = metadata.filter(|found| found.modified().is_ok_and(|time| time < before));
        Ok(old.map(|found| found.len()))
    }

    /// Deletes content unless it was asked for since `before`; returns its size.
    pub(crate) fn sweep_one(&self, digest: &Digest, before: SystemTime) -> Result<Option<u64>> {
        if self.old(digest, before)?.is_none() {
            return Ok(None);
        }
        let _held = self.deleting()?;
        // Whoever added a reference since made it young.
        let Some(size) = self.old(digest, before)? else { return Ok(None) };
        let path = self.blob_path(digest);
        durable::remove_folder(&self.aside, path.parent().unwrap_or(&path))?;
        Ok(Some(size))
    }

    /// Removes the repositories' links to content that is gone.
    fn drop_empty_links(&self, repositories: &[String]) -> Result<()> {
        for name in repositories {
            for digest in self.layers(name)? {
                let _held = self.deleting()?;
                if !self.blob_path(&digest).try_exists().unwrap_or(true) {
                    self.unlink_blob(name, &digest)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the manifests and blobs of a pull-through cache that are older than `age`, so that the next
    /// collection takes their content.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn expire(&self, age: Duration) -> Result<usize> {
        let mut gone = 0;
        for name in self.repositories()? {
            for digest in self.revisions(&name)? {
                if is_older(&self.revision_link(&name, &digest), age)
                    && self.delete_manifest(&name, &digest)?
                {
                    gone += 1;
                }
            }
            for digest in self.layers(&name)? {
                if is_older(&self.layer_link(&name, &digest), age) && self.unlink_blob(&name, &digest)? {
                    gone += 1;
                }
            }
        }
        Ok(gone)
    }

    /// Reads every blob and returns those that are not what their names say.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn damaged(&self) -> Result<Vec<Digest>> {
        let mut damaged = Vec::new();
        for algorithm in super::ALGORITHMS {
            let folder = self.blobs.join(algorithm);
            for pair in names(&folder)? {
                for hex in names(&folder.join(&pair))? {
                    let Ok(digest) = Digest::parse(&format!("{algorithm}:{hex}")) else { continue };
                    match self.open_content(&digest) {
                        Ok(Some((mut file, _))) => {
                            if !Self::hash(&mut file, &digest, &self.blob_path(&digest))? {
                                damaged.push(digest);
                            }
                        }
                        Ok(None) => {}
                        Err(Error::Io { .. }) => damaged.push(digest),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(damaged)
    }
}

fn is_older(path: &std::path::Path, age: Duration) -> bool {
    let changed = std::fs::metadata(path).and_then(|found| found.modified()).ok();
    changed.and_then(|time| SystemTime::now().duration_since(time).ok()).is_some_and(|since| since >= age)
}
