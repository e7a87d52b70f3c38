//! Commands about images.

pub(crate) mod archive;
pub(crate) mod list;
pub(crate) mod manifest;
pub(crate) mod pull;
pub(crate) mod search;
mod tree;
pub(crate) mod verbs;

use crate::error::{Error, Result};
use crate::flags::{Flag, switch};
use crate::program::Cli;
use client::{Request, path_segment};
use oci::Reference;

/// The flag of those that talk to a registry.
pub(crate) const TLS_VERIFY: Flag =
    switch("tls-verify", "Require HTTPS and a certificate that verifies").default("true");

/// Returns the query's value for [`TLS_VERIFY`]; empty for the default.
pub(crate) fn unverified(verify: bool) -> &'static str {
    if verify { "" } else { "0" }
}

/// Starts a request about one image: `/images/NAME` and what follows.
pub(crate) fn request<'a>(
    cli: &'a Cli,
    method: &'static str,
    image: &str,
    rest: &str,
) -> Result<Request<'a>> {
    Ok(cli.client()?.request(method, format!("/images/{}{rest}", path_segment(image))))
}

/// Parses a name with Docker's defaults.
pub(crate) fn reference(text: &str) -> Result<Reference> {
    Reference::parse_normalized(text).map_err(|error| Error::message(error.to_string()))
}

/// Splits `repository[:tag]` as the API takes it; empty stays empty.
pub(crate) fn split_name(text: &str) -> Result<(String, String)> {
    if text.is_empty() {
        return Ok((String::new(), String::new()));
    }
    let reference = reference(text)?;
    if reference.digest().is_some() {
        return Err(Error::message("cannot use digest in reference"));
    }
    Ok((reference.repository(), reference.tag().unwrap_or_default().to_owned()))
}
