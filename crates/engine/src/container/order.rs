//! In what order containers are started when a daemon comes up: each after those it needs.
//!
//! Pure. A container needs those that its label `depends-on` names (separated by commas), those that compose wrote down
//! for its service, those it is linked to, and those whose namespaces it shares.

use super::record::Container;
use std::collections::BTreeSet;

/// Names of containers, separated by commas.
const DEPENDS_ON: &str = "depends-on";
/// Compose: `SERVICE:CONDITION:RESTART`, separated by commas.
const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";

fn label<'a>(container: &'a Container, name: &str) -> &'a str {
    container.config.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
}

/// Says whether `container` needs `other`.
fn needs(container: &Container, other: &Container) -> bool {
    let id = other.id.to_string();
    let is_other = |name: &str| {
        let name = name.trim().trim_start_matches('/');
        name == other.name || (name.len() >= 12 && id.starts_with(name))
    };
    let host = &container.host;
    let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode];
    let services =
        label(container, COMPOSE_DEPENDS_ON).split(',').map(|one| one.split(':').next().unwrap_or_default());
    let service = label(other, COMPOSE_SERVICE);
    let same_project = label(container, COMPOSE_PROJECT) == label(other, COMPOSE_PROJECT);
    label(container, DEPENDS_ON).split(',').any(is_other)
        || modes.iter().filter_map(|mode| mode.strip_prefix("container:")).any(is_other)
        || container.links.iter().any(|link| link.child == other.id)
        || (same_project && !service.is_empty() && { services }.any(|wanted| wanted.trim() == service))
}

/// Returns the places of containers in waves: those of a wave need only those of earlier ones. What needs itself in a
/// circle comes last, all at once.
pub(super) fn waves(containers: &[&Container]) -> Vec<Vec<usize>> {
    let needed: Vec<BTreeSet<usize>> = containers
        .iter()
        .enumerate()
        .map(|(place, container)| {
            let others = containers.iter().enumerate();
            others
                .filter(|(other, one)| *other != place && needs(container, one))
                .map(|(other, _)| other)
                .collect()
        })
        .collect();
    let mut waves = Vec::new();
    let mut started = BTreeSet::new();
    let mut left: Vec<usize> = (0..containers.len()).collect();
    while !left.is_empty() {
        let ready = |place: &usize| needed.get(*place).is_none_or(|needed| needed.is_subset(&started));
        let (now, later): (Vec<usize>, Vec<usize>) = left.iter().partition(|place| ready(place));
        let (now, later) = if now.is_empty() { (later, now) } else { (now, later) };
        started.extend(now.iter().copied());
        waves.push(now);
        left = later;
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, labels: &[(&str, &str)], network: &str) -> Container {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        serde_json::from_value(serde_json::json!({
            "id": format!("{:0<64}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()),
            "name": name, "created": 0, "config": {"Labels": labels}, "host": {"NetworkMode": network},
            "image": {"reference": "x", "id": format!("sha256:{:064}", 0), "layers": [], "platform": ""},
            "state": {"Created": null}, "restart_count": 0, "stopped_by_user": false, "endpoints": {}, "ports": [],
            "mounts": [], "log": {"driver": "none", "options": {}},
        }))
        .unwrap()
    }

    fn check(containers: &[Container], expect: &[&[&str]]) {
        let containers: Vec<&Container> = containers.iter().collect();
        let found: Vec<Vec<&str>> = waves(&containers)
            .iter()
            .map(|wave| wave.iter().map(|place| containers[*place].name.as_str()).collect())
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn each_comes_after_those_it_needs() {
        check(&[], &[]);
        check(
            &[
                container("web", &[("depends-on", "app, nosuch")], ""),
                container("app", &[("depends-on", "db,cache")], ""),
                container("cache", &[], ""),
                container("db", &[], ""),
                container("side", &[], "container:web"),
            ],
            &[&["cache", "db"], &["app"], &["web"], &["side"]],
        );
        check(
            &[
                container(
                    "p-web-1",
                    &[(COMPOSE_PROJECT, "p"), (COMPOSE_DEPENDS_ON, "db:service_started:false")],
                    "",
                ),
                container("p-db-1", &[(COMPOSE_PROJECT, "p"), (COMPOSE_SERVICE, "db")], ""),
                container("q-db-1", &[(COMPOSE_PROJECT, "q"), (COMPOSE_SERVICE, "db")], ""),
            ],
            &[&["p-db-1", "q-db-1"], &["p-web-1"]],
        );
        let circle =
            [container("aa", &[("depends-on", "bb")], ""), container("bb", &[("depends-on", "aa")], "")];
        check(&circle, &[&["aa", "bb"]]);
    }
}
