//! Environment variables and labels: `-e`, `--env-file`, `--label`, `--label-file`.

use crate::error::{Error, Result};
use crate::values;
use std::fs;

/// Takes anything.
#[expect(clippy::unnecessary_wraps, reason = "a validator like the others")]
pub(crate) fn check_any(_text: &str) -> Result<(), String> {
    Ok(())
}

/// `NAME=value`, or `NAME` for the value of this process's environment.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let (name, _) = values::key_value(text);
    if name.is_empty() { Err(format!("invalid environment variable: {text}")) } else { Ok(()) }
}

/// `name` or `name=value`.
pub(crate) fn check_label(text: &str) -> Result<(), String> {
    let (name, _) = values::key_value(text);
    let name = name.trim_start();
    match name {
        "" => Err(format!("invalid label '{text}': empty name")),
        name if name.contains([' ', '\t']) => Err(format!("label '{name}' contains whitespaces")),
        _ => Ok(()),
    }
}

/// Returns the variables of files and flags; a bare name takes its value from this process.
pub(crate) fn variables(files: &[String], flags: &[String]) -> Result<Vec<String>> {
    let from_process = |name: &str| std::env::var(name).ok();
    let mut variables = Vec::new();
    for file in files {
        let text = fs::read(file).map_err(Error::file("open", file))?;
        variables.extend(parse_file(file, &text, &from_process)?);
    }
    variables.extend(flags.iter().map(|flag| match from_process(flag) {
        Some(value) if !flag.contains('=') => format!("{flag}={value}"),
        // A bare name that is not set here unsets the image's variable: it is passed on as it is.
        Some(_) | None => flag.clone(),
    }));
    Ok(variables)
}

/// Returns the labels of files and flags.
pub(crate) fn labels(files: &[String], flags: &[String]) -> Result<api::StringMap> {
    let mut labels = Vec::new();
    for file in files {
        let text = fs::read(file).map_err(Error::file("open", file))?;
        // A line without a value is passed over, as Docker does.
        labels.extend(parse_file(file, &text, &|_name| None)?);
    }
    labels.extend_from_slice(flags);
    Ok(values::map(&labels))
}

/// Finds the value of a variable.
type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// One `name=value` a line; empty lines and those that begin with `#` are skipped.
fn parse_file(path: &str, bytes: &[u8], from_process: &Lookup<'_>) -> Result<Vec<String>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let failed = |why: String| Error::message(format!("invalid env file ({path}): {why}"));
    let mut variables = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let Ok(line) = std::str::from_utf8(line) else {
            let line = String::from_utf8_lossy(line).into_owned();
            return Err(failed(format!("invalid utf8 bytes at line {}: {line}", index + 1)));
        };
        let line = line.trim_end_matches('\r').trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.contains([' ', '\t']) {
            return Err(failed(format!("variable '{name}' contains whitespaces")));
        }
        if name.is_empty() {
            return Err(failed(format!("no variable name on line '{line}'")));
        }
        if line.contains('=') {
            variables.push(line.to_owned());
        } else {
            variables.extend(from_process(name).map(|value| format!("{name}={value}")));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(text: &str, expect: Result<&[&str], &str>) {
        let home = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let parsed = parse_file("f", text.as_bytes(), &home).map_err(|error| error.to_string());
        let expect = expect.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        assert_eq!(parsed, expect.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn files() {
        check_file("A=1\n#x\n\n  B=2 3 \r\nHOME\nGONE\nC=", Ok(&["A=1", "B=2 3 ", "HOME=/root", "C="]));
        check_file("A B=1", Err("invalid env file (f): variable 'A B' contains whitespaces"));
        check_file("=1", Err("invalid env file (f): no variable name on line '=1'"));
    }
}
