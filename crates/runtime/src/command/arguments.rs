//! Flags as Go programs take them: `-f value`, `--flag value`, `--flag=value`; everything from the first other word on
//! belongs to the command.

/// A flag that a command knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    name: &'static str,
    short: Option<char>,
    takes_value: bool,
    help: &'static str,
}

impl Flag {
    pub(super) const fn value(name: &'static str, help: &'static str) -> Self {
        Self { name, short: None, takes_value: true, help }
    }

    pub(super) const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, short: None, takes_value: false, help }
    }

    pub(super) const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    /// How it is given, as in `--env value, -e value`.
    fn form(&self) -> String {
        let value = if self.takes_value { " value" } else { "" };
        let short = self.short.map(|letter| format!(", -{letter}{value}")).unwrap_or_default();
        format!("--{}{value}{short}", self.name)
    }

    fn is(&self, text: &str) -> bool {
        let mut letters = text.chars();
        text == self.name
            || (letters.next() == self.short && self.short.is_some() && letters.next().is_none())
    }
}

/// What was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    values: Vec<(&'static str, String)>,
    pub(super) positional: Vec<String>,
}

impl Parsed {
    /// The last value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let given = self.values.iter().rev().find(|(known, _)| *known == name);
        given.map(|(_, value)| value.as_str())
    }

    /// All values of a flag.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| !matches!(value, "false" | "0" | "f"))
    }
}

/// Describes flags, one on a line.
pub(super) fn describe(flags: &[Flag]) -> String {
    table(flags.iter().map(|flag| (flag.form(), flag.help)))
}

/// Lines of two columns, as Go programs show them.
pub(super) fn table<'a>(rows: impl Iterator<Item = (String, &'a str)>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    rows.iter().map(|(left, right)| format!("   {left:<width$}  {right}\n")).collect()
}

/// Sorts `arguments`.
pub(super) fn parse(arguments: &[String], flags: &[Flag]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let dashed = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let Some(text) = dashed.filter(|text| !text.is_empty()) else {
            if word != "--" {
                parsed.positional.push(word.clone());
            }
            parsed.positional.extend(rest.cloned());
            break;
        };
        let (name, inline) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let flag = flags
            .iter()
            .find(|flag| flag.is(name))
            .ok_or_else(|| format!("Incorrect Usage: flag provided but not defined: -{name}"))?;
        let value = match (inline, flag.takes_value) {
            (Some(value), _) => value.to_owned(),
            (None, false) => "true".to_owned(),
            (None, true) => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("Incorrect Usage: flag needs an argument: -{name}"))?,
        };
        parsed.values.push((flag.name, value));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_at_the_first_other_word() {
        const FLAGS: &[Flag] = &[
            Flag::value("bundle", "").short('b'),
            Flag::switch("detach", "").short('d'),
            Flag::value("env", ""),
        ];
        let parse = |line: &str| parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), FLAGS);
        let parsed = parse("-b /x --detach --env A=1 -env=B=2 id sh -c -d").unwrap();
        assert_eq!(parsed.value("bundle"), Some("/x"));
        assert!(parsed.has("detach"));
        assert_eq!(parsed.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(parsed.positional, ["id", "sh", "-c", "-d"]);
        assert!(!parse("--detach=false id").unwrap().has("detach"));
        assert_eq!(parse("-- -x").unwrap().positional, ["-x"]);
        assert!(parse("--nope").is_err());
        assert!(parse("--bundle").is_err());
    }
}
