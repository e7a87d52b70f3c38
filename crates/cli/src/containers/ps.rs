//! `ps`

use crate::error::Result;
use crate::filter;
use crate::flags::{Flag, Kind, Matches, switch};
use crate::list::{Listing, choose, ellipsis, short_id};
use crate::program::Cli;
use crate::{formats, localtime, units};
use api::container::{Port, Summary};
use base::Timestamp;
use gotemplate::{Object, Value};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The flags of `ps`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("all", "Show all containers (default shows just running)").short('a'),
    filter::flag("filter", "Filter output based on conditions provided").short('f'),
    formats::TABLE_FLAG,
    Flag::new("last", Kind::Int, "Show n last created containers (includes all states)")
        .short('n')
        .default("-1"),
    switch("latest", "Show the latest created container (includes all states)").short('l'),
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only display container IDs").short('q'),
    switch("size", "Display total file sizes").short('s'),
];

const LISTING: Listing = Listing {
    type_name: "*formatter.ContainerContext",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
};

const TABLE: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// `ps`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let quiet = matches.switch("quiet");
    let size = matches.switch("size");
    let table = if size { format!("{TABLE}\t{{{{.Size}}}}") } else { TABLE.to_owned() };
    let format = choose(matches.text("format"), &cli.config().ps_format, quiet, &table, "{{.ID}}");
    let last = if matches.switch("latest") { 1 } else { matches.int("last") };
    let needs_size = size || (!quiet && (format.contains(".Size") || format.contains("{{json .}}")));
    let request = cli.client()?.request("GET", "/containers/json");
    let request = request.flag("all", matches.switch("all") || last > 0).flag("size", needs_size);
    let request = if last > 0 { request.query("limit", last.to_string()) } else { request };
    let summaries: Vec<Summary> =
        request.query_if_set("filters", filter::encode(matches.list("filter"))).decode()?;
    let full = matches.switch("no-trunc");
    LISTING.print(&format, summaries.iter().map(|summary| row(summary, full)).collect())
}

/// Returns the rows' kind and default table for `system df -v`.
pub(crate) fn listing() -> Listing {
    LISTING
}

/// Makes a row.
pub(crate) fn row(summary: &Summary, full: bool) -> Object {
    let created = Timestamp::from_nanos(summary.created.saturating_mul(1_000_000_000));
    let mut row = LISTING.row();
    let id = if full { summary.id.as_str() } else { short_id(&summary.id) };
    row.push("ID", id);
    row.push("Names", names(&summary.names, full));
    row.push("Image", image(summary, full));
    let command = if full { summary.command.clone() } else { ellipsis(&summary.command, 20) };
    row.push("Command", crate::values::quote(&command));
    row.push("CreatedAt", localtime::display(created));
    row.push("RunningFor", units::ago(created));
    row.push("Ports", ports(&summary.ports));
    row.push("State", summary.state.as_str());
    row.push("Status", summary.status.as_str());
    row.push("Size", size(summary));
    let labels: Vec<String> = summary.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    row.push("Labels", labels.join(","));
    row.push("Mounts", mounts(summary, full));
    let volumes = summary.mounts.iter().filter(|mount| mount.driver == "local").count();
    row.push("LocalVolumes", volumes.to_string());
    let networks = summary.network_settings.iter().flat_map(|settings| settings.networks.iter().flatten());
    row.push("Networks", networks.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(","));
    row.push("Platform", platform(summary));
    let labels = summary.labels.clone();
    row.method("Label", move |args| formats::label(&labels, args));
    row
}

fn platform(summary: &Summary) -> Value {
    let platform =
        summary.image_manifest_descriptor.as_ref().and_then(|descriptor| descriptor.platform.as_ref());
    platform.map_or(Value::Nil, |platform| {
        let mut object = Object::new("*formatter.Platform");
        object.push("architecture", platform.architecture.as_str());
        object.push("os", platform.os.as_str());
        Value::Object(std::sync::Arc::new(object))
    })
}

