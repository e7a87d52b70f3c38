//! runc's command line, called in process.

mod common;

use common::{Bench, Switch};
use std::path::Path;
use std::process::ExitCode;

fn run(root: &Path, line: &[&str]) -> bool {
    let mut arguments = vec!["--root".to_owned(), root.display().to_string()];
    arguments.extend(line.iter().map(|&word| word.to_owned()));
    let code = runtime::command::main(&arguments);
    format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
}

#[test]
#[ignore = "root: runs containers"]
fn a_container_is_created_started_paused_killed_and_deleted() {
    let bench = Bench::new(Switch::Pivot);
    let (root, bundle) = (bench.base.join("state"), bench.base.join("bundle"));
    std::fs::create_dir_all(&bundle).unwrap();
    let mut spec = bench.spec(&["sleep", "100"]);
    spec.root.as_mut().unwrap().path = bench.lower().to_str().unwrap().to_owned();
    spec.linux.as_mut().unwrap().cgroups_path = Some(bench.cgroup.clone());
    std::fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    let pid_file = bench.base.join("pid");
    let status = || {
        let text = std::fs::read_to_string(root.join("c/state.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        let alive = std::fs::metadata(format!("/proc/{}/exe", record["pid"])).is_ok();
        (alive, root.join("c/start.sock").exists())
    };
    let create =
        ["create", "--bundle", bundle.to_str().unwrap(), "--pid-file", pid_file.to_str().unwrap(), "c"];
    assert!(run(&root, &create));
    assert_eq!(status(), (true, true));
    assert!(std::fs::read_to_string(&pid_file).unwrap().parse::<u32>().is_ok());
    assert!(!run(&root, &create), "the name is taken");
    assert!(run(&root, &["start", "c"]));
    assert_eq!(status(), (true, false));
    assert!(!run(&root, &["start", "c"]), "it runs already");
    assert!(!run(&root, &["delete", "c"]), "it still runs");
    assert!(run(&root, &["pause", "c"]));
    assert!(!run(&root, &["exec", "c", "true"]), "it is paused");
    assert!(run(&root, &["resume", "c"]));
    assert!(run(&root, &["exec", "c", "true"]));
    assert!(!run(&root, &["exec", "c", "nosuch"]));
    assert!(run(&root, &["update", "--pids-limit", "50", "c"]));
    assert!(run(&root, &["delete", "--force", "c"]));
    assert!(!root.join("c").exists());
    assert!(!run(&root, &["state", "c"]));
    assert!(run(&root, &["delete", "--force", "c"]));
}
