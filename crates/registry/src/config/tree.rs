//! The configuration file as a tree: YAML, with `REGISTRY_…` variables laid over it, read key by key.
//!
//! Every key that is read is taken out; what is left at the end is unknown and reported. As in the well-known
//! registry, `REGISTRY_HTTP_TLS_KEY=…` sets `http: tls: key:`, and a variable's value is YAML itself.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::time::Duration;

/// What every variable begins with.
const PREFIX: &str = "REGISTRY_";

/// Parses `text` and lays `variables` over it, in their alphabetical order.
///
/// # Errors
///
/// [`Error::Config`] if the text or a value is not YAML.
pub(crate) fn read(
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Map<String, Value>> {
    let wrong = |key: &str, problem: String| Error::Config { key: key.to_owned(), problem };
    let mut tree = match yaml(text).map_err(|problem| wrong("file", problem))? {
        Value::Object(tree) => tree,
        Value::Null => Map::new(),
        _ => return Err(wrong("file", "not a mapping of keys to values".to_owned())),
    };
    let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, text) in variables {
        let value = yaml(&text).map_err(|problem| wrong(&name, problem))?;
        let path = name.strip_prefix(PREFIX).unwrap_or_default().to_lowercase();
        let parts: Vec<&str> = path.split('_').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong(&name, "names no key".to_owned()));
        }
        set(&mut tree, &parts, value);
    }
    Ok(tree)
}

