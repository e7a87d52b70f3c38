//! `images` and `history`.

use super::request;
use crate::error::{Error, Result};
use crate::filter;
use crate::flags::{Flag, Matches, switch, text};
use crate::list::{Listing, choose, ellipsis, short_id};
use crate::program::Cli;
use crate::{formats, localtime, units};
use api::image::{HistoryItem, Summary};
use base::Timestamp;
use gotemplate::Object;
use oci::{Platform, Reference};

/// The flags of `images`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("all", "Show all images (default hides intermediate images)").short('a'),
    switch("digests", "Show digests"),
    filter::flag("filter", "Filter output based on conditions provided").short('f'),
    formats::TABLE_FLAG,
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only show image IDs").short('q'),
    switch("tree", "List multi-platform images as a tree (EXPERIMENTAL)"),
];

/// The flags of `history`.
pub(crate) const HISTORY_FLAGS: &[Flag] = &[
    formats::TABLE_FLAG,
    switch("human", "Print sizes and dates in human readable format").short('H').default("true"),
    switch("no-trunc", "Don't truncate output"),
    text(
        "platform",
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    switch("quiet", "Only show image IDs").short('q'),
];

const LISTING: Listing = Listing {
    type_name: "*formatter.imageContext",
    headers: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

const TABLE: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_DIGESTS: &str =
    "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// `images`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let quiet = matches.switch("quiet");
    let digests = matches.switch("digests");
    let table = if digests { TABLE_DIGESTS } else { TABLE };
    let format = choose(matches.text("format"), &cli.config().images_format, quiet, table, "{{.ID}}");
    let mut filters = filter::parse(matches.list("filter"));
    if !matches.arg(0).is_empty() {
        filters.add("reference", matches.arg(0));
    }
    if matches.switch("tree") {
        // Docker's word for --digests here is another one than the flag's.
        let excluded =
            [("quiet", "quiet"), ("no-trunc", "no-trunc"), ("digests", "show-digest"), ("format", "format")];
        if let Some((_, shown)) = excluded.iter().find(|(name, _)| matches.changed(name)) {
            return Err(Error::message(format!("--{shown} is not yet supported with --tree")));
        }
        return super::tree::run(cli, &filters, matches.switch("all"));
    }
    let images: Vec<Summary> = cli
        .client()?
        .request("GET", "/images/json")
        .flag("all", matches.switch("all"))
        .flag("digests", digests)
        .query_if_set("filters", filters.encode())
        .decode()?;
    let digests = digests || format.contains(".Digest");
    let rows = images.iter().flat_map(|image| rows(image, digests, matches.switch("no-trunc")));
    LISTING.print(&format, rows.collect())
}

/// One line of the list: a name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    repository: String,
    tag: String,
    digest: String,
}

/// Returns a line for each name of an image; `<none>` stands for what it has not.
fn lines(image: &Summary, digests: bool) -> Vec<Line> {
    let none = || "<none>".to_owned();
    let line = |repository: &str, tag: Option<&str>, digest: Option<&str>| Line {
        repository: repository.to_owned(),
        tag: tag.map_or_else(none, str::to_owned),
        digest: digest.map_or_else(none, str::to_owned),
    };
    let tags: Vec<Reference> = image
        .repo_tags
        .iter()
        .filter(|tag| *tag != "<none>:<none>")
        .filter_map(|tag| Reference::parse_normalized(tag).ok())
        .collect();
    let names: Vec<(String, String)> = image
        .repo_digests
        .iter()
        .filter_map(|digest| digest.split_once('@'))
        .filter(|(name, _)| *name != "<none>")
        .map(|(name, digest)| (name.to_owned(), digest.to_owned()))
        .collect();
    if tags.is_empty() && names.is_empty() {
        return vec![line("<none>", None, None)];
    }
    let mut lines = Vec::new();
    let mut repositories: Vec<String> = tags.iter().map(Reference::familiar_name).collect();
    repositories.dedup();
    for repository in &repositories {
        let of_repository: Vec<&str> =
            names.iter().filter(|(name, _)| name == repository).map(|(_, digest)| digest.as_str()).collect();
        for tag in tags.iter().filter(|tag| tag.familiar_name() == *repository) {
            if !digests || of_repository.is_empty() {
                lines.push(line(repository, tag.tag(), None));
            }
            if digests {
                lines.extend(of_repository.iter().map(|digest| line(repository, tag.tag(), Some(digest))));
            }
        }
    }
    // Names that have a digest and no tag.
    for (name, digest) in names.iter().filter(|(name, _)| !repositories.contains(name)) {
        lines.push(line(name, None, digests.then_some(digest.as_str())));
    }
    lines
}

/// Makes the rows of an image.
pub(crate) fn rows(image: &Summary, digests: bool, full: bool) -> Vec<Object> {
    lines(image, digests).iter().map(|line| row(image, line, full)).collect()
}

/// Returns the rows' kind.
pub(crate) fn listing() -> Listing {
    LISTING
}

