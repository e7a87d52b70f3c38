//! What changes a container, or makes something of it: `diff`, `update`, `commit`, `export`.

use super::request;
use crate::each::each;
use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, list, switch, text};
use crate::options::{limits, ports, security};
use crate::output;
use crate::program::{Cli, print_line, warn};
use api::IdResponse;
use api::container::{Change, UpdateRequest, UpdateResponse};

/// What `update` has beyond the limits.
pub(crate) const UPDATE_FLAGS: &[Flag] = &[
    list("publish-add", "Publish a further port, at once if the container runs"),
    list("publish-rm", "Publish a port no longer ([IP:][HOST:]CONTAINER[/PROTOCOL])"),
    text("restart", "Restart policy to apply when a container exits"),
];

/// The flags of `commit`.
pub(crate) const COMMIT_FLAGS: &[Flag] = &[
    text("author", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")").short('a'),
    list("change", "Apply Dockerfile instruction to the created image").short('c'),
    text("message", "Commit message").short('m'),
    switch("pause", "Pause container during commit").short('p').default("true"),
    switch("no-pause", "Disable pausing container during commit"),
];

/// The flags of `export`.
pub(crate) const EXPORT_FLAGS: &[Flag] = &[text("output", "Write to a file, instead of STDOUT").short('o')];

/// `diff`
pub(crate) fn diff(cli: &Cli, matches: &Matches) -> Result<()> {
    let name = matches.arg(0);
    if name.is_empty() {
        return Err(Error::message("Container name cannot be empty"));
    }
    let changes: Option<Vec<Change>> = request(cli, "GET", name, "/changes")?.decode()?;
    for change in changes.unwrap_or_default() {
        let kind = match change.kind {
            0 => "C",
            1 => "A",
            _ => "D",
        };
        print_line(format!("{kind} {}", change.path));
    }
    Ok(())
}

/// `update`
pub(crate) fn update(cli: &Cli, matches: &Matches) -> Result<()> {
    let restart_policy = security::restart_policy(matches.text("restart")).map_err(Error::Message)?;
    let resources = api::host_config::Resources {
        pids_limit: matches.changed("pids-limit").then(|| matches.int("pids-limit")),
        ..limits::resources(matches)
    };
    let ports = |flag: &str| match matches.list(flag) {
        [] => Ok(None),
        list => ports::parse(list, &[]).map(|ports| Some(ports.bindings)).map_err(Error::Message),
    };
    let (publish_add, publish_rm) = (ports("publish-add")?, ports("publish-rm")?);
    let update = UpdateRequest { resources, restart_policy, publish_add, publish_rm };
    if update == UpdateRequest::default() {
        return Err(Error::message("you must provide one or more flags when using this command"));
    }
    let mut warnings = Vec::new();
    let result = each(&matches.args, |name| {
        let answer: UpdateResponse = request(cli, "POST", name, "/update")?.json(&update).decode()?;
        warnings.extend(answer.warnings.unwrap_or_default());
        Ok(Some(name.to_owned()))
    });
    if !warnings.is_empty() {
        warn(warnings.join("\n"));
    }
    result
}

/// `commit`
pub(crate) fn commit(cli: &Cli, matches: &Matches) -> Result<()> {
    let reference = matches.arg(1);
    let (repository, tag) = crate::images::split_name(reference)?;
    let mut request = cli
        .client()?
        .request("POST", "/commit")
        .query("container", matches.arg(0))
        .query_if_set("repo", repository)
        .query_if_set("tag", tag)
        .query_if_set("comment", matches.text("message"))
        .query_if_set("author", matches.text("author"));
    for change in matches.list("change") {
        request = request.query("changes", change);
    }
    if !matches.switch("pause") || matches.switch("no-pause") {
        request = request.query("pause", "0");
    }
    let created: IdResponse = request.decode()?;
    print_line(created.id);
    Ok(())
}

/// `export`
pub(crate) fn export(cli: &Cli, matches: &Matches) -> Result<()> {
    let path = matches.text("output");
    output::check("save", path)?;
    let response = request(cli, "GET", matches.arg(0), "/export")?.send()?;
    output::write(response, path)
}
