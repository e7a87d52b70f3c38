//! Build contexts: what of them travels, and those from elsewhere (archives and repositories by URL), with ssh agents.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code: a failed set-up ends the test")]

use e2e::building::{build, context, in_image, text};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::{Engine, Scratch};

/// A socket that passes everything on to the engine's, and counts what goes there.
fn counting(engine: &Engine, folder: &Scratch) -> (String, Arc<AtomicU64>) {
    let path = folder.join("counting.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let there = engine.host().trim_start_matches("unix://").to_owned();
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let engine = UnixStream::connect(&there).unwrap();
            let back = (engine.try_clone().unwrap(), client.try_clone().unwrap());
            let count = Arc::clone(&count);
            std::thread::spawn(move || pass(client, engine, &count));
            std::thread::spawn(move || pass(back.0, back.1, &AtomicU64::new(0)));
        }
    });
    (format!("unix://{}", text(&path)), sent)
}

fn pass(mut from: UnixStream, mut to: UnixStream, count: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length) = from.read(&mut buffer) {
        count.fetch_add(length as u64, Ordering::SeqCst);
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}

const SHOW: &str = "cd /all && find . | LC_ALL=C sort | grep -v -e ocker -e skip | while read f; do test -f $f && ! test -L $f && echo \"$f $(stat -c %a $f) $(head -c 9 $f)\" || echo \"$f $(readlink $f)\"; done";

fn shown(folder: &Path) -> String {
    let script = SHOW.replace("/all", &text(folder));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn only_what_has_changed_travels() {
    let engine = Engine::with_busybox();
    let sockets = Scratch::new();
    let (host, sent) = counting(&engine, &sockets);
    let context = context(&[
        ("Dockerfile", "FROM busybox\nCOPY . /all/\n"),
        ("d/small", "small"),
        ("gone/x", "x"),
        (".dockerignore", "Dockerfile\n.dockerignore\n*.skip\n"),
        ("not.skip", "not"),
        ("turns/into", "a file"),
    ]);
    let big: Vec<u8> = (0..4_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    std::fs::write(context.join("big"), &big).unwrap();
    symlink("d/small", context.join("link")).unwrap();
    let built = |what: &str| {
        sent.store(0, Ordering::SeqCst);
        let mut command = engine.wharf_command();
        command.args(["-H", &host, "build", "-q", "-t", "built"]).arg(context.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        let expect = shown(context.path());
        assert_eq!(in_image(&engine, SHOW), expect, "{what}");
        (sent.load(Ordering::SeqCst), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let (all, first) = built("all of it");
    assert!(all > 4_000_000, "{all} bytes");
    // What is as new as the list of it is sent once more.
    built("what may have changed meanwhile");
    let (none, again) = built("nothing new");
    assert!(none < 20_000, "{none} bytes");
    assert_eq!(again, first);
    std::fs::write(context.join("d/small"), "other").unwrap();
    std::fs::write(context.join("d/new"), "new").unwrap();
    std::fs::remove_dir_all(context.join("gone")).unwrap();
    std::fs::remove_dir_all(context.join("turns")).unwrap();
    std::fs::write(context.join("turns"), "now a file").unwrap();
    std::fs::remove_file(context.join("link")).unwrap();
    symlink("d/new", context.join("link")).unwrap();
    let (few, changed) = built("some changes");
    assert!(few < 20_000, "{few} bytes");
    assert_ne!(changed, first);
    std::fs::set_permissions(context.join("d/new"), std::fs::Permissions::from_mode(0o700)).unwrap();
    built("another mode");
    // What stays here is in the cache's list, and goes with it; the next build sends all again.
    engine.wharf(&["builder", "prune", "-af", "--filter", "type=source.local"]).ok();
    let (all, _) = built("all of it again");
    assert!(all > 4_000_000, "{all} bytes");
}

#[test]
fn builds_of_one_context_at_the_same_time() {
    let engine = Engine::with_busybox();
    let context =
        context(&[("Dockerfile", "FROM busybox\nCOPY . /all/\nRUN cat /all/f > /read\n"), ("f", "1")]);
    build(&engine, &context, &[]).ok();
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4)
            .map(|number| {
                let (engine, context) = (&engine, &context);
                let tag = format!("many:{number}");
                scope.spawn(move || build(engine, context, &["--no-cache", "-t", &tag]).ok())
            })
            .collect();
        for build in builds {
            build.join().unwrap();
        }
    });
    assert_eq!(in_image(&engine, "cat /read"), "1");
}
