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
    Flag::value("root"),
    Flag::value("log"),
    Flag::value("log-format"),
    Flag::value("rootless"),
    Flag::value("criu"),
    Flag::switch("debug"),
    Flag::switch("systemd-cgroup"),
    Flag::switch("help").short('h'),
    Flag::switch("version").short('v'),
];

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
    let Some((name, rest)) = parsed.positional.split_first().filter(|_| !parsed.has("help")) else {
        return say(HELP);
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return usage_error(&format!("No help topic for '{name}'"));
    };
    let flags = match arguments::parse(rest, command.flags) {
        Ok(flags) => flags,
        Err(text) => return usage_error(&text),
    };
    if flags.positional.len() < command.least {
        return usage_error(&format!("{name}: {name:?} requires a minimum of {} argument", command.least));
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
    flags: &'static [Flag],
    /// How many arguments it needs.
    least: usize,
    /// What it exits with when it fails.
    failed: u8,
    run: fn(&Globals, &Parsed) -> Result<ExitCode, Failure>,
}

const COMMANDS: &[Command] = &[
    Command { name: "create", flags: create::FLAGS, least: 1, failed: 1, run: create::create },
    Command { name: "run", flags: create::FLAGS, least: 1, failed: 1, run: create::run },
    Command { name: "start", flags: &[], least: 1, failed: 1, run: create::start },
    Command { name: "exec", flags: exec::FLAGS, least: 1, failed: 255, run: exec::exec },
    Command { name: "state", flags: &[], least: 1, failed: 1, run: control::state },
    Command { name: "list", flags: control::LIST_FLAGS, least: 0, failed: 1, run: control::list },
    Command { name: "kill", flags: control::KILL_FLAGS, least: 1, failed: 1, run: control::kill },
    Command { name: "delete", flags: control::DELETE_FLAGS, least: 1, failed: 1, run: control::delete },
    Command { name: "ps", flags: control::PS_FLAGS, least: 1, failed: 1, run: control::ps },
    Command { name: "pause", flags: &[], least: 1, failed: 1, run: control::pause },
    Command { name: "resume", flags: &[], least: 1, failed: 1, run: control::resume },
    Command {
        name: "checkpoint",
        flags: checkpoint::CHECKPOINT_FLAGS,
        least: 1,
        failed: 1,
        run: checkpoint::checkpoint,
    },
    Command {
        name: "restore",
        flags: checkpoint::RESTORE_FLAGS,
        least: 1,
        failed: 1,
        run: checkpoint::restore,
    },
    Command { name: "update", flags: control::UPDATE_FLAGS, least: 1, failed: 1, run: control::update },
    Command { name: "events", flags: events::FLAGS, least: 1, failed: 1, run: events::events },
    Command { name: "spec", flags: document::SPEC_FLAGS, least: 0, failed: 1, run: document::spec },
    Command { name: "features", flags: &[], least: 0, failed: 1, run: document::features },
];

const HELP: &str = "\
NAME:
   wharf runtime - Open Container Initiative runtime

USAGE:
   wharf runtime [global options] command [command options] [arguments...]

COMMANDS:
   checkpoint  checkpoint a running container, by CRIU
   create      create a container
   delete      delete any resources held by the container often used with detached container
   events      display container events such as OOM notifications, cpu, memory, and IO usage statistics
   exec        execute new process inside the container
   features    show the enabled features
   kill        kill sends the specified signal (default: SIGTERM) to the container's init process
   list        lists containers started by the runtime with the given root
   pause       pause suspends all processes inside the container
   ps          ps displays the processes running inside a container
   restore     restore a container from a checkpoint, by CRIU
   resume      resumes all processes that have been previously paused
   run         create and run a container
   spec        create a new specification file
   start       executes the user defined process in a created container
   state       output the state of a container
   update      update container resource constraints

GLOBAL OPTIONS:
   --criu value        path to the program criu (default: that of the search path)
   --debug             enable debug logging
   --log value         set the log file to write logs to (default is '/dev/stderr')
   --log-format value  set the log format ('text' (default), or 'json') (default: \"text\")
   --root value        root directory for storage of container state (default: \"/run/wharf/runtime\", or \"$XDG_RUNTIME_DIR/wharf/runtime\")
   --systemd-cgroup    let systemd make the cgroups, whose paths are slice:prefix:name
   --rootless value    accepted for compatibility: who has no privileges is seen without it
   --help, -h          show help
   --version, -v       print the version
";

/// Writes a file that others wait for in one step.
fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    std::fs::write(&new, contents).map_err(|error| format!("write {}: {error}", new.display()))?;
    std::fs::rename(&new, path).map_err(|error| format!("rename {}: {error}", path.display()))?;
    Ok(())
}
