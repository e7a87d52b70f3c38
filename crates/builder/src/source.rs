//! Contexts that stay, so that only what has changed travels.
//!
//! ```text
//! DATA/build/mounts/HEX/data/   the files of a client's contexts, as they were at the last build
//! DATA/build/mounts/HEX/list    what is in there, with digests; absent while it is being changed
//! ```
//!
//! The client lists its files; what is not here as listed is missing, and sent as an archive. A file is the same if
//! its *stamp* is, a text of the client's: size, times and inode. The list is believed until the next boot only, since
//! files are not synced. One build uses a folder at a time; another build of the same context gets one of its own.

use crate::archive;
use crate::cache::{Cache, Mounted};
use crate::error::{Error, Result};
use crate::place;
use oci::{Digest, Hasher};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Where the kernel says which boot this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const DATA: &str = "data";
const LIST: &str = "list";
/// The folders that a client's list may begin with.
const TOPS: [&str; 3] = ["context", "contexts", "caches"];

/// A file, folder or link as a client lists it, parents before what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its path, with the folder that it is sent in.
    pub path: String,
    /// Type and mode, as in stat(2).
    pub mode: u32,
    /// When it was changed: seconds since 1970.
    pub time: i64,
    /// What tells a file's content from others; where a link leads.
    pub stamp: String,
}

impl Listed {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// A file that is here.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    listed: Listed,
    /// Of a file's content.
    digest: Option<Digest>,
}

/// The first line of a kept list; the files are in the second.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    boot: String,
    /// Of what the client sent.
    list: Digest,
}

/// Digests of the files of a context by their paths.
#[derive(Debug)]
pub struct Digests {
    /// What tells this state of this context from all others.
    id: String,
    /// Where they are kept; they are read when the first is asked for.
    list: PathBuf,
    files: OnceLock<BTreeMap<String, Digest>>,
}

impl Digests {
    /// What tells this state of this context from all others.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Digest> {
        // Without the list files are read.
        let read = || {
            let known = read(&self.list).unwrap_or_default();
            known.into_iter().filter_map(|(path, known)| Some((path, known.digest?))).collect()
        };
        self.files.get_or_init(read).get(path)
    }
}

impl PartialEq for Digests {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Digests {}

/// A context that was listed and whose missing files are awaited.
#[derive(Debug)]
pub struct Source {
    mounted: Mounted,
    head: Option<Head>,
    id: String,
    /// What is to be done; nothing if the list is that of the last build.
    change: Option<Change>,
}

#[derive(Debug)]
struct Change {
    known: BTreeMap<String, Known>,
    wanted: Vec<Listed>,
    missing: Vec<usize>,
}

/// A context that is complete, for as long as this lives.
#[derive(Debug)]
pub struct Received {
    /// Its folder; each context is in one of its own below that.
    pub folder: PathBuf,
    /// What its files hold.
    pub digests: Arc<Digests>,
    _mounted: Mounted,
}

impl Cache {
    /// Looks for what is here of a listed context; `id` tells it from others. The list is JSON, an array of [`Listed`].
    ///
    /// # Errors
    ///
    /// A list that makes no sense; that the folder cannot be made.
    pub fn source(&self, id: &str, list: &[u8]) -> Result<Source> {
        let mounted = self.source_folder(id)?;
        let place = mounted.folder.join(LIST);
        let digest = Digest::sha256_of(list);
        let id = format!("context {} {digest}", mounted.folder.display());
        let head = boot().map(|boot| Head { boot, list: digest });
        // The usual case: nothing has changed. Then nothing of the list needs to be looked at.
        if head.is_some() && head_of(&place) == head {
            mounted.has_not_changed();
            return Ok(Source { mounted, head, id, change: None });
        }
        let wanted: Vec<Listed> = serde_json::from_slice(list)
            .map_err(|error| Error::Invalid(format!("invalid list of a context: {error}")))?;
        validate(&wanted)?;
        let known = read(&place).unwrap_or_default();
        let is_missing = |listed: &Listed| {
            listed.kind() == FileType::RegularFile
                && known.get(&listed.path).is_none_or(|known| {
                    (known.listed.mode, &known.listed.stamp) != (listed.mode, &listed.stamp)
                        || known.digest.is_none()
                })
        };
        let missing =
            wanted.iter().enumerate().filter(|(_, listed)| is_missing(listed)).map(|(index, _)| index);
        let missing = missing.collect();
        Ok(Source { mounted, head, id, change: Some(Change { known, wanted, missing }) })
    }
}

/// A list has folders before what is in them, and nothing in anything else: so no link is ever followed.
pub(crate) fn validate(wanted: &[Listed]) -> Result<()> {
    let mut folders: HashSet<&str> = HashSet::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for listed in wanted {
        let path = listed.path.as_str();
        let wrong = || Err(Error::Invalid(format!("{path:?} cannot be in the list of a context")));
        let clean = path.split('/').all(|name| !matches!(name, "" | "." | "..")) && !path.contains('\0');
        let is_placed = match path.rsplit_once('/') {
            Some((parent, _)) => folders.contains(parent),
            None => TOPS.contains(&path) && listed.kind() == FileType::Directory,
        };
        if !clean || !is_placed || !seen.insert(path) {
            return wrong();
        }
        match listed.kind() {
            FileType::Directory => drop(folders.insert(path)),
            FileType::RegularFile => {}
            FileType::Symlink if !listed.stamp.is_empty() && !listed.stamp.contains('\0') => {}
            _ => return wrong(),
        }
    }
    Ok(())
}

fn boot() -> Option<String> {
    std::fs::read_to_string(BOOT).ok()
}

/// The first line of a kept list.
fn head_of(path: &Path) -> Option<Head> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// The files of a kept list, if it is of this boot.
fn read(path: &Path) -> Option<BTreeMap<String, Known>> {
    let bytes = std::fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, files) = bytes.split_at_checked(end)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let files: Vec<Known> = serde_json::from_slice(files).ok()?;
    (Some(head.boot) == boot())
        .then(|| files.into_iter().map(|known| (known.listed.path.clone(), known)).collect())
}

