//! Commands that do the same to each of their arguments.

use crate::error::{Error, Result};
use crate::program::{print_line, warn};

/// Does `work` for each name and prints what it returns; failures are told and the others still done.
pub(crate) fn each(names: &[String], mut work: impl FnMut(&str) -> Result<Option<String>>) -> Result<()> {
    let mut failed = false;
    for name in names {
        match work(name) {
            Ok(Some(line)) => print_line(line),
            Ok(None) => {}
            Err(error) => {
                failed = true;
                if !matches!(error, Error::Exit(_)) {
                    warn(error.to_string());
                }
            }
        }
    }
    if failed { Err(Error::Exit(1)) } else { Ok(()) }
}
