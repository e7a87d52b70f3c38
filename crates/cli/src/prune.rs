//! `prune` in all its forms.

use crate::error::{Error, Result};
use crate::filter;
use crate::flags::{Flag, Matches, switch};
use crate::program::{Cli, print, print_line};
use crate::units;
use api::{Filters, container, image, network, system, volume};
use serde::de::DeserializeOwned;
use std::io::{BufRead, stdin};

/// The flags of every `prune`.
pub(crate) const FLAGS: &[Flag] = &[
    filter::flag("filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
    switch("force", "Do not prompt for confirmation").short('f'),
];

/// What `image prune` and `system prune` add.
pub(crate) const ALL_IMAGES: &[Flag] =
    &[switch("all", "Remove all unused images, not just dangling ones").short('a')];

/// What `volume prune` adds.
pub(crate) const ALL_VOLUMES: &[Flag] =
    &[switch("all", "Remove all unused volumes, not just anonymous ones").short('a')];

/// What `system prune` adds.
pub(crate) const SYSTEM_FLAGS: &[Flag] = &[switch("volumes", "Prune anonymous volumes")];

/// Asks unless `--force`; says whether to go on.
fn agreed(matches: &Matches, warning: &str) -> bool {
    if matches.switch("force") {
        return true;
    }
    print(format!("{warning}\nAre you sure you want to continue? [y/N] "));
    let mut answer = String::new();
    let read = stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

/// Returns the filters of the flags and of the user's configuration, which holds only labels.
fn filters(cli: &Cli, matches: &Matches) -> Filters {
    let mut filters = filter::parse(matches.list("filter"));
    for configured in &cli.config().prune_filters {
        if let Some((key @ ("label" | "label!"), value)) = configured.split_once('=') {
            let opposite = if key == "label" { "label!" } else { "label" };
            if !filters.get(key).chain(filters.get(opposite)).any(|known| known == value) {
                filters.add(key, value);
            }
        }
    }
    filters
}

fn post<T: DeserializeOwned>(cli: &Cli, path: &str, filters: &Filters) -> Result<T> {
    Ok(cli.client()?.request("POST", path).query_if_set("filters", filters.encode()).decode()?)
}

/// What pruning one kind of object did.
#[derive(Default)]
struct Pruned {
    /// What to print, with its heading.
    text: String,
    bytes: u64,
}

impl Pruned {
    fn new(heading: &str, lines: impl IntoIterator<Item = String>, bytes: u64) -> Self {
        let lines: Vec<String> = lines.into_iter().collect();
        let text =
            if lines.is_empty() { String::new() } else { format!("{heading}\n{}\n\n", lines.join("\n")) };
        Self { text, bytes }
    }
}

fn total(bytes: u64) {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let bytes = bytes as f64;
    print_line(format!("Total reclaimed space: {}", units::human_size(bytes)));
}

fn finish(pruned: &Pruned) {
    print(&pruned.text);
    total(pruned.bytes);
}

fn prune_containers(cli: &Cli, filters: &Filters) -> Result<Pruned> {
    let answer: container::PruneResponse = post(cli, "/containers/prune", filters)?;
    Ok(Pruned::new(
        "Deleted Containers:",
        answer.containers_deleted.unwrap_or_default(),
        answer.space_reclaimed,
    ))
}

fn prune_images(cli: &Cli, filters: &Filters, all: bool) -> Result<Pruned> {
    let mut filters = filters.clone();
    filters.add("dangling", if all { "false" } else { "true" });
    let answer: image::PruneResponse = post(cli, "/images/prune", &filters)?;
    let lines =
        answer.images_deleted.unwrap_or_default().into_iter().map(|item| match item.untagged.as_str() {
            "" => format!("deleted: {}", item.deleted),
            untagged => format!("untagged: {untagged}"),
        });
    Ok(Pruned::new("Deleted Images:", lines, answer.space_reclaimed))
}

fn prune_networks(cli: &Cli, filters: &Filters) -> Result<Pruned> {
    let answer: network::PruneResponse = post(cli, "/networks/prune", filters)?;
    Ok(Pruned::new("Deleted Networks:", answer.networks_deleted.unwrap_or_default(), 0))
}

fn prune_volumes(cli: &Cli, filters: &Filters, all: bool) -> Result<Pruned> {
    let mut filters = filters.clone();
    if all {
        if filters.contains("all") {
            return Err(Error::message("conflicting options: cannot specify both --all and --filter all=1"));
        }
        filters.add("all", "true");
    }
    let answer: volume::PruneResponse = post(cli, "/volumes/prune", &filters)?;
    Ok(Pruned::new("Deleted Volumes:", answer.volumes_deleted.unwrap_or_default(), answer.space_reclaimed))
}

fn prune_builds(cli: &Cli, filters: &Filters, all: bool) -> Result<Pruned> {
    let request = cli.client()?.request("POST", "/build/prune").flag("all", all);
    let answer: Result<system::BuildPruneResponse, _> =
        request.query_if_set("filters", filters.encode()).decode();
    match answer {
        Ok(answer) => Ok(Pruned::new(
            "Deleted build cache objects:",
            answer.caches_deleted.unwrap_or_default(),
            answer.space_reclaimed,
        )),
        // An engine that builds nothing has no cache.
        Err(error) if matches!(error.status(), Some(404 | 501)) => Ok(Pruned::default()),
        Err(error) => Err(error.into()),
    }
}

/// `container prune`
pub(crate) fn containers(cli: &Cli, matches: &Matches) -> Result<()> {
    if agreed(matches, "WARNING! This will remove all stopped containers.") {
        finish(&prune_containers(cli, &filters(cli, matches))?);
    }
    Ok(())
}

/// `image prune`
pub(crate) fn images(cli: &Cli, matches: &Matches) -> Result<()> {
    let all = matches.switch("all");
    let warning = if all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if agreed(matches, warning) {
        finish(&prune_images(cli, &filters(cli, matches), all)?);
    }
    Ok(())
}

/// `network prune`
pub(crate) fn networks(cli: &Cli, matches: &Matches) -> Result<()> {
    let warning = "WARNING! This will remove all custom networks not used by at least one container.";
    if agreed(matches, warning) {
        print(prune_networks(cli, &filters(cli, matches))?.text);
    }
    Ok(())
}

/// `volume prune`
pub(crate) fn volumes(cli: &Cli, matches: &Matches) -> Result<()> {
    let all = matches.switch("all");
    let old = cli.client()?.version()? < api::ApiVersion::new(1, 42);
    if all && old {
        let version = cli.client()?.version()?;
        return Err(Error::message(format!(
            "\"--all\" requires API version 1.42, but the Docker daemon API version is {version}"
        )));
    }
    let what = if all || old { "all local volumes" } else { "anonymous local volumes" };
    if agreed(matches, &format!("WARNING! This will remove {what} not used by at least one container.")) {
        finish(&prune_volumes(cli, &filters(cli, matches), all)?);
    }
    Ok(())
}

/// `system prune`
pub(crate) fn system(cli: &Cli, matches: &Matches) -> Result<()> {
    let (all, with_volumes) = (matches.switch("all"), matches.switch("volumes"));
    let filters = filters(cli, matches);
    if with_volumes && filters.contains("until") {
        return Err(Error::message("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut warning = String::from(
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n",
    );
    if with_volumes {
        warning.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    warning.push_str(if all {
        "  - all images without at least one container associated to them\n  - all build cache\n"
    } else {
        "  - all dangling images\n  - unused build cache\n"
    });
    if !filters.is_empty() {
        let shown =
            filters.keys().flat_map(|key| filters.get(key).map(move |value| format!("{key}={value}")));
        warning.push_str(&format!(
            "\n  Items to be pruned will be filtered with:\n  - {}\n",
            shown.collect::<Vec<_>>().join("\n  - ")
        ));
    }
    if !agreed(matches, &warning) {
        return Ok(());
    }
    let mut bytes = 0;
    let mut done = |pruned: Pruned| {
        print(&pruned.text);
        bytes += pruned.bytes;
    };
    done(prune_containers(cli, &filters)?);
    done(prune_networks(cli, &filters)?);
    if with_volumes {
        done(prune_volumes(cli, &filters, false)?);
    }
    done(prune_images(cli, &filters, all)?);
    done(prune_builds(cli, &filters, all)?);
    total(bytes);
    Ok(())
}
