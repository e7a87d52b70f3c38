//! Warnings about what works and still is not a good idea: the rules of `docker build --check`.
//!
//! Names and texts are `BuildKit`'s (docs.docker.com/reference/build-checks). `InvalidDefinitionDescription` is
//! experimental there and not applied.

use crate::ignore::Patterns;
use crate::instruction::{Command, Instruction, Source, Stage, Step};
use crate::parse::Dockerfile;
use crate::suggest;
use crate::words;
use std::collections::{BTreeMap, BTreeSet};

/// Every rule that is applied.
pub const RULES: [&str; 20] = [
    "ConsistentInstructionCasing",
    "CopyIgnoredFile",
    "DuplicateStageName",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "InvalidDefaultArgInFrom",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "WorkdirRelativePath",
];

/// Arguments that are there without being declared.
const PLATFORM_ARGUMENTS: [&str; 11] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
];
const SECRET_WORDS: [&str; 9] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret"];

/// One warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The line it is about.
    pub line: usize,
    /// The rule.
    pub rule: &'static str,
    /// What is not good.
    pub message: String,
}

/// What is known beside the file itself.
pub struct Known<'a> {
    /// What the `.dockerignore` leaves out.
    pub ignored: Option<&'a Patterns>,
    /// The variables of an image, if they are known.
    pub variables: &'a dyn Fn(&str) -> Option<Vec<String>>,
}

impl std::fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("ignored", &self.ignored).finish_non_exhaustive()
    }
}

/// Returns all warnings, by line.
pub fn lint(file: &Dockerfile, known: &Known<'_>) -> Vec<Warning> {
    let mut found = Found { warnings: BTreeSet::new() };
    for line in &file.gaps {
        found.warn(*line, "NoEmptyContinuation", "Empty continuation line");
    }
    casing(file, &mut found);
    names(file, &mut found);
    from(file, &mut found);
    let mut environments: Vec<Option<BTreeSet<String>>> = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        stage_rules(stage, known, &mut found);
        let start = match file.stage(&stage.base, index) {
            Some(base) if file.stages.get(base).is_some_and(|base| base.name.is_some()) => {
                environments.get(base).cloned().flatten()
            }
            _ if stage.base == "scratch" => Some(BTreeSet::new()),
            _ => (known.variables)(&stage.base).map(|list| {
                list.iter().map(|entry| entry.split('=').next().unwrap_or_default().to_owned()).collect()
            }),
        };
        environments.push(undefined(file, stage, start, &mut found));
    }
    let skip = &file.checks.skip;
    let all = skip.iter().any(|rule| rule == "all");
    let kept = |warning: &Warning| !all && !skip.iter().any(|rule| rule.eq_ignore_ascii_case(warning.rule));
    found.warnings.into_iter().filter(kept).collect()
}

struct Found {
    warnings: BTreeSet<Warning>,
}

