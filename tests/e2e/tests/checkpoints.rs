//! Checkpoints of the engine's containers, in a Linux guest whose kernel CRIU works with (see [`e2e::guest`]).

use e2e::both;
use e2e::guest::{DAEMON, run};
use testkit::{Engine, Scratch, image};

/// A container goes on where it was left: in its memory, its files and its log.
#[test]
fn a_container_goes_on_from_its_checkpoint() {
    let files = Scratch::new();
    let archive = files.join("busybox.tar");
    image::write_archive(&archive, &["busybox"], &[image::busybox_layer()], &serde_json::json!({}));
    let look = r#"
    command -v criu > /dev/null || { echo "no criu"; exit; }
    wharf load -q -i "$1"
    count='i=0; while :; do i=$((i+1)); echo $i; echo $i > /count; sleep 0.1; done'
    wharf run -d --net none --name box --restart always busybox sh -c "$count" > /dev/null
    wharf create -t --net none --name terminal busybox sleep 1000 > /dev/null
    counted() { wharf logs box | tail -n 1; }
    beyond() { until now=$(counted) && [ "${now:-0}" -gt "$1" ]; do sleep 0.2; done; }
    beyond 3
    wharf checkpoint create --leave-running box first
    beyond $(counted)
    wharf checkpoint create box second
    wharf inspect -f '{{.State.Status}} {{.State.ExitCode}}' box
    wharf checkpoint ls box
    last=$(counted)
    wharf start --checkpoint second box
    beyond $last
    wharf inspect -f '{{.RestartCount}}' box
    wharf logs box | sort -nuc && echo "on and on"
    wharf exec box sh -c '[ $(cat /count) -gt '$last' ] && echo inside'
    wharf start terminal
    wharf checkpoint create terminal other 2>&1
    # What ends is started anew by its policy, not from the checkpoint.
    wharf restart -t 0 box
    until wharf logs box | tail -n 200 | grep -qx 1; do sleep 0.2; done
    wharf checkpoint rm box first
    wharf checkpoint ls box
    wharf rm -f box terminal
    ls $DATA/containers
    grep -c /run/w/ /proc/mounts || true
    "#;
    let script = format!("DATA=/run/data; mkdir $DATA; {DAEMON} {look}");
    let archive = archive.display().to_string();
    let Some(said) = run(&["-t", "570", "-k", "tcg"], &script, &[&archive]) else { return };
    let expected = [
        "Loaded image: busybox:latest",
        "first",
        "second",
        "exited 137",
        "CHECKPOINT NAME",
        "first",
        "second",
        "0",
        "on and on",
        "inside",
        "terminal",
        "Error response from daemon: checkpoint not support on containers with tty",
        "box",
        "CHECKPOINT NAME",
        "second",
        "box",
        "terminal",
        "0",
    ];
    let said: Vec<&str> = said.lines().collect();
    if said != ["no criu"] {
        assert_eq!(said, expected);
    }
}

/// What needs no CRIU: what is refused, and that nothing stays of a checkpoint that failed.
#[test]
fn checkpoints_that_cannot_be() {
    // Without it Docker's own command line refuses to ask.
    let engine = Engine::start_with(&["--experimental"]);
    engine.load_busybox("busybox:latest");
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    engine.wharf(&["create", "--name", "idle", "busybox"]).ok();
    let refused = |arguments: &[&str], why: &str| {
        let output = both(&engine, arguments);
        assert!(output.code == 1 && output.stderr.contains(why), "{arguments:?}: {}", output.stderr);
    };
    refused(&["checkpoint", "create", "idle", "now"], "is not running");
    refused(&["checkpoint", "create", "nosuch", "now"], "No such container: nosuch");
    refused(&["checkpoint", "create", "box", "../x"], "Invalid checkpoint ID (../x), only");
    refused(&["checkpoint", "rm", "box", "none"], "checkpoint none does not exist for container box");
    refused(&["start", "--checkpoint", "now", "idle"], "checkpoint now does not exist for container idle");
    refused(
        &["start", "--checkpoint", "now", "idle", "box"],
        "you cannot restore multiple containers at once",
    );
    assert_eq!(both(&engine, &["checkpoint", "ls", "box"]).ok(), "CHECKPOINT NAME\n");
    // This kernel may be one that CRIU does not work with, or it may not be there: then nothing stays, and all goes on.
    let output = engine.wharf(&["checkpoint", "create", "--leave-running", "box", "now"]);
    if output.code != 0 {
        assert!(output.stderr.contains("cannot checkpoint container box: "), "{}", output.stderr);
        assert_eq!(engine.wharf(&["checkpoint", "ls", "box"]).ok(), "CHECKPOINT NAME\n");
    }
    assert_eq!(both(&engine, &["exec", "box", "echo", "here"]).ok(), "here\n");
}
