//! Flags as Docker's command line takes them (the rules of Go's `pflag`): definitions and the low-level parser.
//!
//! `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`, `-abc` for switches, `--` ends the flags.
//! Switches take a value only with `=`. A command that passes arguments on (`run`, `exec`) ends its flags at its first
//! argument. This is why no general parser is used: the messages, too, are part of what scripts see.

use crate::values;
use std::collections::HashMap;

/// What values a flag takes; decides validation and the word that help shows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A switch.
    Bool,
    /// Any text, one value.
    Text,
    /// Any number of values.
    List,
    /// Any number of values, each of which may hold several separated by commas.
    CommaList,
    /// Any number of values, shown with this word and checked by this function.
    Checked(&'static str, fn(&str) -> Result<(), String>),
    /// A signed number.
    Int,
    /// A small unsigned number.
    Uint16,
    /// An unsigned number.
    Uint,
    /// A size such as `512m`.
    Bytes,
    /// A size, or −1.
    SwapBytes,
    /// A number of processors such as `1.5`.
    Decimal,
    /// A time such as `1m30s`.
    Duration,
}

impl Kind {
    /// Says whether later values add up instead of replacing earlier ones.
    fn is_list(self) -> bool {
        matches!(self, Self::List | Self::CommaList | Self::Checked(..))
    }

    /// Returns the word that stands for the value in help.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bool => "",
            Self::Text => "string",
            Self::Checked(word, _) => word,
            Self::List => "list",
            Self::CommaList => "strings",
            Self::Int => "int",
            Self::Uint16 => "uint16",
            Self::Uint => "uint",
            Self::Bytes | Self::SwapBytes => "bytes",
            Self::Decimal => "decimal",
            Self::Duration => "duration",
        }
    }

    fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Bool => values::boolean(value).map(drop),
            Self::Text | Self::List => Ok(()),
            Self::CommaList if value.is_empty() => Ok(()),
            Self::CommaList => values::fields(value).map(drop),
            Self::Checked(_, check) => check(value),
            Self::Int => values::int(value).map(drop),
            Self::Uint16 => values::uint(value, u64::from(u16::MAX)).map(drop),
            Self::Uint => values::uint(value, u64::MAX).map(drop),
            Self::Bytes => values::bytes(value).map(drop),
            Self::SwapBytes => values::swap_bytes(value).map(drop),
            Self::Decimal => values::nano_cpus(value).map(drop),
            Self::Duration => values::duration(value).map(drop),
        }
    }
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    /// The value when not given, as help shows it; empty for the type's zero.
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
    pub(crate) hidden: bool,
}

impl Flag {
    /// Makes a flag that takes values of `kind`.
    pub(crate) const fn new(long: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { long, short: None, kind, default: "", help, hidden: false }
    }

    /// Gives it a one-letter form.
    pub(crate) const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// Gives it a default.
    pub(crate) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// Takes it and leaves it out of help.
    pub(crate) const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    fn shown(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

/// A switch.
pub(crate) const fn switch(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Bool, help)
}

/// A flag with a text.
pub(crate) const fn text(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Text, help)
}

/// A flag with many values.
pub(crate) const fn list(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::List, help)
}

/// Why a command line was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `--help`, or (deprecated) `-h` where no flag has that letter.
    Help { deprecated: bool },
    /// Anything else, in words.
    Message(String),
}

/// The flags that were given, and the arguments.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    values: HashMap<&'static str, Vec<String>>,
    defaults: HashMap<&'static str, &'static str>,
    pub(crate) args: Vec<String>,
}

