//! `start`, with or without attaching.

use super::attach::connect;
use super::request;
use super::run::{exit_code, watch_size};
use crate::each::each;
use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, switch, text};
use crate::program::{Cli, warn};
use crate::signals::Forwarding;
use crate::streams::{self, Attached, End};
use crate::terminal;
use api::inspect::InspectResponse;
use client::Request;
use std::thread;

/// The flags of `start`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
    text("checkpoint", "Restore from this checkpoint"),
    text("checkpoint-dir", "Use a custom checkpoint storage directory"),
    text("detach-keys", "Override the key sequence for detaching a container"),
    switch("interactive", "Attach container's STDIN").short('i'),
];

/// `start`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    if matches.switch("attach") || matches.switch("interactive") {
        if matches.args.len() > 1 {
            return Err(Error::message("you cannot start and attach multiple containers at once"));
        }
        let code = attached(cli, matches)?;
        return if code == 0 { Ok(()) } else { Err(Error::Exit(code)) };
    }
    if !matches.text("checkpoint").is_empty() {
        if matches.args.len() > 1 {
            return Err(Error::message("you cannot restore multiple containers at once"));
        }
        return Ok(start(cli, matches.arg(0), matches)?.done()?);
    }
    let mut failed = Vec::new();
    let result = each(&matches.args, |name| {
        let started = request(cli, "POST", name, "/start")?.done();
        if started.is_err() {
            failed.push(name.to_owned());
        }
        started?;
        Ok(Some(name.to_owned()))
    });
    if !failed.is_empty() {
        warn(format!("Error: failed to start containers: {}", failed.join(", ")));
    }
    result
}

/// The request that starts a container, from a checkpoint if one is given.
fn start<'a>(cli: &'a Cli, name: &str, matches: &Matches) -> Result<Request<'a>> {
    let asked = request(cli, "POST", name, "/start")?;
    let asked = asked.query_if_set("checkpoint", matches.text("checkpoint"));
    Ok(asked.query_if_set("checkpoint-dir", matches.text("checkpoint-dir")))
}

fn attached(cli: &Cli, matches: &Matches) -> Result<u8> {
    let container: InspectResponse = request(cli, "GET", matches.arg(0), "/json")?.decode()?;
    let (id, tty) = (container.id.clone(), container.config.tty);
    let stdin = matches.switch("interactive") && container.config.open_stdin;
    terminal::check(stdin, tty)?;
    let configured = cli.config().detach_keys.clone();
    let detach_keys = matches.given("detach-keys").unwrap_or(&configured);
    let attached = Attached { stdin, stdout: true, stderr: true, tty, detach_keys };
    let hijacked = connect(cli, &id, attached, false)?;
    let client = cli.client()?;
    let condition = if container.host_config.auto_remove { "removed" } else { "next-exit" };
    thread::scope(|scope| -> Result<u8> {
        let _forwarding = if tty { None } else { Forwarding::start(scope, client, id.clone()) };
        let waiting = request(cli, "POST", &id, "/wait")?.query("condition", condition).send()?;
        let connection = waiting.closer();
        let stop_waiting = || connection.as_ref().map(client::Stream::close);
        let waiter = scope.spawn(move || waiting.bytes());
        if let Err(error) = start(cli, &id, matches)?.query_if_set("detachKeys", detach_keys).done() {
            drop(stop_waiting());
            return Err(error.into());
        }
        let _sizes = if tty { watch_size(scope, cli, &id)? } else { None };
        if streams::copy(hijacked, attached)? == End::Detached {
            drop(stop_waiting());
            return Ok(0);
        }
        exit_code(&waiter.join().unwrap_or_else(|_panicked| Ok(Vec::new()))?)
    })
}
