//! `load`, `save` and `import`.

use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, list, switch, text};
use crate::output;
use crate::program::{Cli, columns, print, stdout_is_terminal};
use crate::progress;
use std::fs::File;
use std::io::{self, IsTerminal, Read};

/// The flags of `load`.
pub(crate) const LOAD_FLAGS: &[Flag] = &[
    text("input", "Read from tar archive file, instead of STDIN").short('i'),
    text(
        "platform",
        "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    switch("quiet", "Suppress the load output").short('q'),
];

/// The flags of `save`.
pub(crate) const SAVE_FLAGS: &[Flag] = &[
    text("output", "Write to a file, instead of STDOUT").short('o'),
    text(
        "platform",
        "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

/// The flags of `import`.
pub(crate) const IMPORT_FLAGS: &[Flag] = &[
    list("change", "Apply Dockerfile instruction to the created image").short('c'),
    text("message", "Set commit message for imported image").short('m'),
    text("platform", "Set platform if server is multi-platform capable"),
];

/// Adds `--platform`.
fn platform<'a>(request: client::Request<'a>, matches: &Matches) -> Result<client::Request<'a>> {
    Ok(request.query_if_set("platform", super::list::checked_platform(matches.text("platform"))?))
}

/// `load`
pub(crate) fn load(cli: &Cli, matches: &Matches) -> Result<()> {
    let path = matches.text("input");
    let mut source: Box<dyn Read> = if path.is_empty() {
        if io::stdin().is_terminal() {
            return Err(Error::message("requested load from stdin, but stdin is empty"));
        }
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(Error::file("open", path))?)
    };
    let quiet = matches.switch("quiet") || !stdout_is_terminal();
    let request = cli.client()?.request("POST", "/images/load").query("quiet", if quiet { "1" } else { "0" });
    let response = platform(request, matches)?.stream(&mut *source, "application/x-tar").send()?;
    if response.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return progress::show(
            response,
            &mut io::stdout().lock(),
            stdout_is_terminal().then(columns),
            |_| {},
        );
    }
    print(String::from_utf8_lossy(&response.bytes()?));
    Ok(())
}

/// `save`
pub(crate) fn save(cli: &Cli, matches: &Matches) -> Result<()> {
    let path = matches.text("output");
    output::check("save", path)?;
    let mut request = cli.client()?.request("GET", "/images/get");
    for name in &matches.args {
        request = request.query("names", name);
    }
    output::write(platform(request, matches)?.send()?, path)
}

/// `import`
pub(crate) fn import(cli: &Cli, matches: &Matches) -> Result<()> {
    let source = matches.arg(0);
    let (repository, tag) = super::split_name(matches.arg(1))?;
    let mut request = cli
        .client()?
        .request("POST", "/images/create")
        .query_if_set("repo", repository)
        .query_if_set("tag", tag)
        .query_if_set("message", matches.text("message"))
        .query_if_set("platform", matches.text("platform").to_lowercase());
    for change in matches.list("change") {
        request = request.query("changes", change);
    }
    let is_url = ["http://", "https://", "ftp://"].iter().any(|scheme| source.starts_with(scheme));
    let mut input: Box<dyn Read> = match source {
        "-" => Box::new(io::stdin()),
        _ if is_url => Box::new(io::empty()),
        path => Box::new(File::open(path).map_err(Error::file("open", path))?),
    };
    let request = request.query("fromSrc", if is_url { source } else { "-" });
    let response = request.stream(&mut *input, "text/plain").send()?;
    progress::show(response, &mut io::stdout().lock(), stdout_is_terminal().then(columns), |_| {})
}
