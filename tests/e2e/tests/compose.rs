//! docker-compose, unmodified, where the distribution has it.

use e2e::bundle::skipped;
use std::process::Stdio;
use testkit::Engine;

const PROJECT: &str = r#"
version: "3.8"
services:
  web:
    build: ./app
    ports: ["8090:80"]
    environment: {GREETING: hello}
    depends_on: [db]
    volumes: ["data:/data", "./app:/src:ro"]
    healthcheck: {test: ["CMD", "true"], interval: 1s}
    restart: unless-stopped
    logging: {driver: json-file, options: {max-size: "1m"}}
    deploy: {resources: {limits: {memory: 64M}}}
  db:
    image: busybox
    command: sleep 1000
    networks: {default: {aliases: [database]}}
    tmpfs: /scratch
    ulimits: {nofile: {soft: 1000, hard: 2000}}
    sysctls: {net.core.somaxconn: 1024}
    cap_add: [NET_ADMIN]
volumes: {data: {labels: {kind: test}}}
networks: {default: {driver: bridge, ipam: {config: [{subnet: 10.77.0.0/24}]}}}
"#;

#[test]
fn a_project_comes_and_goes() {
    let engine = Engine::with_busybox();
    if !engine.run("which", &["docker-compose"]).stdout.contains("docker-compose") {
        return skipped("docker-compose is not installed");
    }
    let folder = engine.folder().join("project");
    std::fs::create_dir_all(folder.join("app")).expect("make a folder");
    std::fs::write(folder.join("docker-compose.yml"), PROJECT).expect("write the project");
    let dockerfile =
        "FROM busybox\nRUN echo page > /index.html\nCMD [\"httpd\",\"-f\",\"-p\",\"80\",\"-h\",\"/\"]\n";
    std::fs::write(folder.join("app/Dockerfile"), dockerfile).expect("write the Dockerfile");
    let before = engine.wharf(&["volume", "ls", "-q"]).ok();
    let compose = |arguments: &[&str]| {
        let mut command = engine.command("docker-compose");
        command.args(["--project-directory", &folder.display().to_string()]);
        command.args(["-f", &folder.join("docker-compose.yml").display().to_string()]).args(arguments);
        let output =
            command.env("DOCKER_BUILDKIT", "0").stdin(Stdio::null()).output().expect("run docker-compose");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    compose(&["up", "-d", "--build"]);
    let found = compose(&["exec", "-T", "web", "nslookup", "-type=a", "database"]);
    assert!(found.contains("Address: 10.77.0."), "{found}");
    testkit::until("the page", std::time::Duration::from_secs(10), || {
        let page = engine.run("curl", &["-s", "-m", "2", "http://127.0.0.1:8090/index.html"]).stdout;
        (page == "page\n").then_some(())
    });
    assert_eq!(compose(&["port", "web", "80"]).trim(), "0.0.0.0:8090");
    assert!(compose(&["run", "--rm", "db", "echo", "once"]).ends_with("once\n"));
    compose(&["up", "-d", "--scale", "db=2"]);
    assert_eq!(compose(&["ps", "-q"]).lines().count(), 3);
    // What is as it should be stays.
    let before_again = compose(&["ps", "-q", "web"]);
    compose(&["up", "-d", "--scale", "db=1"]);
    assert_eq!(compose(&["ps", "-q", "web"]), before_again);
    compose(&["restart", "-t", "0", "db"]);
    compose(&["down", "-v", "-t", "0", "--rmi", "local"]);
    assert_eq!(engine.wharf(&["ps", "-aq"]).ok(), "");
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).ok(), before);
    assert_eq!(engine.wharf(&["network", "ls", "-q"]).ok().lines().count(), 3);
}
