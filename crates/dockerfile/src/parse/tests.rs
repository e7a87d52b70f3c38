//! One case a line: what is read, and where what cannot be read is wrong.

use super::*;

fn one(line: &str) -> Instruction {
    let file = Dockerfile::parse(&format!("FROM scratch\n{line}\n"))
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    file.stages[0].steps[0].instruction.clone()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn stages_have_names_and_bases() {
    let file = Dockerfile::parse(
        "ARG V=1\nFROM --platform=$P a:$V AS Build\nRUN x\nFROM build as two\nFROM scratch\nCOPY --from=0 a b\n",
    )
    .unwrap();
    assert_eq!(file.arguments.len(), 1);
    let names: Vec<_> =
        file.stages.iter().map(|stage| (stage.name.as_deref(), stage.base.as_str())).collect();
    assert_eq!(names, [(Some("build"), "a:$V"), (Some("two"), "build"), (None, "scratch")]);
    assert_eq!(file.stages[0].platform.as_deref(), Some("$P"));
    assert_eq!(file.stage("BUILD", 2), Some(0));
    assert_eq!((file.stage("1", 2), file.stage("2", 2), file.stage("two", 1)), (Some(1), None, None));
    assert_eq!((file.stages[0].steps[0].line, file.stages[0].steps[0].text.as_str()), (3, "RUN x"));
}

#[test]
fn space_at_the_end_is_no_part_of_a_quote_that_never_ends() {
    assert_eq!(one("ARG a=\"b  "), one("ARG a=\"b"));
}

#[test]
fn commands_have_two_forms() {
    for (line, expect) in [
        ("CMD echo $x", Command::Shell("echo $x".to_owned())),
        ("CMD [\"a\", \"b c\"]", Command::Exec(strings(&["a", "b c"]))),
        ("CMD ['a']", Command::Shell("['a']".to_owned())),
        ("CMD []", Command::Exec(Vec::new())),
        ("CMD", Command::Exec(Vec::new())),
        ("CMD --flag", Command::Shell("--flag".to_owned())),
    ] {
        assert_eq!(one(line), Instruction::Cmd(expect), "{line}");
    }
    let words = Command::Shell("x".to_owned()).words(&strings(&["/bin/sh", "-c"]));
    assert_eq!(words, ["/bin/sh", "-c", "x"]);
}

#[test]
fn pairs_are_new_or_old() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (line, expect) in [
        ("ENV a=1 b=\"x y\" c=d\\ e", vec![pair("a", "1"), pair("b", "\"x y\""), pair("c", "d\\ e")]),
        ("ENV a  rest of line = x", vec![pair("a", "rest of line = x")]),
        ("ENV a=", vec![pair("a", "")]),
    ] {
        assert_eq!(one(line), Instruction::Env(expect), "{line}");
    }
    let label = one("LABEL \"com.example\"=\"a b\" x=y");
    assert_eq!(label, Instruction::Label(vec![pair("\"com.example\"", "\"a b\""), pair("x", "y")]));
}

#[test]
fn copies_have_flags_and_documents() {
    let Instruction::Copy(copy) =
        one("COPY --from=x --chown=1:2 --chmod=0644 --link --parents --exclude=*.o --exclude=b a b c/")
    else {
        panic!("not a copy")
    };
    assert_eq!(copy.sources, [Source::Path("a".to_owned()), Source::Path("b".to_owned())]);
    assert_eq!(
        (copy.target.as_str(), copy.from.as_deref(), copy.link, copy.parents),
        ("c/", Some("x"), true, true)
    );
    assert_eq!(copy.exclude, ["*.o", "b"]);
    let Instruction::Copy(copy) = one("COPY <<a <<\"b\" /dir/\none\na\n$two\nb") else {
        panic!("not a copy")
    };
    let names: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            Source::Inline(document) => (document.name.as_str(), document.body.as_str(), document.expand),
            Source::Path(path) => (path.as_str(), "", false),
        })
        .collect();
    assert_eq!(names, [("a", "one\n", true), ("b", "$two\n", false)]);
    let Instruction::Add(add) =
        one("ADD --checksum=sha256:ab --keep-git-dir=true --unpack=false [\"a b\", \"c\"]")
    else {
        panic!("not an add")
    };
    assert_eq!(
        (add.checksum.as_deref(), add.keep_git_dir, add.unpack),
        (Some("sha256:ab"), true, Some(false))
    );
    assert_eq!(add.copy.sources, [Source::Path("a b".to_owned())]);
}

