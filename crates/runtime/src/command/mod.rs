//! `wharf runtime`: runc's command line, for other engines that use an OCI runtime as a program.
//!
//! The commands, flags, files (`--pid-file`, `--console-socket`, `--log`) and exit codes are runc's; the state beneath
//! `--root` is ours. The init of `create` is a child of this process and so of the caller when this process has ended; it
//! waits on a socket in its state directory for `start`.

mod adopt;
mod arguments;
mod checkpoint;
mod console;
mod control;
mod create;
mod document;
mod events;
mod exec;
mod group;
mod notify;
mod record;
mod seal;
mod unprivileged;

pub use adopt::{Known, adopt};
use arguments::{Flag, Parsed};
pub use checkpoint::{Restore, restore_here as restore};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where state is kept unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/run/wharf/runtime";

/// What went wrong, in words.
type Failure = Box<dyn std::error::Error>;

/// What the flags before the command say.
#[derive(Debug)]
struct Globals {
    root: PathBuf,
    log: Option<PathBuf>,
    json: bool,
    systemd: bool,
    /// The program that checkpoints and restores.
    criu: Option<PathBuf>,
}

const GLOBAL_FLAGS: &[Flag] = &[
    Flag::value(
        "root",
        "where the state of containers is kept; on a tmpfs (default: \"/run/wharf/runtime\", or \"$XDG_RUNTIME_DIR/wharf/runtime\")",
    ),
    Flag::value("log", "file that errors are appended to (default: standard error)"),
    Flag::value("log-format", "form of these lines: text or json (default: \"text\")"),
    Flag::value("rootless", "accepted for compatibility: who has no privileges is seen without it"),
    Flag::value("criu", "the program that checkpoints and restores (default: criu of the search path)"),
    Flag::switch("debug", "accepted for compatibility: there are no further messages"),
    Flag::switch("systemd-cgroup", "let systemd make the cgroups, whose paths are slice:prefix:name"),
    Flag::switch("help", "show this").short('h'),
    Flag::switch("version", "show the version").short('v'),
];

const HELP: &str = "--help";
const HELP_FLAG: &[Flag] = &[Flag::switch("help", "show this").short('h')];
/// What runc exits with when there is no such command.
const UNKNOWN_COMMAND: u8 = 3;

/// As [`main`], for an executable that does nothing else with these arguments: one that enters containers is executed again
/// from where they cannot write it.
pub fn program(arguments: &[String]) -> ExitCode {
    let command = arguments::parse(arguments, GLOBAL_FLAGS)
        .ok()
        .and_then(|parsed| parsed.positional.into_iter().next());
    let enters = command.is_some_and(|name| matches!(name.as_str(), "create" | "run" | "exec"));
    if enters && let Err(failure) = seal::ensure() {
        return usage_error(&words(failure.as_ref()));
    }
    main(arguments)
}

