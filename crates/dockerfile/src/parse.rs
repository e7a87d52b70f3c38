//! From logical lines to stages of typed instructions.

use crate::flags::{Flags, Wrong};
use crate::instruction::{
    Add, Argument, Command, Copy, Device, Health, Instruction, Mount, Network, Probe, Run, Security, Source,
    Stage, Step,
};
use crate::problem::Problem;
use crate::source::{self, Checks, File, Heredoc, Logical};
use crate::suggest::hint;
use crate::words;

/// Every instruction.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character.
    pub escape: char,
    /// What the `syntax` directive says; it is not followed, since there is one front end.
    pub syntax: Option<String>,
    /// What the `check` directive says.
    pub checks: Checks,
    /// The `ARG`s before the first stage.
    pub arguments: Vec<Step>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// Empty lines within instructions.
    pub(crate) gaps: Vec<usize>,
}

impl Dockerfile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let file = File::read(text)?;
        let mut read = Self {
            escape: file.directives.escape,
            syntax: file.directives.syntax.clone(),
            checks: file.directives.checks.clone(),
            arguments: Vec::new(),
            stages: Vec::new(),
            gaps: Vec::new(),
        };
        for line in &file.logical {
            read.line(line).map_err(|(offset, message)| file.problem(line, offset, message))?;
        }
        if read.stages.is_empty() {
            let empty = Problem { message: String::new(), line: 1, column: 1, shown: String::new() };
            return Err(match file.logical.last() {
                Some(last) => file.problem(last, 0, "no build stage in current context"),
                None => Problem { message: "file with no instructions".to_owned(), ..empty },
            });
        }
        Ok(read)
    }

    /// Returns the stage that a name or number means, of those before `before`.
    pub fn stage(&self, name: &str, before: usize) -> Option<usize> {
        let earlier = self.stages.iter().take(before);
        let named = earlier.rev_position(|stage| stage.name.as_deref() == Some(&name.to_lowercase()));
        named.or_else(|| name.parse().ok().filter(|index| *index < before.min(self.stages.len())))
    }

    fn line(&mut self, line: &Logical) -> Result<(), Wrong> {
        self.gaps.extend(&line.gaps);
        let (keyword, _) = keyword(&line.text);
        if keyword == "FROM" {
            let stage = from(line, self.escape)?;
            self.stages.push(stage);
            return Ok(());
        }
        let instruction = instruction(&line.text, &line.heredocs, self.escape, line.first)?;
        let text = line.text.trim().to_owned();
        let step = Step { instruction, text, line: line.first, last_line: line.last };
        match (self.stages.last_mut(), &step.instruction) {
            (Some(stage), _) => stage.steps.push(step),
            (None, Instruction::Arg(_)) => self.arguments.push(step),
            (None, _) => return Err((0, "no build stage in current context".to_owned())),
        }
        Ok(())
    }
}

/// The last position at which something holds, for iterators that can go both ways.
trait LastPosition: Iterator {
    fn rev_position(self, holds: impl FnMut(&Self::Item) -> bool) -> Option<usize>;
}

impl<I: Iterator> LastPosition for I {
    fn rev_position(self, mut holds: impl FnMut(&Self::Item) -> bool) -> Option<usize> {
        self.enumerate().filter(|(_, item)| holds(item)).last().map(|(index, _)| index)
    }
}

/// Reads an instruction that a base image asks for (`ONBUILD`).
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_trigger(text: &str) -> Result<Step, String> {
    let file = File::read(text).map_err(|problem| problem.message)?;
    let line = file.logical.first().ok_or("ONBUILD requires at least one argument")?;
    let instruction =
        instruction(&line.text, &line.heredocs, '\\', 0).map_err(|(_offset, message)| message)?;
    Ok(Step { instruction, text: line.text.trim().to_owned(), line: 0, last_line: 0 })
}

/// Returns the first word in capitals and the offset of what follows it.
fn keyword(text: &str) -> (String, usize) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let word = text.get(..end).unwrap_or_default().to_ascii_uppercase();
    let rest = text.get(end..).unwrap_or_default();
    (word, end + rest.len() - rest.trim_start().len())
}

/// An instruction's text being read.
struct Reading<'a> {
    name: String,
    text: &'a str,
    /// Where the arguments begin.
    start: usize,
    flags: Flags,
    heredocs: &'a [Heredoc],
    escape: char,
}

