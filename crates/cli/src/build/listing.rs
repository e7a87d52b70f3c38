//! What of the host is sent: files are listed first, and only those that the daemon does not have are packed.

use super::context::{Given, Main};
use crate::error::{Error, Result};
use crate::program::Cli;
use dockerfile::Patterns;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tar::{Builder, EntryType, Header};

/// A file that was changed so shortly before it is listed may change again without that showing in its times.
const RACY: Duration = Duration::from_millis(100);

/// A folder that is sent, and where it is in the archive.
#[derive(Debug)]
pub(super) struct Tree {
    folder: PathBuf,
    top: String,
    patterns: Patterns,
}

/// A file, folder or link as the daemon is told it (`builder`, source.rs).
#[derive(Debug, Serialize)]
struct Listed {
    path: String,
    mode: u32,
    time: i64,
    stamp: String,
}

/// An entry of the list, and where it is here.
#[derive(Debug)]
pub(super) struct Item {
    place: PathBuf,
    listed: Listed,
}

/// What the daemon answers to a list.
#[derive(Debug, Deserialize)]
struct Missing {
    id: String,
    missing: Vec<usize>,
}

/// What of the host is sent: the context, further ones, caches.
pub(super) fn trees(given: &Given, folders: &[PathBuf], caches: &[PathBuf]) -> Result<Vec<Tree>> {
    let mut trees = Vec::new();
    if let Main::Folder(folder) = &given.main {
        trees.push(Tree { folder: folder.clone(), top: "context".to_owned(), patterns: given.patterns()? });
    }
    for (index, folder) in folders.iter().enumerate() {
        let list = std::fs::read_to_string(folder.join(".dockerignore")).unwrap_or_default();
        let patterns = Patterns::parse(&list).map_err(|error| {
            Error::message(format!("error reading .dockerignore of {}: {error}", folder.display()))
        })?;
        trees.push(Tree { folder: folder.clone(), top: format!("contexts/{index}"), patterns });
    }
    for (index, folder) in caches.iter().enumerate() {
        // The first build has nothing to take yet.
        if folder.is_dir() {
            let top = format!("caches/{index}");
            trees.push(Tree { folder: folder.clone(), top, patterns: Patterns::default() });
        }
    }
    Ok(trees)
}

/// Lists what is in the folders, in the order of names.
pub(super) fn list(trees: &[Tree]) -> Result<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    for Tree { folder, top, patterns } in trees {
        if let Some((above, _)) = top.split_once('/')
            && !items.iter().any(|item| item.listed.path == above)
        {
            items.push(Item::folder(folder, above, 0));
        }
        let time = std::fs::metadata(folder).map_or(0, |metadata| metadata.mtime());
        items.push(Item::folder(folder, top, time));
        walk(folder, top, "", patterns, &mut items)
            .map_err(|error| Error::message(format!("failed to read the build context: {error}")))?;
    }
    Ok(items)
}

fn walk(folder: &Path, top: &str, below: &str, patterns: &Patterns, items: &mut Vec<Item>) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name());
    }
    names.sort();
    for name in names {
        let place = folder.join(&name);
        let shown = name.to_string_lossy();
        let relative = if below.is_empty() { shown.into_owned() } else { format!("{below}/{shown}") };
        let metadata = std::fs::symlink_metadata(&place)?;
        let left_out = patterns.matches(&relative);
        if left_out && !(metadata.is_dir() && patterns.may_take_back_below(&relative)) {
            continue;
        }
        let kind = metadata.file_type();
        let stamp = if kind.is_dir() {
            String::new()
        } else if kind.is_symlink() {
            std::fs::read_link(&place)?.to_string_lossy().into_owned()
        } else if kind.is_file() {
            stamp(&metadata)
        } else {
            // Pipes, sockets and devices are nothing to build with.
            continue;
        };
        let listed = Listed {
            path: format!("{top}/{relative}"),
            mode: metadata.mode(),
            time: metadata.mtime(),
            stamp,
        };
        items.push(Item { place: place.clone(), listed });
        if kind.is_dir() {
            walk(&place, top, &relative, patterns, items)?;
        }
    }
    Ok(())
}

