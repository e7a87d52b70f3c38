//! Commands about volumes.

use crate::each::each;
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, switch, text};
use crate::list::{Listing, choose};
use crate::networks::natural;
use crate::options::environment;
use crate::program::{Cli, print_line};
use crate::{filter, formats, units, values};
use api::volume::{CreateRequest, ListResponse, Volume};
use client::path_segment;
use gotemplate::Object;

/// The flags of `volume create`.
pub(crate) const CREATE_FLAGS: &[Flag] = &[
    text("driver", "Specify volume driver name").short('d').default("local"),
    Flag::new("label", Kind::Checked("list", environment::check_label), "Set metadata for a volume"),
    text("name", "Specify volume name").hidden(),
    Flag::new("opt", Kind::Checked("map", environment::check_any), "Set driver specific options")
        .short('o')
        .default("map[]"),
];

/// The flags of `volume ls`.
pub(crate) const LS_FLAGS: &[Flag] = &[
    filter::flag("filter", "Provide filter values (e.g. \"dangling=true\")").short('f'),
    formats::TABLE_FLAG,
    switch("quiet", "Only display volume names").short('q'),
];

/// The flags of `volume rm`.
pub(crate) const RM_FLAGS: &[Flag] =
    &[switch("force", "Force the removal of one or more volumes").short('f')];

const LISTING: Listing = Listing {
    type_name: "*formatter.volumeContext",
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
};

/// `volume create`
pub(crate) fn create(cli: &Cli, matches: &Matches) -> Result<()> {
    let name = match (matches.arg(0), matches.text("name")) {
        (argument, flag) if !argument.is_empty() && !flag.is_empty() => {
            return Err(Error::message(
                "conflicting options: cannot specify a volume name through both --name and as a positional arg",
            ));
        }
        ("", flag) => flag,
        (argument, _) => argument,
    };
    let request = CreateRequest {
        name: name.to_owned(),
        driver: matches.text("driver").to_owned(),
        driver_opts: values::map(matches.list("opt")),
        labels: values::map(matches.list("label")),
        cluster_volume_spec: None,
    };
    let created: Volume = cli.client()?.request("POST", "/volumes/create").json(&request).decode()?;
    print_line(created.name);
    Ok(())
}

/// `volume ls`
pub(crate) fn ls(cli: &Cli, matches: &Matches) -> Result<()> {
    let filters = filter::encode(matches.list("filter"));
    let answer: ListResponse =
        cli.client()?.request("GET", "/volumes").query_if_set("filters", filters).decode()?;
    let mut volumes = answer.volumes.unwrap_or_default();
    volumes.sort_by_cached_key(|volume| natural(&volume.name));
    let configured = &cli.config().volumes_format;
    let table = "table {{.Driver}}\t{{.Name}}";
    let format = choose(matches.text("format"), configured, matches.switch("quiet"), table, "{{.Name}}");
    LISTING.print(&format, volumes.iter().map(row).collect())
}

/// Returns the rows' kind.
pub(crate) fn listing() -> Listing {
    LISTING
}

/// Makes a row.
pub(crate) fn row(volume: &Volume) -> Object {
    let mut row = LISTING.row();
    row.push("Name", volume.name.as_str());
    row.push("Driver", volume.driver.as_str());
    row.push("Scope", volume.scope.as_str());
    row.push("Mountpoint", volume.mountpoint.as_str());
    let labels = volume.labels.clone().unwrap_or_default();
    row.push("Labels", formats::labels(&labels));
    let usage = volume.usage_data;
    row.push("Links", usage.map_or_else(|| "N/A".to_owned(), |usage| usage.ref_count.to_string()));
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let size = usage.map_or_else(|| "N/A".to_owned(), |usage| units::human_size(usage.size as f64));
    row.push("Size", size);
    for cluster in ["Availability", "Group", "Status"] {
        row.push(cluster, "N/A");
    }
    row.method("Label", move |args| formats::label(&labels, args));
    row
}

/// `volume rm`
pub(crate) fn rm(cli: &Cli, matches: &Matches) -> Result<()> {
    each(&matches.args, |name| {
        let request = cli.client()?.request("DELETE", format!("/volumes/{}", path_segment(name)));
        request.flag("force", matches.switch("force")).done()?;
        Ok(Some(name.to_owned()))
    })
}
