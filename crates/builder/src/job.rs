//! A build for one platform, from request to image: what is shared by its stages.

use crate::cache::{Answer, Cache};
use crate::error::{Error, Result};
use crate::evaluate::{Given, State};
use crate::exchange::Exchange;
use crate::graph::{Graph, graph};
use crate::many::chosen;
use crate::request::{Place, Request};
use crate::step::Desk;
use crate::worker::{Cancel, Event, Images, Progress, Worker};
use crate::{squash, stage};
use base::Timestamp;
use dockerfile::lint::{Known, lint};
use dockerfile::{Checks, Dockerfile};
use oci::{Descriptor, Platform};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The argument that fixes all times (reproducible-builds.org/specs/source-date-epoch).
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// The argument that stands for the file's own `# check=`.
const CHECKS: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// How far a stage is.
#[derive(Debug)]
enum Slot {
    Building,
    Done(Arc<State>),
    Failed,
}

/// What the jobs of a build have in common.
pub(crate) struct Shared<'a> {
    pub(crate) request: &'a Request,
    pub(crate) file: &'a Dockerfile,
    pub(crate) cache: &'a Cache,
    pub(crate) worker: &'a dyn Worker,
    pub(crate) images: &'a dyn Images,
    pub(crate) cancel: &'a Cancel,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) exchange: &'a Exchange,
    /// The latest time that anything may have (seconds since 1970).
    pub(crate) epoch: Option<i64>,
}

/// A build for one platform.
pub(crate) struct Job<'a> {
    shared: &'a Shared<'a>,
    /// The platform that was asked for.
    pub(crate) platform: Option<Platform>,
    pub(crate) given: Given,
    /// The bases of all stages, variables expanded.
    pub(crate) bases: Vec<String>,
    graph: Graph,
    slots: Mutex<BTreeMap<usize, Slot>>,
    changed: Condvar,
    /// The names of the stages.
    names: Vec<String>,
    /// What tells them from those of other platforms.
    prefix: String,
    /// How many steps come before, of other jobs.
    steps_before: usize,
    /// How many stages.
    stages_before: usize,
    /// How many steps all jobs have.
    total: usize,
}

impl<'a> Deref for Job<'a> {
    type Target = Shared<'a>;

    fn deref(&self) -> &Shared<'a> {
        self.shared
    }
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("graph", &self.graph).finish_non_exhaustive()
    }
}

/// Reads the Dockerfile; warnings fail the build if it says so itself (`# check=error=true`) or the argument does.
pub(crate) fn checked(request: &Request) -> Result<Dockerfile> {
    let mut file = Dockerfile::parse(&request.dockerfile)?;
    if let Some(Some(text)) = request.arguments.get(CHECKS) {
        file.checks = Checks::parse(text).map_err(Error::Invalid)?;
    }
    if file.checks.error {
        let found = lint(&file, &Known { ignored: None, variables: &|_image| None });
        let rules: BTreeSet<&str> = found.iter().map(|warning| warning.rule).collect();
        if !rules.is_empty() {
            let rules: Vec<&str> = rules.into_iter().collect();
            return Err(Error::Invalid(format!("lint violation found for rules: {}", rules.join(", "))));
        }
    }
    Ok(file)
}

pub(crate) fn epoch(request: &Request) -> Result<Option<i64>> {
    let text = request.arguments.get(EPOCH).cloned().flatten().filter(|text| !text.is_empty());
    let parse = |text: String| {
        text.parse()
            .map_err(|_error| Error::Invalid(format!("invalid {EPOCH}: {text:?} is no number of seconds")))
    };
    text.map(parse).transpose()
}

impl<'a> Job<'a> {
    /// Finds out what is to be built for a platform.
    ///
    /// # Errors
    ///
    /// What is wrong with arguments, bases and stages.
    pub(crate) fn new(shared: &'a Shared<'a>, platform: Option<Platform>, several: bool) -> Result<Self> {
        let Shared { request, file, .. } = shared;
        let target = platform.clone().unwrap_or_else(Platform::host);
        let given = Given::new(file, &request.arguments, &target, &request.target)?;
        let mut bases = Vec::new();
        for stage in &file.stages {
            bases.push(given.expand(&stage.base, file.escape).map_err(|message| Error::Step {
                line: stage.line,
                text: stage.text.clone(),
                message,
            })?);
        }
        let graph = graph(file, &request.target, &bases, &|name| request.contexts.contains_key(name))?;
        let name = |(index, stage): (usize, &dockerfile::Stage)| {
            stage.name.clone().unwrap_or_else(|| format!("stage-{index}"))
        };
        let slots = graph.needs.keys().map(|index| (*index, Slot::Building)).collect();
        Ok(Self {
            shared,
            given,
            bases,
            graph,
            slots: Mutex::new(slots),
            changed: Condvar::new(),
            names: file.stages.iter().enumerate().map(name).collect(),
            prefix: if several { format!("{target} ") } else { String::new() },
            platform,
            steps_before: 0,
            stages_before: 0,
            total: 0,
        })
    }