impl Found {
    fn warn(&mut self, line: usize, rule: &'static str, message: impl Into<String>) {
        self.warnings.insert(Warning { line, rule, message: message.into() });
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// Keywords are all in capitals, or all in small letters.
fn casing(file: &Dockerfile, found: &mut Found) {
    let steps = file.stages.iter().flat_map(|stage| &stage.steps);
    let all: Vec<(usize, &str)> = file
        .arguments
        .iter()
        .chain(steps)
        .map(|step| (step.line, first_word(&step.text)))
        .chain(file.stages.iter().map(|stage| (stage.line, first_word(&stage.text))))
        .collect();
    let lower = all.iter().filter(|(_, word)| word.chars().all(|c| c.is_ascii_lowercase())).count();
    let upper = all.iter().filter(|(_, word)| word.chars().all(|c| c.is_ascii_uppercase())).count();
    let (majority, wanted) = if lower > upper { ("lowercase", false) } else { ("uppercase", true) };
    for (line, word) in all {
        let good = word.chars().all(|c| c.is_ascii_uppercase() == wanted);
        if !good {
            found.warn(
                line,
                "ConsistentInstructionCasing",
                format!("Command '{word}' should match the case of the command majority ({majority})"),
            );
        }
    }
}

fn names(file: &Dockerfile, found: &mut Found) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for stage in &file.stages {
        let words: Vec<&str> = stage.text.split_whitespace().collect();
        let Some(name) = stage.name.as_deref() else { continue };
        let written = words.last().copied().unwrap_or_default();
        if written != name {
            found.warn(stage.line, "StageNameCasing", format!("Stage name '{written}' should be lowercase"));
        }
        let word = words.get(words.len().saturating_sub(2)).copied().unwrap_or_default();
        let keyword = first_word(&stage.text);
        let upper = |text: &str| text.chars().all(|c| c.is_ascii_uppercase());
        if upper(word) != upper(keyword) {
            found.warn(
                stage.line,
                "FromAsCasing",
                format!("'{word}' and '{keyword}' keywords' casing do not match"),
            );
        }
        if matches!(name, "scratch" | "context") {
            found.warn(
                stage.line,
                "ReservedStageName",
                format!("Stage name should not use the same name as reserved stage {name:?}"),
            );
        }
        if !seen.insert(name) {
            found.warn(
                stage.line,
                "DuplicateStageName",
                format!("Duplicate stage name {name:?}, stage names should be unique"),
            );
        }
    }
}

fn from(file: &Dockerfile, found: &mut Found) {
    let mut arguments: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for step in &file.arguments {
        let Instruction::Arg(list) = &step.instruction else { continue };
        for argument in list {
            arguments.insert(&argument.name, argument.default.as_deref());
        }
    }
    for stage in &file.stages {
        for text in [Some(&stage.base), stage.platform.as_ref()].into_iter().flatten() {
            for name in used(text, file.escape) {
                let predefined = PLATFORM_ARGUMENTS.contains(&name.as_str());
                if !predefined && !arguments.contains_key(name.as_str()) {
                    let all = arguments.keys().copied().chain(PLATFORM_ARGUMENTS);
                    let hint = suggest::hint(&name, all);
                    found.warn(
                        stage.line,
                        "UndefinedArgInFrom",
                        format!("FROM argument '{name}' is not declared{hint}"),
                    );
                }
            }
        }
        let values = |name: &str| match arguments.get(name) {
            Some(default) => default.map(str::to_owned),
            None => PLATFORM_ARGUMENTS.contains(&name).then(|| "x".to_owned()),
        };
        if let Ok(base) = crate::expand(&stage.base, &values, file.escape)
            && base != stage.base
            && (base.is_empty() || base.ends_with([':', '@', '/']) || base.contains("//"))
        {
            found.warn(
                stage.line,
                "InvalidDefaultArgInFrom",
                format!("Default value for ARG {} results in empty or invalid base image name", stage.base),
            );
        }
        match stage.platform.as_deref() {
            Some("$TARGETPLATFORM" | "${TARGETPLATFORM}") => {
                let platform = stage.platform.as_deref().unwrap_or_default();
                found.warn(
                    stage.line,
                    "RedundantTargetPlatform",
                    format!(
                        "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
                    ),
                );
            }
            Some(platform) if !platform.contains('$') => found.warn(
                stage.line,
                "FromPlatformFlagConstDisallowed",
                format!("FROM --platform flag should not use constant value {platform:?}"),
            ),
            _ => {}
        }
    }
}

fn stage_rules(stage: &Stage, known: &Known<'_>, found: &mut Found) {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    let mut absolute = false;
    let mut shell = false;
    for step in &stage.steps {
        let (line, name) = (step.line, step.instruction.name());
        match &step.instruction {
            Instruction::Cmd(command) | Instruction::Entrypoint(command) => {
                once(&mut last, name, line, found);
                if matches!(command, Command::Shell(_)) && !shell {
                    found.warn(
                        line,
                        "JSONArgsRecommended",
                        format!(
                            "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
                        ),
                    );
                }
            }
            Instruction::Healthcheck(_) => once(&mut last, name, line, found),
            Instruction::Shell(_) => shell = true,
            Instruction::Maintainer(_) => found.warn(
                line,
                "MaintainerDeprecated",
                "Maintainer instruction is deprecated in favor of using label",
            ),
            Instruction::Workdir(path) => {
                if path.starts_with(['/', '$', '"', '\'']) {
                    absolute = true;
                } else if !absolute {
                    found.warn(
                        line,
                        "WorkdirRelativePath",
                        format!(
                            "Relative workdir {path:?} can have unexpected results if the base image changes"
                        ),
                    );
                }
            }
            Instruction::Expose(ports) => expose(ports, line, found),
            Instruction::Env(_) | Instruction::Label(_) => legacy(step, found),
            Instruction::Copy(copy) if copy.from.is_none() => {
                ignored(&copy.sources, "Copy", line, known, found);
            }
            Instruction::Add(add) => ignored(&add.copy.sources, "Add", line, known, found),
            _ => {}
        }
        secrets(step, found);
    }
}

fn once(last: &mut BTreeMap<&'static str, usize>, name: &'static str, line: usize, found: &mut Found) {
    if let Some(earlier) = last.insert(name, line) {
        found.warn(
            earlier,
            "MultipleInstructionsDisallowed",
            format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            ),
        );
    }
}

