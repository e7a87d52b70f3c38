//! What is built: a folder, an archive or a Dockerfile on standard input, a URL; and sending it.

use super::listing::Item;
use crate::error::{Error, Result};
use dockerfile::Patterns;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use tar::Builder;

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
    /// Where the engine fetches it from, if it is no file.
    pub(super) dockerfile_url: Option<String>,
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
            let url = is_url(file).then(|| file.to_owned());
            let name = if dockerfile.is_some() || url.is_some() { "" } else { file };
            return Ok(Self {
                main: Main::Remote(place.to_owned()),
                dockerfile,
                dockerfile_url: url,
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
        if is_url(file) {
            return Ok(Self {
                main: Main::Folder(folder),
                dockerfile: None,
                dockerfile_url: Some(file.to_owned()),
                dockerfile_name: "Dockerfile".to_owned(),
            });
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
        Ok(Self {
            main: Main::Folder(folder),
            dockerfile: Some(text),
            dockerfile_url: None,
            dockerfile_name: name,
        })
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
                dockerfile_url: is_url(file).then(|| file.to_owned()),
                dockerfile_name: if is_url(file) { String::new() } else { file.to_owned() },
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
        Ok(Self {
            main: Main::Nothing,
            dockerfile: Some(text),
            dockerfile_url: None,
            dockerfile_name: "Dockerfile".to_owned(),
        })
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

fn is_url(file: &str) -> bool {
    file.starts_with("http://") || file.starts_with("https://")
}

pub(super) fn is_remote(place: &str) -> bool {
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

/// Packs files on a thread and hands the archive to `send`; an archive on standard input is sent as it is.
pub(super) fn send<T>(
    given: &Given,
    files: &[Item],
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
            let mut archive = Builder::new(io::BufWriter::with_capacity(1 << 17, writer));
            files.iter().try_for_each(|file| file.pack(&mut archive))?;
            archive.into_inner()?.flush()
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
