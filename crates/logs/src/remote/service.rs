//! The options of the drivers that send, refused in Docker's words.

use super::wire::Address;
use super::{Encoder, fluentd, gelf, journald, syslog};
use crate::options::{Rotation, boolean, parse_size};
use crate::{Error, options};
use base::size::Multiple;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Entries that wait for their receiver take so much memory at most.
const QUEUE: u64 = 1 << 20;

/// A driver that sends.
#[derive(Debug, Clone)]
pub struct Remote {
    name: &'static str,
    pub(crate) encoder: Encoder,
    pub(crate) address: Address,
    /// The address as it is shown.
    pub(crate) shown: String,
    /// Whether a receiver that is not there when the container starts is waited for.
    pub(crate) connect_later: bool,
    /// Whether the container waits for a slow receiver, for a moment.
    pub(crate) blocking: bool,
    /// Bytes of entries that wait at most.
    pub(crate) queue: usize,
    cache: Cache,
}

/// Where entries are kept so that they can be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Nowhere.
    Disabled,
    /// In files of the `local` driver.
    Files(Rotation),
}

impl PartialEq for Remote {
    fn eq(&self, other: &Self) -> bool {
        (self.name, &self.shown, &self.cache) == (other.name, &other.shown, &other.cache)
    }
}

impl Eq for Remote {}

impl Remote {
    /// Returns the driver's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns where entries are kept so that they can be read back.
    pub fn cache(&self) -> Cache {
        self.cache
    }
}

type Options = BTreeMap<String, String>;

/// What every driver that sends takes.
const COMMON: [&str; 11] = [
    "mode",
    "max-buffer-size",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];

const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

fn refused<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::InvalidOption(message.into()))
}

/// Makes the driver `name` of its options; `None` if there is no such driver.
///
/// # Errors
///
/// Returns [`Error::UnknownOption`] or [`Error::InvalidOption`].
pub(crate) fn parse(name: &str, options: &Options) -> Result<Option<Remote>, Error> {
    let (name, known, make): (_, &[&str], Make) = match name {
        "syslog" => ("syslog", &SYSLOG, syslog_target),
        "gelf" => ("gelf", &["gelf-address", "gelf-compression-level", "gelf-compression-type"], gelf_target),
        "fluentd" => (
            "fluentd",
            &["fluentd-address", "fluentd-async", "fluentd-sub-second-precision", "fluentd-buffer-limit"],
            fluentd_target,
        ),
        "journald" => ("journald", &[], |_| journal_target()),
        _ => return Ok(None),
    };
    let is_known = |key: &str| known.contains(&key) || COMMON.contains(&key);
    if let Some(option) = options.keys().find(|key| !is_known(key)) {
        return Err(Error::UnknownOption { option: option.clone(), driver: name });
    }
    let Target { encoder, address, shown, connect_later } = make(options)?;
    let blocking = options::is_blocking(options)?;
    let size = match options.get("max-buffer-size").or_else(|| options.get("fluentd-buffer-limit")) {
        None => QUEUE,
        Some(text) => parse_size(text, Multiple::Binary)?,
    };
    let queue = usize::try_from(size).unwrap_or(usize::MAX);
    let cache = cache(options)?;
    Ok(Some(Remote { name, encoder, address, shown, connect_later, blocking, queue, cache }))
}

/// The local copy of what was sent (moby, *dual logging*): 20 MB × 5 files, compressed.
fn cache(options: &Options) -> Result<Cache, Error> {
    if options.get("cache-disabled").map(|text| boolean(text)).transpose()? == Some(true) {
        return Ok(Cache::Disabled);
    }
    let renamed: Options = ["max-size", "max-file", "compress"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), options.get(&format!("cache-{name}"))?.clone())))
        .collect();
    options::local_rotation(&renamed).map(Cache::Files)
}

/// Reads a driver's own options.
type Make = fn(&Options) -> Result<Target, Error>;

/// Where messages go, and how they look.
struct Target {
    encoder: Encoder,
    address: Address,
    shown: String,
    connect_later: bool,
}

/// Takes `proto://host:port` apart; a missing port is `default`.
fn host_and_port(rest: &str, default: u16) -> Option<String> {
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains('/') {
        return None;
    }
    match rest.rsplit_once(':') {
        Some((_, port)) if !rest.ends_with(']') => port.parse::<u16>().ok().map(|_port| rest.to_owned()),
        _ => Some(format!("{rest}:{default}")),
    }
}

