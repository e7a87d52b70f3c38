//! Reading a container's log.

use super::record::Container;
use super::state::State;
use super::{Containers, WaitCondition, Waiter};
use crate::error::{Error, Result};
use base::Kind;
use std::collections::BTreeMap;

/// A log that is being read.
#[derive(Debug)]
pub struct LogStream {
    /// The entries; blocking.
    pub reader: ::logs::Reader,
    /// Whether the container has a terminal: the stream is then raw, otherwise framed.
    pub terminal: bool,
    /// What a following reader waits for: when it ends, [`::logs::Stopper::finish`] is due.
    pub end: Option<Waiter>,
}

impl Containers {
    /// Opens a container's log. A follower is to be finished when [`LogStream::end`] is.
    ///
    /// # Errors
    ///
    /// Fails for a driver that does not keep what it writes.
    pub fn logs(&self, name: &str, query: ::logs::Query) -> Result<LogStream> {
        let handle = self.find(name)?;
        let end = query.follow.then(|| Waiter::new(&handle, WaitCondition::NotRunning));
        let container = handle.get();
        if matches!(container.state, State::Removing(_) | State::Dead(_)) {
            return Err(Error::conflict(
                "can not get logs from container which is dead or marked for removal",
            ));
        }
        let driver = self.log_driver(&container)?;
        let reader = ::logs::Reader::open(&driver, &self.settings.data.log(&container.id), query)
            .map_err(|error| Error::known(base::Classify::kind(&error), base::chain(&error)))?;
        Ok(LogStream { reader, terminal: container.config.tty, end })
    }

    fn log_driver(&self, container: &Container) -> Result<::logs::Driver> {
        let defaults =
            if self.settings.strict { ::logs::Defaults::Docker } else { ::logs::Defaults::Bounded };
        ::logs::Driver::new(&container.log.driver, &container.log.options, defaults)
            .map_err(|error| Error::known(Kind::Internal, base::chain(&error)))
    }
}

/// Returns what each entry carries by the options `labels`, `labels-regex` and `env`.
pub(super) fn attributes(container: &Container) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let option = |name: &str| container.log.options.get(name).map(String::as_str).unwrap_or_default();
    for name in option("labels").split(',').filter(|name| !name.is_empty()) {
        if let Some(value) = container.config.labels.as_ref().and_then(|labels| labels.get(name)) {
            attributes.insert(name.to_owned(), value.clone());
        }
    }
    for name in option("env").split(',').filter(|name| !name.is_empty()) {
        let variable = container.config.env.iter().flatten().find_map(|text| {
            let (key, value) = text.split_once('=')?;
            (key == name).then(|| value.to_owned())
        });
        if let Some(value) = variable {
            attributes.insert(name.to_owned(), value);
        }
    }
    attributes
}
