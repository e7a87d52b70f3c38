//! Compares an unpacked layer with its archive.

use super::name::{self, Base};
use crate::error::{Error, Result};
use crate::pack::{self, Form};
use crate::tar::{Entry, Kind, Reader};
use oci::{Digest, Hasher};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

const BUFFER: usize = 256 * 1024;
/// More differences than this say nothing new.
const ENOUGH: usize = 10;

/// How a directory differs from its archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The name in the layer.
    pub path: String,
    /// What is different.
    pub what: &'static str,
}

/// What counts of an entry.
#[derive(Debug, PartialEq, Eq)]
struct Fact {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    link: Vec<u8>,
    device: (u32, u32),
    content: Option<Digest>,
}

type Facts = BTreeMap<Vec<u8>, Fact>;

/// Reads the (plain) archive and the tree at `root`; returns the first differences in the order of their names.
///
/// Whiteouts, times and attributes do not count; names below links within the layer are not compared.
pub(crate) fn compare(root: &Path, archive: &mut dyn Read) -> Result<Vec<Difference>> {
    let expected = facts(&mut Reader::new(BufReader::with_capacity(BUFFER, archive)))?;
    // The tree as an archive of its own, so that both are read by the same rules.
    let found = std::thread::scope(|scope| -> Result<Facts> {
        let (reader, mut writer) = std::io::pipe().map_err(Error::LayerStream)?;
        let packer = scope.spawn(move || pack::pack(root, Form::Upper, &mut writer).map(drop));
        let found = facts(&mut Reader::new(BufReader::with_capacity(BUFFER, reader)));
        packer.join().unwrap_or(Err(Error::Cancelled))?;
        found
    })?;
    let mut differences = Vec::new();
    for (path, fact) in &expected {
        match found.get(path) {
            // Through a link, which the name of what was made does not show.
            None if behind_link(path, &expected) => {}
            None => differences.push(difference(path, "is missing")),
            Some(other) => differences.extend(unlike(fact, other).map(|what| difference(path, what))),
        }
    }
    let links = expected.values().any(|fact| fact.kind == Kind::Symlink);
    for path in found.keys().filter(|path| !expected.contains_key(*path)) {
        let below = [path.as_slice(), b"/"].concat();
        let implied =
            expected.range(below.clone()..).next().is_some_and(|(other, _)| other.starts_with(&below));
        if !implied && !links {
            differences.push(difference(path, "is not in the archive"));
        }
    }
    differences.truncate(ENOUGH);
    Ok(differences)
}

fn difference(path: &[u8], what: &'static str) -> Difference {
    Difference { path: name::display(path), what }
}

fn behind_link(path: &[u8], facts: &Facts) -> bool {
    let mut rest = name::split(path).0;
    while !rest.is_empty() {
        if facts.get(rest).is_some_and(|fact| fact.kind == Kind::Symlink) {
            return true;
        }
        rest = name::split(rest).0;
    }
    false
}

fn unlike(one: &Fact, other: &Fact) -> Option<&'static str> {
    if one.kind != other.kind {
        return Some("is of another kind");
    }
    if one.mode != other.mode && one.kind != Kind::Symlink {
        return Some("has other permissions");
    }
    if one.owner != other.owner {
        return Some("has another owner");
    }
    if one.size != other.size || one.content != other.content {
        return Some("has other content");
    }
    if one.link != other.link || one.device != other.device {
        return Some("points elsewhere");
    }
    None
}

