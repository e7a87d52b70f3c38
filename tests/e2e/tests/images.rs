//! Images from a registry and from files.

use e2e::both;
use e2e::bundle::in_terminal;
use testkit::{Engine, Random, Registry, Scratch, image};

#[test]
fn pull_run_save_load_remove() {
    let engine = Engine::start();
    let registry = Registry::start(engine.namespaces());
    let files = Scratch::new();
    let archive = files.join("busybox.tar");
    image::write_busybox(&archive, "box:latest");
    registry.push(engine.namespaces(), &archive, "tools/box:1");
    let name = format!("{}/tools/box:1", Registry::HOST);
    assert_eq!(engine.wharf(&["run", "--rm", &name, "echo", "pulled"]).stdout, "pulled\n");
    assert!(engine.docker(&["pull", &name]).ok().contains("Image is up to date"));
    let saved = files.join("saved.tar");
    engine.docker(&["tag", &name, "mine:2"]).ok();
    engine.wharf(&["save", "-o", &saved.display().to_string(), "mine:2"]).ok();
    let id = engine.wharf(&["image", "inspect", "-f", "{{.Id}}", "mine:2"]).line();
    engine.wharf(&["rmi", "mine:2", &name]).ok();
    assert_eq!(engine.wharf(&["images", "-q"]).line(), "");
    assert_eq!(
        engine.wharf(&["load", "-q", "-i", &saved.display().to_string()]).line(),
        "Loaded image: mine:2"
    );
    assert_eq!(engine.docker(&["image", "inspect", "-f", "{{.Id}}", "mine:2"]).line(), id);
    both(&engine, &["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}"]);
    // A list of some names has no others, be they the same image's.
    engine.wharf(&["tag", "mine:2", "other"]).ok();
    assert_eq!(both(&engine, &["images", "--format", "{{.Repository}}", "other"]).ok(), "other\n");
    engine.wharf(&["rmi", "other"]).ok();
    assert_eq!(engine.wharf(&["run", "--rm", "mine:2", "echo", "again"]).stdout, "again\n");
}

#[test]
fn a_terminal_shows_one_line_for_all_of_a_pull() {
    let engine = Engine::start();
    let registry = Registry::start(engine.namespaces());
    let files = Scratch::new();
    let archive = files.join("large.tar");
    let large = image::layer(&[image::Entry::File("large", 0o644, &Random::new(3).bytes(8 << 20))]);
    image::write_archive(&archive, &["large:1"], &[large], &serde_json::json!({}));
    registry.push(engine.namespaces(), &archive, "large:1");
    let pull = ["pull", &format!("{}/large:1", Registry::HOST)];
    let line = format!("{} {}", Engine::executable().display(), pull.join(" "));
    let shown = in_terminal(engine.command("script"), &line);
    let totals = shown.stdout.matches("Total: ").count();
    assert!(shown.code == 0 && totals > 0 && shown.stdout.contains("/8.39MB\r"), "{shown:?}");
    // Nowhere else, and not while nothing has to come.
    let again = in_terminal(engine.command("script"), &line);
    assert!(again.code == 0 && !again.stdout.contains("Total: "), "{again:?}");
    engine.wharf(&["rmi", pull[1]]).ok();
    assert!(!engine.wharf(&pull).ok().contains("Total: "));
}

#[test]
fn what_cannot_be_pulled() {
    let engine = Engine::start();
    let registry = Registry::start(engine.namespaces());
    let refused = |name: &str, code: i32, text: &str| {
        let output = engine.wharf(&["pull", name]);
        assert_eq!(output.code, code, "{name}: {}", output.stderr);
        assert!(output.stderr.contains(text), "{name}: {}", output.stderr);
    };
    refused(&format!("{}/no/such:1", Registry::HOST), 1, "not found");
    refused("127.0.0.1:1/a", 1, "connection refused");
    drop(registry);
    assert_eq!(engine.wharf(&["images", "-q"]).line(), "");
}

#[test]
fn the_built_in_greeting_needs_no_network() {
    let engine = Engine::start();
    let output = engine.wharf(&["run", "--rm", "hello-world"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.contains("Hello from Wharf!"), "{}", output.stdout);
}
