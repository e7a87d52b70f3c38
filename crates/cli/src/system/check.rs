//! `system check`: is everything that the engine keeps as it should be?

use crate::error::Result;
use crate::flags::{Flag, Matches, switch};
use crate::program::Cli;
use crate::progress;
use std::io;

/// The flags of `system check`.
pub(crate) const FLAGS: &[Flag] = &[switch("repair", "Fetch or unpack again what is damaged")];

/// `system check`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let request = cli.client()?.request("POST", "/system/check").flag("repair", matches.switch("repair"));
    progress::show(request.send()?, &mut io::stdout().lock(), None, |_| {})
}
