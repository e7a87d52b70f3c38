//! The cases.

use crate::bench::{
    Bench, all_output, eventually, exec_id, interactive, memory, process, read_all, read_until,
};
use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};
use supervisor::protocol::{
    AttachOptions, Event, Health, HealthState, Protocol, ProxyPort, Reply, Request, Resolver, RestartName,
    RestartPolicy, State, Target,
};
use supervisor::{Connection, StartError};

pub(crate) type Case = fn(&Bench);

pub(crate) const ALL: &[(&str, Case)] = &[
    ("a_container_runs_and_ends", a_container_runs_and_ends),
    ("exit_codes_and_signals_are_told", exit_codes_and_signals_are_told),
    ("what_cannot_start_says_why", what_cannot_start_says_why),
    ("output_goes_to_log_and_clients", output_goes_to_log_and_clients),
    ("much_output_is_complete", much_output_is_complete),
    ("a_slow_client_loses_nothing", a_slow_client_loses_nothing),
    ("a_vanished_client_changes_nothing", a_vanished_client_changes_nothing),
    ("input_reaches_the_container", input_reaches_the_container),
    ("a_terminal_works", a_terminal_works),
    ("detach_keys_detach", detach_keys_detach),
    ("execs_run_and_end", execs_run_and_end),
    ("an_exec_with_a_terminal", an_exec_with_a_terminal),
    ("a_background_process_does_not_hold_an_exec", a_background_process_does_not_hold_an_exec),
    ("stop_waits_and_kills", stop_waits_and_kills),
    ("pause_and_unpause", pause_and_unpause),
    ("restart_policy_without_a_daemon", restart_policy_without_a_daemon),
    ("stop_ends_the_restarts", stop_ends_the_restarts),
    ("restart_on_request", restart_on_request),
    ("a_new_daemon_finds_it", a_new_daemon_finds_it),
    ("kill_all_of_it", kill_all_of_it),
    ("health_is_probed", health_is_probed),
    ("signals_are_those_of_a_fresh_process", signals_are_those_of_a_fresh_process),
    ("nothing_is_inherited", nothing_is_inherited),
    ("the_zygote_is_replaced", the_zygote_is_replaced),
    ("want_of_memory_is_told", want_of_memory_is_told),
    ("limits_and_policy_change_alive", limits_and_policy_change_alive),
    ("published_ports_are_served", published_ports_are_served),
    ("names_are_resolved_inside", names_are_resolved_inside),
    ("a_large_launch_travels_in_memory", a_large_launch_travels_in_memory),
    ("clients_that_come_and_go_leave_nothing", clients_that_come_and_go_leave_nothing),
    ("endless_output_that_nobody_reads_is_bounded", endless_output_that_nobody_reads_is_bounded),
    ("output_is_passed_on_quickly", output_is_passed_on_quickly),
    ("it_is_small_and_quick", it_is_small_and_quick),
];

fn a_container_runs_and_ends(bench: &Bench) {
    let container = bench.container("true").start();
    let record = container.exit();
    assert_eq!((record.exit_code, record.signal, record.oom_killed), (0, None, false));
    assert!(record.finished_at >= record.started_at);
    assert_eq!(record.started_at, container.started.started_at);
    assert!(container.events.as_ref().unwrap().next().unwrap().is_none());
    container.gone();
}

fn exit_codes_and_signals_are_told(bench: &Bench) {
    let check = |script: &str, code, signal| {
        let record = bench.container(script).start().exit();
        assert_eq!((record.exit_code, record.signal), (code, signal), "{script}");
    };
    check("exit 42", 42, None);
    // The first process of a PID namespace is killed by no signal of its own.
    check("kill -9 $$; exit 3", 3, None);
    let container = bench.container("sleep 100").start();
    container.connect().done(&Request::Signal { signal: 9 }, &[]).unwrap();
    let record = container.exit();
    assert_eq!((record.exit_code, record.signal, record.stopped_by_user), (137, Some(9), true));
    container.gone();
}

