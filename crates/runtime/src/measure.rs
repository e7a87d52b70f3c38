//! What `cargo bench -p runtime` times. Nobody else needs it.

use crate::{Error, seccomp, validate};
use oci::runtime::{Seccomp, Spec};
use std::path::Path;

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
