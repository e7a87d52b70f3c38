//! Help and usage texts, in Docker's layout.

use crate::commands::{Command, GROUPS, Group, TOP};
use crate::flags::{Flag, Kind};
use crate::program::GLOBAL_FLAGS;

/// Commands that the overview lists first.
const COMMON: &[&str] =
    &["run", "exec", "ps", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// Columns that a command's name takes at least.
const MIN_NAME: usize = 10;

/// Returns the help of one command; `path` is how it was called, as `docker container ls`.
pub(crate) fn command(path: &str, command: &Command, width: usize) -> String {
    let program = path.split(' ').next().unwrap_or_default();
    let mut text = format!("{}\n\n{}\n", usage(path, command), command.about);
    if !command.details.is_empty() {
        text.push_str(&format!("\n{}\n", command.details));
    }
    if !command.aliases.is_empty() {
        let aliases: Vec<String> = command.aliases.iter().map(|alias| format!("{program} {alias}")).collect();
        text.push_str(&format!("\nAliases:\n  {}\n", aliases.join(", ")));
    }
    let flags = flag_usages(command.flags, width);
    if !flags.is_empty() {
        text.push_str(&format!("\nOptions:\n{flags}"));
    }
    text
}

/// Returns the usage line(s) of a command, without line end.
pub(crate) fn usage(path: &str, command: &Command) -> String {
    // A command without arguments and flags has one form, too.
    let forms = command.usage.split('\n');
    let lines: Vec<String> = forms.map(|usage| format!("{path} {usage}").trim_end().to_owned()).collect();
    format!("Usage:  {}", lines.join("\n\t"))
}

/// Returns the help of a group of commands such as `container`.
pub(crate) fn group(program: &str, group: &Group) -> String {
    let name = group.name;
    let commands = group.commands.iter().filter(|(name, command)| is_main_name(name, command));
    let commands = commands.map(|(name, command)| (*name, command.about)).collect();
    format!(
        "Usage:  {program} {name} COMMAND\n\n{}\n\nCommands:\n{}\nRun '{program} {name} COMMAND --help' for more information on a command.\n",
        group.about,
        listing(commands)
    )
}

/// Returns the overview of all commands.
pub(crate) fn overview(program: &str, width: usize) -> String {
    let about = |wanted: &&str| {
        TOP.iter().find(|(name, _)| name == wanted).map(|(name, command)| (*name, command.about))
    };
    let common = COMMON.iter().filter_map(about).collect();
    let groups = GROUPS.iter().map(|group| (group.name, group.about)).collect();
    let others = TOP
        .iter()
        .filter(|(name, _)| !COMMON.contains(name))
        .map(|(name, command)| (*name, command.about))
        .collect();
    format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nA container engine in one executable\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nGlobal Options:\n{}\nRun '{program} COMMAND --help' for more information on a command.\n",
        unsorted(common),
        listing(groups),
        listing(others),
        flag_usages(&[GLOBAL_FLAGS], width)
    )
}

/// Lists in the order given.
fn unsorted(commands: Vec<(&str, &str)>) -> String {
    commands.into_iter().map(|(name, about)| format!("  {name:MIN_NAME$}  {about}\n")).collect()
}

/// Says whether a command of a group is listed under this name: `ls`, not `list`.
fn is_main_name(name: &str, command: &Command) -> bool {
    command.aliases.first().is_none_or(|main| main.rsplit(' ').next() == Some(name))
}

fn listing(mut commands: Vec<(&str, &str)>) -> String {
    commands.sort_unstable();
    let longest = commands.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let width = longest.max(MIN_NAME);
    let line = |(name, about): (&str, &str)| format!("  {name:width$}  {about}\n");
    commands.into_iter().map(line).collect()
}

/// Returns the lines that describe flags, wrapped for a terminal of `width` columns (`pflag`'s `FlagUsagesWrapped`).
fn flag_usages(groups: &[&[Flag]], width: usize) -> String {
    let mut flags: Vec<&Flag> = groups.iter().copied().flatten().filter(|flag| !flag.hidden).collect();
    flags.sort_unstable_by_key(|flag| flag.long);
    let heads: Vec<String> = flags.iter().map(|flag| head(flag)).collect();
    let longest = heads.iter().map(String::len).max().unwrap_or(0) + 1;
    let columns = width.saturating_sub(1);
    flags
        .iter()
        .zip(&heads)
        .map(|(flag, head)| {
            let text = wrap(longest + 2, columns, &described(flag));
            format!("{head:longest$}  {text}\n")
        })
        .collect()
}

fn head(flag: &Flag) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let head = format!("  {short}--{} {}", flag.long, flag.kind.word());
    head.trim_end().to_owned()
}

fn described(flag: &Flag) -> String {
    match (flag.default, flag.kind) {
        ("", _) => flag.help.to_owned(),
        (default, Kind::Text) => format!("{} (default \"{default}\")", flag.help),
        (default, _) => format!("{} (default {default})", flag.help),
    }
}

/// Breaks a text into lines that begin at column `indent` and end before `width`.
fn wrap(mut indent: usize, width: usize, text: &str) -> String {
    const SLOP: usize = 5;
    const NARROW: usize = 24;
    let mut wrapped = String::new();
    let mut room = width.saturating_sub(indent);
    if room < NARROW {
        indent = 16;
        room = width.saturating_sub(indent);
        wrapped.push_str(&format!("\n{}", " ".repeat(indent)));
    }
    let margin = format!("\n{}", " ".repeat(indent));
    if room < NARROW {
        return text.replace('\n', &margin);
    }
    let mut rest = Some(text);
    let mut first = true;
    while let Some(text) = rest {
        let (line, after) = break_line(room - SLOP, SLOP, text);
        if !first {
            wrapped.push_str(&margin);
        }
        first = false;
        wrapped.push_str(&line.replace('\n', &margin));
        rest = after.filter(|after| !after.is_empty());
    }
    wrapped
}

fn break_line(at: usize, slop: usize, text: &str) -> (&str, Option<&str>) {
    let Some(start) = text.get(..at).filter(|_| at + slop <= text.len()) else { return (text, None) };
    let Some(space) = start.rfind([' ', '\t', '\n']).filter(|space| *space > 0) else { return (text, None) };
    let line_end = start.rfind('\n').filter(|end| *end > 0 && *end < space);
    let end = line_end.unwrap_or(space);
    (text.get(..end).unwrap_or_default(), text.get(end + 1..))
}
