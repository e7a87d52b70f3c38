//! Power cuts: a Linux guest with a disk of its own is killed while images come and blobs are uploaded, and looked at when
//! it has started again.

use e2e::bundle::skipped;
use e2e::guest::{DAEMON, disk, in_guest};
use testkit::image::Entry;
use testkit::{Namespaces, Registry, Scratch, image};

/// Serves what is in the folder `$1`.
const SERVE: &str = r#"
    printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\n' "$1" > /run/config.yml
    REGISTRY_HTTP_ADDR=127.0.0.1:5000 "$WHARF" registry serve /run/config.yml &
    until curl -sf -o /dev/null http://127.0.0.1:5000/v2/; do sleep 0.1; done
"#;

/// Every blob whose upload was answered by 201 is there and whole.
#[test]
fn acknowledged_uploads_survive_a_power_cut() {
    let files = Scratch::new();
    let disk = disk(&files);
    let upload = r#"
    while :; do
        head -c 300000 /dev/urandom > /run/blob
        digest=sha256:$(sha256sum < /run/blob | cut -d' ' -f1)
        url="http://127.0.0.1:5000/v2/some/box/blobs/uploads/?digest=$digest"
        code=$(curl -s -o /dev/null -w '%{http_code}' -X POST --data-binary @/run/blob "$url")
        [ "$code" != 201 ] || echo "$digest"
    done"#;
    let script = format!("mkdir -p /disk/registry; {SERVE} {upload}");
    let Some(said) = in_guest(&disk, &["-K", "9"], &script, &["/disk/registry"]) else { return };
    let digests: Vec<&str> = said.lines().collect();
    assert!(!digests.is_empty(), "nothing was uploaded before the power was cut");
    let look = r#"
    shift
    for digest; do
        found=$(curl -sf "http://127.0.0.1:5000/v2/some/box/blobs/$digest" | sha256sum | cut -d' ' -f1)
        [ "sha256:$found" = "$digest" ] || echo "lost: $digest"
    done
    echo looked"#;
    let arguments = [&["/disk/registry"], digests.as_slice()].concat();
    let said = in_guest(&disk, &[], &format!("{SERVE} {look}"), &arguments).unwrap();
    assert_eq!(said, "looked\n", "of {}", digests.len());
}

/// What was pulled is whole after a power cut, what was not leaves nothing wrong, and the next pull gets it.
#[test]
fn a_power_cut_in_pulls_leaves_nothing_wrong() {
    if std::env::var_os("WHARF_GUEST").is_none() {
        return skipped("WHARF_GUEST names no program that runs a command in a Linux guest");
    }
    let files = Scratch::new();
    let disk = disk(&files);
    let namespaces = Namespaces::new();
    let registry = Registry::start_own(&namespaces, Registry::HOST, "");
    for number in 0..12_u8 {
        let archive = files.join("image.tar");
        let noise: Vec<u8> = (0..400_000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] ^ number)
            .collect();
        let layers = [
            image::busybox_layer(),
            image::layer(&[Entry::File("noise", 0o644, &noise)]),
            image::layer(&[Entry::File("number", 0o644, &[number])]),
        ];
        image::write_archive(&archive, &["box"], &layers, &serde_json::json!({"Cmd": ["sh"]}));
        registry.push(&namespaces, &archive, &format!("box:{number}"));
    }
    let folder = registry.folder().display().to_string();
    for seconds in ["6", "3"] {
        let pull = r#"
        for number in $(seq 0 11); do
            wharf pull -q 127.0.0.1:5000/box:$number > /run/said 2>&1 && echo "127.0.0.1:5000/box:$number"
        done
        sleep 100"#;
        let script = format!("{SERVE} {DAEMON} {pull}");
        let Some(said) = in_guest(&disk, &["-K", seconds], &script, &[&folder]) else { return };
        let names: Vec<&str> = said.lines().collect();
        let look = r#"
        shift
        wharf system check
        for name; do wharf image inspect "$name" > /run/said 2>&1 || echo "lost: $name"; done
        wharf pull -q 127.0.0.1:5000/box:11
        wharf system check"#;
        let arguments = [&[folder.as_str()], names.as_slice()].concat();
        let said = in_guest(&disk, &[], &format!("{SERVE} {DAEMON} {look}"), &arguments).unwrap();
        let said: Vec<&str> = said.lines().filter(|line| !line.ends_with(" read")).collect();
        let expected = ["No problems found", "127.0.0.1:5000/box:11", "No problems found"];
        assert_eq!(said, expected, "{} were pulled", names.len());
    }
}
