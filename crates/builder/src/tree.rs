//! A folder to copy from: what matches, and a digest of it that has all that counts and no times.

use crate::error::{Error, Result};
use crate::place::{self, kind, list, open_folder};
use crate::request::KnownFiles;
use dockerfile::Patterns;
use oci::{Digest, Hasher};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// Deeper trees are refused: each level holds a descriptor.
const MAX_DEPTH: usize = 500;

/// Something to be copied, found in a tree.
#[derive(Debug)]
pub(crate) struct Found {
    /// As it was asked for, from the tree's root.
    pub(crate) path: Vec<Vec<u8>>,
    /// Where it really is: a link that was asked for is followed.
    pub(crate) place: place::Place,
}

impl Found {
    /// The name that it gets in a folder.
    pub(crate) fn name(&self) -> Vec<u8> {
        self.path.last().cloned().unwrap_or_else(|| b".".to_vec())
    }
}

/// Cuts a path of a Dockerfile down to what lies within a tree: `..` leads nowhere above it.
pub(crate) fn clip(path: &str) -> Vec<Vec<u8>> {
    let mut clean: Vec<Vec<u8>> = Vec::new();
    for name in place::names(path.as_bytes()) {
        if name == b".." {
            clean.pop();
        } else {
            clean.push(name);
        }
    }
    clean
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// Finds what a source of `COPY` or `ADD` means in the tree `root`.
///
/// # Errors
///
/// That nothing is there.
pub(crate) fn find(root: BorrowedFd<'_>, source: &str) -> Result<Vec<Found>> {
    let path = clip(source);
    let missing = || {
        Error::NotFound(format!(
            "file not found in build context or excluded by .dockerignore: stat {}: file does not exist",
            source.trim_start_matches('/')
        ))
    };
    let one = |path: Vec<Vec<u8>>| -> Result<Option<Found>> {
        match place::find(root, &path.join(&b'/'), true, None) {
            Ok(place) if place.stat.is_some() => Ok(Some(Found { path, place })),
            Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(Error::name("find", source.as_bytes())(errno)),
        }
    };
    if !is_pattern(source) {
        return Ok(vec![one(path)?.ok_or_else(missing)?]);
    }
    // Something may really be called like a pattern.
    if let Some(found) = one(path.clone())? {
        return Ok(vec![found]);
    }
    let pattern: Vec<String> = path.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let mut matched = Vec::new();
    let top = openat(root, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::name("open", b"."))?;
    expand(top.as_fd(), &pattern, &mut Vec::new(), &mut matched)?;
    let mut found = Vec::new();
    for path in matched {
        found.extend(one(path)?);
    }
    if found.is_empty() {
        return Err(missing());
    }
    Ok(found)
}

/// Collects the paths that a pattern, component by component, matches.
fn expand(
    folder: BorrowedFd<'_>,
    pattern: &[String],
    path: &mut Vec<Vec<u8>>,
    matched: &mut Vec<Vec<Vec<u8>>>,
) -> Result<()> {
    let Some((first, rest)) = pattern.split_first() else { return Ok(()) };
    if path.len() > MAX_DEPTH {
        return Err(too_deep(path));
    }
    let any_depth = first == "**";
    if any_depth && !rest.is_empty() {
        expand(folder, rest, path, matched)?;
    }
    for name in list(folder).map_err(Error::name("list", &path.join(&b'/')))? {
        let text = String::from_utf8_lossy(&name).into_owned();
        let fits =
            any_depth || dockerfile::glob(first, &text).map_err(|error| Error::Invalid(error.to_string()))?;
        if !fits {
            continue;
        }
        path.push(name.clone());
        if rest.is_empty() && !matched.contains(path) {
            matched.push(path.clone());
        }
        let below = if any_depth { pattern } else { rest };
        let ends = below.is_empty() || (any_depth && rest.is_empty());
        if !ends && let Ok(inner) = open_folder(folder, &name) {
            expand(inner.as_fd(), below, path, matched)?;
        }
        path.pop();
    }
    Ok(())
}

fn too_deep(path: &[Vec<u8>]) -> Error {
    let shown = String::from_utf8_lossy(&path.join(&b'/')).into_owned();
    Error::Invalid(format!("the tree is too deep: {shown}"))
}

/// Adds to a digest what was found: names, kinds, modes, owners, attributes, links, content.
///
/// # Errors
///
/// That something cannot be read.
pub(crate) fn add_to(hasher: &mut Hasher, found: &Found, count: Count<'_>, exclude: &Patterns) -> Result<()> {
    let at = found.place.path.clone();
    let mut walk = Digesting { hasher, count, exclude, at, links: std::collections::HashMap::new() };
    walk.hasher.update(&found.path.join(&b'/'));
    walk.entry(found.place.parent.as_fd(), &found.place.name, &mut Vec::new())
}

/// What counts in a digest, and what need not be read for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count<'a> {
    /// Whether owners count: those of the build context do not.
    pub(crate) owners: bool,
    /// Files whose content is known; they have no attributes.
    pub(crate) known: Option<&'a KnownFiles>,
}

