//! What a Dockerfile offers to whoever builds it: its targets, and what one of them takes (`docker build --call`).
//!
//! A comment right above an instruction that begins with the name of the stage or argument describes it.

use crate::expand;
use crate::instruction::{Argument, Instruction, Mount, MountKind, Stage};
use crate::parse::Dockerfile;
use std::collections::{BTreeMap, BTreeSet};

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What a comment says of it; empty for nothing.
    pub description: String,
    /// Whether it is the one that is built if none is named.
    pub is_default: bool,
    /// What it is made of.
    pub base: String,
    /// The platform of its `FROM`.
    pub platform: Option<String>,
}

/// An argument that a target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Its value if nothing else is given.
    pub value: String,
    /// What a comment says of it; empty for nothing.
    pub description: String,
}

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The stage.
    pub target: Target,
    /// Arguments, in the file's order.
    pub arguments: Vec<Taken>,
    /// Secrets by name, and whether they must be given.
    pub secrets: BTreeMap<String, bool>,
    /// Agents by name, and whether they must be given.
    pub agents: BTreeMap<String, bool>,
}

/// Lists the stages of a file; `text` is what it was read from.
pub fn targets(file: &Dockerfile, text: &str) -> Vec<Target> {
    (0..file.stages.len()).filter_map(|index| target(file, text, index)).collect()
}

fn target(file: &Dockerfile, text: &str, index: usize) -> Option<Target> {
    let stage = file.stages.get(index)?;
    let name = stage.name.as_deref();
    Some(Target {
        name: stage.name.clone(),
        description: name.map_or_else(String::new, |name| described(text, stage.line, name)),
        is_default: index + 1 == file.stages.len(),
        base: stage.base.clone(),
        platform: stage.platform.clone(),
    })
}

/// Finds what the stage `name` (the last one if empty) and those it needs take; `given` are arguments with a value.
/// `None` if there is no such stage.
pub fn outline(
    file: &Dockerfile,
    text: &str,
    name: &str,
    given: &BTreeMap<String, Option<String>>,
) -> Option<Outline> {
    let index = match name {
        "" => file.stages.len().checked_sub(1)?,
        name => file.stage(name, file.stages.len())?,
    };
    let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
    let mut taker = Taker { text, escape: file.escape, given, values: BTreeMap::new(), taken: Vec::new() };
    file.arguments.iter().for_each(|step| taker.instruction(&step.instruction, step.line, true));
    for stage in needed(file, index).into_iter().filter_map(|index| file.stages.get(index)) {
        for step in &stage.steps {
            taker.instruction(&step.instruction, step.line, false);
            for mount in mounts(&step.instruction) {
                match mount.kind {
                    MountKind::Secret { id, required, .. } => *secrets.entry(id).or_insert(false) |= required,
                    MountKind::Ssh { id, required, .. } => *agents.entry(id).or_insert(false) |= required,
                    MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => {}
                }
            }
        }
    }
    Some(Outline { target: target(file, text, index)?, arguments: taker.taken, secrets, agents })
}

/// Gathers arguments.
struct Taker<'a> {
    text: &'a str,
    escape: char,
    given: &'a BTreeMap<String, Option<String>>,
    /// What is known of values so far.
    values: BTreeMap<String, String>,
    taken: Vec<Taken>,
}

impl Taker<'_> {
    fn instruction(&mut self, instruction: &Instruction, line: usize, is_global: bool) {
        let Instruction::Arg(arguments) = instruction else { return };
        for Argument { name, default } in arguments {
            let values = &self.values;
            let lookup = |name: &str| values.get(name).cloned();
            let own = default.as_ref().map(|text| expand(text, &lookup, self.escape).unwrap_or_default());
            let value = match self.given.get(name) {
                Some(Some(value)) => value.clone(),
                // An argument before the first stage is what a stage's own has without a default.
                _ => own.or_else(|| values.get(name).cloned()).unwrap_or_default(),
            };
            let description = described(self.text, line, name);
            match self.taken.iter_mut().find(|taken| taken.name == *name) {
                Some(taken) => {
                    if taken.description.is_empty() {
                        taken.description = description;
                    }
                    if !is_global && !value.is_empty() {
                        taken.value.clone_from(&value);
                    }
                }
                None => self.taken.push(Taken { name: name.clone(), value: value.clone(), description }),
            }
            self.values.insert(name.clone(), value);
        }
    }
}

