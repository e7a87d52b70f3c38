//! Containers that take more than they get, ignore what they are told, or lose what they write to; and requests that are
//! too large or name what cannot be. Each is told as in Docker, and the engine goes on.
#![expect(clippy::unwrap_used, reason = "test code: a failed step ends the test")]

use e2e::both;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;
use testkit::{Engine, until};

const PATIENCE: Duration = Duration::from_secs(20);

fn alive(engine: &Engine) {
    assert_eq!(engine.wharf(&["run", "--rm", "busybox", "echo", "alive"]).ok(), "alive\n");
    assert!(!engine.daemon_log().contains("panicked"), "{}", engine.daemon_log());
}

#[test]
fn memory_and_processes_run_out() {
    let engine = Engine::with_busybox();
    let output = engine.wharf(&["run", "--name", "eats", "-m", "8m", "busybox", "tail", "/dev/zero"]);
    assert_eq!(output.code, 137);
    let state = ["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}", "eats"];
    assert_eq!(both(&engine, &state).line(), "true 137 exited");
    let told = engine.wharf(&["events", "--since", "1h", "--until", "0s", "--filter", "event=oom"]).ok();
    assert!(told.contains("name=eats"), "{told}");
    // A child's death by hunger is not the container's end.
    let survives = "tail /dev/zero; echo child $?";
    let output = engine.wharf(&["run", "--rm", "-m", "8m", "busybox", "sh", "-c", survives]);
    assert_eq!((output.stdout.as_str(), output.code), ("child 137\n", 0));
    let forks = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done 2>/dev/null; echo not reached";
    engine.wharf(&["run", "-d", "--name", "forks", "--pids-limit", "5", "busybox", "sh", "-c", forks]).ok();
    until("the shell to give up", PATIENCE, || {
        (engine.wharf(&["inspect", "-f", "{{.State.Status}}", "forks"]).line() == "exited").then_some(())
    });
    let said = engine.wharf(&["logs", "forks"]);
    assert!(!said.stdout.contains("not reached"), "{said:?}");
    engine.wharf(&["run", "-d", "--name", "full", "--pids-limit", "1", "busybox", "sleep", "1000"]).ok();
    let forks = ["exec", "full", "sh", "-c", "/bin/true; /bin/true"];
    assert_ne!(engine.wharf(&forks).code, 0, "there is no room for another process");
    engine.wharf(&["update", "--pids-limit", "10", "full"]).ok();
    engine.wharf(&forks).ok();
    alive(&engine);
}

#[test]
fn a_log_whose_disk_is_full_or_whose_file_is_gone() {
    let engine = Engine::on_small_disk(12);
    engine.load_busybox("busybox:latest");
    let script = "while :; do head -c 3000 /dev/zero | tr '\\0' x; echo; done";
    let flags = ["--log-opt", "max-size=100m"];
    let run = |name: &str, script: &str| {
        engine
            .wharf(&[&["run", "-d", "--name", name], &flags[..], &["busybox", "sh", "-c", script]].concat())
            .ok()
    };
    run("floods", script);
    let data = engine.folder().join("data").display().to_string();
    let free = || -> Option<u64> {
        let free = engine.run("df", &["--output=avail", &data]).line();
        free.lines().last()?.trim().parse().ok()
    };
    until("the disk to be full", PATIENCE, || (free()? < 8).then_some(()));
    // It goes on, and so does the engine; what is lost is the log's.
    assert_eq!(engine.wharf(&["exec", "floods", "echo", "here"]).line(), "here");
    assert!(engine.wharf(&["ps"]).ok().contains("floods"));
    engine.wharf(&["rm", "-f", "floods"]).ok();
    until("the space to come back", PATIENCE, || (free()? > 1000).then_some(()));
    run("lost", "echo before; while ! test -e /go; do sleep 0.1; done; echo after; sleep 1000");
    until("the first line", PATIENCE, || {
        engine.wharf(&["logs", "lost"]).stdout.contains("before").then_some(())
    });
    let path = engine.wharf(&["inspect", "-f", "{{.LogPath}}", "lost"]).line();
    // The disk is mounted in the engine's namespace.
    engine.run("rm", &[&path]).ok();
    engine.wharf(&["exec", "lost", "touch", "/go"]).ok();
    assert_eq!(engine.wharf(&["inspect", "-f", "{{.State.Status}}", "lost"]).line(), "running");
    engine.wharf(&["restart", "-t", "0", "lost"]).ok();
    until("lines after a restart", PATIENCE, || {
        engine.wharf(&["logs", "lost"]).stdout.contains("before").then_some(())
    });
    engine.wharf(&["rm", "-f", "lost"]).ok();
    alive(&engine);
}

