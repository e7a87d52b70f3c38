//! `checkpoint`: a container's processes in files, to go on from there by `start --checkpoint`.

use crate::containers::request;
use crate::error::Result;
use crate::flags::{Flag, Matches, switch, text};
use crate::program::{Cli, print_line};
use api::checkpoint::{CreateRequest, Summary};
use client::path_segment;

/// The flag of all of them.
pub(crate) const PLACE: Flag = text("checkpoint-dir", "Use a custom checkpoint storage directory");

/// The flags of `checkpoint create`.
pub(crate) const CREATE_FLAGS: &[Flag] =
    &[PLACE, switch("leave-running", "Leave the container running after checkpoint")];

/// The flags of `checkpoint ls` and `checkpoint rm`.
pub(crate) const FLAGS: &[Flag] = &[PLACE];

/// `checkpoint create`
pub(crate) fn create(cli: &Cli, matches: &Matches) -> Result<()> {
    let wanted = CreateRequest {
        name: matches.arg(1).to_owned(),
        folder: matches.text("checkpoint-dir").to_owned(),
        exit: !matches.switch("leave-running"),
    };
    request(cli, "POST", matches.arg(0), "/checkpoints")?.json(&wanted).done()?;
    print_line(wanted.name);
    Ok(())
}

/// `checkpoint ls`
pub(crate) fn ls(cli: &Cli, matches: &Matches) -> Result<()> {
    let asked = request(cli, "GET", matches.arg(0), "/checkpoints")?;
    let found: Vec<Summary> = asked.query_if_set("dir", matches.text("checkpoint-dir")).decode()?;
    print_line("CHECKPOINT NAME");
    for checkpoint in found {
        print_line(checkpoint.name);
    }
    Ok(())
}

/// `checkpoint rm`
pub(crate) fn rm(cli: &Cli, matches: &Matches) -> Result<()> {
    let path = format!("/checkpoints/{}", path_segment(matches.arg(1)));
    let asked = request(cli, "DELETE", matches.arg(0), &path)?;
    Ok(asked.query_if_set("dir", matches.text("checkpoint-dir")).done()?)
}
