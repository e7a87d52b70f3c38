//! Which stages are built, and which waits for which. Pure.

use crate::error::{Error, Result};
use dockerfile::{Dockerfile, Instruction, Mount, MountKind};
use std::collections::{BTreeMap, BTreeSet};

/// Where the name after `from` leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A stage of the file.
    Stage(usize),
    /// A context that was given a name.
    Context(String),
    /// An image.
    Image(String),
}

/// The stages to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Graph {
    /// The one whose result counts.
    pub(crate) target: usize,
    /// The needed stages, in the file's order, each with those that it needs itself.
    pub(crate) needs: BTreeMap<usize, BTreeSet<usize>>,
}

/// Resolves the name of a `--from`: a stage by name or number, a context, else an image.
pub(crate) fn origin(file: &Dockerfile, name: &str, contexts: &dyn Fn(&str) -> bool) -> Result<Origin> {
    if let Some(index) = file.stage(name, file.stages.len()) {
        return Ok(Origin::Stage(index));
    }
    if contexts(name) {
        return Ok(Origin::Context(name.to_owned()));
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Invalid(format!(
            "invalid from flag value {name}: invalid stage index {name}: there are {} stages",
            file.stages.len()
        )));
    }
    Ok(Origin::Image(name.to_owned()))
}

/// Finds what the stage `target` (the last one if empty) needs.
///
/// `bases` are the bases of all stages with their variables expanded; `triggers` what base images add is not known yet
/// and found when they are looked at.
///
/// # Errors
///
/// An unknown target, a cycle.
pub(crate) fn graph(
    file: &Dockerfile,
    target: &str,
    bases: &[String],
    contexts: &dyn Fn(&str) -> bool,
) -> Result<Graph> {
    let last = file.stages.len().saturating_sub(1);
    let target = match target {
        "" => last,
        name => file.stage(name, file.stages.len()).ok_or_else(|| {
            let names = file.stages.iter().filter_map(|stage| stage.name.as_deref());
            let hint = dockerfile::nearest(name, names)
                .map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"));
            Error::Invalid(format!("target stage {name:?} could not be found{hint}"))
        })?,
    };
    let mut direct: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut pending = vec![target];
    while let Some(index) = pending.pop() {
        if direct.contains_key(&index) {
            continue;
        }
        let needs = needs(file, index, bases, contexts)?;
        pending.extend(&needs);
        direct.insert(index, needs);
    }
    if let Some(stage) = in_cycle(&direct) {
        let name =
            file.stages.get(stage).and_then(|stage| stage.name.clone()).unwrap_or_else(|| stage.to_string());
        return Err(Error::Invalid(format!("circular dependency detected on stage: {name}")));
    }
    Ok(Graph { target, needs: direct })
}

/// The stages that one needs directly.
fn needs(
    file: &Dockerfile,
    index: usize,
    bases: &[String],
    contexts: &dyn Fn(&str) -> bool,
) -> Result<BTreeSet<usize>> {
    let mut needs = BTreeSet::new();
    let Some(stage) = file.stages.get(index) else { return Ok(needs) };
    if let Some(base) = bases.get(index).and_then(|base| base_stage(file, base, index)) {
        needs.insert(base);
    }
    for step in &stage.steps {
        let mut names: Vec<String> = Vec::new();
        match &step.instruction {
            Instruction::Copy(copy) => names.extend(copy.from.clone()),
            Instruction::Run(run) => {
                for mount in run.mounts.iter().filter_map(|mount| Mount::parse(mount).ok()) {
                    if let MountKind::Bind { from: Some(from), .. }
                    | MountKind::Cache { from: Some(from), .. } = mount.kind
                    {
                        names.push(from);
                    }
                }
            }
            _ => {}
        }
        for name in names {
            let failed = |message: String| Error::Step { line: step.line, text: step.text.clone(), message };
            match origin(file, &name, contexts).map_err(|error| failed(error.to_string()))? {
                Origin::Stage(other) => drop(needs.insert(other)),
                Origin::Context(_) | Origin::Image(_) => {}
            }
        }
    }
    Ok(needs)
}

/// The stage that a base means: an earlier one of that name, never a number.
pub(crate) fn base_stage(file: &Dockerfile, base: &str, index: usize) -> Option<usize> {
    let found = file.stage(base, index)?;
    file.stages.get(found)?.name.is_some().then_some(found).filter(|_| base.parse::<usize>().is_err())
}

/// Returns a stage that needs itself, through whatever others.
fn in_cycle(direct: &BTreeMap<usize, BTreeSet<usize>>) -> Option<usize> {
    let mut done: BTreeSet<usize> = BTreeSet::new();
    loop {
        let ready: Vec<usize> = direct
            .iter()
            .filter(|(index, needs)| !done.contains(index) && needs.is_subset(&done))
            .map(|(index, _)| *index)
            .collect();
        if ready.is_empty() {
            return direct.keys().copied().find(|index| !done.contains(index));
        }
        done.extend(ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(text: &str, target: &str) -> Result<Vec<usize>, String> {
        let file = Dockerfile::parse(text).unwrap();
        let bases: Vec<String> = file.stages.iter().map(|stage| stage.base.clone()).collect();
        graph(&file, target, &bases, &|name| name == "ctx")
            .map(|graph| graph.needs.keys().copied().collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_is_needed_is_built() {
        let file = "FROM i AS a\nFROM i AS b\nFROM a AS c\nCOPY --from=b x y\nFROM i AS d\nRUN --mount=from=c,target=/c x\n";
        for (target, expect) in [("", &[0, 1, 2, 3][..]), ("a", &[0]), ("C", &[0, 1, 2]), ("1", &[1])] {
            assert_eq!(stages(file, target).unwrap(), expect, "{target}");
        }
        assert_eq!(
            stages(file, "aa").unwrap_err(),
            "target stage \"aa\" could not be found (did you mean a?)"
        );
        assert_eq!(stages("FROM i\nCOPY --from=ctx a b\nCOPY --from=image c d", "").unwrap(), [0]);
    }

    #[test]
    fn cycles_and_unknown_numbers_are_told() {
        let cycle = "FROM i AS a\nCOPY --from=b x y\nFROM a AS b\n";
        assert_eq!(stages(cycle, "").unwrap_err(), "circular dependency detected on stage: a");
        let own = "FROM i AS a\nCOPY --from=a x y\n";
        assert_eq!(stages(own, "").unwrap_err(), "circular dependency detected on stage: a");
        let error = stages("FROM i\nCOPY --from=7 x y", "").unwrap_err();
        assert_eq!(
            error,
            "invalid from flag value 7: invalid stage index 7: there are 1 stages\n2 | COPY --from=7 x y"
        );
    }
}
