//! `run`: create → attach → wait → start → resize.

use super::{create, request};
use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::options;
use crate::program::{Cli, print_line};
use crate::signals::{Forwarding, SizeWatch};
use crate::streams::{self, Attached, End};
use crate::terminal;
use api::container::WaitResponse;
use std::thread;

/// `run`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let usage = |error: Error| hinted(error.to_string(), 125);
    let mut request =
        options::container::request(matches, create::proxies(cli).map_err(usage)?).map_err(usage)?;
    let detach = matches.switch("detach");
    if detach {
        if !matches.list("attach").is_empty() {
            return Err(usage(Error::message(
                "conflicting options: cannot specify both --attach and --detach",
            )));
        }
        let config = &mut request.config;
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        terminal::check(request.config.attach_stdin, request.config.tty)?;
    }
    if let Some((rows, columns)) = terminal::size() {
        request.host_config.console_size = [u32::from(rows), u32::from(columns)];
    }
    let id = create::create(cli, matches, &mut request).map_err(|error| failed_start(error.to_string()))?;
    if detach {
        start(cli, &id, "")?;
        print_line(id);
        return Ok(());
    }
    let configured = cli.config().detach_keys.clone();
    let keys = matches.given("detach-keys").unwrap_or(&configured);
    let attached = Attached {
        stdin: request.config.attach_stdin,
        stdout: request.config.attach_stdout,
        stderr: request.config.attach_stderr,
        tty: request.config.tty,
        detach_keys: keys,
    };
    let options = Options {
        attached,
        auto_remove: request.host_config.auto_remove,
        signals: matches.switch("sig-proxy"),
    };
    let code = follow(cli, &id, &options)?;
    if code == 0 { Ok(()) } else { Err(Error::Exit(code)) }
}

fn hinted(text: String, code: u8) -> Error {
    Error::Hinted { command: "run", text, code }
}

struct Options<'a> {
    attached: Attached<'a>,
    auto_remove: bool,
    signals: bool,
}

/// Attaches, starts and follows a container, and returns its exit code (0 after detaching).
fn follow(cli: &Cli, id: &str, options: &Options<'_>) -> Result<u8> {
    let attached = options.attached;
    let failed = |error: client::Error| hinted(error.to_string(), 125);
    let hijacked = super::attach::connect(cli, id, attached, false).map_err(failed)?;
    let condition = if options.auto_remove { "removed" } else { "next-exit" };
    let client = cli.client()?;
    thread::scope(|scope| {
        let _forwarding = if options.signals && !attached.tty {
            Forwarding::start(scope, client, id.to_owned())
        } else {
            None
        };
        // The engine answers the head at once and the body at the end: once the head is here, no exit is missed.
        let waiting = request(cli, "POST", id, "/wait")?.query("condition", condition).send();
        let waiting = waiting.map_err(failed)?;
        let waiting_connection = waiting.closer();
        let stop_waiting = || waiting_connection.as_ref().map(client::Stream::close);
        let waiter = scope.spawn(move || waiting.bytes());
        if let Err(error) = start(cli, id, attached.detach_keys) {
            if options.auto_remove {
                // A container that never ran is removed as well; the wait says when.
                drop(waiter.join());
            } else {
                drop(stop_waiting());
            }
            return Err(error);
        }
        let _sizes = if attached.tty { watch_size(scope, cli, id)? } else { None };
        if streams::copy(hijacked, attached)? == End::Detached {
            // Detaching is a success, and needs no word.
            drop(stop_waiting());
            return Ok(0);
        }
        let bytes = waiter.join().unwrap_or_else(|_panicked| Ok(Vec::new())).map_err(failed)?;
        exit_code(&bytes)
    })
}

/// Reads the answer of a wait.
pub(crate) fn exit_code(answer: &[u8]) -> Result<u8> {
    let answer: WaitResponse = api::decode(answer)
        .map_err(|error| Error::message(format!("error waiting for container: {error}")))?;
    if let Some(error) = answer.error.filter(|error| !error.message.is_empty()) {
        return Err(Error::message(error.message));
    }
    // An exit status has eight bits.
    Ok(u8::try_from(answer.status_code & 0xff).unwrap_or(125))
}

/// Starts a container; the exit code of failure tells what was wrong with the command.
fn start(cli: &Cli, id: &str, detach_keys: &str) -> Result<()> {
    let started = request(cli, "POST", id, "/start")?.query_if_set("detachKeys", detach_keys).done();
    started.map_err(|error| failed_start(error.to_string()))
}

/// What the exit code says of a failure is read from its text, as in Docker.
fn failed_start(text: String) -> Error {
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let code = if says(&["executable file not found", "no such file or directory"]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    };
    hinted(text, code)
}

/// Gives the container's terminal the size of ours, now and whenever it changes.
pub(crate) fn watch_size<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    cli: &'scope Cli,
    id: &str,
) -> Result<Option<SizeWatch>> {
    let client = cli.client()?;
    let path = format!("/containers/{}/resize", client::path_segment(id));
    Ok(resize_at(scope, client, path))
}

/// Sends the terminal's size to `path`, now and whenever it changes.
pub(crate) fn resize_at<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    client: &'scope client::Client,
    path: String,
) -> Option<SizeWatch> {
    let send = move || {
        if let Some((rows, columns)) = terminal::size() {
            let request = client.request("POST", path.clone());
            // The process may be over before it could be resized.
            drop(request.query("h", rows.to_string()).query("w", columns.to_string()).done());
        }
    };
    send();
    SizeWatch::start(scope, send)
}
