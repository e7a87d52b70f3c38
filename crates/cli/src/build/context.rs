//! What is built: a folder, an archive or a Dockerfile on standard input, a URL; and sending it.

use crate::error::{Error, Result};
use dockerfile::Patterns;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use tar::{Builder, EntryType, Header};

/// The type of the body (`daemon`, routes/build/own.rs).
pub(super) const CONTENT_TYPE: &str = "application/vnd.wharf.build.v1";
/// The beginning of an archive that tells it from a text.
const START: usize = 512;

/// Where the context is.
#[derive(Debug)]
pub(super) enum Main {
    /// A folder.
    Folder(PathBuf),
    /// An archive: what was read of standard input, and the rest.
    Archive(Vec<u8>),
    /// A URL, which the engine fetches.
    Remote(String),
    /// None: there is a Dockerfile alone.
    Nothing,
}

/// What is built.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) main: Main,
    /// The text of the Dockerfile, unless the engine is to find it.
    pub(super) dockerfile: Option<String>,
    /// How it is called: in the context, if the engine is to find it.
    pub(super) dockerfile_name: String,
}

impl Given {
    /// Finds out what the argument and `--file` mean.
    pub(super) fn new(place: &str, file: &str) -> Result<Self> {
        if place == "-" {
            return Self::standard_input(file);
        }
        if is_remote(place) {
            let dockerfile = if file == "-" { Some(read_standard_input()?) } else { None };
            let name = if dockerfile.is_some() { "" } else { file };
            return Ok(Self {
                main: Main::Remote(place.to_owned()),
                dockerfile,
                dockerfile_name: name.to_owned(),
            });
        }
        let folder = PathBuf::from(place);
        let metadata = std::fs::metadata(&folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::message(format!("unable to prepare context: path {place:?} not found"))
            }
            _ => Error::file("stat", place)(error),
        })?;
        if !metadata.is_dir() {
            return Err(Error::message(format!("unable to prepare context: path {place:?} is not a folder")));
        }
        let (text, name) = match file {
            "-" => (read_standard_input()?, "Dockerfile".to_owned()),
            "" => {
                let usual = folder.join("Dockerfile");
                let other = folder.join("dockerfile");
                let path = if !usual.exists() && other.exists() { other } else { usual };
                (read(&path)?, path.display().to_string())
            }
            file => (read(Path::new(file))?, file.to_owned()),
        };
        Ok(Self { main: Main::Folder(folder), dockerfile: Some(text), dockerfile_name: name })
    }

    fn standard_input(file: &str) -> Result<Self> {
        if file == "-" {
            return Err(Error::message(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        let mut start = Vec::new();
        io::stdin()
            .lock()
            .take(START as u64)
            .read_to_end(&mut start)
            .map_err(Error::file("read", "standard input"))?;
        let is_archive = start.contains(&0) || start.starts_with(b"BZh") || start.starts_with(&[0x1f, 0x8b]);
        if is_archive {
            return Ok(Self {
                main: Main::Archive(start),
                dockerfile: None,
                dockerfile_name: file.to_owned(),
            });
        }
        if !file.is_empty() {
            return Err(Error::message(
                "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
            ));
        }
        let mut text = String::from_utf8(start)
            .map_err(|_bytes| Error::message("the Dockerfile is not a text in UTF-8"))?;
        text.push_str(&read_standard_input()?);
        Ok(Self { main: Main::Nothing, dockerfile: Some(text), dockerfile_name: "Dockerfile".to_owned() })
    }

    /// Returns what the `.dockerignore` says.
    pub(super) fn patterns(&self) -> Result<Patterns> {
        let Main::Folder(folder) = &self.main else { return Ok(Patterns::default()) };
        let own = PathBuf::from(format!("{}.dockerignore", self.dockerfile_name));
        let path = if own.exists() { own } else { folder.join(".dockerignore") };
        match std::fs::read_to_string(&path) {
            Ok(text) => Patterns::parse(&text)
                .map_err(|error| Error::message(format!("error reading {}: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Patterns::default()),
            Err(error) => Err(Error::file("read", path.display().to_string())(error)),
        }
    }
}

fn is_remote(place: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|start| place.starts_with(start))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::message(format!(
            "failed to read dockerfile: open {}: no such file or directory",
            path.display()
        )),
        _ => Error::file("read", path.display().to_string())(error),
    })
}

fn read_standard_input() -> Result<String> {
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text).map_err(Error::file("read", "standard input"))?;
    Ok(text)
}

/// A folder that is sent, and where it is in the archive.
#[derive(Debug)]
pub(super) struct Tree {
    folder: PathBuf,
    top: String,
    patterns: Patterns,
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

/// Packs the contexts on a thread and hands the archive to `send`.
pub(super) fn send<T>(
    given: &Given,
    trees: &[Tree],
    send: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let (mut reader, mut writer) = io::pipe().map_err(Error::file("open", "pipe"))?;
    thread::scope(|scope| {
        let packing = scope.spawn(move || -> io::Result<()> {
            if let Main::Archive(start) = &given.main {
                writer.write_all(start)?;
                io::copy(&mut io::stdin().lock(), &mut writer)?;
                return Ok(());
            }
            let mut packer = Packer { archive: Builder::new(io::BufWriter::with_capacity(1 << 17, writer)) };
            packer.archive.follow_symlinks(false);
            for Tree { folder, top, patterns } in trees {
                packer.folder(folder, top, "", patterns)?;
            }
            packer.archive.into_inner()?.flush()
        });
        let value = send(&mut reader);
        // A packer that is still writing learns that nobody reads.
        drop(reader);
        let packed = packing.join().map_err(|_panic| Error::message("packing the context failed"))?;
        match (value, packed) {
            (Err(_) | Ok(_), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::message(format!("failed to read the build context: {error}")))
            }
            // Whoever broke the pipe says why.
            (value, _) => value,
        }
    })
}

struct Packer<W: Write> {
    archive: Builder<W>,
}

impl<W: Write> Packer<W> {
    /// Packs what is in a folder, in the order of names.
    fn folder(&mut self, folder: &Path, top: &str, below: &str, patterns: &Patterns) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let shown = name.to_string_lossy();
            let relative = if below.is_empty() { shown.into_owned() } else { format!("{below}/{shown}") };
            let metadata = std::fs::symlink_metadata(&path)?;
            let left_out = patterns.matches(&relative);
            if left_out && !(metadata.is_dir() && patterns.may_take_back_below(&relative)) {
                continue;
            }
            let called = format!("{top}/{relative}");
            self.entry(&path, &called, &metadata)?;
            if metadata.is_dir() {
                self.folder(&path, top, &relative, patterns)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, called: &str, metadata: &std::fs::Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_size(0);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            return self.archive.append_data(&mut header, format!("{called}/"), io::empty());
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = std::fs::read_link(path)?;
            return self.archive.append_link(&mut header, called, target);
        }
        if !kind.is_file() {
            // Pipes, sockets and devices are nothing to build with.
            return Ok(());
        }
        let file = File::open(path)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
        // A file that shrinks meanwhile is filled with zeros, one that grows is cut.
        let content = file.chain(io::repeat(0)).take(metadata.len());
        self.archive.append_data(&mut header, called, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_not_sent() {
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
        let trees = trees(&given, &[], &[]).unwrap();
        let sent = send(&given, &trees, |archive| {
            let mut bytes = Vec::new();
            archive.read_to_end(&mut bytes).unwrap();
            let mut archive = tar::Archive::new(bytes.as_slice());
            let names = archive
                .entries()
                .unwrap()
                .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap());
            Ok(names.collect::<Vec<_>>())
        });
        assert_eq!(
            sent.unwrap(),
            [
                "context/keep/",
                "context/keep/deep/",
                "context/keep/deep/f",
                "context/keep/link",
                "context/out/",
                "context/out/in/",
                "context/out/in/y",
            ]
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
