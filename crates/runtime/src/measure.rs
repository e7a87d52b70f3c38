//! What `cargo bench -p runtime` times, and what the fuzz target and the tests by random changes hold a document against.

use crate::{Error, seccomp, validate};
use oci::runtime::{Seccomp, Spec};
use std::path::Path;

/// What a place in a document begins with.
const TOPS: [&str; 8] =
    ["ociVersion", "hostname", "domainname", "process", "root", "mounts", "hooks", "linux"];

/// Compiles a profile anew; returns the number of instructions.
///
/// # Errors
///
/// [`Error::Spec`] for a profile that makes no sense.
pub fn compile(profile: &Seccomp) -> Result<usize, Error> {
    seccomp::compile_anew(profile)
}

/// Gets a profile's program from those that were compiled before, or compiles it.
///
/// # Errors
///
/// As [`compile`].
pub fn cached(profile: &Seccomp) -> Result<bool, Error> {
    seccomp::program(profile).map(|program| program.is_some())
}

/// Checks a document.
///
/// # Errors
///
/// [`Error::Invalid`] with the place of what is wrong.
pub fn check(spec: &Spec, bundle: &Path) -> Result<(), Error> {
    validate::check(spec, bundle)
}

/// Reads and checks the document `bytes`; returns whether it is taken.
///
/// # Panics
///
/// When a refusal has no reason, or that of the check no place in the document.
pub fn judge(bytes: &[u8]) -> bool {
    let spec = match serde_json::from_slice::<Spec>(bytes) {
        Ok(spec) => spec,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "no reason");
            validate::culprit(bytes);
            return false;
        }
    };
    let Err(error) = validate::check(&spec, Path::new("/")) else { return true };
    let placed = matches!(&error, Error::Invalid { path, problem }
        if TOPS.iter().any(|top| path.starts_with(top)) && !problem.is_empty());
    assert!(placed, "{error}");
    false
}
