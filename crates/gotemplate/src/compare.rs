//! `eq`, `ne`, `lt`, `le`, `gt`, `ge`.

use crate::Value;
use std::cmp::Ordering;

const UNCOMPARABLE: &str = "incompatible types for comparison";
const BAD: &str = "invalid type for comparison";

fn wrong_count(at_least: usize, got: usize) -> String {
    format!("wrong number of args: want at least {at_least} got {got}")
}

/// Says whether the first argument equals any of the others.
pub(crate) fn equals(args: &[Value]) -> Result<Value, String> {
    let Some((first, others)) = args.split_first() else { return Err(wrong_count(1, 0)) };
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if same(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

pub(crate) fn differs(args: &[Value]) -> Result<Value, String> {
    let [a, b] = args else { return Err(format!("wrong number of args: want 2 got {}", args.len())) };
    same(a, b).map(|same| Value::Bool(!same))
}

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil | Value::Missing, Value::Nil | Value::Missing) => Ok(true),
        (Value::Nil | Value::Missing, _) | (_, Value::Nil | Value::Missing) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::String(a), Value::String(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Int(_) | Value::Uint(_), Value::Int(_) | Value::Uint(_)) => Ok(whole(a) == whole(b)),
        (Value::List(_) | Value::Map(_) | Value::Function(_), _)
        | (_, Value::List(_) | Value::Map(_) | Value::Function(_)) => {
            Err(format!("non-comparable type {}: {}", crate::print::plain(a), a.type_name()))
        }
        _ => Err(UNCOMPARABLE.to_owned()),
    }
}

fn whole(value: &Value) -> i128 {
    match value {
        Value::Int(value) => i128::from(*value),
        Value::Uint(value) => i128::from(*value),
        _ => 0,
    }
}

fn ordered(args: &[Value], accepted: impl Fn(Ordering) -> bool) -> Result<Value, String> {
    let [a, b] = args else { return Err(format!("wrong number of args: want 2 got {}", args.len())) };
    let ordering = match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).ok_or(BAD)?,
        (Value::Int(_) | Value::Uint(_), Value::Int(_) | Value::Uint(_)) => whole(a).cmp(&whole(b)),
        (
            Value::Bool(_) | Value::Nil | Value::Missing | Value::List(_) | Value::Map(_) | Value::Object(_),
            _,
        ) => {
            return Err(BAD.to_owned());
        }
        _ => return Err(UNCOMPARABLE.to_owned()),
    };
    Ok(Value::Bool(accepted(ordering)))
}

pub(crate) fn less(args: &[Value]) -> Result<Value, String> {
    ordered(args, Ordering::is_lt)
}

pub(crate) fn less_or_same(args: &[Value]) -> Result<Value, String> {
    ordered(args, Ordering::is_le)
}

pub(crate) fn greater(args: &[Value]) -> Result<Value, String> {
    ordered(args, Ordering::is_gt)
}

pub(crate) fn greater_or_same(args: &[Value]) -> Result<Value, String> {
    ordered(args, Ordering::is_ge)
}
