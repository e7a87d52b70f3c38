//! The running program: its name, global options, configuration and connection.

use crate::config::ConfigFile;
use crate::context::store::{DEFAULT, Store};
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, switch, text};
use crate::{login, start};
use client::{Client, Host, Tls};
use std::cell::OnceCell;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Flags that come before the command.
pub(crate) const GLOBAL_FLAGS: &[Flag] = &[
    text("config", "Location of client config files"),
    text(
        "context",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")",
    )
    .short('c'),
    switch("debug", "Enable debug mode").short('D'),
    Flag::new("host", Kind::List, "Daemon socket to connect to").short('H'),
    text("log-level", "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")")
        .short('l')
        .default("info"),
    switch("tls", "Use TLS; implied by --tlsverify"),
    text("tlscacert", "Trust certs signed only by this CA"),
    text("tlscert", "Path to TLS certificate file"),
    text("tlskey", "Path to TLS key file"),
    switch("tlsverify", "Use TLS and verify the remote"),
    switch("version", "Print version information and quit").short('v'),
];

/// What a command has to work with.
#[derive(Debug)]
pub(crate) struct Cli {
    /// How the program was called: `docker`, or else `wharf`.
    pub(crate) program: String,
    /// The host that a flag names.
    host_flag: Option<String>,
    /// The host that the environment names.
    host_variable: Option<String>,
    context_flag: Option<String>,
    /// What flags and environment say of TLS, if it is to be used.
    tls: Option<Tls>,
    config_dir: Option<PathBuf>,
    config: OnceCell<ConfigFile>,
    client: OnceCell<Client>,
}

fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns how TLS is to be used, by the flags and the variables of Docker's client.
fn tls(globals: &Matches, config_dir: Option<&Path>) -> Option<Tls> {
    let on = |flag: &str, variable: &str| {
        if globals.changed(flag) { globals.switch(flag) } else { from_environment(variable).is_some() }
    };
    let verify = on("tlsverify", "DOCKER_TLS_VERIFY");
    // The other flags ask for nothing by themselves.
    if !verify && !on("tls", "DOCKER_TLS") {
        return None;
    }
    let folder =
        from_environment("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| config_dir.map(Path::to_owned));
    let file = |flag: &str, name: &str| match globals.given(flag) {
        Some(path) => Some(PathBuf::from(path.trim_matches('"'))).filter(|path| !path.as_os_str().is_empty()),
        // By default only if it is there.
        None => folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.is_file()),
    };
    Some(Tls {
        authority: file("tlscacert", "ca.pem"),
        identity: file("tlscert", "cert.pem").zip(file("tlskey", "key.pem")),
        skip_verify: !verify,
    })
}

impl Cli {
    pub(crate) fn new(program: String, globals: &Matches) -> Self {
        let set = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        let config_dir = set(globals.text("config"))
            .or_else(|| from_environment("DOCKER_CONFIG"))
            .or_else(|| from_environment("HOME").map(|home| format!("{home}/.docker")))
            .map(PathBuf::from);
        Self {
            program,
            host_flag: set(globals.text("host")),
            host_variable: from_environment("WHARF_HOST").or_else(|| from_environment("DOCKER_HOST")),
            context_flag: set(globals.text("context")),
            tls: tls(globals, config_dir.as_deref()),
            config_dir,
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

    /// Returns the user's contexts.
    pub(crate) fn contexts(&self) -> Result<Store> {
        let folder = self.config_dir();
        folder.map(Store::new).ok_or_else(|| Error::message("no home directory for the configuration"))
    }

    /// Returns the name of the context in force: the flag's, the default one if a host is named, else the one of the
    /// environment or of the configuration.
    pub(crate) fn context_name(&self) -> Result<String> {
        match (&self.context_flag, &self.host_flag) {
            (Some(_), Some(_)) => {
                return Err(Error::message("conflicting options: cannot specify both --host and --context"));
            }
            (Some(context), None) => return Ok(context.clone()),
            (None, Some(_)) => return Ok(DEFAULT.to_owned()),
            (None, None) if self.host_variable.is_some() => return Ok(DEFAULT.to_owned()),
            (None, None) => {}
        }
        let configured = Some(self.config().current_context.clone()).filter(|name| !name.is_empty());
        Ok(from_environment("DOCKER_CONTEXT").or(configured).unwrap_or_else(|| DEFAULT.to_owned()))
    }

    /// Makes `name` the context of commands that name none.
    pub(crate) fn set_current_context(&self, name: &str) -> Result<()> {
        login::change_config(self, |document| {
            if name == DEFAULT {
                document.shift_remove("currentContext");
            } else {
                document.insert("currentContext".to_owned(), name.into());
            }
        })
        .map(drop)
    }

    /// Returns the address that flags and environment name, or the default one.
    pub(crate) fn named_host(&self) -> String {
        let named = self.host_flag.as_ref().or(self.host_variable.as_ref());
        named.cloned().unwrap_or_else(|| format!("unix://{}", base::paths::DEFAULT_SOCKET))
    }

    /// Returns the engine's address, and whether it was named by anybody.
    fn host(&self) -> Result<(Host, bool)> {
        let context = self.context_name()?;
        if context != DEFAULT {
            let host = self.contexts()?.host(&context).map_err(|error| {
                Error::message(format!("Failed to initialize: unable to resolve docker endpoint: {error}"))
            })?;
            return Ok((host, true));
        }
        let named = self.host_flag.is_some() || self.host_variable.is_some();
        Ok((Host::parse(&self.named_host(), self.tls.as_ref())?, named))
    }

    /// Returns the client. If no host was named and nothing listens at the default socket, a daemon is started.
    pub(crate) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let (host, named) = self.host()?;
        let version = match from_environment("DOCKER_API_VERSION") {
            Some(version) => Some(version.parse().map_err(|error| Error::message(format!("{error}")))?),
            None => None,
        };
        let client =
            Client::new(host, concat!("Wharf-Client/", env!("CARGO_PKG_VERSION"), " (linux)"), version);
        if !named && matches!(client.ping(), Err(client::Error::Connect { .. })) {
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
