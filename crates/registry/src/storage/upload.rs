//! Unfinished uploads: a file that grows, and the hash of it so far.
//!
//! One request at a time writes to an upload. The hash lives in memory; after a restart it is computed again from the
//! file, so an upload can go on. Content becomes a blob by one rename after its bytes are synced.

use super::{Storage, durable, names};
use crate::error::{At, Code, Refusal, Result, present};
use oci::{Algorithm, Digest, Hasher};
use serde_json::json;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How many idle uploads keep their hash in memory; others read their file again.
const KEPT: usize = 1024;

/// The uploads that this process knows.
#[derive(Debug, Default, Clone)]
pub(crate) struct Open(Arc<Mutex<HashMap<PathBuf, Slot>>>);

#[derive(Debug)]
enum Slot {
    Busy,
    Idle(Box<State>),
}

#[derive(Debug)]
struct State {
    file: File,
    hasher: Hasher,
    algorithm: Algorithm,
    written: u64,
}

/// An upload that this request alone writes to.
#[derive(Debug)]
pub(crate) struct Session {
    open: Open,
    folder: PathBuf,
    /// `None` once it is finished or cancelled.
    state: Option<State>,
}

impl Open {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<PathBuf, Slot>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let state = self.state.take();
        self.open.with(|open| {
            open.remove(&self.folder);
            if let Some(state) = state {
                if open.len() >= KEPT {
                    open.retain(|_, slot| matches!(slot, Slot::Busy));
                }
                open.insert(self.folder.clone(), Slot::Idle(Box::new(state)));
            }
        });
    }
}

impl Session {
    /// How many bytes are here.
    pub(crate) fn written(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.written)
    }

    /// Adds bytes at the end.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(state) = &mut self.state else { return Ok(()) };
        if let Err(error) = state.file.write_all(bytes) {
            if error.kind() == std::io::ErrorKind::StorageFull {
                // Nobody can go on with it, and the room it takes is needed.
                self.state = None;
                drop(std::fs::remove_dir_all(&self.folder));
            }
            return Err(error).at("write", &self.folder);
        }
        state.hasher.update(bytes);
        state.written += bytes.len() as u64;
        Ok(())
    }

    /// Opens the file for reading beside the writing.
    pub(crate) fn reader(&self) -> Result<File> {
        let path = self.folder.join("data");
        File::open(&path).at("open", &path)
    }
}

impl State {
    /// Opens an upload's file and hashes what is in it.
    fn open(folder: &Path, algorithm: Algorithm) -> Result<Option<Self>> {
        let path = folder.join("data");
        let opened = present(File::options().read(true).append(true).open(&path)).at("open", &path)?;
        let Some(mut file) = opened else { return Ok(None) };
        file.rewind().at("rewind", &path)?;
        let mut hasher = Hasher::new(algorithm);
        let written = std::io::copy(&mut file, &mut hasher).at("read", &path)?;
        Ok(Some(Self { file, hasher, algorithm, written }))
    }
}

impl Storage {
    fn uploads_folder(&self, name: &str) -> PathBuf {
        self.repository(name).join("_uploads")
    }

    /// Begins an upload and returns its identifier.
    pub(crate) fn begin(&self, name: &str, algorithm: Algorithm) -> Result<(String, Session)> {
        let id = durable::random_id();
        let folder = self.uploads_folder(name).join(&id);
        // An upload that was only begun need not survive a power cut.
        std::fs::create_dir_all(&folder).at("create", &folder)?;
        let started = folder.join("startedat");
        let now = base::Timestamp::from_system(SystemTime::now()).to_string();
        std::fs::write(&started, now).at("write", &started)?;
        let data = folder.join("data");
        File::options().create(true).append(true).open(&data).at("create", &data)?;
        let state = State::open(&folder, algorithm)?;
        self.uploads.with(|open| open.insert(folder.clone(), Slot::Busy));
        Ok((id, Session { open: self.uploads.clone(), folder, state }))
    }