fn syslog_target(options: &Options) -> Result<Target, Error> {
    let option = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
    let Some(facility) = syslog::facility(option("syslog-facility")) else {
        return refused("invalid syslog facility");
    };
    let Some(format) = syslog::format(option("syslog-format")) else {
        return refused("Invalid syslog format");
    };
    let shown = option("syslog-address");
    let unusable = || refused(format!("syslog-address should be in form proto://address, got {shown}"));
    let address = match shown.split_once("://") {
        None if shown.is_empty() => {
            Address::Local(["/dev/log", "/var/run/syslog", "/var/run/log"].map(PathBuf::from).to_vec())
        }
        Some(("unix" | "unixgram", path)) => {
            let path = PathBuf::from(path);
            if !path.exists() {
                return refused(format!("stat {}: no such file or directory", path.display()));
            }
            Address::Local(vec![path])
        }
        Some(("tcp", rest)) => match host_and_port(rest, 514) {
            Some(address) => Address::Tcp(address),
            None => return unusable(),
        },
        Some(("udp", rest)) => match host_and_port(rest, 514) {
            Some(address) => Address::Udp(address),
            None => return unusable(),
        },
        Some(("tcp+tls", rest)) => match host_and_port(rest, 514) {
            Some(address) => Address::Tls(address, trust(options)?),
            None => return unusable(),
        },
        _ => return unusable(),
    };
    let encoder = Encoder::Syslog(syslog::Settings { facility, format });
    Ok(Target { encoder, address, shown: shown.to_owned(), connect_later: false })
}