impl Source {
    /// The numbers of the entries of the list whose content is to be sent.
    pub fn missing(&self) -> &[usize] {
        self.change.as_ref().map_or(&[], |change| change.missing.as_slice())
    }

    /// Takes what was missing from an archive, and makes the folder what the list says.
    ///
    /// # Errors
    ///
    /// What the archive lacks, or has though nobody asked for it; what cannot be read or made. Then all of it is missing the
    /// next time.
    pub fn receive(self, reader: &mut dyn Read) -> Result<Received> {
        let Self { mounted, head, id, change } = self;
        let list = mounted.folder.join(LIST);
        let folder = mounted.folder.join(DATA);
        let files = OnceLock::new();
        if let Some(change) = change {
            match std::fs::remove_file(&list) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("remove", &list)(error)),
            }
            let known = change.carry_out(&folder, reader)?;
            if let Some(head) = head {
                let json = |error: serde_json::Error| Error::Invalid(error.to_string());
                let mut text = serde_json::to_vec(&head).map_err(json)?;
                text.push(b'\n');
                serde_json::to_writer(&mut text, &known).map_err(json)?;
                std::fs::write(&list, text).map_err(Error::file("write", &list))?;
            }
            let digests = known.into_iter().filter_map(|known| Some((known.listed.path, known.digest?)));
            drop(files.set(digests.collect()));
        }
        Ok(Received { folder, digests: Arc::new(Digests { id, list, files }), _mounted: mounted })
    }
}

impl Change {
    /// Makes the folder what the list says; returns what is in it.
    fn carry_out(self, data: &Path, reader: &mut dyn Read) -> Result<Vec<Known>> {
        let Self { known, wanted, missing } = self;
        if known.is_empty() && data.exists() {
            std::fs::remove_dir_all(data).map_err(Error::file("remove", data))?;
        }
        std::fs::create_dir_all(data).map_err(Error::file("create", data))?;
        let root = sys::path::open_directory(data).map_err(Error::system)?;
        let removed = remove(root.as_fd(), &known, &wanted)?;
        let made = make(root.as_fd(), &known, &wanted)?;
        // Anything else would be believed to be what it was.
        let asked: HashSet<&[u8]> =
            missing.iter().filter_map(|index| Some(wanted.get(*index)?.path.as_bytes())).collect();
        archive::unpack_only(root.as_fd(), &asked, reader)?;
        let mut digests: BTreeMap<String, Digest> =
            known.into_iter().filter_map(|(path, known)| Some((path, known.digest?))).collect();
        for index in &missing {
            let Some(listed) = wanted.get(*index) else { continue };
            digests.insert(listed.path.clone(), digest(root.as_fd(), listed)?);
        }
        if removed || made || !missing.is_empty() {
            settle(root.as_fd(), &wanted)?;
        }
        let known = |listed: Listed| {
            let is_file = listed.kind() == FileType::RegularFile;
            Known { digest: if is_file { digests.remove(&listed.path) } else { None }, listed }
        };
        Ok(wanted.into_iter().map(known).collect())
    }
}

