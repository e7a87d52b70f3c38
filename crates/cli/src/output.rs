//! Archives that go to a file or to standard output.

use crate::error::{Error, Result, reason};
use crate::program::stdout_is_terminal;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;
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
    refuse_device(path)
        .map_err(|reason| Error::message(format!("failed to {verb} image: invalid output path: {reason}")))
}

/// Refuses to put a file in the place of a device, such as `/dev/null`.
pub(crate) fn refuse_device(path: &str) -> std::result::Result<(), String> {
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    if kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device()) {
        return Err(format!("{path:?} must be a directory or a regular file: got a device"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_not_replaced() {
        let reason = r#""/dev/null" must be a directory or a regular file: got a device"#;
        assert_eq!(refuse_device("/dev/null").unwrap_err(), reason);
        let error = check("save", "/dev/null").unwrap_err().to_string();
        assert_eq!(error, format!("failed to save image: invalid output path: {reason}"));
        assert!(refuse_device("/nonexistent").is_ok() && refuse_device("/").is_ok());
    }
}