fn mounts(instruction: &Instruction) -> Vec<Mount> {
    match instruction {
        Instruction::Run(run) => run.mounts.iter().filter_map(|mount| Mount::parse(mount).ok()).collect(),
        _ => Vec::new(),
    }
}

/// The stage and all that it needs, in the file's order.
fn needed(file: &Dockerfile, index: usize) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut pending = vec![index];
    while let Some(index) = pending.pop() {
        let Some(stage) = file.stages.get(index).filter(|_| needed.insert(index)) else { continue };
        pending.extend(file.stage(&stage.base, index).filter(|_| !is_number(&stage.base)));
        pending.extend(from(stage).iter().filter_map(|name| file.stage(name, file.stages.len())));
    }
    needed
}

/// `FROM` takes names alone.
fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a stage's instructions name after `from`.
fn from(stage: &Stage) -> Vec<String> {
    let mut names = Vec::new();
    for step in &stage.steps {
        if let Instruction::Copy(copy) = &step.instruction {
            names.extend(copy.from.clone());
        }
        names.extend(mounts(&step.instruction).into_iter().filter_map(|mount| match mount.kind {
            MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => from,
            MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
        }));
    }
    names
}

/// What the comments right above a line say of a name.
fn described(text: &str, line: usize, name: &str) -> String {
    let above: Vec<&str> = text.lines().take(line.saturating_sub(1)).collect();
    let comments = above.iter().rev().map_while(|line| line.trim_start().strip_prefix('#'));
    let comments: Vec<&str> = comments.map(str::trim).collect();
    let found = comments.iter().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# syntax=x\n# VERSION of the base\nARG VERSION=3\nARG NONE\n\n# tools what others need\nFROM busybox:$VERSION AS tools\n# WHO asks\nARG WHO=me-$VERSION\nRUN --mount=type=secret,id=key,required true\n\n# not this one\n\nFROM busybox AS other\nARG OTHER=1\nRUN --mount=type=ssh true\nFROM scratch AS app\nARG VERSION\nCOPY --from=tools / /\n";

    #[test]
    fn targets_are_listed() {
        let file = Dockerfile::parse(FILE).unwrap();
        let shown: Vec<String> = targets(&file, FILE)
            .iter()
            .map(|it| format!("{:?} {:?} {} {}", it.name.as_deref(), it.description, it.is_default, it.base))
            .collect();
        assert_eq!(
            shown,
            [
                "Some(\"tools\") \"what others need\" false busybox:$VERSION",
                "Some(\"other\") \"\" false busybox",
                "Some(\"app\") \"\" true scratch",
            ]
        );
    }

    #[test]
    fn an_outline_has_what_the_target_takes() {
        let file = Dockerfile::parse(FILE).unwrap();
        let given = BTreeMap::from([("NONE".to_owned(), Some("n".to_owned()))]);
        let shown = |name: &str| {
            let outline = outline(&file, FILE, name, &given).unwrap();
            let arguments: Vec<String> = outline
                .arguments
                .iter()
                .map(|it| format!("{}={} {}", it.name, it.value, it.description))
                .collect();
            format!("{} secrets {:?} agents {:?}", arguments.join(","), outline.secrets, outline.agents)
        };
        assert_eq!(
            shown(""),
            "VERSION=3 of the base,NONE=n ,WHO=me-3 asks secrets {\"key\": true} agents {}"
        );
        assert_eq!(
            shown("other"),
            "VERSION=3 of the base,NONE=n ,OTHER=1  secrets {} agents {\"default\": false}"
        );
        assert!(outline(&file, FILE, "none", &given).is_none());
    }
}