/// What tells a file's content from others without reading it.
fn stamp(metadata: &Metadata) -> String {
    let (seconds, nanos) = (metadata.ctime(), metadata.ctime_nsec());
    let changed = UNIX_EPOCH
        + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    let now = SystemTime::now();
    let is_racy = now.duration_since(changed).map_or(true, |age| age < RACY);
    let racy = if is_racy { format!(" {now:?}") } else { String::new() };
    format!(
        "{} {}.{} {seconds}.{nanos} {}{racy}",
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ino()
    )
}

/// Tells the daemon the list; returns what it is called there, and what is to be sent.
pub(super) fn offer(cli: &Cli, trees: &[Tree], items: Vec<Item>) -> Result<(String, Vec<Item>)> {
    let list: Vec<&Listed> = items.iter().map(|item| &item.listed).collect();
    let request = cli.client()?.request("POST", "/build/context").query("id", identity(trees));
    let answer: Missing = request.json(&list).decode()?;
    let mut wanted = answer.missing.into_iter().peekable();
    let missing = items.into_iter().enumerate().filter(|(index, _)| wanted.next_if_eq(index).is_some());
    let missing = missing.map(|(_, item)| item).collect();
    Ok((answer.id, missing))
}

/// What tells these contexts from others: the host and the folders.
fn identity(trees: &[Tree]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(rustix::system::uname().nodename().to_bytes());
    for Tree { folder, top, .. } in trees {
        let folder = std::fs::canonicalize(folder).unwrap_or_else(|_missing| folder.clone());
        hasher.update(format!("\0{top}\0{}", folder.display()));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Item {
    fn folder(place: &Path, called: &str, time: i64) -> Self {
        let listed = Listed { path: called.to_owned(), mode: 0o040_755, time, stamp: String::new() };
        Self { place: place.to_owned(), listed }
    }

    /// Adds a file to an archive.
    pub(super) fn pack<W: Write>(&self, archive: &mut Builder<W>) -> io::Result<()> {
        let file = File::open(&self.place)?;
        let metadata = file.metadata()?;
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
        // A file that shrinks meanwhile is filled with zeros, one that grows is cut.
        let content = file.chain(io::repeat(0)).take(metadata.len());
        archive.append_data(&mut header, &self.listed.path, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_not_listed() {
        let folder = std::env::temp_dir().join(format!("wharf-cli-context-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("keep/deep")).unwrap();
        std::fs::create_dir_all(folder.join("out/in")).unwrap();
        for file in ["Dockerfile", "a.log", "keep/deep/f", "out/x", "out/in/y"] {
            std::fs::write(folder.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("f", folder.join("keep/link")).unwrap();
        std::fs::write(folder.join(".dockerignore"), "*.log\nout\n!out/in/y\nDockerfile\n.dockerignore\n")
            .unwrap();
        let given = Given::new(folder.to_str().unwrap(), "").unwrap();
        let trees = trees(&given, &[], std::slice::from_ref(&folder.join("keep"))).unwrap();
        let items = list(&trees).unwrap();
        let paths: Vec<&str> = items.iter().map(|item| item.listed.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "context",
                "context/keep",
                "context/keep/deep",
                "context/keep/deep/f",
                "context/keep/link",
                "context/out",
                "context/out/in",
                "context/out/in/y",
                "caches",
                "caches/0",
                "caches/0/deep",
                "caches/0/deep/f",
                "caches/0/link",
            ]
        );
        assert_eq!(items[4].listed.stamp, "f");
        assert!(items[3].listed.stamp.starts_with("11 "), "{}", items[3].listed.stamp);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
