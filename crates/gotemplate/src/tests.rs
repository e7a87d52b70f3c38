//! The language as users of `--format` meet it; what is expected follows Go's `text/template`.

use crate::{Field, Object, Template, Value, docker_functions};
use std::sync::Arc;

fn data() -> Value {
    let mut state = Object::new("*container.State");
    state.push("Status", "running");
    state.push("Running", true);
    state.push("Pid", 42_i64);
    let mut root = Object::new("*types.Container");
    root.push("ID", "0123456789ab");
    root.push("State", Value::Object(Arc::new(state)));
    root.push("Names", Value::list(["/a", "/b"].map(Value::from)));
    root.push("Cmd", Value::List(None));
    root.push(
        "Labels",
        Value::map([("x".to_owned(), Value::from("1")), ("b.c".to_owned(), Value::from("<2>"))]),
    );
    root.push("Health", Value::Nil);
    root.fields.push(Field {
        name: "Gone".into(),
        json: Some("Gone".into()),
        value: Value::Nil,
        omitted: true,
    });
    root.method("Label", |args| match args {
        [Value::String(name)] => Ok(Value::String(format!("label {name}"))),
        _ => Err("one name is needed".to_owned()),
    });
    Value::Object(Arc::new(root))
}

fn check(source: &str, expect: &str) {
    let template =
        Template::parse("", source, docker_functions()).unwrap_or_else(|error| panic!("{source}: {error}"));
    assert_eq!(template.execute(&data()).unwrap_or_else(|error| error.to_string()), expect, "{source}");
}

fn refused(source: &str, expect: &str) {
    let error = Template::parse("", source, docker_functions()).map(drop).unwrap_err();
    assert_eq!(error.to_string(), expect, "{source}");
}

