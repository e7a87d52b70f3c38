//! What tutorials have their readers do, step by step, in the words they use: old flags, short identifiers, pipes.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use e2e::both;
use std::process::Stdio;
use std::time::Duration;
use testkit::{Engine, Registry, until};

/// Runs a line of a tutorial in a shell, `docker` being ours.
fn follow(engine: &Engine, line: &str) -> testkit::Output {
    let (program, folder) = (Engine::executable(), engine.folder().display());
    let script = format!("docker() {{ {} \"$@\"; }}\ncd {folder}\n{line}", program.display());
    let output =
        engine.command("bash").args(["-c", &script]).stdin(Stdio::null()).output().expect("run a shell");
    testkit::Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

#[test]
fn first_steps() {
    let engine = Engine::with_busybox();
    let step = |line: &str| follow(&engine, line).ok();
    step(
        "docker tag busybox ubuntu; docker tag busybox centos:latest; mkdir data; echo page > data/index.html",
    );
    assert!(step("docker version; docker info; docker --help").contains("Storage Driver"));
    assert_eq!(step("docker images ubuntu | tail -n +2 | wc -l"), "1\n");
    assert_eq!(step("docker run ubuntu /bin/echo 'Hello world'"), "Hello world\n");
    let run =
        "docker run -d -it --restart=always --name CJY_TEST -p 8080:80 -v $PWD/data:/var/www/html centos";
    let id = step(run);
    let short = id.get(..4).unwrap();
    assert_eq!(step(&format!("docker exec {short} cat /var/www/html/index.html")), "page\n");
    assert_eq!(
        step("docker ps -l --format '{{.Names}} {{.Ports}}'"),
        "CJY_TEST 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp\n"
    );
    assert_eq!(step("docker ps -n=4 -q | head -1").trim(), id.get(..12).unwrap());
    step("docker exec CJY_TEST sh -c 'echo a > /new; rm -r /home'; docker restart -t 1 CJY_TEST");
    let diff = step("docker diff CJY_TEST | sort");
    assert!(diff.contains("A /new\n") && diff.contains("D /home\n"), "{diff}");
    assert!(step("docker top CJY_TEST").contains("sh"));
    step("docker kill -s \"KILL\" CJY_TEST");
    until("the end", Duration::from_secs(5), || step("docker ps -q").is_empty().then_some(()));
    step("docker start CJY_TEST; docker pause CJY_TEST");
    assert!(step("docker ps").contains("(Paused)"));
    step("docker unpause CJY_TEST");
    assert!(step("docker logs --tail=\"10\" -t CJY_TEST").contains("built-in shell"));
    step("docker commit -m 'add new file' -a 'Docker Newbee' CJY_TEST test:0.1");
    assert_eq!(step("docker inspect -f '{{.Author}} {{.Comment}}' test:0.1"), "Docker Newbee add new file\n");
    assert_eq!(step("docker run --rm test:0.1 cat /new"), "a\n");
    assert!(step("docker history test:0.1").contains("add new file"));
    // Images and containers by file.
    step("docker save ubuntu -o ubuntu.tar; docker export CJY_TEST > centos.tar");
    step("docker rmi -f ubuntu; docker load < ubuntu.tar; docker load -i ubuntu.tar");
    step("cat centos.tar | docker import - registry.intra.example.com/user/centos:v2.0");
    assert_eq!(step("docker run --rm registry.intra.example.com/user/centos:v2.0 cat /new"), "a\n");
    step("docker cp CJY_TEST:/new here; docker cp here CJY_TEST:/there; docker exec CJY_TEST cat /there");
    step(
        "docker create -it --name aside ubuntu:latest; docker start aside; docker stop -t 1 aside; docker rm aside",
    );
    step("docker stop -t 1 CJY_TEST; docker rm $(docker ps -aq); docker rmi test:0.1");
    assert_eq!(step("docker ps -aq"), "");
}

#[test]
fn data_volumes() {
    let engine = Engine::with_busybox();
    let step = |line: &str| follow(&engine, line).ok();
    step("docker tag busybox ubuntu; docker volume create -d local test");
    assert_eq!(step("docker volume ls -q"), "test\n");
    // A container for data, shared by others.
    step("docker run -v /dbdata --name dbdata ubuntu true; mkdir webapp; echo app > webapp/app.py");
    step("docker run --volumes-from dbdata --name db1 ubuntu sh -c 'echo row > /dbdata/table'");
    assert_eq!(step("docker run --rm --volumes-from db1 ubuntu cat /dbdata/table"), "row\n");
    // Backup, and into another.
    step(
        "docker run --rm --volumes-from dbdata -v $(pwd):/backup --name worker ubuntu tar cf /backup/backup.tar /dbdata",
    );
    step("docker run -v /dbdata --name dbdata2 ubuntu true");
    step("docker run --rm --volumes-from dbdata2 -v $(pwd):/backup ubuntu tar xf /backup/backup.tar");
    assert_eq!(step("docker run --rm --volumes-from dbdata2:ro ubuntu cat /dbdata/table"), "row\n");
    assert_ne!(follow(&engine, "docker run --rm --volumes-from dbdata2:ro ubuntu touch /dbdata/new").code, 0);
    // To another engine, by the file.
    let second = Engine::with_busybox();
    let backup = engine.folder().join("backup.tar").display().to_string();
    second.wharf(&["run", "-v", "/dbdata", "--name", "dbdata", "busybox", "true"]).ok();
    let bind = format!("{backup}:/backup.tar:ro");
    second
        .wharf(&[
            "run",
            "--rm",
            "--volumes-from",
            "dbdata",
            "-v",
            &bind,
            "busybox",
            "tar",
            "xf",
            "/backup.tar",
        ])
        .ok();
    let rows = ["run", "--rm", "--volumes-from", "dbdata", "busybox", "cat", "/dbdata/table"];
    assert_eq!(second.wharf(&rows).ok(), "row\n");
    // Folders and single files of the host, read-only too.
    let mount = "docker run --rm --mount type=bind,source=$PWD/webapp,destination=/opt/webapp ubuntu cat /opt/webapp/app.py";
    assert_eq!(step(mount), "app\n");
    assert_ne!(follow(&engine, "docker run --rm -v $PWD/webapp:/opt:ro ubuntu touch /opt/new").code, 0);
    assert_eq!(step("docker run --rm -v $PWD/webapp/app.py:/one ubuntu cat /one"), "app\n");
    // A volume goes with the last container that has it.
    assert_eq!(
        step("docker rm -v dbdata dbdata2; docker volume ls -q | wc -l"),
        "dbdata\ndbdata2\n2\n",
        "db1 has one still"
    );
    step("docker rm -v db1");
    assert_eq!(step("docker volume ls -q"), "test\n");
}

#[test]
fn ports_and_a_private_registry() {
    let engine = Engine::with_busybox();
    let step = |line: &str| follow(&engine, line).ok();
    step("docker tag busybox training/webapp");
    step("docker run -d -p 5001:5000 -p 3000:80 --name both training/webapp sleep 100");
    assert_eq!(step("docker port both 80"), "0.0.0.0:3000\n[::]:3000\n");
    step("docker run -d -p 127.0.0.1::5000 --name any training/webapp sleep 100");
    assert!(step("docker port any 5000").starts_with("127.0.0.1:"));
    step("docker run -d -p 127.0.0.1:5002:5000/udp --name udp training/webapp sleep 100");
    assert_eq!(step("docker port udp"), "5000/udp -> 127.0.0.1:5002\n");
    step("docker run -d -P --expose 80 --name all training/webapp sleep 100");
    assert!(step("docker port all").starts_with("80/tcp -> 0.0.0.0:"));
    step("docker run -d --name db training/webapp sleep 100");
    assert!(step("docker run --rm --link db:db training/webapp env").contains("DB_NAME="));
    let registry = Registry::start(engine.namespaces());
    let name = format!("{}/user/test:latest", Registry::HOST);
    step(&format!(
        "docker tag busybox {name} && docker push {name} && docker rmi {name} && docker pull {name}"
    ));
    drop(registry);
    // Flags that have gone since are taken and said to be old, or simply taken.
    let login = follow(&engine, "docker login -u a -p b -e x@example.com 127.0.0.1:1");
    assert!(login.code == 1 && login.stderr.contains("connection refused"), "{login:?}");
    let search = follow(&engine, "docker search -s 40 --automated --no-trunc 127.0.0.1:1/django");
    assert!(search.code == 1 && !search.stderr.contains("unknown"), "{search:?}");
    assert_eq!(both(&engine, &["ps", "-q"]).stdout.lines().count(), 5);
    step("docker rm -f $(docker ps -aq)");
}
