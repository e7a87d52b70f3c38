//! What archives become, and what hostile ones do not.

use super::*;
use crate::Store;
use crate::tar::{Entry, Kind, Time, Writer};
use crate::testing::Scratch;
use base::paths::DataPaths;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

/// An archive under construction.
pub(crate) struct Archive(Writer<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    pub(crate) fn entry(mut self, entry: Entry, data: &[u8]) -> Self {
        let entry = Entry { size: data.len() as u64, ..entry };
        self.0.append(&entry, &mut &*data).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(Entry { name: name.into(), ..Entry::default() }, data)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(Entry { name: name.into(), kind: Kind::Directory, mode: 0o755, ..Entry::default() }, b"")
    }

    pub(crate) fn link(self, name: &str, kind: Kind, target: &str) -> Self {
        self.entry(Entry { name: name.into(), kind, link: target.into(), ..Entry::default() }, b"")
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

pub(crate) fn store() -> (Scratch, Store) {
    let scratch = Scratch::new();
    let store = Store::open(&DataPaths::new(scratch.path().join("data"))).unwrap();
    (scratch, store)
}

fn unpack(archive: &[u8]) -> (Scratch, Result<Layer>) {
    let (scratch, store) = store();
    let layer = store.layers().unpack(&mut &*archive, &Digest::sha256_of(archive));
    let visible = store.layers().list().unwrap().len();
    assert_eq!(visible, usize::from(layer.is_ok()), "half-made layers must not be visible");
    drop(store);
    let left: Vec<_> = std::fs::read_dir(scratch.path().join("data/tmp")).unwrap().collect();
    assert_eq!(left.len(), 1, "only tmp/ingest stays: {left:?}");
    (scratch, layer)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn plain_gzip_and_zstd_give_the_same_layer() {
    let archive = Archive::new()
        .directory("etc/")
        .file("etc/passwd", b"root")
        .file("big", &[7; 700_000])
        .link("l", Kind::Symlink, "/etc/passwd")
        .link("h", Kind::HardLink, "etc/passwd")
        .finish();
    let diff_id = Digest::sha256_of(&archive);
    let (first, second) = archive.split_at(archive.len() / 2);
    let two_members = [gzip(first), gzip(second)].concat();
    for compressed in [archive.clone(), gzip(&archive), two_members, zstd::encode_all(&*archive, 1).unwrap()]
    {
        let (_scratch, store) = store();
        let layer = store.layers().unpack(&mut &*compressed, &diff_id).unwrap();
        assert_eq!(layer.size, 700_004);
        assert_eq!(std::fs::read(layer.path.join("h")).unwrap(), b"root");
        assert_eq!(std::fs::read(layer.path.join("big")).unwrap(), [7; 700_000]);
        assert_eq!(std::fs::read_link(layer.path.join("l")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(layer.path.join("h").metadata().unwrap().nlink(), 2);
        // Nothing is read when it is here.
        assert_eq!(store.layers().unpack(&mut io::empty(), &diff_id).unwrap(), layer);
        assert_eq!(store.layers().lower_dirs(std::slice::from_ref(&diff_id)).unwrap(), [layer.path]);
    }
}

#[test]
fn metadata_is_kept() {
    let time = Time { seconds: 1_000_000_000, nanoseconds: 123_456_789 };
    let entry =
        |name: &str, kind, mode| Entry { name: name.into(), kind, mode, modified: time, ..Entry::default() };
    let archive = Archive::new()
        .entry(entry("./", Kind::Directory, 0o1777), b"")
        .entry(entry("d/", Kind::Directory, 0o2750), b"")
        .entry(entry("d/f", Kind::File, 0o4755), b"x")
        .entry(entry("d/w", Kind::File, 0o666), b"x")
        .entry(entry("d/p", Kind::Fifo, 0o622), b"")
        .entry(Entry { link: b"f".to_vec(), ..entry("d/l", Kind::Symlink, 0o777) }, b"")
        .finish();
    let (_scratch, layer) = unpack(&archive);
    let root = layer.unwrap().path;
    for (name, mode) in
        [("", 0o1777), ("d", 0o2750), ("d/f", 0o4755), ("d/w", 0o666), ("d/p", 0o622), ("d/l", 0o777)]
    {
        let metadata = root.join(name).symlink_metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000_000, 123_456_789), "{name}");
    }
    assert!(root.join("d/p").symlink_metadata().unwrap().file_type().is_fifo());
}

#[test]
#[ignore = "root: owners, devices and capabilities"]
fn metadata_that_only_root_may_set() {
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let owned = |name: &str, kind, mode| Entry {
        name: name.into(),
        kind,
        mode,
        uid: 7,
        gid: 70_000,
        ..Entry::default()
    };
    let archive = Archive::new()
        .entry(owned("d", Kind::Directory, 0o755), b"")
        .entry(
            Entry {
                xattrs: vec![
                    (b"security.capability".to_vec(), capability.clone()),
                    (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
                    (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
                ],
                ..owned("d/f", Kind::File, 0o6755)
            },
            b"x",
        )
        .entry(Entry { device: (1, 3), ..owned("d/null", Kind::CharacterDevice, 0o666) }, b"")
        .entry(Entry { device: (7, 300), ..owned("d/loop", Kind::BlockDevice, 0o660) }, b"")
        .entry(Entry { link: b"f".to_vec(), ..owned("d/l", Kind::Symlink, 0o777) }, b"")
        .finish();
    let (_scratch, layer) = unpack(&archive);
    let root = layer.unwrap().path;
    for name in ["d", "d/f", "d/null", "d/loop", "d/l"] {
        let metadata = root.join(name).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (7, 70_000), "{name}");
    }
    let file = root.join("d/f");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o6755, "changing the owner clears set-ID bits");
    let mut names = [0; 256];
    let length = rustix::fs::llistxattr(&file, &mut names[..]).unwrap();
    assert_eq!(&names[..length], b"security.capability\0");
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(&file, "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
    assert_eq!(root.join("d/loop").symlink_metadata().unwrap().rdev(), rustix::fs::makedev(7, 300));
}

#[test]
#[ignore = "root: whiteouts are devices, opaqueness a trusted attribute"]
fn whiteouts_in_overlay_form() {
    let archive = Archive::new()
        .directory("a")
        .file("a/.wh.gone", b"")
        .file("a/own", b"x")
        .file("a/.wh.own", b"")
        .file("a/.wh..wh.plnk", b"")
        .directory("b")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"x")
        .file(".wh.c", b"")
        .file("c/implied", b"x")
        .file(".wh.d", b"")
        .directory("d")
        .directory("e")
        .file(".wh.e", b"")
        .file(".wh.f", b"")
        .file("f", b"file")
        .finish();
    let (_scratch, layer) = unpack(&archive);
    let root = layer.unwrap().path;
    let is_whiteout = |name: &str| {
        let metadata = root.join(name).symlink_metadata().unwrap();
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    };
    let is_opaque = |name: &str| {
        let mut value = [0; 8];
        rustix::fs::lgetxattr(root.join(name), "trusted.overlay.opaque", &mut value[..]) == Ok(1)
            && value[0] == b'y'
    };
    assert!(is_whiteout("a/gone"));
    assert!(!is_whiteout("a/own"));
    assert!(!root.join("a/.wh..wh.plnk").exists());
    assert_eq!(["a", "b", "c", "d", "e"].map(is_opaque), [false, true, true, true, true]);
    assert!(root.join("c/implied").is_file());
    assert_eq!(std::fs::read(root.join("f")).unwrap(), b"file");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let archive = Archive::new()
        .directory("a")
        .directory("a/b")
        .file("a/b/c", b"deep")
        .file("a", b"now a file")
        .file("f", b"1")
        .file("f", b"2")
        .link("l", Kind::Symlink, "f")
        .file("l", b"not through the link")
        .link("s", Kind::Symlink, "f")
        .directory("s")
        .file("s/x", b"x")
        .finish();
    let (_scratch, layer) = unpack(&archive);
    let root = layer.unwrap().path;
    assert_eq!(std::fs::read(root.join("a")).unwrap(), b"now a file");
    assert_eq!(std::fs::read(root.join("f")).unwrap(), b"2");
    assert_eq!(std::fs::read(root.join("l")).unwrap(), b"not through the link");
    assert!(root.join("s").symlink_metadata().unwrap().is_dir());
}

#[test]
fn links_in_names_are_followed_inside_the_root() {
    let archive = Archive::new()
        .link("lib", Kind::Symlink, "usr/lib")
        .file("lib/x.so", b"x")
        .link("abs", Kind::Symlink, "/opt/../../opt")
        .file("abs/y", b"y")
        .link("up", Kind::Symlink, "../../../../../../../../../etc")
        .file("up/wharf-escape-test", b"z")
        .finish();
    let (_scratch, layer) = unpack(&archive);
    let layer = layer.unwrap();
    for (name, content) in [("usr/lib/x.so", b"x"), ("opt/y", b"y"), ("etc/wharf-escape-test", b"z")] {
        assert_eq!(std::fs::read(layer.path.join(name)).unwrap(), content, "{name}");
    }
    assert!(!Path::new("/etc/wharf-escape-test").exists());
    let implied: Vec<_> = layer.implied.iter().map(|name| String::from_utf8_lossy(name)).collect();
    assert_eq!(implied, ["", "etc", "opt", "usr", "usr/lib"]);
}

#[test]
fn hostile_archives_are_refused() {
    let check = |archive: Archive, expect: &str| {
        let (_scratch, layer) = unpack(&archive.finish());
        let error = layer.expect_err(expect);
        assert_eq!(base::chain(&error), expect);
    };
    let one = Archive::new;
    check(one().file("../x", b""), "unpack layer: entry \"../x\": climbs out of the layer");
    check(one().file("a/../../x", b""), "unpack layer: entry \"a/../../x\": climbs out of the layer");
    check(
        one().link("x", Kind::HardLink, "../../../../etc/passwd"),
        "unpack layer: entry \"../../../../etc/passwd\": climbs out of the layer",
    );
    check(
        one().link("x", Kind::HardLink, "/etc/passwd"),
        "unpack layer: entry \"x\": is a hard link to what is not in the layer",
    );
    check(
        one().link("out", Kind::Symlink, "/etc").link("x", Kind::HardLink, "out/passwd"),
        "unpack layer: entry \"x\": is a hard link to what is not in the layer",
    );
    check(one().link("x", Kind::HardLink, "x"), "unpack layer: entry \"x\": is a hard link to itself");
    check(
        one().directory("d").link("x", Kind::HardLink, "d"),
        "unpack layer: entry \"x\": is a hard link to a directory",
    );
    check(
        one().file("f", b"").file("f/x", b""),
        "unpack layer: entry \"f\": a parent of it is not a directory",
    );
    check(one().file("./", b"x"), "unpack layer: entry \"./\": the root is not a directory");
    check(one().file("a/.wh...", b""), "unpack layer: entry \"a/.wh...\": invalid whiteout");
    check(
        one().link("a", Kind::Symlink, "b").link("b", Kind::Symlink, "a").file("a/x", b""),
        "unpack layer: open \"a\": too many levels of symbolic links",
    );
    check(
        one().entry(Entry { name: b"zero".to_vec(), kind: Kind::CharacterDevice, ..Entry::default() }, b""),
        "unpack layer: entry \"zero\": is a character device 0:0",
    );
    check(
        one().file(&"x".repeat(256), b""),
        &format!("unpack layer: create \"{}\": file name too long", "x".repeat(256)),
    );
}

/// An entry of an extended kind with data of this size, and then a file.
fn extended(flag: u8, size: usize) -> Vec<u8> {
    let mut bytes = Archive::new().file("x", &vec![b'a'; size]).file("y", b"").finish();
    bytes[156] = flag;
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

#[test]
fn names_and_records_without_measure() {
    // 64 Ki folders in one another.
    let deep = "d/".repeat(1 << 16) + "x";
    let (_scratch, layer) = unpack(&Archive::new().file(&deep, b"").finish());
    assert!(base::chain(&layer.unwrap_err()).ends_with("the name is too long"));
    // As deep as a path may be; and all of it goes again.
    let deep = "d/".repeat(2000) + "x";
    let (_scratch, layer) = unpack(&Archive::new().file(&deep, b"deep").finish());
    assert_eq!(layer.unwrap().size, 4);
    for flag in [b'x', b'g', b'L', b'K'] {
        let (_scratch, layer) = unpack(&extended(flag, (1 << 20) + 1));
        let told = base::chain(&layer.unwrap_err());
        assert_eq!(told, "unpack layer: extended tar header of 1048577 bytes is too long");
    }
    let (_scratch, layer) = unpack(&extended(b'x', 1 << 20));
    assert_eq!(base::chain(&layer.unwrap_err()), "unpack layer: invalid PAX record");
}

#[test]
fn files_and_directories_take_turns() {
    let archive = Archive::new()
        .file("a", &[1; 1000])
        .directory("a")
        .file("a/b", &[2; 500])
        .directory("a/b")
        .file("a/b/c", &[3; 50])
        .file("a/b/c", &[4; 5])
        .link("s", Kind::Symlink, "a")
        .directory("s")
        .finish();
    let (_scratch, layer) = unpack(&archive);
    let layer = layer.unwrap();
    assert_eq!(std::fs::read(layer.path.join("a/b/c")).unwrap(), [4; 5]);
    assert_eq!(layer.size, 5, "only what is left counts");
    assert!(layer.path.join("s").symlink_metadata().unwrap().is_dir());
}

#[test]
fn broken_streams_leave_nothing() {
    let archive = Archive::new().file("a", &[7; 600_000]).file("b", b"x").finish();
    let diff_id = Digest::sha256_of(&archive);
    let (_scratch, store) = store();
    let fails = |bytes: &[u8], expect: &str| {
        let error = store.layers().unpack(&mut &*bytes, &diff_id).expect_err(expect);
        assert_eq!(base::chain(&error), expect);
        assert_eq!(store.layers().get(&diff_id).unwrap(), None);
    };
    fails(&archive[..300_000], "unpack layer: unexpected end of the archive");
    fails(
        &archive[..archive.len() - 512],
        &format!(
            "wrong diff ID of the layer: expected {diff_id}, got {}",
            Digest::sha256_of(&archive[..archive.len() - 512])
        ),
    );
    let zipped = gzip(&archive);
    fails(&zipped[..zipped.len() - 1], "read layer: unexpected end of file");
    fails(&zipped[..20], "read layer: incomplete deflate stream");
    fails(b"not an archive", "unpack layer: unexpected end of the archive");
    fails(&[7; 1024], "unpack layer: invalid checksum in a tar header");
    let mut damaged = zipped.clone();
    let middle = damaged.len() - 6;
    damaged[middle] ^= 0xff;
    fails(&damaged, "read layer: corrupt gzip stream does not have a matching checksum");
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the wire is cut"))
        }
    }
    let error = store.layers().unpack(&mut (&archive[..400_000]).chain(Failing), &diff_id).unwrap_err();
    assert_eq!(base::chain(&error), "read layer: the wire is cut");
    assert_eq!(store.layers().list().unwrap(), []);
}

#[test]
fn bombs_are_stopped() {
    let scratch = Scratch::new();
    let limits = Limits { bytes: 50 << 20, entries: 1000, ratio: 100, free_bytes: 1 << 20 };
    let store = Store::open_with(&DataPaths::new(scratch.path()), limits).unwrap();
    let fails = |bytes: &[u8], expect: &str| {
        let error = store.layers().unpack_unknown(&mut &*bytes).expect_err(expect);
        assert!(matches!(error, Error::Bomb(_)), "{error}");
        assert!(error.to_string().contains(expect), "{error}");
    };
    let zeros = Archive::new().file("zeros", &vec![0; 40 << 20]).finish();
    fails(&gzip(&zeros), "more than 100 times as many");
    fails(&zstd::encode_all(&*zeros, 1).unwrap(), "more than 100 times as many");
    fails(&Archive::new().file("zeros", &vec![0; 60 << 20]).finish(), "it has more than 52428800 bytes");
    let many = (0..1100).fold(Archive::new(), |archive, index| archive.file(&index.to_string(), b""));
    fails(&many.finish(), "it has more than 1000 entries");
    // The same zeros, not compressed, are no bomb; and they take no space.
    let layer = store.layers().unpack_unknown(&mut &*zeros).unwrap();
    let metadata = layer.path.join("zeros").metadata().unwrap();
    assert_eq!(metadata.len(), 40 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
}

#[test]
fn holes_are_where_zeros_are() {
    let mut data = vec![0; 3 << 20];
    for position in [0, 70_000, 200_001, (1 << 20) + 5, (3 << 20) - 1] {
        data[position] = 9;
    }
    let archive = Archive::new().file("odd", &[1; 77]).file("f", &data).file("tail", b"t").finish();
    let (_scratch, layer) = unpack(&archive);
    let root = layer.unwrap().path;
    assert!(std::fs::read(root.join("f")).unwrap() == data);
    assert_eq!(std::fs::read(root.join("tail")).unwrap(), b"t");
}

#[test]
fn sparse_files_of_gnu_tar() {
    let scratch = Scratch::new();
    let file = std::fs::File::create(scratch.path().join("s")).unwrap();
    for (offset, byte) in [(0_u64, b'a'), (1 << 20, b'b'), (5 << 20, b'c')] {
        rustix::io::pwrite(&file, &[byte; 5000], offset).unwrap();
    }
    file.set_len(6 << 20).unwrap();
    let expect = std::fs::read(scratch.path().join("s")).unwrap();
    for format in [
        "--format=gnu",
        "--format=pax --sparse-version=0.0",
        "--format=pax --sparse-version=0.1",
        "--format=pax",
    ] {
        let output = std::process::Command::new("tar")
            .args(["--sparse", "-C"])
            .arg(scratch.path())
            .args(format.split(' '))
            .args(["-c", "s"])
            .output()
            .unwrap();
        assert!(output.stdout.len() < 100_000, "{format} is not sparse");
        let (_scratch, layer) = unpack(&output.stdout);
        let path = layer.unwrap_or_else(|error| panic!("{format}: {error}")).path.join("s");
        assert!(std::fs::read(&path).unwrap() == expect, "{format}");
        assert!(path.metadata().unwrap().blocks() * 512 < 1 << 20, "{format}");
    }
}

/// Runs a script in a mount namespace of its own; it may mount and need not unmount.
fn in_own_namespace(script: &str, arguments: &[&Path]) -> String {
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", script, "sh"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "root: mounts an overlay in a namespace of its own"]
fn overlayfs_shows_what_the_layers_say() {
    let (scratch, store) = store();
    let add = |archive: Archive| store.layers().unpack_unknown(&mut &*archive.finish()).unwrap().diff_id;
    let mode =
        |name: &str, mode| Entry { name: name.into(), kind: Kind::Directory, mode, ..Entry::default() };
    let base = add(Archive::new()
        .entry(mode("./", 0o700), b"")
        .directory("gone")
        .file("gone/x", b"")
        .directory("opaque")
        .file("opaque/old", b"")
        .directory("replaced")
        .file("replaced/old", b"")
        .entry(mode("tmp", 0o1777), b"")
        .file("kept", b"")
        .file("file", b""));
    let top = add(Archive::new()
        .file(".wh.gone", b"")
        .directory("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"")
        .file(".wh.replaced", b"")
        .directory("replaced")
        .file("replaced/new", b"")
        .file("tmp/new", b"")
        .directory("file")
        .file("file/inside", b""));
    let lower = store.layers().lower_dirs(&[base, top]).unwrap();
    let lower: Vec<_> = lower.iter().map(|path| path.to_str().unwrap()).collect();
    let point = scratch.path().join("merged");
    std::fs::create_dir(&point).unwrap();
    let script = "mount -t overlay -o \"lowerdir=$1\" none \"$2\"; cd \"$2\"; find . | sort | tr '\\n' ' '; stat -c %a . tmp | tr '\\n' ' '";
    let shown = in_own_namespace(script, &[Path::new(&lower.join(":")), &point]);
    assert_eq!(
        shown,
        ". ./file ./file/inside ./kept ./opaque ./opaque/new ./replaced ./replaced/new ./tmp ./tmp/new 700 1777 "
    );
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 12] = [
        "a",
        "b",
        "a/b",
        "a/../b",
        "../x",
        "a/b/c",
        ".wh.a",
        "a/.wh..wh..opq",
        "/b/a",
        ".",
        "a/b/../..",
        "../../outside/x",
    ];
    const TARGETS: [&str; 9] = [
        "a",
        "b",
        "..",
        "../../outside",
        "/",
        "a/b",
        "/etc",
        "../../../../../../../../tmp",
        "../../outside/sentinel",
    ];

    fn entries() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
        proptest::collection::vec((0..NAMES.len(), 0..6_usize, 0..TARGETS.len()), 1..14)
    }

    fn snapshot(root: &Path) -> Vec<(PathBuf, u32, i64, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            found.push((path, metadata.mode(), metadata.mtime(), content));
        }
        found.sort();
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn nothing_outside_a_layer_is_touched(entries in entries()) {
            let scratch = Scratch::new();
            let outside = scratch.path().join("outside");
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("sentinel"), b"untouched").unwrap();
            let before = (snapshot(&outside), snapshot(scratch.path()).len());
            let mut archive = Archive::new();
            for (name, kind, target) in entries {
                let kind = [
                    Kind::File, Kind::Directory, Kind::Symlink, Kind::HardLink, Kind::Fifo, Kind::Symlink,
                ][kind];
                let entry = Entry {
                    name: NAMES[name].into(),
                    link: TARGETS[target].into(),
                    kind,
                    mode: 0o4777,
                    ..Entry::default()
                };
                archive = archive.entry(entry, if kind == Kind::File { b"hostile" } else { b"" });
            }
            let bytes = archive.finish();
            let layer = scratch.path().join("layer/diff");
            std::fs::create_dir_all(&layer).unwrap();
            let open = |path: &Path| {
                rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
            };
            let aside = open(layer.parent().unwrap());
            // Whatever the outcome is.
            drop(extract::unpack(open(&layer), aside, 0o022, 100, &mut tar::Reader::new(bytes.as_slice())));
            prop_assert_eq!(snapshot(&outside), before.0);
            prop_assert_eq!(snapshot(scratch.path()).len(), before.1 + 1);
            prop_assert_eq!(std::fs::read_dir(layer.parent().unwrap()).unwrap().count(), 1);
        }
    }
}
