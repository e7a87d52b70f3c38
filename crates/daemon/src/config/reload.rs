//! What a reload (SIGHUP) changes: a pure comparison of two configurations.
//!
//! Options whose flag says `reloads` take effect at once; changes of the others wait
//! for the next start, without a word, as in dockerd.

use super::Config;

/// One change to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// How much is logged.
    LogLevel(tracing::Level),
    /// Whether `info` says that debug output is on.
    Debug(bool),
    /// The daemon's labels.
    Labels(Vec<String>),
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
    changes
}

/// Returns the configuration after a change.
pub fn apply(config: &mut Config, change: Change) {
    match change {
        Change::LogLevel(level) => config.log_level = level,
        Change::Debug(debug) => config.engine.debug = debug,
        Change::Labels(labels) => config.engine.labels = labels,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HostFacts, parse, resolve::resolve};
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        let given = parse::command_line(arguments.iter().map(|&text| text.to_owned())).unwrap();
        resolve(&given, &HostFacts { executable: "/w".into(), client_settings: "/c".into() }).unwrap()
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
        let mut applied = old;
        changes.into_iter().for_each(|change| apply(&mut applied, change));
        assert_eq!(diff(&applied, &new), []);
    }
}
