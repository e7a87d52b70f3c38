//! What the flags of `create` and `run` ask for: both command lines ask for the same, it is found in the answer of inspect,
//! and the container has it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code: a failed step ends the test")]

use e2e::CommandLine::{self, Docker, Wharf};
use e2e::both;
use testkit::Engine;

/// Flags; what inspect says (a template and its result); what the container says (a script and its output).
type Row<'a> = (&'a [&'a str], (&'a str, &'a str), (&'a str, &'a str));

const LIMITS: &[Row<'_>] = &[
    (
        &["--memory", "64m", "--memory-reservation", "32m", "--memory-swappiness", "10"],
        ("{{.HostConfig.MemoryReservation}} {{.HostConfig.MemorySwappiness}}", "33554432 10"),
        ("cd /sys/fs/cgroup/memory; cat memory.soft_limit_in_bytes memory.swappiness", "33554432\n10"),
    ),
    (
        &["--memory", "64m", "--oom-kill-disable"],
        ("{{.HostConfig.OomKillDisable}}", "true"),
        ("grep disable /sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 1"),
    ),
    (
        &["--oom-score-adj", "123"],
        ("{{.HostConfig.OomScoreAdj}}", "123"),
        ("cat /proc/self/oom_score_adj", "123"),
    ),
    (
        &["--cpu-period", "50000", "--cpu-quota", "20000", "-c", "512"],
        ("{{.HostConfig.CpuPeriod}} {{.HostConfig.CpuQuota}} {{.HostConfig.CpuShares}}", "50000 20000 512"),
        ("cd /sys/fs/cgroup/cpu; cat cpu.cfs_period_us cpu.cfs_quota_us cpu.shares", "50000\n20000\n512"),
    ),
    (
        &["--cpuset-cpus", "0", "--cpuset-mems", "0"],
        ("{{.HostConfig.CpusetCpus}} {{.HostConfig.CpusetMems}}", "0 0"),
        (
            "grep allowed_list /proc/self/status | tr -d '[:blank:]'",
            "Cpus_allowed_list:0\nMems_allowed_list:0",
        ),
    ),
    (
        &["--ulimit", "nofile=100:200", "--ulimit", "core=0"],
        ("{{range .HostConfig.Ulimits}}{{.Name}}={{.Soft}}:{{.Hard}} {{end}}", "core=0:0 nofile=100:200 "),
        ("ulimit -Sn; ulimit -Hn; ulimit -c", "100\n200\n0"),
    ),
    (
        &["--shm-size", "8m"],
        ("{{.HostConfig.ShmSize}}", "8388608"),
        ("df -k /dev/shm | tail -1 | awk '{print $2}'", "8192"),
    ),
    (
        &["--device-cgroup-rule", "c 10:200 rwm"],
        ("{{index .HostConfig.DeviceCgroupRules 0}}", "c 10:200 rwm"),
        ("grep 10:200 /sys/fs/cgroup/devices/devices.list", "c 10:200 rwm"),
    ),
];

const IDENTITY: &[Row<'_>] = &[
    (
        &["-h", "box", "--domainname", "example.org"],
        ("{{.Config.Hostname}} {{.Config.Domainname}}", "box example.org"),
        (
            "hostname; cat /proc/sys/kernel/domainname; grep -c 'box.example.org box' /etc/hosts",
            "box\nexample.org\n1",
        ),
    ),
    (
        &[
            "--dns",
            "192.0.2.1",
            "--dns-search",
            "a.test",
            "--dns-search",
            "b.test",
            "--dns-option",
            "ndots:3",
        ],
        (
            "{{.HostConfig.Dns}} {{.HostConfig.DnsSearch}} {{.HostConfig.DnsOptions}}",
            "[192.0.2.1] [a.test b.test] [ndots:3]",
        ),
        ("grep -v '^#' /etc/resolv.conf", "nameserver 192.0.2.1\nsearch a.test b.test\noptions ndots:3"),
    ),
    (
        &["--sysctl", "net.ipv4.ip_default_ttl=99", "--sysctl", "kernel.msgmax=9000"],
        ("{{index .HostConfig.Sysctls \"kernel.msgmax\"}}", "9000"),
        ("cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax", "99\n9000"),
    ),
    (
        &["--mac-address", "02:42:00:00:00:99"],
        ("{{range .NetworkSettings.Networks}}{{.MacAddress}}{{end}}", "02:42:00:00:00:99"),
        ("cat /sys/class/net/eth0/address", "02:42:00:00:00:99"),
    ),
    (&["--uts", "host"], ("{{.HostConfig.UTSMode}}", "host"), ("readlink /proc/self/ns/uts", "HOST uts")),
    (&["--ipc", "host"], ("{{.HostConfig.IpcMode}}", "host"), ("readlink /proc/self/ns/ipc", "HOST ipc")),
    (&["--pid", "host"], ("{{.HostConfig.PidMode}}", "host"), ("readlink /proc/self/ns/pid", "HOST pid")),
    (
        &["--cgroupns", "host"],
        ("{{.HostConfig.CgroupnsMode}}", "host"),
        ("readlink /proc/self/ns/cgroup", "HOST cgroup"),
    ),
    (
        &["--userns", "host"],
        ("{{.HostConfig.UsernsMode}}", "host"),
        ("readlink /proc/self/ns/user", "HOST user"),
    ),
    (
        &["--ipc", "none"],
        ("{{.HostConfig.IpcMode}}", "none"),
        ("test -d /dev/shm && grep -c ' /dev/shm ' /proc/mounts", ""),
    ),
    (
        &["--privileged"],
        ("{{.HostConfig.Privileged}} {{.HostConfig.SecurityOpt}}", "true [label=disable]"),
        (
            "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr -d '[:blank:]'; grep -c ' /sys sysfs rw' /proc/mounts",
            "NoNewPrivs:0\nSeccomp:0\n1",
        ),
    ),
    (
        &["--security-opt", "systempaths=unconfined", "--security-opt", "no-new-privileges"],
        ("{{len .HostConfig.MaskedPaths}} {{len .HostConfig.ReadonlyPaths}}", "0 0"),
        (
            "grep -c ' /proc/' /proc/mounts; grep NoNewPrivs: /proc/self/status | tr -d '[:blank:]'",
            "0\nNoNewPrivs:1",
        ),
    ),
];

const CONFIGURATION: &[Row<'_>] = &[
    (
        &["--annotation", "org.example.note=kept", "--stop-signal", "SIGUSR1"],
        ("{{index .HostConfig.Annotations \"org.example.note\"}} {{.Config.StopSignal}}", "kept SIGUSR1"),
        ("echo", ""),
    ),
    (
        &["--env-file", "FOLDER/env", "--label-file", "FOLDER/labels", "-e", "TAKEN"],
        ("{{index .Config.Labels \"from\"}}{{len .Config.Labels}}", "file1"),
        ("echo $ONE/$TWO/$TAKEN/$ABSENT", "1/with spaces/from outside/"),
    ),
    (
        &[
            "--health-cmd",
            "true",
            "--health-interval",
            "50s",
            "--health-timeout",
            "40s",
            "--health-start-period",
            "30s",
            "--health-start-interval",
            "20s",
            "--health-retries",
            "4",
        ],
        (
            "{{json .Config.Healthcheck}}",
            "{\"Test\":[\"CMD-SHELL\",\"true\"],\"Interval\":50000000000,\"Timeout\":40000000000,\"StartPeriod\":30000000000,\"StartInterval\":20000000000,\"Retries\":4}",
        ),
        ("echo", ""),
    ),
    (&["--no-healthcheck"], ("{{.Config.Healthcheck.Test}}", "[NONE]"), ("echo", "")),
    (
        &[
            "-a",
            "stdout",
            "--stop-timeout",
            "7",
            "--restart",
            "on-failure:3",
            "--log-driver",
            "local",
            "--log-opt",
            "max-size=1m",
        ],
        (
            "{{.Config.AttachStdout}}{{.Config.AttachStderr}} {{.Config.StopTimeout}} {{.HostConfig.RestartPolicy}} {{.HostConfig.LogConfig}}",
            "truefalse 7 {on-failure 3} {local map[max-size:1m]}",
        ),
        ("echo", ""),
    ),
    (
        &["--tmpfs", "/t:size=1m,mode=700", "-w", "/made/here", "-u", "alice:wheel", "--group-add", "4321"],
        (
            "{{index .HostConfig.Tmpfs \"/t\"}} {{.Config.User}} {{.HostConfig.GroupAdd}}",
            "size=1m,mode=700 alice:wheel [4321]",
        ),
        (
            "pwd; id -u; id -G; df -k /t | tail -1 | awk '{print $2}'; stat -c %a /t",
            "/made/here\n1000\n10 4321\n1024\n700",
        ),
    ),
    (
        &["-p", "127.0.0.1:8099:80/udp", "--expose", "7000-7001", "-P"],
        (
            "{{json (index .HostConfig.PortBindings \"80/udp\")}} {{.HostConfig.PublishAllPorts}} {{len .Config.ExposedPorts}}",
            "[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"8099\"}] true 3",
        ),
        ("echo", ""),
    ),
];

const NETWORK: &[Row<'_>] = &[(
    &[
        "--network",
        "six",
        "--ip",
        "10.66.0.9",
        "--ip6",
        "fd66::9",
        "--network-alias",
        "nine",
        "--link-local-ip",
        "169.254.9.9",
    ],
    (
        "{{with .NetworkSettings.Networks.six}}{{.IPAMConfig.IPv4Address}} {{.IPAMConfig.IPv6Address}} {{.IPAMConfig.LinkLocalIPs}} {{.Aliases}}{{end}}",
        "10.66.0.9 fd66::9 [169.254.9.9] [nine]",
    ),
    (
        "ip -o addr show eth0 | grep -oE '(10.66.0.9/24|fd66::9/64|169.254.9.9/[0-9]+)' | sort; nslookup -type=a nine | grep -c 10.66.0.9",
        "10.66.0.9/24\n169.254.9.9/16\nfd66::9/64\n1",
    ),
)];

