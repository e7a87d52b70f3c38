//! Documents with random changes: whatever is in one, it is taken or refused with its place, and nothing panics.
//!
//! The changes are pseudo-random from fixed seeds, so that a failure can be had again: its message names the seed.

use super::*;
use serde_json::{Value, json};

/// A small generator (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// A document that has a little of everything.
fn rich() -> Value {
    let rule = json!({ "names": ["mkdir", "openat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
        "args": [{ "index": 1, "value": 64, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ" }] });
    let hook = json!([{ "path": "/bin/true", "args": ["true"], "env": ["A=1"], "timeout": 3 }]);
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let sets = json!(["CAP_KILL", "CAP_CHOWN"]);
    json!({
        "ociVersion": "1.2.0", "hostname": "h", "domainname": "d", "annotations": { "a": "b" },
        "process": {
            "terminal": true, "consoleSize": { "height": 1, "width": 2 }, "args": ["sh", "-c", "true"], "cwd": "/",
            "env": ["A=1", "B="], "user": { "uid": 1, "gid": 2, "umask": 18, "additionalGids": [3] },
            "capabilities": { "bounding": sets, "effective": sets, "permitted": sets, "inheritable": [], "ambient": sets },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 20 }], "oomScoreAdj": 5,
            "scheduler": { "policy": "SCHED_BATCH", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"] },
            "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 4 },
            "execCPUAffinity": { "initial": "0", "final": "0-1,3" }, "noNewPrivileges": true
        },
        "root": { "path": "etc", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "rro"] },
            { "destination": "/data", "source": "/etc", "options": ["rbind", "rslave", "idmap"], "uidMappings": map, "gidMappings": map },
            { "destination": "/t", "type": "tmpfs", "source": "x", "options": ["size=4k", "mode=755", "tmpcopyup"] }
        ],
        "hooks": { "prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": hook,
            "poststart": hook, "poststop": hook },
        "linux": {
            "namespaces": [{ "type": "mount" }, { "type": "uts" }, { "type": "ipc" }, { "type": "pid" },
                { "type": "user" }, { "type": "time" }, { "type": "network", "path": "/proc/self/ns/net" }],
            "uidMappings": map, "gidMappings": map, "timeOffsets": { "boottime": { "secs": 1, "nanosecs": 2 } },
            "devices": [{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0 }],
            "sysctl": { "net.ipv4.ip_forward": "1", "kernel.msgmax": "1" }, "cgroupsPath": "/a/b",
            "rootfsPropagation": "rslave", "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
            "mountLabel": "", "personality": { "domain": "LINUX" },
            "seccomp": { "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [rule] },
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "r" }],
                "memory": { "limit": 1 << 26, "swap": 1 << 27, "reservation": 1 << 25, "swappiness": 10 },
                "cpu": { "shares": 512, "quota": 1000, "period": 10000, "cpus": "0-1", "mems": "0", "idle": 0, "burst": 10 },
                "pids": { "limit": 10 }, "blockIO": { "weight": 100, "weightDevice": [{ "major": 8, "minor": 0, "weight": 10 }],
                    "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 1000 }] },
                "hugepageLimits": [{ "pageSize": "2MB", "limit": 10 }], "network": { "classID": 1, "priorities": [{ "name": "lo", "priority": 1 }] },
                "rdma": { "mlx": { "hcaHandles": 1, "hcaObjects": 2 } }, "unified": { "memory.high": "10" }
            }
        }
    })
}

fn odd(random: &mut Random) -> Value {
    let words = [
        "",
        "/",
        "..",
        "../../etc",
        "a\0b",
        "relative",
        "/proc/self/ns/mnt",
        "/nonexistent",
        "9999999999999999999",
        "-1",
        "0-",
        "3-1",
        "0-4294967295",
        "1,,2",
        "bind",
        "rshared",
        "ro",
        "idmap",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_TRACE",
        "SCMP_ARCH_ARM",
        "SCMP_CMP_NE",
        "CAP_",
        "RLIMIT_",
        "SCHED_DEADLINE",
        "user",
        "cgroup",
        "c",
        "rwmx",
        "1GB",
        "9.9.9",
        "é\u{10ffff}",
    ];
    match random.below(12) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(1e300),
        6 => json!(random.below(70_000)),
        7 => json!([]),
        8 => json!({}),
        9 => json!("x".repeat(random.below(5_000))),
        _ => json!(words[random.below(words.len())]),
    }
}

/// Changes one place below `value`, each as likely as another on its level.
fn change(value: &mut Value, random: &mut Random) {
    let deeper = random.below(8) > 0;
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let key = fields.keys().nth(random.below(fields.len())).unwrap().clone();
            match random.below(12) {
                0 => drop(fields.remove(&key)),
                1 => {
                    let moved = fields.remove(&key).unwrap();
                    fields.insert(odd(random).as_str().unwrap_or("other").to_owned(), moved);
                }
                _ => change(&mut fields[&key], random),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let index = random.below(items.len());
            match random.below(6) {
                0 => drop(items.remove(index)),
                1 => items.push(items[index].clone()),
                _ => change(&mut items[index], random),
            }
        }
        place => *place = odd(random),
    }
}

/// Reads and checks; a refusal has a reason, and that of the check a place in the document.
fn judge(bytes: &[u8], seed: u64) -> bool {
    match serde_json::from_slice::<Spec>(bytes) {
        Err(error) => {
            assert!(!error.to_string().is_empty(), "seed {seed}");
            culprit(bytes);
            false
        }
        Ok(spec) => match check(&spec, Path::new("/")) {
            Ok(()) => true,
            Err(Error::Invalid { path, problem }) => {
                let tops =
                    ["ociVersion", "hostname", "domainname", "process", "root", "mounts", "hooks", "linux"];
                let placed = tops.iter().any(|top| path.starts_with(top));
                assert!(placed && !problem.is_empty(), "seed {seed}: {path:?}: {problem:?}");
                false
            }
            Err(other) => panic!("seed {seed}: {other}"),
        },
    }
}

#[test]
fn a_changed_document_is_taken_or_refused_with_its_place() {
    assert!(judge(rich().to_string().as_bytes(), 0), "the document itself: {:?}", {
        check(&serde_json::from_value(rich()).unwrap(), Path::new("/")).map_err(|error| error.to_string())
    });
    let mut taken = 0;
    let rounds = 2_500;
    for seed in 1..=rounds {
        let mut random = Random(seed);
        random.next();
        let mut document = rich();
        for _ in 0..=random.below(3) {
            change(&mut document, &mut random);
        }
        taken += u64::from(judge(document.to_string().as_bytes(), seed));
    }
    // Both outcomes must be frequent, or the changes are no test.
    assert!(taken > rounds / 20 && taken < rounds / 2, "{taken} of {rounds} were taken");
}

#[test]
fn changed_bytes_are_refused_or_taken() {
    let text = rich().to_string().into_bytes();
    for seed in 1..=1_500 {
        let mut random = Random(seed);
        let mut bytes = text.clone();
        for _ in 0..=random.below(4) {
            let index = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(index.max(8)),
                1 => drop(bytes.remove(index)),
                2 => bytes.insert(index, b"{}[]\",:\\-0e\xff"[random.below(12)]),
                _ => bytes[index] ^= 1 << random.below(8),
            }
        }
        judge(&bytes, seed);
    }
}
