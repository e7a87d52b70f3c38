//! A host whose clock is set while containers run, in a Linux guest (see [`e2e::guest`]): spans go on as they were.

use e2e::guest::{DAEMON, disk, in_guest};
use testkit::{Scratch, image};

#[test]
fn a_clock_that_jumps_changes_stamps_alone() {
    let files = Scratch::new();
    let disk = disk(&files);
    let archive = files.join("busybox.tar");
    image::write_archive(&archive, &["busybox"], &[image::busybox_layer()], &serde_json::json!({}));
    let look = r#"
    wharf load -q -i "$1"
    wharf run -d --net none --name box --health-cmd 'test -e /ok' --health-start-period 1h --health-start-interval 200ms \
        --health-interval 1h --health-retries 1 busybox sh -c 'trap "" TERM; until test -e /end; do sleep 0.1; done; echo said' > /dev/null
    probed() { wharf inspect -f '{{range .State.Health.Log}}{{.Start}} {{end}}' box; }
    # Two further probes, told by their stamps.
    two_more() { for i in 1 2; do last=$(probed); until [ "$(probed)" != "$last" ]; do sleep 0.1; done; done; }
    health() { wharf inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' box; }
    two_more
    health
    # The start period is an hour of the container's, not of the calendar.
    date -s '2 days' > /dev/null
    two_more
    health
    date -s '4 days ago' > /dev/null
    two_more
    health
    wharf exec box touch /ok
    until [ "$(health)" = "healthy 0" ]; do sleep 0.1; done
    health
    # Who follows and who waits sees what comes, whatever its stamp.
    wharf logs -f box > /run/followed & following=$!
    wharf wait box > /run/waited & waiting=$!
    date -s '1 day' > /dev/null
    wharf exec box touch /end
    wait $following $waiting
    cat /run/followed /run/waited
    # A stop counts its own seconds.
    wharf run -d --net none --name deaf busybox sh -c 'trap "" TERM; while :; do sleep 0.1; done' > /dev/null
    wharf stop -t 1 deaf & stopping=$!
    date -s '3 days ago' > /dev/null
    wait $stopping
    wharf inspect -f '{{.State.ExitCode}}' deaf
    "#;
    let archive = archive.display().to_string();
    let Some(said) = in_guest(&disk, &[], &format!("{DAEMON} {look}"), &[&archive]) else { return };
    let expected = [
        "Loaded image: busybox:latest",
        "starting 0",
        "starting 0",
        "starting 0",
        "healthy 0",
        "said",
        "0",
        "deaf",
        "137",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}
