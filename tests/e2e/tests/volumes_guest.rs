//! What needs a file system that this machine may not have (project quotas) or a power cut, in a Linux guest (see
//! [`e2e::guest`]).

use e2e::guest::{DAEMON, disk, in_guest};
use testkit::image::Entry;
use testkit::{Scratch, image};

/// Has a file system with project quotas at `/quota`, and the daemon's data on it.
const QUOTA: &str = r#"
    for module in loop quota_v2; do modprobe $module; done
    truncate -s 200M /disk/quota.img
    /sbin/mkfs.ext4 -q -O quota,project -E quotatype=prjquota /disk/quota.img
    mkdir /quota
    mount -o loop,prjquota /disk/quota.img /quota || echo "no quotas"
    DATA=/quota/data
"#;

/// Volumes and writable layers hold what they were given and no more, and give their projects back.
#[test]
fn sizes_are_bounded_by_project_quotas() {
    let files = Scratch::new();
    let archive = files.join("busybox.tar");
    image::write_archive(&archive, &["busybox"], &[image::busybox_layer()], &serde_json::json!({}));
    let disk = disk(&files);
    let look = r#"
    wharf load -q -i "$1"
    fill='head -c 12000000 /dev/zero > $0/file 2> /dev/null || echo full; test $(stat -c %s $0/file) -le 8388608 && echo bounded; stat -f -c "%b of %S" $0'
    wharf volume create --opt size=8m small
    wharf volume create plain
    ls /quota/data/volumes/small
    wharf run --rm --net none -v small:/v busybox sh -c "$fill" /v
    wharf run --rm --net none -v plain:/v busybox sh -c 'head -c 12000000 /dev/zero > /v/file && echo unbounded'
    wharf run --rm --net none --storage-opt size=8m busybox sh -c "$fill" /tmp
    wharf create --net none --name kept --storage-opt size=8m busybox true > /dev/null
    wharf rm -f kept
    wharf volume rm small plain
    wharf run --rm --net none --storage-opt dm.basesize=1g busybox true 2>&1 | head -1
    for round in 1 2 3; do
        wharf volume create --opt size=8m again > /dev/null
        wharf run --rm --net none -v again:/v busybox sh -c 'head -c 6000000 /dev/zero > /v/file && echo fits'
        wharf volume rm again > /dev/null
    done
    "#;
    let script = format!("{QUOTA} {DAEMON} {look}");
    let Some(said) = in_guest(&disk, &[], &script, &[&archive.display().to_string()]) else { return };
    let expected = [
        "Loaded image: busybox:latest",
        "small",
        "plain",
        "_data",
        "full",
        "bounded",
        "8192 of 1024",
        "unbounded",
        "full",
        "bounded",
        "8192 of 1024",
        "kept",
        "small",
        "plain",
        "wharf: Error response from daemon: unknown option dm.basesize",
        "fits",
        "fits",
        "fits",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

/// The power is cut while volumes are filled, files copied, images made and volumes pruned: what was acknowledged is whole.
#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let files = Scratch::new();
    let archive = files.join("filled.tar");
    let text = [b'x'; 20_000];
    let names: Vec<String> = (0..50).map(|number| format!("data/{number}")).collect();
    let entries: Vec<Entry<'_>> = names.iter().map(|name| Entry::File(name, 0o644, &text)).collect();
    let layers = [image::busybox_layer(), image::layer(&entries)];
    image::write_archive(&archive, &["filled"], &layers, &serde_json::json!({ "Cmd": ["sh"] }));
    let disk = disk(&files);
    let work = r#"
    wharf load -q -i "$1" > /run/said
    head -c 1000000 /dev/zero > /run/file
    wharf create --name box --net none -v kept:/kept filled > /run/said && echo "box"
    for number in $(seq 1000); do
        wharf create --name c$number --net none -v v$number:/data filled true > /run/said 2>&1 && echo "create $number"
        wharf cp /run/file box:/kept/file$number > /run/said 2>&1 && echo "cp $number"
        wharf commit box made:$number > /run/said 2>&1 && echo "commit $number"
        wharf volume create pruned$number > /run/said && wharf volume prune -af > /run/said 2>&1 && echo "prune $number"
    done"#;
    let cut = in_guest(&disk, &["-K", "14"], &format!("{DAEMON} {work}"), &[&archive.display().to_string()]);
    let Some(said) = cut else { return };
    let last = |what: &str| {
        let numbers = said.lines().filter_map(|line| line.strip_prefix(what)?.trim().parse::<u32>().ok());
        numbers.max().unwrap_or(0)
    };
    assert!(last("commit") > 0, "the power was cut too early: {said}");
    let look = r#"
    wharf system check | grep -v " read$"
    for number in $(seq "$1"); do
        wharf inspect c$number > /run/said 2>&1 || echo "lost: c$number"
        [ "$(cat /disk/data/volumes/v$number/_data/* | wc -c)" = 1000000 ] || echo "half a volume: v$number"
    done
    for number in $(seq "$2"); do
        [ "$(wharf cp box:/kept/file$number - | wc -c)" -gt 1000000 ] || echo "half a file: $number"
    done
    for number in $(seq "$3"); do
        wharf run --rm --net none made:$number sh -c 'cat /data/* | wc -c' | grep -qx 1000000 || echo "half an image: $number"
    done
    for number in $(seq "$4"); do
        [ ! -e /disk/data/volumes/pruned$number ] || echo "still there: pruned$number"
    done
    # What was being made when the power went is whole or not there.
    next=$(($1 + 1))
    found=$(cat /disk/data/volumes/v$next/_data/* 2> /run/said | wc -c)
    [ "$found" = 0 ] || [ "$found" = 1000000 ] || echo "half a volume: v$next"
    echo looked"#;
    let numbers = ["create", "cp", "commit", "prune"].map(|what| last(what).to_string());
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    println!("acknowledged: create, cp, commit, prune {numbers:?}");
    let said = in_guest(&disk, &[], &format!("{DAEMON} {look}"), &numbers).unwrap_or_default();
    assert_eq!(said, "No problems found\nlooked\n", "{numbers:?}");
}
