//! What a reload (SIGHUP) changes: a pure comparison of two configurations.
//!
//! Options whose flag says `reloads` take effect at once; changes of the others wait
//! for the next start, without a word, as in dockerd.

use super::Config;
use engine::Defaults;

/// One change to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// How much is logged.
    LogLevel(tracing::Level),
    /// Whether `info` says that debug output is on.
    Debug(bool),
    /// The daemon's labels.
    Labels(Vec<String>),
    /// How registries are reached.
    Registries(Box<Registries>),
    /// What containers get that do not say.
    Defaults(Defaults),
    /// What becomes of layers' archives.
    Archives(store::Archives),
}

impl Change {
    /// Returns what changed, for the user who asked for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LogLevel(_) => "log-level",
            Self::Debug(_) => "debug",
            Self::Labels(_) => "labels",
            Self::Registries(_) => "registries",
            Self::Defaults(_) => "defaults",
            Self::Archives(_) => "layer-archives",
        }
    }
}

/// How registries are reached: mirrors, proxies, and how much at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registries {
    mirrors: Vec<distribution::Mirror>,
    insecure: Vec<String>,
    proxies: distribution::Proxies,
    downloads: usize,
    uploads: usize,
    attempts: u32,
}

impl Registries {
    fn of(config: &Config) -> Self {
        let engine = &config.engine;
        Self {
            mirrors: engine.registry_mirrors.clone(),
            insecure: engine.insecure_registries.clone(),
            proxies: engine.proxies.clone(),
            downloads: engine.max_concurrent_downloads,
            uploads: engine.max_concurrent_uploads,
            attempts: engine.max_download_attempts,
        }
    }
}

/// Returns what must change so that `old` becomes `new`, as far as that is possible at run time.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.log_level != new.log_level {
        changes.push(Change::LogLevel(new.log_level));
    }
    if old.engine.debug != new.engine.debug {
        changes.push(Change::Debug(new.engine.debug));
    }
    if old.engine.labels != new.engine.labels {
        changes.push(Change::Labels(new.engine.labels.clone()));
    }
    if Registries::of(old) != Registries::of(new) {
        changes.push(Change::Registries(Box::new(Registries::of(new))));
    }
    let defaults = Defaults::of(&new.engine);
    if Defaults::of(&old.engine) != defaults {
        changes.push(Change::Defaults(defaults));
    }
    if old.engine.layer_archives != new.engine.layer_archives {
        changes.push(Change::Archives(new.engine.layer_archives));
    }
    changes
}

/// Returns the configuration after a change.
pub fn apply(config: &mut Config, change: Change) {
    match change {
        Change::LogLevel(level) => config.log_level = level,
        Change::Debug(debug) => config.engine.debug = debug,
        Change::Labels(labels) => config.engine.labels = labels,
        Change::Defaults(defaults) => defaults.put(&mut config.engine),
        Change::Archives(archives) => config.engine.layer_archives = archives,
        Change::Registries(new) => {
            let Registries { mirrors, insecure, proxies, downloads, uploads, attempts } = *new;
            let engine = &mut config.engine;
            (engine.registry_mirrors, engine.insecure_registries, engine.proxies) =
                (mirrors, insecure, proxies);
            (engine.max_concurrent_downloads, engine.max_concurrent_uploads) = (downloads, uploads);
            engine.max_download_attempts = attempts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HostFacts, parse, resolve::resolve};
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        let given = parse::command_line(arguments.iter().map(|&text| text.to_owned())).unwrap();
        resolve(
            &given,
            &HostFacts {
                executable: "/w".into(),
                client_settings: "/c".into(),
                proxies: Default::default(),
                oldest_api: None,
                accounts: Default::default(),
            },
        )
        .unwrap()
    }

    #[test]
    fn only_what_differs_and_can_change_is_named() {
        let old = config(&["--label=a=b"]);
        let new = config(&["--label=c=d", "-D", "--mtu=9000"]);
        assert_eq!(diff(&old, &old), []);
        let changes = diff(&old, &new);
        assert_eq!(
            changes,
            [
                Change::LogLevel(tracing::Level::DEBUG),
                Change::Debug(true),
                Change::Labels(vec!["c=d".to_owned()])
            ]
        );
        let mirrored = config(&["--registry-mirror=https://m.example", "--max-concurrent-downloads=7"]);
        let changes_of_registries = diff(&config(&[]), &mirrored);
        assert!(matches!(changes_of_registries.as_slice(), [Change::Registries(new)] if new.downloads == 7));
        let runtimes = config(&["--add-runtime=other=/bin/other", "--default-runtime=other"]);
        let defaults = diff(&config(&[]), &runtimes);
        assert!(
            matches!(defaults.as_slice(), [Change::Defaults(new)] if new.default_runtime == "other"),
            "{defaults:?}"
        );
        let later = config(&["--default-shm-size=1g", "--default-stop-timeout=3"]);
        let defaults = diff(&config(&[]), &later);
        assert!(
            matches!(defaults.as_slice(), [Change::Defaults(new)] if new.shm_size == 1 << 30),
            "{defaults:?}"
        );
        let archives = diff(&config(&[]), &config(&["--layer-archives=rebuild"]));
        assert_eq!(archives, [Change::Archives(store::Archives::Rebuild)]);
        let mut applied = old;
        changes.into_iter().for_each(|change| apply(&mut applied, change));
        assert_eq!(diff(&applied, &new), []);
    }
}
