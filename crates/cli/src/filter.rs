//! `--filter name=value`

use crate::flags::{Flag, Kind};
use api::Filters;

/// Makes a filter flag.
pub(crate) const fn flag(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Checked("filter", check), help)
}

fn check(text: &str) -> Result<(), String> {
    match text {
        "" => Ok(()),
        text if text.contains('=') => Ok(()),
        _ => Err("bad format of filter (expected name=value)".to_owned()),
    }
}

/// Returns the filters of flags.
pub(crate) fn parse(texts: &[String]) -> Filters {
    let mut filters = Filters::default();
    for (key, value) in texts.iter().filter_map(|text| text.split_once('=')) {
        filters.add(key.trim().to_lowercase(), value.trim());
    }
    filters
}

/// Returns the query parameter; empty without filters.
pub(crate) fn encode(texts: &[String]) -> String {
    parse(texts).encode()
}
