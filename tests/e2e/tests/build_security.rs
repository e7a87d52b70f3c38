//! What a build must not do: lead out of it, get more than it is given, keep secrets. The builder's rows of the list of
//! attacks are named at the tests.

use e2e::building::{build, context, in_image, text};
use std::path::Path;
use testkit::{Engine, Scratch};

/// Says whether any file below a folder holds these bytes.
fn holds(folder: &Path, needle: &[u8]) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            if let Some(found) = holds(&path, needle) {
                return Some(found);
            }
        } else if metadata.is_file()
            && std::fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle))
        {
            return Some(path);
        }
    }
    None
}

#[test]
fn secrets_stay_nowhere() {
    let engine = Engine::with_busybox();
    let secret = "tr0ub4dor-and-3-dragons";
    let file = "FROM busybox\nRUN --mount=type=secret,id=k,mode=0440,uid=1000 stat -c '%a %u' /run/secrets/k > /seen && wc -c < /run/secrets/k >> /seen\nRUN --mount=type=secret,id=k,env=KEY test ${#KEY} = 23\nRUN test ! -e /run/secrets && test -z \"$KEY\"\n";
    let context = context(&[("Dockerfile", file)]);
    let keys = Scratch::new();
    std::fs::write(keys.join("key"), secret).unwrap();
    let flag = format!("id=k,src={}", text(&keys.join("key")));
    let output = build(&engine, &context, &["--secret", &flag]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(in_image(&engine, "cat /seen"), "440 1000\n23");
    // Another value is no other build.
    std::fs::write(keys.join("key"), "another value").unwrap();
    let again = build(&engine, &context, &["--secret", &flag]);
    assert_eq!(again.stderr.matches(" CACHED").count(), 3, "{}", again.stderr);
    assert_eq!(holds(engine.folder(), secret.as_bytes()), None, "data, logs, sockets' folders");
    assert!(!engine.wharf(&["history", "--no-trunc", "built"]).ok().contains(secret));
}

/// CVE-2024-23652, CVE-2024-23653, CVE-2024-23651 and their like.
#[test]
fn nothing_leads_out_of_a_build() {
    let engine = Engine::with_busybox();
    let outside = Scratch::new();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    let there = text(outside.path());
    let attack = |name: &str, file: &str| {
        let context = context(&[("Dockerfile", file), ("evil", "evil")]);
        std::os::unix::fs::symlink(&there, context.join("link")).unwrap();
        let output = build(&engine, &context, &["--no-cache"]);
        assert_eq!(std::fs::read_to_string(outside.join("precious")).unwrap(), "precious", "{name}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{name}: {}", output.stderr);
        output
    };
    // The mount point becomes a link while the command runs; cleaning up must not follow it.
    let link = format!("ln -s {there} /made");
    attack(
        "mount point",
        &format!(
            "FROM busybox\nRUN --mount=type=tmpfs,target=/made/point rm -rf /made 2>/dev/null; mv /made /away; {link}; true\nRUN ls /made/ 2>/dev/null; true\n"
        ),
    );
    // Links in the image, in the context and in stages lead to somewhere inside.
    attack(
        "copy to a link",
        &format!(
            "FROM busybox\nRUN {link}\nCOPY evil /made/precious\nCOPY evil /made/new\nWORKDIR /made/folder\n"
        ),
    );
    let through = attack("copy from a link", "FROM busybox\nCOPY link/precious /stolen\n");
    assert_ne!(through.code, 0, "the context's link leads out");
    attack(
        "bind a link",
        "FROM busybox\nRUN --mount=type=bind,source=link,target=/m,rw rm -rf /m/precious; touch /m/new\n",
    );
    attack(
        "mount on a link",
        &format!(
            "FROM busybox\nRUN {link}\nRUN --mount=type=cache,target=/made/c touch /made/c/x /made/new; true\n"
        ),
    );
    attack(
        "link in a cache",
        &format!(
            "FROM busybox\nRUN --mount=type=cache,id=c,target=/c ln -s {there} /c/link\nRUN --mount=type=cache,id=c,target=/c rm -rf /c/link/precious; touch /c/link/new; true\n"
        ),
    );
    // Every way to ask for more than a container may.
    for flag in ["--security=insecure", "--network=host"] {
        let output = attack(flag, &format!("FROM busybox\nRUN {flag} true\n"));
        assert!(output.stderr.contains("is not allowed"), "{}", output.stderr);
    }
    let trigger = attack("trigger", "FROM busybox AS b\nONBUILD RUN --security=insecure true\nFROM b\n");
    assert!(trigger.stderr.contains("security.insecure is not allowed"), "{}", trigger.stderr);
    let capabilities = context(&[(
        "Dockerfile",
        "FROM busybox\nRUN grep CapEff /proc/self/status > /caps; mount -t tmpfs x /tmp 2>/dev/null && exit 9; exit 0\n",
    )]);
    assert_eq!(build(&engine, &capabilities, &[]).code, 0);
    assert_eq!(in_image(&engine, "cat /caps"), "CapEff:\t00000000a80425fb");
}
