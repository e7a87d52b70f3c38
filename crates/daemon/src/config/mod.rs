//! Configuration: dockerd's options and daemon.json → one typed [`Config`].
//!
//! 1. [`parse`]: the command line and the file, each to [`parse::Given`] (what was written);
//! 2. [`parse::Given::merge`]: an option comes from one of the two;
//! 3. [`resolve::resolve`]: typed values, defaults filled in, contradictions refused.
//!
//! All of it is pure; [`read`] and [`remap::Accounts::read`] are the only effects. A reload does the same again and applies [`reload::diff`].

mod builder;
mod cluster;
pub mod flags;
pub mod parse;
pub mod reload;
pub mod remap;
pub mod resolve;
mod values;

pub use resolve::{Config, Host, HostFacts};

use base::paths;
use parse::Given;
use std::io;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The command line is wrong.
    #[error("{0}\nSee 'wharf daemon --help'.")]
    CommandLine(parse::ParseError),
    /// daemon.json is wrong, or clashes with the command line.
    #[error("unable to configure the Docker daemon with file {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A value makes no sense.
    #[error(transparent)]
    Value(#[from] resolve::ValueError),
}

/// Returns the configuration file that `flags` name.
pub fn path(flags: &Given) -> &str {
    flags.last("config-file").unwrap_or(paths::DEFAULT_CONFIG)
}

/// Reads the configuration file and merges it with `flags`.
///
/// # Errors
///
/// [`ConfigError::File`] if it cannot be read or used. That the default file does not exist is no error.
pub fn read(flags: Given) -> Result<Given, ConfigError> {
    let path = path(&flags).to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !flags.has("config-file") => {
            return Ok(flags);
        }
        Err(error) => {
            let text = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error).map(sys::message);
            let text = text.unwrap_or_else(|| error.to_string());
            return Err(ConfigError::File { reason: format!("open {path}: {text}"), path });
        }
    };
    let merged = parse::file(&text).and_then(|file| flags.merge(file));
    merged.map_err(|error| ConfigError::File { path, reason: error.to_string() })
}
