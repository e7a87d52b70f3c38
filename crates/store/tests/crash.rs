//! `kill -9` at every failpoint, and at any other moment: afterwards an image is there whole or not at all, nothing
//! unfinished stays, and the same work succeeds.

#![expect(clippy::unwrap_used, reason = "tests outside of cfg(test), where it is allowed")]

use base::paths::DataPaths;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use store::{Error, Keep, Store, archive};

const DATA: &str = "WHARF_TEST_DATA";
const POINTS: [&str; 6] = [
    "store.blob.publish",
    "store.ingest.publish",
    "store.layer.publish",
    "store.image.sync",
    "store.image.record",
    "store.collect.sweep",
];

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wharf-crash-{}-{name}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// An archive with the built-in image and one of random content.
fn images() -> Vec<u8> {
    let scratch = Scratch::new("images");
    let store = Store::open(&DataPaths::new(&scratch.0)).unwrap();
    store.ensure_hello().unwrap();
    let mut noise = 1_u64;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 33).to_le_bytes().into_iter().next().unwrap()
    })
    .take(3 << 20)
    .collect();
    let mut rootfs = store::tar::Writer::new(Vec::new());
    for name in ["a", "b", "c/d"] {
        rootfs.append_bytes(name, &content).unwrap();
    }
    let rootfs = rootfs.finish().unwrap();
    let options = archive::ImportOptions {
        reference: Some(oci::Reference::parse_normalized("big:1").unwrap()),
        ..archive::ImportOptions::default()
    };
    archive::import(&store, &mut &*rootfs, &options).unwrap();
    let mut bytes = Vec::new();
    let texts = ["hello-world".to_owned(), "big:1".to_owned()];
    archive::save(&store, &texts, None, &mut bytes).unwrap();
    bytes
}

/// Loads the images, removes them and collects their content, for ever.
#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some(data) = std::env::var_os(DATA) else { return };
    base::failpoint::arm(&std::env::var(base::failpoint::VARIABLE).unwrap_or_default()).unwrap();
    let data = PathBuf::from(data);
    let bytes = std::fs::read(data.join("images.tar")).unwrap();
    let store = Store::open(&DataPaths::new(data.join("data"))).unwrap();
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        archive::load(&store, &mut &*bytes, &mut |_| {}).unwrap();
        for id in store.images().ids() {
            store.images().remove(&id).unwrap();
        }
        store.collect(&Keep::default()).unwrap();
    }
}

fn spawn(data: &Path, points: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DATA, data)
        .env(base::failpoint::VARIABLE, points)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What must hold whenever a process has died.
fn check(data: &Path, bytes: &[u8], what: &str) {
    let paths = DataPaths::new(data.join("data"));
    let store = Store::open(&paths).unwrap();
    store.wait_for_deletion();
    let left: Vec<_> =
        std::fs::read_dir(paths.tmp()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["ingest"], "{what}");
    assert_eq!(
        store.images().list().unwrap().len(),
        store.images().ids().len(),
        "{what}: an image is damaged"
    );
    for image in store.images().list().unwrap() {
        store.images().unpack(&image).unwrap();
    }
    for digest in store.blobs().list().unwrap() {
        store.blobs().read(&digest, 1 << 30).unwrap();
    }
    assert!(store.check(|_| {}).unwrap().is_empty(), "{what}");
    let loaded = archive::load(&store, &mut &*bytes, &mut |_| {}).unwrap();
    assert_eq!(loaded.len(), 2, "{what}");
    for text in ["hello-world", "big:1"] {
        let image = store.images().find(text).unwrap();
        store.images().unpack(&image).unwrap();
    }
    // Empty again, for the next round.
    for id in store.images().ids() {
        store.images().remove(&id).unwrap();
    }
    store.collect(&Keep::default()).unwrap();
    store.collect_downloads(Duration::ZERO).unwrap();
    assert!(store.blobs().list().unwrap().is_empty() && store.layers().list().unwrap().is_empty(), "{what}");
}

#[test]
fn death_at_every_failpoint() {
    let scratch = Scratch::new("points");
    let bytes = images();
    std::fs::write(scratch.0.join("images.tar"), &bytes).unwrap();
    for point in POINTS {
        let status = spawn(&scratch.0, &format!("{point}=abort")).wait().unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(status.signal(), Some(6), "{point} was not reached");
        check(&scratch.0, &bytes, point);
    }
}

#[test]
fn death_at_any_moment() {
    let scratch = Scratch::new("moments");
    let bytes = images();
    std::fs::write(scratch.0.join("images.tar"), &bytes).unwrap();
    for round in 0..12_u64 {
        let mut child = spawn(&scratch.0, "");
        std::thread::sleep(Duration::from_millis(30 + round * 37));
        child.kill().unwrap();
        child.wait().unwrap();
        check(&scratch.0, &bytes, &format!("round {round}"));
    }
}

#[test]
fn a_stream_that_fails_anywhere_leaves_nothing() {
    let scratch = Scratch::new("stream");
    let bytes = images();
    std::fs::write(scratch.0.join("images.tar"), &bytes).unwrap();
    let store = Store::open(&DataPaths::new(scratch.0.join("data"))).unwrap();
    struct Failing<'a>(&'a [u8], usize);
    impl std::io::Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.1 == 0 {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            let length = buffer.len().min(self.1);
            let count = self.0.read(&mut buffer[..length])?;
            self.1 -= count;
            Ok(count)
        }
    }
    for limit in [1_000, 100_000, 3_000_000, 6_000_000] {
        let error = archive::load(&store, &mut Failing(&bytes, limit), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::LayerStream(_)), "{error}");
        assert!(store.images().ids().is_empty());
        store.collect(&Keep::default()).unwrap();
        store.wait_for_deletion();
        assert!(store.blobs().list().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(scratch.0.join("data/tmp/ingest")).unwrap().count(), 0);
    }
}

/// Loads into a file system that is too small, which the parent mounted.
#[test]
#[ignore = "a child process of the test below"]
fn full_child() {
    let Some(data) = std::env::var_os(DATA) else { return };
    let data = PathBuf::from(data);
    let bytes = std::fs::read(data.join("images.tar")).unwrap();
    let paths = DataPaths::new(data.join("data/small"));
    let store = Store::open(&paths).unwrap();
    let error = archive::load(&store, &mut &*bytes, &mut |_| {}).unwrap_err();
    let text = base::chain(&error);
    assert!(text.contains("no space left on device"), "{text}");
    assert!(store.images().ids().len() < 2);
    store.collect(&Keep::default()).unwrap();
    store.wait_for_deletion();
    assert_eq!(std::fs::read_dir(paths.tmp().join("ingest")).unwrap().count(), 0);
    // What fits still works.
    store.ensure_hello().unwrap();
    assert!(store.check(|_| {}).unwrap().is_empty());
    println!("survived");
}

#[test]
#[ignore = "root: mounts a small file system in a namespace of its own"]
fn a_full_disk_leaves_nothing() {
    let scratch = Scratch::new("full");
    std::fs::create_dir(scratch.0.join("data")).unwrap();
    std::fs::write(scratch.0.join("images.tar"), images()).unwrap();
    let script = "mount -t tmpfs -o size=14m none \"$WHARF_TEST_DATA/data\" && exec \"$0\" --exact full_child --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(DATA, &scratch.0)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("survived"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
