//! Against a message bus that others wrote, and a manager that notes what it is told.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A user's runtime directory of the test's own.
struct Runtime(PathBuf);

impl Runtime {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wharf-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("systemd")).unwrap();
        Self(path)
    }

    fn scope(&self) -> Scope {
        Scope::parse("a-b.slice:p:n", "", Instance::User(self.0.clone())).unwrap()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_bus_without_a_manager_says_so() {
    let runtime = Runtime::new("bus");
    let scope = runtime.scope();
    assert!(matches!(scope.path(), Err(Error::Connect { .. })), "{:?}", scope.path());
    let config = runtime.0.join("config");
    let text = format!(
        "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context='default'><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/>\
         <allow own='*'/></policy></busconfig>",
        runtime.0.join("bus").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("dbus-daemon");
    command.args(["--nofork", "--nopidfile", "--print-address=1"]);
    command.arg(format!("--config-file={}", config.display()));
    let Ok(mut daemon) = command.stdout(Stdio::piped()).spawn() else {
        return println!("skipped: dbus-daemon is not installed");
    };
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said = scope.path().unwrap_err();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let Error::Refused { call, name, .. } = &said else { panic!("{said:?}") };
    assert_eq!((call.as_str(), name.as_str()), ("Get", "org.freedesktop.DBus.Error.ServiceUnknown"));
}

#[test]
fn paths_follow_slices() {
    for (text, expect) in [
        ("a-b.slice:docker:x", Some("/a.slice/a-b.slice/docker-x.scope")),
        ("", Some("/system.slice/wharf-id.scope")),
        (":p:n", Some("/system.slice/p-n.scope")),
        ("-.slice:p:n", Some("/p-n.scope")),
        ("user.slice::y", Some("/user.slice/y.scope")),
        ("a--b.slice:p:n", None),
        ("-a.slice:p:n", None),
        ("../a.slice:p:n", None),
        (".slice:p:n", None),
        ("a:p:n", None),
        ("/a/b", None),
        ("a.slice:p:", None),
        ("a.slice:p:x/y", None),
    ] {
        let scope = Scope::parse(text, "id", Instance::System);
        assert_eq!(scope.and_then(|scope| scope.path()).ok().as_deref(), expect, "{text:?}");
    }
}

#[test]
fn versions_begin_with_a_number() {
    for (text, expect) in [("252.38-1~deb12u1", 252), ("v240-5", 240), ("255", 255), ("", 0), ("x", 0)] {
        assert_eq!(number(text), expect, "{text:?}");
    }
}

/// A manager at the user's own socket: answers each call with `answer` and sends on what it was asked, as text. The end of a
/// job comes before the answer that names it, as it may.
fn manager(
    runtime: &Runtime,
    answer: fn(&str, &str) -> Result<&'static str, &'static str>,
) -> Receiver<String> {
    let listener = UnixListener::bind(runtime.0.join("systemd/private")).unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut hello = [0; 29];
            stream.read_exact(&mut hello).unwrap();
            assert_eq!(&hello[..], b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
            stream.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
            while let Some((serial, member, body)) = message::tests::receive(&mut stream) {
                // Before the answer: who has it may look.
                if sender.send(format!("{member} {body}")).is_err() {
                    return;
                }
                let outcome = answer(&member, &body);
                if let Ok("/job/failed" | "/job/done") = outcome {
                    let job = outcome.unwrap_or_default();
                    let result = job.trim_start_matches("/job/");
                    stream.write_all(&message::tests::job_removed(job, result)).unwrap();
                }
                stream.write_all(&message::tests::answer(serial, outcome)).unwrap();
            }
        }
    });
    receiver
}

fn limits() -> Resources {
    serde_json::from_str(
        r#"{ "pids": { "limit": 7 }, "memory": { "limit": 4096 }, "devices": [
            { "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw" } ] }"#,
    )
    .unwrap()
}

fn unified() -> Hierarchy {
    Hierarchy::V2 { root: "/nonexistent".into() }
}

#[test]
fn a_scope_is_started_changed_joined_and_stopped() {
    let runtime = Runtime::new("manager");
    let told = manager(&runtime, |member, body| match member {
        "Get" if body.ends_with("ControlGroup") => Ok("/user.slice/me.service"),
        "Get" => Ok("252.38-1"),
        "StartTransientUnit" | "StopUnit" => Ok("/job/done"),
        _ => Ok(""),
    });
    let annotation = |name: &str, value: &str| (format!("org.systemd.property.{name}"), value.to_owned());
    let annotations = [
        annotation("After", "['a.service', 'b.service']"),
        annotation("CollectMode", "'inactive-or-failed'"),
        annotation("TimeoutStopSec", "3"),
    ];
    let scope = runtime.scope().with_annotations(&annotations.into()).unwrap();
    assert_eq!(scope.path().unwrap(), "/user.slice/me.service/a.slice/a-b.slice/p-n.scope");
    scope.start(42, &limits(), &unified()).unwrap();
    scope.update(&limits(), true).unwrap();
    scope.attach(43).unwrap();
    scope.stop().unwrap();
    let told: Vec<String> = told.try_iter().collect();
    let get = |name: &str| format!("Get org.freedesktop.systemd1.Manager {name}");
    let limits =
        "DevicePolicy=strict DeviceAllow=[] DeviceAllow=[/dev/char/1:3:rw] MemoryMax=4096 TasksMax=7";
    let expect = [
        get("ControlGroup"),
        get("Version"),
        format!(
            "StartTransientUnit p-n.scope replace Description=container p-n Slice=a-b.slice Delegate=1 PIDs=[42] \
             DefaultDependencies=0 MemoryAccounting=1 CPUAccounting=1 TasksAccounting=1 IOAccounting=1 {limits} \
             After=[a.service,b.service] CollectMode=inactive-or-failed TimeoutStopUSec=3000000"
        ),
        get("Version"),
        format!("SetUnitProperties p-n.scope 1 {limits}"),
        "AttachProcessesToUnit p-n.scope  [43]".to_owned(),
        "StopUnit p-n.scope replace".to_owned(),
        "ResetFailedUnit p-n.scope".to_owned(),
    ];
    assert_eq!(told, expect);
}

#[test]
fn refusals_are_told_and_what_is_gone_is_stopped() {
    let runtime = Runtime::new("refusing");
    let told = manager(&runtime, |member, _| match member {
        "Get" => Ok("252"),
        "StartTransientUnit" => Err("org.freedesktop.systemd1.UnitExists"),
        _ => Err(NO_UNIT),
    });
    let scope = runtime.scope();
    let said = scope.start(42, &Resources::default(), &unified()).unwrap_err();
    assert_eq!(said.to_string(), "StartTransientUnit of systemd: in its words");
    scope.stop().unwrap();
    let names: Vec<String> = told.try_iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    // Tried again after the failed unit of before is cleared away.
    assert_eq!(names, ["Get", "StartTransientUnit", "ResetFailedUnit", "StartTransientUnit", "StopUnit"]);
    drop(told);
    let failing = Runtime::new("failing");
    let _told = manager(&failing, |member, _| match member {
        "Get" => Ok("252"),
        "StartTransientUnit" => Ok("/job/failed"),
        _ => Ok(""),
    });
    let said = failing.scope().start(42, &Resources::default(), &unified()).unwrap_err();
    assert_eq!(said.to_string(), "systemd did not start p-n.scope: failed");
}
