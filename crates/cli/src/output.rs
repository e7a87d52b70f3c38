//! Archives that go to a file or to standard output.

use crate::error::{Error, Result, reason};
use crate::program::stdout_is_terminal;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Refuses to write an archive to a terminal, or to a file that cannot be one.
pub(crate) fn check(verb: &str, path: &str) -> Result<()> {
    if path.is_empty() {
        if stdout_is_terminal() {
            return Err(Error::message(format!(
                "cowardly refusing to {verb} to a terminal. Use the -o flag or redirect"
            )));
        }
        return Ok(());
    }
    let parent =
        Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = fs::metadata(parent) {
        let (parent, why) = (parent.display(), reason(&error));
        return Err(Error::message(format!(
            "failed to {verb} image: invalid output path: stat {parent}: {why}"
        )));
    }
    if Path::new(path).is_dir() {
        return Err(Error::message(format!(
            "failed to {verb} image: invalid output path: {path:?} must be a regular file"
        )));
    }
    Ok(())
}

/// Copies an archive to a file (written beside it and renamed at the end) or, without a path, to standard output.
pub(crate) fn write(mut source: impl Read, path: &str) -> Result<()> {
    if path.is_empty() {
        return io::copy(&mut source, &mut io::stdout().lock())
            .map(drop)
            .map_err(Error::file("write", "standard output"));
    }
    let partial = format!("{path}.partial-{}", std::process::id());
    let copied = fs::File::create(&partial)
        .map_err(Error::file("open", path))
        .and_then(|mut file| io::copy(&mut source, &mut file).map_err(Error::file("write", path)))
        .and_then(|_bytes| fs::rename(&partial, path).map_err(Error::file("rename", path)));
    if copied.is_err() {
        drop(fs::remove_file(&partial));
    }
    copied
}
