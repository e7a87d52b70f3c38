//! Fetching for builds: URLs and git repositories.
//!
//! git runs as a program of the host. Nothing that a user names can become an option of it (CVE-2019-13139), and only
//! transports that fetch are allowed.

use crate::error::{Error, Result};
use crate::images::Images;
use base::Kind;
use builder::GitSource;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The beginning of an archive that tells it from a text.
const START: usize = 512;
/// A longer text of a Dockerfile is cut off.
const MAX_TEXT: u64 = 16 << 20;

/// Fetches a URL into a file; returns when it was last changed, and what the server calls it.
pub(super) async fn download(
    images: &Images,
    url: &str,
    file: &mut File,
) -> Result<(Option<i64>, Option<String>)> {
    let failed = |error: &distribution::Error| {
        Error::known(
            Kind::Unavailable,
            format!("failed to download remote url {url}: {}", base::chain(error)),
        )
    };
    let mut download = images.download(url).await.map_err(|error| failed(&error))?;
    while let Some(piece) = download.chunk().await.map_err(|error| failed(&error))? {
        file.write_all(&piece).map_err(Error::file("write", Path::new(url)))?;
    }
    file.flush().map_err(Error::file("write", Path::new(url)))?;
    Ok((download.modified, download.name))
}

/// Fetches a repository's reference into an empty folder; returns the commit.
pub(super) fn repository(source: &GitSource, keep_git: bool, folder: &Path) -> Result<String> {
    let (url, reference) = (source.repository.as_str(), source.reference.as_str());
    let wrong = |text: &str| Err(Error::invalid(format!("{text:?} is no repository or reference of git")));
    let is_known = matches!(GitSource::parse(url), Ok(Some(_))) || url.starts_with("http");
    if url.starts_with('-') || !is_known {
        return wrong(url);
    }
    if reference.starts_with('-')
        || reference.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':')
    {
        return wrong(reference);
    }
    let url = if url.starts_with("github.com/") { format!("https://{url}") } else { url.to_owned() };
    let reference = if reference.is_empty() { "HEAD" } else { reference };
    git(folder, &["init", "--quiet"])?;
    git(folder, &["remote", "add", "origin", "--", &url])?;
    // A commit can be fetched by itself from most servers; from the others with everything.
    let shallow = git(folder, &["fetch", "--quiet", "--depth=1", "--end-of-options", "origin", reference]);
    match shallow {
        Ok(_) => drop(git(folder, &["checkout", "--quiet", "--detach", "FETCH_HEAD"])?),
        // Old servers have no shallow clones.
        Err(_) if git(folder, &["fetch", "--quiet", "--end-of-options", "origin", reference]).is_ok() => {
            drop(git(folder, &["checkout", "--quiet", "--detach", "FETCH_HEAD"])?);
        }
        Err(error) => {
            let all =
                git(folder, &["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"]);
            let out = all.and_then(|_| git(folder, &["checkout", "--quiet", "--detach", reference]));
            out.map_err(|_second| error)?;
        }
    }
    if !source.no_submodules {
        git(folder, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
    }
    let commit = git(folder, &["rev-parse", "HEAD"])?.trim().to_owned();
    if !keep_git {
        let own = folder.join(".git");
        std::fs::remove_dir_all(&own).map_err(Error::file("remove", &own))?;
    }
    Ok(commit)
}

fn git(folder: &Path, words: &[&str]) -> Result<String> {
    let failed = |why: &str| {
        let text = format!("git {}: {}", words.first().copied().unwrap_or_default(), why.trim());
        Error::known(Kind::Unavailable, text)
    };
    let output = Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "protocol.ext.allow=never",
            "-c",
            "protocol.file.allow=never",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(words)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&format!("cannot be run on this host: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(&String::from_utf8_lossy(&output.stderr)))
}

/// Fetches a context; returns its folder.
pub(super) fn context(images: &Images, url: &str, folder: &Path, keep_git: bool) -> Result<PathBuf> {
    if let Some(source) = GitSource::parse(url).map_err(super::from_builder)? {
        let commit = repository(&source, keep_git || source.keep_git, folder)?;
        source.check(&commit).map_err(super::from_builder)?;
        let root = sys::path::open_directory(folder).map_err(|error| Error::invalid(base::chain(&error)))?;
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let below = if source.folder.is_empty() { "." } else { source.folder.as_str() };
        let found = sys::path::open_in_root(root.as_fd(), Path::new(below), flags).map_err(|error| {
            Error::invalid(format!("the repository has no folder {below:?}: {}", base::chain(&error)))
        })?;
        return std::fs::read_link(sys::path::of_descriptor(found.as_fd()))
            .map_err(Error::file("find", folder));
    }
    let mut file = temporary(images, url, folder)?;
    take(&mut file, folder)?;
    Ok(folder.to_owned())
}

/// Fetches a URL into a file beside `folder` that has no name any more.
fn temporary(images: &Images, url: &str, folder: &Path) -> Result<File> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Error::invalid(format!("{url:?} is nothing that can be fetched")));
    }
    let place = folder.with_extension("download");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&place)
        .map_err(Error::file("create", &place))?;
    let fetched = tokio::runtime::Handle::current().block_on(download(images, url, &mut file));
    drop(std::fs::remove_file(&place));
    fetched?;
    file.rewind().map_err(Error::file("read", &place))?;
    Ok(file)
}

/// Fetches a text.
pub(super) fn text(images: &Images, url: &str, folder: &Path) -> Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = temporary(images, url, folder)?;
    match file.take(MAX_TEXT).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::invalid(format!("{url} is not a text in UTF-8")))
        }
        Err(error) => Err(Error::file("read", Path::new(url))(error)),
    }
}

/// Puts what was fetched or sent into a context's folder: an archive's files, or a text as the Dockerfile.
fn take(file: &mut File, folder: &Path) -> Result<()> {
    use std::io::Read as _;
    let mut start = Vec::new();
    (&mut *file).take(START as u64).read_to_end(&mut start).map_err(Error::file("read", folder))?;
    file.rewind().map_err(Error::file("read", folder))?;
    let is_text = !start.contains(&0) && oci::Compression::sniff(&start) == oci::Compression::None;
    if is_text {
        let place = folder.join("Dockerfile");
        let mut target = File::create(&place).map_err(Error::file("create", &place))?;
        std::io::copy(file, &mut target).map_err(Error::file("write", &place))?;
        return Ok(());
    }
    let root = sys::path::open_directory(folder).map_err(|error| Error::invalid(base::chain(&error)))?;
    builder::unpack(root.as_fd(), ".", Some((0, 0)), builder::Limits::default(), file)
        .map_err(super::from_builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_user_names_becomes_an_option() {
        let folder = std::env::temp_dir();
        for (url, reference) in [
            ("--upload-pack=touch /tmp/x.git", ""),
            ("-x.git", ""),
            ("file:///etc", ""),
            ("ext::sh -c x", ""),
            ("https://host/x.git", "--upload-pack=x"),
            ("https://host/x.git", "a b"),
            ("https://host/x.git", "+refs/heads/*:refs/heads/*"),
        ] {
            let (repository_url, reference) = (url.to_owned(), reference.to_owned());
            let source = GitSource { repository: repository_url, reference, ..GitSource::default() };
            let error = repository(&source, false, &folder).unwrap_err();
            assert!(error.to_string().ends_with("is no repository or reference of git"), "{url}: {error}");
        }
    }
}
