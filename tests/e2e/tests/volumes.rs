//! Volumes with options of the local driver, parts of volumes, images as mounts.

use e2e::{both, command_lines};
use std::path::Path;
use testkit::{Engine, Output, Scratch};

/// The mounts below the engine's volumes.
fn mounts(engine: &Engine) -> String {
    let table = engine.run("cat", &["/proc/self/mounts"]).ok();
    table.lines().filter(|line| line.contains("/volumes/")).collect::<Vec<_>>().join("\n")
}

#[test]
fn options_of_the_local_driver() {
    let mut engine = Engine::with_busybox();
    let files = Scratch::new();
    std::fs::write(files.join("here"), "of the host\n").expect("write a file");
    let device = format!("device={}", files.join("").display());
    let create = |name: &str, options: &[&str]| {
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", *option]).collect();
        engine.wharf(&[&["volume", "create"][..], &options, &[name]].concat())
    };
    create("memory", &["type=tmpfs", "device=tmpfs", "o=size=1m,uid=7"]).ok();
    create("bound", &["type=none", &device, "o=bind,ro"]).ok();
    create("small", &["size=8m"]).ok();
    let shown = both(&engine, &["volume", "inspect", "-f", "{{json .Options}}", "memory"]).line();
    assert_eq!(shown, r#"{"device":"tmpfs","o":"size=1m,uid=7","type":"tmpfs"}"#);
    assert_eq!(mounts(&engine), "", "nothing is mounted before a container uses it");
    let all = ["-v", "memory:/m", "-v", "bound:/b", "-v", "small:/s"];
    let run = [&["run", "-d", "--name", "user"], &all[..], &["busybox", "sleep", "1000"]].concat();
    engine.wharf(&run).ok();
    let inside = |script: &str| engine.wharf(&["exec", "user", "sh", "-c", script]);
    assert_eq!(inside("stat -c %u /m; cat /b/here; ls -A /s").ok(), "7\nof the host\n");
    assert_ne!(inside("touch /b/new").code, 0, "read-only");
    assert_ne!(inside("head -c 2m /dev/zero > /m/full").code, 0, "beyond the size");
    assert_ne!(inside("head -c 20m /dev/zero > /s/full").code, 0, "beyond the size");
    inside("rm /s/full; echo kept > /s/file; echo shared > /m/full").ok();
    // Another container sees the same memory, and it stays while one of them runs; daemon or not.
    let second = [&["run", "--rm"], &all[..], &["busybox", "cat", "/m/full"]].concat();
    assert_eq!(engine.wharf(&second).ok(), "shared\n");
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(engine.wharf(&second).ok(), "shared\n");
    assert_eq!(mounts(&engine).lines().count(), 3);
    engine.wharf(&["stop", "-t", "0", "user"]).ok();
    assert_eq!(mounts(&engine), "");
    // Files are copied out of what does not run, too.
    let copied = files.join("copied").display().to_string();
    engine.wharf(&["cp", "user:/s/file", &copied]).ok();
    assert_eq!(std::fs::read_to_string(&copied).expect("read a file"), "kept\n");
    engine.wharf(&["start", "user"]).ok();
    assert_eq!(engine.wharf(&["exec", "user", "sh", "-c", "ls /m; cat /s/file"]).ok(), "kept\n");
    // An end that nobody saw.
    engine.kill_daemon();
    let pid = engine.run("sh", &["-c", "pgrep -f 'sleep 1000'"]).stdout;
    for pid in pid.split_whitespace().filter(|pid| Path::new(&format!("/proc/{pid}/root/m")).exists()) {
        engine.run("kill", &["-9", pid]).ok();
    }
    engine.start_daemon();
    testkit::until("the volumes to be unmounted", std::time::Duration::from_secs(10), || {
        mounts(&engine).is_empty().then_some(())
    });
    engine.wharf(&["rm", "-f", "user"]).ok();
    engine.wharf(&["volume", "rm", "memory", "bound", "small"]).ok();
    assert!(files.join("here").exists(), "what was bound stays");
}

#[test]
fn options_that_are_refused() {
    let engine = Engine::with_busybox();
    let refused = |options: &[&str]| {
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", *option]).collect();
        both(&engine, &[&["volume", "create"][..], &options, &["vol"]].concat()).stderr.trim().to_owned()
    };
    let daemon = "Error response from daemon: create vol: ";
    assert_eq!(refused(&["x=y"]), format!("{daemon}invalid option: \"x\""));
    assert_eq!(refused(&["type=none"]), format!("{daemon}missing required option: \"device\""));
    assert_eq!(refused(&["size=much"]), format!("{daemon}invalid size: 'much'"));
    assert_eq!(both(&engine, &["volume", "ls", "-q"]).ok(), "");
    let options =
        "type=volume,src=vol,dst=/v,volume-opt=type=none,volume-opt=device=/no/such,volume-opt=o=bind";
    let failed = both(&engine, &["run", "--rm", "--mount", options, "busybox", "true"]);
    assert_eq!(failed.code, 127, "Docker reads it from the text: {failed:?}");
    assert!(failed.stderr.contains("failed to mount local volume: mount /no/such:"), "{failed:?}");
    assert!(failed.stderr.contains("no such file or directory"), "{failed:?}");
    assert_eq!(engine.wharf(&["ps", "-aq"]).ok(), "");
}

#[test]
fn parts_of_volumes_stay_inside() {
    let engine = Engine::with_busybox();
    let setup = "mkdir -p /v/a/b; echo part > /v/a/b/file; ln -s /etc /v/out; ln -s a /v/in";
    engine.wharf(&["run", "--rm", "-v", "vol:/v", "busybox", "sh", "-c", setup]).ok();
    let mount = |part: &str| format!("type=volume,src=vol,dst=/m,volume-subpath={part}");
    let cat = |part: &str, file: &str| {
        engine.wharf(&["run", "--rm", "--mount", &mount(part), "busybox", "cat", file])
    };
    assert_eq!(cat("a/b", "/m/file").ok(), "part\n");
    assert_eq!(cat("in/b", "/m/file").ok(), "part\n");
    assert_eq!(cat("a/b/file", "/m").ok(), "part\n");
    for (part, text) in [("nosuch", "no such file or directory"), ("out", "cannot access path")] {
        let refused = cat(part, "/m/passwd");
        assert!(refused.code != 0 && refused.stderr.contains(text), "{refused:?}");
    }
    let outside = both(&engine, &["create", "--mount", &mount("../x"), "busybox"]);
    assert!(outside.stderr.contains("subpath must be a relative path within the volume"), "{outside:?}");
    // What was a folder at the creation is a link to the host at the start.
    engine
        .wharf(&["create", "--name", "swapped", "--mount", &mount("a/b"), "busybox", "cat", "/m/passwd"])
        .ok();
    engine
        .wharf(&["run", "--rm", "-v", "vol:/v", "busybox", "sh", "-c", "mv /v/a/b /v/a/c; ln -s /etc /v/a/b"])
        .ok();
    let swapped = engine.wharf(&["start", "-a", "swapped"]);
    assert!(swapped.code != 0 && !swapped.stdout.contains("root:"), "{swapped:?}");
    let copied = engine.wharf(&["cp", "swapped:/m/passwd", "-"]);
    assert!(copied.code != 0 && !copied.stdout.contains("root:"), "{copied:?}");
    // Read-only is with all below.
    let tree = engine.folder().join("tree");
    let below = tree.join("below").display().to_string();
    std::fs::create_dir_all(&below).unwrap();
    engine.run("mount", &["-t", "tmpfs", "below", &below]).ok();
    let run = |flags: &[&str]| {
        engine.wharf(&[&["run", "--rm"], flags, &["busybox", "touch", "/t/below/file"]].concat())
    };
    assert_ne!(run(&["-v", &format!("{}:/t:ro", tree.display())]).code, 0);
    let writable = format!("type=bind,src={},dst=/t,ro,bind-recursive=writable", tree.display());
    run(&["--mount", &writable]).ok();
    engine.run("umount", &[&below]).ok();
}

#[test]
fn images_are_mounted_read_only() {
    let engine = Engine::with_busybox();
    let change = "mkdir -p /data/kept /data/hidden; echo one > /data/kept/file; echo no > /data/hidden/file";
    engine.wharf(&["run", "--name", "first", "busybox", "sh", "-c", change]).ok();
    engine.wharf(&["commit", "first", "data:1"]).ok();
    let change = "rm -r /data/hidden; mkdir /data/hidden; echo two > /data/hidden/new; rm /data/kept/file; echo 2 > /data/kept/other";
    engine.wharf(&["run", "--name", "second", "data:1", "sh", "-c", change]).ok();
    engine.wharf(&["commit", "second", "data:2"]).ok();
    engine.wharf(&["rm", "first", "second"]).ok();
    let mount = |part: &str| format!("type=image,source=data:2,target=/i{part}");
    let run = |part: &str, script: &str| {
        engine.wharf(&["run", "--rm", "--mount", &mount(part), "busybox", "sh", "-c", script])
    };
    assert_eq!(run("", "cat /i/data/*/*; ls /i/bin/busybox").ok(), "two\n2\n/i/bin/busybox\n");
    assert_eq!(run(",image-subpath=data/hidden", "ls /i").ok(), "new\n");
    assert_eq!(run(",image-subpath=data", "cat /i/kept/other; ls /i/hidden").ok(), "2\nnew\n");
    assert_eq!(run(",image-subpath=data/kept/other", "cat /i").ok(), "2\n");
    assert_ne!(run("", "touch /i/new").code, 0, "read-only");
    let missing = run(",image-subpath=data/kept/file", "true");
    assert!(missing.code == 127 && missing.stderr.contains("no such file or directory"), "{missing:?}");
    // The image's layers stay for as long as a container mounts them.
    engine
        .wharf(&["create", "--name", "user", "--mount", &mount(""), "busybox", "cat", "/i/data/hidden/new"])
        .ok();
    let kind =
        both(&engine, &["inspect", "-f", "{{(index .Mounts 0).Type}} {{(index .Mounts 0).RW}}", "user"])
            .line();
    assert_eq!(kind, "image false");
    let copied = engine.wharf(&["cp", "user:/i/data/kept/other", "-"]);
    assert!(copied.code == 0 && copied.stdout.contains("2\n"), "{copied:?}");
    let refused = engine.wharf(&["rmi", "data:2"]);
    assert!(refused.stderr.contains("user") || refused.stderr.contains("using"), "{refused:?}");
    engine.wharf(&["rmi", "-f", "data:2", "data:1"]);
    assert_eq!(engine.wharf(&["start", "-a", "user"]).ok(), "two\n");
    engine.wharf(&["rm", "user"]).ok();
    let absent = engine.wharf(&[
        "create",
        "--pull",
        "never",
        "--mount",
        "type=image,source=nosuch,target=/i",
        "busybox",
    ]);
    assert!(absent.stderr.contains("No such image: nosuch"), "{absent:?}");
}

/// Wrong or odd `-v`. Docker takes one letter before a colon for a drive, and two characters for a path.
const VOLUMES: &[&str] = &[
    "",
    "vol:",
    ":/b",
    "vol:b",
    "/a:b",
    "vol:/b:ro:dd",
    "/a:/b:rw:z:x",
    "/a:/b:nosuch",
    "vol:/",
    "/:/",
    "/a:/b:ro,rw",
    "/a:/b:rshared,rslave",
    "vol:/b:rprivate",
    "vol:/b:z,Z",
    "..:/b",
    "vol:/b:nocopy,nocopy",
    "/b/../..:ro",
    "a/b:/c",
    "a b:/c",
    "-v:/c",
    "/a:/b:nocopy",
];
/// Wrong or odd `--mount`.
const MOUNTS: &[&str] = &[
    "",
    "type",
    "type=",
    "type=bind",
    "type=volume",
    "type=nosuch,target=/a",
    "type=bind,src=/nosuch,dst=/a",
    "type=bind,src=relative,dst=/a",
    "type=bind,dst=/a",
    "src=a",
    "type=volume,src=a/b,dst=/a",
    "type=bind,src=/,dst=a",
    "type=tmpfs,dst=/a,tmpfs-size=much",
    "type=tmpfs,dst=/a,tmpfs-mode=9",
    "type=tmpfs,src=x,dst=/a",
    "type=volume,dst=/a,bind-propagation=shared",
    "type=bind,src=/,dst=/a,volume-nocopy",
    "type=bind,src=/,dst=/a,bind-propagation=sideways",
    "type=bind,src=/,dst=/a,readonly=perhaps",
    "type=bind,src=/,dst=/a,nosuch=1",
    "type=volume,dst=/a,tmpfs-size=1m",
    "type=volume,src=new,dst=/a,volume-opt=x",
    "type=volume,src=a,dst=/a,volume-driver=nosuch",
    "type=npipe,src=a,dst=/a",
    "type=cluster,src=a,dst=/a",
    "type=volume,src=a,dst=/",
    "type=bind,src=/,dst=/a,bind-recursive=perhaps",
    "type=bind,src=/,dst=/a,bind-recursive=readonly",
    "type=bind,src=/,dst=/a,bind-nonrecursive,bind-recursive=writable",
    "type=image,dst=/a",
    "type=image,src=nosuch,dst=/a",
    "type=bind,\"src=/,dst=/a",
    "target=/a,target=/b,type",
    "type=volume,src=vol,dst=/a,volume-subpath=../x",
    "type=volume,dst=/a,ro",
];
/// Wrong or odd `--tmpfs`.
const TMPFS: &[&str] = &["", "a", "/", "/a:size=much", "/a:nosuch", "/a:exec,noexec,x=y"];

/// What each command line refuses itself is compared with Docker's; what the daemon refuses has dockerd's words.
#[test]
fn wrong_mounts_are_refused_in_dockers_words() {
    let engine = Engine::with_busybox();
    let there = engine.folder().display().to_string();
    let flags = [("-v", VOLUMES), ("--mount", MOUNTS), ("--tmpfs", TMPFS)];
    let all = flags.iter().flat_map(|(flag, texts)| texts.iter().map(move |text| (*flag, *text)));
    let (mut taken, mut different) = (Vec::new(), Vec::new());
    for (flag, text) in all {
        let create = ["create", "--pull", "never", flag, text, "busybox"];
        let outputs: Vec<Output> = command_lines().iter().map(|line| line.run(&engine, &create)).collect();
        let plain: Vec<(String, i32)> =
            outputs.iter().map(|output| (output.stderr.replace("wharf", "docker"), output.code)).collect();
        if plain.iter().any(|one| Some(one) != plain.first()) {
            different.push(format!("{flag} {text}: {plain:#?}"));
        }
        if outputs.iter().all(|output| output.code == 0) {
            taken.push(text);
        } else {
            let told = |(said, code): &(String, i32)| !said.trim().is_empty() && matches!(code, 1 | 125);
            assert!(plain.iter().all(told), "{flag} {text}: {outputs:?}");
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    println!("taken, as by Docker's command line: {taken:?}");
    // Two at one place, whatever they are.
    let bind = format!("type=bind,src={there},dst=/a");
    for flags in [
        ["-v", "one:/a", "-v", "two:/a"],
        ["-v", "one:/a", "--mount", &bind],
        ["--mount", &bind, "--tmpfs", "/a"],
    ] {
        let refused = both(&engine, &[&["create"][..], &flags, &["busybox"]].concat());
        assert!(refused.stderr.contains("Duplicate mount point: /a"), "{flags:?}: {refused:?}");
    }
}

/// `idmap`: who owns a file on the host and who is shown as its owner are two things, for a folder, a volume, and `cp`.
#[test]
fn owners_are_shown_as_others() {
    use std::os::unix::fs::MetadataExt as _;
    let engine = Engine::with_busybox();
    let folder = engine.folder().join("host");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("theirs"), "theirs\n").unwrap();
    for path in [&folder, &folder.join("theirs")] {
        std::os::unix::fs::chown(path, Some(1000), Some(1001)).unwrap();
    }
    let owner = |name: &str| {
        let file = std::fs::metadata(folder.join(name)).unwrap();
        (file.uid(), file.gid())
    };
    let map = "idmap=uids=1000-0-1;gids=1001-0-1";
    let script = |name: &str| format!("stat -c '%u %g' /d/theirs && touch /d/{name}");
    let bind = format!("{}:/d:{map}", folder.display());
    for line in command_lines() {
        let name = format!("{line:?}");
        let run = ["run", "--rm", "-v", &bind, "busybox", "sh", "-c", &script(&name)];
        assert_eq!(line.run(&engine, &run).ok(), "0 0\n", "{line:?}");
        assert_eq!(owner(&name), (1000, 1001), "{line:?}");
    }
    let mount = format!("type=bind,source={},target=/d,{map}", folder.display());
    let run = ["run", "--name", "box", "--mount", &mount, "busybox", "sh", "-c", &script("long")];
    assert_eq!(engine.wharf(&run).ok(), "0 0\n");
    let files = engine.folder().join("plain");
    std::fs::write(&files, "roots\n").unwrap();
    engine.wharf(&["cp", &files.display().to_string(), "box:/d/copied"]).ok();
    assert_eq!(owner("copied"), (1000, 1001), "as the container would have made it");
    // Whoever is not in the map is nobody, and owns nothing new.
    let other = ["run", "--rm", "-u", "5", "-v", &bind, "busybox", "touch", "/d/x"];
    assert_ne!(engine.wharf(&other).code, 0);
    let volume =
        ["run", "--rm", "-v", "named:/d:idmap=uids=7-0-1;gids=7-0-1", "busybox", "stat", "-c", "%u", "/d"];
    assert_eq!(engine.wharf(&volume).ok(), "65534\n");
    for wrong in ["idmap", "idmap=uids=1-2", "idmap=uids=0-0-5#3-9-1"] {
        let refused = both(&engine, &["run", "--rm", "-v", &format!("/tmp:/d:{wrong}"), "busybox", "true"]);
        assert!(refused.code == 125 && refused.stderr.contains("idmap"), "{wrong}: {}", refused.stderr);
    }
}
