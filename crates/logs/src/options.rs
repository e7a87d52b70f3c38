//! Drivers and their options (`--log-driver`, `--log-opt`), refused in Docker's words.

use crate::Error;
use crate::remote::{self, Cache, Remote};
use base::size::{self, Multiple};
use std::collections::BTreeMap;

/// Wharf keeps this much of each log file when nobody said anything.
const BOUNDED_SIZE: u64 = 20_000_000;
/// Wharf keeps this many files when nobody said anything.
const BOUNDED_FILES: u32 = 5;

const JSON_FILE: &str = "json-file";
const LOCAL: &str = "local";
const NONE: &str = "none";

/// Options every driver has (moby, *logger.ValidateLogOpts*).
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
const JSON_FILE_OPTIONS: [&str; 8] =
    ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
const LOCAL_OPTIONS: [&str; 7] = ["max-file", "max-size", "compress", "labels", "env", "env-regex", "tag"];

/// What holds where no option was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Defaults {
    /// A log never fills the disk: 20 MB × 5 files.
    #[default]
    Bounded,
    /// One file without a limit, as dockerd has it (`"compat": "strict"`).
    Docker,
}

/// When a log file is put aside, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file is put aside before it grows larger than this many bytes; `None`: never.
    pub max_size: Option<u64>,
    /// Files kept, the one being written included; at least 1.
    pub max_files: u32,
    /// Whether files put aside are compressed.
    pub compress: bool,
}

/// A log driver with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// Docker's default: JSON lines.
    JsonFile(Rotation),
    /// Length-prefixed binary records, smaller than JSON lines.
    Local(Rotation),
    /// Nothing is kept.
    None,
    /// Sent to another program.
    Remote(Box<Remote>),
}