impl Reading<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.flags.rest..).unwrap_or_default().trim()
    }

    /// What follows the name; space at the end belongs to no argument, whatever stands before it.
    fn arguments(&self) -> &str {
        self.text.get(self.start..).unwrap_or_default().trim_end()
    }

    fn wrong<T>(&self, message: impl Into<String>) -> Result<T, Wrong> {
        Err((self.start.min(self.text.len().saturating_sub(1)), message.into()))
    }

    fn flags(&self, known: &[&str], repeated: &[&str]) -> Result<(), Wrong> {
        self.flags.check(known, repeated)
    }

    fn one(&self) -> Result<String, Wrong> {
        match self.rest() {
            "" => self.wrong(format!("{} requires exactly one argument", self.name)),
            rest => Ok(rest.to_owned()),
        }
    }

    fn some(&self) -> Result<&str, Wrong> {
        match self.rest() {
            "" => self.wrong(format!("{} requires at least one argument", self.name)),
            rest => Ok(rest),
        }
    }

    fn command(&self) -> Command {
        match (words::json_list(self.rest()), self.rest()) {
            (Some(words), _) => Command::Exec(words),
            (None, "") => Command::Exec(Vec::new()),
            (None, rest) => Command::Shell(rest.to_owned()),
        }
    }
}

fn instruction(text: &str, heredocs: &[Heredoc], escape: char, line: usize) -> Result<Instruction, Wrong> {
    let (name, start) = keyword(text);
    let has_flags = matches!(name.as_str(), "ADD" | "COPY" | "RUN" | "HEALTHCHECK");
    let mut flags = Flags::read(text, start, escape);
    if !has_flags {
        // Elsewhere two dashes are an argument; with FROM they are read apart.
        flags = Flags::read(text, text.len(), escape);
        flags.rest = start;
    }
    let reading = Reading { name, text, start, flags, heredocs, escape };
    let none = |reading: &Reading<'_>| reading.flags(&[], &[]);
    Ok(match reading.name.as_str() {
        "ADD" => Instruction::Add(add(&reading)?),
        "ARG" => Instruction::Arg(arguments(&reading)?),
        "CMD" => Instruction::Cmd(reading.command()),
        "COPY" => Instruction::Copy(copy(&reading)?),
        "ENTRYPOINT" => Instruction::Entrypoint(reading.command()),
        "ENV" => Instruction::Env(pairs(&reading)?),
        "EXPOSE" => Instruction::Expose(reading.some()?.split_whitespace().map(str::to_owned).collect()),
        "HEALTHCHECK" => Instruction::Healthcheck(health(&reading)?),
        "LABEL" => Instruction::Label(pairs(&reading)?),
        "MAINTAINER" => Instruction::Maintainer(reading.one()?),
        "ONBUILD" => Instruction::Onbuild(onbuild(&reading, line)?),
        "RUN" => Instruction::Run(run(&reading)?),
        "SHELL" => match words::json_list(reading.some()?) {
            Some(words) if words.is_empty() => return reading.wrong("SHELL requires at least one argument"),
            Some(words) => Instruction::Shell(words),
            None => return reading.wrong("SHELL requires the arguments to be in JSON form"),
        },
        "STOPSIGNAL" => Instruction::StopSignal(reading.one()?),
        "USER" => Instruction::User(reading.one()?),
        "VOLUME" => {
            let rest = reading.some()?;
            let list = words::json_list(rest)
                .unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            if list.is_empty() {
                return reading.wrong("VOLUME requires at least one argument");
            }
            if list.iter().any(|path| path.trim().is_empty()) {
                return reading.wrong("VOLUME specified can not be an empty string");
            }
            Instruction::Volume(list)
        }
        "WORKDIR" => Instruction::Workdir(reading.one()?),
        other => {
            none(&reading)?;
            return Err((0, format!("unknown instruction: {other}{}", hint(other, INSTRUCTIONS))));
        }
    })
}

fn from(line: &Logical, escape: char) -> Result<Stage, Wrong> {
    let (_, start) = keyword(&line.text);
    let flags = Flags::read(&line.text, start, escape);
    flags.check(&["platform"], &[])?;
    let rest = line.text.get(flags.rest..).unwrap_or_default().trim_end();
    let words = words::raw(rest, escape);
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, word, name] if word.text.eq_ignore_ascii_case("as") => (base, Some(name)),
        [_, word, _] => {
            return Err((flags.rest + word.offset, format!("expected AS, not {:?}", word.text)));
        }
        _ => {
            return Err((
                start.min(line.text.len() - 1),
                "FROM requires either one or three arguments".to_owned(),
            ));
        }
    };
    let name = match name {
        None => None,
        Some(word) => {
            let name = word.text.to_lowercase();
            if !is_stage_name(&name) {
                let message = format!(
                    "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                    word.text
                );
                return Err((flags.rest + word.offset, message));
            }
            Some(name)
        }
    };
    Ok(Stage {
        name,
        base: base.text.to_owned(),
        platform: flags.value("platform")?.map(|(_, value)| value),
        text: line.text.trim().to_owned(),
        line: line.first,
        steps: Vec::new(),
    })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

