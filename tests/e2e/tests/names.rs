//! User-defined networks: containers find each other by name, whoever comes and goes, daemon or not. And ports that
//! another process of the host has.

use e2e::both;
use std::process::{Child, Stdio};
use std::time::Duration;
use testkit::{Engine, until};

const PATIENCE: Duration = Duration::from_secs(10);

/// The addresses that `container` finds for a name, in order; empty if there is no such name.
fn lookup(engine: &Engine, container: &str, name: &str) -> Vec<String> {
    let output = engine.wharf(&["exec", container, "nslookup", "-type=a", name]).stdout;
    let mut answers = output.lines().skip_while(|line| !line.starts_with("Name:"));
    let mut found: Vec<String> =
        answers.by_ref().filter_map(|line| line.strip_prefix("Address: ")).map(str::to_owned).collect();
    found.sort();
    found
}

fn run(engine: &Engine, name: &str, flags: &[&str]) {
    engine.wharf(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat()).ok();
}

/// The address of a container in a network.
fn address(engine: &Engine, name: &str, network: &str) -> Vec<String> {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    vec![engine.wharf(&["inspect", "-f", &format, name]).line()]
}

#[test]
fn containers_of_a_network_find_each_other() {
    let mut engine = Engine::with_busybox();
    engine.wharf(&["network", "create", "one"]).ok();
    engine.wharf(&["network", "create", "--internal", "two"]).ok();
    run(&engine, "first", &["--network", "one"]);
    run(&engine, "second", &["--network", "one", "--network-alias", "other", "--network-alias", "shared"]);
    let at = |engine: &Engine, name: &str| address(engine, name, "one");
    let short = engine.wharf(&["inspect", "-f", "{{slice .Id 0 12}}", "second"]).line();
    for name in ["second", "SECOND", "second.one", "other", "other.one", short.as_str()] {
        assert_eq!(lookup(&engine, "first", name), at(&engine, "second"), "{name}");
    }
    assert_eq!(lookup(&engine, "second", "first"), at(&engine, "first"), "who was there before is found");
    assert_eq!(lookup(&engine, "first", "first"), at(&engine, "first"), "itself");
    let conf = engine.wharf(&["exec", "first", "cat", "/etc/resolv.conf"]).ok();
    assert!(conf.starts_with("nameserver 127.0.0.11\n") && conf.contains("ndots:0"), "{conf}");
    let reverse = engine.wharf(&["exec", "first", "nslookup", &at(&engine, "second")[0]]).stdout;
    assert!(reverse.contains("name = second.one"), "{reverse}");

    run(&engine, "third", &["--network", "one", "--network-alias", "shared"]);
    let mut both = [at(&engine, "second"), at(&engine, "third")].concat();
    both.sort();
    assert_eq!(lookup(&engine, "first", "shared"), both, "an alias of two");
    engine.wharf(&["rename", "third", "drei"]).ok();
    assert_eq!(lookup(&engine, "first", "drei"), at(&engine, "drei"));
    assert_eq!(lookup(&engine, "first", "third"), [""; 0]);
    engine.wharf(&["rm", "-f", "drei"]).ok();
    until("the name to go", PATIENCE, || lookup(&engine, "first", "drei").is_empty().then_some(()));
    assert_eq!(lookup(&engine, "first", "shared"), at(&engine, "second"));

    // One that is on the default bridge comes later, and leaves.
    run(&engine, "late", &[]);
    assert_eq!(lookup(&engine, "first", "late"), [""; 0]);
    engine.wharf(&["network", "connect", "--alias", "nick", "one", "late"]).ok();
    assert_eq!(lookup(&engine, "first", "nick"), at(&engine, "late"));
    assert_eq!(lookup(&engine, "late", "first"), at(&engine, "first"));
    let conf = engine.wharf(&["exec", "late", "cat", "/etc/resolv.conf"]).ok();
    assert!(conf.starts_with("nameserver 127.0.0.11\n"), "{conf}");
    engine.wharf(&["network", "disconnect", "one", "late"]).ok();
    assert_eq!(lookup(&engine, "first", "nick"), [""; 0]);
    assert_eq!(lookup(&engine, "late", "first"), [""; 0]);

    // Nothing gets out of an internal network, nor do names of others get in.
    run(&engine, "inner", &["--network", "two"]);
    assert_eq!(lookup(&engine, "inner", "first"), [""; 0]);
    assert_eq!(lookup(&engine, "inner", "example.com"), [""; 0]);

    let pid = engine.wharf(&["inspect", "-f", "{{.State.Pid}}", "first"]).line();
    engine.kill_daemon();
    let asked =
        engine.run("nsenter", &["-t", &pid, "-n", "busybox", "nslookup", "-type=a", "second", "127.0.0.11"]);
    assert!(asked.stdout.contains("Address: 172."), "names answer without a daemon: {asked:?}");
    engine.start_daemon();
    assert_eq!(lookup(&engine, "first", "second"), at(&engine, "second"));
    run(&engine, "fourth", &["--network", "one"]);
    assert_eq!(lookup(&engine, "first", "fourth"), at(&engine, "fourth"));
}

