//! The images that tutorials build, from Dockerfile to an answered request: redis, memcached, nginx, Apache, sshd under
//! supervisor, a page of PHP that writes to a database, and two nodes of Tomcat behind a proxy. Packages come from Debian by
//! mmdebstrap on the host, as the base `debian`; making that takes minutes, so these run with `WHARF_REAL=1`.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use e2e::building::{context, text};
use std::process::Command;
use std::time::Duration;
use testkit::{Engine, Output, Scratch, image, until};

const SINGLE: &str = "redis-server,memcached,nginx-light,apache2,openssh-server,supervisor";
const SITE: &str = "mariadb-server,php-fpm,php-mysql,nginx-light,supervisor";
const NODES: &str = "tomcat10,nginx-light";

/// The base, as an archive; `None`, which is said, where it cannot be had or is not wanted.
fn base(folder: &Scratch, packages: &str) -> Option<std::path::PathBuf> {
    if std::env::var_os("WHARF_REAL").is_none() {
        say("skipped: the images of tutorials, which take minutes: set WHARF_REAL=1");
        return None;
    }
    let (tree, archive) = (folder.join("tree.tar"), folder.join("image.tar"));
    let include = format!("--include={packages}");
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
        name: "apache",
        files: &[
            (
                "Dockerfile",
                "FROM debian\nMAINTAINER me\nENV APACHE_RUN_USER www-data\nENV APACHE_RUN_GROUP www-data\nADD index.html /var/www/html/index.html\nEXPOSE 80\nENTRYPOINT [\"/usr/sbin/apache2ctl\"]\nCMD [\"-D\", \"FOREGROUND\"]\n",
            ),
            ("index.html", "a page of Apache"),
        ],
        flags: &["-p", "8081:80"],
        request: "curl -s --max-time 5 http://127.0.0.1:8081/",
        answer: "a page of Apache",
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
    let Some(base) = base(&folder, SINGLE) else { return };
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

/// Rows of the database survive the container: they are in a volume that the image's own tables were copied to.
#[test]
fn a_page_writes_to_a_database() {
    const PAGE: &str = "<?php $d = new mysqli('localhost', 'site', 'secret', 'site'); $d->query('INSERT INTO visits VALUES (NULL)');\n\
        echo 'visits: ' . $d->query('SELECT COUNT(*) FROM visits')->fetch_row()[0] . ' of ' . gethostname();\n";
    const PROGRAMS: &str = "[supervisord]\nnodaemon=true\nuser=root\n\
        [program:mariadb]\ncommand=/usr/sbin/mariadbd\nuser=mysql\n\
        [program:php]\ncommand=/usr/sbin/php-fpm8.2 -F\n\
        [program:nginx]\ncommand=/usr/sbin/nginx -g 'daemon off;'\n";
    const SERVER: &str = "server { listen 80 default_server; root /var/www/html; index index.php; location ~ \\.php$ { \
        include snippets/fastcgi-php.conf; fastcgi_pass unix:/run/php/php8.2-fpm.sock; } }\n";
    const SETUP: &str = "set -e\nmkdir -p /run/php; install -d -o mysql /run/mysqld\nsu mysql -s /bin/sh -c /usr/sbin/mariadbd &\n\
        until mariadb -e 'SELECT 1'; do sleep 0.2; done\n\
        mariadb -e \"CREATE DATABASE site; CREATE TABLE site.visits (number INT AUTO_INCREMENT PRIMARY KEY); \
        GRANT ALL ON site.* TO site@localhost IDENTIFIED BY 'secret'\"\nmariadb-admin shutdown\nwait\n";
    const DOCKERFILE: &str = "FROM debian\nMAINTAINER me\nADD programs.conf /etc/supervisor/conf.d/site.conf\n\
        ADD server.conf /etc/nginx/sites-available/default\nADD index.php /var/www/html/index.php\nADD setup.sh /setup.sh\n\
        RUN sh /setup.sh\nVOLUME [\"/var/lib/mysql\"]\nEXPOSE 80\nCMD [\"/usr/bin/supervisord\"]\n";
    let folder = Scratch::new();
    let Some(base) = base(&folder, SITE) else { return };
    let engine = Engine::start();
    engine.wharf(&["load", "-q", "-i", &text(&base)]).ok();
    let files = [
        ("Dockerfile", DOCKERFILE),
        ("programs.conf", PROGRAMS),
        ("server.conf", SERVER),
        ("index.php", PAGE),
        ("setup.sh", SETUP),
    ];
    engine.wharf(&["build", "-q", "-t", "site", &text(context(&files).path())]).ok();
    let visits = || -> Option<u32> {
        let page = engine.run("curl", &["-s", "--max-time", "5", "http://127.0.0.1:8080/"]).stdout;
        page.strip_prefix("visits: ")?.split(' ').next()?.parse().ok()
    };
    let mut before = 0;
    for round in ["first", "second"] {
        let run = ["run", "-d", "--name", round, "-v", "rows:/var/lib/mysql", "-p", "8080:80", "site"];
        engine.wharf(&run).ok();
        let now = until("the page", Duration::from_secs(90), visits);
        assert!(now > before, "{round}: {now} after {before}: the rows are gone");
        before = visits().expect("the page again");
        engine.wharf(&["stop", round]).ok();
        engine.wharf(&["rm", "-v", round]).ok();
    }
}

/// Two nodes of Tomcat by their names in a network of the user's, behind a proxy that asks them in turn.
#[test]
fn nodes_of_tomcat_behind_a_proxy() {
    const NODE: &str = "FROM debian\nMAINTAINER me\nENV CATALINA_HOME /usr/share/tomcat10\nENV CATALINA_BASE /var/lib/tomcat10\n\
        RUN mkdir -p /var/lib/tomcat10/webapps/ROOT\nADD start.sh /start.sh\nEXPOSE 8080\nENTRYPOINT [\"sh\", \"/start.sh\"]\n";
    const START: &str = "echo \"node $NODE\" > $CATALINA_BASE/webapps/ROOT/index.html\nexec $CATALINA_HOME/bin/catalina.sh run\n";
    const PROXY: &str = "FROM debian\nMAINTAINER me\nADD proxy.conf /etc/nginx/sites-available/default\nEXPOSE 80\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n";
    const TURNS: &str = "upstream nodes { server one:8080; server two:8080; }\nserver { listen 80; location / { proxy_pass http://nodes; } }\n";
    let folder = Scratch::new();
    let Some(base) = base(&folder, NODES) else { return };
    let engine = Engine::start();
    engine.wharf(&["load", "-q", "-i", &text(&base)]).ok();
    let node = context(&[("Dockerfile", NODE), ("start.sh", START)]);
    engine.wharf(&["build", "-q", "-t", "node", &text(node.path())]).ok();
    let proxy = context(&[("Dockerfile", PROXY), ("proxy.conf", TURNS)]);
    engine.wharf(&["build", "-q", "-t", "proxy", &text(proxy.path())]).ok();
    engine.wharf(&["network", "create", "farm"]).ok();
    for name in ["one", "two"] {
        let variable = format!("NODE={name}");
        engine.wharf(&["run", "-d", "--name", name, "--network", "farm", "-e", &variable, "node"]).ok();
    }
    engine.wharf(&["run", "-d", "--name", "proxy", "--network", "farm", "-p", "8080:80", "proxy"]).ok();
    let ask = || engine.run("curl", &["-s", "--max-time", "5", "http://127.0.0.1:8080/"]).stdout;
    until("both nodes to answer", Duration::from_secs(120), || {
        let answers: std::collections::BTreeSet<String> = (0..4).map(|_| ask()).collect();
        ["node one\n", "node two\n"].iter().all(|node| answers.contains(*node)).then_some(())
    });
}
