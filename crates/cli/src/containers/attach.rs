//! `attach`, and the connection that `run` and `start` use, too.

use super::request;
use super::run::{exit_code, watch_size};
use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, switch, text};
use crate::program::{Cli, warn};
use crate::signals::Forwarding;
use crate::streams::{self, Attached, End};
use crate::terminal;
use api::inspect::InspectResponse;
use client::Hijacked;
use std::thread;

/// The flags of `attach`.
pub(crate) const FLAGS: &[Flag] = &[
    text("detach-keys", "Override the key sequence for detaching a container"),
    switch("no-stdin", "Do not attach STDIN"),
    switch("sig-proxy", "Proxy all received signals to the process").default("true"),
];

/// Takes over a connection to a container's streams.
pub(crate) fn connect(
    cli: &Cli,
    id: &str,
    attached: Attached<'_>,
    logs: bool,
) -> Result<Hijacked, client::Error> {
    let client = cli.client().map_err(|error| match error {
        Error::Client(error) => error,
        other => client::Error::Daemon { status: 0, message: other.to_string() },
    })?;
    client
        .request("POST", format!("/containers/{}/attach", client::path_segment(id)))
        .query("stream", "1")
        .flag("stdin", attached.stdin)
        .flag("stdout", attached.stdout)
        .flag("stderr", attached.stderr)
        .flag("logs", logs)
        .query_if_set("detachKeys", attached.detach_keys)
        .hijack()
}

/// Makes what runs there draw itself anew: its terminal gets another size, and then (by the caller) the right one.
fn redraw(cli: &Cli, id: &str) -> Result<()> {
    if let Some((rows, columns)) = terminal::size() {
        let resize = request(cli, "POST", id, "/resize")?;
        let larger = |size: u16| size.saturating_add(1).to_string();
        // If the container has ended, attaching says so.
        drop(resize.query("h", larger(rows)).query("w", larger(columns)).done());
    }
    Ok(())
}

/// `attach`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let name = matches.arg(0);
    let container: InspectResponse = request(cli, "GET", name, "/json")?.decode()?;
    let state = &container.state;
    let refusal = match () {
        () if !state.running => Some("You cannot attach to a stopped container, start it first"),
        () if state.paused => Some("You cannot attach to a paused container, unpause it first"),
        () if state.restarting => {
            Some("You cannot attach to a restarting container, wait until it is running")
        }
        () => None,
    };
    if let Some(refusal) = refusal {
        return Err(Error::message(refusal));
    }
    let stdin = container.config.open_stdin && !matches.switch("no-stdin");
    let tty = container.config.tty;
    terminal::check(stdin, tty)?;
    let configured = cli.config().detach_keys.clone();
    let detach_keys = matches.given("detach-keys").unwrap_or(&configured);
    let attached = Attached { stdin, stdout: true, stderr: true, tty, detach_keys };
    let hijacked = connect(cli, name, attached, false)?;
    let client = cli.client()?;
    let code = thread::scope(|scope| -> Result<u8> {
        let forward = matches.switch("sig-proxy") && !tty;
        let _forwarding = if forward { Forwarding::start(scope, client, container.id.clone()) } else { None };
        let _sizes = if tty {
            redraw(cli, &container.id)?;
            watch_size(scope, cli, &container.id)?
        } else {
            None
        };
        if streams::copy(hijacked, attached)? == End::Detached {
            warn("read escape sequence");
            return Ok(1);
        }
        exit_code(&request(cli, "POST", &container.id, "/wait")?.bytes()?)
    })?;
    if code == 0 { Ok(()) } else { Err(Error::Exit(code)) }
}
