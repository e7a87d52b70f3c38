//! What was typed and what daemon.json says, as [`Given`]: option → texts. Nothing is judged beyond its form.
//!
//! Pure. The messages are those of dockerd and of its flag parser (pflag), which scripts match.

use super::flags::{self, Accept, Flag, Kind};
use serde_json::Value;
use std::collections::BTreeMap;

/// Option name → the texts given for it; the last one counts for options that do not accumulate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given(BTreeMap<&'static str, Vec<String>>);

/// Why a command line or daemon.json cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// An option that does not exist.
    #[error("unknown flag: --{0}")]
    UnknownFlag(String),
    /// A shorthand that does not exist.
    #[error("unknown shorthand flag: '{short}' in -{group}")]
    UnknownShorthand {
        /// The letter.
        short: char,
        /// The argument it was found in, without its dash.
        group: String,
    },
    /// The value is missing.
    #[error("flag needs an argument: {0}")]
    NeedsArgument(String),
    /// The value is not of the option's kind, or not one that is supported.
    #[error("invalid argument \"{value}\" for \"{flag}\" flag: {reason}")]
    InvalidArgument {
        /// The value.
        value: String,
        /// The option, with its shorthand.
        flag: String,
        /// What is wrong.
        reason: String,
    },
    /// Something that is not an option.
    #[error("\"wharf daemon\" accepts no arguments.")]
    Positional,
    /// daemon.json is not JSON.
    #[error("invalid JSON: {0}")]
    NotJson(String),
    /// A value in daemon.json has the wrong type.
    #[error("json: cannot unmarshal {found} into Go struct field Config.{key} of type {wanted}")]
    WrongType {
        /// The key.
        key: String,
        /// What the file has.
        found: &'static str,
        /// What belongs there.
        wanted: &'static str,
    },
    /// Keys of daemon.json that mean nothing.
    #[error("the following directives don't match any configuration option: {0}")]
    UnknownKeys(String),
    /// Options given twice.
    #[error("the following directives are specified both as a flag and in the configuration file: {0}")]
    Conflicts(String),
}

impl Given {
    /// Returns the texts given for `name`, in order.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the last text given for `name`.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    /// Says whether `name` was given at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn add(&mut self, flag: &'static Flag, value: String) -> Result<(), ParseError> {
        let value = checked(flag, value)?;
        let values = self.0.entry(flag.name).or_default();
        if !flag.kind.accumulates() {
            values.clear();
        }
        values.push(value);
        Ok(())
    }

    /// Adds what a configuration file says; an option may be in one of the two only.
    ///
    /// # Errors
    ///
    /// Returns [`ParseError::Conflicts`] with every option that is in both.
    pub fn merge(mut self, file: Self) -> Result<Self, ParseError> {
        let mut conflicts = Vec::new();
        for (name, values) in file.0 {
            match self.0.get(name) {
                None => {
                    self.0.insert(name, values);
                }
                Some(given) => {
                    let key = flags::by_name(name).map_or(name, |flag| flag.key);
                    conflicts.push(format!(
                        "{key}: (from flag: {}, from file: {})",
                        shown(name, given),
                        shown(name, &values)
                    ));
                }
            }
        }
        if conflicts.is_empty() { Ok(self) } else { Err(ParseError::Conflicts(conflicts.join(", "))) }
    }
}

/// Prints values as Go's `%v` does: lists in brackets.
fn shown(name: &str, values: &[String]) -> String {
    match flags::by_name(name) {
        Some(flag) if flag.kind.accumulates() => format!("[{}]", values.join(" ")),
        _ => values.concat(),
    }
}