impl Driver {
    /// Makes a driver of its name (`""` is the default driver) and options.
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownDriver`], [`Error::UnknownOption`] or [`Error::InvalidOption`].
    pub fn new(name: &str, options: &BTreeMap<String, String>, defaults: Defaults) -> Result<Self, Error> {
        if let Some(remote) = remote::parse(name, options)? {
            return Ok(Self::Remote(Box::new(remote)));
        }
        validate(name, options)?;
        match name {
            "" | JSON_FILE => rotation(options, json_defaults(options, defaults)).map(Self::JsonFile),
            LOCAL => local_rotation(options).map(Self::Local),
            _ => Ok(Self::None),
        }
    }

    /// Returns the driver whose files hold what was logged: itself, or the local copy of what was sent.
    pub fn readable(&self) -> Self {
        match self {
            Self::JsonFile(_) | Self::Local(_) | Self::None => self.clone(),
            Self::Remote(remote) => match remote.cache() {
                Cache::Disabled => Self::None,
                Cache::Files(rotation) => Self::Local(rotation),
            },
        }
    }

    /// Returns the driver's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::JsonFile(_) => JSON_FILE,
            Self::Local(_) => LOCAL,
            Self::None => NONE,
            Self::Remote(remote) => remote.name(),
        }
    }
}

/// What holds for a `json-file` log where an option is missing.
fn json_defaults(options: &BTreeMap<String, String>, defaults: Defaults) -> Rotation {
    let sized = options.contains_key("max-size");
    match defaults {
        Defaults::Bounded if !sized => {
            Rotation { max_size: Some(BOUNDED_SIZE), max_files: BOUNDED_FILES, compress: false }
        }
        Defaults::Bounded | Defaults::Docker => Rotation { max_size: None, max_files: 1, compress: false },
    }
}

/// Checks a driver's name and that it has the options, as dockerd does at `create`.
///
/// # Errors
///
/// Returns [`Error::UnknownDriver`], [`Error::UnknownOption`] or [`Error::InvalidOption`].
pub fn validate(name: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
    if remote::parse(name, options)?.is_some() {
        return Ok(());
    }
    let (driver, known): (_, &[&str]) = match name {
        NONE => return Ok(()),
        "" | JSON_FILE => (JSON_FILE, &JSON_FILE_OPTIONS),
        LOCAL => (LOCAL, &LOCAL_OPTIONS),
        _ => return Err(Error::UnknownDriver(name.to_owned())),
    };
    is_blocking(options)?;
    match options.keys().find(|key| !known.contains(&key.as_str()) && !COMMON.contains(&key.as_str())) {
        None => Ok(()),
        Some(option) if driver == LOCAL => {
            Err(Error::InvalidOption(format!("unknown log opt \"{option}\" for log driver local")))
        }
        Some(option) => Err(Error::UnknownOption { option: option.clone(), driver }),
    }
}

/// Reads `mode` and checks what goes with it.
///
/// # Errors
///
/// Returns [`Error::InvalidOption`].
pub(crate) fn is_blocking(options: &BTreeMap<String, String>) -> Result<bool, Error> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::InvalidOption(format!("logger: logging mode not supported: {mode}")));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(Error::InvalidOption(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned(),
            ));
        }
        parse_size(size, Multiple::Binary).map_err(|error| {
            Error::InvalidOption(format!("error parsing option max-buffer-size: {error}"))
        })?;
    }
    Ok(mode != "non-blocking")
}

/// Returns how the files of the `local` driver are rotated.
///
/// # Errors
///
/// Returns [`Error::InvalidOption`].
pub(crate) fn local_rotation(options: &BTreeMap<String, String>) -> Result<Rotation, Error> {
    rotation(options, Rotation { max_size: Some(BOUNDED_SIZE), max_files: BOUNDED_FILES, compress: true })
}

fn rotation(options: &BTreeMap<String, String>, defaults: Rotation) -> Result<Rotation, Error> {
    let max_size = match options.get("max-size") {
        None => defaults.max_size,
        Some(text) => match parse_size(text, Multiple::Decimal)? {
            0 => return Err(Error::InvalidOption("max-size must be a positive number".to_owned())),
            size => Some(size),
        },
    };
    let max_files = match options.get("max-file") {
        None => defaults.max_files,
        Some(text) => match text.parse::<i64>() {
            Ok(files @ 1..) => u32::try_from(files).unwrap_or(u32::MAX),
            Ok(_) => return Err(Error::InvalidOption("max-file cannot be less than 1".to_owned())),
            Err(_) => {
                let message = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
                return Err(Error::InvalidOption(message));
            }
        },
    };
    let compress = match options.get("compress").map(String::as_str) {
        None => defaults.compress && max_files > 1,
        Some(text) => boolean(text)?,
    };
    if compress && (max_files < 2 || max_size.is_none()) {
        return Err(Error::InvalidOption(
            "compress cannot be true when max-file is less than 2 or max-size is not set".to_owned(),
        ));
    }
    Ok(Rotation { max_size, max_files, compress })
}

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Result<bool, Error> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::InvalidOption(format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))),
    }
}

/// Parses a size: of disks in units of 1000, of memory in units of 1024.
pub(crate) fn parse_size(text: &str, multiple: Multiple) -> Result<u64, Error> {
    let bytes = size::parse(text, multiple).map_err(Error::InvalidOption)?;
    u64::try_from(bytes).map_err(|_negative| Error::InvalidOption(format!("invalid size: '{text}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn json(max_size: Option<u64>, max_files: u32, compress: bool) -> Driver {
        Driver::JsonFile(Rotation { max_size, max_files, compress })
    }

    #[test]
    fn options_and_defaults_make_the_rotation() {
        let check = |pairs: &[(&str, &str)], defaults, expect: Driver| {
            assert_eq!(Driver::new("json-file", &options(pairs), defaults).unwrap(), expect, "{pairs:?}");
        };
        check(&[], Defaults::Bounded, json(Some(20_000_000), 5, false));
        check(&[], Defaults::Docker, json(None, 1, false));
        check(&[("max-size", "10k")], Defaults::Bounded, json(Some(10_000), 1, false));
        check(&[("max-file", "3")], Defaults::Bounded, json(Some(20_000_000), 3, false));
        check(&[("max-file", "3")], Defaults::Docker, json(None, 3, false));
        check(
            &[("max-size", "1.5mb"), ("max-file", "2"), ("compress", "true")],
            Defaults::Docker,
            json(Some(1_500_000), 2, true),
        );
        assert_eq!(Driver::new("none", &options(&[("x", "y")]), Defaults::Docker).unwrap(), Driver::None);
        assert_eq!(
            Driver::new("local", &options(&[]), Defaults::Docker).unwrap(),
            Driver::Local(Rotation { max_size: Some(20_000_000), max_files: 5, compress: true })
        );
    }

    #[test]
    fn refuses_in_dockers_words() {
        let check = |name: &str, pairs: &[(&str, &str)], message: &str| {
            let error = Driver::new(name, &options(pairs), Defaults::Docker).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        check("nosuch", &[], "logger: no log driver named 'nosuch' is registered");
        check("json-file", &[("x", "y")], "unknown log opt 'x' for json-file log driver");
        check("local", &[("x", "y")], "unknown log opt \"x\" for log driver local");
        check("json-file", &[("max-size", "10x")], "invalid suffix: 'x'");
        check("json-file", &[("max-size", "0")], "max-size must be a positive number");
        check("json-file", &[("max-file", "0")], "max-file cannot be less than 1");
        check("json-file", &[("mode", "x")], "logger: logging mode not supported: x");
        check(
            "json-file",
            &[("max-buffer-size", "1m")],
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        );
        check(
            "json-file",
            &[("compress", "true")],
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        );
    }
}