fn yaml(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! { strict_booleans: true, legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

/// Sets the value at `path`, below maps and lists; makes what is missing.
fn set(tree: &mut Map<String, Value>, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    // Keys of the file may have upper case; variables name them in any.
    let key = tree.keys().find(|key| key.to_lowercase() == **first).cloned();
    let key = key.unwrap_or_else(|| (*first).to_owned());
    if rest.is_empty() {
        tree.insert(key, value);
        return;
    }
    let slot = tree.entry(key).or_insert(Value::Null);
    set_below(slot, rest, value);
}

fn set_below(slot: &mut Value, path: &[&str], value: Value) {
    if let Value::Array(list) = slot
        && let Some((first, rest)) = path.split_first()
        && let Ok(index) = first.parse::<usize>()
    {
        if index == list.len() {
            list.push(Value::Null);
        }
        match list.get_mut(index) {
            Some(item) if rest.is_empty() => *item = value,
            Some(item) => set_below(item, rest, value),
            None => {}
        }
        return;
    }
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Value::Object(map) = slot {
        set(map, path, value);
    }
}

/// A mapping of the file, of which keys are taken one by one.
#[derive(Debug)]
pub(crate) struct Section {
    path: String,
    map: Map<String, Value>,
    present: bool,
}

impl Section {
    /// Takes a whole tree.
    pub(crate) fn root(map: Map<String, Value>) -> Self {
        Self { path: String::new(), map, present: true }
    }

    /// Says whether the file has this section at all, be it empty.
    pub(crate) fn present(&self) -> bool {
        self.present
    }

    /// Returns the keys not taken yet.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.map.keys().cloned().collect()
    }

    /// Returns an error about a key of this section.
    pub(crate) fn wrong(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::Config { key: self.name(key), problem: problem.into() }
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a value as it is.
    pub(crate) fn value(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// Takes a section, empty if absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is something else.
    pub(crate) fn section(&mut self, key: &str) -> Result<Self> {
        let path = self.name(key);
        match self.map.remove(key) {
            None => Ok(Self { path, map: Map::new(), present: false }),
            Some(Value::Null) => Ok(Self { path, map: Map::new(), present: true }),
            Some(Value::Object(map)) => Ok(Self { path, map, present: true }),
            Some(_) => Err(self.wrong(key, "not a mapping of keys to values")),
        }
    }

    /// Takes a list of sections, empty if absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is something else.
    pub(crate) fn sections(&mut self, key: &str) -> Result<Vec<Self>> {
        let name = self.name(key);
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let Value::Array(list) = value else { return Err(self.wrong(key, "not a list")) };
        let one = |(index, value)| match value {
            Value::Object(map) => Ok(Self { path: format!("{name}.{index}"), map, present: true }),
            _ => Err(self.wrong(key, "an entry is not a mapping of keys to values")),
        };
        list.into_iter().enumerate().map(one).collect()
    }

    /// Takes a text; numbers and truth values are texts as well.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is a list or a section.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => plain(&value).map(Some).ok_or_else(|| self.wrong(key, "not a text")),
        }
    }

    /// Takes a truth value, false if absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is neither.
    pub(crate) fn flag(&mut self, key: &str) -> Result<bool> {
        match self.text(key)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong(key, "neither true nor false")),
        }
    }

    /// Takes a number.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is not a whole one.
    pub(crate) fn number(&mut self, key: &str) -> Result<Option<u64>> {
        let text = self.text(key)?;
        let parsed = text.map(|text| text.parse().map_err(|_ignored| self.wrong(key, "not a whole number")));
        parsed.transpose()
    }

    /// Takes a duration as Go writes it (`1h30m`); a bare number is nanoseconds, as in the well-known registry.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is none.
    pub(crate) fn duration(&mut self, key: &str) -> Result<Option<Duration>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        duration(&text).map(Some).ok_or_else(|| self.wrong(key, format!("{text:?} is not a duration")))
    }

    /// Takes a list of texts; a single text is a list of one.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is something else.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Vec<String>> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .map(|value| plain(value).ok_or_else(|| self.wrong(key, "an entry is not a text")))
                .collect(),
            Some(value) => {
                plain(&value).map(|text| vec![text]).ok_or_else(|| self.wrong(key, "not a list of texts"))
            }
        }
    }

    /// Takes a mapping of names to lists of texts, as headers are written.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is something else.
    pub(crate) fn headers(&mut self, key: &str) -> Result<Vec<(String, String)>> {
        let mut section = self.section(key)?;
        let mut all = Vec::new();
        for name in section.keys() {
            all.extend(section.texts(&name)?.into_iter().map(|value| (name.clone(), value)));
        }
        Ok(all)
    }

    /// Takes a key that means nothing here.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.remove(*key);
        }
    }

    /// Adds the keys that nobody took to `unknown`.
    pub(crate) fn finish(self, unknown: &mut Vec<String>) {
        unknown.extend(self.map.keys().map(|key| self.name(key)));
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads a Go duration.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(nanos) = text.parse() {
        return Some(Duration::from_nanos(nanos));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str, variables: &[(&str, &str)]) -> Value {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Value::Object(read(text, variables).unwrap())
    }

    #[test]
    fn variables_lie_over_the_file() {
        let text = "http:\n  addr: :5000\nnotifications:\n  endpoints:\n    - name: a\n";
        let found = tree(
            text,
            &[
                ("REGISTRY_HTTP_ADDR", "0.0.0.0:443"),
                ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
                ("REGISTRY_HTTP_HEADERS", "{X-A: [b]}"),
                ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://x"),
                ("OTHER", "1"),
            ],
        );
        let expected = serde_json::json!({
            "http": {"addr": "0.0.0.0:443", "headers": {"X-A": ["b"]}},
            "notifications": {"endpoints": [{"name": "a", "url": "http://x"}]},
            "storage": {"delete": {"enabled": true}},
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("24h", Some(86_400_000)),
            ("1m30.5s", Some(90_500)),
            ("100ms", Some(100)),
            ("1000000000", Some(1000)),
            ("", None),
            ("5", Some(0)),
            ("x", None),
            ("5q", None),
        ] {
            assert_eq!(duration(text).map(|found| found.as_millis()), expected, "{text}");
        }
    }

    #[test]
    fn what_nobody_takes_is_named() {
        let Value::Object(map) = tree("a: 1\nb: {c: 2, d: [3]}", &[]) else { panic!("not a map") };
        let mut root = Section::root(map);
        let mut unknown = Vec::new();
        let mut b = root.section("b").unwrap();
        assert_eq!(b.number("c").unwrap(), Some(2));
        assert!(!b.section("missing").unwrap().present());
        b.finish(&mut unknown);
        root.finish(&mut unknown);
        assert_eq!(unknown, ["b.d", "a"]);
    }
}
