//! Hosts that share a store (etcd): networks that all have, addresses given out once, names across hosts.

#![expect(clippy::expect_used, reason = "what a test needs is there, or the test fails")]

use e2e::bundle::skipped;
use std::collections::BTreeSet;
use std::fs::File;
use std::process::{Child, Command};
use std::time::Duration;
use testkit::{Engine, Scratch, until};

const PATIENCE: Duration = Duration::from_secs(20);
const FIRST: &str = "10.99.0.2";
const SECOND: &str = "10.99.0.3";

/// A store of the first host, with its data.
struct Store {
    files: Scratch,
    process: Option<Child>,
}

impl Store {
    fn start(&mut self, on: &Engine) {
        let url = format!("http://{FIRST}:2379");
        let log = File::create(self.files.join("log")).expect("make the log");
        let mut command = on.command("etcd");
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--data-dir"]);
        command.arg(self.files.join("data")).stdout(log.try_clone().expect("share the log")).stderr(log);
        self.process = Some(command.spawn().expect("start etcd"));
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("kill etcd");
            process.wait().expect("wait for etcd");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Two engines on hosts that share a link, and the store, which does not run yet.
fn two_hosts() -> (Engine, Engine, Store) {
    let start = |address: &str| {
        Engine::start_with(&[
            &format!("--cluster-store=etcd://{FIRST}:2379/tests"),
            &format!("--cluster-advertise={address}:2376"),
            "--cluster-store-opt=discovery.heartbeat=1",
            "--cluster-store-opt=discovery.ttl=4",
        ])
    };
    let (one, other) = (start(FIRST), start(SECOND));
    let ip = |engine: &Engine, arguments: &str| {
        engine.run("ip", &arguments.split(' ').collect::<Vec<_>>()).ok();
    };
    ip(&other, "link del eth0");
    ip(&one, &format!("link set uplink0 netns {} name lan0", other.namespaces().pid()));
    ip(&other, &format!("addr add {SECOND}/24 dev lan0"));
    ip(&other, "link set lan0 up");
    for engine in [&one, &other] {
        engine.load_busybox("busybox:latest");
    }
    (one, other, Store { files: Scratch::new(), process: None })
}

fn run(engine: &Engine, name: &str, flags: &[&str]) {
    engine.wharf(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat()).ok();
}

/// Waits until one ping is answered.
fn reaches(engine: &Engine, container: &str, target: &str) {
    until(&format!("{target} from {container}"), PATIENCE, || {
        (engine.wharf(&["exec", container, "ping", "-c", "1", "-W", "1", target]).code == 0).then_some(())
    });
}

fn answer(engine: &Engine, container: &str, name: &str) -> String {
    let found = engine.wharf(&["exec", container, "nslookup", "-type=a", name]);
    let lines = found.stdout.lines().skip_while(|line| !line.starts_with("Name:"));
    lines.filter_map(|line| line.strip_prefix("Address: ")).collect::<Vec<_>>().join(" ")
}

fn address(engine: &Engine, name: &str) -> String {
    engine.wharf(&["inspect", "-f", "{{.NetworkSettings.Networks.far.IPAddress}}", name]).line()
}

/// Says that a test is left out where this machine has no etcd.
fn has_etcd() -> bool {
    let found = Command::new("etcd").arg("--version").output().is_ok();
    if !found {
        skipped("etcd (package etcd-server) is not installed");
    }
    found
}

#[test]
fn hosts_share_networks_addresses_and_names() {
    if !has_etcd() {
        return;
    }
    let (one, mut other, mut store) = two_hosts();
    // Without the store nothing but its networks is missing.
    let refused = one.wharf(&["network", "create", "-d", "overlay", "far"]);
    assert!(
        refused.stderr.contains("cluster store etcd://10.99.0.2:2379/tests does not answer"),
        "{refused:?}"
    );
    run(&one, "alone", &[]);
    store.start(&one);
    let id = until("the store", PATIENCE, || {
        let made = one.wharf(&["network", "create", "-d", "overlay", "--subnet", "10.20.0.0/24", "far"]);
        (made.code == 0).then(|| made.stdout.trim().to_owned())
    });
    until("the network on the other host", PATIENCE, || {
        (other.wharf(&["network", "inspect", "-f", "{{.Id}} {{.Scope}}", "far"]).stdout.trim()
            == format!("{id} global"))
        .then_some(())
    });
    assert_eq!(other.docker(&["network", "ls", "-q", "--no-trunc", "-f", "scope=global"]).line(), id);
    clashes(&other);
    let tunnel: String = ["vx-", &id].concat().chars().take(15).collect();
    names(&one, &other, &tunnel);
    many_at_once(&one, &other);
    the_store_goes_and_comes(&one, &mut other, &mut store);
    the_other_host_dies(&one, &mut other, &tunnel);
    removal(&one, &other);
}

fn clashes(other: &Engine) {
    for (arguments, words) in [
        (&["-d", "overlay", "far"][..], "network with name far already exists"),
        (&["-d", "overlay", "--subnet", "10.20.0.128/25", "near"], "Pool overlaps with other one"),
    ] {
        let refused = other.wharf(&[&["network", "create"], arguments].concat());
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
}

fn names(one: &Engine, other: &Engine, tunnel: &str) {
    run(one, "ca", &["--network", "far", "--network-alias", "alias-of-a"]);
    run(other, "cb", &["--network", "far", "--ip", "10.20.0.77"]);
    reaches(one, "ca", "cb");
    reaches(other, "cb", "ca");
    reaches(other, "cb", "alias-of-a");
    assert_eq!(answer(one, "ca", "cb.far"), "10.20.0.77");
    let back = one.wharf(&["exec", "ca", "nslookup", "10.20.0.77"]);
    assert!(back.stdout.contains("name = cb.far"), "{back:?}");
    let listening = "printf 'from the other host' | nc -l -p 9000";
    other.wharf(&["exec", "-d", "cb", "sh", "-c", listening]).ok();
    until("what the other host's container says", PATIENCE, || {
        let said = one.wharf(&["exec", "ca", "sh", "-c", "nc -w 2 cb 9000 < /dev/null"]);
        (said.stdout == "from the other host").then_some(())
    });
    // Nothing is asked of everybody: what nobody has heard of goes nowhere.
    let entries = one.run("bridge", &["fdb", "show", "dev", tunnel]).ok();
    assert!(
        entries.contains(&format!("dst {SECOND}")) && !entries.contains("00:00:00:00:00:00"),
        "{entries}"
    );
    let refused = one.wharf(&["run", "--rm", "--network", "far", "--ip", "10.20.0.77", "busybox", "true"]);
    assert!(refused.stderr.contains("Address already in use"), "{refused:?}");
    let refused = one.wharf(&["network", "rm", "far"]);
    assert!(refused.stderr.contains("network far has active endpoints (name:\"ca\""), "{refused:?}");
}

/// Both hosts start many at the same time: no address is given out twice.
fn many_at_once(one: &Engine, other: &Engine) {
    std::thread::scope(|threads| {
        for (engine, prefix) in [(one, "p"), (other, "q")] {
            for number in 0..6 {
                let name = format!("{prefix}{number}");
                threads.spawn(move || run(engine, &name, &["--network", "far"]));
            }
        }
    });
    let all = |engine: &Engine, prefix: &str| -> Vec<String> {
        (0..6).map(|number| address(engine, &format!("{prefix}{number}"))).collect()
    };
    let addresses = [all(one, "p"), all(other, "q"), vec![address(one, "ca")]].concat();
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 13, "{addresses:?}");
}

/// Who runs goes on, who is new is told why not.
fn the_store_goes_and_comes(one: &Engine, other: &mut Engine, store: &mut Store) {
    store.stop();
    reaches(one, "ca", "cb");
    let refused = one.wharf(&["run", "--rm", "--network", "far", "busybox", "true"]);
    assert!(
        refused.stderr.contains("cluster store etcd://10.99.0.2:2379/tests does not answer"),
        "{refused:?}"
    );
    run(one, "near", &[]);
    other.kill_daemon();
    reaches(one, "ca", "cb");
    store.start(one);
    other.start_daemon();
    until("the store", PATIENCE, || {
        (other.wharf(&["run", "-d", "--name", "late", "--network", "far", "busybox", "sleep", "1000"]).code
            == 0
            || {
                other.wharf(&["rm", "-f", "late"]);
                false
            })
        .then_some(())
    });
    reaches(one, "ca", "late");
    reaches(other, "late", "ca");
    assert_eq!(answer(one, "ca", "cb"), "10.20.0.77");
    other.wharf(&["rm", "-f", "late"]).ok();
    until("the end of who has gone", PATIENCE, || answer(one, "ca", "late").is_empty().then_some(()));
}

/// Nobody knows its containers any more, until its daemon comes back.
fn the_other_host_dies(one: &Engine, other: &mut Engine, tunnel: &str) {
    other.kill_daemon();
    until("the end of the dead host's containers", PATIENCE, || {
        answer(one, "ca", "cb").is_empty().then_some(())
    });
    assert!(!one.run("bridge", &["fdb", "show", "dev", tunnel]).ok().contains(&format!("dst {SECOND}")));
    other.start_daemon();
    reaches(one, "ca", "cb");
}

fn removal(one: &Engine, other: &Engine) {
    let names: Vec<String> = (0..6).map(|number| format!("q{number}")).chain(["cb".to_owned()]).collect();
    other
        .wharf(&[&["rm", "-f"], names.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat())
        .ok();
    let refused = other.wharf(&["network", "rm", "far"]);
    assert!(refused.stderr.contains(&format!("host:\"{FIRST}\"")), "{refused:?}");
    let names: Vec<String> = (0..6).map(|number| format!("p{number}")).chain(["ca".to_owned()]).collect();
    one.wharf(&[&["rm", "-f"], names.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat())
        .ok();
    until("the removal", PATIENCE, || (other.wharf(&["network", "rm", "far"]).code == 0).then_some(()));
    until("the end of the network", PATIENCE, || {
        let links = one.namespaces().links();
        let gone = !links.iter().any(|link| link.starts_with("vx-"));
        (gone && one.wharf(&["network", "inspect", "far"]).code != 0).then_some(())
    });
}
