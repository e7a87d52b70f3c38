//! What instructions make of an image's configuration, and what variables stand for. Pure.

use crate::error::{Error, Result};
use dockerfile::{Argument, Command, Health, Instruction, PROXY_VARIABLES};
use oci::image::Healthcheck;
use oci::{Descriptor, History, ImageConfig, Platform};
use std::collections::BTreeMap;

/// Where `BuildKit` puts its records of how the base was made.
const BUILDKIT_RECORDS: &str = "moby.buildkit.cache.v0";
/// The most ports that one `EXPOSE` may name.
const MAX_PORTS: u32 = 65_536;

/// Arguments given from outside: those of the user and those that are always there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    /// `--build-arg`.
    pub(crate) arguments: BTreeMap<String, Option<String>>,
    /// `TARGETPLATFORM` and its like.
    pub(crate) predefined: BTreeMap<String, String>,
    /// The `ARG`s before the first stage, with their values.
    pub(crate) global: BTreeMap<String, Option<String>>,
}

impl Given {
    /// Gathers what is given, and evaluates the `ARG`s before the first stage.
    ///
    /// # Errors
    ///
    /// A default that cannot be expanded.
    pub(crate) fn new(
        file: &dockerfile::Dockerfile,
        arguments: &BTreeMap<String, Option<String>>,
        platform: &Platform,
        target: &str,
    ) -> Result<Self> {
        let host = Platform::host();
        let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
        let mut predefined = BTreeMap::new();
        for (prefix, platform) in [("TARGET", platform), ("BUILD", &host)] {
            for (name, value) in [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("OSVERSION", platform.os_version.clone().unwrap_or_default()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", variant(platform)),
            ] {
                predefined.insert(format!("{prefix}{name}"), value);
            }
        }
        let stage = if target.is_empty() { "default" } else { target };
        predefined.insert("TARGETSTAGE".to_owned(), stage.to_owned());
        let mut given = Self { arguments: arguments.clone(), predefined, global: BTreeMap::new() };
        for step in &file.arguments {
            let Instruction::Arg(list) = &step.instruction else { continue };
            for Argument { name, default } in list {
                let value = match (given.arguments.get(name), default) {
                    (Some(value), _) => value.clone(),
                    (None, Some(default)) => Some(given.expand(default, file.escape).map_err(|message| {
                        Error::Step { line: step.line, text: step.text.clone(), message }
                    })?),
                    (None, None) => given.predefined.get(name).cloned(),
                };
                given.global.insert(name.clone(), value);
            }
        }
        Ok(given)
    }

    /// Expands what stands in a `FROM`.
    pub(crate) fn expand(&self, text: &str, escape: char) -> Result<String, String> {
        let lookup = |name: &str| match self.global.get(name) {
            Some(value) => value.clone(),
            None => self.predefined.get(name).cloned(),
        };
        dockerfile::expand(text, &lookup, escape)
    }

    /// The value of an argument that a stage declares.
    fn declared(&self, name: &str, default: Option<String>) -> Option<String> {
        if let Some(given) = self.arguments.get(name) {
            return given.clone();
        }
        default
            .or_else(|| self.global.get(name).cloned().flatten())
            .or_else(|| self.predefined.get(name).cloned())
    }
}

/// An image in the making.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Its configuration.
    pub(crate) config: ImageConfig,
    /// The stored archives of its layers.
    pub(crate) layers: Vec<Descriptor>,
    /// Declared arguments that have a value, in order.
    pub(crate) arguments: Vec<(String, String)>,
    /// How many of its layers are an image's that the build began with.
    pub(crate) base_layers: usize,
    /// Whether this stage has set the command.
    command_is_own: bool,
    escape: char,
}

impl State {
    /// Begins with nothing.
    pub(crate) fn scratch(platform: &Platform, escape: char) -> Self {
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        "/".clone_into(&mut config.config.working_dir);
        Self::on(config, Vec::new(), escape)
    }

