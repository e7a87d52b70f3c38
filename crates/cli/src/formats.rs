//! What the `--format` flags of several commands share.

use crate::flags::{Flag, text};
use api::StringMap;
use gotemplate::Value;

/// `--format` of commands that print lists.
pub(crate) const TABLE_FLAG: Flag = text(
    "format",
    "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
);

/// `--format` of commands that print objects.
pub(crate) const INSPECT_FLAG: Flag = text(
    "format",
    "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
)
.short('f');

/// The method `Label` of a row: the value of one label.
pub(crate) fn label(labels: &StringMap, args: &[Value]) -> Result<Value, String> {
    match args {
        [Value::String(name)] => Ok(Value::String(labels.get(name).cloned().unwrap_or_default())),
        _ => Err(format!("wrong number of args: want 1 got {}", args.len())),
    }
}

/// `a=1,b=2`
pub(crate) fn labels(labels: &StringMap) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}
