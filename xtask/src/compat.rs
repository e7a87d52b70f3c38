//! The coverage report: Docker's surface, row by row, against what is here and which tests name it.
//!
//! The tables (one row for each flag, endpoint, option and filter of Docker's) are no part of the checkout; the folder that has
//! them is an argument. What is here is read off the executable's own help and the sources of routes and options. A test
//! counts for a row if its text names the flag, the path or the option: that says where to look, not that every meaning of
//! the row is tested.

use crate::steps::{root, say, warn};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Commands of swarm and plugins, and those that Docker's client has as plugins of its own.
const ELSEWHERE: [&str; 9] =
    ["swarm", "node", "service", "stack", "secret", "config", "plugin", "trust", "buildx"];

/// A line of a table.
type Row = Vec<String>;

/// Test files by name, and the sources that are looked at.
struct Evidence {
    tests: Vec<(String, String)>,
    routes: String,
    options: String,
    filters: String,
}

/// Writes `docs/compat/*.md` from the tables in `folder`.
///
/// # Errors
///
/// Returns what cannot be read or written.
pub(crate) fn command(folder: Option<&String>) -> Result<ExitCode, String> {
    let folder = folder.ok_or("usage: WHARF=EXECUTABLE cargo xtask compat FOLDER-OF-TABLES")?;
    let folder = Path::new(folder);
    let wharf = std::env::var("WHARF").map_err(|_unset| "WHARF names the executable".to_owned())?;
    let root = root();
    let evidence = Evidence {
        tests: texts(&root.join("tests/e2e/tests")),
        routes: joined(&root.join("crates/daemon/src/routes")),
        options: joined(&root.join("crates/daemon/src/config")),
        filters: joined(&root.join("crates/daemon/src")) + &joined(&root.join("crates/engine/src")),
    };
    let target = root.join("docs/compat");
    fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    let pages = [
        ("commands.md", commands(&table(folder, "cli.tsv")?, &wharf, &evidence)),
        ("endpoints.md", endpoints(&table(folder, "api.tsv")?, &evidence)),
        ("daemon.md", options(&table(folder, "dockerd.tsv")?, &evidence)),
        (
            "fields.md",
            crate::fields::page(
                &table(folder, "api_fields.tsv")?,
                &joined(&root.join("crates/api/src")),
                &evidence.tests,
            ),
        ),
        ("filters.md", filters(&table(folder, "filters.tsv")?, &evidence)),
    ];
    for (name, text) in pages {
        let path = target.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        say(&path.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn table(folder: &Path, name: &str) -> Result<Vec<Row>, String> {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

/// Returns the source files of a folder and those below it, with their names.
fn texts(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(texts(&path));
        } else if let (Some(stem), Ok(text)) = (path.file_stem(), fs::read_to_string(&path)) {
            found.push((stem.to_string_lossy().into_owned(), text));
        }
    }
    found.sort();
    found
}

fn joined(folder: &Path) -> String {
    texts(folder).into_iter().map(|(_, text)| text).collect()
}

fn cell(row: &Row, place: usize) -> &str {
    row.get(place).map_or("", String::as_str)
}

impl Evidence {
    /// Says whether a test file has a text.
    fn has(&self, test: &str, text: &str) -> bool {
        self.tests.iter().any(|(name, content)| name == test && content.contains(text))
    }

    /// Returns the test files that have one of `texts`.
    fn naming(&self, texts: &[String]) -> Vec<&str> {
        let has = |test: &&(String, String)| texts.iter().any(|text| test.1.contains(text.as_str()));
        self.tests.iter().filter(has).map(|(name, _)| name.as_str()).collect()
    }
}

const HEAD: &str = "Made by `cargo xtask compat`. A test is listed where its text names the row; that says where to look, not that every\n\
                    meaning is tested.\n\n";

fn commands(rows: &[Row], wharf: &str, evidence: &Evidence) -> String {
    let mut by_command: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_command.entry(cell(row, 0)).or_default().push(row);
    }
    let (mut named, mut unnamed, mut missing) = (0, 0, 0);
    let mut lines = String::new();
    for (name, rows) in by_command {
        let words: Vec<&str> = name.split(' ').skip(1).collect();
        if words.first().is_some_and(|word| ELSEWHERE.contains(word)) {
            continue;
        }
        let help = Command::new(wharf).args(&words).arg("--help").output().map(|output| output.stdout);
        let help = String::from_utf8_lossy(&help.unwrap_or_default()).into_owned();
        let known =
            words.last().is_none_or(|last| help.lines().next().is_some_and(|line| line.contains(last)));
        let (mut seen, mut silent, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows.iter().filter(|row| !cell(row, 3).is_empty()) {
            let flag = cell(row, 3);
            // Flags of Windows and of swarm are nobody's here.
            if ["windows", "swarm"].iter().any(|word| cell(row, 8).contains(word)) {
                continue;
            }
            let hidden = cell(row, 8).contains("hidden") || cell(row, 8).contains("deprecated");
            if !known
                || (!hidden && !help.contains(&format!("{flag} ")) && !help.contains(&format!("{flag}\n")))
            {
                absent.push(format!("`{flag}`"));
                continue;
            }
            let word = format!("\"{}\"", words.last().copied().unwrap_or_default());
            let mut tests = evidence.naming(&[format!("\"{flag}\""), format!("\"{flag}=")]);
            tests.retain(|test| words.is_empty() || evidence.has(test, &word));
            if tests.is_empty() {
                silent.push(format!("`{flag}`"));
            } else {
                seen.push(format!("`{flag}` ({})", tests.join(", ")));
            }
        }
        (named, unnamed, missing) = (named + seen.len(), unnamed + silent.len(), missing + absent.len());
        let state = if known { "" } else { "**no such command**; " };
        let part = |what: &str, list: &[String]| match list {
            [] => String::new(),
            list => format!("{what}: {}. ", list.join(", ")),
        };
        let text = format!(
            "{state}{}{}{}",
            part("named by tests", &seen),
            part("accepted", &silent),
            part("**not accepted**", &absent)
        );
        writeln!(lines, "| `{name}` | {} |", text.trim()).ok();
    }
    format!(
        "# Commands and flags\n\n{HEAD}{named} flags are named by tests, {unnamed} are accepted and named by none, {missing} are not accepted. Hidden and\ndeprecated flags count as accepted with their command.\n\n| command | flags |\n|---|---|\n{lines}"
    )
}

/// Takes the names of parameters out of a pattern.
fn shape(path: &str) -> String {
    let part = |part: &str| match part {
        part if part.ends_with("...}") => "{...}".to_owned(),
        part if part.starts_with('{') => "{}".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Says whether a route answers a path; both are shapes.
fn fits(route: &str, path: &str) -> bool {
    match route.split_once("{...}") {
        None => route == path,
        Some((head, tail)) => {
            path.len() > head.len() + tail.len() && path.starts_with(head) && path.ends_with(tail)
        }
    }
}

fn endpoints(rows: &[Row], evidence: &Evidence) -> String {
    let mut have = Vec::new();
    for piece in evidence.routes.split("Method::").skip(1) {
        let method: String = piece.chars().take_while(char::is_ascii_uppercase).collect();
        if let Some(path) = piece.split('"').nth(1).filter(|path| path.starts_with('/')) {
            have.push((method, shape(path)));
        }
    }
    let mut lines = String::new();
    let (mut there, mut absent) = (0, 0);
    for row in rows {
        let (method, path) = (cell(row, 1), cell(row, 2));
        let found = have.iter().any(|(one, other)| one == method && fits(other, &shape(path)));
        let parameters = cell(row, 4).split(' ').chain(cell(row, 5).split(' '));
        let parameters = parameters.filter_map(|text| text.split(':').next()).filter(|name| !name.is_empty());
        let unread: Vec<String> = parameters
            .filter(|name| *name != "filters" && !evidence.routes.contains(&format!("\"{name}\"")))
            .map(|name| format!("`{name}`"))
            .collect();
        // The end of the path is what a test through a command line does not show; those that speak HTTP name it.
        let tests =
            evidence.naming(&[path.replace("{id}", "{}").replace("{name}", "{}"), format!("\"{path}\"")]);
        let state = if found { "there" } else { "**absent**" };
        (there, absent) = if found { (there + 1, absent) } else { (there, absent + 1) };
        let unread = if found { unread.join(" ") } else { String::new() };
        writeln!(lines, "| {method} | `{path}` | {state} | {unread} | {} |", tests.join(", ")).ok();
    }
    format!(
        "# Endpoints\n\n{HEAD}{there} are there, {absent} absent. Those of swarm and plugins answer as a daemon does that is in no swarm. Most tests\nreach endpoints through the command lines; listed are those that speak HTTP themselves. Parameters listed as not read\nare named nowhere in the routes.\n\n| method | path | | not read | tests |\n|---|---|---|---|---|\n{lines}"
    )
}

fn options(rows: &[Row], evidence: &Evidence) -> String {
    let mut lines = String::new();
    for row in rows {
        let (flag, key) = (cell(row, 0), cell(row, 4));
        let name = flag.trim_start_matches("--");
        let base = key.split(['.', '[', ' ']).next().unwrap_or_default();
        let has = |text: &str| !text.is_empty() && evidence.options.contains(&format!("\"{text}\""));
        let state = match cell(row, 7) {
            "single-node" if has(name) || has(key) || (flag.is_empty() && has(base)) => "accepted",
            "single-node" => "**refused as unknown**",
            _ => "swarm or plugins",
        };
        let forms = [(flag, format!("\"{flag}\"")), (key, format!("{key}\\\"")), (key, format!("\"{key}\""))];
        let forms = forms.into_iter().filter(|(name, _)| !name.is_empty());
        let tests = evidence.naming(&forms.map(|(_, form)| form).collect::<Vec<_>>());
        let tests = if state == "accepted" { tests.join(", ") } else { String::new() };
        writeln!(lines, "| `{flag}` | `{key}` | {state} | {tests} |").ok();
    }
    format!(
        "# The daemon's options\n\n{HEAD}What is not accepted is refused by name, as any unknown option.\n\n| flag | key of daemon.json | | tests |\n|---|---|---|---|\n{lines}"
    )
}

fn filters(rows: &[Row], evidence: &Evidence) -> String {
    let mut lines = String::new();
    for row in rows {
        let keys = cell(row, 2)
            .split(' ')
            .filter_map(|key| key.split('(').next())
            .filter(|key| !key.is_empty() && !key.contains(')') && *key != "of");
        let absent: Vec<&str> =
            keys.filter(|key| !evidence.filters.contains(&format!("\"{key}\""))).collect();
        writeln!(lines, "| {} | `{}` | {} |", cell(row, 0), cell(row, 1), absent.join(" ")).ok();
    }
    if rows.is_empty() {
        warn("the table of filters is empty");
    }
    format!("# Filters\n\n{HEAD}| object | endpoint | keys that no source names |\n|---|---|---|\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_without_their_names() {
        assert_eq!(shape("/containers/{id}/json"), shape("/containers/{name}/json"));
        assert_ne!(shape("/containers/{id}/json"), shape("/containers/json"));
        assert!(fits(&shape("/images/{name...}/json"), &shape("/images/{name}/json")));
        assert!(!fits(&shape("/images/{name...}/json"), "/images/json"));
    }
}
