//! The part of the coverage report about fields of requests and answers.
//!
//! A field counts as there if a type of `crates/api` has one of its name (of whatever object), and as named by a test whose
//! text has it as a word: both say where to look.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// How the names of objects begin that are no single node's: of swarm, of plugins and of signatures.
const ELSEWHERE: [&str; 20] = [
    "Attestation",
    "Cluster",
    "ConfigReference",
    "ConfigSpec",
    "EndpointPort",
    "EndpointSpec",
    "EndpointVirtualIP",
    "EngineDescription",
    "GenericResources",
    "JoinTokens",
    "Limit",
    "ManagerStatus",
    "Node",
    "Peer",
    "Plugin",
    "Secret",
    "Service",
    "Sign",
    "Swarm",
    "Task",
];

/// Such objects by their whole names.
const ELSEWHERE_TOO: [&str; 4] = ["Config", "Driver", "ObjectVersion", "TLSInfo"];

/// The newest version that is spoken.
const NEWEST: u32 = 51;

/// Returns the page: `rows` are field, type, since, last seen; `api` the sources of the types; `tests` names and texts.
pub(crate) fn page(rows: &[Vec<String>], api: &str, tests: &[(String, String)]) -> String {
    let known = names(api);
    let words: Vec<(&str, BTreeSet<&str>)> =
        tests.iter().map(|(name, text)| (name.as_str(), words(text))).collect();
    let mut objects: BTreeMap<&str, [Vec<String>; 3]> = BTreeMap::new();
    for row in rows {
        let cell = |place: usize| row.get(place).map_or("", String::as_str);
        let (path, since) = (cell(0), cell(2));
        let Some((object, leaf)) = path.split_once('.').map(|(object, rest)| (object, last(rest))) else {
            continue;
        };
        if leaf.is_empty() || cell(3) != "current" || version(since) > NEWEST || elsewhere(object) {
            continue;
        }
        let lists = objects.entry(object).or_default();
        let age = if version(since) > 25 { format!(" ({since})") } else { String::new() };
        let naming: Vec<&str> =
            words.iter().filter(|(_, words)| words.contains(leaf)).map(|(name, _)| *name).take(3).collect();
        let [tested, there, absent] = lists;
        if !known.contains(&plain(leaf)) {
            absent.push(format!("`{leaf}`{age}"));
        } else if naming.is_empty() {
            there.push(format!("`{leaf}`{age}"));
        } else {
            tested.push(format!("`{leaf}`{age} in {}", naming.join(", ")));
        }
    }
    let mut lines = String::new();
    let mut counts = [0; 3];
    for (object, lists) in &objects {
        let mut text = String::new();
        for ((list, what), count) in
            lists.iter().zip(["named by tests", "there", "**absent**"]).zip(&mut counts)
        {
            *count += list.len();
            if !list.is_empty() {
                write!(text, "{what}: {}. ", list.join("; ")).ok();
            }
        }
        writeln!(lines, "| {object} | {} |", text.trim_end()).ok();
    }
    let [tested, there, absent] = counts;
    format!(
        "# Fields of requests and answers\n\nMade by `cargo xtask compat`. A field is there if a type of ours has one of its name, in whatever object, and named where the\ntext of a test has the word (at most three are listed). The version is the first that has it, after 1.25.\n\n{tested} fields are named by tests, {there} are there and named by none, {absent} are absent.\n\n| object | fields |\n|---|---|\n{lines}"
    )
}

fn elsewhere(object: &str) -> bool {
    let name = object.split_once(':').map_or(object, |(_, name)| name);
    ELSEWHERE_TOO.contains(&name) || ELSEWHERE.iter().any(|word| name.starts_with(word))
}

/// The last name of a path, without marks of lists and maps.
fn last(path: &str) -> &str {
    let leaf = path.rsplit('.').next().unwrap_or(path).trim_end_matches("[]").trim_end_matches("{}");
    if leaf.starts_with('<') || leaf.contains('*') { "" } else { leaf }
}

fn version(text: &str) -> u32 {
    text.trim_start_matches("<=").strip_prefix("1.").and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

/// A name without case and underscores, as serde's renaming leaves it.
fn plain(name: &str) -> String {
    name.chars().filter(|letter| *letter != '_').map(|letter| letter.to_ascii_lowercase()).collect()
}

/// The names of fields in sources: of Rust, and those they are renamed to.
fn names(source: &str) -> BTreeSet<String> {
    let fields = source.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    let fields = fields.map(|(name, _)| plain(name.trim_start_matches("r#")));
    let renamed = source.split("rename = \"").skip(1).filter_map(|rest| rest.split('"').next());
    fields.chain(renamed.map(plain)).collect()
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.len() > 1)
        .collect()
}
