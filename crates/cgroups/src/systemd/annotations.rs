//! Properties of a scope that a document asks for by annotations: `org.systemd.property.NAME`, whose value is `GVariant` text.
//!
//! As runc's *systemd.md* has it: booleans, texts, numbers with or without their type, and lists of texts; a time `…Sec` in
//! seconds becomes the manager's `…USec`.

use super::Value;
use crate::Error;
use std::collections::BTreeMap;

const PREFIX: &str = "org.systemd.property.";
/// What the runtime itself says of a scope, and relies on.
const OWN: [&str; 4] = ["Slice", "PIDs", "Delegate", "DefaultDependencies"];

/// Reads the properties out of `annotations`.
pub(super) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<(String, Value)>, Error> {
    let named = annotations.iter().filter_map(|(key, text)| Some((key, key.strip_prefix(PREFIX)?, text)));
    named
        .map(|(key, name, text)| {
            property(name, text).map_err(|reason| Error::Annotation { key: key.clone(), reason })
        })
        .collect()
}

fn property(name: &str, text: &str) -> Result<(String, Value), &'static str> {
    if name.len() < 3 || !name.bytes().all(|letter| letter.is_ascii_alphabetic()) {
        return Err("is not the name of a property");
    }
    if OWN.contains(&name) {
        return Err("is what the runtime sets itself");
    }
    match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        Some(stem) => {
            let time = microseconds(text).ok_or("is not a number of seconds")?;
            Ok((format!("{stem}USec"), Value::Long(time)))
        }
        None => Ok((name.to_owned(), parse(text.trim()).ok_or("has a value that cannot be read")?)),
    }
}

/// Reads seconds, with or without a type before them.
fn microseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let number = text.split_once(' ').map_or(text, |(_, number)| number.trim());
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let part: String = part.chars().chain("000000".chars()).take(6).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part.parse().ok()?)
}

fn parse(text: &str) -> Option<Value> {
    if let Some(text) = quoted(text) {
        return Some(Value::Text(text));
    }
    if let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let items = list.split(',').map(|item| quoted(item.trim()));
        return items.collect::<Option<Vec<_>>>().map(Value::Texts);
    }
    let (kind, number) = text.split_once(' ').unwrap_or(("int32", text));
    let number = number.trim();
    match (text, kind) {
        ("true", _) => Some(Value::Bool(true)),
        ("false", _) => Some(Value::Bool(false)),
        (_, "int32") => number.parse().ok().map(Value::Signed),
        (_, "uint32") => number.parse().ok().map(Value::Number),
        (_, "int64") => number.parse().ok().map(Value::SignedLong),
        (_, "uint64") => number.parse().ok().map(Value::Long),
        _ => None,
    }
}

/// A text in quotes of one kind, which has neither those nor a backslash in it.
fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|letter| matches!(letter, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\', '\0'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (name, value, expect) in [
            ("CollectMode", "'inactive-or-failed'", Ok(("CollectMode", text("inactive-or-failed")))),
            ("Description", "\"it's\"", Ok(("Description", text("it's")))),
            ("SendSIGHUP", "true", Ok(("SendSIGHUP", Value::Bool(true)))),
            ("MemoryLow", "uint64 7", Ok(("MemoryLow", Value::Long(7)))),
            ("KillSignal", "9", Ok(("KillSignal", Value::Signed(9)))),
            ("Some", "int64 -9", Ok(("Some", Value::SignedLong(-9)))),
            ("Some", "uint32 9", Ok(("Some", Value::Number(9)))),
            (
                "Wants",
                "['a.service', \"b\"]",
                Ok(("Wants", Value::Texts(vec!["a.service".into(), "b".into()]))),
            ),
            ("TimeoutStopSec", "uint64 5", Ok(("TimeoutStopUSec", Value::Long(5_000_000)))),
            ("TimeoutStopSec", "1.25", Ok(("TimeoutStopUSec", Value::Long(1_250_000)))),
            ("TimeoutStopUSec", "uint64 5", Ok(("TimeoutStopUSec", Value::Long(5)))),
            ("TimeoutStopSec", "-1", Err("is not a number of seconds")),
            ("TimeoutStopSec", "x", Err("is not a number of seconds")),
            ("Some", "word", Err("has a value that cannot be read")),
            ("Some", "uint32 -1", Err("has a value that cannot be read")),
            ("Some", "'a", Err("has a value that cannot be read")),
            ("Some", "['a', 7]", Err("has a value that cannot be read")),
            ("Some", "'", Err("has a value that cannot be read")),
            ("Slice", "'x.slice'", Err("is what the runtime sets itself")),
            ("a", "1", Err("is not the name of a property")),
            ("a.bc", "1", Err("is not the name of a property")),
        ] {
            let expect = expect.map(|(name, value)| (name.to_owned(), value));
            assert_eq!(property(name, value), expect, "{name}={value}");
        }
        let one = |key: &str| properties(&[(key.to_owned(), "x".to_owned())].into());
        assert_eq!(one("org.example").unwrap(), []);
        let said = one("org.systemd.property.Some").unwrap_err().to_string();
        assert_eq!(said, "annotations[\"org.systemd.property.Some\"]: has a value that cannot be read");
    }
}
