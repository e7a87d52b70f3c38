//! `--change` of `commit` and `import`: single Dockerfile instructions that alter an image's defaults.
//!
//! Pure. Only the instructions that dockerd takes here (`validCommitCommands`) are known; the syntax is the
//! Dockerfile reference's.

use crate::error::{Error, Result};
use oci::ContainerDefaults;
use oci::image::Healthcheck;

/// Applies `changes` in their order.
///
/// # Errors
///
/// `InvalidArgument` in dockerd's words for an instruction that is unknown or not understood.
pub fn apply_changes(config: &mut ContainerDefaults, changes: &[String]) -> Result<()> {
    for change in changes.iter().map(|change| change.trim()).filter(|change| !change.is_empty()) {
        let (word, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
        apply(config, &word.to_ascii_uppercase(), word, rest.trim())?;
    }
    Ok(())
}

fn apply(config: &mut ContainerDefaults, instruction: &str, word: &str, rest: &str) -> Result<()> {
    let needs = |text: &str| {
        if text.is_empty() {
            return Err(Error::invalid(format!("{instruction} requires at least one argument")));
        }
        Ok(())
    };
    match instruction {
        // Both may be empty: `CMD []` and `CMD` take the default away.
        "CMD" => config.cmd = Some(command(config, rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(config, rest)),
        "ENV" => {
            needs(rest)?;
            for (name, value) in pairs(rest, instruction)? {
                let value = expand(&value, &config.env);
                set(&mut config.env, &name, &value);
            }
        }
        "LABEL" => {
            needs(rest)?;
            for (name, value) in pairs(rest, instruction)? {
                let value = expand(&value, &config.env);
                config.labels.insert(name, value);
            }
        }
        "EXPOSE" => {
            needs(rest)?;
            for port in words(&expand(rest, &config.env)) {
                config.exposed_ports.extend(ports(&port)?);
            }
        }
        "VOLUME" => {
            needs(rest)?;
            let paths = json(rest).unwrap_or_else(|| words(rest));
            config.volumes.extend(paths.iter().map(|path| expand(path, &config.env)));
        }
        "USER" => {
            needs(rest)?;
            config.user = expand(rest, &config.env);
        }
        "WORKDIR" => {
            needs(rest)?;
            let path = expand(rest, &config.env);
            config.working_dir = resolve(&config.working_dir, &path);
        }
        "STOPSIGNAL" => {
            needs(rest)?;
            config.stop_signal = Some(expand(rest, &config.env));
        }
        "SHELL" => {
            let shell = json(rest)
                .ok_or_else(|| Error::invalid("SHELL requires the arguments to be in JSON form"))?;
            config.shell = Some(shell);
        }
        "ONBUILD" => {
            needs(rest)?;
            config.on_build.get_or_insert_default().push(rest.to_owned());
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => return Err(Error::invalid(format!("{word} is not a valid change command"))),
    }
    Ok(())
}

/// A JSON list, or a line for the shell.
fn command(config: &ContainerDefaults, text: &str) -> Vec<String> {
    if let Some(words) = json(text) {
        return words;
    }
    if text.is_empty() {
        return Vec::new();
    }
    let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
    let mut words = config.shell.clone().unwrap_or_else(default);
    words.push(text.to_owned());
    words
}

fn json(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// Splits at blanks, but not within quotes; quotes and escapes are taken away.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().extend(characters.next());
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => found.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    found
}

/// `NAME=VALUE …`, or the old form `NAME VALUE` that takes the whole line.
fn pairs(text: &str, instruction: &str) -> Result<Vec<(String, String)>> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let broken = || Error::invalid(format!("{instruction} must have two arguments"));
        let (name, value) = text.split_once(char::is_whitespace).ok_or_else(broken)?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let split = |word: String| {
        let pair = word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Error::invalid(format!(
                "Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
            ))
        })
    };
    words(text).into_iter().map(split).collect()
}

fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let same = |other: &&mut String| other.split_once('=').is_some_and(|(other, _)| other == name);
    match env.iter_mut().find(same) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// Replaces `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+other}` by what `env` says; `\$` is a dollar.