fn facts<R: BufRead>(archive: &mut Reader<R>) -> Result<Facts> {
    let io = Error::LayerStream;
    let mut facts = Facts::new();
    while let Some(entry) = archive.next_entry().map_err(io)? {
        let path = name::clean(&entry.name)?;
        let (_, last) = name::split(&path);
        if !matches!(name::base(&entry.name, last)?, Base::Plain(_)) {
            continue;
        }
        let fact = match entry.kind {
            // It is the same file under another name.
            Kind::HardLink => match facts.get(&name::clean(&entry.link)?) {
                Some(target) => target.again(),
                None => continue,
            },
            _ => Fact::read(&entry, archive)?,
        };
        // What comes later replaces what was there, with everything below.
        if fact.kind != Kind::Directory {
            let below = [path.as_slice(), b"/"].concat();
            facts.retain(|other, _| !other.starts_with(&below));
        }
        facts.insert(path, fact);
    }
    archive.drain().map_err(io)?;
    Ok(facts)
}

impl Fact {
    fn read<R: BufRead>(entry: &Entry, archive: &mut Reader<R>) -> Result<Self> {
        let mut hasher = Hasher::sha256();
        let mut position = 0;
        let mut parts = entry.sparse.iter().flatten().copied();
        let (mut offset, mut left) =
            if entry.sparse.is_some() { parts.next().unwrap_or((0, 0)) } else { (0, entry.size) };
        if entry.kind == Kind::File {
            loop {
                while left == 0 {
                    let Some(part) = parts.next() else { break };
                    (offset, left) = part;
                }
                let piece = archive.data().map_err(Error::LayerStream)?;
                if piece.is_empty() {
                    break;
                }
                zeros(&mut hasher, offset - position);
                let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                hasher.update(piece.get(..length).unwrap_or_default());
                archive.consume(length);
                offset += length as u64;
                left -= length as u64;
                position = offset;
            }
            zeros(&mut hasher, entry.size.saturating_sub(position));
        }
        Ok(Self {
            kind: entry.kind,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            size: entry.size,
            link: entry.link.clone(),
            device: entry.device,
            content: (entry.kind == Kind::File).then(|| hasher.finish()),
        })
    }

    fn again(&self) -> Self {
        Self { link: self.link.clone(), content: self.content.clone(), ..*self }
    }
}

/// A hole reads as zeros.
fn zeros(hasher: &mut Hasher, mut count: u64) {
    const ZEROS: [u8; 4096] = [0; 4096];
    while count > 0 {
        let length = usize::try_from(count).unwrap_or(ZEROS.len()).min(ZEROS.len());
        hasher.update(ZEROS.get(..length).unwrap_or_default());
        count -= length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Archive, store};
    use super::*;

    #[test]
    fn every_kind_of_damage_shows() {
        let (_scratch, store) = store();
        let archive = Archive::new()
            .directory("d")
            .file("d/a", b"a")
            .file("d/b", b"b")
            .file("replaced/x", b"x")
            .file("replaced", b"file")
            .link("d/h", Kind::HardLink, "d/a")
            .link("d/l", Kind::Symlink, "a")
            .file("big", &[0; 2 << 20])
            .finish();
        let layer = store.layers().unpack_unknown(&mut &*archive).unwrap();
        let check = |expect: &[(&str, &'static str)]| {
            let found = compare(&layer.path, &mut &*archive).unwrap();
            let found: Vec<_> =
                found.iter().map(|difference| (difference.path.as_str(), difference.what)).collect();
            assert_eq!(found, expect);
        };
        check(&[]);
        std::fs::write(layer.path.join("d/b"), b"B").unwrap();
        check(&[("d/b", "has other content")]);
        std::fs::remove_file(layer.path.join("d/b")).unwrap();
        check(&[("d/b", "is missing")]);
        std::fs::create_dir(layer.path.join("d/b")).unwrap();
        check(&[("d/b", "is of another kind")]);
        std::fs::remove_dir(layer.path.join("d/b")).unwrap();
        std::fs::write(layer.path.join("d/b"), b"b").unwrap();
        std::fs::remove_file(layer.path.join("d/l")).unwrap();
        std::os::unix::fs::symlink("b", layer.path.join("d/l")).unwrap();
        check(&[("d/l", "points elsewhere")]);
    }
}