/// Runs the command line `arguments` (without the program's own name) and returns what to exit with.
pub fn main(arguments: &[String]) -> ExitCode {
    let parsed = match arguments::parse(arguments, GLOBAL_FLAGS) {
        Ok(parsed) => parsed,
        Err(text) => return usage_error(&text),
    };
    if parsed.has("version") {
        return say(&version());
    }
    let globals = Globals {
        root: match parsed.value("root") {
            Some(root) => root.into(),
            None => unprivileged::default_root().unwrap_or_else(|| DEFAULT_ROOT.into()),
        },
        log: parsed.value("log").map(Into::into),
        json: parsed.value("log-format") == Some("json"),
        systemd: parsed.has("systemd-cgroup"),
        criu: parsed.value("criu").map(Into::into),
    };
    let words: Vec<&str> = parsed.positional.iter().map(String::as_str).collect();
    let (name, rest) = match words.as_slice() {
        _ if parsed.has("help") => return say(&help()),
        [] | ["help" | "h"] => return say(&help()),
        ["help" | "h", name, ..] => (*name, [HELP.to_owned()].to_vec()),
        [name, ..] => (*name, parsed.positional.iter().skip(1).cloned().collect()),
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        usage_error(&format!("No help topic for '{name}'"));
        return ExitCode::from(UNKNOWN_COMMAND);
    };
    let flags = match arguments::parse(&rest, &[command.flags, HELP_FLAG].concat()) {
        Ok(flags) => flags,
        Err(text) => {
            usage_error(&format!("{text}\n\n{}", command.help()));
            return ExitCode::FAILURE;
        }
    };
    if flags.has("help") {
        return say(&command.help());
    }
    if let Some(text) = command.count(flags.positional.len()) {
        return usage_error(&text);
    }
    match (command.run)(&globals, &flags) {
        Ok(code) => code,
        Err(failure) => {
            globals.complain(name, failure.as_ref());
            ExitCode::from(command.failed)
        }
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn usage_error(text: &str) -> ExitCode {
    writeln!(std::io::stderr(), "{text}").ok();
    ExitCode::FAILURE
}

fn version() -> String {
    format!("wharf runtime version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), oci::runtime::VERSION)
}

impl Globals {
    /// Writes a failure where the caller looks for it: runc's log format, which containerd and podman read.
    fn complain(&self, command: &str, failure: &dyn std::error::Error) {
        let message = format!("runc {command} failed: {}", words(failure));
        let time = now();
        let line = if self.json {
            serde_json::json!({ "level": "error", "msg": message, "time": time }).to_string()
        } else {
            format!("time={time:?} level=error msg={message:?}")
        };
        if let Some(path) = &self.log {
            let opened = std::fs::File::options().append(true).create(true).open(path);
            if let Ok(mut file) = opened {
                writeln!(file, "{line}").ok();
            }
        }
        if self.log.is_none() || !self.json {
            writeln!(std::io::stderr(), "{message}").ok();
        }
    }

    fn container(&self, flags: &Parsed) -> Result<PathBuf, Failure> {
        let id = flags.positional.first().map(String::as_str).unwrap_or_default();
        record::check_id(id)?;
        Ok(self.root.join(id))
    }
}

/// An error with its causes, each said once: some of our own say theirs already.
fn words(failure: &dyn std::error::Error) -> String {
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// The present time as Go prints it.
fn now() -> String {
    base::Timestamp::from_system(std::time::SystemTime::now()).to_string()
}

/// One command.
struct Command {
    name: &'static str,
    about: &'static str,
    /// What comes after its flags.
    usage: &'static str,
    flags: &'static [Flag],
    /// How many arguments it needs and takes.
    arguments: (usize, Option<usize>),
    /// What it exits with when it fails.
    failed: u8,
    run: fn(&Globals, &Parsed) -> Result<ExitCode, Failure>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "create",
        about: "a container whose program waits for `start`",
        usage: "<container-id>",
        flags: create::CREATE_FLAGS,
        arguments: (1, Some(1)),
        failed: 1,
        run: create::create,
    },
    Command {
        name: "run",
        about: "create a container and start its program",
        usage: "<container-id>",
        flags: create::RUN_FLAGS,
        arguments: (1, Some(1)),
        failed: 1,
        run: create::run,
    },
    Command {
        name: "start",
        about: "start the program of a created container",
        usage: "<container-id>",
        flags: &[],
        arguments: (1, Some(1)),
        failed: 1,
        run: create::start,
    },
    Command {
        name: "exec",
        about: "run a further process in a container",
        usage: "<container-id> <command> [arguments...]",
        flags: exec::FLAGS,
        arguments: (1, None),
        failed: 255,
        run: exec::exec,
    },
    Command {
        name: "state",
        about: "show the state of a container",
        usage: "<container-id>",
        flags: &[],
        arguments: (1, Some(1)),
        failed: 1,
        run: control::state,
    },
    Command {
        name: "list",
        about: "list the containers beneath --root",
        usage: "",
        flags: control::LIST_FLAGS,
        arguments: (0, Some(0)),
        failed: 1,
        run: control::list,
    },
    Command {
        name: "kill",
        about: "send a signal (default: SIGTERM) to the first process of a container",
        usage: "<container-id> [signal]",
        flags: control::KILL_FLAGS,
        arguments: (1, Some(2)),
        failed: 1,
        run: control::kill,
    },
    Command {
        name: "delete",
        about: "remove what is left of a container",
        usage: "<container-id>",
        flags: control::DELETE_FLAGS,
        arguments: (1, Some(1)),
        failed: 1,
        run: control::delete,
    },
    Command {
        name: "ps",
        about: "show the processes of a container",
        usage: "<container-id> [ps options]",
        flags: control::PS_FLAGS,
        arguments: (1, None),
        failed: 1,
        run: control::ps,
    },
    Command {
        name: "pause",
        about: "stop all processes of a container where they are",
        usage: "<container-id>",
        flags: &[],
        arguments: (1, Some(1)),
        failed: 1,
        run: control::pause,
    },
    Command {
        name: "resume",
        about: "let the processes of a paused container go on",
        usage: "<container-id>",
        flags: &[],
        arguments: (1, Some(1)),
        failed: 1,
        run: control::resume,
    },
    Command {
        name: "checkpoint",
        about: "put the processes of a container into files, by CRIU",
        usage: "<container-id>",
        flags: checkpoint::CHECKPOINT_FLAGS,
        arguments: (1, Some(1)),
        failed: 1,
        run: checkpoint::checkpoint,
    },
    Command {
        name: "restore",
        about: "bring a container back from such files, by CRIU",
        usage: "<container-id>",
        flags: checkpoint::RESTORE_FLAGS,
        arguments: (1, Some(1)),
        failed: 1,
        run: checkpoint::restore,
    },
    Command {
        name: "update",
        about: "change the limits of a container",
        usage: "<container-id>",
        flags: control::UPDATE_FLAGS,
        arguments: (1, Some(1)),
        failed: 1,
        run: control::update,
    },
    Command {
        name: "events",
        about: "show what a container uses, and when its memory runs out",
        usage: "<container-id>",
        flags: events::FLAGS,
        arguments: (1, Some(1)),
        failed: 1,
        run: events::events,
    },
    Command {
        name: "spec",
        about: "write a config.json to begin with",
        usage: "",
        flags: document::SPEC_FLAGS,
        arguments: (0, Some(0)),
        failed: 1,
        run: document::spec,
    },
    Command {
        name: "features",
        about: "show what this runtime can do",
        usage: "",
        flags: &[],
        arguments: (0, Some(0)),
        failed: 1,
        run: document::features,
    },
];

impl Command {
    fn help(&self) -> String {
        let Self { name, about, usage, .. } = self;
        let options = arguments::describe(&[self.flags, HELP_FLAG].concat());
        format!(
            "NAME:\n   wharf runtime {name} - {about}\n\n\
             USAGE:\n   wharf runtime {name} [command options] {usage}\n\n\
             OPTIONS:\n{options}"
        )
    }

    /// Says what is wrong with how many arguments there are.
    fn count(&self, given: usize) -> Option<String> {
        let name = self.name;
        let (least, most) = self.arguments;
        if most == Some(least) && given != least {
            return Some(format!("runc: {name:?} requires exactly {least} argument(s)"));
        }
        if given < least {
            return Some(format!("runc: {name:?} requires a minimum of {least} argument(s)"));
        }
        let most = most.filter(|most| given > *most)?;
        Some(format!("runc: {name:?} requires a maximum of {most} argument(s)"))
    }
}

fn help() -> String {
    let commands = arguments::table(COMMANDS.iter().map(|command| (command.name.to_owned(), command.about)));
    let options = arguments::describe(GLOBAL_FLAGS);
    format!(
        "NAME:\n   wharf runtime - Open Container Initiative runtime\n\n\
         USAGE:\n   wharf runtime [global options] command [command options] [arguments...]\n\n\
         COMMANDS:\n{commands}\n\
         GLOBAL OPTIONS:\n{options}"
    )
}

/// Writes a file that others wait for in one step.
fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    std::fs::write(&new, contents).map_err(|error| format!("write {}: {error}", new.display()))?;
    std::fs::rename(&new, path).map_err(|error| format!("rename {}: {error}", path.display()))?;
    Ok(())
}
