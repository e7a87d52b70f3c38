//! Reads foreign JSON the way Go does: a `null` field is its zero value.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses a JSON document; a `null` field is taken as absent.
///
/// # Errors
/// What `serde_json` says of a document that is not JSON or not of this shape.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    decode_value(serde_json::from_slice(bytes)?)
}

/// Turns a parsed JSON document into `T`; a `null` field is taken as absent.
///
/// # Errors
/// What `serde_json` says of a document that is not of this shape.
pub fn decode_value<T: DeserializeOwned>(mut value: Value) -> Result<T, serde_json::Error> {
    strip_nulls(&mut value);
    serde_json::from_value(value)
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(strip_nulls);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Reads Docker's `strslice`: a list, or one string standing for a list of one.
pub(crate) fn words<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    let words: Option<Words> = serde::Deserialize::deserialize(deserializer)?;
    Ok(words.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}