fn row(image: &Summary, line: &Line, full: bool) -> Object {
    let created = Timestamp::from_nanos(image.created.saturating_mul(1_000_000_000));
    let size = |bytes: i64, digits: usize| {
        if bytes < 0 {
            return "N/A".to_owned();
        }
        #[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
        let bytes = bytes as f64;
        units::human_size_digits(bytes, digits)
    };
    let mut row = LISTING.row();
    row.push("ID", if full { image.id.as_str() } else { short_id(&image.id) });
    row.push("Repository", line.repository.as_str());
    row.push("Tag", line.tag.as_str());
    row.push("Digest", line.digest.as_str());
    row.push("CreatedSince", if image.created <= 0 { "N/A".to_owned() } else { units::ago(created) });
    row.push("CreatedAt", localtime::display(created));
    row.push("Size", size(image.size, 3));
    row.push(
        "Containers",
        if image.containers < 0 { "N/A".to_owned() } else { image.containers.to_string() },
    );
    row.push("VirtualSize", size(image.size, 4));
    row.push("SharedSize", size(image.shared_size, 4));
    let unique = if image.shared_size < 0 || image.size < 0 { -1 } else { image.size - image.shared_size };
    row.push("UniqueSize", size(unique, 4));
    row
}

const HISTORY: Listing = Listing {
    type_name: "*image.historyContext",
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

const HISTORY_TABLE: &str = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HISTORY_TABLE_EXACT: &str = "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

/// `history`
pub(crate) fn history(cli: &Cli, matches: &Matches) -> Result<()> {
    let request = request(cli, "GET", matches.arg(0), "/history")?;
    let steps: Vec<HistoryItem> =
        request.query_if_set("platform", checked_platform(matches.text("platform"))?).decode()?;
    let (human, full) = (matches.switch("human"), matches.switch("no-trunc"));
    let table = if human { HISTORY_TABLE } else { HISTORY_TABLE_EXACT };
    let format = choose(matches.text("format"), "", matches.switch("quiet"), table, "{{.ID}}");
    HISTORY.print(&format, steps.iter().map(|step| history_row(step, human, full)).collect())
}

/// Returns a platform the way query parameters have it: as JSON.
pub(crate) fn platform_json(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let platform = Platform::parse(text).map_err(|_why| Error::message(refusal(text)))?;
    serde_json::to_string(&platform).map_err(|error| Error::message(error.to_string()))
}

/// Says in containerd's words why a text is no platform.
fn refusal(text: &str) -> String {
    // The first part may have a version behind it: `windows(10.0.17763)`.
    const SYSTEM: &str = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?$";
    const PART: &str = "^[A-Za-z0-9_.-]+$";
    let parts: Vec<&str> = text.splitn(4, '/').collect();
    let odd = |part: &&&str| {
        part.is_empty() || part.bytes().any(|byte| !byte.is_ascii_alphanumeric() && !b"_.-".contains(&byte))
    };
    if let Some(part) = parts.first().filter(odd) {
        return format!(
            "{part:?} is an invalid OS component of {text:?}: OSAndVersion specifier component must match {SYSTEM:?}: invalid argument"
        );
    }
    if let Some(part) = parts.iter().find(odd) {
        return format!(
            "{part:?} is an invalid component of {text:?}: platform specifier component must match {PART:?}: invalid argument"
        );
    }
    let why = match parts.len() {
        1 => "unknown operating system or architecture",
        _ => "cannot parse platform specifier",
    };
    format!("{text:?}: {why}: invalid argument")
}

/// As [`platform_json`], with the words of those commands that say what is invalid.
pub(crate) fn checked_platform(text: &str) -> Result<String> {
    platform_json(text).map_err(|error| Error::message(format!("invalid platform: {error}")))
}

fn history_row(step: &HistoryItem, human: bool, full: bool) -> Object {
    let created = Timestamp::from_nanos(step.created.saturating_mul(1_000_000_000));
    let mut row = HISTORY.row();
    row.push("ID", if full { step.id.as_str() } else { short_id(&step.id) });
    row.push("CreatedAt", if step.created <= 0 { String::new() } else { localtime::rfc3339(created) });
    let since = if step.created <= 0 { "N/A".to_owned() } else { units::ago(created) };
    row.push("CreatedSince", if human { since } else { localtime::rfc3339(created) });
    let by = step.created_by.replace('\t', " ");
    row.push("CreatedBy", if full { by } else { ellipsis(&by, 45) });
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let size = step.size as f64;
    row.push("Size", if human { units::human_size_digits(size, 3) } else { step.size.to_string() });
    row.push("Comment", step.comment.as_str());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_tag_have_a_line() {
        let image = |tags: &[&str], digests: &[&str]| Summary {
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            ..Summary::default()
        };
        let shown = |image: &Summary, digests: bool| {
            let lines = lines(image, digests)
                .into_iter()
                .map(|line| format!("{} {} {}", line.repository, line.tag, line.digest));
            lines.collect::<Vec<_>>().join("; ")
        };
        assert_eq!(shown(&image(&[], &[]), false), "<none> <none> <none>");
        assert_eq!(shown(&image(&["a:1", "a:2", "b:1"], &[]), false), "a 1 <none>; a 2 <none>; b 1 <none>");
        let digest = "a@sha256:0000000000000000000000000000000000000000000000000000000000000000";
        assert_eq!(shown(&image(&[], &[digest]), false), "a <none> <none>");
        assert_eq!(
            shown(&image(&["a:1"], &[digest]), true),
            format!("a 1 {}", digest.trim_start_matches("a@"))
        );
    }
}