fn names(names: &[String], full: bool) -> String {
    let names = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    // A name with a further `/` is another container's link to this one.
    names.filter(|name| full || !name.contains('/')).collect::<Vec<_>>().join(",")
}

fn image(summary: &Summary, full: bool) -> String {
    if summary.image.is_empty() {
        return "<no image>".to_owned();
    }
    if full {
        return summary.image.clone();
    }
    let bare = summary.image.strip_prefix("sha256:").unwrap_or(&summary.image);
    let is_id = bare.len() == 64 && bare.bytes().all(|digit| digit.is_ascii_hexdigit());
    let short = short_id(&summary.image);
    if is_id || short == short_id(&summary.image_id) && summary.image.len() != short.len() {
        return short.to_owned();
    }
    // A digest after the name is noise.
    match summary.image.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => summary.image.clone(),
    }
}

fn size(summary: &Summary) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let (rw, virtual_size) = (summary.size_rw as f64, summary.size_root_fs as f64);
    let shown = units::human_size_digits(rw, 3);
    if summary.size_root_fs > 0 {
        format!("{shown} (virtual {})", units::human_size_digits(virtual_size, 3))
    } else {
        shown
    }
}

fn mounts(summary: &Summary, full: bool) -> String {
    let names = summary.mounts.iter().map(|mount| {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        if full { name.clone() } else { ellipsis(name, 15) }
    });
    names.collect::<Vec<_>>().join(",")
}

/// Says the ports the way people read them: ranges, published ones with their addresses, in order.
pub(crate) fn ports(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |port: &Port| (port.private_port, port.ip.clone(), port.public_port, port.protocol.clone());
        key(a).cmp(&key(b))
    });
    let mut groups: BTreeMap<String, (u16, u16)> = BTreeMap::new();
    let mut hosts = Vec::new();
    let mut order = Vec::new();
    for port in sorted {
        let mut key = port.protocol.clone();
        if !port.ip.is_empty() {
            if port.public_port != port.private_port {
                let address = address(&port.ip, &port.public_port.to_string());
                hosts.push(format!("{address}->{}/{}", port.private_port, port.protocol));
                continue;
            }
            key = format!("{}/{}", port.ip, port.protocol);
        }
        match groups.get_mut(&key) {
            None => {
                groups.insert(key.clone(), (port.private_port, port.private_port));
                order.push(key);
            }
            Some((_, last)) if port.private_port == last.saturating_add(1) => *last = port.private_port,
            Some(range) => {
                hosts.push(group(&key, *range));
                *range = (port.private_port, port.private_port);
            }
        }
    }
    hosts.extend(order.iter().filter_map(|key| groups.get(key).map(|range| group(key, *range))));
    hosts.join(", ")
}

fn group(key: &str, (first, last): (u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match key.rsplit_once('/') {
        Some((ip, protocol)) => format!("{}->{range}/{protocol}", address(ip, &range)),
        None => format!("{range}/{key}"),
    }
}

fn address(ip: &str, port: &str) -> String {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{ip}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{ip}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ports_given: &[(&str, u16, u16, &str)], expect: &str) {
        let given: Vec<Port> = ports_given
            .iter()
            .map(|(ip, private_port, public_port, protocol)| Port {
                ip: (*ip).to_owned(),
                private_port: *private_port,
                public_port: *public_port,
                protocol: (*protocol).to_owned(),
            })
            .collect();
        assert_eq!(ports(&given), expect);
    }

    #[test]
    fn ports_are_grouped() {
        check(&[], "");
        check(&[("", 80, 0, "tcp"), ("", 81, 0, "tcp"), ("", 90, 0, "tcp")], "80-81/tcp, 90/tcp");
        check(
            &[("0.0.0.0", 80, 8080, "tcp"), ("::", 80, 8080, "tcp")],
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        );
        check(&[("0.0.0.0", 80, 80, "tcp"), ("0.0.0.0", 81, 81, "tcp")], "0.0.0.0:80-81->80-81/tcp");
        check(&[("", 53, 0, "udp"), ("0.0.0.0", 80, 8080, "tcp")], "0.0.0.0:8080->80/tcp, 53/udp");
    }
}
