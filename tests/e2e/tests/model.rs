//! A model of what containers there are and how they fare, against an engine whose daemon and supervisors are killed at
//! random moments while several clients work: afterwards model and world agree, and nothing is left.
//!
//! An operation that was cut off leaves the model with several states that may be; what is found then is one of them. The
//! choice is replayable as far as the machine's timing goes: the seed is printed, `WHARF_SEED` sets it, and `WHARF_ROUNDS`
//! makes it longer.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::random::{Random, number};
use testkit::{Engine, Output};

/// When the test began.
static BEGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

/// How a container fares, as `inspect` says it; `None` is one that is not there.
type State = Option<&'static str>;

const CREATED: State = Some("created");
const RUNNING: State = Some("running");
const PAUSED: State = Some("paused");
const EXITED: State = Some("exited");

/// What can be done with a container in a state: the command, the state after it, and those that may be found if it was
/// cut off (besides the states before and after).
type Step = (&'static [&'static str], State, &'static [State]);

fn steps(state: State) -> &'static [Step] {
    const CREATE: Step =
        (&["create", "-v", "/data", "--name", "NAME", "busybox", "sleep", "1000"], CREATED, &[]);
    const RUN: Step = (
        &["run", "-d", "-v", "/data", "--name", "NAME", "busybox", "sleep", "1000"],
        RUNNING,
        &[CREATED, EXITED],
    );
    const START: Step = (&["start", "NAME"], RUNNING, &[EXITED]);
    const REMOVE: Step = (&["rm", "-f", "-v", "NAME"], None, &[EXITED]);
    match state {
        None => &[CREATE, RUN, RUN],
        Some("running") => &[
            (&["stop", "-t", "0", "NAME"], EXITED, &[]),
            (&["kill", "NAME"], EXITED, &[]),
            (&["restart", "-t", "0", "NAME"], RUNNING, &[EXITED]),
            (&["pause", "NAME"], PAUSED, &[]),
            (&["exec", "NAME", "true"], RUNNING, &[]),
            (&["update", "--cpu-shares", "512", "NAME"], RUNNING, &[]),
            REMOVE,
        ],
        Some("paused") => &[(&["unpause", "NAME"], RUNNING, &[]), REMOVE],
        _ => &[START, START, REMOVE],
    }
}

/// One container of the model.
#[derive(Debug)]
struct Model {
    name: String,
    may_be: BTreeSet<State>,
    /// What was done with it, for the message of a failure.
    history: Vec<String>,
}

impl Model {
    fn new(name: String) -> Self {
        Self { name, may_be: BTreeSet::from([None]), history: Vec::new() }
    }

    /// Adds a line to the history, with the time since the test's begin.
    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.history.push(format!("{:.3} {what}", BEGIN.elapsed().as_secs_f64()));
    }

    /// Does something with the container; returns what went wrong though it should not have.
    fn step(&mut self, engine: &Engine, random: &mut Random) -> Option<String> {
        let mut states = self.may_be.iter();
        let (Some(state), None) = (states.next().copied(), states.next()) else { return None };
        let all = steps(state);
        let (words, after, between) = all.get(random.below(all.len())).expect("a step");
        let words: Vec<&str> =
            words.iter().map(|word| if *word == "NAME" { self.name.as_str() } else { word }).collect();
        let words = words.join(" ");
        self.note(format_args!("from {state:?}: {words}"));
        let output = engine.wharf(&words.split(' ').collect::<Vec<_>>());
        self.note(format_args!("exit code {} {}", output.code, output.stderr.trim()));
        if output.code == 0 {
            self.may_be = BTreeSet::from([*after]);
            return None;
        }
        self.may_be.insert(*after);
        self.may_be.extend(between.iter().copied());
        Some(format!("{words}: {}", output.stderr))
    }

    /// Finds out what has become of it, which must be one of what may be.
    fn settle(&mut self, engine: &Engine) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = loop {
            let seen = engine.wharf(&["inspect", "-f", "{{.State.Status}}", &self.name]);
            if let Some(found) = self.may_be.iter().copied().find(|state| self.agrees(engine, *state, &seen))
            {
                break found;
            }
            assert!(
                Instant::now() < deadline,
                "{} is not one of {:?} but {seen:?} after {:#?}",
                self.name,
                self.may_be,
                self.history
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        self.note(format_args!("found to be {found:?}"));
        self.may_be = BTreeSet::from([found]);
        if found == RUNNING {
            assert!(!supervisors(engine).is_empty(), "no supervisor is found");
        }
    }

    /// Says whether what `inspect` answered means a state.
    fn agrees(&self, engine: &Engine, state: State, seen: &Output) -> bool {
        let says = |output: &Output, word: &str| output.code == 0 && output.stdout.trim() == word;
        match state {
            None => seen.code != 0 && seen.stderr.contains("No such"),
            // One whose supervisor was killed just now is told to run, or to be paused, for a moment: what only the
            // supervisor can do tells.
            RUNNING => says(seen, "running") && engine.wharf(&["exec", &self.name, "true"]).code == 0,
            PAUSED => {
                says(seen, "paused")
                    && engine.wharf(&["update", "--cpu-shares", "512", &self.name]).code == 0
                    && says(&engine.wharf(&["inspect", "-f", "{{.State.Status}}", &self.name]), "paused")
            }
            Some(word) => says(seen, word),
        }
    }
}