fn what_cannot_start_says_why(bench: &Bench) {
    let check = |arguments: &[&str], code, words: &str| {
        let mut container = bench.container("");
        let socket = container.launch.exec_dir.join("supervisor.sock");
        container.launch.spec.process.as_mut().unwrap().args =
            arguments.iter().map(|argument| (*argument).to_owned()).collect();
        match container.try_start() {
            Err(StartError::Failed { message, exit_code, .. }) => {
                assert_eq!(exit_code, code, "{message}");
                assert!(message.contains(words), "{message}");
            }
            Err(other) => panic!("{arguments:?}: {other}"),
            Ok(_) => panic!("{arguments:?} started"),
        }
        assert!(!socket.exists());
    };
    check(&["nosuch"], 127, "executable file not found in $PATH");
    check(&["/etc/passwd"], 126, "permission denied");
    check(&["/nosuch"], 127, "no such file or directory");
}

fn output_goes_to_log_and_clients(bench: &Bench) {
    let mut container = bench.container("echo out; echo err >&2; printf rest");
    let mut raw = container.client(all_output());
    let mut framed =
        container.client(AttachOptions { stderr: true, multiplexed: true, ..Default::default() });
    let container = container.start();
    container.exit();
    // Whoever hears of the end finds everything in the log.
    let logged = container.logged();
    assert!(logged.contains("out\n") && logged.contains("err\n") && logged.contains("rest"), "{logged:?}");
    let got = read_all(&mut raw);
    assert!(got.contains("out\n") && got.contains("err\n") && got.contains("rest"), "{got:?}");
    assert_eq!(read_all(&mut framed), "\u{2}\0\0\0\0\0\0\u{4}err\n");
    drop((raw, framed));
    container.gone();
}

fn much_output_is_complete(bench: &Bench) {
    // About five megabytes.
    let mut container = bench.container("seq 1 700000");
    let mut client = container.client(all_output());
    let start = Instant::now();
    let container = container.start();
    let got = read_all(&mut client);
    container.exit();
    let took = start.elapsed();
    let expect: String = (1..=700_000).map(|number| format!("{number}\n")).collect();
    assert!(got == expect, "client: {} of {} bytes", got.len(), expect.len());
    let logged = container.logged();
    assert!(logged == expect, "log: {} of {} bytes", logged.len(), expect.len());
    println!("    {} bytes to client and log in {} ms", expect.len(), took.as_millis());
}

fn a_slow_client_loses_nothing(bench: &Bench) {
    let mut container = bench.container("seq 1 200000");
    let mut slow = container.client(all_output());
    let mut quick = container.client(all_output());
    let container = container.start();
    // The other one is held up, too, but loses nothing either.
    let reader = std::thread::spawn(move || read_all(&mut quick));
    std::thread::sleep(Duration::from_millis(300));
    let got = read_all(&mut slow);
    let expect: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(got == expect, "slow: {} of {} bytes", got.len(), expect.len());
    assert!(reader.join().unwrap() == expect);
    container.exit();
    assert!(container.logged() == expect);
}

fn a_vanished_client_changes_nothing(bench: &Bench) {
    let mut container = bench.container("sleep 0.2; seq 1 50000");
    let client = container.client(all_output());
    let container = container.start();
    drop(client);
    assert_eq!(container.exit().exit_code, 0);
    assert_eq!(container.logged().lines().count(), 50_000);
}