#[test]
fn links_name_containers_of_the_default_bridge() {
    let engine = Engine::with_busybox();
    run(&engine, "db", &["--expose", "5432", "-e", "SECRET=s"]);
    run(&engine, "web", &["--link", "db:store", "--link", "db"]);
    let hosts = || engine.wharf(&["exec", "web", "cat", "/etc/hosts"]).ok();
    let line = |names: &str| format!("{}\t{names}\n", address(&engine, "db", "bridge").concat());
    let short = engine.wharf(&["inspect", "-f", "{{slice .Id 0 12}}", "db"]).line();
    let (store, plain) = (format!("store {short} db"), format!("db {short}"));
    assert!(hosts().contains(&line(&store)) && hosts().contains(&line(&plain)), "{}", hosts());
    let environment = engine.wharf(&["exec", "web", "env"]).ok();
    for variable in ["STORE_NAME=/web/store\n", "STORE_PORT_5432_TCP_PORT=5432\n", "STORE_ENV_SECRET=s\n"] {
        assert!(environment.contains(variable), "{variable} in {environment}");
    }
    assert_eq!(
        both(&engine, &["inspect", "-f", "{{.HostConfig.Links}}", "web"]).line(),
        "[/db:/web/store /db:/web/db]"
    );
    assert_eq!(both(&engine, &["inspect", "-f", "{{.Name}}", "web/store"]).line(), "/db");
    let names = ["ps", "--no-trunc", "--format", "{{.Names}}"];
    assert_eq!(both(&engine, &names).ok(), "web\ndb,web/store,web/db\n");
    // It comes back with another address, and what the user wrote stays.
    engine.wharf(&["exec", "web", "sh", "-c", "echo '192.0.2.1\tmine' >> /etc/hosts"]).ok();
    let before = line(&store);
    engine.wharf(&["stop", "-t", "0", "db"]).ok();
    run(&engine, "between", &[]);
    engine.wharf(&["start", "db"]).ok();
    assert_ne!(before, line(&store), "the address was to change");
    assert!(hosts().contains(&line(&store)) && hosts().ends_with("192.0.2.1\tmine\n"), "{}", hosts());
    assert_eq!(engine.wharf(&["rm", "--link", "/web/store"]).line(), "/web/store");
    assert!(!hosts().contains("store") && hosts().contains(&line(&plain)), "{}", hosts());
    let refused = both(&engine, &["rm", "--link", "web/store"]);
    assert_eq!(refused.stderr.trim(), "Error response from daemon: No such container: web/store");
    // Both have to run; a link goes with the container it leads to.
    engine.wharf(&["stop", "-t", "0", "db", "web"]).ok();
    let refused = both(&engine, &["start", "web"]).stderr;
    assert!(refused.contains("Cannot link to a non running container: /db AS /web/db"), "{refused}");
    engine.wharf(&["rm", "db"]).ok();
    engine.wharf(&["start", "web"]).ok();
    let refused = engine.wharf(&["create", "--link", "nosuch", "busybox"]);
    let text = "Error response from daemon: could not get container for nosuch: No such container: nosuch";
    assert!(refused.stderr.contains(text), "{refused:?}");
    let refused = engine.wharf(&["create", "--network", "host", "--link", "web", "busybox"]).stderr;
    assert!(
        refused.contains("conflicting options: host type networking can't be used with links"),
        "{refused}"
    );
}

#[test]
fn a_restarted_container_is_found_again() {
    let engine = Engine::with_busybox();
    engine.wharf(&["network", "create", "net"]).ok();
    run(&engine, "ann", &["--network", "net"]);
    run(&engine, "bob", &["--network", "net"]);
    engine.wharf(&["stop", "-t", "0", "bob"]).ok();
    until("the name to go", PATIENCE, || lookup(&engine, "ann", "bob").is_empty().then_some(()));
    run(&engine, "cid", &["--network", "net"]);
    engine.wharf(&["start", "bob"]).ok();
    assert_eq!(lookup(&engine, "ann", "bob"), address(&engine, "bob", "net"));
    assert_eq!(lookup(&engine, "bob", "cid"), address(&engine, "cid", "net"));
    assert_eq!(engine.wharf(&["exec", "ann", "ping", "-c", "1", "-W", "2", "bob.net"]).code, 0);
}

