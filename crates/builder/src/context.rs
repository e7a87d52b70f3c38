//! A build context that was unpacked: its Dockerfile, and what its `.dockerignore` says of the two.

use crate::error::{Error, Result};
use dockerfile::Patterns;
use rustix::fs::{AtFlags, OFlags};
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

/// The name of a Dockerfile unless another one is given.
const DEFAULT: &str = "Dockerfile";
/// A Dockerfile longer than this is not read.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// Reads the Dockerfile `name` (or the one of the usual name) of a context, and takes it and the `.dockerignore` away if
/// the latter leaves them out: they were sent for the builder's sake, not to be copied.
///
/// # Errors
///
/// That there is no such Dockerfile.
pub fn read_context(folder: &Path, name: &str) -> Result<String> {
    let root = sys::path::open_directory(folder).map_err(Error::system)?;
    let wanted = if name.is_empty() { DEFAULT } else { name };
    let missing = || Error::Worker {
        kind: base::Kind::Internal,
        message: format!("Cannot locate specified Dockerfile: {wanted}"),
    };
    let (found, text) = match text(root.as_fd(), wanted)? {
        Some(text) => (wanted, text),
        None if wanted == DEFAULT => ("dockerfile", text(root.as_fd(), "dockerfile")?.ok_or_else(missing)?),
        None => return Err(missing()),
    };
    let own = format!("{found}.dockerignore");
    let (list, patterns) = match text_of_patterns(root.as_fd(), &own)? {
        Some(patterns) => (own.as_str(), patterns),
        None => (".dockerignore", text_of_patterns(root.as_fd(), ".dockerignore")?.unwrap_or_default()),
    };
    for file in [found, list] {
        let clean = file.trim_start_matches("./").trim_start_matches('/');
        if patterns.matches(clean) {
            let place = crate::place::find(root.as_fd(), file.as_bytes(), false, None);
            let removed = place.and_then(|place| {
                rustix::fs::unlinkat(&place.parent, place.name.as_slice(), AtFlags::empty())
            });
            match removed {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(Error::name("remove", file.as_bytes())(errno)),
            }
        }
    }
    Ok(text)
}

fn text_of_patterns(root: BorrowedFd<'_>, name: &str) -> Result<Option<Patterns>> {
    let patterns = text(root, name)?.map(|text| Patterns::parse(&text)).transpose();
    patterns.map_err(|error| Error::Invalid(format!("error checking context: '{name}': {error}")))
}

/// Reads a text of the context; `None` if it is not there.
fn text(root: BorrowedFd<'_>, name: &str) -> Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match sys::path::open_in_root(root, Path::new(name), flags) {
        Ok(file) => std::fs::File::from(file),
        Err(error) if error.errno() == rustix::io::Errno::NOENT => return Ok(None),
        Err(error) => return Err(Error::system(error)),
    };
    let mut text = String::new();
    match file.take(MAX_DOCKERFILE).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::Invalid(format!("{name} is not a text in UTF-8")))
        }
        Err(error) => Err(Error::name("read", name.as_bytes())(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn what_is_left_out_was_sent_to_be_read_only() {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        std::fs::write(at("dockerfile"), "FROM x\n").unwrap();
        assert_eq!(read_context(scratch.path(), "").unwrap(), "FROM x\n");
        std::fs::write(at(".dockerignore"), "docker*\n.dockerignore\n").unwrap();
        read_context(scratch.path(), "Dockerfile").unwrap();
        assert!(!at("dockerfile").exists() && !at(".dockerignore").exists());
        let error = read_context(scratch.path(), "other").unwrap_err();
        assert_eq!(error.to_string(), "Cannot locate specified Dockerfile: other");
        std::fs::write(at("other"), "FROM y\n").unwrap();
        std::fs::write(at("other.dockerignore"), "[\n").unwrap();
        assert!(read_context(scratch.path(), "other").is_err());
    }
}
