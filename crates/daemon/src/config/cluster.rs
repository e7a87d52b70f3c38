//! The store that the hosts of a cluster share. Pure.
//!
//! Keys and options are those of dockerd up to 20.10; of the stores it knew there is etcd. `kv.cacertfile` with
//! `kv.certfile` and `kv.keyfile` make it TLS, `kv.path` goes in front of all keys, `discovery.heartbeat` and
//! `discovery.ttl` are seconds.

use super::parse::Given;
use super::resolve::{ValueError, error};
use super::values::pair;
use engine::ClusterSettings;
use std::path::PathBuf;
use std::time::Duration;

const HEARTBEAT: u64 = 20;
const TTL: u64 = 60;
/// As libkv had it.
const ETCD_PORT: &str = "2379";

pub(super) fn cluster(given: &Given) -> Result<Option<ClusterSettings>, ValueError> {
    let text = |name: &str| given.last(name).filter(|text| !text.is_empty());
    let (store, advertise) = match (text("cluster-store"), text("cluster-advertise")) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return error(
                "invalid cluster configuration. --cluster-advertise must be accompanied by --cluster-store configuration",
            );
        }
        (Some(_), None) => {
            return error(
                "invalid cluster configuration. --cluster-store must be accompanied by --cluster-advertise configuration",
            );
        }
        (Some(store), Some(advertise)) => (store, advertise),
    };
    let Some(("etcd", rest)) = store.split_once("://") else {
        return error(format!(
            "invalid cluster store {store:?}: must be etcd://HOST[:PORT][,HOST[:PORT]...][/PATH]"
        ));
    };
    let (members, path) = rest.split_once('/').unwrap_or((rest, ""));
    let members: Vec<String> =
        members.split(',').filter(|member| !member.is_empty()).map(with_port).collect();
    if members.is_empty() {
        return error(format!("invalid cluster store {store:?}: no host"));
    }
    let mut settings = ClusterSettings {
        store: store.to_owned(),
        members,
        prefix: path.to_owned(),
        advertise: advertise.to_owned(),
        authority: None,
        identity: None,
        heartbeat: Duration::from_secs(HEARTBEAT),
        ttl: Duration::from_secs(TTL),
    };
    options(given, &mut settings)?;
    Ok(Some(settings))
}

fn options(given: &Given, settings: &mut ClusterSettings) -> Result<(), ValueError> {
    let (mut authority, mut certificate, mut key) = (None, None, None);
    let (mut heartbeat, mut ttl) = (None, None);
    for (option, value) in given.all("cluster-store-opt").iter().map(|option| pair(option)) {
        let seconds = || match value.parse::<u64>() {
            Ok(seconds) if seconds > 0 => Ok(Some(seconds)),
            _ => error(format!("invalid cluster store option {option}: {value:?} is no number of seconds")),
        };
        match option.as_str() {
            "kv.cacertfile" => authority = Some(PathBuf::from(value)),
            "kv.certfile" => certificate = Some(PathBuf::from(value)),
            "kv.keyfile" => key = Some(PathBuf::from(value)),
            "kv.path" => settings.prefix = value,
            "discovery.heartbeat" => heartbeat = seconds()?,
            "discovery.ttl" => ttl = seconds()?,
            _ => return error(format!("unknown cluster store option {option:?}")),
        }
    }
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        _ => return error("cluster store options kv.certfile and kv.keyfile go together"),
    };
    (settings.authority, settings.identity) = (authority, identity);
    // As in dockerd: of two only the one that is missing follows from the other.
    let heartbeat = heartbeat.unwrap_or_else(|| ttl.map_or(HEARTBEAT, |ttl| (ttl / 3).max(1)));
    let ttl = ttl.unwrap_or(heartbeat.saturating_mul(TTL / HEARTBEAT));
    if ttl <= heartbeat {
        return error("discovery.ttl timer must be greater than discovery.heartbeat");
    }
    settings.heartbeat = Duration::from_secs(heartbeat);
    settings.ttl = Duration::from_secs(ttl);
    Ok(())
}

fn with_port(member: &str) -> String {
    let has_port =
        member.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    if has_port { member.to_owned() } else { format!("{member}:{ETCD_PORT}") }
}

#[cfg(test)]
mod tests {
    use super::super::parse::command_line;
    use super::*;

    fn read(arguments: &[&str]) -> Result<Option<ClusterSettings>, ValueError> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        cluster(&command_line(arguments).unwrap())
    }

    #[test]
    fn a_store_is_named_as_for_dockerd() {
        assert_eq!(read(&[]), Ok(None));
        let advertise = "--cluster-advertise=eth0:2376";
        let found = read(&[
            "--cluster-store=etcd://one,two:4001,[fd00::1]/site",
            advertise,
            "--cluster-store-opt=discovery.ttl=9",
        ]);
        let found = found.unwrap().unwrap();
        assert_eq!(found.members, ["one:2379", "two:4001", "[fd00::1]:2379"]);
        assert_eq!((found.prefix.as_str(), found.advertise.as_str()), ("site", "eth0:2376"));
        assert_eq!((found.heartbeat.as_secs(), found.ttl.as_secs()), (3, 9));
        for (arguments, words) in [
            (&[advertise][..], "--cluster-advertise must be accompanied by --cluster-store"),
            (&["--cluster-store=etcd://a"], "--cluster-store must be accompanied by --cluster-advertise"),
            (&["--cluster-store=consul://a", advertise], "must be etcd://"),
            (&["--cluster-store=etcd://", advertise], "no host"),
            (
                &["--cluster-store=etcd://a", advertise, "--cluster-store-opt=a=b"],
                "unknown cluster store option",
            ),
            (
                &["--cluster-store=etcd://a", advertise, "--cluster-store-opt=kv.keyfile=/k"],
                "kv.certfile and kv.keyfile go together",
            ),
            (
                &["--cluster-store=etcd://a", advertise, "--cluster-store-opt=discovery.heartbeat=0"],
                "no number of seconds",
            ),
        ] {
            let error = read(arguments).unwrap_err().to_string();
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
    }
}
