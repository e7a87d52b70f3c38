//! `system reload`: the daemon reads its configuration again, without stopping anything.

use crate::error::Result;
use crate::flags::Matches;
use crate::program::{Cli, print_line};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Answer {
    changed: Vec<String>,
}

/// `system reload`
pub(crate) fn run(cli: &Cli, _matches: &Matches) -> Result<()> {
    let answer: Answer = cli.client()?.request("POST", "/system/reload").decode()?;
    print_line(match answer.changed.as_slice() {
        [] => "Nothing has changed".to_owned(),
        changed => format!("Changed: {}", changed.join(", ")),
    });
    Ok(())
}
