//! `--name[=value]` before an instruction's arguments.

use crate::suggest::hint;
use crate::words::{self, Word};

/// The flags of one instruction, and where its arguments begin.
#[derive(Debug)]
pub(crate) struct Flags {
    flags: Vec<Flag>,
    /// The offset of the first argument.
    pub(crate) rest: usize,
}

#[derive(Debug)]
struct Flag {
    name: String,
    value: Option<String>,
    offset: usize,
}

/// A wrong flag: the offset and what is wrong.
pub(crate) type Wrong = (usize, String);

impl Flags {
    /// Reads the flags at the beginning of `text` (the part of a line after `start`).
    pub(crate) fn read(text: &str, start: usize, escape: char) -> Self {
        let mut flags = Vec::new();
        let tail = text.get(start..).unwrap_or_default();
        for Word { text: word, offset } in words::raw(tail, escape) {
            let offset = start + offset;
            let Some(body) = word.strip_prefix("--").filter(|body| !body.is_empty()) else {
                return Self { flags, rest: offset };
            };
            let body = words::unquote(body, escape);
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (body, None),
            };
            flags.push(Flag { name, value, offset });
        }
        Self { flags, rest: text.len() }
    }

    /// Checks that only these are given, each once but for those of `repeated`.
    pub(crate) fn check(&self, known: &[&str], repeated: &[&str]) -> Result<(), Wrong> {
        let mut seen: Vec<&str> = Vec::new();
        for flag in &self.flags {
            let name = flag.name.as_str();
            if !known.contains(&name) && !repeated.contains(&name) {
                let hint = hint(name, known.iter().chain(repeated).copied());
                return Err((flag.offset, format!("unknown flag: --{name}{hint}")));
            }
            if seen.contains(&name) && !repeated.contains(&name) {
                return Err((flag.offset, format!("duplicate flag specified: --{name}")));
            }
            seen.push(name);
        }
        Ok(())
    }

    /// Returns the value of a flag that needs one.
    pub(crate) fn value(&self, name: &str) -> Result<Option<(usize, String)>, Wrong> {
        self.values(name).next().transpose()
    }

    /// Returns all values of a flag that needs one.
    pub(crate) fn values<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = Result<(usize, String), Wrong>> + 'a {
        self.flags.iter().filter(move |flag| flag.name == name).map(|flag| match &flag.value {
            Some(value) => Ok((flag.offset, value.clone())),
            None => Err((flag.offset, format!("missing a value on flag: --{}", flag.name))),
        })
    }

    /// Returns a flag that is on or off.
    pub(crate) fn switch(&self, name: &str) -> Result<Option<bool>, Wrong> {
        let Some(flag) = self.flags.iter().find(|flag| flag.name == name) else { return Ok(None) };
        match flag.value.as_deref() {
            None | Some("true" | "1" | "t" | "TRUE" | "True") => Ok(Some(true)),
            Some("false" | "0" | "f" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => {
                Err((flag.offset, format!("expecting boolean value for flag --{name}, not: {other}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_where_arguments_begin() {
        let text = "COPY --from=a --chown=\"x y\" --link b --c";
        let flags = Flags::read(text, 4, '\\');
        assert_eq!(text.get(flags.rest..), Some("b --c"));
        assert_eq!(flags.value("chown"), Ok(Some((14, "x y".to_owned()))));
        assert_eq!(flags.switch("link"), Ok(Some(true)));
        assert_eq!(flags.check(&["from", "chown", "link"], &[]), Ok(()));
        let expect = (28, "unknown flag: --link (did you mean lint?)".to_owned());
        assert_eq!(flags.check(&["from", "chown", "lint"], &[]), Err(expect));
        let twice = Flags::read("--a=1 --a", 0, '\\');
        assert_eq!(twice.check(&["a"], &[]), Err((6, "duplicate flag specified: --a".to_owned())));
        assert_eq!(twice.values("a").last(), Some(Err((6, "missing a value on flag: --a".to_owned()))));
    }
}