fn input_reaches_the_container(bench: &Bench) {
    let mut container = bench.container("cat; echo end");
    container.launch.open_stdin = true;
    container.launch.stdin_once = true;
    let mut client = container.client(interactive());
    let container = container.start();
    client.write_all(b"hello\n").unwrap();
    assert_eq!(read_until(&mut client, "hello\n"), "hello\n");
    // More than a pipe holds, with both directions at once.
    let big = "0123456789abcdef\n".repeat(20_000);
    let mut writer = client.try_clone().unwrap();
    let typed = big.clone();
    let typing = std::thread::spawn(move || {
        writer.write_all(typed.as_bytes()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let got = read_all(&mut client);
    typing.join().unwrap();
    assert!(got == format!("{big}end\n"), "{} bytes", got.len());
    assert_eq!(container.exit().exit_code, 0);
}

fn a_terminal_works(bench: &Bench) {
    let mut container = bench.container("tty; read line; echo \"got $line\"; stty size; exit 5");
    container.terminal();
    container.launch.open_stdin = true;
    let mut client = container.client(interactive());
    let container = container.start();
    read_until(&mut client, "/dev/");
    container.connect().done(&Request::Resize { target: Target::Init, rows: 41, columns: 123 }, &[]).unwrap();
    client.write_all(b"abc\n").unwrap();
    let got = read_until(&mut client, "41 123");
    assert!(got.contains("abc\r\ngot abc\r\n"), "{got:?}");
    assert_eq!(container.exit().exit_code, 5);
    assert!(container.logged().contains("got abc\r\n"));
}

fn detach_keys_detach(bench: &Bench) {
    let mut container = bench.container("read line; echo \"$line\"; read line");
    container.terminal();
    container.launch.open_stdin = true;
    let mut client = container.client(interactive());
    let container = container.start();
    client.write_all(b"a\x10b\n").unwrap();
    read_until(&mut client, "b\r\n");
    client.write_all(b"\x10\x11").unwrap();
    read_all(&mut client);
    assert_eq!(container.event(), Event::Detached { by_keys: true, target: Target::Init });
    assert!(matches!(container.connect().status().unwrap().state, State::Running { .. }));
    // Another one comes and goes on.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    container.connect().done(&Request::Attach(interactive()), &[std::os::fd::AsFd::as_fd(&theirs)]).unwrap();
    drop(theirs);
    (&ours).write_all(b"\n").unwrap();
    assert_eq!(container.exit().exit_code, 0);
}

fn execs_run_and_end(bench: &Bench) {
    let container = bench.container("touch /here; sleep 100").start();
    eventually("the file", || {
        let mut client = container.exec(9, "ls /", all_output(), false);
        read_all(&mut client).contains("here")
    });
    let options = AttachOptions { multiplexed: true, ..interactive() };
    let mut client = container.exec(1, "cat; echo e >&2; exit 7", options, false);
    client.write_all(b"through").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let got = read_all(&mut client);
    assert_eq!(got, "\u{1}\0\0\0\0\0\0\u{7}through\u{2}\0\0\0\0\0\0\u{2}e\n");
    let ended = loop {
        match container.event() {
            Event::ExecExited(exit) if exit.exec_id == exec_id(1) => break exit,
            Event::ExecExited(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ended.exit_code, 7);
    let status = container.connect().status().unwrap();
    assert!(status.execs.is_empty() && status.ended_execs.contains(&ended));
    let client = container.exec(2, "sleep 100", all_output(), false);
    let kill = Request::SignalExec { exec_id: exec_id(2), signal: 9 };
    container.connect().done(&kill, &[]).unwrap();
    assert!(matches!(container.event(), Event::ExecExited(exit) if exit.exit_code == 137));
    drop(client);
    // What cannot be executed says why.
    let mut nosuch = process("");
    nosuch.args = vec!["nosuch".to_owned()];
    let exec = supervisor::protocol::Exec { id: exec_id(3), process: nosuch, user: None, attach: None };
    let reply = container.connect().call(&Request::Exec(Box::new(exec)), &[]).unwrap();
    assert!(
        matches!(&reply, Reply::Failed { exit_code: 127, message, .. } if message.contains("executable file not found")),
        "{reply:?}"
    );
    // The container ends: its execs end with it and are told before.
    let mut client = container.exec(4, "echo ready; sleep 100", all_output(), false);
    read_until(&mut client, "ready");
    container.connect().done(&Request::Signal { signal: 9 }, &[]).unwrap();
    assert!(matches!(container.event(), Event::ExecExited(exit) if exit.exit_code == 137));
    assert_eq!(container.exit().exit_code, 137);
    container.gone();
}

fn an_exec_with_a_terminal(bench: &Bench) {
    let container = bench.container("sleep 100").start();
    let mut client = container.exec(1, "tty; read x; stty size; exit 3", interactive(), true);
    read_until(&mut client, "/dev/");
    let target = Target::Exec(exec_id(1));
    container.connect().done(&Request::Resize { target, rows: 10, columns: 20 }, &[]).unwrap();
    client.write_all(b"\n").unwrap();
    assert!(read_all(&mut client).contains("10 20"));
    assert!(matches!(container.event(), Event::ExecExited(exit) if exit.exit_code == 3));
    container.connect().done(&Request::Stop { signal: 15, timeout_ms: Some(0) }, &[]).unwrap();
    container.gone();
}

fn a_background_process_does_not_hold_an_exec(bench: &Bench) {
    let container = bench.container("sleep 100").start();
    let mut client = container.exec(1, "sleep 50 & echo started", all_output(), false);
    let start = Instant::now();
    assert_eq!(read_all(&mut client), "started\n");
    assert!(start.elapsed() < Duration::from_secs(2));
    container.connect().done(&Request::Signal { signal: 9 }, &[]).unwrap();
    container.exit();
}

fn stop_waits_and_kills(bench: &Bench) {
    // A shell as first process ignores TERM unless it has a handler.
    let container = bench.container("trap 'echo bye; exit 9' TERM; while :; do sleep 0.05; done").start();
    std::thread::sleep(Duration::from_millis(100));
    container.connect().done(&Request::Stop { signal: 15, timeout_ms: Some(10_000) }, &[]).unwrap();
    let record = container.exit();
    assert_eq!((record.exit_code, record.stopped_by_user), (9, true));
    assert_eq!(container.logged(), "bye\n");
    container.gone();

    let container = bench.container("sleep 100").start();
    let start = Instant::now();
    container.connect().done(&Request::Stop { signal: 15, timeout_ms: Some(300) }, &[]).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(3));
    assert_eq!(container.exit().exit_code, 137);
    container.gone();
}

fn pause_and_unpause(bench: &Bench) {
    let container = bench.container("while :; do echo x; sleep 0.01; done").start();
    let daemon = container.connect();
    eventually("output", || !container.logged().is_empty());
    daemon.done(&Request::Pause, &[]).unwrap();
    assert_eq!(container.event(), Event::Paused);
    assert!(matches!(daemon.status().unwrap().state, State::Running { paused: true, .. }));
    let again = daemon.done(&Request::Pause, &[]).unwrap_err();
    assert!(again.to_string().ends_with("is already paused"), "{again}");
    let exec = supervisor::protocol::Exec { id: exec_id(1), process: process(""), user: None, attach: None };
    let refused = daemon.done(&Request::Exec(Box::new(exec)), &[]).unwrap_err();
    assert!(refused.to_string().ends_with("is paused, unpause the container before exec"), "{refused}");
    std::thread::sleep(Duration::from_millis(100));
    let before = container.logged().len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(container.logged().len(), before);
    daemon.done(&Request::Unpause, &[]).unwrap();
    assert_eq!(container.event(), Event::Unpaused);
    eventually("more output", || container.logged().len() > before);
    assert!(daemon.done(&Request::Unpause, &[]).unwrap_err().to_string().ends_with("is not paused"));
    // One that is paused can be stopped.
    daemon.done(&Request::Pause, &[]).unwrap();
    daemon.done(&Request::Stop { signal: 9, timeout_ms: Some(5_000) }, &[]).unwrap();
    assert_eq!(container.exit().exit_code, 137);
    container.gone();
}

fn restart_policy_without_a_daemon(bench: &Bench) {
    let mut container = bench.container("echo run >> /count; cat /count; exit 4");
    container.launch.restart = RestartPolicy { name: RestartName::OnFailure, maximum_retry_count: 2 };
    let mut container = container.start();
    // The daemon dies.
    drop(container.events.take());
    container.gone();
    let text = std::fs::read_to_string(container.exec_dir.join("exit.json")).unwrap();
    let record: supervisor::protocol::ExitRecord = serde_json::from_str(&text).unwrap();
    assert_eq!((record.exit_code, record.restart_count, record.stopped_by_user), (4, 2, false));
    // The same upper directory each time: 1 + 2 + 3 lines.
    assert_eq!(container.logged().lines().count(), 6);
}

fn stop_ends_the_restarts(bench: &Bench) {
    let mut container = bench.container("exit 1");
    container.launch.restart = RestartPolicy { name: RestartName::Always, maximum_retry_count: 0 };
    let container = container.start();
    let mut delays = Vec::new();
    while delays.len() < 3 {
        match container.event() {
            Event::Restarting { delay_ms, exit } => {
                assert_eq!(exit.exit_code, 1);
                delays.push(delay_ms);
            }
            Event::Started { restart_count, .. } => {
                assert_eq!(usize::try_from(restart_count).unwrap(), delays.len());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(delays, [100, 200, 400]);
    let daemon = container.connect();
    assert!(matches!(daemon.status().unwrap().state, State::Restarting { .. }));
    let refused = daemon.done(&Request::Pause, &[]).unwrap_err();
    assert!(refused.to_string().ends_with("is restarting, wait until the container is running"), "{refused}");
    daemon.done(&Request::Stop { signal: 15, timeout_ms: Some(10_000) }, &[]).unwrap();
    let record = container.exit();
    assert_eq!((record.exit_code, record.stopped_by_user), (1, true));
    container.gone();
}

fn restart_on_request(bench: &Bench) {
    let container = bench.container("echo up; sleep 100").start();
    eventually("the first run in the log", || container.logged() == "up\n");
    let reply =
        container.connect().call(&Request::Restart { signal: 9, timeout_ms: Some(1_000) }, &[]).unwrap();
    let Reply::Started { pid, .. } = reply else { panic!("{reply:?}") };
    assert_ne!(pid, container.started.pid);
    assert!(matches!(container.event(), Event::Restarting { delay_ms: 0, .. }));
    assert!(matches!(container.event(), Event::Started { restart_count: 0, .. }));
    eventually("both runs in the log", || container.logged() == "up\nup\n");
    container.connect().done(&Request::Stop { signal: 9, timeout_ms: None }, &[]).unwrap();
    container.gone();
}

fn a_new_daemon_finds_it(bench: &Bench) {
    let mut container = bench.container("sleep 100").start();
    drop(container.events.take());
    let (status, events) = container.connect().subscribe().unwrap();
    let State::Running { pid, started_at, paused: false } = status.state else { panic!("{status:?}") };
    assert_eq!((pid, started_at), (container.started.pid, container.started.started_at));
    container.events = Some(events);
    container.connect().done(&Request::Stop { signal: 15, timeout_ms: Some(0) }, &[]).unwrap();
    assert_eq!(container.exit().exit_code, 137);
    container.gone();
    assert!(matches!(
        Connection::connect(&container.exec_dir.join("supervisor.sock")),
        Err(supervisor::Error::Closed { .. })
    ));
}

fn kill_all_of_it(bench: &Bench) {
    // kill -9 of the container's first process by somebody else.
    let container = bench.container("sleep 100 & sleep 100").start();
    let pidfd = sys::pidfd::open(container.started.pid).unwrap();
    sys::pidfd::kill(std::os::fd::AsFd::as_fd(&pidfd)).unwrap();
    let record = container.exit();
    assert_eq!((record.exit_code, record.stopped_by_user), (137, false));
    container.gone();
    // kill -9 of the supervisor: its container must not run unseen.
    let container = bench.container("sleep 100").start();
    let pidfd = sys::pidfd::open(container.supervisor).unwrap();
    sys::pidfd::kill(std::os::fd::AsFd::as_fd(&pidfd)).unwrap();
    assert!(container.events.as_ref().unwrap().next().unwrap().is_none());
    eventually("the container's end", || {
        sys::pidfd::open(container.started.pid).is_ok_and(|init| {
            sys::pidfd::ended_within(std::os::fd::AsFd::as_fd(&init), Duration::ZERO).unwrap()
        }) || sys::pidfd::open(container.started.pid).is_err()
    });
}

fn health_is_probed(bench: &Bench) {
    let mut container = bench.container("touch /good; sleep 100");
    container.launch.health = Some(Health {
        process: process("cat /good || { echo missing; exit 1; }; [ ! -e /slow ] || sleep 100"),
        user: None,
        interval_ms: 50,
        timeout_ms: 400,
        start_period_ms: 0,
        start_interval_ms: 50,
        retries: 2,
        on_failure: Default::default(),
    });
    let container = container.start();
    let next = |what: &str| loop {
        match container.event() {
            Event::Probed { result, health, changed, .. } => return (result, health, changed),
            Event::ProbeStarted { .. } | Event::ExecExited(_) | Event::Detached { .. } => {}
            other => panic!("{what}: {other:?}"),
        }
    };
    let until = |state| loop {
        let (result, health, changed) = next("probe");
        assert!(health.log.len() <= 5);
        if health.state == state {
            assert!(changed);
            return (result, health);
        }
    };
    let (result, _) = until(HealthState::Healthy);
    assert_eq!((result.exit_code, result.output.as_str()), (0, ""));
    container.exec(1, "mv /good /bad || busybox mv /good /bad", all_output(), false);
    let (result, health) = until(HealthState::Unhealthy);
    assert!(result.exit_code == 1 && result.output.ends_with("missing\n"), "{result:?}");
    assert_eq!(health.failing_streak, 2);
    container.exec(2, "touch /good /slow", all_output(), false);
    let (result, _, _) = loop {
        let next = next("slow probe");
        if next.0.exit_code != 1 {
            break next;
        }
    };
    assert!(result.exit_code == -1 && result.output.contains("exceeded timeout"), "{result:?}");
    assert!(container.connect().status().unwrap().health.unwrap().state == HealthState::Unhealthy);
    container.connect().done(&Request::Stop { signal: 9, timeout_ms: None }, &[]).unwrap();
    assert!(container.exit().health.is_some());
    container.gone();
}

fn signals_are_those_of_a_fresh_process(bench: &Bench) {
    // Not through a shell: it ignores signals of its own.
    let mut container = bench.container("");
    container.launch.spec.process.as_mut().unwrap().args =
        ["cat", "/proc/self/status"].map(str::to_owned).to_vec();
    let container = container.start();
    container.exit();
    let logged = container.logged();
    for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "SigCgt:\t0000000000000000"] {
        assert!(logged.contains(line), "{logged}");
    }
}

fn nothing_is_inherited(bench: &Bench) {
    let container = bench.container("ls /proc/self/fd; cat /proc/self/sessionid 2>/dev/null").start();
    container.exit();
    // 3 is the directory that ls reads.
    assert!(container.logged().starts_with("0\n1\n2\n3\n"), "{}", container.logged());
    let container = bench.container("sleep 100").start();
    let mut client = container.exec(1, "ls /proc/self/fd", all_output(), false);
    assert_eq!(read_all(&mut client), "0\n1\n2\n3\n");
    container.connect().done(&Request::Signal { signal: 9 }, &[]).unwrap();
    container.exit();
}

fn the_zygote_is_replaced(bench: &Bench) {
    let children =
        std::fs::read_to_string(format!("/proc/self/task/{0}/children", std::process::id())).unwrap();
    for pid in children.split_whitespace() {
        let pidfd = sys::pidfd::open(pid.parse().unwrap()).unwrap();
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        if line.contains("zygote") {
            sys::pidfd::kill(std::os::fd::AsFd::as_fd(&pidfd)).unwrap();
        }
    }
    assert_eq!(bench.container("exit 6").start().exit().exit_code, 6);
}

fn want_of_memory_is_told(bench: &Bench) {
    let mut container =
        bench.container("dd if=/dev/zero of=/dev/null bs=200M count=1; echo survived; sleep 0.3; exit 5");
    let memory = oci::runtime::Memory { limit: Some(40_000_000), ..Default::default() };
    container.launch.spec.linux.as_mut().unwrap().resources =
        Some(oci::runtime::Resources { memory: Some(memory), ..Default::default() });
    let container = container.start();
    assert_eq!(container.event(), Event::Oom);
    let record = container.exit();
    assert_eq!((record.exit_code, record.oom_killed), (5, true));
    assert_eq!(container.logged(), "Killed\nsurvived\n");
    container.gone();
}

fn limits_and_policy_change_alive(bench: &Bench) {
    let mut container = bench.container("read line; exit 3");
    container.launch.open_stdin = true;
    let mut client = container.client(interactive());
    let container = container.start();
    let daemon = container.connect();
    let hierarchy = cgroups::Manager::detect().unwrap();
    let cgroup = cgroups::Cgroup::open(&hierarchy, &daemon.status().unwrap().cgroup).unwrap();
    let pids = oci::runtime::Pids { limit: Some(77) };
    let update = supervisor::protocol::Update {
        resources: Some(oci::runtime::Resources { pids: Some(pids), ..Default::default() }),
        restart: Some(RestartPolicy { name: RestartName::OnFailure, maximum_retry_count: 1 }),
    };
    daemon.done(&Request::Update(Box::new(update)), &[]).unwrap();
    assert_eq!(cgroup.statistics().unwrap().pids.limit, Some(77));
    client.write_all(b"\n").unwrap();
    assert!(matches!(container.event(), Event::Restarting { delay_ms: 100, .. }));
    assert!(matches!(container.event(), Event::Started { restart_count: 1, .. }));
    assert_eq!(cgroup.statistics().unwrap().pids.limit, Some(77));
    daemon.done(&Request::Signal { signal: 9 }, &[]).unwrap();
    assert_eq!(container.exit().restart_count, 1);
    container.gone();
}

fn published_ports_are_served(bench: &Bench) {
    use std::io::Read;
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    // A free port, as far as can be known.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bind = || network::proxy::Listener::bind(network::Protocol::Tcp, port(free));
    let published = ProxyPort { protocol: Protocol::Tcp, container: Some(target.local_addr().unwrap()) };
    let mut container = bench.container("sleep 100");
    container.launch.ports = vec![published];
    container.sockets = vec![bind().unwrap().into_fd()];
    let container = container.start();
    let refused = bind().unwrap_err();
    assert!(refused.to_string().contains("address already in use"), "{refused}");
    let mut second = bench.container("true");
    second.launch.ports = vec![published];
    let refused = second.try_start().map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("descriptors do not match"), "{refused}");
    let mut client = std::net::TcpStream::connect(port(free)).unwrap();
    let (mut server, _) = target.accept().unwrap();
    client.write_all(b"ping").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    server.write_all(text.to_uppercase().as_bytes()).unwrap();
    drop(server);
    text.clear();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "PING");
    container.connect().done(&Request::Stop { signal: 9, timeout_ms: None }, &[]).unwrap();
    // Free as soon as the end was told.
    std::net::TcpListener::bind(port(free)).unwrap();
    container.gone();
}

fn names_are_resolved_inside(bench: &Bench) {
    let mut container = bench.container("read line; nslookup other 127.0.0.11; nslookup later 127.0.0.11");
    container.launch.open_stdin = true;
    let mut client = container.client(interactive());
    let namespace = network::netns::create().unwrap();
    network::netns::set_loopback_up(std::os::fd::AsFd::as_fd(&namespace)).unwrap();
    container.launch.netns = true;
    container.netns = Some(namespace);
    let known = |name: &str| Resolver {
        names: vec![(name.to_owned(), std::net::IpAddr::from([10, 9, 8, 7]))],
        ..Resolver::default()
    };
    container.resolver = Some(known("other"));
    let container = container.start();
    let mut both = known("later");
    both.names.extend(known("other").names);
    container.connect().done(&Request::Resolve(Box::new(both)), &[]).unwrap();
    client.write_all(b"\n").unwrap();
    let text = read_all(&mut client);
    assert_eq!(text.matches("10.9.8.7").count(), 2, "{text}");
    container.exit();
    container.gone();
    // Without a namespace of its own there is no place for it.
    let container = bench.container("sleep 100").start();
    let refused = container.connect().done(&Request::Resolve(Box::new(known("x"))), &[]).unwrap_err();
    assert_eq!(base::Classify::kind(&refused), base::Kind::Conflict);
    container.connect().done(&Request::Stop { signal: 9, timeout_ms: None }, &[]).unwrap();
}

fn a_large_launch_travels_in_memory(bench: &Bench) {
    let mut container = bench.container("echo ${#BIG}");
    let process = container.launch.spec.process.as_mut().unwrap();
    process.env.push(format!("BIG={}", "x".repeat(100_000)));
    process.env.extend((0..100).map(|number| format!("V{number}={}", "y".repeat(2_000))));
    let mut client = container.client(all_output());
    let container = container.start();
    assert_eq!(read_all(&mut client), "100000\n");
    assert_eq!(container.exit().exit_code, 0);
}

/// How many descriptors a process has open.
fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn clients_that_come_and_go_leave_nothing(bench: &Bench) {
    let mut container = bench.container("while :; do echo x; sleep 0.001; done").start();
    let daemon = container.connect();
    daemon.status().unwrap();
    let before = descriptors(container.supervisor);
    for round in 0..2_000 {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        daemon.done(&Request::Attach(all_output()), &[std::os::fd::AsFd::as_fd(&theirs)]).unwrap();
        if round % 2 == 0 {
            ours.shutdown(Shutdown::Write).unwrap();
        }
        drop((ours, theirs));
        drop(container.connect());
    }
    eventually("descriptors go back to what they were", || descriptors(container.supervisor) <= before);
    // The first subscription was given up, as nobody read it.
    container.events = Some(container.connect().subscribe().unwrap().1);
    container.connect().done(&Request::Signal { signal: 9 }, &[]).unwrap();
    container.exit();
}

fn endless_output_that_nobody_reads_is_bounded(bench: &Bench) {
    let container = bench.container("sleep 100").start();
    let unread = container.exec(1, "yes", all_output(), false);
    let detached = container.exec(2, "yes", AttachOptions::default(), false);
    std::thread::sleep(Duration::from_millis(500));
    let (_, dirty) = memory(container.supervisor);
    assert!(dirty < 2_000, "{dirty} KiB");
    // The others are served meanwhile.
    let mut client = container.exec(3, "echo served", all_output(), false);
    assert_eq!(read_all(&mut client), "served\n");
    drop((unread, detached));
    container.connect().done(&Request::Stop { signal: 9, timeout_ms: Some(0) }, &[]).unwrap();
    container.gone();
}

fn output_is_passed_on_quickly(bench: &Bench) {
    let line = "x".repeat(99);
    let mut container = bench.container(&format!("yes {line} | head -c 50000000"));
    let mut client = container.client(AttachOptions { multiplexed: true, ..all_output() });
    let start = Instant::now();
    let container = container.start();
    let got = std::io::copy(&mut client, &mut std::io::sink()).unwrap();
    let took = start.elapsed();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", container.supervisor)).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap();
    let (user, system) = (ticks(11) * 10, ticks(12) * 10);
    println!("    50 MB of lines to client and log in {} ms; CPU {user} + {system} ms", took.as_millis());
    assert!(got >= 50_000_000);
    container.exit();
    // Rotated by default: the last files only.
    assert!(container.logged().len() > 40_000_000);
}

fn it_is_small_and_quick(bench: &Bench) {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let container = bench.container("true").start();
        best = best.min(container.took);
        container.exit();
    }
    let mut container = bench.container("seq 1 50000; sleep 100");
    let mut client = container.client(all_output());
    let container = container.start();
    read_until(&mut client, "\n50000\n");
    let (_, busy) = memory(container.supervisor);
    // It gives memory back when nothing has come for two seconds.
    std::thread::sleep(Duration::from_millis(2_300));
    let (pss, idle) = memory(container.supervisor);
    println!(
        "    start: {best:?}; supervisor: {pss} KiB proportional, {idle} KiB dirty, {busy} KiB when busy"
    );
    container.connect().done(&Request::Signal { signal: 9 }, &[]).unwrap();
    container.exit();
}