/// Returns the supervisors' process ids.
fn supervisors(engine: &Engine) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|word| word.starts_with(b"wharf: "))
    };
    engine.namespaces().processes().into_iter().filter(is_one).collect()
}

fn kill(pid: &str) {
    drop(Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status());
}

#[test]
fn model_and_world_agree_after_deaths() {
    let mut engine = Engine::with_busybox();
    let seed = number("WHARF_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x5bd1);
    let rounds = number("WHARF_ROUNDS").unwrap_or(100);
    drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("WHARF_SEED={seed}\n")));
    let mut random = Random::new(seed);
    // Each client has containers of its own, so that the model knows their order.
    let mut clients: Vec<Vec<Model>> = (0..3)
        // Not hexadecimal: "c11" would also mean another's id that begins so.
        .map(|client| (0..2).map(|number| Model::new(format!("model-{client}-{number}"))).collect())
        .collect();
    for round in 0..rounds {
        let moment = Duration::from_millis(u64::try_from(random.below(600)).expect("a number"));
        let deed = random.below(4);
        let seeds: Vec<u64> =
            clients.iter().map(|_| u64::try_from(random.below(1 << 40)).expect("a number") | 1).collect();
        let victim = random.below(1000);
        let failures: Vec<String> = std::thread::scope(|scope| {
            let engine = &engine;
            let working: Vec<_> = clients
                .iter_mut()
                .zip(seeds)
                .map(|(models, seed)| {
                    scope.spawn(move || {
                        let mut random = Random::new(seed);
                        let mut failures = Vec::new();
                        for _ in 0..3 {
                            let place = random.below(models.len());
                            failures
                                .extend(models.get_mut(place).expect("a model").step(engine, &mut random));
                        }
                        failures
                    })
                })
                .collect();
            std::thread::sleep(moment);
            match deed {
                0 => {}
                1 => {
                    let all = supervisors(engine);
                    if let Some(pid) = all.get(victim % all.len().max(1)) {
                        kill(&pid.to_string());
                    }
                }
                _ => kill(std::fs::read_to_string(engine.folder().join("pid")).expect("the pid file").trim()),
            }
            working.into_iter().flat_map(|client| client.join().expect("a client")).collect()
        });
        for model in clients.iter_mut().flatten() {
            model.note(format_args!("round {round}, deed {deed} after {moment:?}"));
        }
        match deed {
            0 => assert!(failures.is_empty(), "round {round}, nobody was killed: {failures:?}"),
            // Whose container it was is not known.
            1 => {
                for model in clients.iter_mut().flatten() {
                    if model.may_be.contains(&RUNNING) || model.may_be.contains(&PAUSED) {
                        model.may_be.insert(EXITED);
                    }
                }
            }
            _ => {
                engine.kill_daemon();
                engine.start_daemon();
            }
        }
        for model in clients.iter_mut().flatten() {
            model.settle(&engine);
        }
    }
    let names: Vec<&str> = clients.iter().flatten().map(|model| model.name.as_str()).collect();
    engine.wharf(&[&["rm", "-f", "-v"], names.as_slice()].concat());
    let deadline = Instant::now() + Duration::from_secs(15);
    while !left(&engine).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(left(&engine), Vec::<String>::new(), "nothing is to be left");
    assert_eq!(engine.wharf(&["ps", "-aq"]).line(), "");
    assert_eq!(
        engine.wharf(&["volume", "ls", "-q"]).line(),
        "",
        "anonymous volumes go with their containers"
    );
}

/// Folders, control groups, processes and devices that belong to containers.
fn left(engine: &Engine) -> Vec<String> {
    let entries = |folder: &str| {
        let entries = std::fs::read_dir(engine.folder().join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
    };
    let groups = engine.cgroups().into_iter().map(|group| group.display().to_string());
    let supervisors = supervisors(engine).into_iter().map(|process| format!("supervisor {process}"));
    let links = engine.namespaces().links().into_iter().filter(|link| link.starts_with("veth"));
    let folders = ["data/containers", "exec/containers"].into_iter().flat_map(entries);
    folders.chain(groups).chain(supervisors).chain(links).collect()
}
