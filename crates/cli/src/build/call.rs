//! `build --call`: what is asked of a Dockerfile instead of building it; and attestations, which nobody makes.

use super::check;
use super::context::Given;
use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::list::align_with;
use crate::program::print;
use dockerfile::{Dockerfile, Outline, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// The image.
    Build,
    /// Warnings.
    Check,
    /// What a target takes.
    Outline,
    /// What can be built.
    Targets,
}

/// Reads `--call` and `--check`; returns also whether the answer is to be JSON.
pub(super) fn parse(matches: &Matches) -> Result<(Call, bool)> {
    let (kind, is_json) = of(matches.text("call"))?;
    Ok((if matches.switch("check") && kind == Call::Build { Call::Check } else { kind }, is_json))
}

fn of(text: &str) -> Result<(Call, bool)> {
    let (kind, options) = text.split_once(',').unwrap_or((text, ""));
    let kind = match kind {
        "" | "build" => Call::Build,
        "check" | "lint" => Call::Check,
        "outline" => Call::Outline,
        "targets" => Call::Targets,
        other => {
            return Err(Error::message(format!(
                "invalid call {other:?}: it is one of build, check, outline, targets"
            )));
        }
    };
    match options {
        "" | "format=text" | "format=table" => Ok((kind, false)),
        "format=json" => Ok((kind, true)),
        other => Err(Error::message(format!("invalid value {other:?} of --call"))),
    }
}

/// Answers what is no build.
pub(super) fn answer(
    call: (Call, bool),
    given: &Given,
    target: &str,
    arguments: &BTreeMap<String, Option<String>>,
) -> Result<()> {
    let (call, is_json) = call;
    if call == Call::Check {
        return check::run(given, is_json);
    }
    let Some(text) = &given.dockerfile else {
        return Err(Error::message(
            "--call needs a Dockerfile that is here: a folder, or one on standard input",
        ));
    };
    let file = Dockerfile::parse(text).map_err(|problem| Error::message(problem.to_string()))?;
    let shown = if call == Call::Targets {
        let targets = dockerfile::targets(&file, text);
        if is_json { targets_json(&targets) } else { targets_text(&targets) }
    } else {
        let outline = dockerfile::outline(&file, text, target, arguments)
            .ok_or_else(|| Error::message(format!("target stage {target:?} could not be found")))?;
        if is_json { outline_json(&outline) } else { outline_text(&outline) }
    };
    print(shown);
    Ok(())
}

