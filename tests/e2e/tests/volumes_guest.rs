//! What needs a file system that this machine may not have: project quotas, in a Linux guest (see [`e2e::guest`]).

use e2e::guest::{DAEMON, disk, in_guest};
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