fn expand(text: &str, env: &[String]) -> String {
    let value = |name: &str| {
        env.iter().find_map(|entry| {
            entry.split_once('=').filter(|(other, _)| *other == name).map(|(_, value)| value)
        })
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        if let Some(before) = before.strip_suffix('\\') {
            expanded.push_str(before);
            expanded.push('$');
            rest = after;
            continue;
        }
        expanded.push_str(before);
        if let Some((inner, after)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
            let (name, modifier) = inner.split_at_checked(end).unwrap_or((inner, ""));
            let known = value(name).filter(|known| !known.is_empty());
            expanded.push_str(match (modifier.strip_prefix(":-"), modifier.strip_prefix(":+")) {
                (Some(default), _) => known.unwrap_or(default),
                (None, Some(other)) => known.map_or("", |_| other),
                (None, None) => known.unwrap_or_default(),
            });
            rest = after;
            continue;
        }
        let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
        let (name, after) = after.split_at_checked(end).unwrap_or((after, ""));
        if name.is_empty() {
            expanded.push('$');
        }
        expanded.push_str(value(name).unwrap_or_default());
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

/// `80`, `80/udp`, `8000-8002`: every port with its protocol.
fn ports(text: &str) -> Result<Vec<String>> {
    let broken = || Error::invalid(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (Some(first), Some(last)) = (port(first), port(last)) else { return Err(broken()) };
    if first > last || !matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "udp" | "sctp") {
        return Err(broken());
    }
    Ok((first..=last).map(|port| format!("{port}/{}", protocol.to_ascii_lowercase())).collect())
}

/// A relative path is seen from the directory before; `.` and `..` are resolved as text.
fn resolve(base: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn healthcheck(text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        rest = after.trim_start();
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = || Error::invalid(format!("invalid value for HEALTHCHECK option --{name}: {value:?}"));
        let time = || duration(value).ok_or_else(wrong);
        match name {
            "interval" => check.interval = time()?,
            "timeout" => check.timeout = time()?,
            "start-period" => check.start_period = time()?,
            "start-interval" => check.start_interval = time()?,
            "retries" => check.retries = value.parse().map_err(|_ignored| wrong())?,
            _ => return Err(Error::invalid(format!("unknown flag: --{name}"))),
        }
    }
    let (kind, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if arguments.trim().is_empty() => check.test = vec!["NONE".to_owned()],
        "CMD" if !arguments.trim().is_empty() => {
            check.test = match json(arguments.trim()) {
                Some(words) => [vec!["CMD".to_owned()], words].concat(),
                None => vec!["CMD-SHELL".to_owned(), arguments.trim().to_owned()],
            };
        }
        "CMD" => return Err(Error::invalid("Missing command after HEALTHCHECK CMD")),
        other => return Err(Error::invalid(format!("Unknown type \"{other}\" in HEALTHCHECK (try CMD)"))),
    }
    Ok(check)
}

/// Reads a Go duration of whole numbers and fractions (`1m30s`, `1.5s`, `200ms`) as nanoseconds.
fn duration(text: &str) -> Option<i64> {
    let mut total = 0.0_f64;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at_checked(digits)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    // A millisecond at least, as dockerd has it; and no more than fits.
    let fits = (1e6..=9.2e18).contains(&total) || total == 0.0;
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked just before")]
    fits.then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<serde_json::Value, String> {
        let mut config = ContainerDefaults {
            env: vec!["PATH=/bin".into()],
            working_dir: "/srv".into(),
            ..Default::default()
        };
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        apply_changes(&mut config, &changes).map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(config).unwrap())
    }

    fn check(change: &str, field: &str, expected: impl Into<serde_json::Value>) {
        assert_eq!(changed(&[change]).unwrap()[field], expected.into(), "{change}");
    }

    #[test]
    fn instructions_alter_their_field() {
        use serde_json::json;
        check(r#"CMD ["a", "b c"]"#, "Cmd", json!(["a", "b c"]));
        check("cmd echo hi", "Cmd", json!(["/bin/sh", "-c", "echo hi"]));
        check("ENTRYPOINT []", "Entrypoint", json!([]));
        check("ENV A=1 B=\"two words\" C=a\\ b", "Env", json!(["PATH=/bin", "A=1", "B=two words", "C=a b"]));
        check("ENV PATH $PATH:/sbin", "Env", json!(["PATH=/bin:/sbin"]));
        check("ENV A=${NO:-default}${PATH:+set}", "Env", json!(["PATH=/bin", "A=defaultset"]));
        check("LABEL a=b 'c d'=e", "Labels", json!({"a": "b", "c d": "e"}));
        check(
            "EXPOSE 80 53/UDP 8000-8001",
            "ExposedPorts",
            json!({"53/udp": {}, "80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}}),
        );
        check(r#"VOLUME ["/a", "/b"]"#, "Volumes", json!({"/a": {}, "/b": {}}));
        check("USER ann:1", "User", json!("ann:1"));
        check("WORKDIR ../x/./y", "WorkingDir", json!("/x/y"));
        check("STOPSIGNAL SIGINT", "StopSignal", json!("SIGINT"));
        check("ONBUILD RUN x", "OnBuild", json!(["RUN x"]));
        check(
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl x",
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "curl x"], "Interval": 90_000_000_000_i64, "Retries": 2}),
        );
        check("HEALTHCHECK NONE", "Healthcheck", json!({"Test": ["NONE"]}));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (change, text) in [
            ("RUN x", "RUN is not a valid change command"),
            ("from x", "from is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("ENV A=1 B", "Syntax error - can't find = in \"B\". Must be of the form: name=value"),
            ("EXPOSE 0", "invalid containerPort: 0"),
            ("EXPOSE 5-2", "invalid containerPort: 5-2"),
            ("HEALTHCHECK --interval=x CMD y", "invalid value for HEALTHCHECK option --interval: \"x\""),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ] {
            assert_eq!(changed(&[change]).unwrap_err(), text, "{change}");
        }
    }
}
