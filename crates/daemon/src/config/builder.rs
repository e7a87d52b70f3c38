//! `builder` of daemon.json: how the build cache is collected. Keys are dockerd's; case does not matter, as in Go.

use super::resolve::ValueError;
use super::values::bytes;
use engine::builds::{Limits, PRUNE_FILTERS, Rule, Space, default_rules};
use serde_json::Value;
use std::time::Duration;

/// Reads the object; without one the rules are the default ones.
///
/// # Errors
///
/// What is not known, or has no meaning.
pub(super) fn rules(text: Option<&str>) -> Result<Vec<Rule>, ValueError> {
    let value: Value = match text {
        None => Value::Null,
        Some(text) => serde_json::from_str(text).map_err(|error| ValueError(error.to_string()))?,
    };
    let builder = Object::new("builder", &value, &["gc"])?;
    let keys = [
        "enabled",
        "policy",
        "defaultkeepstorage",
        "defaultreservedspace",
        "defaultmaxusedspace",
        "defaultminfreespace",
    ];
    let gc = Object::new("builder.gc", builder.get("gc"), &keys)?;
    match gc.get("enabled") {
        Value::Bool(false) => return Ok(Vec::new()),
        Value::Bool(true) | Value::Null => {}
        other => return Err(gc.wrong("enabled", other)),
    }
    let rules = match gc.get("policy") {
        Value::Null => Vec::new(),
        Value::Array(rules) => rules.iter().map(rule).collect::<Result<_, _>>()?,
        other => return Err(gc.wrong("policy", other)),
    };
    if !rules.is_empty() {
        return Ok(rules);
    }
    Ok(default_rules(Limits {
        reserved: gc.space("defaultreservedspace")?.or(gc.space("defaultkeepstorage")?),
        max_used: gc.space("defaultmaxusedspace")?,
        min_free: gc.space("defaultminfreespace")?,
    }))
}

fn rule(value: &Value) -> Result<Rule, ValueError> {
    let keys = ["all", "filter", "keepstorage", "reservedspace", "maxusedspace", "minfreespace"];
    let object = Object::new("builder.gc.policy", value, &keys)?;
    let mut rule = Rule::default();
    match object.get("all") {
        Value::Bool(all) => rule.all = *all,
        Value::Null => {}
        other => return Err(object.wrong("all", other)),
    }
    let texts = match object.get("filter") {
        Value::Null => &[][..],
        Value::Array(texts) => texts,
        other => return Err(object.wrong("filter", other)),
    };
    for text in texts {
        let text = text.as_str().ok_or_else(|| object.wrong("filter", text))?;
        // dockerd takes one or two equals signs.
        let (name, setting) =
            text.split_once('=').ok_or_else(|| object.wrong("filter", &Value::from(text)))?;
        let setting = setting.strip_prefix('=').unwrap_or(setting);
        match name {
            "unused-for" | "until" => rule.unused_for = Some(age(setting)?),
            name if PRUNE_FILTERS.contains(&name) => rule.filters.add(name, setting),
            name => return Err(ValueError(format!("builder.gc.policy: unknown filter {name:?}"))),
        }
    }
    rule.limits = Limits {
        reserved: object.space("reservedspace")?.or(object.space("keepstorage")?),
        max_used: object.space("maxusedspace")?,
        min_free: object.space("minfreespace")?,
    };
    Ok(rule)
}

fn age(text: &str) -> Result<Duration, ValueError> {
    let nanos = crate::time::duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| ValueError(format!("builder.gc.policy: {text:?} is no age")))
}

/// An object with the keys that it may have, in lower case.
struct Object<'a> {
    name: &'static str,
    entries: Vec<(String, &'a Value)>,
}

impl<'a> Object<'a> {
    fn new(name: &'static str, value: &'a Value, keys: &[&str]) -> Result<Self, ValueError> {
        let entries = match value {
            Value::Object(entries) => {
                entries.iter().map(|(key, value)| (key.to_lowercase(), value)).collect()
            }
            Value::Null => Vec::new(),
            other => return Err(ValueError(format!("{name}: {other} is no object"))),
        };
        let object = Self { name, entries };
        match object.entries.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            Some((key, _)) => Err(ValueError(format!("{name}: unknown key {key:?}"))),
            None => Ok(object),
        }
    }

    fn get(&self, key: &str) -> &'a Value {
        self.entries.iter().find(|(other, _)| other == key).map_or(&Value::Null, |(_, value)| value)
    }

    fn wrong(&self, key: &str, value: &Value) -> ValueError {
        ValueError(format!("{}: invalid {key}: {value}", self.name))
    }

    /// A size: `"10GB"`, `"20%"`, or a number of bytes.
    fn space(&self, key: &str) -> Result<Option<Space>, ValueError> {
        let value = self.get(key);
        let space = match value {
            Value::Null => return Ok(None),
            Value::Number(number) => number.as_u64().map(Space::Bytes),
            Value::String(text) => match text.trim().strip_suffix('%') {
                Some(percent) => {
                    percent.parse().ok().filter(|percent: &u8| *percent <= 100).map(Space::Percent)
                }
                None => bytes(text).map(Space::Bytes),
            },
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        space.map(Some).ok_or_else(|| self.wrong(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        let text = r#"{"gc": {"enabled": true, "policy": [
            {"keepStorage": "10GB", "filter": ["unused-for=48h", "type==exec.cachemount"]},
            {"minFreeSpace": "20%", "maxUsedSpace": 7, "all": true}]}}"#;
        let rules = rules(Some(text)).unwrap();
        assert_eq!(rules[0].unused_for, Some(Duration::from_secs(48 * 3600)));
        assert_eq!(rules[0].filters.get("type").collect::<Vec<_>>(), ["exec.cachemount"]);
        assert_eq!(rules[0].limits.reserved, Some(Space::Bytes(10 << 30)));
        assert_eq!(rules[1].limits.min_free, Some(Space::Percent(20)));
        assert_eq!((rules[1].limits.max_used, rules[1].all), (Some(Space::Bytes(7)), true));
        assert_eq!(super::rules(None).unwrap().len(), 4);
        assert_eq!(super::rules(Some(r#"{"gc":{"enabled":false}}"#)).unwrap(), []);
        let own = super::rules(Some(r#"{"gc":{"defaultKeepStorage":"5MB"}}"#)).unwrap();
        assert_eq!(own[3].limits.reserved, Some(Space::Bytes(5 << 20)));
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for (text, expect) in [
            (r#"{"x":1}"#, "builder: unknown key \"x\""),
            (r#"{"gc":{"policy":[{"keep":1}]}}"#, "builder.gc.policy: unknown key \"keep\""),
            (r#"{"gc":{"policy":[{"filter":["a=b"]}]}}"#, "builder.gc.policy: unknown filter \"a\""),
            (r#"{"gc":{"policy":[{"filter":["until=x"]}]}}"#, "builder.gc.policy: \"x\" is no age"),
            (r#"{"gc":{"defaultKeepStorage":"much"}}"#, "builder.gc: invalid defaultkeepstorage: \"much\""),
            (r#"{"gc":{"enabled":1}}"#, "builder.gc: invalid enabled: 1"),
        ] {
            assert_eq!(rules(Some(text)).unwrap_err().to_string(), expect);
        }
    }
}
