//! The functions Docker adds to templates.

use crate::Value;
use crate::builtins::one;
use crate::functions::Functions;
use crate::print::plain;

/// Returns the functions of `--format`: `json`, `split`, `join`, `title`, `lower`, `upper`, `pad`, `truncate`.
pub fn docker_functions() -> Functions {
    let mut functions = Functions::new();
    functions.add("json", |args| Ok(Value::String(one(args)?.to_json())));
    functions.add("split", split);
    functions.add("join", join);
    functions.add("title", |args| text(args).map(|text| Value::String(title(&text))));
    functions.add("lower", |args| text(args).map(|text| Value::String(text.to_lowercase())));
    functions.add("upper", |args| text(args).map(|text| Value::String(text.to_uppercase())));
    functions.add("pad", pad);
    functions.add("truncate", truncate);
    functions
}

/// Returns the same functions for the line of column names: those that would change a name leave it alone.
pub fn header_functions() -> Functions {
    fn same(args: &[Value]) -> Result<Value, String> {
        Ok(args.first().cloned().unwrap_or_default())
    }
    let mut functions = docker_functions();
    for name in ["json", "split", "join", "title", "lower", "upper", "truncate"] {
        functions.add(name, same);
    }
    functions
}

fn wrong(args: &[Value], want: usize) -> String {
    format!("wrong number of args: want {want} got {}", args.len())
}

fn string(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Nil | Value::Missing => Err("invalid value; expected string".to_owned()),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}

fn text(args: &[Value]) -> Result<String, String> {
    string(one(args)?)
}

fn number(value: &Value) -> Result<usize, String> {
    match value {
        Value::Int(value) => Ok(usize::try_from(*value).unwrap_or(0)),
        other => Err(format!("wrong type for value; expected int; got {}", other.type_name())),
    }
}

fn split(args: &[Value]) -> Result<Value, String> {
    let [value, separator] = args else { return Err(wrong(args, 2)) };
    let (value, separator) = (string(value)?, string(separator)?);
    if separator.is_empty() {
        return Ok(Value::list(value.chars().map(|letter| Value::String(letter.to_string()))));
    }
    Ok(Value::list(value.split(separator.as_str()).map(Value::from)))
}

fn join(args: &[Value]) -> Result<Value, String> {
    let [items, separator] = args else { return Err(wrong(args, 2)) };
    let separator = string(separator)?;
    match items {
        Value::List(items) => {
            let items: Vec<String> = items.iter().flat_map(|items| items.iter()).map(plain).collect();
            Ok(Value::String(items.join(&separator)))
        }
        Value::Nil | Value::Missing => Ok(Value::String(String::new())),
        other => Err(format!("wrong type for value; expected []string; got {}", other.type_name())),
    }
}

/// Puts the first letter of each word into upper case (Go's `strings.Title`).
fn title(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .flat_map(|letter| {
            let begins = !(previous.is_alphanumeric() || matches!(previous, '_' | '\''));
            previous = letter;
            let upper: Vec<char> = if begins { letter.to_uppercase().collect() } else { vec![letter] };
            upper
        })
        .collect()
}

/// `pad TEXT BEFORE AFTER`; the empty text stays empty.
fn pad(args: &[Value]) -> Result<Value, String> {
    let [value, before, after] = args else { return Err(wrong(args, 3)) };
    let value = string(value)?;
    if value.is_empty() {
        return Ok(Value::String(value));
    }
    Ok(Value::String(format!("{}{value}{}", " ".repeat(number(before)?), " ".repeat(number(after)?))))
}

fn truncate(args: &[Value]) -> Result<Value, String> {
    let [value, length] = args else { return Err(wrong(args, 2)) };
    let length = number(length)?;
    Ok(Value::String(string(value)?.chars().take(length).collect()))
}