/// The folder of a path, and the last name of it.
fn parent<'a>(root: BorrowedFd<'_>, path: &'a str) -> Result<(OwnedFd, &'a str)> {
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let folder = sys::path::open_beneath(root, Path::new(above), flags).map_err(Error::system)?;
    Ok((folder, name))
}

/// Removes what is not wanted any more, or is to be something else.
fn remove(root: BorrowedFd<'_>, known: &BTreeMap<String, Known>, wanted: &[Listed]) -> Result<bool> {
    let wanted: BTreeMap<&str, &Listed> =
        wanted.iter().map(|listed| (listed.path.as_str(), listed)).collect();
    let mut any = false;
    // What is in a folder comes after it.
    for (path, known) in known.iter().rev() {
        let stays = wanted.get(path.as_str()).is_some_and(|listed| {
            listed.kind() == known.listed.kind()
                && (listed.kind() != FileType::Symlink || listed.stamp == known.listed.stamp)
        });
        if stays {
            continue;
        }
        any = true;
        let (folder, name) = parent(root, path)?;
        let flags = match known.listed.kind() {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        match rustix::fs::unlinkat(&folder, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::name("remove", path.as_bytes())(errno)),
        }
    }
    Ok(any)
}

/// Makes folders and links that are not there.
fn make(root: BorrowedFd<'_>, known: &BTreeMap<String, Known>, wanted: &[Listed]) -> Result<bool> {
    let mut any = false;
    for listed in wanted {
        let here = known.get(&listed.path).is_some_and(|known| known.listed == *listed);
        if here || listed.kind() == FileType::RegularFile {
            continue;
        }
        any = true;
        let (folder, name) = parent(root, &listed.path)?;
        let failed = || Error::name("create", listed.path.as_bytes());
        let made = match listed.kind() {
            FileType::Directory => rustix::fs::mkdirat(&folder, name, Mode::RWXU),
            _ => rustix::fs::symlinkat(listed.stamp.as_str(), &folder, name),
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed()(errno)),
        }
        if listed.kind() == FileType::Symlink {
            let times = times(listed.time);
            rustix::fs::utimensat(&folder, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed())?;
        }
    }
    Ok(any)
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Gives folders their modes and times, after what is made in them.
fn settle(root: BorrowedFd<'_>, wanted: &[Listed]) -> Result<()> {
    for listed in wanted.iter().rev().filter(|listed| listed.kind() == FileType::Directory) {
        let failed = || Error::name("change", listed.path.as_bytes());
        let (folder, name) = parent(root, &listed.path)?;
        let folder = place::open_folder(folder.as_fd(), name.as_bytes()).map_err(failed())?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(listed.mode & 0o7777)).map_err(failed())?;
        rustix::fs::futimens(&folder, &times(listed.time)).map_err(failed())?;
    }
    Ok(())
}

