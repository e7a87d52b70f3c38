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
    let repair = matches.switch("repair");
    let mut request = cli.client()?.request("POST", "/system/check").flag("repair", repair);
    if repair {
        // What is damaged may have come from a registry that wants to know who asks.
        request = request.header("X-Registry-Config", &cli.config().all_auth_header());
    }
    progress::show(request.send()?, &mut io::stdout().lock(), None, |_| {})
}
