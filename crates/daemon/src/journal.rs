//! The daemon's own log, on standard error.

use crate::config::resolve::LogFormat;
use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

/// Changes how much is logged.
#[derive(Debug, Clone)]
pub struct Volume(reload::Handle<LevelFilter, Registry>);

impl Volume {
    /// Logs at `level` and above from now on.
    pub fn set(&self, level: Level) {
        // Fails only if the log is gone, and then nothing is logged anyway.
        drop(self.0.reload(LevelFilter::from_level(level)));
    }
}

/// Begins to log. Does nothing if somebody has begun already.
pub fn start(level: Level, format: LogFormat, colours: bool) -> Volume {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // An error says that there is a log already (in tests).
    drop(tracing_subscriber::registry().with(filter).with(lines).try_init());
    Volume(handle)
}
