//! `WWW-Authenticate`: what a registry asks for (RFC 9110 §11.6.1, distribution-spec *token authentication*).
//!
//! Pure: header values in, challenges out. Unknown schemes are skipped, broken parameters end their challenge.

/// One challenge that this client can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from `realm`.
    Bearer(Bearer),
}

/// The parameters of a bearer challenge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bearer {
    /// Where tokens are given out.
    pub(crate) realm: String,
    /// The name of the registry towards the token server; may be empty.
    pub(crate) service: String,
    /// What the registry says is needed; may be empty.
    pub(crate) scope: String,
    /// Why the token that was sent is not good enough (`insufficient_scope`, `invalid_token`); may be empty.
    pub(crate) error: String,
}

/// Returns the challenges in the values of one or more `WWW-Authenticate` headers, in their order.
pub(crate) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for value in values {
        for (scheme, parameters) in schemes(value) {
            if scheme.eq_ignore_ascii_case("basic") {
                challenges.push(Challenge::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer") {
                let mut bearer = Bearer::default();
                for (name, value) in parameters {
                    match name.to_ascii_lowercase().as_str() {
                        "realm" => bearer.realm = value,
                        "service" => bearer.service = value,
                        "scope" => bearer.scope = value,
                        "error" => bearer.error = value,
                        _ => {}
                    }
                }
                if !bearer.realm.is_empty() {
                    challenges.push(Challenge::Bearer(bearer));
                }
            }
        }
    }
    challenges
}

type Scheme<'a> = (&'a str, Vec<(&'a str, String)>);

/// Splits `Scheme a="b", c=d, Other e=f` into its schemes and their parameters.
fn schemes(value: &str) -> Vec<Scheme<'_>> {
    let mut found: Vec<Scheme<'_>> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return found;
        }
        let trimmed = after.trim_start_matches([' ', '\t']);
        if let (Some(value), Some((_, parameters))) = (trimmed.strip_prefix('='), found.last_mut()) {
            let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']));
            parameters.push((word, value));
            rest = after;
        } else {
            found.push((word, Vec::new()));
            rest = after;
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)));
    text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, ""))
}

/// Reads a quoted string (with `\` escapes) or a token; returns it and what follows.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str, error: &str) -> Challenge {
        let [realm, service, scope, error] = [realm, service, scope, error].map(str::to_owned);
        Challenge::Bearer(Bearer { realm, service, scope, error })
    }

    fn check(values: &[&str], expected: &[Challenge]) {
        assert_eq!(parse(values.iter().copied()), expected, "{values:?}");
    }

    #[test]
    fn reads_what_registries_send() {
        check(
            &[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#,
            ],
            &[bearer(
                "https://auth.docker.io/token",
                "registry.docker.io",
                "repository:library/alpine:pull",
                "",
            )],
        );
        check(
            &[
                r#"Bearer realm="https://a/t", service="s",scope="repository:x:pull,push", error="insufficient_scope""#,
            ],
            &[bearer("https://a/t", "s", "repository:x:pull,push", "insufficient_scope")],
        );
        check(&[r#"basic realm="Registry Realm""#], &[Challenge::Basic]);
        check(&["Basic"], &[Challenge::Basic]);
        check(&["bearer REALM=https://a/t"], &[bearer("https://a/t", "", "", "")]);
        check(
            &[r#"Negotiate, Basic realm="a, b\"c", Bearer realm="r""#, "Basic"],
            &[Challenge::Basic, bearer("r", "", "", ""), Challenge::Basic],
        );
    }

    #[test]
    fn broken_headers_are_harmless() {
        check(&["", "=", ",,,", "Bearer", "Bearer realm=", r#"Bearer service="x"#, "\u{e9}"], &[]);
        check(&[r#"Bearer realm="never closed"#], &[bearer("never closed", "", "", "")]);
    }
}
