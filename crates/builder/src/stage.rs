//! One stage: its base, then its instructions one after the other.

use crate::error::{Error, Result};
use crate::evaluate::State;
use crate::graph::{Origin, base_stage, origin};
use crate::job::Job;
use crate::request::{Context, Named};
use crate::step::Tree;
use crate::worker::Event;
use dockerfile::{Copy, Instruction, Source, Step};
use std::path::PathBuf;

/// A step being carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    /// The stage, by number.
    pub(crate) stage: usize,
    /// The step's number over all stages.
    pub(crate) number: usize,
    pub(crate) step: &'a Step,
}

impl At<'_> {
    /// Says where in the file an error happened; those that say so themselves, or need not, stay as they are.
    pub(crate) fn place(&self, error: Error) -> Error {
        let name = self.step.instruction.name();
        let message = match error {
            Error::Invalid(message) | Error::Worker { message, .. } => message,
            Error::NotFound(message) => format!("{name} failed: {message}"),
            error @ Error::File { .. } => format!("{name} failed: {}", base::chain(&error)),
            other => return other,
        };
        Error::Step { line: self.step.line, text: self.step.text.clone(), message }
    }
}

/// Builds a stage.
///
/// # Errors
///
/// The first thing that goes wrong.
pub(crate) fn build(job: &Job<'_>, index: usize) -> Result<State> {
    let stage =
        job.file.stages.get(index).ok_or_else(|| Error::Invalid(format!("there is no stage {index}")))?;
    let first = job.first_step(index);
    job.begin(index, first, &stage.text);
    let mut state = base(job, index).map_err(|error| match error {
        Error::Invalid(message) => Error::Step { line: stage.line, text: stage.text.clone(), message },
        other => other,
    })?;
    let triggers = state.take_triggers();
    if !triggers.is_empty() {
        let plural = if triggers.len() == 1 { "" } else { "s" };
        job.tell(Event::Note {
            step: first,
            text: format!("# Executing {} build trigger{plural}\n", triggers.len()),
        });
    }
    for text in triggers {
        let step = dockerfile::parse_trigger(&text).map_err(|message| {
            Error::Invalid(format!("ONBUILD trigger {text:?} of the base image: {message}"))
        })?;
        one(job, At { stage: index, number: first, step: &step }, &mut state)?;
    }
    job.tell(Event::End { step: first, id: id_of(&state) });
    for (offset, step) in stage.steps.iter().enumerate() {
        let number = first + 1 + offset;
        job.begin(index, number, &step.text);
        one(job, At { stage: index, number, step }, &mut state)?;
        job.tell(Event::End { step: number, id: id_of(&state) });
    }
    Ok(state)
}

/// What tells a state from others.
fn id_of(state: &State) -> String {
    let mut text = serde_json::to_vec(&state.config.config).unwrap_or_default();
    for diff_id in &state.config.rootfs.diff_ids {
        text.extend(diff_id.to_string().bytes());
    }
    oci::Digest::sha256_of(&text).short().to_owned()
}

fn base(job: &Job<'_>, index: usize) -> Result<State> {
    let stage = job.file.stages.get(index).ok_or(Error::Cancelled)?;
    let escape = job.file.escape;
    let name = job.bases.get(index).cloned().unwrap_or_default();
    let platform = match &stage.platform {
        None => None,
        Some(text) => {
            let text = job.given.expand(text, escape).map_err(Error::Invalid)?;
            let parsed = oci::Platform::parse(&text).map_err(|error| Error::Invalid(error.to_string()))?;
            Some(parsed)
        }
    };
    let platform = platform.or_else(|| job.platform.clone());
    if let Some(earlier) = base_stage(job.file, &name, index) {
        let earlier = job.wait(earlier)?;
        let mut state = State::on(earlier.config.clone(), earlier.layers.clone(), escape);
        state.base_layers = earlier.base_layers;
        return Ok(state);
    }
    let image = match job.request.contexts.get(&name) {
        Some(Named::Image(image)) => image.clone(),
        Some(Named::Folder(context)) => {
            return folder(job, index, &platform.unwrap_or_else(oci::Platform::host), context);
        }
        None if name == "scratch" => {
            let platform = platform.unwrap_or_else(oci::Platform::host);
            return Ok(State::scratch(&platform, escape));
        }
        None if name.is_empty() => {
            return Err(Error::Invalid(format!("base name ({}) should not be blank", stage.base)));
        }
        None => name,
    };
    let image = job.images.find(&image, platform.as_ref())?;
    let mut config = oci::ImageConfig::clone(&image.config);
    config.rootfs.diff_ids.clone_from(&image.diff_ids);
    Ok(State::on(config, image.document.layers.clone(), escape))
}

