//! Which containers `GET /containers/json` and `POST /containers/prune` mean: their filters, as dockerd applies them.

use super::container;
use crate::http::Failure;
use api::Filters;
use base::{Kind, Timestamp};
use engine::container::record::{Container, MountKind};
use engine::container::state::State;
use oci::Digest;
use std::sync::Arc;

/// The keys of the list's filters.
const KEYS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Those that do not run, too.
    pub all: bool,
    /// No more than this many, running or not; 0 means no limit.
    pub limit: usize,
    /// Only those that fit all filters.
    pub filters: Filters,
}

/// Filters, read once.
#[derive(Debug)]
struct Selection {
    names: Vec<regex_lite::Regex>,
    exited: Vec<i32>,
    published: Vec<Ports>,
    exposed: Vec<Ports>,
}

/// A range of ports of one protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

/// Returns the containers that are meant, newest first. `images` finds the images that an `ancestor` means.
///
/// # Errors
///
/// An invalid argument for filters that do not exist or make no sense; *not found* for containers that `before` or
/// `since` name in vain.
pub fn select(
    mut records: Vec<Arc<Container>>,
    wanted: &Wanted,
    images: impl Fn(&str) -> Vec<Digest>,
) -> Result<Vec<Arc<Container>>, Failure> {
    let filters = &wanted.filters;
    filters.validate(KEYS).map_err(|error| Failure::invalid(error.to_string()))?;
    let selection = read(filters)?;
    records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let position = |key: &str| -> Result<Option<usize>, Failure> {
        filters.get(key).last().map(|name| find(&records, name)).transpose()
    };
    // Newest first: what was created before comes after it in the list.
    let from = position("before")?.map_or(0, |index| index + 1);
    let to = position("since")?.unwrap_or(records.len());
    let ancestors: Option<Vec<Digest>> =
        filters.contains("ancestor").then(|| filters.get("ancestor").flat_map(&images).collect());
    let all = wanted.all || wanted.limit > 0 || filters.contains("status");
    let fits = |record: &&Arc<Container>| {
        (all || container::state(record).running)
            && ancestors.as_ref().is_none_or(|images| images.contains(&record.image.id))
            && fits_identity(record, filters, &selection)
            && fits_state(record, filters, &selection)
            && fits_relations(record, filters)
            && fits_ports(record, &selection)
    };
    let limit = if wanted.limit == 0 { usize::MAX } else { wanted.limit };
    Ok(records.iter().take(to).skip(from).filter(fits).take(limit).cloned().collect())
}

fn read(filters: &Filters) -> Result<Selection, Failure> {
    let invalid = |key: &str, value: &str| Failure::invalid(format!("invalid filter '{key}={value}'"));
    for status in filters.get("status") {
        const STATES: [&str; 7] =
            ["paused", "restarting", "removing", "running", "dead", "created", "exited"];
        if !STATES.contains(&status) {
            return Err(invalid("status", status));
        }
    }
    for health in filters.get("health") {
        if !["starting", "healthy", "unhealthy", "none"].contains(&health) {
            return Err(invalid("health", health));
        }
    }
    // Docker holds a name that is no regular expression for one that nothing matches but itself.
    let name = |text| {
        regex_lite::Regex::new(text)
            .or_else(|_| regex_lite::Regex::new(&format!("^{}$", regex_lite::escape(text))))
    };
    Ok(Selection {
        names: filters.get("name").filter_map(|text| name(text).ok()).collect(),
        exited: filters
            .get("exited")
            .map(|code| code.parse().map_err(|_not| invalid("exited", code)))
            .collect::<Result<_, _>>()?,
        published: ports(filters, "publish")?,
        exposed: ports(filters, "expose")?,
    })
}

fn ports(filters: &Filters, key: &str) -> Result<Vec<Ports>, Failure> {
    let one = |text: &str| -> Option<Ports> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then(|| Ports { first, last, protocol: protocol.to_lowercase() })
    };
    filters
        .get(key)
        .map(|text| {
            one(text).ok_or_else(|| {
                Failure::invalid(format!("error while looking up for {key} filter: invalid port {text}"))
            })
        })
        .collect()
}

/// Finds a container by identifier, name, or unique prefix of the identifier.
fn find(records: &[Arc<Container>], name: &str) -> Result<usize, Failure> {
    let plain = name.strip_prefix('/').unwrap_or(name);
    let exact = records.iter().position(|record| record.id.to_string() == name || record.name == plain);
    exact
        .or_else(|| {
            records.iter().position(|record| !name.is_empty() && record.id.to_string().starts_with(name))
        })
        .ok_or_else(|| Failure::new(Kind::NotFound, format!("No such container: {name}")))
}

fn fits_identity(record: &Container, filters: &Filters, selection: &Selection) -> bool {
    let slashed = format!("/{}", record.name);
    let named = selection.names.is_empty()
        || selection.names.iter().any(|name| name.is_match(&slashed) || name.is_match(&record.name));
    let none = Default::default();
    named
        && filters.prefix("id", &record.id.to_string())
        && filters.labels("label", record.config.labels.as_ref().unwrap_or(&none))
        // Nothing here is a swarm's task.
        && !filters.get("is-task").any(|value| matches!(value, "true" | "1"))
        && filters.exact("isolation", "")
}