#[test]
fn runs_have_mounts_and_scripts() {
    let Instruction::Run(run) =
        one("RUN --mount=type=cache,target=/c --mount=$x --network=none --security=insecure make")
    else {
        panic!("not a run")
    };
    assert_eq!(run.mounts, ["type=cache,target=/c", "$x"]);
    assert_eq!((run.network, run.security), (Network::None, Security::Insecure));
    let command = |line: &str| match one(line) {
        Instruction::Run(Run { command: Command::Shell(line), script, .. }) => (line, script.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(command("RUN <<EOF\na\nb\nEOF"), ("a\nb\n".to_owned(), false));
    assert_eq!(command("RUN <<-EOF\n\t#!/bin/x\n\tb\n\tEOF"), ("#!/bin/x\nb\n".to_owned(), true));
    assert_eq!(command("RUN cat <<A > f\n$x\nA"), ("cat <<A > f\n$x\nA".to_owned(), false));
}

#[test]
fn health_checks() {
    let Instruction::Healthcheck(Health::Probe(probe)) =
        one("HEALTHCHECK --interval=1m30s --timeout=0.5s --retries=2 --start-interval=100ms CMD curl x")
    else {
        panic!("not a check")
    };
    assert_eq!((probe.interval, probe.timeout, probe.retries), (90_000_000_000, 500_000_000, 2));
    assert_eq!((probe.start_period, probe.start_interval), (0, 100_000_000));
    assert_eq!(one("HEALTHCHECK none"), Instruction::Healthcheck(Health::None));
}

#[test]
fn triggers_keep_their_text() {
    assert_eq!(one("ONBUILD COPY . /x"), Instruction::Onbuild("COPY . /x".to_owned()));
    let Instruction::Onbuild(text) = one("ONBUILD RUN <<EOF\na\nEOF") else { panic!("not a trigger") };
    let step = parse_trigger(&text).unwrap();
    assert!(
        matches!(step.instruction, Instruction::Run(Run { command: Command::Shell(line), .. }) if line == "a\n")
    );
}

#[test]
fn problems_have_places_and_hints() {
    for (file, line, column, message) in [
        ("", 1, 1, "file with no instructions"),
        ("# x\n", 1, 1, "file with no instructions"),
        ("RUN x", 1, 1, "no build stage in current context"),
        ("ARG a", 1, 1, "no build stage in current context"),
        ("FROM a\n  RUNN x", 2, 3, "unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM a\nXYZZY x", 2, 1, "unknown instruction: XYZZY"),
        ("FROM", 1, 4, "FROM requires either one or three arguments"),
        ("FROM a AS", 1, 6, "FROM requires either one or three arguments"),
        ("FROM a IS b", 1, 8, "expected AS, not \"IS\""),
        (
            "FROM a AS 1b",
            1,
            11,
            "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM --platfrom=x a", 1, 6, "unknown flag: --platfrom (did you mean platform?)"),
        ("FROM a\nCOPY --form=b \\\n c d", 2, 6, "unknown flag: --form (did you mean from?)"),
        (
            "FROM a\nCOPY a",
            2,
            6,
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "FROM a\nRUN \\\n  --mount=type=cahce,target=/x y",
            3,
            3,
            "unsupported mount type \"cahce\" (did you mean cache?)",
        ),
        ("FROM a\nRUN --network=hots y", 2, 5, "network \"hots\" is not supported (did you mean host?)"),
        ("FROM a\nENV x", 2, 5, "ENV must have two arguments"),
        (
            "FROM a\nENV x=1 \\\n   y z=2",
            3,
            4,
            "Syntax error - can't find = in \"y\". Must be of the form: name=value",
        ),
        ("FROM a\nENV =1", 2, 5, "ENV names can not be blank"),
        ("FROM a\nENV x=\"1", 2, 5, "unexpected end of statement while looking for matching quote"),
        ("FROM a\nSHELL sh", 2, 7, "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nONBUILD ONBUILD RUN x", 2, 9, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD FROM b", 2, 9, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD RNU x", 2, 9, "unknown instruction: RNU (did you mean RUN?)"),
        ("FROM a\nHEALTHCHECK CMD", 2, 13, "Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK --interval=1 CMD x", 2, 13, "time: invalid duration \"1\""),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x", 2, 13, "duration \"1us\" cannot be less than 1ms"),
        ("FROM a\nHEALTHCHECK TCP x", 2, 13, "Unknown type \"TCP\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nVOLUME [\"\"]", 2, 8, "VOLUME specified can not be an empty string"),
        ("FROM a\nEXPOSE", 2, 6, "EXPOSE requires at least one argument"),
        ("FROM a\nWORKDIR ", 2, 8, "WORKDIR requires exactly one argument"),
    ] {
        let problem = Dockerfile::parse(file).unwrap_err();
        assert_eq!(
            (problem.message.as_str(), problem.line, problem.column),
            (message, line, column),
            "{file:?}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "(FROM a\n)?([A-Za-z$<>\"'\\\\`#=,\\[\\]{}:/ \t\n-]|RUN |COPY |<<E|--mount=|ENV ){0,60}") {
        if let Err(problem) = Dockerfile::parse(&text) {
            // Whatever is wrong can be shown.
            proptest::prop_assert!(!problem.to_string().is_empty());
        }
    }

    #[test]
    fn long_lines_are_fine(length in 60_000_usize..200_000) {
        let text = format!("FROM a\nRUN echo {}\n", "x".repeat(length));
        proptest::prop_assert_eq!(Dockerfile::parse(&text).unwrap().stages[0].steps[0].text.len(), length + 9);
    }
}