struct Digesting<'a> {
    hasher: &'a mut Hasher,
    count: Count<'a>,
    exclude: &'a Patterns,
    /// Where in the tree this begins.
    at: Vec<Vec<u8>>,
    /// Files with several names: the first one.
    links: std::collections::HashMap<(u64, u64), Vec<u8>>,
}

impl Digesting<'_> {
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &mut Vec<Vec<u8>>) -> Result<()> {
        let shown = path.join(&b'/');
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::name("stat", &shown))?;
        self.field(&shown);
        self.number(u64::from(stat.st_mode));
        if self.count.owners {
            self.number(u64::from(stat.st_uid));
            self.number(u64::from(stat.st_gid));
        }
        if path.len() > MAX_DEPTH {
            return Err(too_deep(path));
        }
        match kind(&stat) {
            FileType::Directory => {
                let folder = open_folder(parent, name).map_err(Error::name("open", &shown))?;
                self.attributes(&folder)?;
                for name in list(folder.as_fd()).map_err(Error::name("list", &shown))? {
                    path.push(name.clone());
                    if !is_left_out(self.exclude, path, folder.as_fd(), &name) {
                        self.entry(folder.as_fd(), &name, path)?;
                    }
                    path.pop();
                }
            }
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).cloned() {
                        self.field(&first);
                        return Ok(());
                    }
                    self.links.insert((stat.st_dev, stat.st_ino), shown.clone());
                }
                let known = self.count.known.and_then(|known| {
                    let path: Vec<Vec<u8>> = self.at.iter().chain(path.iter()).cloned().collect();
                    known.get(&path).map(ToString::to_string)
                });
                let digest = match known {
                    Some(digest) => digest,
                    None => {
                        let file = open_file(parent, name, &shown)?;
                        self.attributes(file.as_fd())?;
                        let mut own = Hasher::sha256();
                        content(&mut own, File::from(file)).map_err(Error::name("read", &shown))?;
                        own.finish().to_string()
                    }
                };
                self.field(digest.as_bytes());
            }
            FileType::Symlink => {
                let target = readlinkat(parent, name, Vec::new()).map_err(Error::name("read", &shown))?;
                self.field(target.as_bytes());
            }
            _ => self.number(stat.st_rdev),
        }
        Ok(())
    }

    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    fn attributes(&mut self, fd: impl AsFd) -> Result<()> {
        for (name, value) in attributes(fd)? {
            self.field(&name);
            self.field(&value);
        }
        Ok(())
    }
}

/// Says whether patterns leave an entry out; a folder is looked into if something below it comes back.
pub(crate) fn is_left_out(exclude: &Patterns, path: &[Vec<u8>], parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    if exclude.is_empty() {
        return false;
    }
    let text = String::from_utf8_lossy(&path.join(&b'/')).into_owned();
    exclude.matches(&text) && !(exclude.may_take_back_below(&text) && open_folder(parent, name).is_ok())
}