#[test]
fn what_does_not_listen_or_reap_is_ended() {
    let engine = Engine::with_busybox();
    let deaf = "trap '' TERM INT HUP; echo deaf; while :; do sleep 0.1; done";
    engine.wharf(&["run", "-d", "--name", "deaf", "busybox", "sh", "-c", deaf]).ok();
    until("the trap", PATIENCE, || (engine.wharf(&["logs", "deaf"]).ok() == "deaf\n").then_some(()));
    engine.wharf(&["stop", "-t", "1", "deaf"]).ok();
    let ended = both(&engine, &["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", "deaf"]).line();
    assert_eq!(ended, "137 false");
    // Orphans that nobody waits for.
    let flood = "(i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; echo done); exec sleep 1000";
    engine.wharf(&["run", "-d", "--name", "zombies", "busybox", "sh", "-c", flood]).ok();
    until("the flood", PATIENCE, || (engine.wharf(&["logs", "zombies"]).ok() == "done\n").then_some(()));
    // The init has no handler, so that nobody inside can end it.
    engine.wharf(&["exec", "zombies", "killall", "sleep"]).ok();
    let count = ["exec", "zombies", "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z '"];
    until("the dead to be there", PATIENCE, || (engine.wharf(&count).stdout.trim() == "300").then_some(()));
    assert_eq!(engine.wharf(&["exec", "zombies", "echo", "here"]).line(), "here");
    engine.wharf(&["rm", "-f", "zombies"]).ok();
    alive(&engine);
}

#[test]
fn input_that_is_not_read_waits() {
    let engine = Engine::with_busybox();
    let mut client = engine.wharf_command();
    client.args(["run", "-i", "--name", "slow", "busybox", "sh", "-c", "sleep 1; wc -c; sleep 1000"]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let block = vec![b'x'; 1 << 20];
        (0..32).try_for_each(|_| input.write_all(&block))
    });
    for process in engine.namespaces().processes() {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        assert!(kib < 200 << 10, "process {process} has {kib} KiB");
    }
    writer.join().unwrap().unwrap();
    until("all of it to be counted", PATIENCE, || {
        (engine.wharf(&["logs", "slow"]).stdout.trim() == (32 << 20).to_string()).then_some(())
    });
    engine.wharf(&["rm", "-f", "slow"]).ok();
    client.wait().unwrap();
}

/// Sends a request and returns status and message.
fn request(engine: &Engine, method: &str, path: &str, body: &str) -> (u16, String) {
    let file = engine.folder().join("body");
    std::fs::write(&file, body).unwrap();
    let socket = engine.folder().join("wharf.sock").display().to_string();
    let data = format!("@{}", file.display());
    let mut arguments =
        vec!["-g", "-s", "--path-as-is", "-X", method, "--unix-socket", &socket, "-w", "\n%{http_code}"];
    if !body.is_empty() {
        arguments.extend(["-H", "Content-Type: application/json", "--data-binary", &data]);
    }
    let url = format!("http://d{path}");
    let said = engine.run("curl", &[&arguments[..], &[&url]].concat()).ok();
    let (text, status) = said.rsplit_once('\n').unwrap();
    let message = serde_json::from_str::<serde_json::Value>(text.trim()).unwrap_or_default();
    let message = message
        .get("message")
        .and_then(serde_json::Value::as_str)
        .map_or_else(|| text.trim().to_owned(), str::to_owned);
    (status.parse().unwrap(), message)
}