fn table(lines: &[String]) -> String {
    let text = align_with(&lines.join("\n"), 0, 3);
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn targets_text(targets: &[Target]) -> String {
    let mut lines = vec!["TARGET\tDESCRIPTION".to_owned()];
    for target in targets {
        let name = match (&target.name, target.is_default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".to_owned(),
            // A stage without a name is a part of others.
            (None, false) => continue,
        };
        lines.push(format!("{name}\t{}", target.description));
    }
    table(&lines)
}

fn targets_json(targets: &[Target]) -> String {
    let one = |target: &Target| {
        let mut value = json!({ "base": target.base });
        let fields = [
            ("name", target.name.clone().map(Value::from)),
            ("description", Some(target.description.clone()).filter(|it| !it.is_empty()).map(Value::from)),
            ("default", target.is_default.then_some(Value::Bool(true))),
            ("platform", target.platform.clone().map(Value::from)),
        ];
        for (name, field) in fields {
            if let (Some(field), Some(object)) = (field, value.as_object_mut()) {
                object.insert(name.to_owned(), field);
            }
        }
        value
    };
    format!("{:#}\n", json!({ "targets": targets.iter().map(one).collect::<Vec<_>>() }))
}

fn outline_text(outline: &Outline) -> String {
    let mut parts = Vec::new();
    let name = outline.target.name.as_deref().unwrap_or("(default)");
    if outline.target.name.is_some() || !outline.target.description.is_empty() {
        let mut lines = vec![format!("TARGET:\t{name}")];
        if !outline.target.description.is_empty() {
            lines.push(format!("DESCRIPTION:\t{}", outline.target.description));
        }
        parts.push(table(&lines));
    }
    if !outline.arguments.is_empty() {
        let mut lines = vec!["BUILD ARG\tVALUE\tDESCRIPTION".to_owned()];
        lines.extend(
            outline.arguments.iter().map(|it| format!("{}\t{}\t{}", it.name, it.value, it.description)),
        );
        parts.push(table(&lines));
    }
    for (head, all) in [("SECRET", &outline.secrets), ("SSH", &outline.agents)] {
        if !all.is_empty() {
            let mut lines = vec![format!("{head}\tREQUIRED")];
            lines.extend(all.iter().map(|(name, required)| match required {
                true => format!("{name}\ttrue"),
                false => format!("{name}\t"),
            }));
            parts.push(table(&lines));
        }
    }
    parts.join("\n")
}

fn outline_json(outline: &Outline) -> String {
    let arguments = outline
        .arguments
        .iter()
        .map(|it| json!({ "name": it.name, "value": it.value, "description": it.description }));
    let named = |all: &BTreeMap<String, bool>| {
        all.iter().map(|(name, required)| json!({ "name": name, "required": required })).collect::<Vec<_>>()
    };
    let value = json!({
        "name": outline.target.name.as_deref().unwrap_or_default(),
        "description": outline.target.description,
        "args": arguments.collect::<Vec<_>>(),
        "secrets": named(&outline.secrets),
        "ssh": named(&outline.agents),
    });
    format!("{value:#}\n")
}

/// Refuses what says more of an image than is said here: attestations (`--attest`, `--provenance`, `--sbom`) and content trust.
/// Asking for none is fine.
pub(super) fn check_claims(matches: &Matches) -> Result<()> {
    if !matches.switch("disable-content-trust") {
        return Err(Error::message(
            "content trust is not checked here: leave --disable-content-trust as it is",
        ));
    }
    let mut wanted: Vec<String> = Vec::new();
    for name in ["provenance", "sbom"] {
        if !matches!(matches.text(name), "" | "false" | "0" | "disabled=true") {
            wanted.push(name.to_owned());
        }
    }
    for text in matches.list("attest") {
        let mut kind = None;
        let mut is_off = false;
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("disabled", value)) => is_off = matches!(value, "true" | "1"),
                _ => {}
            }
        }
        let kind = kind.ok_or_else(|| Error::message(format!("attestation type not specified: {text:?}")))?;
        if !is_off {
            wanted.push(kind.to_owned());
        }
    }
    match wanted.first() {
        None => Ok(()),
        Some(kind) => Err(Error::message(format!(
            "attestations are not made here, so none of type {kind:?}: leave the flag out, or say {kind}=false"
        ))),
    }
}

/// Says that a builder is not there: there is one, which has the name of the context in force, and `default`.
pub(super) fn check_builder(name: &str, context: &str) -> Result<()> {
    if matches!(name, "" | "default") || name == context {
        return Ok(());
    }
    Err(Error::message(format!("no builder {name:?} found")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# V of it\nARG V=3\n# app is all\nFROM busybox AS app\nARG V\nRUN --mount=type=secret,id=k,required --mount=type=ssh true\n";

    #[test]
    fn calls_are_read() {
        assert_eq!(of("").unwrap(), (Call::Build, false));
        assert_eq!(of("targets,format=json").unwrap(), (Call::Targets, true));
        assert_eq!(of("lint").unwrap(), (Call::Check, false));
        assert!(of("x").is_err() && of("check,format=yaml").is_err());
    }

    #[test]
    fn answers_are_tables() {
        let file = Dockerfile::parse(FILE).unwrap();
        let targets = dockerfile::targets(&file, FILE);
        assert_eq!(targets_text(&targets), "TARGET          DESCRIPTION\napp (default)   is all\n");
        let outline = dockerfile::outline(&file, FILE, "", &BTreeMap::new()).unwrap();
        assert_eq!(
            outline_text(&outline),
            "TARGET:        app\nDESCRIPTION:   is all\n\nBUILD ARG   VALUE   DESCRIPTION\nV           3       of it\n\nSECRET   REQUIRED\nk        true\n\nSSH       REQUIRED\ndefault\n"
        );
    }
}