    /// Gives its steps and stages their numbers.
    pub(crate) fn number(&mut self, steps_before: usize, stages_before: usize, total: usize) {
        (self.steps_before, self.stages_before, self.total) = (steps_before, stages_before, total);
    }

    /// How many steps it has.
    pub(crate) fn steps(&self) -> usize {
        let stages = self.graph.needs.keys().filter_map(|index| self.file.stages.get(*index));
        stages.map(|stage| stage.steps.len() + 1).sum()
    }

    /// The platform it is for.
    pub(crate) fn platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }

    /// Builds everything.
    pub(crate) fn make(&self) -> Result<State> {
        let mut state = self.stages()?;
        if self.request.squash {
            self.squash(&mut state)?;
        }
        Ok(state)
    }
}

impl Job<'_> {
    /// Builds all stages at once; each waits for those it needs.
    fn stages(&self) -> Result<State> {
        let first_error: Mutex<Option<Error>> = Mutex::default();
        std::thread::scope(|scope| {
            for index in self.graph.needs.keys().copied() {
                let first_error = &first_error;
                let work = move || {
                    // The parsers of archives are others' code: one that panics ends the build, not the waiting for it.
                    let guarded = std::panic::AssertUnwindSafe(|| stage::build(self, index));
                    let outcome = std::panic::catch_unwind(guarded).unwrap_or_else(|_panic| {
                        Err(Error::Invalid("the builder failed; see the daemon's log".to_owned()))
                    });
                    let slot = match outcome {
                        Ok(state) => Slot::Done(Arc::new(state)),
                        Err(error) => {
                            let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                            // What came of the first failure says nothing.
                            if first.as_ref().is_none_or(|first| matches!(first, Error::Cancelled)) {
                                *first = Some(error);
                            }
                            drop(first);
                            self.cancel.cancel();
                            Slot::Failed
                        }
                    };
                    self.slots.lock().unwrap_or_else(PoisonError::into_inner).insert(index, slot);
                    self.changed.notify_all();
                };
                let thread = std::thread::Builder::new().name(format!("stage {index}"));
                if let Err(source) = thread.spawn_scoped(scope, work) {
                    let error = Error::File { operation: "start", path: "a thread".to_owned(), source };
                    *first_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    self.cancel.cancel();
                    self.slots.lock().unwrap_or_else(PoisonError::into_inner).insert(index, Slot::Failed);
                    self.changed.notify_all();
                }
            }
        });
        if let Some(error) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let state = self.wait(self.graph.target)?;
        Ok(State::clone(&state))
    }

    /// Waits for another stage.
    pub(crate) fn wait(&self, stage: usize) -> Result<Arc<State>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match slots.get(&stage) {
                Some(Slot::Done(state)) => return Ok(Arc::clone(state)),
                Some(Slot::Building) => {}
                Some(Slot::Failed) | None => return Err(Error::Cancelled),
            }
            self.cancel.check()?;
            let patience = Duration::from_millis(200);
            slots = self.changed.wait_timeout(slots, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The number of a stage's first step.
    pub(crate) fn first_step(&self, index: usize) -> usize {
        let before = self.graph.needs.keys().take_while(|other| **other < index);
        let steps =
            before.filter_map(|other| self.file.stages.get(*other)).map(|stage| stage.steps.len() + 1);
        self.steps_before + steps.sum::<usize>() + 1
    }

    /// Tells that a step begins.
    pub(crate) fn begin(&self, stage: usize, step: usize, text: &str) {
        let name = self.shown_name(stage);
        let stage = self.stages_before + stage;
        self.tell(Event::Begin { step, total: self.total, stage, name, text: text.to_owned() });
    }

    pub(crate) fn tell(&self, event: Event) {
        self.progress.tell(event);
    }

    /// The name of a stage.
    pub(crate) fn stage_name(&self, stage: usize) -> &str {
        self.names.get(stage).map_or("", String::as_str)
    }

    /// The name of a stage among those of all platforms.
    pub(crate) fn shown_name(&self, stage: usize) -> String {
        format!("{}{}", self.prefix, self.stage_name(stage))
    }

    /// Writes a time as images have it; none is later than the fixed one.
    pub(crate) fn time(&self, seconds: i64) -> String {
        let seconds = self.epoch.map_or(seconds, |epoch| epoch.min(seconds));
        Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000)).to_string()
    }

    /// The time of the last step that had one: a step that changes no files has none of its own, so that the same
    /// build gives the same image.
    pub(crate) fn last_time(&self, state: &State) -> String {
        let last = state.config.history.iter().rev().find_map(|step| step.created.clone());
        last.or_else(|| state.config.created.clone()).unwrap_or_else(|| self.time(0))
    }

    /// Makes one layer of those that the build made.
    fn squash(&self, state: &mut State) -> Result<()> {
        let keep = state.base_layers;
        let own = state.config.rootfs.diff_ids.split_off(keep.min(state.config.rootfs.diff_ids.len()));
        state.layers.truncate(keep);
        let desk = Desk::new(self.cache.store())?;
        let upper = desk.upper();
        let into = File::open(&upper).map_err(Error::file("open", &upper))?;
        for diff_id in &own {
            let layer = self
                .cache
                .store()
                .layers()
                .get(diff_id)?
                .ok_or_else(|| store::Error::NoBlob(diff_id.clone()))?;
            let folder = File::open(&layer.path).map_err(Error::file("open", &layer.path))?;
            squash::merge(folder.as_fd(), into.as_fd(), 0)?;
        }
        drop(into);
        for step in state.config.history.iter_mut().rev().filter(|step| !step.empty_layer).take(own.len()) {
            step.empty_layer = true;
        }
        if let Some(kept) = self.adopt(&desk)? {
            state.config.rootfs.diff_ids.push(kept.diff_id);
            state.layers.push(kept.archive);
            let created = self.last_time(state);
            state.note(&created, format!("squash {} layers", own.len()), false);
        }
        Ok(())
    }

    /// Makes the image; it is stored, not recorded.
    pub(crate) fn finish(&self, state: &State) -> Result<Descriptor> {
        let mut config = state.config.clone();
        config.config.labels.extend(self.request.labels.clone());
        let never = self.time(0);
        let last = config.history.iter().rev().find_map(|step| step.created.clone());
        let created = match (self.epoch, last) {
            (Some(epoch), _) => self.time(epoch),
            (None, Some(last)) if last != never => last,
            (None, _) => self.first_time(&config)?,
        };
        for step in config.history.iter_mut().filter(|step| step.created.as_ref() == Some(&never)) {
            step.created = Some(created.clone());
        }
        config.created = Some(created);
        self.inline(state, &mut config)?;
        let annotations = chosen(&self.request.annotations, Place::Manifest, Some(&self.platform()));
        Ok(self.cache.store().put_image(&config, state.layers.clone(), annotations)?)
    }

    /// When an image of metadata on nothing was first made.
    fn first_time(&self, config: &oci::ImageConfig) -> Result<String> {
        let text = serde_json::to_vec(config).map_err(|error| Error::Invalid(error.to_string()))?;
        let key = oci::Digest::sha256_of(&text).hex().to_owned();
        let found = match self.cache.ask(&key, self.request.no_cache, self.cancel)? {
            Answer::Here(found) => found,
            Answer::Work(claim) => self.cache.keep(&claim, "image", Vec::new(), None)?,
        };
        Ok(self.time(found.created))
    }
}

/// Build arguments that no stage declares.
pub(crate) fn unused(request: &Request, file: &Dockerfile) -> Vec<String> {
    let all = file.stages.iter().flat_map(|stage| &stage.steps).chain(&file.arguments);
    let mut declared: Vec<&str> = Vec::new();
    for step in all {
        if let dockerfile::Instruction::Arg(list) = &step.instruction {
            declared.extend(list.iter().map(|argument| argument.name.as_str()));
        }
    }
    let known = |name: &str| {
        declared.contains(&name)
            || dockerfile::PROXY_VARIABLES.contains(&name)
            || name.starts_with("BUILDKIT_")
            || name == EPOCH
    };
    request.arguments.keys().filter(|name| !known(name)).cloned().collect()
}
