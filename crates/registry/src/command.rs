//! The command line: `wharf registry serve`, `garbage-collect`, `check`.

use crate::config::Config;
use crate::error::{At, Error, Result};
use crate::run;
use crate::storage::Storage;
use crate::storage::collect::{Collected, Options};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const USAGE: &str = "\
Usage:  wharf registry COMMAND

A registry of container images (OCI distribution-spec 1.1)

Commands:
  serve [CONFIG]             Serve images until SIGTERM
  garbage-collect CONFIG     Delete content that no manifest needs; may run beside a server
  check CONFIG               Read all content and name what is damaged

Options of garbage-collect:
  -d, --dry-run              Delete nothing
  -m, --delete-untagged      Delete manifests that no tag leads to
  -q, --quiet                Print nothing

CONFIG is the registry's config.yml; without one, $REGISTRY_CONFIGURATION_PATH or
/etc/wharf/registry.yml is read, and if there is no such file, images are kept in
/var/lib/registry and served at port 5000. Variables like REGISTRY_HTTP_ADDR go
before the file.
";

/// Where the configuration is if nobody says.
const DEFAULT_CONFIG: &str = "/etc/wharf/registry.yml";
const CONFIG_VARIABLE: &str = "REGISTRY_CONFIGURATION_PATH";
/// What is done without a file: as in the well-known registry's image.
const DEFAULT: &str = "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':5000'}\n";

/// A command line.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Version,
    Serve(Option<PathBuf>),
    Collect { config: PathBuf, dry_run: bool, untagged: bool, quiet: bool },
    Check(PathBuf),
}

/// Carries out a command line; returns whether all was well.
pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    match parse(arguments)? {
        Command::Help => print(USAGE).map(|()| true),
        Command::Version => print(&format!("wharf registry {}\n", env!("CARGO_PKG_VERSION"))).map(|()| true),
        Command::Serve(path) => {
            let config = read(path.as_deref())?;
            run::log(&config);
            run::run(config).map(|()| true)
        }
        Command::Collect { config, dry_run, untagged, quiet } => {
            let config = read(Some(&config))?;
            let storage = Storage::open(&config.storage.root, false)?;
            let collected = storage.collect(Options { grace: Duration::ZERO, untagged, dry_run })?;
            if !quiet {
                report(&collected)?;
            }
            Ok(true)
        }
        Command::Check(config) => {
            let config = read(Some(&config))?;
            let damaged = Storage::open(&config.storage.root, true)?.damaged()?;
            for digest in &damaged {
                print(&format!("{digest} is damaged\n"))?;
            }
            Ok(damaged.is_empty())
        }
    }
}

fn parse(arguments: &[String]) -> Result<Command> {
    let (mut flags, mut words) = (Vec::new(), Vec::new());
    for argument in arguments {
        match argument.as_str() {
            "-h" | "--help" | "help" => return Ok(Command::Help),
            flag if flag.starts_with('-') && flag.len() > 1 => flags.push(flag),
            word => words.push(word),
        }
    }
    let collects = words.first() == Some(&"garbage-collect");
    let known: &[&str] =
        if collects { &["-d", "--dry-run", "-m", "--delete-untagged", "-q", "--quiet"] } else { &[] };
    let has = |short: &str, long: &str| flags.iter().any(|flag| *flag == short || *flag == long);
    if words.is_empty() && has("-v", "--version") {
        return Ok(Command::Version);
    }
    if let Some(flag) = flags.iter().find(|flag| !known.contains(flag)) {
        return Err(Error::Usage(format!("unknown flag: {flag}\n\n{USAGE}")));
    }
    match words.as_slice() {
        [] => Ok(Command::Help),
        ["serve"] => Ok(Command::Serve(None)),
        ["serve", config] => Ok(Command::Serve(Some(PathBuf::from(config)))),
        ["garbage-collect", config] => Ok(Command::Collect {
            config: PathBuf::from(config),
            dry_run: has("-d", "--dry-run"),
            untagged: has("-m", "--delete-untagged"),
            quiet: has("-q", "--quiet"),
        }),
        ["check", config] => Ok(Command::Check(PathBuf::from(config))),
        _ => Err(Error::Usage(format!("unknown command: {}\n\n{USAGE}", words.join(" ")))),
    }
}

fn read(path: Option<&Path>) -> Result<Config> {
    let named = std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from);
    let text = match path.map(Path::to_owned).or(named) {
        Some(path) => std::fs::read_to_string(&path).at("read", &path)?,
        None => match std::fs::read_to_string(DEFAULT_CONFIG) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => DEFAULT.to_owned(),
            Err(error) => return Err(error).at("read", Path::new(DEFAULT_CONFIG)),
        },
    };
    let variables = std::env::vars_os()
        .filter(|(name, _)| name != CONFIG_VARIABLE)
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::read(&text, variables)
}

fn report(collected: &Collected) -> Result<()> {
    let mut text = String::new();
    for (name, digest) in &collected.untagged {
        text.push_str(&format!("manifest eligible for deletion: {name}@{digest}\n"));
    }
    text.push_str(&format!(
        "{} blobs marked, {} blobs and {} manifests eligible for deletion\n",
        collected.marked,
        collected.blobs.len(),
        collected.untagged.len()
    ));
    for digest in &collected.blobs {
        text.push_str(&format!("blob eligible for deletion: {digest}\n"));
    }
    print(&text)
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).at("write", Path::new("standard output"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let parsed = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            parse(&words).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
        };
        let collect =
            |dry_run, untagged| Command::Collect { config: "c".into(), dry_run, untagged, quiet: false };
        for (line, expected) in [
            ("serve", Ok(Command::Serve(None))),
            (
                "serve /etc/docker/registry/config.yml",
                Ok(Command::Serve(Some("/etc/docker/registry/config.yml".into()))),
            ),
            ("garbage-collect c", Ok(collect(false, false))),
            ("garbage-collect -d c --delete-untagged", Ok(collect(true, true))),
            ("--version", Ok(Command::Version)),
            ("", Ok(Command::Help)),
            ("serve --help", Ok(Command::Help)),
            ("serve --nope", Err("unknown flag: --nope".to_owned())),
            ("serve a b", Err("unknown command: serve a b".to_owned())),
        ] {
            assert_eq!(parsed(line), expected, "{line}");
        }
        assert_eq!(Config::read(DEFAULT, std::iter::empty()).unwrap().http.address, ":5000");
    }
}
