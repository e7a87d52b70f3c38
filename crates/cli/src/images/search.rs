//! `search`.

use crate::error::Result;
use crate::filter;
use crate::flags::{Flag, Kind, Matches, switch, text};
use crate::list::{Listing, choose, ellipsis};
use crate::program::Cli;
use api::registry::SearchResult;
use gotemplate::Object;

/// The flags of `search`.
pub(crate) const FLAGS: &[Flag] = &[
    filter::flag("filter", "Filter output based on conditions provided").short('f'),
    text("format", "Pretty-print search using a Go template"),
    Flag::new("limit", Kind::Int, "Max number of search results"),
    switch("no-trunc", "Don't truncate output"),
    // What older guides have in place of filters.
    switch("automated", "Only show automated builds").hidden(),
    Flag::new("stars", Kind::Uint, "Only displays with at least x stars").short('s').hidden(),
];

const LISTING: Listing = Listing {
    type_name: "*formatter.searchContext",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
};

const TABLE: &str = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

/// `search`
pub(crate) fn search(cli: &Cli, matches: &Matches) -> Result<()> {
    let term = matches.arg(0);
    let mut filters = filter::parse(matches.list("filter"));
    if matches.switch("automated") {
        filters.add("is-automated", "true");
    }
    if !matches.text("stars").is_empty() {
        filters.add("stars", matches.text("stars"));
    }
    let domain = match term.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    };
    let mut request = cli
        .client()?
        .request("GET", "/images/search")
        .query("term", term)
        .query_if_set("filters", filters.encode())
        .header("X-Registry-Auth", &cli.config().auth_header(domain));
    if let Some(limit) = matches.given("limit") {
        request = request.query("limit", limit);
    }
    let found: Vec<SearchResult> = request.decode()?;
    let format = choose(matches.text("format"), "", false, TABLE, "");
    let full = matches.switch("no-trunc");
    LISTING.print(&format, found.iter().map(|result| row(result, full)).collect())
}

fn row(result: &SearchResult, full: bool) -> Object {
    let ok = |yes: bool| if yes { "[OK]" } else { "" };
    let description = result.description.replace(['\n', '\r'], " ");
    let mut row = LISTING.row();
    row.push("Name", result.name.as_str());
    row.push("Description", if full { description } else { ellipsis(&description, 45) });
    row.push("StarCount", result.star_count.to_string());
    row.push("IsOfficial", ok(result.is_official));
    row.push("IsAutomated", ok(result.is_automated));
    row
}