/// Whom a receiver with TLS is believed to be, and what it is shown. As in Docker, that `syslog-tls-skip-verify` is there says
/// that certificates are not looked at.
fn trust(options: &Options) -> Result<tls::Client, Error> {
    let file = |name: &str| options.get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let identity = match (file("syslog-tls-cert"), file("syslog-tls-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return refused("syslog-tls-cert needs a syslog-tls-key"),
        (None, Some(_)) => return refused("syslog-tls-key needs a syslog-tls-cert"),
    };
    let skip_verify = options.contains_key("syslog-tls-skip-verify");
    Ok(tls::Client { authority: file("syslog-tls-ca-cert"), identity, skip_verify })
}

fn gelf_target(options: &Options) -> Result<Target, Error> {
    let option = |name: &str| options.get(name).map(String::as_str);
    let shown = option("gelf-address").unwrap_or_default();
    if shown.is_empty() {
        return refused("gelf-address is a required parameter");
    }
    let Some((scheme, rest)) = shown.split_once("://") else {
        return refused(format!("gelf-address should be in form proto://address, got {shown}"));
    };
    let Some(place) = host_and_port(rest, 0).filter(|place| place == rest) else {
        return refused("gelf: please provide gelf-address as proto://host:port");
    };
    let given = ["gelf-compression-level", "gelf-compression-type"]
        .into_iter()
        .find(|name| options.contains_key(*name));
    let level = match option("gelf-compression-level") {
        None => 1,
        Some(text) => match text.parse::<i32>() {
            Ok(-1) => 6,
            Ok(level @ 0..=9) => level.unsigned_abs(),
            _ => {
                return refused(format!(
                    "unknown value {text:?} for log opt \"gelf-compression-level\" for gelf log driver"
                ));
            }
        },
    };
    let (packing, address) = match (scheme, option("gelf-compression-type").unwrap_or("gzip")) {
        ("tcp", _) if given.is_some() => {
            return refused(format!("{:?} is only valid for UDP", given.unwrap_or_default()));
        }
        ("tcp", _) => (gelf::Packing::Stream, Address::Tcp(place)),
        ("udp", "gzip") => (gelf::Packing::Gzip(level), Address::Udp(place)),
        ("udp", "zlib") => (gelf::Packing::Zlib(level), Address::Udp(place)),
        ("udp", "none") => (gelf::Packing::Plain, Address::Udp(place)),
        ("udp", other) => {
            return refused(format!(
                "unknown value {other:?} for log opt \"gelf-compression-type\" for gelf log driver"
            ));
        }
        _ => return refused("gelf: endpoint needs to be TCP or UDP"),
    };
    let encoder = Encoder::Gelf(gelf::Settings { packing });
    Ok(Target { encoder, address, shown: shown.to_owned(), connect_later: false })
}

fn fluentd_target(options: &Options) -> Result<Target, Error> {
    let switch =
        |name: &str| options.get(name).map(|text| boolean(text)).transpose().map(|on| on == Some(true));
    let shown = options.get("fluentd-address").map(String::as_str).unwrap_or_default();
    let unusable = |why: &str| refused(format!("invalid syntax for fluentd-address ({shown}): {why}"));
    let address = match shown.split_once("://") {
        Some(("unix", path)) if path.len() > 1 => Address::Unix(PathBuf::from(path)),
        Some(("unix", _)) => return unusable("path is empty"),
        Some(("tcp", rest)) => match host_and_port(rest, 24224) {
            Some(address) => Address::Tcp(address),
            None => return unusable("should be in form proto://host:port"),
        },
        Some((scheme, _)) => return unusable(&format!("unsupported scheme: '{scheme}'")),
        None if shown.is_empty() => Address::Tcp("127.0.0.1:24224".to_owned()),
        None => match host_and_port(shown, 24224) {
            Some(address) => Address::Tcp(address),
            None => return unusable("should be in form host:port"),
        },
    };
    let encoder = Encoder::Fluentd(fluentd::Settings { precise: switch("fluentd-sub-second-precision")? });
    Ok(Target { encoder, address, shown: shown.to_owned(), connect_later: switch("fluentd-async")? })
}

fn journal_target() -> Result<Target, Error> {
    let address = Address::Local(vec![PathBuf::from(journald::SOCKET)]);
    Ok(Target {
        encoder: Encoder::Journald,
        address,
        shown: journald::SOCKET.to_owned(),
        connect_later: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, pairs: &[(&str, &str)]) -> Result<Remote, String> {
        let options = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        parse(name, &options).map_err(|error| error.to_string()).map(Option::unwrap)
    }

    #[test]
    fn addresses_are_understood() {
        let check = |name: &str, key: &str, value: &str, expect: Address| {
            assert_eq!(parsed(name, &[(key, value)]).unwrap().address, expect, "{value}");
        };
        check("syslog", "syslog-address", "udp://h", Address::Udp("h:514".to_owned()));
        check("syslog", "syslog-address", "tcp://[::1]:99", Address::Tcp("[::1]:99".to_owned()));
        check(
            "syslog",
            "syslog-address",
            "tcp+tls://h:6514",
            Address::Tls("h:6514".to_owned(), tls::Client::default()),
        );
        check("gelf", "gelf-address", "udp://h:12201", Address::Udp("h:12201".to_owned()));
        check("fluentd", "fluentd-address", "h", Address::Tcp("h:24224".to_owned()));
        check("fluentd", "fluentd-address", "unix:///s", Address::Unix("/s".into()));
        assert!(parsed("journald", &[]).is_ok());
        assert_eq!(parse("awslogs", &Options::new()).unwrap(), None);
    }

    #[test]
    fn refuses_in_dockers_words() {
        let check = |name: &str, pairs: &[(&str, &str)], message: &str| {
            assert_eq!(parsed(name, pairs).unwrap_err(), message);
        };
        check("syslog", &[("syslog-facility", "x")], "invalid syslog facility");
        check("syslog", &[("x", "y")], "unknown log opt 'x' for syslog log driver");
        check(
            "syslog",
            &[("syslog-address", "h:1")],
            "syslog-address should be in form proto://address, got h:1",
        );
        check(
            "syslog",
            &[("syslog-address", "tcp+tls://h"), ("syslog-tls-key", "/k")],
            "syslog-tls-key needs a syslog-tls-cert",
        );
        check("gelf", &[], "gelf-address is a required parameter");
        check("gelf", &[("gelf-address", "http://h:1")], "gelf: endpoint needs to be TCP or UDP");
        check(
            "gelf",
            &[("gelf-address", "udp://h")],
            "gelf: please provide gelf-address as proto://host:port",
        );
        check("journald", &[("mode", "x")], "logger: logging mode not supported: x");
    }

    #[test]
    fn the_cache_is_bounded_or_off() {
        let cache = |pairs: &[(&str, &str)]| parsed("journald", pairs).unwrap().cache();
        let rotation = Rotation { max_size: Some(20_000_000), max_files: 5, compress: true };
        assert_eq!(cache(&[]), Cache::Files(rotation));
        assert_eq!(cache(&[("cache-disabled", "true")]), Cache::Disabled);
        let small = Rotation { max_size: Some(1000), max_files: 2, compress: false };
        let asked = [("cache-max-size", "1k"), ("cache-max-file", "2"), ("cache-compress", "false")];
        assert_eq!(cache(&asked), Cache::Files(small));
    }
}