    /// Takes an upload to write to it.
    ///
    /// # Errors
    ///
    /// [`Code::BlobUploadUnknown`] if there is none, [`Code::BlobUploadInvalid`] if another request has it.
    pub(crate) fn session(&self, name: &str, id: &str) -> Result<Session> {
        let unknown = || Refusal::with(Code::BlobUploadUnknown, json!({"uuid": id}));
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(unknown().into());
        }
        let folder = self.uploads_folder(name).join(id);
        let slot = self.uploads.with(|open| open.insert(folder.clone(), Slot::Busy));
        let state = match slot {
            Some(Slot::Busy) => {
                let words = "another request is writing to this upload";
                return Err(Refusal::with(Code::BlobUploadInvalid, words).into());
            }
            Some(Slot::Idle(state)) => Some(*state),
            None => None,
        };
        let mut session = Session { open: self.uploads.clone(), folder, state };
        if session.state.is_none() {
            session.state = State::open(&session.folder, Algorithm::Sha256)?;
        }
        if session.state.is_none() || !session.folder.is_dir() {
            session.state = None;
            return Err(unknown().into());
        }
        Ok(session)
    }

    /// Throws an upload away.
    pub(crate) fn cancel(&self, mut session: Session) -> Result<()> {
        session.state = None;
        std::fs::remove_dir_all(&session.folder).at("remove", &session.folder)
    }

    /// Makes a blob of an upload and gives it to the repository; returns its size.
    ///
    /// # Errors
    ///
    /// [`Code::DigestInvalid`] if the bytes have another digest; the upload is gone then.
    pub(crate) fn finish(&self, name: &str, mut session: Session, digest: &Digest) -> Result<u64> {
        let Some(state) = session.state.take() else {
            return Err(Refusal::new(Code::BlobUploadUnknown).into());
        };
        let State { mut file, hasher, algorithm, written } = state;
        let data = session.folder.join("data");
        let right = if algorithm == digest.algorithm() {
            hasher.finish() == *digest
        } else {
            file.rewind().at("rewind", &data)?;
            Self::hash(&mut file, digest, &data)?
        };
        if !right {
            self.cancel(session)?;
            let detail = json!({"Digest": digest.to_string(), "Reason": "content does not match"});
            return Err(Refusal::with(Code::DigestInvalid, detail).into());
        }
        file.sync_data().at("sync", &data)?;
        {
            let _held = self.adding()?;
            if self.stat_content(digest, Duration::ZERO)?.is_none() {
                durable::place(&data, &self.blob_path(digest))?;
                // The last byte may have come long ago.
                self.stat_content(digest, Duration::ZERO)?;
            }
            self.link(&self.layer_link(name, digest), digest)?;
        }
        std::fs::remove_dir_all(&session.folder).at("remove", &session.folder)?;
        Ok(written)
    }

    /// Removes uploads in which nothing has happened for `age`; returns them.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn purge_uploads(&self, age: Duration, dry_run: bool) -> Result<Vec<PathBuf>> {
        let mut gone = Vec::new();
        for name in self.all_folders()? {
            let uploads = self.uploads_folder(&name);
            for id in names(&uploads)? {
                let folder = uploads.join(id);
                let changed =
                    |part: &str| std::fs::metadata(folder.join(part)).and_then(|found| found.modified());
                let last =
                    changed("data").or_else(|_| changed("startedat")).unwrap_or(SystemTime::UNIX_EPOCH);
                let old = SystemTime::now().duration_since(last).is_ok_and(|since| since >= age);
                let free = self.uploads.with(|open| !matches!(open.get(&folder), Some(Slot::Busy)));
                if !old || !free {
                    continue;
                }
                if !dry_run {
                    self.uploads.with(|open| open.remove(&folder));
                    std::fs::remove_dir_all(&folder).at("remove", &folder)?;
                }
                gone.push(folder);
            }
        }
        Ok(gone)
    }
}