impl Matches {
    /// Parses `words` by the flags of `groups`.
    pub(crate) fn parse(
        groups: &[&[Flag]],
        words: impl IntoIterator<Item = String>,
        interspersed: bool,
    ) -> Result<Self, Refusal> {
        let mut matches = Self::default();
        for flag in groups.iter().copied().flatten().filter(|flag| !flag.default.is_empty()) {
            matches.defaults.insert(flag.long, flag.default);
        }
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                matches.long(groups, long, &mut words)?;
            } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                matches.letters(groups, letters, &mut words)?;
            } else {
                matches.args.push(word);
                if !interspersed {
                    break;
                }
            }
        }
        matches.args.extend(words);
        Ok(matches)
    }

    fn long(
        &mut self,
        groups: &[&[Flag]],
        word: &str,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), Refusal> {
        if word.starts_with(['-', '=']) {
            return Err(Refusal::Message(format!("bad flag syntax: --{word}")));
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        if name == "help" {
            return Err(Refusal::Help { deprecated: false });
        }
        let flag = groups.iter().copied().flatten().find(|flag| flag.long == name);
        let flag = flag.ok_or_else(|| Refusal::Message(format!("unknown flag: --{name}")))?;
        let value = match value {
            Some(value) => value,
            None if matches!(flag.kind, Kind::Bool) => "true".to_owned(),
            None => {
                words.next().ok_or_else(|| Refusal::Message(format!("flag needs an argument: --{name}")))?
            }
        };
        self.set(flag, value)
    }

    fn letters(
        &mut self,
        groups: &[&[Flag]],
        letters: &str,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), Refusal> {
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let flag = groups.iter().copied().flatten().find(|flag| flag.short == Some(letter));
            let Some(flag) = flag else {
                return Err(match letter {
                    'h' => Refusal::Help { deprecated: true },
                    _ => Refusal::Message(format!("unknown shorthand flag: '{letter}' in -{letters}")),
                });
            };
            let remaining = rest.as_str();
            if let Some(value) = remaining.strip_prefix('=') {
                return self.set(flag, value.to_owned());
            }
            if matches!(flag.kind, Kind::Bool) {
                self.set(flag, "true".to_owned())?;
                continue;
            }
            let value = if remaining.is_empty() { words.next() } else { Some(remaining.to_owned()) };
            let missing = || Refusal::Message(format!("flag needs an argument: '{letter}' in -{letters}"));
            return self.set(flag, value.ok_or_else(missing)?);
        }
        Ok(())
    }

    fn set(&mut self, flag: &Flag, value: String) -> Result<(), Refusal> {
        flag.kind.check(&value).map_err(|why| {
            let shown = flag.shown();
            Refusal::Message(format!(
                "invalid argument {} for \"{shown}\" flag: {why}",
                values::quote(&value)
            ))
        })?;
        let values = self.values.entry(flag.long).or_default();
        if !flag.kind.is_list() {
            values.clear();
        }
        match flag.kind {
            // An empty text is no element; others were checked above.
            Kind::CommaList => values.extend(values::fields(&value).unwrap_or_default()),
            _ => values.push(value),
        }
        Ok(())
    }

    /// Says whether the flag was given.
    pub(crate) fn changed(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Returns all values of a flag.
    pub(crate) fn list(&self, name: &str) -> &[String] {
        self.values.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the value of a flag: what was given last, else its default, else the empty text.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.list(name).last() {
            Some(value) => value,
            None => self.defaults.get(name).copied().unwrap_or_default(),
        }
    }

    /// Returns the value of a flag if it was given.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.list(name).last().map(String::as_str)
    }

    /// Returns the value of a switch.
    pub(crate) fn switch(&self, name: &str) -> bool {
        values::boolean(self.text(name)).unwrap_or(false)
    }

    /// Returns the value of a number.
    pub(crate) fn int(&self, name: &str) -> i64 {
        values::int(self.text(name)).unwrap_or(0)
    }

    /// Returns the value of a size, in bytes; −1 where that is allowed.
    pub(crate) fn bytes(&self, name: &str) -> i64 {
        values::swap_bytes(self.text(name)).unwrap_or(0)
    }

    /// Returns the value of a time, in nanoseconds.
    pub(crate) fn duration(&self, name: &str) -> i64 {
        values::duration(self.text(name)).unwrap_or(0)
    }

    /// Returns an argument; empty if there are fewer.
    pub(crate) fn arg(&self, index: usize) -> &str {
        self.args.get(index).map(String::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        switch("all", "").short('a'),
        switch("proxy", "").default("true"),
        text("name", "").short('n'),
        list("env", "").short('e'),
        Flag::new("memory", Kind::Bytes, "").short('m'),
    ];

    fn parse(line: &str, interspersed: bool) -> Result<Matches, Refusal> {
        Matches::parse(&[FLAGS], line.split_whitespace().map(str::to_owned), interspersed)
    }

    fn refused(line: &str, expect: &str) {
        assert_eq!(parse(line, true).unwrap_err(), Refusal::Message(expect.to_owned()), "{line}");
    }

    #[test]
    fn every_form_of_a_value() {
        for line in ["--name x", "--name=x", "-n x", "-nx", "-n=x", "-an x", "-anx", "--name y -n x"] {
            assert_eq!(parse(line, true).unwrap().text("name"), "x", "{line}");
        }
        let matches = parse("-e A=1 --env=B -aeC image -e inside -- -x", false).unwrap();
        assert_eq!(matches.list("env"), ["A=1", "B", "C"]);
        assert_eq!(matches.args, ["image", "-e", "inside", "--", "-x"]);
        assert!(matches.switch("all") && matches.switch("proxy"));
        let matches = parse("one --all=false --proxy=0 two -- -a", true).unwrap();
        assert_eq!(matches.args, ["one", "two", "-a"]);
        assert!(!matches.switch("all") && !matches.switch("proxy"));
    }

    #[test]
    fn refusals_are_worded_as_pflags() {
        refused("--nosuch", "unknown flag: --nosuch");
        refused("-z", "unknown shorthand flag: 'z' in -z");
        refused("-az", "unknown shorthand flag: 'z' in -az");
        refused("--name", "flag needs an argument: --name");
        refused("-an", "flag needs an argument: 'n' in -an");
        refused("--=x", "bad flag syntax: --=x");
        refused("-m x", "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'");
        refused(
            "--all=x",
            "invalid argument \"x\" for \"-a, --all\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        );
        assert_eq!(parse("-h", true).unwrap_err(), Refusal::Help { deprecated: true });
        assert_eq!(parse("--help", true).unwrap_err(), Refusal::Help { deprecated: false });
    }
}
