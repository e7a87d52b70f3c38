//! `logs`

use super::request;
use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, switch, text};
use crate::moments::query_time;
use crate::program::{Cli, print_bytes};
use crate::streams;
use api::inspect::InspectResponse;
use std::io::Read;

/// The flags of `logs`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("details", "Show extra details provided to logs"),
    switch("follow", "Follow log output").short('f'),
    text(
        "since",
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    text("tail", "Number of lines to show from the end of the logs").short('n').default("all"),
    switch("timestamps", "Show timestamps").short('t'),
    text(
        "until",
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

/// `logs`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let name = matches.arg(0);
    let container: InspectResponse = request(cli, "GET", name, "/json")?.decode()?;
    let moment = |flag: &str| {
        query_time(matches.text(flag))
            .map_err(|error| Error::message(format!("invalid value for \"{flag}\": {error}")))
    };
    let mut response = request(cli, "GET", &container.id, "/logs")?
        .query("stdout", "1")
        .query("stderr", "1")
        .query_if_set("since", moment("since")?)
        .query_if_set("until", moment("until")?)
        .flag("timestamps", matches.switch("timestamps"))
        .flag("details", matches.switch("details"))
        .flag("follow", matches.switch("follow"))
        .query_if_set("tail", matches.text("tail"))
        .send()?;
    if !container.config.tty {
        return streams::frames(&mut response, true, true);
    }
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match response.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => print_bytes(buffer.get(..length).unwrap_or_default()),
            Err(error) => return Err(Error::file("read", "logs")(error)),
        }
    }
}
