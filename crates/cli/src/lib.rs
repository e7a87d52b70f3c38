//! The command line: Docker's commands, flags, output and exit codes.
//!
//! ```text
//! main ── global flags ── commands (a table) ── flags::Matches (what was typed)
//!                                                  └─ options/* (what is meant: API documents) ── client
//! ```
//!
//! Only the parser of the command asked for is ever built; nothing async is linked.
#![expect(clippy::error_impl_error, reason = "one Error per crate")]

mod build;
mod checkpoints;
mod commands;
mod config;
mod containers;
mod context;
mod each;
mod error;
mod filter;
mod flags;
mod formats;
mod help;
mod images;
mod inspect;
mod list;
mod localtime;
mod login;
mod moments;
mod networks;
mod options;
mod output;
mod program;
mod progress;
mod prune;
mod signals;
mod start;
mod streams;
mod system;
mod terminal;
mod total;
mod units;
mod values;
mod volumes;

pub use error::Error;

use commands::{Args, Command};
use flags::{Matches, Refusal};
use program::{Cli, GLOBAL_FLAGS, columns, print, print_error, warn};
use std::process::ExitCode;

/// Runs the command line `args` (the program's name first) and returns its exit code.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let mut words = args.into_iter();
    let called = words.next().unwrap_or_default();
    let program = if called.rsplit('/').next() == Some("docker") { "docker" } else { "wharf" };
    match dispatch(program, words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(program, &error);
            ExitCode::from(error.code())
        }
    }
}

fn report(program: &str, error: &Error) {
    match error {
        Error::Exit(_) => {}
        Error::Hinted { command, text, .. } => {
            warn(format!("{program}: {text}\n\nRun '{program} {command} --help' for more information"));
        }
        other => warn(other.to_string()),
    }
}

fn dispatch(program: &str, words: impl Iterator<Item = String>) -> Result<(), Error> {
    let globals = match Matches::parse(&[GLOBAL_FLAGS], words, false) {
        Ok(globals) => globals,
        Err(Refusal::Help { .. }) => {
            print(help::overview(program, columns()));
            return Ok(());
        }
        Err(Refusal::Message(why)) => {
            let usage = format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]");
            let text = format!("{why}\n\n{usage}\n\nRun '{program} --help' for more information");
            return Err(Error::Usage { text, code: 125 });
        }
    };
    if globals.switch("version") {
        let name = if program == "docker" { "Docker" } else { "Wharf" };
        print(format!("{name} version {}\n", env!("CARGO_PKG_VERSION")));
        return Ok(());
    }
    let (path, words) = match globals.args.split_first() {
        None => {
            print_error(help::overview(program, columns()));
            return Ok(());
        }
        Some((name, _)) if name == start::DETACHED => return Err(start::become_daemon()),
        Some((name, rest)) if name == "help" => (rest.to_vec(), vec!["--help".to_owned()]),
        Some((name, rest)) => (vec![name.clone()], rest.to_vec()),
    };
    let cli = Cli::new(program.to_owned(), &globals);
    run(&cli, path, words)
}

/// Finds the command that `path` names, reads its flags from `words`, and runs it.
fn run(cli: &Cli, mut path: Vec<String>, mut words: Vec<String>) -> Result<(), Error> {
    let program = &cli.program;
    let name = path.first().cloned().unwrap_or_default();
    if let Some(group) = commands::GROUPS.iter().find(|group| group.name == name) {
        if path.len() < 2 && words.first().is_some_and(|word| !word.starts_with('-')) {
            path.push(words.remove(0));
        }
        let Some(sub) = path.get(1) else {
            if let Some(flag) = words.first().filter(|word| !matches!(word.as_str(), "--help" | "-h")) {
                let text = format!(
                    "unknown flag: {flag}\n\nUsage:  {program} {name} COMMAND\n\nRun '{program} {name} --help' for more information"
                );
                return Err(Error::Usage { text, code: 125 });
            }
            // Asked for, help is an answer; else it is a hint.
            let text = help::group(program, group);
            if words.is_empty() {
                print_error(text);
            } else {
                print(text);
            }
            return Ok(());
        };
        let Some((_, command)) = group.commands.iter().find(|(name, _)| name == sub) else {
            let text = format!(
                "{program}: unknown command: {program} {name} {sub}\n\nUsage:  {program} {name}\n\nRun '{program} {name} --help' for more information"
            );
            return Err(Error::Usage { text, code: 1 });
        };
        return execute(cli, &format!("{program} {name} {sub}"), command, words);
    }
    match commands::TOP.iter().find(|(top, _)| *top == name) {
        Some((_, command)) => execute(cli, &format!("{program} {name}"), command, words),
        None => {
            let text = format!(
                "{program}: unknown command: {program} {name}\n\nRun '{program} --help' for more information"
            );
            Err(Error::Usage { text, code: 1 })
        }
    }
}

fn execute(cli: &Cli, path: &str, command: &Command, words: Vec<String>) -> Result<(), Error> {
    let matches = match Matches::parse(command.flags, words, command.interspersed) {
        Ok(matches) => matches,
        Err(Refusal::Help { deprecated }) => {
            if deprecated {
                warn("Flag shorthand -h has been deprecated, use --help");
            }
            print(help::command(path, command, columns()));
            return Ok(());
        }
        Err(Refusal::Message(why)) => {
            let usage = help::usage(path, command);
            let text = format!("{why}\n\n{usage}\n\nRun '{path} --help' for more information");
            return Err(Error::Usage { text, code: 125 });
        }
    };
    check_args(cli, path, command, matches.args.len())?;
    (command.run)(cli, &matches)
}

fn check_args(cli: &Cli, path: &str, command: &Command, given: usize) -> Result<(), Error> {
    let arguments = |count: usize| if count == 1 { "argument" } else { "arguments" };
    let (why, hint) = match command.args {
        Args::None if given > 0 => ("accepts no arguments".to_owned(), "Run"),
        Args::Exactly(count) if given != count => (format!("requires {count} {}", arguments(count)), "Run"),
        Args::AtLeast(count) if given < count => {
            (format!("requires at least {count} {}", arguments(count)), "See")
        }
        Args::AtMost(count) if given > count => {
            (format!("requires at most {count} {}", arguments(count)), "Run")
        }
        Args::Between(least, most) if given < least || given > most => {
            (format!("requires at least {least} and at most {most} {}", arguments(most)), "Run")
        }
        Args::None
        | Args::Exactly(_)
        | Args::AtLeast(_)
        | Args::AtMost(_)
        | Args::Between(..)
        | Args::Any => {
            return Ok(());
        }
    };
    let usage = help::usage(path, command);
    let program = &cli.program;
    let text = format!("{program}: '{path}' {why}\n\n{usage}\n\n{hint} '{path} --help' for more information");
    Err(Error::Usage { text, code: 1 })
}
