//! The images that tutorials build, from Dockerfile to an answered request: redis, memcached, nginx, and sshd under
//! supervisor. Packages come from Debian by mmdebstrap on the host, as the base `debian`; making that takes a minute, so
//! these run with `WHARF_REAL=1`.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use e2e::building::{context, text};
use std::process::Command;
use std::time::Duration;
use testkit::{Engine, Output, Scratch, image, until};

const PACKAGES: &str = "redis-server,memcached,nginx-light,openssh-server,supervisor";

/// The base, as an archive; `None`, which is said, where it cannot be had or is not wanted.
fn base(folder: &Scratch) -> Option<std::path::PathBuf> {
    if std::env::var_os("WHARF_REAL").is_none() {
        say("skipped: the images of tutorials, which take minutes: set WHARF_REAL=1");
        return None;
    }
    let (tree, archive) = (folder.join("tree.tar"), folder.join("image.tar"));
    let include = format!("--include={PACKAGES}");
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", &include, "bookworm"])
        .arg(&tree)
        .output();
    match made {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            say(&format!("skipped: mmdebstrap failed: {}", String::from_utf8_lossy(&output.stderr)));
            return None;
        }
        Err(error) => {
            say(&format!("skipped: mmdebstrap: {error}"));
            return None;
        }
    }
    let config = serde_json::json!({"Cmd": ["bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
    image::write_archive(
        &archive,
        &["debian:12", "debian:latest"],
        &[std::fs::read(tree).expect("read the tree")],
        &config,
    );
    Some(archive)
}

#[expect(clippy::print_stderr, reason = "what is skipped is said")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// A service: its files, the flags of its container, and a request with what the answer has in it.
struct Service {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    flags: &'static [&'static str],
    request: &'static str,
    answer: &'static str,
}

const SERVICES: &[Service] = &[
    Service {
        name: "redis",
        files: &[
            (
                "Dockerfile",
                "FROM debian\nMAINTAINER Docker Newbee <newbee@example.com>\nENV PORT 6379\nADD redis.conf /etc/redis/own.conf\nRUN mkdir -p /data && chown redis:redis /data\nVOLUME [\"/data\"]\nWORKDIR /data\nEXPOSE 6379\nENTRYPOINT [\"/usr/bin/redis-server\"]\nCMD [\"/etc/redis/own.conf\"]\n",
            ),
            ("redis.conf", "bind 0.0.0.0\nprotected-mode no\ndir /data\nport 6379\n"),
        ],
        flags: &["-p", "16379:6379"],
        request: "exec 3<>/dev/tcp/127.0.0.1/16379; printf 'SET a wharf\\r\\nGET a\\r\\nQUIT\\r\\n' >&3; cat <&3",
        answer: "wharf",
    },
    Service {
        name: "memcached",
        files: &[(
            "Dockerfile",
            "FROM debian:12\nMAINTAINER me\nEXPOSE 11211\nUSER memcache\nENTRYPOINT [\"memcached\"]\nCMD [\"-m\", \"16\", \"-l\", \"0.0.0.0\"]\n",
        )],
        flags: &["-p", "11211:11211"],
        request: "exec 3<>/dev/tcp/127.0.0.1/11211; printf 'set a 0 60 5\\r\\nwharf\\r\\nget a\\r\\nquit\\r\\n' >&3; cat <&3",
        answer: "VALUE a 0 5",
    },
    Service {
        name: "nginx",
        files: &[
            (
                "Dockerfile",
                "FROM debian\nMAINTAINER me\nRUN echo 'daemon off;' >> /etc/nginx/nginx.conf \\\n && rm -f /var/www/html/*\nADD site /var/www/html\nVOLUME [\"/var/log/nginx\"]\nWORKDIR /etc/nginx\nEXPOSE 80\nCMD nginx\n",
            ),
            ("site/index.html", "a page of nginx"),
        ],
        flags: &["-p", "8080:80"],
        request: "curl -s --max-time 5 http://127.0.0.1:8080/",
        answer: "a page of nginx",
    },
    Service {
        name: "sshd",
        files: &[
            (
                "Dockerfile",
                "FROM debian\nMAINTAINER me\nRUN mkdir -p /var/run/sshd /var/log/supervisor && sed -ri 's/session    required     pam_loginuid.so/#&/g' /etc/pam.d/sshd\nCOPY supervisord.conf /etc/supervisor/conf.d/supervisord.conf\nEXPOSE 22\nCMD [\"/usr/bin/supervisord\"]\n",
            ),
            (
                "supervisord.conf",
                "[supervisord]\nnodaemon=true\nuser=root\n[program:sshd]\ncommand=/usr/sbin/sshd -D\n",
            ),
        ],
        flags: &["-p", "2222:22"],
        request: "exec 3<>/dev/tcp/127.0.0.1/2222; head -1 <&3",
        answer: "SSH-2.0-OpenSSH",
    },
];

#[test]
fn tutorials_images_answer() {
    let folder = Scratch::new();
    let Some(base) = base(&folder) else { return };
    let engine = Engine::start();
    engine.wharf(&["load", "-q", "-i", &text(&base)]).ok();
    for Service { name, files, flags, request, answer } in SERVICES {
        let context = context(files);
        engine.wharf(&["build", "-q", "-t", name, &text(context.path())]).ok();
        engine.wharf(&[&["run", "-d", "--name", name], *flags, &[*name]].concat()).ok();
        let ask = || -> Output { engine.run("bash", &["-c", request]) };
        let asked = || ask().stdout.contains(answer).then_some(());
        until(&format!("{name} to answer"), Duration::from_secs(60), asked);
        engine.wharf(&["rm", "-f", "-v", name]).ok();
    }
}
