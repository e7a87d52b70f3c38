//! The running program: its name, global options, configuration and connection.

use crate::config::ConfigFile;
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, switch, text};
use crate::start;
use client::{Client, Host};
use std::cell::OnceCell;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Flags that come before the command.
pub(crate) const GLOBAL_FLAGS: &[Flag] = &[
    text("config", "Directory of the client's configuration"),
    text("context", "Name of the context to connect through").short('c').hidden(),
    switch("debug", "Enable debug mode").short('D'),
    Flag::new("host", Kind::List, "Socket of the daemon to connect to").short('H'),
    text("log-level", "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")")
        .short('l')
        .default("info"),
    switch("tls", "Use TLS; implied by --tlsverify").hidden(),
    text("tlscacert", "Trust only certificates signed by this CA").hidden(),
    text("tlscert", "Path of the TLS certificate").hidden(),
    text("tlskey", "Path of the TLS key").hidden(),
    switch("tlsverify", "Use TLS and verify the remote").hidden(),
    switch("version", "Print version information and quit").short('v'),
];

/// What a command has to work with.
#[derive(Debug)]
pub(crate) struct Cli {
    /// How the program was called: `docker`, or else `wharf`.
    pub(crate) program: String,
    host: Option<String>,
    config_dir: Option<PathBuf>,
    config: OnceCell<ConfigFile>,
    client: OnceCell<Client>,
}

impl Cli {
    pub(crate) fn new(program: String, globals: &Matches) -> Self {
        let set = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        let from_environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            program,
            host: set(globals.text("host"))
                .or_else(|| from_environment("WHARF_HOST"))
                .or_else(|| from_environment("DOCKER_HOST")),
            config_dir: set(globals.text("config"))
                .or_else(|| from_environment("DOCKER_CONFIG"))
                .or_else(|| from_environment("HOME").map(|home| format!("{home}/.docker")))
                .map(PathBuf::from),
            config: OnceCell::new(),
            client: OnceCell::new(),
        }
    }

    /// Returns the user's configuration; defaults if there is none.
    pub(crate) fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| self.config_dir.as_deref().map(ConfigFile::load).unwrap_or_default())
    }

    /// Returns the directory of the user's configuration, if there is a home for it.
    pub(crate) fn config_dir(&self) -> Option<&Path> {
        self.config_dir.as_deref()
    }

    /// Returns the client. If no host was named and nothing listens at the default socket, a daemon is started.
    pub(crate) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let named = self.host.as_deref().map(Host::parse).transpose()?;
        let start_if_absent = named.is_none();
        let host = named.unwrap_or_else(|| Host::Unix(PathBuf::from(base::paths::DEFAULT_SOCKET)));
        let version = match std::env::var("DOCKER_API_VERSION").ok().filter(|version| !version.is_empty()) {
            Some(version) => Some(version.parse().map_err(|error| Error::message(format!("{error}")))?),
            None => None,
        };
        let client =
            Client::new(host, concat!("Wharf-Client/", env!("CARGO_PKG_VERSION"), " (linux)"), version);
        if start_if_absent && matches!(client.ping(), Err(client::Error::Connect { .. })) {
            start::daemon(&client)?;
        }
        Ok(self.client.get_or_init(|| client))
    }
}

/// Writes to standard output. A reader that went away is no error worth a word.
pub(crate) fn print(text: impl AsRef<str>) {
    print_bytes(text.as_ref().as_bytes());
}

/// Writes a line to standard output.
pub(crate) fn print_line(text: impl AsRef<str>) {
    let mut line = text.as_ref().to_owned();
    line.push('\n');
    print_bytes(line.as_bytes());
}

/// Writes bytes to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    // Nobody is left to be told that nobody listens.
    drop(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

/// Writes to standard error.
pub(crate) fn print_error(text: impl AsRef<str>) {
    drop(std::io::stderr().lock().write_all(text.as_ref().as_bytes()));
}

/// Writes a line to standard error.
pub(crate) fn warn(text: impl AsRef<str>) {
    let mut line = text.as_ref().to_owned();
    line.push('\n');
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

/// Says whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Returns the columns of the terminal at standard output; 80 if there is none.
pub(crate) fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}
