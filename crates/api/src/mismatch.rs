//! What is wrong with a document that is JSON but not of the shape that is wanted, in the words of Go's `encoding/json`.

use crate::decode_value;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

/// Documents with more parts are not searched for the one that does not fit.
const MAX_PARTS: usize = 2000;

/// A document, or a part of it, is not of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

/// Turns a parsed JSON document into `T`; a `null` field is taken as absent.
///
/// # Errors
///
/// Names the field that does not fit, what it is and what it should be.
pub fn decode_request<T: DeserializeOwned>(value: Value) -> Result<T, Mismatch> {
    let kept = (parts(&value) <= MAX_PARTS).then(|| value.clone());
    decode_value(value).map_err(|error| {
        let reason = error.to_string();
        let Some(document) = kept else { return Mismatch(reason) };
        let path = culprit::<T>(&document, &reason);
        Mismatch(told(&document, &path, name_of::<T>(), &reason))
    })
}

fn parts(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.values().map(parts).sum::<usize>() + 1,
        Value::Array(items) => items.iter().map(parts).sum::<usize>() + 1,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// Finds the part without which there would be no such error: the keys that lead to it. The parser cannot say, since it
/// does not know where it is in structures that are spread over others.
fn culprit<T: DeserializeOwned>(document: &Value, reason: &str) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    loop {
        let keys: Vec<String> = match at(document, &path) {
            Some(Value::Object(fields)) => fields.keys().cloned().collect(),
            Some(Value::Array(items)) => (0..items.len()).map(|index| index.to_string()).collect(),
            _ => return path,
        };
        let without = |key: &String| {
            let mut rest = document.clone();
            take(&mut rest, &path, key);
            decode_value::<T>(rest).err().is_none_or(|error| error.to_string() != reason)
        };
        match keys.into_iter().find(without) {
            Some(key) => path.push(key),
            None => return path,
        }
    }
}

fn pointer(path: &[String]) -> String {
    path.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect()
}

fn at<'a>(document: &'a Value, path: &[String]) -> Option<&'a Value> {
    document.pointer(&pointer(path))
}

/// Has `key` be absent; an item of a list is `null`, which is passed over.
fn take(document: &mut Value, path: &[String], key: &str) {
    match document.pointer_mut(&pointer(path)) {
        Some(Value::Object(fields)) => drop(fields.remove(key)),
        Some(Value::Array(items)) => {
            if let Some(item) = key.parse().ok().and_then(|index: usize| items.get_mut(index)) {
                *item = Value::Null;
            }
        }
        _ => {}
    }
}

/// The last part of a type's name.
fn name_of<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

fn told(document: &Value, path: &[String], document_type: &str, reason: &str) -> String {
    let found = match at(document, path) {
        Some(Value::Object(_)) => "object".to_owned(),
        Some(Value::Array(_)) => "array".to_owned(),
        Some(Value::String(_)) => "string".to_owned(),
        Some(Value::Bool(_)) => "bool".to_owned(),
        Some(Value::Number(number)) if whole(number) => "number".to_owned(),
        Some(Value::Number(number)) => format!("number {number}"),
        Some(Value::Null) | None => return reason.to_owned(),
    };
    let wanted = match reason.split(", expected ").nth(1) {
        Some(wanted) => go_type(wanted),
        // One of several, none of which it is.
        None if reason.contains("untagged enum") => "string or list".to_owned(),
        None => return reason.to_owned(),
    };
    if path.is_empty() {
        return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
    }
    format!(
        "json: cannot unmarshal {found} into Go struct field {document_type}.{} of type {wanted}",
        path.join(".")
    )
}

fn whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64()
}

/// What serde calls a type, in Go's words as far as they are known.
fn go_type(wanted: &str) -> String {
    match wanted {
        "i64" | "i32" | "i16" | "i8" | "isize" => format!("int{}", wanted.trim_start_matches(['i', 's'])),
        "u64" | "u32" | "u16" | "u8" | "usize" => format!("uint{}", wanted.trim_start_matches(['u', 's'])),
        "f64" | "f32" => format!("float{}", wanted.trim_start_matches('f')),
        "a boolean" => "bool".to_owned(),
        "a string" | "string" => "string".to_owned(),
        "a sequence" => "list".to_owned(),
        "a map" => "map".to_owned(),
        other => other.strip_prefix("struct ").unwrap_or(other).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::CreateRequest;
    use serde_json::json;

    #[test]
    fn the_part_that_does_not_fit_is_named() {
        for (document, expected) in [
            (
                json!({"HostConfig": {"Memory": "x"}}),
                "string into Go struct field CreateRequest.HostConfig.Memory of type int64",
            ),
            (json!({"Image": 5}), "number into Go struct field CreateRequest.Image of type string"),
            (
                json!({"Tty": "yes", "Image": "a"}),
                "string into Go struct field CreateRequest.Tty of type bool",
            ),
            (
                json!({"HostConfig": {"NanoCpus": 1.5}}),
                "number 1.5 into Go struct field CreateRequest.HostConfig.NanoCpus of type int64",
            ),
            (
                json!({"HostConfig": {"Binds": "a"}}),
                "string into Go struct field CreateRequest.HostConfig.Binds of type list",
            ),
            (json!({"Env": ["A=1", 2]}), "number into Go struct field CreateRequest.Env.1 of type string"),
            (
                json!({"HostConfig": {"PortBindings": {"80/tcp": {}}}}),
                "object into Go struct field CreateRequest.HostConfig.PortBindings.80/tcp of type list",
            ),
            (json!([]), "array into Go value of type CreateRequest"),
            (json!("x"), "string into Go value of type CreateRequest"),
        ] {
            let error = decode_request::<CreateRequest>(document.clone()).unwrap_err();
            assert_eq!(error.0, format!("json: cannot unmarshal {expected}"), "{document}");
        }
        assert!(decode_request::<CreateRequest>(json!({"Image": null, "HostConfig": {}})).is_ok());
    }

    #[test]
    fn large_documents_are_not_searched() {
        let items: Vec<usize> = (0..MAX_PARTS).collect();
        let error = decode_request::<CreateRequest>(json!({ "Env": items })).unwrap_err();
        assert!(error.0.contains("expected a string"), "{error}");
    }
}
