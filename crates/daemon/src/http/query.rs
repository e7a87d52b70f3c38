//! Query parameters, read as dockerd's *httputils* read them.

use super::Failure;

/// The decoded parameters, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows `?`. A pair that is not decodable is left out, as Go's `FormValue` does.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        let decoded = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, Plus::Space)?, decode(value, Plus::Space)?))
        });
        Self(decoded.collect())
    }

    /// Returns the first value of `name`; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Returns the first value of `name` unless it is absent or empty.
    pub fn some(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// Returns every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Says whether `name` is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Returns a truth value: anything but nothing, `0`, `no`, `false` and `none` (moby, `BoolValue`).
    pub fn flag(&self, name: &str) -> bool {
        !matches!(self.get(name).trim().to_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Returns a truth value, `default` if the parameter is absent.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.has(name) { self.flag(name) } else { default }
    }

    /// Returns a whole number, if there is one.
    ///
    /// # Errors
    ///
    /// An invalid argument in the words of Go's `strconv`.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.some(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(error) => Err(Failure::invalid(format!(
                "strconv.Atoi: parsing {text:?}: {}",
                match error.kind() {
                    std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow =>
                        "value out of range",
                    _ => "invalid syntax",
                }
            ))),
        }
    }
}

/// What `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Space,
    Itself,
}

/// Decodes the percent escapes of a path; `None` if they are malformed or not UTF-8.
pub fn decode_path(text: &str) -> Option<String> {
    decode(text, Plus::Itself)
}

fn decode(text: &str, plus: Plus) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                high << 4 | low
            }
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_as_go_does() {
        let query = Query::parse("a=1&b=x%20y+z&a=2&bad=%zz&c&=&%C3%A9=%C3%A9");
        assert_eq!(query.get("a"), "1");
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("b"), "x y z");
        assert_eq!((query.has("bad"), query.has("c"), query.some("c")), (false, true, None));
        assert_eq!(query.get("é"), "é");
        assert_eq!(decode_path("a+b%2Fc").as_deref(), Some("a+b/c"));
    }

    #[test]
    fn truth_is_what_docker_holds_for_true() {
        for (text, expect) in [
            ("v=1", true),
            ("v=true", true),
            ("v=True", true),
            ("v=t", true),
            ("v=yes", true),
            ("v=0", false),
            ("v=False", false),
            ("v=none", false),
            ("v=no", false),
            ("v=", false),
            ("v", false),
            ("", false),
        ] {
            assert_eq!(Query::parse(text).flag("v"), expect, "{text}");
        }
        assert!(Query::parse("").flag_or("v", true));
        assert!(!Query::parse("v=").flag_or("v", true));
    }

    #[test]
    fn numbers_fail_in_gos_words() {
        assert_eq!(Query::parse("t=-1").number("t"), Ok(Some(-1)));
        assert_eq!(Query::parse("").number("t"), Ok(None));
        assert_eq!(
            Query::parse("t=x").number("t").unwrap_err().message,
            "strconv.Atoi: parsing \"x\": invalid syntax"
        );
    }
}
