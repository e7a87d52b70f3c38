//! The functions every template has.

use crate::functions::Function;
use crate::print::{plain, sprint, sprintf, sprintln};
use crate::{Value, compare};

/// Returns a built-in function; `and` and `or` are part of execution.
pub(crate) fn get(name: &str) -> Option<Function> {
    Some(match name {
        "call" => call,
        "eq" => compare::equals,
        "ge" => compare::greater_or_same,
        "gt" => compare::greater,
        "html" => html,
        "index" => index,
        "js" => js,
        "le" => compare::less_or_same,
        "len" => len,
        "lt" => compare::less,
        "ne" => compare::differs,
        "not" => not,
        "print" => |args| Ok(Value::String(sprint(args))),
        "printf" => printf,
        "println" => |args| Ok(Value::String(sprintln(args))),
        "slice" => slice,
        "urlquery" => urlquery,
        _ => return None,
    })
}

/// Returns the only argument.
pub(crate) fn one(args: &[Value]) -> Result<&Value, String> {
    match args {
        [value] => Ok(value),
        _ => Err(format!("wrong number of args: want 1 got {}", args.len())),
    }
}

fn call(args: &[Value]) -> Result<Value, String> {
    match args.split_first() {
        None => Err("wrong number of args: want at least 1 got 0".to_owned()),
        Some((Value::Function(function), rest)) => (function.0)(rest),
        Some((Value::Nil | Value::Missing, _)) => Err("call of nil".to_owned()),
        Some((other, _)) => Err(format!("non-function {} of type {}", plain(other), other.type_name())),
    }
}

fn not(args: &[Value]) -> Result<Value, String> {
    one(args).map(|value| Value::Bool(!value.is_true()))
}

fn len(args: &[Value]) -> Result<Value, String> {
    let length = match one(args)? {
        Value::String(text) => text.len(),
        Value::List(items) => items.as_ref().map_or(0, |items| items.len()),
        Value::Map(entries) => entries.as_ref().map_or(0, |entries| entries.len()),
        Value::Nil | Value::Missing => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn position(value: &Value, limit: usize) -> Result<usize, String> {
    let position = match value {
        Value::Int(value) => usize::try_from(*value).ok(),
        Value::Uint(value) => usize::try_from(*value).ok(),
        Value::Nil | Value::Missing => return Err("cannot index slice/array with nil".to_owned()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    position
        .filter(|position| *position < limit)
        .ok_or_else(|| format!("index out of range: {}", plain(value)))
}

fn index(args: &[Value]) -> Result<Value, String> {
    let Some((first, keys)) = args.split_first() else {
        return Err("wrong number of args: want at least 1 got 0".to_owned());
    };
    let mut value = first.clone();
    for key in keys {
        value = match &value {
            Value::List(items) => {
                let items = items.as_deref().map(Vec::as_slice).unwrap_or_default();
                items.get(position(key, items.len())?).cloned().unwrap_or_default()
            }
            Value::String(text) => {
                let byte = text.as_bytes().get(position(key, text.len())?).copied().unwrap_or_default();
                Value::Int(i64::from(byte))
            }
            Value::Map(entries) => match key {
                Value::String(key) => {
                    entries.as_ref().and_then(|entries| entries.get(key)).cloned().unwrap_or(Value::Missing)
                }
                Value::Nil => return Err("value is nil; should be string".to_owned()),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            Value::Nil | Value::Missing => return Err("index of untyped nil".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let Some((first, bounds)) = args.split_first() else {
        return Err("wrong number of args: want at least 1 got 0".to_owned());
    };
    let length = match first {
        Value::String(text) => text.len(),
        Value::List(items) => items.as_ref().map_or(0, |items| items.len()),
        Value::Nil | Value::Missing => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let mut range = (0, length);
    if let Some(begin) = bounds.first() {
        range.0 = position(begin, length + 1)?;
    }
    if let Some(end) = bounds.get(1) {
        range.1 = position(end, length + 1)?;
    }
    if range.0 > range.1 {
        return Err(format!("invalid slice index: {} > {}", range.0, range.1));
    }
    Ok(match first {
        Value::String(text) => {
            let bytes = text.as_bytes().get(range.0..range.1).unwrap_or_default();
            Value::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Value::List(Some(items)) => Value::list(items.iter().take(range.1).skip(range.0).cloned()),
        _ => Value::List(None),
    })
}

fn printf(args: &[Value]) -> Result<Value, String> {
    match args.split_first() {
        Some((Value::String(format), values)) => Ok(Value::String(sprintf(format, values))),
        Some((other, _)) => Err(format!("expected string; found {}", plain(other))),
        None => Err("wrong number of args: want at least 1 got 0".to_owned()),
    }
}

fn escaped(args: &[Value], escape: impl Fn(char, &mut String)) -> Value {
    let mut text = String::new();
    for letter in sprint(args).chars() {
        escape(letter, &mut text);
    }
    Value::String(text)
}

fn html(args: &[Value]) -> Result<Value, String> {
    Ok(escaped(args, |letter, text| match letter {
        '"' => text.push_str("&#34;"),
        '\'' => text.push_str("&#39;"),
        '&' => text.push_str("&amp;"),
        '<' => text.push_str("&lt;"),
        '>' => text.push_str("&gt;"),
        '\0' => text.push('\u{fffd}'),
        letter => text.push(letter),
    }))
}

fn js(args: &[Value]) -> Result<Value, String> {
    Ok(escaped(args, |letter, text| match letter {
        '\\' => text.push_str("\\\\"),
        '\'' => text.push_str("\\'"),
        '"' => text.push_str("\\\""),
        '<' | '>' | '&' | '=' => text.push_str(&format!("\\u{:04X}", u32::from(letter))),
        letter if letter.is_control() => text.push_str(&format!("\\u{:04X}", u32::from(letter))),
        letter => text.push(letter),
    }))
}

fn urlquery(args: &[Value]) -> Result<Value, String> {
    let text = sprint(args);
    let mut query = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => query.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => query.push(char::from(byte)),
            byte => query.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(Value::String(query))
}