fn expose(ports: &[String], line: usize, found: &mut Found) {
    for port in ports.iter().filter(|port| !port.contains('$')) {
        let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
        if protocol.chars().any(|c| c.is_ascii_uppercase()) {
            found.warn(
                line,
                "ExposeProtoCasing",
                format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase"),
            );
        }
        if number.contains(':') {
            found.warn(
                line,
                "ExposeInvalidFormat",
                format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                ),
            );
        }
    }
}

fn legacy(step: &Step, found: &mut Found) {
    let second = step.text.split_whitespace().nth(1).unwrap_or_default();
    if !second.contains('=') {
        let name = step.instruction.name();
        found.warn(
            step.line,
            "LegacyKeyValueFormat",
            format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"),
        );
    }
}

fn ignored(sources: &[Source], verb: &str, line: usize, known: &Known<'_>, found: &mut Found) {
    let Some(patterns) = known.ignored else { return };
    for source in sources {
        let Source::Path(path) = source else { continue };
        let plain = path.trim_start_matches("./").trim_start_matches('/');
        let is_remote = path.contains("://") || path.starts_with("git@");
        if !is_remote && !plain.is_empty() && !plain.contains(['$', '*', '?', '[']) && patterns.matches(plain)
        {
            found.warn(
                line,
                "CopyIgnoredFile",
                format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore"),
            );
        }
    }
}

fn secrets(step: &Step, found: &mut Found) {
    let names: Vec<&str> = match &step.instruction {
        Instruction::Env(pairs) => pairs.iter().map(|(name, _)| name.as_str()).collect(),
        Instruction::Arg(list) => list.iter().map(|argument| argument.name.as_str()).collect(),
        _ => return,
    };
    for name in names {
        let lower = name.to_lowercase();
        let mut parts = lower.split(['_', '-', '.']);
        let secret = parts.clone().any(|part| SECRET_WORDS.contains(&part) || part == "token");
        if secret && !parts.any(|part| part == "public") {
            let kind = step.instruction.name();
            found.warn(
                step.line,
                "SecretsUsedInArgOrEnv",
                format!("Do not use ARG or ENV instructions for sensitive data ({kind} {name:?})"),
            );
        }
    }
}

/// Warns of variables that nothing sets; returns what is set at the end, if the beginning was known.
fn undefined(
    file: &Dockerfile,
    stage: &Stage,
    start: Option<BTreeSet<String>>,
    found: &mut Found,
) -> Option<BTreeSet<String>> {
    let mut environment = start?;
    let mut arguments: BTreeSet<String> =
        crate::PROXY_VARIABLES.iter().map(|name| (*name).to_owned()).collect();
    arguments.extend(["PATH".to_owned()]);
    for step in &stage.steps {
        for text in expanded_texts(&step.instruction) {
            for name in used(text, file.escape) {
                if environment.contains(&name) || arguments.contains(&name) {
                    continue;
                }
                let all = environment.iter().chain(&arguments).map(String::as_str);
                let hint = suggest::nearest(&name, all)
                    .map_or_else(String::new, |meant| format!(" (did you mean ${meant}?)"));
                found.warn(step.line, "UndefinedVar", format!("Usage of undefined variable '${name}'{hint}"));
            }
        }
        match &step.instruction {
            Instruction::Env(pairs) => {
                environment.extend(pairs.iter().map(|(name, _)| words::unquote(name, file.escape)));
            }
            Instruction::Arg(list) => arguments.extend(list.iter().map(|argument| argument.name.clone())),
            _ => {}
        }
    }
    Some(environment)
}