/// Begins with the files of a folder, as `BuildKit` does where a context that is no image is a base.
fn folder(job: &Job<'_>, index: usize, platform: &oci::Platform, context: &Context) -> Result<State> {
    let stage = job.file.stages.get(index).ok_or(Error::Cancelled)?;
    let mut state = State::scratch(platform, job.file.escape);
    let copy =
        Copy { sources: vec![Source::Path(".".to_owned())], target: "/".to_owned(), ..Copy::default() };
    let step = Step {
        instruction: Instruction::Copy(copy.clone()),
        text: stage.text.clone(),
        line: stage.line,
        last_line: stage.line,
    };
    let at = At { stage: index, number: job.first_step(index), step: &step };
    job.copy_all(at, &copy, context.clone(), &mut state)?;
    state.base_layers = state.layers.len();
    Ok(state)
}

/// Carries out one instruction.
fn one(job: &Job<'_>, at: At<'_>, state: &mut State) -> Result<()> {
    job.cancel.check()?;
    let outcome = match &at.step.instruction {
        Instruction::Run(run) => job.run(at, run, state),
        Instruction::Copy(copy) => job.copy(at, copy, None, state),
        Instruction::Add(add) => job.copy(at, &add.copy, Some(add), state),
        Instruction::Workdir(_) => state
            .apply(&at.step.instruction, &job.given)
            .map_err(Error::Invalid)
            .and_then(|()| job.workdir(at, state)),
        other => {
            let applied = state.apply(other, &job.given).map_err(Error::Invalid);
            if applied.is_ok() {
                let created = job.last_time(state);
                state.note(&created, at.step.text.clone(), true);
            }
            applied
        }
    };
    outcome.map_err(|error| at.place(error))
}

impl Job<'_> {
    /// Returns the tree that a `--from` means; without one the build context.
    pub(crate) fn tree(&self, from: Option<&str>) -> Result<Tree> {
        let Some(from) = from else {
            let context = self.request.context.as_ref();
            let folder = context.ok_or_else(|| {
                Error::NotFound(
                    "there is no build context: give a folder instead of a Dockerfile alone".to_owned(),
                )
            })?;
            return Ok(Tree::Folder(folder.clone()));
        };
        let contexts = |name: &str| self.request.contexts.contains_key(name);
        let image = match origin(self.file, from, &contexts)? {
            Origin::Stage(index) => {
                let state = self.wait(index)?;
                return Ok(Tree::Layers(state.config.rootfs.diff_ids.clone()));
            }
            Origin::Context(name) => match self.request.contexts.get(&name) {
                Some(Named::Folder(context)) => return Ok(Tree::Folder(context.clone())),
                Some(Named::Image(image)) => image.clone(),
                None => name,
            },
            Origin::Image(name) => name,
        };
        if image == "scratch" {
            return Ok(Tree::Layers(Vec::new()));
        }
        let image = self.images.find(&image, self.platform.as_ref())?;
        Ok(Tree::Layers(image.diff_ids))
    }

    /// The directories of layers, topmost first; a layer without anything is one, too.
    pub(crate) fn lower(&self, diff_ids: &[oci::Digest]) -> Result<Vec<PathBuf>> {
        Ok(self.cache.store().layers().lower_dirs(diff_ids)?)
    }
}