    /// Begins with an image.
    pub(crate) fn on(mut config: ImageConfig, layers: Vec<Descriptor>, escape: char) -> Self {
        // What the classic builder noted of its containers says nothing about this image.
        for stale in [
            "container",
            "container_config",
            "docker_version",
            "parent",
            "id",
            crate::exchange::RECORDS,
            BUILDKIT_RECORDS,
        ] {
            config.other.remove(stale);
        }
        config.config.other.clear();
        let has_path = config.config.env.iter().any(|entry| entry.starts_with("PATH="));
        if !has_path {
            config.config.env.push(format!("PATH={}", dockerfile::DEFAULT_PATH));
        }
        let base_layers = layers.len();
        Self { config, layers, arguments: Vec::new(), base_layers, command_is_own: false, escape }
    }

    /// Takes the instructions that the base has for its children.
    pub(crate) fn take_triggers(&mut self) -> Vec<String> {
        self.config.config.on_build.take().unwrap_or_default()
    }

    /// What a variable stands for.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        let env = self.config.config.env.iter().find_map(|entry| entry.strip_prefix(&prefix));
        let argument =
            || self.arguments.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value);
        env.map(str::to_owned).or_else(|| argument().cloned())
    }

    /// Expands one word.
    pub(crate) fn expand(&self, text: &str) -> Result<String, String> {
        dockerfile::expand(text, &|name| self.value(name), self.escape)
    }

    fn expand_words(&self, text: &str) -> Result<Vec<String>, String> {
        dockerfile::expand_words(text, &|name| self.value(name), self.escape)
    }

    /// The shell of shell forms.
    pub(crate) fn shell(&self) -> Vec<String> {
        let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
        self.config.config.shell.clone().unwrap_or_else(default)
    }

    /// The environment of commands: the image's and the declared arguments, which the image's hide.
    pub(crate) fn environment(&self) -> Vec<String> {
        let mut all = self.config.config.env.clone();
        for (name, value) in &self.arguments {
            let prefix = format!("{name}=");
            if !all.iter().any(|entry| entry.starts_with(&prefix)) {
                all.push(format!("{prefix}{value}"));
            }
        }
        all
    }

    /// Joins a path with the working directory and cleans it.
    pub(crate) fn path(&self, path: &str) -> String {
        let joined = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.config.config.working_dir),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in joined.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let folder = path.ends_with('/') || path == "." || path.ends_with("/.") || path == "..";
        match parts.as_slice() {
            [] => "/".to_owned(),
            parts => format!("/{}{}", parts.join("/"), if folder { "/" } else { "" }),
        }
    }

    /// Notes a step in the history.
    pub(crate) fn note(&mut self, created: &str, created_by: String, empty_layer: bool) {
        self.config.history.push(History {
            created: Some(created.to_owned()),
            created_by,
            comment: "wharf.dockerfile.v1".to_owned(),
            empty_layer,
            ..History::default()
        });
    }

    /// Carries out an instruction that changes no files; of `WORKDIR` the configuration's part.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn apply(&mut self, instruction: &Instruction, given: &Given) -> Result<(), String> {
        match instruction {
            Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) => {}
            Instruction::Arg(list) => self.declare(list, given)?,
            Instruction::Cmd(command) => {
                self.config.config.cmd = Some(command.words(&self.shell_for(command)));
                self.command_is_own = true;
            }
            Instruction::Entrypoint(command) => {
                let words = command.words(&self.shell_for(command));
                self.config.config.entrypoint = (!words.is_empty()).then_some(words);
                // The arguments of one program are none of another.
                if !self.command_is_own {
                    self.config.config.cmd = None;
                }
            }
            Instruction::Env(pairs) => {
                for (name, value) in self.expanded(pairs)? {
                    set(&mut self.config.config.env, &name, &value);
                }
            }
            Instruction::Expose(words) => {
                for word in words {
                    for port in self.expand_words(word)? {
                        self.config.config.exposed_ports.extend(ports(&port)?);
                    }
                }
            }
            Instruction::Healthcheck(health) => self.config.config.healthcheck = Some(healthcheck(health)),
            Instruction::Label(pairs) => {
                let pairs = self.expanded(pairs)?;
                self.config.config.labels.extend(pairs);
            }
            Instruction::Maintainer(author) => self.config.author = Some(author.clone()),
            Instruction::Onbuild(text) => {
                self.config.config.on_build.get_or_insert_default().push(text.clone());
            }
            Instruction::Shell(words) => self.config.config.shell = Some(words.clone()),
            Instruction::StopSignal(text) => {
                let signal = self.expand(text)?;
                if sys::signal::parse(&signal).is_none() {
                    return Err(format!("Invalid signal: {signal}"));
                }
                self.config.config.stop_signal = Some(signal);
            }
            Instruction::User(text) => self.config.config.user = self.expand(text)?,
            Instruction::Volume(paths) => {
                for path in paths {
                    let path = self.expand(path)?;
                    if path.is_empty() {
                        return Err("VOLUME specified can not be an empty string".to_owned());
                    }
                    self.config.config.volumes.insert(path);
                }
            }
            Instruction::Workdir(text) => {
                let path = self.expand(text)?;
                let path = self.path(&path);
                self.config.config.working_dir =
                    if path == "/" { path } else { path.trim_end_matches('/').to_owned() };
            }
        }
        Ok(())
    }

    fn shell_for(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Shell(_) => self.shell(),
            Command::Exec(_) => Vec::new(),
        }
    }

    /// Expands names and values; all see the variables as they were before the instruction.
    fn expanded(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, String> {
        pairs.iter().map(|(name, value)| Ok((self.expand(name)?, self.expand(value)?))).collect()
    }

    fn declare(&mut self, list: &[Argument], given: &Given) -> Result<(), String> {
        for Argument { name, default } in list {
            let default = default.as_deref().map(|text| self.expand(text)).transpose()?;
            self.arguments.retain(|(other, _)| other != name);
            if let Some(value) = given.declared(name, default) {
                self.arguments.push((name.clone(), value));
            }
        }
        Ok(())
    }

    /// The variables of proxies that a command gets though nobody declared them: neither in the history nor in a key.
    pub(crate) fn undeclared_proxies(&self, given: &Given) -> Vec<String> {
        let declared = |name: &str| self.value(name).is_some();
        given
            .arguments
            .iter()
            .filter(|(name, _)| PROXY_VARIABLES.contains(&name.as_str()) && !declared(name))
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect()
    }
}

fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let prefix = format!("{name}=");
    let entry = format!("{prefix}{value}");
    match env.iter_mut().find(|old| old.starts_with(&prefix)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn healthcheck(health: &Health) -> Healthcheck {
    match health {
        Health::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
        Health::Probe(probe) => {
            let test = match &probe.command {
                Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
                Command::Exec(words) => ["CMD".to_owned()].into_iter().chain(words.iter().cloned()).collect(),
            };
            Healthcheck {
                test,
                interval: probe.interval,
                timeout: probe.timeout,
                start_period: probe.start_period,
                start_interval: probe.start_interval,
                retries: probe.retries,
            }
        }
    }
}

/// `80`, `80/udp`, `8000-8002`: every port with its protocol.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    // An address and a port of the host, as in `run -p`, do not count.
    let numbers = numbers.rsplit(':').next().unwrap_or(numbers);
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|port| *port > 0 && *port < MAX_PORTS)
            .ok_or_else(|| format!("invalid containerPort: {numbers}"))
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("invalid containerPort: {numbers}"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dockerfile::Dockerfile;

    fn built(text: &str, arguments: &[(&str, &str)]) -> Result<State, String> {
        let file = Dockerfile::parse(text).unwrap();
        let arguments =
            arguments.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        let given =
            Given::new(&file, &arguments, &Platform::host(), "").map_err(|error| error.to_string())?;
        let mut state = State::scratch(&Platform::host(), file.escape);
        for step in &file.stages[0].steps {
            state.apply(&step.instruction, &given)?;
        }
        Ok(state)
    }

    #[test]
    fn one_instruction_sees_the_variables_before_it() {
        let state = built("FROM scratch\nENV a=1\nENV a=2 b=$a\nENV c=\"$a $b\" 'd e'=x\n", &[]).unwrap();
        let env = &state.config.config.env;
        assert_eq!(env[1..], ["a=2", "b=1", "c=2 1", "d e=x"]);
    }

    #[test]
    fn arguments_have_scopes() {
        let text = "ARG g=global\nARG h\nFROM scratch\nARG g\nARG h=own\nARG i=$g-$h\nARG TARGETOS\nENV h=env\nENV x=$g.$h.$i.$TARGETOS.$none\n";
        let value = |arguments| built(text, arguments).unwrap().value("x").unwrap();
        assert_eq!(value(&[]), "global.env.global-own.linux.");
        assert_eq!(value(&[("h", "given"), ("g", "G")]), "G.env.G-given.linux.");
        let state = built("ARG g=1\nFROM scratch\nENV x=$g\n", &[]).unwrap();
        assert_eq!(state.value("x").unwrap(), "");
    }

    #[test]
    fn commands_and_entry_points() {
        for (text, entrypoint, cmd) in [
            ("CMD a b", None, Some(&["/bin/sh", "-c", "a b"][..])),
            ("CMD [\"a\"]\nENTRYPOINT [\"e\"]", Some(&["e"][..]), Some(&["a"])),
            ("SHELL [\"/bin/bash\", \"-e\"]\nENTRYPOINT x", Some(&["/bin/bash", "-e", "x"]), None),
            ("ENTRYPOINT [\"e\"]\nENTRYPOINT []", None, None),
        ] {
            let state = built(&format!("FROM scratch\n{text}\n"), &[]).unwrap();
            let strings = |words: Option<&[&str]>| {
                words.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
            };
            assert_eq!(state.config.config.entrypoint, strings(entrypoint), "{text}");
            assert_eq!(state.config.config.cmd, strings(cmd), "{text}");
        }
        let mut base = State::scratch(&Platform::host(), '\\');
        base.config.config.cmd = Some(vec!["base".to_owned()]);
        let entry = Instruction::Entrypoint(Command::Exec(vec!["e".to_owned()]));
        base.apply(&entry, &Given::default()).unwrap();
        assert_eq!(base.config.config.cmd, None);
    }

    #[test]
    fn the_rest_of_the_configuration() {
        let state = built(
            "FROM scratch\nMAINTAINER me\nEXPOSE 80 8000-8001/UDP $none\nLABEL a=b \"c d\"='e f'\nUSER u:g\nVOLUME /v /w\nWORKDIR a\nWORKDIR ../b/\nSTOPSIGNAL SIGUSR1\nHEALTHCHECK --retries=2 CMD x\nONBUILD RUN y\n",
            &[],
        )
        .unwrap();
        let config = &state.config.config;
        assert_eq!(state.config.author.as_deref(), Some("me"));
        assert_eq!(config.exposed_ports.iter().collect::<Vec<_>>(), ["80/tcp", "8000/udp", "8001/udp"]);
        assert_eq!(config.labels.get("c d").map(String::as_str), Some("e f"));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("u:g", "/b"));
        assert_eq!(config.volumes.len(), 2);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGUSR1"));
        assert_eq!(config.healthcheck.as_ref().unwrap().test, ["CMD-SHELL", "x"]);
        assert_eq!(config.on_build.as_ref().unwrap().as_slice(), ["RUN y"]);
        for (text, expect) in [
            ("STOPSIGNAL nope", "Invalid signal: nope"),
            ("EXPOSE 80/x", "invalid proto: x"),
            ("EXPOSE 99999", "invalid containerPort: 99999"),
            ("EXPOSE 3-2", "invalid containerPort: 3-2"),
            ("ENV a=${b:?needed}", "b: needed"),
        ] {
            assert_eq!(built(&format!("FROM scratch\n{text}\n"), &[]).unwrap_err(), expect);
        }
    }

    #[test]
    fn paths_are_joined_with_the_working_directory() {
        let mut state = State::scratch(&Platform::host(), '\\');
        state.config.config.working_dir = "/w".to_owned();
        for (path, expect) in [
            ("a", "/w/a"),
            ("a/", "/w/a/"),
            (".", "/w/"),
            ("./", "/w/"),
            ("/a/../b", "/b"),
            ("../..", "/"),
            ("/", "/"),
        ] {
            assert_eq!(state.path(path), expect, "{path}");
        }
    }

    #[test]
    fn proxies_are_there_for_commands_alone() {
        let text = "FROM scratch\nARG https_proxy\n";
        let file = Dockerfile::parse(text).unwrap();
        let pairs = [("http_proxy", "p"), ("https_proxy", "q"), ("other", "x")];
        let arguments: BTreeMap<String, Option<String>> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        let given = Given::new(&file, &arguments, &Platform::host(), "").unwrap();
        let state = built(text, &pairs).unwrap();
        assert_eq!(state.undeclared_proxies(&given), ["http_proxy=p"]);
        assert!(state.environment().contains(&"https_proxy=q".to_owned()));
    }
}