/// The texts of an instruction in which variables are expanded.
fn expanded_texts(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            pairs.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect()
        }
        Instruction::Expose(list) | Instruction::Volume(list) => list.iter().map(String::as_str).collect(),
        Instruction::StopSignal(text) | Instruction::User(text) | Instruction::Workdir(text) => vec![text],
        Instruction::Arg(list) => list.iter().filter_map(|argument| argument.default.as_deref()).collect(),
        Instruction::Copy(given) => texts_of(given),
        Instruction::Add(given) => texts_of(&given.copy),
        _ => Vec::new(),
    }
}

fn texts_of(copy: &crate::Copy) -> Vec<&str> {
    let mut texts = Vec::new();
    for source in &copy.sources {
        if let Source::Path(path) = source {
            texts.push(path.as_str());
        }
    }
    texts.push(copy.target.as_str());
    texts.extend(copy.chown.as_deref());
    texts
}

/// The variables that a text uses, but those with a default.
fn used(text: &str, escape: char) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    let probe = |name: &str| {
        names.borrow_mut().push(name.to_owned());
        None
    };
    // A word that cannot be expanded is reported when it is.
    let outcome = crate::expand(text, &probe, escape);
    drop(outcome);
    let has_default = |name: &String| {
        [":-", "-", ":+", "+", ":?", "?"]
            .iter()
            .any(|operator| text.contains(&format!("${{{name}{operator}")))
    };
    names.into_inner().into_iter().filter(|name| !has_default(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<String> {
        let file = Dockerfile::parse(text).unwrap();
        let ignored = Patterns::parse("secret*").unwrap();
        let known = Known {
            ignored: Some(&ignored),
            variables: &|image| (image == "known").then(|| vec!["HOME=/".to_owned()]),
        };
        lint(&file, &known).into_iter().map(|warning| format!("{}:{}", warning.line, warning.rule)).collect()
    }

    #[test]
    fn each_rule() {
        for (text, expect) in [
            ("FROM scratch\nCMD [\"a\"]\n", &[][..]),
            ("FROM scratch\nrun x\nRUN y", &["2:ConsistentInstructionCasing"]),
            ("FROM scratch\nCOPY secret.txt /", &["2:CopyIgnoredFile"]),
            ("FROM a AS x\nFROM b AS x", &["2:DuplicateStageName"]),
            ("FROM a\nEXPOSE 1:2 3/TCP", &["2:ExposeInvalidFormat", "2:ExposeProtoCasing"]),
            ("FROM a as x", &["1:FromAsCasing"]),
            ("FROM --platform=linux/arm64 a", &["1:FromPlatformFlagConstDisallowed"]),
            ("ARG T\nFROM a:$T", &["2:InvalidDefaultArgInFrom"]),
            ("FROM a\nCMD x", &["2:JSONArgsRecommended"]),
            ("FROM a\nSHELL [\"x\"]\nCMD x", &[]),
            ("FROM a\nENV x y", &["2:LegacyKeyValueFormat"]),
            ("FROM a\nMAINTAINER x", &["2:MaintainerDeprecated"]),
            ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]", &["2:MultipleInstructionsDisallowed"]),
            ("FROM a\nRUN x \\\n\n y", &["3:NoEmptyContinuation"]),
            ("FROM --platform=$TARGETPLATFORM a", &["1:RedundantTargetPlatform"]),
            ("FROM a AS context", &["1:ReservedStageName"]),
            (
                "FROM a\nARG API_TOKEN\nENV DB_PASSWORD=x PUBLIC_KEY=y",
                &["2:SecretsUsedInArgOrEnv", "3:SecretsUsedInArgOrEnv"],
            ),
            ("FROM a AS Web", &["1:StageNameCasing"]),
            ("FROM a:$V", &["1:InvalidDefaultArgInFrom", "1:UndefinedArgInFrom"]),
            ("FROM scratch\nENV a=$b", &["2:UndefinedVar"]),
            ("FROM known\nENV a=$HOME b=${c:-d}\nARG e\nUSER $e", &[]),
            ("FROM unknown\nENV a=$b", &[]),
            ("FROM a\nWORKDIR x", &["2:WorkdirRelativePath"]),
            ("# check=skip=WorkdirRelativePath\nFROM a\nWORKDIR x", &[]),
            ("# check=skip=all\nFROM a as X\nWORKDIR x", &[]),
        ] {
            assert_eq!(rules(text), expect, "{text}");
        }
    }
}