/// Checks the form of one value and returns it in its plain form (`true`, not `1`).
fn checked(flag: &Flag, value: String) -> Result<String, ParseError> {
    let invalid = |value: &str, reason: String| ParseError::InvalidArgument {
        value: value.to_owned(),
        flag: flag.display(),
        reason,
    };
    let value = match flag.kind {
        Kind::Switch => match switch(&value) {
            Some(on) => on.to_string(),
            None => {
                return Err(invalid(&value, format!("strconv.ParseBool: parsing {value:?}: invalid syntax")));
            }
        },
        Kind::Number if value.parse::<i64>().is_err() => {
            return Err(invalid(&value, format!("strconv.ParseInt: parsing {value:?}: invalid syntax")));
        }
        Kind::Switches => {
            let (key, on) = value.split_once('=').unwrap_or((&value, "true"));
            match switch(on) {
                Some(on) => format!("{key}={on}"),
                None => return Err(invalid(&value, format!("invalid feature option: {value}"))),
            }
        }
        Kind::NetworkOptions if value.splitn(3, '=').filter(|part| !part.is_empty()).count() < 3 => {
            return Err(invalid(&value, "must be formatted as driver=key=value".to_owned()));
        }
        _ => value,
    };
    match flag.accept {
        Accept::Only(values, why) if !values.contains(&value.as_str()) => {
            Err(invalid(&value, format!("not supported: {why}")))
        }
        _ => Ok(value),
    }
}

/// Go's `strconv.ParseBool`.
fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a command line, as pflag does.
///
/// # Errors
///
/// Returns the first thing that is wrong.
pub fn command_line<I: IntoIterator<Item = String>>(arguments: I) -> Result<Given, ParseError> {
    let mut given = Given::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            if arguments.next().is_some() {
                return Err(ParseError::Positional);
            }
        } else if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let flag = flags::typed(name).ok_or_else(|| ParseError::UnknownFlag(name.to_owned()))?;
            let value = match (value, flag.kind) {
                (Some(value), _) => value,
                (None, Kind::Switch) => "true".to_owned(),
                (None, _) => {
                    arguments.next().ok_or_else(|| ParseError::NeedsArgument(format!("--{name}")))?
                }
            };
            given.add(flag, value)?;
        } else if let Some(group) = argument.strip_prefix('-').filter(|group| !group.is_empty()) {
            shorthands(&mut given, group, &mut arguments)?;
        } else {
            return Err(ParseError::Positional);
        }
    }
    Ok(given)
}

/// Reads `-Dl debug`: letters of switches, the last one may take a value (`-ldebug`, `-l=debug`, `-l debug`).
fn shorthands(
    given: &mut Given,
    group: &str,
    arguments: &mut impl Iterator<Item = String>,
) -> Result<(), ParseError> {
    let mut rest = group;
    while let Some(short) = rest.chars().next() {
        let after = rest.get(short.len_utf8()..).unwrap_or_default();
        let flag = flags::by_short(short)
            .ok_or_else(|| ParseError::UnknownShorthand { short, group: rest.to_owned() })?;
        if let Some(value) = after.strip_prefix('=') {
            return given.add(flag, value.to_owned());
        }
        if flag.kind == Kind::Switch {
            given.add(flag, "true".to_owned())?;
            rest = after;
            continue;
        }
        let value = if after.is_empty() {
            arguments.next().ok_or_else(|| ParseError::NeedsArgument(format!("'{short}' in -{rest}")))?
        } else {
            after.to_owned()
        };
        return given.add(flag, value);
    }
    Ok(())
}

/// Reads daemon.json.
///
/// # Errors
///
/// Returns what is wrong in dockerd's words; unknown keys are all named.
pub fn file(text: &str) -> Result<Given, ParseError> {
    if text.trim().is_empty() {
        return Ok(Given::default());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| ParseError::NotJson(error.to_string()))?;
    let Value::Object(entries) = value else {
        return Err(wrong("", &value, "config.Config"));
    };
    let mut given = Given::default();
    let mut unknown = Vec::new();
    read(&mut given, &mut unknown, "", &entries)?;
    unknown.sort();
    if unknown.is_empty() { Ok(given) } else { Err(ParseError::UnknownKeys(unknown.join(", "))) }
}