fn arguments(reading: &Reading<'_>) -> Result<Vec<Argument>, Wrong> {
    reading.some()?;
    let mut arguments = Vec::new();
    for word in words::raw(reading.arguments(), reading.escape) {
        let (name, default) = match word.text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.text, None),
        };
        if name.is_empty() {
            return Err((reading.start + word.offset, "ARG names can not be blank".to_owned()));
        }
        arguments.push(Argument { name: words::unquote(name, reading.escape), default });
    }
    Ok(arguments)
}

/// `NAME=VALUE …`, or the old `NAME VALUE` that takes the rest of the line.
fn pairs(reading: &Reading<'_>) -> Result<Vec<(String, String)>, Wrong> {
    let rest = reading.some()?;
    let words = words::raw(reading.arguments(), reading.escape);
    if words.first().is_some_and(|word| !word.text.contains('=')) {
        let (name, value) = match rest.split_once(char::is_whitespace) {
            Some((name, value)) => (name, value.trim_start()),
            None => return reading.wrong(format!("{} must have two arguments", reading.name)),
        };
        return Ok(vec![(name.to_owned(), value.to_owned())]);
    }
    let mut pairs = Vec::new();
    for word in words {
        let at = reading.start + word.offset;
        let Some((name, value)) = word.text.split_once('=') else {
            let message =
                format!("Syntax error - can't find = in {:?}. Must be of the form: name=value", word.text);
            return Err((at, message));
        };
        if name.is_empty() {
            return Err((at, format!("{} names can not be blank", reading.name)));
        }
        if words::is_open(word.text, reading.escape) {
            let message = "unexpected end of statement while looking for matching quote".to_owned();
            return Err((at, message));
        }
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

const COPY_FLAGS: [&str; 5] = ["from", "chown", "chmod", "link", "parents"];
const ADD_FLAGS: [&str; 6] = ["chown", "chmod", "link", "checksum", "keep-git-dir", "unpack"];

fn copy(reading: &Reading<'_>) -> Result<Copy, Wrong> {
    reading.flags(&COPY_FLAGS, &["exclude"])?;
    transfer(reading)
}

fn add(reading: &Reading<'_>) -> Result<Add, Wrong> {
    reading.flags(&ADD_FLAGS, &["exclude"])?;
    Ok(Add {
        copy: transfer(reading)?,
        checksum: reading.flags.value("checksum")?.map(|(_, value)| value),
        keep_git_dir: reading.flags.switch("keep-git-dir")?.unwrap_or(false),
        unpack: reading.flags.switch("unpack")?,
    })
}

fn transfer(reading: &Reading<'_>) -> Result<Copy, Wrong> {
    let rest = reading.some()?;
    let mut list =
        words::json_list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
    let target = list.pop().filter(|_| !list.is_empty());
    let Some(target) = target else {
        let name = &reading.name;
        return reading.wrong(format!(
            "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        ));
    };
    if source::announced(&target, reading.escape).is_some() {
        return reading.wrong(format!("{} cannot accept a heredoc as a destination", reading.name));
    }
    let mut inline = reading.heredocs.iter();
    let sources = list.into_iter().map(|word| match source::announced(&word, reading.escape) {
        Some(_) => inline.next().map_or(Source::Path(word), |document| Source::Inline(document.clone())),
        None => Source::Path(word),
    });
    let text = |name| reading.flags.value(name).map(|found| found.map(|(_, value)| value));
    let exclude: Result<Vec<String>, Wrong> =
        reading.flags.values("exclude").map(|value| value.map(|(_, value)| value)).collect();
    Ok(Copy {
        sources: sources.collect(),
        target,
        from: text("from")?,
        chown: text("chown")?,
        chmod: text("chmod")?,
        link: reading.flags.switch("link")?.unwrap_or(false),
        parents: reading.flags.switch("parents")?.unwrap_or(false),
        exclude: exclude?,
    })
}

fn run(reading: &Reading<'_>) -> Result<Run, Wrong> {
    reading.flags(&["network", "security"], &["mount", "device"])?;
    let rest = reading.some()?;
    let mut mounts = Vec::new();
    for mount in reading.flags.values("mount") {
        let (offset, value) = mount?;
        if !value.contains('$') {
            Mount::parse(&value).map_err(|message| (offset, message))?;
        }
        mounts.push(value);
    }
    let choice = |name: &str, among: &[&str]| -> Result<Option<String>, Wrong> {
        match reading.flags.value(name)? {
            Some((offset, value)) if !among.contains(&value.as_str()) => Err((
                offset,
                format!("{name} {value:?} is not supported{}", hint(&value, among.iter().copied())),
            )),
            found => Ok(found.map(|(_, value)| value)),
        }
    };
    let network = match choice("network", &["default", "none", "host"])?.as_deref() {
        Some("none") => Network::None,
        Some("host") => Network::Host,
        _ => Network::Default,
    };
    let security = match choice("security", &["sandbox", "insecure"])?.as_deref() {
        Some("insecure") => Security::Insecure,
        _ => Security::Sandbox,
    };
    let device = |value: Result<(usize, String), Wrong>| {
        let (offset, value) = value?;
        Device::parse(&value).map_err(|message| (offset, message))
    };
    let devices = reading.flags.values("device").map(device).collect::<Result<_, Wrong>>()?;
    let (command, script) = body(reading, rest);
    Ok(Run { command, script, mounts, network, security, devices })
}

/// The command of a `RUN`: a lone here-document is the script itself, any other is the shell's business.
fn body(reading: &Reading<'_>, rest: &str) -> (Command, Option<Heredoc>) {
    if let Some(words) = words::json_list(rest) {
        return (Command::Exec(words), None);
    }
    match reading.heredocs {
        [] => (Command::Shell(rest.to_owned()), None),
        [only] if source::announced(rest, reading.escape).is_some() => {
            let content = only.content();
            let script = content.starts_with("#!").then(|| only.clone());
            (Command::Shell(content), script)
        }
        several => {
            let mut full = rest.to_owned();
            for document in several {
                full.push('\n');
                full.push_str(&document.body);
                full.push_str(&document.name);
            }
            (Command::Shell(full), None)
        }
    }
}

fn onbuild(reading: &Reading<'_>, line: usize) -> Result<String, Wrong> {
    let rest = reading.some()?;
    let (trigger, _) = keyword(rest);
    match trigger.as_str() {
        "ONBUILD" => return reading.wrong("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        "FROM" | "MAINTAINER" => {
            return reading.wrong(format!("{trigger} isn't allowed as an ONBUILD trigger"));
        }
        _ => {}
    }
    instruction(rest, reading.heredocs, reading.escape, line)
        .map_err(|(offset, message)| (reading.start + offset, message))?;
    let mut text = rest.to_owned();
    for document in reading.heredocs {
        text.push('\n');
        text.push_str(&document.body);
        text.push_str(&document.name);
        text.push('\n');
    }
    Ok(text)
}

fn health(reading: &Reading<'_>) -> Result<Health, Wrong> {
    let rest = reading.some()?;
    let (kind, start) = keyword(rest);
    let command = rest.get(start..).unwrap_or_default();
    match kind.as_str() {
        "NONE" => {
            reading.flags(&[], &[])?;
            if !command.is_empty() {
                return reading.wrong("HEALTHCHECK NONE takes no arguments");
            }
            return Ok(Health::None);
        }
        "CMD" => {}
        other => return reading.wrong(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")),
    }
    if command.is_empty() {
        return reading.wrong("Missing command after HEALTHCHECK CMD");
    }
    reading.flags(&["interval", "timeout", "start-period", "start-interval", "retries"], &[])?;
    let time = |name: &str| match reading.flags.value(name)? {
        None => Ok(0),
        Some((offset, value)) => duration(&value).map_err(|message| (offset, message)),
    };
    let retries = match reading.flags.value("retries")? {
        None => 0,
        Some((offset, value)) => match value.parse::<i64>() {
            Ok(number) if number >= 0 => number,
            Ok(_) => return Err((offset, "--retries cannot be negative".to_owned())),
            Err(_) => return Err((offset, format!("--retries is not a number: {value:?}"))),
        },
    };
    Ok(Health::Probe(Probe {
        command: words::json_list(command).map_or_else(|| Command::Shell(command.to_owned()), Command::Exec),
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries,
    }))
}

/// Reads a duration as Go writes it (`1m30s`, `1.5h`, `100ms`) into nanoseconds; at least a millisecond, or none.
fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("time: invalid duration {text:?}");
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total = 0_i64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let letters = tail.len() - tail.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.').len();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
        let scale: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(wrong());
        }
        let mut value = whole.parse::<i64>().or(if whole.is_empty() { Ok(0) } else { Err(wrong()) })?;
        value = value.checked_mul(scale).ok_or_else(wrong)?;
        let mut part = scale;
        for digit in fraction.chars() {
            part /= 10;
            value += part * i64::from(digit.to_digit(10).ok_or_else(wrong)?);
        }
        total = total.checked_add(value).ok_or_else(wrong)?;
        rest = tail;
    }
    if total > 0 && total < 1_000_000 {
        return Err(format!("duration {text:?} cannot be less than 1ms"));
    }
    Ok(total)
}

#[cfg(test)]
mod tests;
