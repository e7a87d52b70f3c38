//! A Dockerfile: taken or refused with a place in it; what was taken, written down by its instructions, is the same again.
#![no_main]

use dockerfile::{Dockerfile, Instruction, Source, Step, lint};

fn has_document(step: &Step) -> bool {
    match &step.instruction {
        Instruction::Run(_) => step.text.contains("<<"),
        Instruction::Copy(copy) => copy.sources.iter().any(|source| matches!(source, Source::Inline(_))),
        Instruction::Add(add) => add.copy.sources.iter().any(|source| matches!(source, Source::Inline(_))),
        Instruction::Onbuild(text) => text.contains("<<"),
        _ => false,
    }
}

fn instructions(file: &Dockerfile) -> Vec<&Instruction> {
    let steps = file.arguments.iter().chain(file.stages.iter().flat_map(|stage| &stage.steps));
    steps.map(|step| &step.instruction).collect()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = match Dockerfile::parse(text) {
        Ok(file) => file,
        Err(problem) => {
            assert!(problem.line >= 1 && problem.line <= text.split('\n').count().max(1), "{problem:?}");
            return;
        }
    };
    drop(lint::lint(&file, &lint::Known { ignored: None, variables: &|_image| None }));
    let steps = || file.arguments.iter().chain(file.stages.iter().flat_map(|stage| &stage.steps));
    if steps().any(has_document) {
        return;
    }
    let mut printed = format!("# escape={}\n", file.escape);
    for step in &file.arguments {
        printed.push_str(&format!("{}\n", step.text));
    }
    for stage in &file.stages {
        printed.push_str(&format!("{}\n", stage.text));
        for step in &stage.steps {
            printed.push_str(&format!("{}\n", step.text));
        }
    }
    let again = Dockerfile::parse(&printed).unwrap_or_else(|problem| panic!("{problem}: {printed:?}"));
    assert_eq!(instructions(&file), instructions(&again), "{printed:?}");
});
