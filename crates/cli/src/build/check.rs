//! `build --check`: the rules of good Dockerfiles, applied here; nothing is sent and nothing built.

use super::context::Given;
use crate::error::{Error, Result};
use crate::program::{print, print_line};
use dockerfile::Dockerfile;
use dockerfile::lint::{Known, Warning, lint};

/// Where each rule is explained.
const RULES: &str = "https://docs.docker.com/go/dockerfile/rule/";
/// Lines shown before and after the one that is meant.
const AROUND: usize = 2;

/// Checks and prints what was found; warnings make it fail, as in `BuildKit`.
pub(super) fn run(given: &Given, is_json: bool) -> Result<()> {
    let Some(text) = &given.dockerfile else {
        return Err(Error::message(
            "--check needs a Dockerfile that is here: a folder, or one on standard input",
        ));
    };
    let file = Dockerfile::parse(text).map_err(|problem| Error::message(problem.to_string()))?;
    let patterns = given.patterns()?;
    let known = Known { ignored: Some(&patterns), variables: &|_image| None };
    let warnings = lint(&file, &known);
    if is_json {
        print(json(&warnings));
        return if warnings.is_empty() { Ok(()) } else { Err(Error::Exit(1)) };
    }
    if warnings.is_empty() {
        print_line("Check complete, no warnings found.");
        return Ok(());
    }
    for warning in &warnings {
        print(shown(warning, &given.dockerfile_name, text));
    }
    let count = warnings.len();
    let (noun, verb) = if count == 1 { ("warning", "has") } else { ("warnings", "have") };
    print_line(format!("Check complete, {count} {noun} {verb} been found!"));
    Err(Error::Exit(1))
}

/// The warnings as `BuildKit` writes them.
fn json(warnings: &[Warning]) -> String {
    let one = |warning: &Warning| {
        let place = serde_json::json!({ "line": warning.line });
        serde_json::json!({
            "ruleName": warning.rule,
            "url": format!("{RULES}{}/", page(warning.rule)),
            "detail": warning.message,
            "location": { "ranges": [{ "start": place, "end": place }] },
        })
    };
    let all: Vec<_> = warnings.iter().map(one).collect();
    let value = if all.is_empty() { serde_json::json!({}) } else { serde_json::json!({ "warnings": all }) };
    format!("{value:#}\n")
}

fn shown(warning: &Warning, name: &str, text: &str) -> String {
    let page = page(warning.rule);
    let name = name.rsplit('/').next().unwrap_or(name);
    let mut shown = format!(
        "WARNING: {} - {RULES}{page}/\n{}\n{name}:{}\n--------------------\n",
        warning.rule, warning.message, warning.line
    );
    let first = warning.line.saturating_sub(AROUND).max(1);
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if number >= first && number <= warning.line + AROUND {
            let mark = if number == warning.line { ">>>" } else { "   " };
            shown.push_str(&format!("{number:>4} | {mark} {line}\n"));
        }
    }
    shown.push_str("--------------------\n\n");
    shown
}

/// `JSONArgsRecommended` is explained at `json-args-recommended`.
fn page(rule: &str) -> String {
    let letters: Vec<char> = rule.chars().collect();
    let mut page = String::new();
    for (index, c) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| letters.get(before));
        let after = letters.get(index + 1);
        let begins = before.is_some_and(char::is_ascii_lowercase)
            || (before.is_some() && after.is_some_and(char::is_ascii_lowercase));
        if c.is_ascii_uppercase() && begins {
            page.push('-');
        }
        page.push(c.to_ascii_lowercase());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_pages() {
        assert_eq!(page("JSONArgsRecommended"), "json-args-recommended");
        assert_eq!(page("FromAsCasing"), "from-as-casing");
    }

    #[test]
    fn a_warning_shows_its_line() {
        let warning = Warning { line: 2, rule: "StageNameCasing", message: "no".to_owned() };
        assert_eq!(
            shown(&warning, "dir/Dockerfile", "A\nB\nC\n"),
            "WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\nno\nDockerfile:2\n--------------------\n   1 |     A\n   2 | >>> B\n   3 |     C\n--------------------\n\n"
        );
    }
}