fn fits_state(record: &Container, filters: &Filters, selection: &Selection) -> bool {
    let ended = match &record.state {
        State::Exited(exit) | State::Dead(exit) | State::Removing(exit) => exit.started_at.map(|_| exit.code),
        _ => None,
    };
    let exited = selection.exited.is_empty() || ended.is_some_and(|code| selection.exited.contains(&code));
    let health = record.health.as_ref().map_or("none", |health| health.status.as_str());
    exited && filters.exact("status", record.state.as_str()) && filters.exact("health", health)
}

fn fits_relations(record: &Container, filters: &Filters) -> bool {
    let any = |key: &str, fits: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.get(key).any(fits);
    let volume = |wanted: &str| {
        record.mounts.iter().any(|mount| {
            mount.destination == wanted
                || match mount.kind {
                    MountKind::Volume => mount.name == wanted,
                    MountKind::Bind | MountKind::Tmpfs | MountKind::Image => {
                        !wanted.is_empty() && mount.source == wanted
                    }
                }
        })
    };
    let network = |wanted: &str| {
        record.endpoints.iter().any(|(name, endpoint)| {
            name == wanted || (!wanted.is_empty() && endpoint.network_id.starts_with(wanted))
        })
    };
    any("volume", &volume) && any("network", &network)
}

fn fits_ports(record: &Container, selection: &Selection) -> bool {
    let within = |ranges: &[Ports], port: u16, protocol: &str| {
        ranges.iter().any(|range| (range.first..=range.last).contains(&port) && range.protocol == protocol)
    };
    let published =
        || record.ports.iter().any(|port| within(&selection.published, port.host_port, &port.protocol));
    let exposed = || {
        record.config.exposed_ports.keys().any(|port| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            number.parse().is_ok_and(|number| within(&selection.exposed, number, protocol))
        }) || record.ports.iter().any(|port| within(&selection.exposed, port.container_port, &port.protocol))
    };
    (selection.published.is_empty() || published()) && (selection.exposed.is_empty() || exposed())
}

/// Reads the `until` of a prune: a point in time, in any of the ways Docker takes it.
///
/// # Errors
///
/// An invalid argument if there are several or it is none.
pub fn until(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Failure::invalid("more than one until filter specified"));
    }
    crate::time::point(text, now)
        .map(Some)
        .ok_or_else(|| Failure::invalid(format!("invalid until filter: {text}")))
}

#[cfg(test)]
mod tests {
    use super::container::tests::{down, record, up};
    use super::*;
    use base::ContainerId;

    fn records() -> Vec<Arc<Container>> {
        let make = |index: u8, name: &str, state| {
            let mut record = record(state);
            record.id = ContainerId::from_bytes([index; 32]);
            record.name = name.to_owned();
            record.created += i64::from(index);
            Arc::new(record)
        };
        vec![make(1, "one", up()), make(2, "two", down(3)), make(3, "three", State::Created(None))]
    }

    fn names(wanted: &Wanted) -> Result<String, String> {
        let images =
            |name: &str| if name == "nginx" { vec![records()[0].image.id.clone()] } else { Vec::new() };
        let found = select(records(), wanted, images).map_err(|failure| failure.message)?;
        Ok(found.iter().map(|record| record.name.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lists_are_newest_first_and_only_of_what_runs() {
        assert_eq!(names(&Wanted::default()).unwrap(), "one");
        assert_eq!(names(&Wanted { all: true, ..Wanted::default() }).unwrap(), "three two one");
        assert_eq!(names(&Wanted { limit: 2, ..Wanted::default() }).unwrap(), "three two");
    }

    #[test]
    fn filters_are_dockerds() {
        for (filters, expect) in [
            (r#"{"name":["^/t"]}"#, "three two"),
            (r#"{"name":["wo$"]}"#, "two"),
            (r#"{"name":["one","two"]}"#, "two one"),
            (r#"{"name":["["]}"#, ""),
            (r#"{"id":["0202"]}"#, "two"),
            (r#"{"status":["exited","created"]}"#, "three two"),
            (r#"{"exited":["3"]}"#, "two"),
            (r#"{"exited":["0"]}"#, ""),
            (r#"{"label":["a=b"]}"#, "three two one"),
            (r#"{"label":["a=c"]}"#, ""),
            (r#"{"before":["two"]}"#, "one"),
            (r#"{"since":["two"]}"#, "three"),
            (r#"{"ancestor":["nginx"]}"#, "three two one"),
            (r#"{"ancestor":["other"]}"#, ""),
            (r#"{"network":["bridge"]}"#, "three two one"),
            (r#"{"network":["other"]}"#, ""),
            (r#"{"volume":["/data"]}"#, ""),
            (r#"{"publish":["8000-9000"]}"#, "three two one"),
            (r#"{"publish":["80"]}"#, ""),
            (r#"{"expose":["81/tcp"]}"#, "three two one"),
            (r#"{"health":["none"]}"#, "three two one"),
            (r#"{"is-task":["true"]}"#, ""),
        ] {
            let wanted = Wanted { all: true, limit: 0, filters: Filters::parse(filters).unwrap() };
            assert_eq!(names(&wanted).as_deref(), Ok(expect), "{filters}");
        }
        for (filters, expect) in [
            (r#"{"nosuch":["x"]}"#, "invalid filter 'nosuch'"),
            (r#"{"status":["x"]}"#, "invalid filter 'status=x'"),
            (r#"{"exited":["x"]}"#, "invalid filter 'exited=x'"),
            (r#"{"before":["x"]}"#, "No such container: x"),
        ] {
            let wanted = Wanted { all: true, limit: 0, filters: Filters::parse(filters).unwrap() };
            assert_eq!(names(&wanted).unwrap_err(), expect);
        }
    }
}