/// A process of the host, ended with the test.
struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn ports_of_other_processes_stay_theirs() {
    let engine = Engine::with_busybox();
    let serve = |port: &str| {
        let page = engine.folder().join("www");
        std::fs::create_dir_all(&page).unwrap();
        std::fs::write(page.join("index.html"), "foreign\n").unwrap();
        let mut command = engine.command("busybox");
        command.args(["httpd", "-f", "-p", port, "-h"]).arg(page).stderr(Stdio::null());
        let process = Foreign(command.spawn().unwrap());
        until("the foreign server", PATIENCE, || (get(&engine, port) == "foreign\n").then_some(()));
        process
    };
    let (_one, _two) = (serve("8080"), serve("32768"));
    let taken = engine.wharf(&["run", "--name", "taken", "-p", "8080:80", "busybox", "true"]);
    assert_eq!(taken.code, 125);
    assert!(
        taken.stderr.contains("driver failed programming external connectivity on endpoint taken (")
            && taken.stderr.contains("): failed to bind host port 0.0.0.0:8080/tcp: address already in use"),
        "{}",
        taken.stderr
    );
    assert_eq!(
        engine.wharf(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "taken"]).line(),
        "created 128"
    );
    assert_eq!(get(&engine, "8080"), "foreign\n", "nothing was redirected");
    engine.wharf(&["run", "-d", "--name", "free", "-p", "80", "busybox", "sleep", "1000"]).ok();
    assert_eq!(engine.wharf(&["port", "free", "80"]).ok(), "0.0.0.0:32769\n[::]:32769\n");
    engine.wharf(&["run", "-d", "--name", "range", "-p", "8080-8081:80", "busybox", "sleep", "1000"]).ok();
    assert_eq!(engine.wharf(&["port", "range", "80"]).ok(), "0.0.0.0:8081\n[::]:8081\n");
    assert_eq!(get(&engine, "8080"), "foreign\n");
}

fn get(engine: &Engine, port: &str) -> String {
    engine.run("curl", &["-s", "-m", "2", &format!("http://127.0.0.1:{port}/")]).stdout
}

#[test]
fn a_thousand_ports_are_one_element() {
    let engine = Engine::with_busybox();
    let page =
        |port: &str| engine.run("curl", &["-s", "-m", "2", &format!("http://10.99.0.2:{port}/")]).stdout;
    let serve = "echo many > /index.html; httpd -p 8500 -h /; exec httpd -f -p 80 -h /";
    let ports = ["-p", "20000:80", "-p", "21000-21299:51-350", "-p", "8000-8999:8000-8999"];
    let rest = ["busybox", "sh", "-c", serve];
    engine.wharf(&[&["run", "-d", "--name", "many"], &ports[..], &rest].concat()).ok();
    until("the server", PATIENCE, || (get(&engine, "20000") == "many\n").then_some(()));
    assert_eq!(engine.wharf(&["port", "many"]).ok().lines().count(), 2602);
    let elements = |map: &str| {
        let listed = engine.run("nft", &["list", "map", "inet", "wharf", map]).ok();
        let (_, elements) = listed.split_once("elements = {").unwrap_or_default();
        elements.matches(" : ").count()
    };
    assert_eq!((elements("ranges4"), elements("shifted4"), elements("ports4-any")), (1, 1, 1));
    for port in ["20000", "21029", "8500"] {
        assert_eq!(page(port), "many\n", "{port} by the host's address");
        assert_eq!(get(&engine, port), "many\n", "{port} by loopback");
    }
    // One of them goes, in the middle, and comes back; the others do not notice.
    engine.wharf(&["update", "--publish-rm", "8500", "many"]).ok();
    assert_eq!((page("8500"), get(&engine, "8500"), elements("ranges4")), (String::new(), String::new(), 2));
    assert_eq!(page("21029"), "many\n");
    engine.wharf(&["update", "--publish-add", "8500:8500", "many"]).ok();
    assert_eq!(page("8500"), "many\n");
    engine.wharf(&["rm", "-f", "many"]).ok();
    assert_eq!((elements("ranges4"), elements("shifted4"), elements("ports4-any")), (0, 0, 0));
}

#[test]
fn without_the_proxy_ports_are_held_all_the_same() {
    let engine = Engine::start_with(&["--userland-proxy=false"]);
    engine.load_busybox("busybox:latest");
    let serve = "echo page > /index.html; exec httpd -f -p 80 -h /";
    engine.wharf(&["run", "-d", "-p", "8080:80", "busybox", "sh", "-c", serve]).ok();
    until("the page", PATIENCE, || {
        let page = engine.run("curl", &["-s", "-m", "2", "http://10.99.0.2:8080/"]).stdout;
        (page == "page\n").then_some(())
    });
    let other = engine.run("busybox", &["timeout", "2", "busybox", "httpd", "-f", "-p", "8080"]);
    assert!(other.stderr.contains("in use"), "{other:?}");
}