/// Reads an object's keys, which begin with `within`; an object of options is read in turn.
fn read(
    given: &mut Given,
    unknown: &mut Vec<String>,
    within: &str,
    entries: &serde_json::Map<String, Value>,
) -> Result<(), ParseError> {
    for (key, value) in entries {
        let key = format!("{within}{key}");
        let beneath = format!("{key}.");
        let nested = within.is_empty() && flags::FLAGS.iter().any(|flag| flag.key.starts_with(&beneath));
        match (flags::by_key(&key).filter(|flag| within.is_empty() != flag.key.contains('.')), value) {
            (None, Value::Null) if nested => {}
            (None, Value::Object(entries)) if nested => read(given, unknown, &beneath, entries)?,
            (None, _) if nested => return Err(wrong(&key, value, "map[string]string")),
            (None, _) => unknown.push(key),
            (Some(_), Value::Null) => {}
            (Some(flag), _) => {
                for text in texts(flag, &key, value)? {
                    given.add(flag, text)?;
                }
            }
        }
    }
    Ok(())
}

fn wrong(key: &str, found: &Value, wanted: &'static str) -> ParseError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    ParseError::WrongType { key: key.to_owned(), found, wanted }
}

/// Turns a JSON value into what would have been typed for it.
fn texts(flag: &Flag, key: &str, value: &Value) -> Result<Vec<String>, ParseError> {
    match (flag.kind, value) {
        (Kind::Switch, Value::Bool(on)) => Ok(vec![on.to_string()]),
        (Kind::Switch, _) => Err(wrong(key, value, "bool")),
        (Kind::Number, Value::Number(number)) => Ok(vec![number.to_string()]),
        (Kind::Number, _) => Err(wrong(key, value, "int")),
        (Kind::Text, Value::String(text)) => Ok(vec![text.clone()]),
        // A size may be a number of bytes.
        (Kind::Text, Value::Number(number)) if key == "default-shm-size" => Ok(vec![number.to_string()]),
        (Kind::Text, _) => Err(wrong(key, value, "string")),
        (Kind::List, Value::Array(items)) => {
            items.iter().map(|item| text(item).ok_or_else(|| wrong(key, item, "string"))).collect()
        }
        (Kind::List, Value::Object(entries)) if flag.name == "registry-mirror" => mirrors(key, entries),
        (Kind::List, _) => Err(wrong(key, value, "[]string")),
        (Kind::Map, Value::Object(entries)) => entries
            .iter()
            .map(|(name, item)| {
                text(item).map(|item| format!("{name}={item}")).ok_or_else(|| wrong(key, item, "string"))
            })
            .collect(),
        (Kind::Map, _) => Err(wrong(key, value, "map[string]string")),
        (Kind::Switches, Value::Object(entries)) => entries
            .iter()
            .map(|(name, item)| {
                item.as_bool().map(|on| format!("{name}={on}")).ok_or_else(|| wrong(key, item, "bool"))
            })
            .collect(),
        (Kind::Switches, _) => Err(wrong(key, value, "map[string]bool")),
        (Kind::NetworkOptions, Value::Object(drivers)) => drivers
            .iter()
            .flat_map(|(driver, options)| {
                let options = options.as_object();
                let missing =
                    options.is_none().then(|| Err(wrong(key, value, "map[string]map[string]string")));
                let texts = options.into_iter().flatten().map(move |(name, item)| {
                    let item = text(item).ok_or_else(|| wrong(key, item, "string"))?;
                    Ok(format!("{driver}={name}={item}"))
                });
                texts.chain(missing)
            })
            .collect(),
        (Kind::NetworkOptions, _) => Err(wrong(key, value, "map[string]map[string]string")),
        (Kind::Document, Value::Object(_)) => Ok(vec![value.to_string()]),
        (Kind::Document, _) => Err(wrong(key, value, "config.BuilderConfig")),
        (Kind::Ulimits, _) => ulimits(key, value),
        (Kind::Pools, _) => pools(key, value),
        (Kind::Runtimes, _) => runtimes(key, value),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Reads mirrors by registry: a URL each, or a list of them.
fn mirrors(key: &str, entries: &serde_json::Map<String, Value>) -> Result<Vec<String>, ParseError> {
    let mut mirrors = Vec::new();
    for (registry, value) in entries {
        let urls = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for url in urls {
            let url = text(url).ok_or_else(|| wrong(key, url, "string"))?;
            mirrors.push(format!("{registry}={url}"));
        }
    }
    Ok(mirrors)
}

fn ulimits(key: &str, value: &Value) -> Result<Vec<String>, ParseError> {
    let entries = value.as_object().ok_or_else(|| wrong(key, value, "map[string]*container.Ulimit"))?;
    let number = |item: &Value, field: &str| match item.get(field) {
        None | Some(Value::Null) => Ok(0),
        Some(number) => number.as_i64().ok_or_else(|| wrong(key, number, "int64")),
    };
    entries
        .iter()
        .map(|(name, item)| {
            if !item.is_object() {
                return Err(wrong(key, item, "container.Ulimit"));
            }
            Ok(format!("{name}={}:{}", number(item, "Soft")?, number(item, "Hard")?))
        })
        .collect()
}

/// Turns `{"NAME": {"path": …, "runtimeArgs": […]}}` into what is typed, with a NUL before each argument.
fn runtimes(key: &str, value: &Value) -> Result<Vec<String>, ParseError> {
    let entries = value.as_object().ok_or_else(|| wrong(key, value, "map[string]system.Runtime"))?;
    let mut texts = Vec::new();
    for (name, item) in entries {
        let fields = item.as_object().ok_or_else(|| wrong(key, item, "system.Runtime"))?;
        let mut unknown = fields.keys().filter(|field| !matches!(field.as_str(), "path" | "runtimeArgs"));
        if let Some(field) = unknown.next() {
            // `runtimeType` and `options` are for containerd's shims, of which there are none here.
            return Err(ParseError::UnknownKeys(format!("{key}.{name}.{field}")));
        }
        let path = fields
            .get("path")
            .map_or(Ok(String::new()), |path| text(path).ok_or_else(|| wrong(key, path, "string")))?;
        let arguments = match fields.get("runtimeArgs") {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(arguments)) => arguments,
            Some(other) => return Err(wrong(key, other, "[]string")),
        };
        let mut line = format!("{name}={path}");
        for argument in arguments {
            line.push('\0');
            line.push_str(argument.as_str().ok_or_else(|| wrong(key, argument, "string"))?);
        }
        texts.push(line);
    }
    Ok(texts)
}

fn pools(key: &str, value: &Value) -> Result<Vec<String>, ParseError> {
    let items = value.as_array().ok_or_else(|| wrong(key, value, "[]*ipamutils.NetworkToSplit"))?;
    items
        .iter()
        .map(|item| {
            let base = item.get("base").and_then(Value::as_str).ok_or_else(|| wrong(key, item, "string"))?;
            let size = item.get("size").and_then(Value::as_u64).ok_or_else(|| wrong(key, item, "int"))?;
            Ok(format!("base={base},size={size}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(arguments: &[&str]) -> Result<Given, ParseError> {
        command_line(arguments.iter().map(|&text| text.to_owned()))
    }

    #[test]
    fn reads_flags_as_pflag_does() {
        for (arguments, name, expect) in [
            (&["-H", "unix:///a", "--host=tcp://b"][..], "host", &["unix:///a", "tcp://b"][..]),
            (&["-Hunix:///a"], "host", &["unix:///a"]),
            (&["-Dl", "warn"], "debug", &["true"]),
            (&["-Dl", "warn"], "log-level", &["warn"]),
            (&["--debug=0"], "debug", &["false"]),
            (&["--mtu", "1400", "--mtu", "9000"], "mtu", &["9000"]),
            (&["--feature", "a", "--feature=b=false"], "feature", &["a=true", "b=false"]),
            (&["-p=/x"], "pidfile", &["/x"]),
        ] {
            assert_eq!(typed(arguments).unwrap().all(name), expect, "{arguments:?}");
        }
    }

    #[test]
    fn refuses_in_dockerds_words() {
        for (arguments, expect) in [
            (&["--nosuch"][..], "unknown flag: --nosuch"),
            (&["-x"], "unknown shorthand flag: 'x' in -x"),
            (&["-Dx"], "unknown shorthand flag: 'x' in -x"),
            (&["--mtu"], "flag needs an argument: --mtu"),
            (&["-H"], "flag needs an argument: 'H' in -H"),
            (
                &["--mtu", "x"],
                "invalid argument \"x\" for \"--mtu\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                &["-D=x"],
                "invalid argument \"x\" for \"-D, --debug\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                &["-s", "zfs"],
                "invalid argument \"zfs\" for \"-s, --storage-driver\" flag: not supported: layers are directories for overlayfs",
            ),
            (&["run"], "\"wharf daemon\" accepts no arguments."),
        ] {
            assert_eq!(typed(arguments).unwrap_err().to_string(), expect);
        }
    }

    #[test]
    fn reads_daemon_json() {
        let given = file(
            r#"{"debug": true, "hosts": ["fd://"], "mtu": 1400, "log-opts": {"max-size": "10m"},
                "features": {"buildkit": true}, "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 2, "Soft": 1}},
                "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}], "bip": null,
                "runtimes": {"crun": {"path": "/c", "runtimeArgs": ["--debug", "-x"]}},
                "proxies": {"http-proxy": "http://p:1", "no-proxy": null},
                "registry-mirrors": {"quay.io": ["https://a", "https://b"], "docker.io": "https://c"}}"#,
        )
        .unwrap();
        for (name, expect) in [
            ("debug", "true"),
            ("host", "fd://"),
            ("mtu", "1400"),
            ("log-opt", "max-size=10m"),
            ("feature", "buildkit=true"),
            ("default-ulimit", "nofile=1:2"),
            ("add-runtime", "crun=/c\0--debug\0-x"),
            ("default-address-pool", "base=10.0.0.0/8,size=24"),
            ("http-proxy", "http://p:1"),
        ] {
            assert_eq!(given.last(name), Some(expect));
        }
        let mirrors = ["quay.io=https://a", "quay.io=https://b", "docker.io=https://c"];
        assert_eq!(given.all("registry-mirror"), mirrors);
        assert!(!given.has("no-proxy"));
        for (text, unknown) in [
            (r#"{"proxies": {"x": "y"}}"#, "proxies.x"),
            (r#"{"proxies.http-proxy": "y"}"#, "proxies.http-proxy"),
        ] {
            assert_eq!(file(text).unwrap_err(), ParseError::UnknownKeys(unknown.to_owned()));
        }
        assert!(!given.has("bip"));
        assert_eq!(file(" \n"), Ok(Given::default()));
    }

    #[test]
    fn refuses_files_in_dockerds_words() {
        for (text, expect) in [
            (
                r#"{"foo": 1, "bar": 2}"#,
                "the following directives don't match any configuration option: bar, foo",
            ),
            (
                r#"{"debug": "yes"}"#,
                "json: cannot unmarshal string into Go struct field Config.debug of type bool",
            ),
            (
                r#"{"runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}}"#,
                "the following directives don't match any configuration option: runtimes.kata.runtimeType",
            ),
        ] {
            assert_eq!(file(text).unwrap_err().to_string(), expect);
        }
        assert!(matches!(file("{"), Err(ParseError::NotJson(_))));
    }

    #[test]
    fn one_option_has_one_source() {
        let merged = typed(&["--mtu", "1"]).unwrap().merge(file(r#"{"debug": true}"#).unwrap()).unwrap();
        assert_eq!((merged.last("mtu"), merged.last("debug")), (Some("1"), Some("true")));
        let both = typed(&["--label", "a=b", "--mtu", "1"]).unwrap();
        let error = both.merge(file(r#"{"labels": ["c=d"], "mtu": 2}"#).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the following directives are specified both as a flag and in the configuration file: \
             labels: (from flag: [a=b], from file: [c=d]), mtu: (from flag: 1, from file: 2)"
        );
    }
}