/// What both command lines make of the same flags, without what belongs to one container.
fn intent(engine: &Engine, name: &str) -> serde_json::Value {
    let text = engine.wharf(&["inspect", "-f", "[{{json .Config}},{{json .HostConfig}}]", name]).ok();
    let mut intent: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = engine.wharf(&["inspect", "-f", "{{.Id}}", name]).line();
    if intent[0]["Hostname"] == *id.get(..12).unwrap() {
        intent[0]["Hostname"] = "".into();
    }
    intent
}

fn create(engine: &Engine, line: CommandLine, name: &str, flags: &[String], script: &str) {
    let mut command = match line {
        Wharf => engine.wharf_command(),
        Docker => engine.command("docker"),
    };
    command.args(["create", "--name", name]).args(flags).args(["busybox", "sh", "-c", script]);
    let output = command.env("TAKEN", "from outside").output().unwrap();
    assert!(output.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn check(engine: &Engine, rows: &[Row<'_>]) {
    let folder = engine.folder().display().to_string();
    for (flags, (template, found), (script, said)) in rows {
        let flags: Vec<String> = flags.iter().map(|flag| flag.replace("FOLDER", &folder)).collect();
        create(engine, Wharf, "ours", &flags, script);
        if e2e::command_lines().contains(&Docker) {
            create(engine, Docker, "theirs", &flags, script);
            assert_eq!(intent(engine, "ours"), intent(engine, "theirs"), "{flags:?}");
            engine.wharf(&["rm", "theirs"]).ok();
        }
        let shown = engine.wharf(&["inspect", "-f", template, "ours"]).ok();
        assert_eq!(shown.trim_end_matches('\n'), *found, "{flags:?}");
        let output = engine.wharf(&["start", "-a", "ours"]);
        assert_eq!(output.stdout.trim(), expected(said), "{flags:?}: {}", output.stderr);
        engine.wharf(&["rm", "-f", "-v", "ours"]).ok();
    }
}

/// `HOST uts` is the host's namespace.
fn expected(said: &str) -> String {
    match said.strip_prefix("HOST ") {
        Some(kind) => std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string(),
        None => said.to_owned(),
    }
}

#[test]
fn memory_is_shared_with_containers_that_ask() {
    let engine = Engine::with_busybox();
    for mode in ["shareable", "private"] {
        engine.wharf(&["run", "-d", "--name", mode, "--ipc", mode, "busybox", "sleep", "1000"]).ok();
        engine.wharf(&["exec", mode, "sh", "-c", "echo shared > /dev/shm/file"]).ok();
    }
    let run =
        |donor: &str| both(&engine, &["run", "--rm", "--ipc", donor, "busybox", "cat", "/dev/shm/file"]);
    assert_eq!(run("container:shareable").line(), "shared");
    let refused = run("container:private");
    let reason = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
    assert!(refused.code == 125 && refused.stderr.contains(reason), "{refused:?}");
    engine.wharf(&["rm", "-f", "shareable", "private"]).ok();
}

#[test]
fn limits() {
    check(&Engine::with_busybox(), LIMITS);
}

#[test]
fn namespaces_and_names() {
    check(&Engine::with_busybox(), IDENTITY);
}

#[test]
fn configuration_and_addresses() {
    let engine = Engine::with_busybox();
    std::fs::write(engine.folder().join("env"), "# one\nONE=1\nTWO=with spaces\nABSENT\n").unwrap();
    std::fs::write(engine.folder().join("labels"), "from=file\n# no\nbare\n").unwrap();
    check(&engine, CONFIGURATION);
    let six = ["network", "create", "--ipv6", "--subnet", "10.66.0.0/24", "--subnet", "fd66::/64", "six"];
    engine.wharf(&six).ok();
    check(&engine, NETWORK);
}

#[test]
fn the_identifier_is_written_once() {
    let engine = Engine::with_busybox();
    let path = engine.folder().join("cid").display().to_string();
    let id = engine.wharf(&["create", "--cidfile", &path, "busybox", "true"]).line();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), id);
    let again = both(&engine, &["create", "--cidfile", &path, "busybox", "true"]);
    assert!(again.stderr.contains("container ID file found"), "{}", again.stderr);
}

#[test]
fn devices_that_are_slowed_down() {
    let engine = Engine::with_busybox();
    let device = "/dev/loop0";
    for (flag, value, template, expect) in [
        (
            "--device-read-bps",
            "/dev/loop0:1mb",
            "BlkioDeviceReadBps",
            "[{\"Path\":\"/dev/loop0\",\"Rate\":1048576}]",
        ),
        (
            "--device-write-bps",
            "/dev/loop0:2mb",
            "BlkioDeviceWriteBps",
            "[{\"Path\":\"/dev/loop0\",\"Rate\":2097152}]",
        ),
        (
            "--device-read-iops",
            "/dev/loop0:3",
            "BlkioDeviceReadIOps",
            "[{\"Path\":\"/dev/loop0\",\"Rate\":3}]",
        ),
        (
            "--device-write-iops",
            "/dev/loop0:4",
            "BlkioDeviceWriteIOps",
            "[{\"Path\":\"/dev/loop0\",\"Rate\":4}]",
        ),
        (
            "--blkio-weight-device",
            "/dev/loop0:500",
            "BlkioWeightDevice",
            "[{\"Path\":\"/dev/loop0\",\"Weight\":500}]",
        ),
    ] {
        let id = engine.wharf(&["create", flag, value, "busybox", "true"]).line();
        let shown =
            engine.wharf(&["inspect", "-f", &format!("{{{{json .HostConfig.{template}}}}}"), &id]).line();
        assert_eq!(shown, expect, "{flag}");
        let refused = engine.wharf(&["create", flag, &value.replace(device, "loop0"), "busybox", "true"]);
        assert!(refused.stderr.contains("bad format for device path"), "{flag}: {}", refused.stderr);
    }
    let weight = engine.wharf(&["create", "--blkio-weight", "5", "busybox", "true"]);
    assert!(weight.stderr.contains("Range of blkio weight is from 10 to 1000"), "{}", weight.stderr);
}

#[test]
fn lists_and_logs() {
    let engine = Engine::with_busybox();
    for name in ["one", "two", "three"] {
        engine
            .wharf(&["run", "--name", name, "busybox", "sh", "-c", "echo first; echo second; echo x > /file"])
            .ok();
    }
    let names = |flags: &[&str]| both(&engine, &[&["ps", "--format", "{{.Names}}"], flags].concat()).line();
    assert_eq!(names(&["--last", "2"]), "three\ntwo");
    assert_eq!(names(&["--latest"]), "three");
    assert_eq!(names(&["-a"]), "three\ntwo\none");
    let size = both(&engine, &["ps", "-a", "--size", "--format", "{{.Size}}", "--filter", "name=one"]).line();
    assert!(size.starts_with("2B (virtual "), "{size}");
    let lines = both(&engine, &["logs", "--timestamps", "one"]).ok();
    let (stamp, _) = lines.lines().nth(1).unwrap().split_once(' ').unwrap();
    assert!(both(&engine, &["logs", "--since", stamp, "one"]).ok().ends_with("second\n"));
    let earlier = both(&engine, &["logs", "--until", "2001-01-01T00:00:00Z", "one"]).ok();
    assert_eq!(earlier, "");
    assert_eq!(both(&engine, &["logs", "--follow", "one"]).ok(), "first\nsecond\n");
    engine.wharf(&["run", "-d", "--name", "runs", "busybox", "sleep", "1000"]).ok();
    std::fs::write(engine.folder().join("env"), "FROM=file\n").unwrap();
    let file = engine.folder().join("env").display().to_string();
    let exec = ["exec", "--env-file", &file, "runs", "sh", "-c", "echo $FROM"];
    assert_eq!(both(&engine, &exec).line(), "file");
    let all = ["exec", "--privileged", "runs", "grep", "CapEff", "/proc/self/status"];
    let privileged = both(&engine, &all).line();
    assert_ne!(privileged, both(&engine, &["exec", "runs", "grep", "CapEff", "/proc/self/status"]).line());
    let mut piped = engine.wharf_command();
    piped.args(["exec", "--interactive", "runs", "cat"]).stdin(std::fs::File::open(&file).unwrap());
    assert_eq!(piped.output().unwrap().stdout, b"FROM=file\n");
    let id = engine.wharf(&["inspect", "-f", "{{.Id}}", "runs"]).line();
    let full =
        both(&engine, &["stats", "--no-stream", "--no-trunc", "--format", "{{.Container}} {{.ID}}", "runs"]);
    assert_eq!(full.line(), format!("runs {id}"));
    engine
        .wharf(&[
            "update",
            "--cpu-period",
            "60000",
            "--cpuset-mems",
            "0",
            "--memory-reservation",
            "16m",
            "runs",
        ])
        .ok();
    let updated = "cat /sys/fs/cgroup/cpu/cpu.cfs_period_us /sys/fs/cgroup/memory/memory.soft_limit_in_bytes";
    assert_eq!(engine.wharf(&["exec", "runs", "sh", "-c", updated]).line(), "60000\n16777216");
}