pub(crate) fn content(hasher: &mut Hasher, mut file: File) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Opens a regular file and nothing else: opening a device or pipe has effects.
pub(crate) fn open_file(parent: BorrowedFd<'_>, name: &[u8], shown: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(parent, name, flags, Mode::empty()).map_err(Error::name("open", shown))?;
    let stat: Stat = rustix::fs::fstat(&place).map_err(Error::name("stat", shown))?;
    if kind(&stat) != FileType::RegularFile {
        return Err(Error::Invalid(format!(
            "{} was replaced while it was read",
            String::from_utf8_lossy(shown)
        )));
    }
    let same = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::open(same, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::name("open", shown))
}

/// Extended attributes by name.
pub(crate) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Returns the extended attributes that belong to the content: the user's, capabilities and access lists.
pub(crate) fn attributes(fd: impl AsFd) -> Result<Attributes> {
    let mut names = vec![0; 1 << 16];
    let fd = fd.as_fd();
    let length = match rustix::fs::flistxattr(fd, &mut names) {
        Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        outcome => outcome.map_err(Error::name("list the attributes of", b"a file"))?,
    };
    let mut found = Vec::new();
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        let wanted = name.starts_with(b"user.")
            || name == b"security.capability"
            || name.starts_with(b"system.posix_acl_");
        if !wanted {
            continue;
        }
        let mut value = vec![0; 1 << 16];
        let length = match rustix::fs::fgetxattr(fd, name, &mut value) {
            Err(rustix::io::Errno::NODATA) => continue,
            outcome => outcome.map_err(Error::name("read an attribute of", b"a file"))?,
        };
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Returns the digest of what was found.
pub(crate) fn digest_of(found: &[Found], count: Count<'_>, exclude: &Patterns) -> Result<Digest> {
    let mut hasher = Hasher::sha256();
    for one in found {
        add_to(&mut hasher, one, count, exclude)?;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn sources_are_found_within_the_tree() {
        let scratch = Scratch::new();
        let root = scratch.path();
        std::fs::create_dir_all(root.join("d/e")).unwrap();
        for file in ["a.c", "b.c", "d/x.c", "d/e/y.c", "st*r"] {
            std::fs::write(root.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("d", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("out")).unwrap();
        let fd = File::open(root).unwrap();
        let names = |source: &str| -> Result<Vec<String>> {
            let found = find(fd.as_fd(), source)?;
            Ok(found.iter().map(|one| String::from_utf8(one.path.join(&b'/')).unwrap()).collect())
        };
        for (source, expect) in [
            ("*.c", &["a.c", "b.c"][..]),
            ("/a.c", &["a.c"]),
            ("../../a.c", &["a.c"]),
            ("d/*", &["d/e", "d/x.c"]),
            ("*/x.c", &["d/x.c"]),
            ("**/y.c", &["d/e/y.c"]),
            ("st*r", &["st*r"]),
            (".", &[""]),
            ("link", &["link"]),
        ] {
            assert_eq!(names(source).unwrap(), expect, "{source}");
        }
        for source in ["missing", "*.h", "out", "a.c/x"] {
            assert!(matches!(names(source), Err(Error::NotFound(_))), "{source}");
        }
    }

    #[test]
    fn digests_have_content_and_modes_but_no_times() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = Scratch::new();
        let root = scratch.path();
        std::fs::create_dir(root.join("d")).unwrap();
        let file = root.join("d/f");
        std::fs::write(&file, "one").unwrap();
        let fd = File::open(root).unwrap();
        let digest =
            || digest_of(&find(fd.as_fd(), "d").unwrap(), Count::default(), &Patterns::default()).unwrap();
        let first = digest();
        File::open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(digest(), first);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        let second = digest();
        assert_ne!(second, first);
        std::fs::write(&file, "two").unwrap();
        assert_ne!(digest(), second);
        let without = Patterns::new(["f"]).unwrap();
        let left = digest_of(&find(fd.as_fd(), "d").unwrap(), Count::default(), &without).unwrap();
        std::fs::write(&file, "three").unwrap();
        assert_eq!(digest_of(&find(fd.as_fd(), "d").unwrap(), Count::default(), &without).unwrap(), left);
    }
}