/// The digest of a file that was just received.
fn digest(root: BorrowedFd<'_>, listed: &Listed) -> Result<Digest> {
    let lacking = |_: Error| Error::Invalid(format!("{} was not sent with the context", listed.path));
    let (folder, name) = parent(root, &listed.path)?;
    let file =
        crate::tree::open_file(folder.as_fd(), name.as_bytes(), listed.path.as_bytes()).map_err(lacking)?;
    let mut hasher = Hasher::sha256();
    crate::tree::content(&mut hasher, File::from(file))
        .map_err(Error::name("read", listed.path.as_bytes()))?;
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;
    use base::paths::DataPaths;
    use std::os::unix::fs::PermissionsExt as _;
    use store::Store;
    use store::tar::{Entry, Kind, Writer};

    fn listed(path: &str, mode: u32, stamp: &str) -> Listed {
        Listed { path: path.to_owned(), mode, time: 7, stamp: stamp.to_owned() }
    }

    fn json(list: &[Listed]) -> Vec<u8> {
        serde_json::to_vec(list).unwrap()
    }

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (name, text) in files {
            let entry = Entry {
                name: name.as_bytes().to_vec(),
                kind: Kind::File,
                mode: 0o644,
                size: text.len() as u64,
                ..Entry::default()
            };
            writer.append(&entry, &mut text.as_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    #[ignore = "root: owners of files"]
    fn only_what_changed_is_missing() {
        let scratch = Scratch::new();
        let store = Store::open(&DataPaths::new(scratch.path().join("data"))).unwrap();
        let cache = Cache::open(store).unwrap();
        let (folder, file, link) = (0o040_750, 0o100_644, 0o120_777);
        let first = vec![
            listed("context", folder, ""),
            listed("context/a", file, "a1"),
            listed("context/d", folder, ""),
            listed("context/d/b", file, "b1"),
            listed("context/l", link, "a"),
        ];
        let source = cache.source("one", &json(&first)).unwrap();
        assert_eq!(source.missing(), [1, 3]);
        // A second build at the same time has a folder of its own.
        let other = cache.source("one", &json(&first)).unwrap();
        assert_eq!(other.missing(), [1, 3]);
        drop(other);
        let received =
            source.receive(&mut archive(&[("context/a", "A"), ("context/d/b", "B")]).as_slice()).unwrap();
        let at = received.folder.clone();
        assert_eq!(std::fs::read_to_string(at.join("context/l")).unwrap(), "A");
        assert_eq!(std::fs::metadata(at.join("context/d")).unwrap().permissions().mode() & 0o777, 0o750);
        assert_eq!(received.digests.get("context/d/b"), Some(&Digest::sha256_of(b"B")));
        drop(received);
        // One changes, a folder becomes a file, the link leads elsewhere.
        let second = vec![
            listed("context", folder, ""),
            listed("context/a", file, "a1"),
            listed("context/c", folder, ""),
            listed("context/c/n", file, "n1"),
            listed("context/d", file, "d1"),
            listed("context/l", link, "c/n"),
        ];
        let source = cache.source("one", &json(&second)).unwrap();
        assert_eq!(source.missing(), [3, 4]);
        let received =
            source.receive(&mut archive(&[("context/c/n", "N"), ("context/d", "D")]).as_slice()).unwrap();
        assert_eq!(std::fs::read_to_string(at.join("context/l")).unwrap(), "N");
        assert_eq!(std::fs::read_to_string(at.join("context/d")).unwrap(), "D");
        assert_eq!(received.digests.get("context/d/b"), None);
        drop(received);
        let again = cache.source("one", &json(&second)).unwrap();
        assert!(again.missing().is_empty() && again.change.is_none());
        let received = again.receive(&mut archive(&[]).as_slice()).unwrap();
        assert_eq!(
            received.digests.get("context/d"),
            Some(&Digest::sha256_of(b"D")),
            "read when it is asked for"
        );
        drop(received);
        // What was not asked for would be believed to be what it was.
        let mut other = second.clone();
        other[5].stamp = "a".to_owned();
        let source = cache.source("one", &json(&other)).unwrap();
        assert!(source.missing().is_empty());
        let error = source.receive(&mut archive(&[("context/a", "other")]).as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "the archive's \"context/a\" was not asked for");
        let source = cache.source("one", &json(&second)).unwrap();
        let all = [("context/a", "A"), ("context/c/n", "N"), ("context/d", "D")];
        drop(source.receive(&mut archive(&all).as_slice()).unwrap());
        // What was promised and not sent is told, and all of it is missing then.
        let mut third = second.clone();
        third.push(listed("context/x", file, "x1"));
        let source = cache.source("one", &json(&third)).unwrap();
        let error = source.receive(&mut archive(&[]).as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "context/x was not sent with the context");
        assert_eq!(cache.source("one", &json(&second)).unwrap().missing(), [1, 3, 4]);
    }

    #[test]
    fn lists_lead_nowhere_else() {
        let (folder, file, link) = (0o040_755, 0o100_644, 0o120_777);
        let top = || listed("context", folder, "");
        for list in [
            vec![listed("etc", folder, "")],
            vec![listed("context", link, "/")],
            vec![listed("context/a", file, "")],
            vec![top(), listed("context/../x", file, "")],
            vec![top(), listed("context//x", file, "")],
            vec![top(), listed("context/l", link, "/"), listed("context/l/x", file, "")],
            vec![top(), listed("context/x", file, ""), listed("context/x", link, "/")],
            vec![top(), listed("context/p", 0o010_644, "")],
        ] {
            assert!(validate(&list).is_err(), "{list:?}");
        }
        assert!(validate(&[top(), listed("context/x", file, "")]).is_ok());
    }
}
