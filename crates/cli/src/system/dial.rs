//! `system dial-stdio`: the connection to the engine as standard input and output, for clients behind ssh.

use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::program::Cli;
use std::io::{self, Write as _};

/// `system dial-stdio`
pub(crate) fn run(cli: &Cli, _matches: &Matches) -> Result<()> {
    let mut engine = cli.client()?.dial()?;
    let broken = |error: io::Error| Error::message(format!("the connection to the engine broke: {error}"));
    let mut to_engine = engine.try_clone().map_err(broken)?;
    std::thread::spawn(move || {
        // The engine sees the end of input; what it still says is passed on.
        drop(io::copy(&mut io::stdin().lock(), &mut to_engine));
        drop(to_engine.close_write());
    });
    let mut output = io::stdout().lock();
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = io::Read::read(&mut engine, &mut buffer).map_err(broken)?;
        let piece = buffer.get(..length).unwrap_or_default();
        if piece.is_empty() {
            return Ok(());
        }
        output.write_all(piece).and_then(|()| output.flush()).map_err(broken)?;
    }
}
