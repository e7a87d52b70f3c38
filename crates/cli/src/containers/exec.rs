//! `exec`

use super::request;
use super::run::resize_at;
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, list, switch, text};
use crate::options::environment;
use crate::program::{Cli, warn};
use crate::streams::{self, Attached, End};
use crate::terminal;
use api::IdResponse;
use api::exec::{Config, InspectResponse, StartConfig};
use client::Client;
use std::thread;
use std::time::Duration;

/// Milliseconds between questions for an exit code.
const BACK_OFF: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// The flags of `exec`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("detach", "Detached mode: run command in the background").short('d'),
    text("detach-keys", "Override the key sequence for detaching a container"),
    Flag::new("env", Kind::Checked("list", environment::check), "Set environment variables").short('e'),
    list("env-file", "Read in a file of environment variables"),
    switch("interactive", "Keep STDIN open even if not attached").short('i'),
    switch("privileged", "Give extended privileges to the command"),
    switch("tty", "Allocate a pseudo-TTY").short('t'),
    text("user", "Username or UID (format: \"<name|uid>[:<group|gid>]\")").short('u'),
    text("workdir", "Working directory inside the container").short('w'),
];

/// The exit code for a command that could not be begun, as a shell has it.
const NOT_BEGUN: i32 = 126;

/// `exec`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let container = matches.arg(0);
    let (detach, tty) = (matches.switch("detach"), matches.switch("tty"));
    let stdin = matches.switch("interactive") && !detach;
    let variables = environment::variables(matches.list("env-file"), matches.list("env"))?;
    let configured = cli.config().detach_keys.clone();
    let keys = matches.given("detach-keys").unwrap_or(&configured).to_owned();
    // A missing container is told before anything about the terminal.
    request(cli, "GET", container, "/json")?.done()?;
    if !detach {
        terminal::check(stdin, tty)?;
    }
    let size = terminal::size().filter(|_| tty).map(|(rows, columns)| [u32::from(rows), u32::from(columns)]);
    let config = Config {
        user: matches.text("user").to_owned(),
        privileged: matches.switch("privileged"),
        tty,
        console_size: size,
        attach_stdin: stdin,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach_keys: keys.clone(),
        env: Some(variables).filter(|variables| !variables.is_empty()),
        working_dir: matches.text("workdir").to_owned(),
        cmd: Some(matches.args.iter().skip(1).cloned().collect()),
    };
    let created: IdResponse = request(cli, "POST", container, "/exec")?.json(&config).decode()?;
    let client = cli.client()?;
    let path = |rest: &str| format!("/exec/{}{rest}", client::path_segment(&created.id));
    let start = StartConfig { detach, tty, console_size: size };
    let starting = client.request("POST", path("/start")).json(&start);
    if detach {
        return starting.done().map_err(failed);
    }
    let hijacked = starting.hijack().map_err(failed)?;
    let attached = Attached { stdin, stdout: true, stderr: true, tty, detach_keys: &keys };
    let end = thread::scope(|scope| {
        let _sizes = if tty { resize_at(scope, client, path("/resize")) } else { None };
        streams::copy(hijacked, attached)
    })?;
    if end == End::Detached {
        warn("read escape sequence");
        return Err(Error::Exit(1));
    }
    match u8::try_from(exit_code(client, &path("/json"))? & 0xff).unwrap_or(1) {
        0 => Ok(()),
        code => Err(Error::Exit(code)),
    }
}

/// Returns the exit code of an exec whose streams have ended.
///
/// The engine may hear of the exit a moment after the streams' end. A process that goes on without its streams is not
/// waited for; one that neither runs nor has ended never began.
fn exit_code(client: &Client, path: &str) -> Result<i32> {
    let mut running = false;
    for delay in BACK_OFF {
        let exec: InspectResponse = client.request("GET", path).decode()?;
        running = exec.running;
        match exec.exit_code {
            Some(code) if !running => return Ok(code),
            Some(_) | None => thread::sleep(Duration::from_millis(delay)),
        }
    }
    Ok(if running { 0 } else { NOT_BEGUN })
}

/// A command that cannot be executed has the exit codes that a shell gives.
fn failed(error: client::Error) -> Error {
    let text = error.to_string();
    let code = match &text {
        text if text.contains("executable file not found") || text.contains("no such file or directory") => {
            127
        }
        text if text.contains("permission denied") || text.contains("is a directory") => 126,
        _ => return error.into(),
    };
    Error::Usage { text, code }
}
