//! `pull` and `push`.

use super::reference;
use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, switch, text};
use crate::program::{Cli, columns, print_line, stdout_is_terminal};
use crate::progress;
use oci::Reference;
use std::io::{self, IsTerminal, Write};

/// The flags of `pull`.
pub(crate) const PULL_FLAGS: &[Flag] = &[
    switch("all-tags", "Download all tagged images in the repository").short('a'),
    switch("disable-content-trust", "Skip image verification").default("true"),
    text("platform", "Set platform if server is multi-platform capable"),
    switch("quiet", "Suppress verbose output").short('q'),
    super::TLS_VERIFY,
];

/// The flags of `push`.
pub(crate) const PUSH_FLAGS: &[Flag] = &[
    switch("all-tags", "Push all tags of an image to the repository").short('a'),
    switch("disable-content-trust", "Skip image signing").default("true"),
    text(
        "platform",
        "Push a platform-specific manifest as a single-platform image to the registry.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
    switch("quiet", "Suppress verbose output").short('q'),
    super::TLS_VERIFY,
];

/// `pull`
pub(crate) fn pull(cli: &Cli, matches: &Matches) -> Result<()> {
    let all = matches.switch("all-tags");
    let mut wanted = reference(matches.arg(0))?;
    if all && (wanted.tag().is_some() || wanted.digest().is_some()) {
        return Err(Error::message("tag can't be used with --all-tags/-a"));
    }
    let quiet = matches.switch("quiet");
    if !all && wanted.tag().is_none() && wanted.digest().is_none() {
        wanted = wanted.with_default_tag();
        if !quiet {
            print_line(format!("Using default tag: {}", wanted.tag().unwrap_or_default()));
        }
    }
    let from_environment = || std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default();
    let platform = matches.given("platform").map_or_else(from_environment, str::to_owned);
    let terminal = stdout_is_terminal().then(columns);
    let mut stdout = io::stdout().lock();
    let verify = matches.switch("tls-verify");
    fetch(cli, &wanted, &platform, verify, &mut Output { writer: &mut stdout, terminal, quiet })?;
    drop(stdout);
    print_line(canonical(&wanted));
    Ok(())
}

/// Pulls for `create` and `run`: progress goes to standard error.
pub(crate) fn for_create(cli: &Cli, wanted: &Reference, platform: &str, quiet: bool) -> Result<()> {
    let mut stderr = io::stderr().lock();
    let terminal = stderr.is_terminal().then(columns);
    fetch(cli, wanted, platform, true, &mut Output { writer: &mut stderr, terminal, quiet })
}

/// The full reference: with registry and tag or digest.
fn canonical(reference: &Reference) -> String {
    reference.to_string()
}

struct Output<'a> {
    writer: &'a mut dyn Write,
    terminal: Option<usize>,
    quiet: bool,
}

fn fetch(cli: &Cli, wanted: &Reference, platform: &str, verify: bool, output: &mut Output<'_>) -> Result<()> {
    let tag = match wanted.digest() {
        Some(digest) => digest.to_string(),
        None => wanted.tag().unwrap_or_default().to_owned(),
    };
    let response = cli
        .client()?
        .request("POST", "/images/create")
        .query("fromImage", wanted.repository())
        .query("tag", tag)
        .query_if_set("platform", platform.to_lowercase())
        .flag("sizes", output.terminal.is_some() && !output.quiet)
        .query_if_set("tlsVerify", super::unverified(verify))
        .header("X-Registry-Auth", &cli.config().auth_header(wanted.domain()))
        .send()?;
    let mut nowhere = io::sink();
    let writer: &mut dyn Write = if output.quiet { &mut nowhere } else { output.writer };
    progress::show(response, writer, output.terminal, |_| {})
}

/// `push`
pub(crate) fn push(cli: &Cli, matches: &Matches) -> Result<()> {
    let all = matches.switch("all-tags");
    let mut wanted = reference(matches.arg(0))?;
    if all && wanted.tag().is_some() {
        return Err(Error::message("tag can't be used with --all-tags/-a"));
    }
    let quiet = matches.switch("quiet");
    if !all && wanted.tag().is_none() && wanted.digest().is_none() {
        wanted = wanted.with_default_tag();
        if !quiet {
            print_line(format!("Using default tag: {}", wanted.tag().unwrap_or_default()));
        }
    }
    let response = super::request(cli, "POST", &wanted.repository(), "/push")?
        .query_if_set("tag", wanted.tag().unwrap_or_default())
        .query_if_set("platform", matches.text("platform"))
        .query_if_set("tlsVerify", super::unverified(matches.switch("tls-verify")))
        .header("X-Registry-Auth", &cli.config().auth_header(wanted.domain()))
        .send()?;
    let mut stdout = io::stdout().lock();
    if quiet {
        progress::show(response, &mut io::sink(), None, |_| {})?;
        drop(stdout);
        print_line(canonical(&wanted));
        return Ok(());
    }
    progress::show(response, &mut stdout, stdout_is_terminal().then(columns), |_| {})
}
