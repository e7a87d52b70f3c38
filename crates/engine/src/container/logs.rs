//! Reading a container's log.

use super::record::Container;
use super::state::State;
use super::{Containers, WaitCondition, Waiter};
use crate::error::{Error, Result};
use base::Kind;

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

/// Returns what the log tells of the container: who it is, its tag, and what each entry carries.
///
/// # Errors
///
/// Fails for an expression or a template of the log's options that is none.
pub(super) fn origin(container: &Container) -> Result<::logs::Origin> {
    let config = &container.config;
    let none = api::StringMap::new();
    let words = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten());
    ::logs::Origin {
        id: container.id.to_string(),
        name: container.name.clone(),
        image_id: container.image.id.to_string(),
        image: config.image.clone(),
        command: words.cloned().collect::<Vec<_>>().join(" "),
        created: container.created,
        ..::logs::Origin::default()
    }
    .choose(
        &container.log.options,
        config.labels.as_ref().unwrap_or(&none),
        config.env.as_deref().unwrap_or_default(),
    )
    .map_err(|error| Error::invalid(error.to_string()))
}
