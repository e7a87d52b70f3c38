//! The daemon: it serves the Engine API to any number of clients and knows nothing of how containers work.
//!
//! 1. [`config`]: command line and daemon.json → [`Config`], pure;
//! 2. [`instance`]: one daemon per data root;
//! 3. the engine is opened, which finds the containers that run;
//! 4. [`http`]: sockets, connections, requests → `routes` → the engine → `views` → answers;
//! 5. SIGTERM and SIGINT end the serving and leave every container running; SIGHUP reads daemon.json again.

pub mod config;
pub mod http;
pub mod instance;
pub mod journal;
pub mod metrics;
mod routes;
pub mod run;
pub mod time;
pub mod views;

pub use config::Config;

use config::{HostFacts, parse, remap, resolve};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the daemon with the arguments that follow its name; returns when it has stopped.
pub fn main(arguments: &[String]) -> ExitCode {
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; there is no other place to tell.
            drop(writeln!(std::io::stderr(), "{}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    base::chain(error)
}

fn start(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let flags = parse::command_line(arguments.iter().cloned()).map_err(config::ConfigError::CommandLine)?;
    if flags.last("help") == Some("true") {
        return Ok(std::io::stdout().write_all(config::flags::usage().as_bytes())?);
    }
    if flags.last("version") == Some("true") {
        return Ok(writeln!(std::io::stdout(), "Wharf version {}", views::system::VERSION)?);
    }
    let given = config::read(flags.clone())?;
    if given.last("userns-remap") == Some("default") && given.last("validate") != Some("true") {
        remap::provide_default_user()?;
    }
    let facts = host_facts()?;
    let config = resolve::resolve(&given, &facts).map_err(config::ConfigError::Value)?;
    if given.last("validate") == Some("true") {
        // On standard error, as dockerd does.
        return Ok(writeln!(std::io::stderr(), "configuration OK")?);
    }
    let colours = !config.raw_logs && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let volume = journal::start(config.log_level, config.log_format, colours);
    run::run(config, run::Reload { flags, facts, volume })?;
    Ok(())
}

fn host_facts() -> std::io::Result<HostFacts> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let client_settings =
        std::env::var_os("DOCKER_CERT_PATH").map_or_else(|| home.join(".docker"), PathBuf::from);
    let proxies = distribution::Proxies::from_variables(|name| std::env::var(name).ok());
    let oldest_api = std::env::var("DOCKER_MIN_API_VERSION").ok();
    Ok(HostFacts {
        executable: std::env::current_exe()?,
        client_settings,
        proxies,
        oldest_api,
        accounts: remap::Accounts::read(),
    })
}