#[test]
fn fields_and_functions() {
    check("{{.ID}}", "0123456789ab");
    check("{{.State.Status}} {{.State.Pid}}", "running 42");
    check("{{.State}}", "{running true 42}");
    check("{{json .State}}", r#"{"Status":"running","Running":true,"Pid":42}"#);
    check("{{json .Cmd}} {{.Cmd}} {{json .Labels}}", r#"null [] {"b.c":"<2>","x":"1"}"#);
    check("{{.Names}} {{.Labels}} {{.Health}}", "[/a /b] map[b.c:<2> x:1] <nil>");
    check("{{.Labels.x}} {{.Labels.nosuch}} {{index .Labels \"b.c\"}}", "1 <no value> <2>");
    check("{{.Label \"a\"}} {{\"b\" | .Label}}", "label a label b");
    check("{{join .Names \", \"}} {{(index .Names 1)}} {{len .Names}}", "/a, /b /b 2");
    check(
        "{{upper .ID | lower | title}} {{truncate .ID 3}} [{{pad .ID 1 2}}]",
        "0123456789ab 012 [ 0123456789ab  ]",
    );
    check("{{printf \"%-5s|%05d|%q|%v|%.2f\" \"ab\" 42 \"x\" .Names 1.5}}", "ab   |00042|\"x\"|[/a /b]|1.50");
    check("{{println .ID 1}}{{print 1 2 \"a\" \"b\" 3}}", "0123456789ab 1\n1 2ab3");
    check("{{slice .ID 2 5}} {{html \"<a>\"}} {{urlquery \"a b&c\"}}", "234 &lt;a&gt; a+b%26c");
    check("{{range $i, $e := split \"a:b\" \":\"}}{{$i}}={{$e}};{{end}}", "0=a;1=b;");
}

#[test]
fn control() {
    check("{{if .State.Running}}up{{else}}down{{end}}", "up");
    check("{{if .Health}}h{{else if .Cmd}}c{{else}}none{{end}}", "none");
    check("{{with .State}}{{.Pid}}{{$.ID}}{{end}}{{with .Health}}x{{else}}y{{end}}", "420123456789aby");
    check("{{range .Names}}{{.}},{{else}}none{{end}}{{range .Cmd}}x{{else}}none{{end}}", "/a,/b,none");
    check("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "b.c=<2> x=1 ");
    check("{{range .Names}}{{if eq . \"/b\"}}{{break}}{{end}}{{.}}{{end}}", "/a");
    check("{{range .Names}}{{if eq . \"/a\"}}{{continue}}{{end}}{{.}}{{end}}", "/b");
    check("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2");
    check("{{define \"T\"}}<{{.}}>{{end}}{{template \"T\" .ID}}", "<0123456789ab>");
    check("{{block \"B\" .Names}}{{len .}}{{end}}", "2");
    check("{{and 1 0}} {{or 0 \"x\"}} {{not 1}} {{or true .Health.X}}", "0 x false true");
}

#[test]
fn comparison() {
    check(
        "{{eq 1 1}} {{eq 1 2 1}} {{ne \"a\" \"b\"}} {{lt 1 2}} {{ge 1.5 1.5}} {{gt \"b\" \"a\"}}",
        "true true true true true true",
    );
    check("{{eq .State.Pid 42}}", "true");
    check(
        "{{eq 1 \"a\"}}",
        "template: :1:2: executing \"\" at <eq 1 \"a\">: error calling eq: incompatible types for comparison",
    );
}

#[test]
fn trimming_and_comments() {
    check("a  {{- 1 -}}  b", "a1b");
    check("a {{/* c */}} b {{- /* d */ -}} c", "a  bc");
    check("{{`raw`}}{{'a'}}{{0x10}}{{1_000}}{{-3}}{{1.50}}{{1e3}}", "raw97161000-31.51000");
}

#[test]
fn execution_errors_are_gos() {
    check(
        "{{.X}}",
        "template: :1:2: executing \"\" at <.X>: can't evaluate field X in type *types.Container",
    );
    check(
        "\n {{.State.Nope}}",
        "template: :2:9: executing \"\" at <.State.Nope>: can't evaluate field Nope in type *container.State",
    );
    check("{{.ID.X}}", "template: :1:5: executing \"\" at <.ID.X>: can't evaluate field X in type string");
    check(
        "{{index .Names 5}}",
        "template: :1:2: executing \"\" at <index .Names 5>: error calling index: index out of range: 5",
    );
    check(
        "{{range .ID}}{{end}}",
        "template: :1:8: executing \"\" at <.ID>: range can't iterate over 0123456789ab",
    );
    check(
        "{{template \"no\"}}",
        "template: :1:2: executing \"\" at <{{template \"no\"}}>: template \"no\" not defined",
    );
    check(
        "{{truncate .ID}}",
        "template: :1:2: executing \"\" at <truncate .ID>: wrong number of args for truncate: want 2 got 1",
    );
    check(
        "{{.ID 1}}",
        "template: :1:2: executing \"\" at <.ID>: ID has arguments but cannot be invoked as function",
    );
}

#[test]
fn parse_errors_are_gos() {
    refused("{{.X", "template: :1: unclosed action");
    refused("{{nosuch .X}}", "template: :1: function \"nosuch\" not defined");
    refused("{{if .X}}", "template: :1: unexpected EOF");
    refused("{{end}}", "template: :1: unexpected {{end}}");
    refused("{{$x}}", "template: :1: undefined variable \"$x\"");
    refused("{{}}", "template: :1: missing value for command");
    refused("{{.X}", "template: :1: unexpected \"}\" in operand");
    refused("{{\"abc}}", "template: :1: unterminated quoted string");
    refused("{{(.X}}", "template: :1: unclosed left paren");
    refused("{{.X)}}", "template: :1: unexpected right paren");
    refused("{{break}}", "template: :1: {{break}} outside {{range}}");
    refused("a\n{{1 | 2}}", "template: :2: non executable command in pipeline stage 2");
}

#[test]
fn missing_keys_can_be_errors() {
    let template = Template::parse("", "{{.a}}", docker_functions()).unwrap();
    let error = template.execute_strict(&Value::map([])).unwrap_err();
    assert_eq!(error.to_string(), "template: :1:2: executing \"\" at <.a>: map has no entry for key \"a\"");
}