/// Method, path and body; status and words of the answer.
const REFUSED: &[(&str, &str, &str, u16, &str)] = &[
    ("POST", "/containers/create", "{\"Image\":", 400, "unexpected EOF"),
    (
        "POST",
        "/containers/create",
        "{\"Image\":5}",
        400,
        "cannot unmarshal number into Go struct field CreateRequest.Image of type string",
    ),
    (
        "POST",
        "/containers/create",
        "{\"HostConfig\":{\"Memory\":\"lots\"}}",
        400,
        "invalid JSON: json: cannot unmarshal ",
    ),
    ("POST", "/containers/create", "[]", 400, "invalid JSON: json: cannot unmarshal "),
    (
        "POST",
        "/containers/create",
        r#"{"Image":"busybox","Hostname":"x","HostConfig":{"UTSMode":"host"}}"#,
        400,
        "conflicting options: hostname and the UTS mode",
    ),
    (
        "POST",
        "/containers/create",
        r#"{"Image":"busybox","HostConfig":{"NetworkMode":"container:x","PublishAllPorts":true}}"#,
        400,
        "conflicting options: port publishing and the container type network mode",
    ),
    (
        "POST",
        "/containers/create",
        r#"{"Image":"busybox","ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"container:x"}}"#,
        400,
        "conflicting options: port exposing and the container type network mode",
    ),
    (
        "POST",
        "/containers/create",
        r#"{"Image":"busybox","HostConfig":{"Links":["nobody:x"]}}"#,
        400,
        "could not get container for nobody: No such container: nobody",
    ),
    (
        "POST",
        "/containers/create",
        r#"{"Image":"busybox","HostConfig":{"CpusetCpus":"0,8000"}}"#,
        400,
        "Requested CPUs are not available - requested 0,8000, available: ",
    ),
    (
        "POST",
        "/containers/create",
        r#"{"Image":"busybox","HostConfig":{"CpusetMems":"x"}}"#,
        400,
        "Invalid value x for cpuset mems: invalid format: x",
    ),
    (
        "POST",
        "/networks/create",
        r#"{"Name":"net","Options":{"com.docker.network.driver.mtu":"x"}}"#,
        400,
        "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)",
    ),
    (
        "POST",
        "/networks/create",
        r#"{"Name":"net","Options":{"com.docker.network.bridge.enable_icc":"maybe"}}"#,
        400,
        "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)",
    ),
    ("GET", "/containers/json?filters={\"status\":[\"running\"]}", "", 200, ""),
    ("GET", "/containers/json?filters={\"nobody\":[\"knows\"]}", "", 400, "invalid filter 'nobody'"),
    ("POST", "/containers/create", "{}", 400, "config cannot be empty"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"Nobody\":{\"knows\":[1]}}", 201, ""),
    (
        "POST",
        "/containers/create?name=a/b",
        "{\"Image\":\"busybox\"}",
        400,
        "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
    ),
    (
        "POST",
        "/containers/create?name=b%C3%A4r",
        "{\"Image\":\"busybox\"}",
        400,
        "Invalid container name (bär)",
    ),
    ("POST", "/containers/create?name=..", "{\"Image\":\"busybox\"}", 400, "Invalid container name (..)"),
    ("POST", "/containers/box/rename?name=a/b", "", 400, "Invalid container name (a/b)"),
    ("POST", "/containers/box/rename", "", 400, "Neither old nor new names may be empty"),
    ("GET", "/containers/%2e%2e%2fbox/json", "", 404, "No such container: ../box"),
    ("GET", "/containers/box/../box/json", "", 404, "No such container: box/../box"),
    ("GET", "/containers/b%C3%A4r/json", "", 404, "No such container: bär"),
    (
        "POST",
        "/volumes/create",
        "{\"Name\":\"../x\"}",
        400,
        "includes invalid characters for a local volume name",
    ),
    ("POST", "/networks/create", "{\"Name\":\"a b\\u0000\",\"Driver\":\"nosuch\"}", 404, "nosuch"),
    (
        "GET",
        "/containers/box/archive?path=../../../../etc/nosuch",
        "",
        404,
        "Could not find the file ../../../../etc/nosuch in container box",
    ),
    (
        "GET",
        "/containers/json?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D",
        "",
        400,
        "invalid filter 'nosuch'",
    ),
    ("GET", "/containers/json?filters=nonsense", "", 400, "invalid filter"),
    ("POST", "/containers/box/kill?signal=NOSUCH", "", 400, "Invalid signal: NOSUCH"),
    ("GET", "/v1.99/info", "", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
    ("GET", "/v1.10/info", "", 400, "client version 1.10 is too old. Minimum supported API version is 1.24"),
    ("GET", "/nosuch", "", 404, "page not found"),
];

#[test]
fn what_cannot_be_read_or_named_is_refused() {
    let engine = Engine::with_busybox();
    engine.wharf(&["create", "--name", "box", "busybox", "true"]).ok();
    let mut wrong = Vec::new();
    for &(method, path, body, status, words) in REFUSED {
        let (found, said) = request(&engine, method, path, body);
        if found != status || !said.contains(words) {
            wrong.push(format!("{method} {path} {body}: {found} {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    alive(&engine);
}

#[test]
fn command_lines_of_a_megabyte() {
    let engine = Engine::with_busybox();
    // As one word it is more than the kernel takes.
    let large = "x".repeat(1 << 20);
    let body = serde_json::json!({"Image": "busybox", "Cmd": ["echo", large]}).to_string();
    let (status, said) = request(&engine, "POST", "/containers/create?name=large", &body);
    assert_eq!(status, 201, "{said}");
    assert_eq!(request(&engine, "POST", "/containers/large/start", "").0, 204);
    // As with runc the program's start fails after the container's.
    assert_eq!(engine.wharf(&["wait", "large"]).line(), "255");
    let said = engine.wharf(&["logs", "large"]).stderr;
    assert!(said.to_lowercase().contains("argument list too long"), "{said}");
    let words: Vec<String> =
        std::iter::once("true".to_owned()).chain((0..10_000).map(|word| format!("{word:099}"))).collect();
    let body = serde_json::json!({"Image": "busybox", "Cmd": words}).to_string();
    assert_eq!(request(&engine, "POST", "/containers/create?name=many", &body).0, 201);
    assert_eq!(request(&engine, "POST", "/containers/many/start", "").0, 204);
    assert_eq!(engine.wharf(&["wait", "many"]).line(), "0");
    alive(&engine);
}
