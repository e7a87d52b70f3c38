//! What must hold whatever a registry says, for tests by random changes and the fuzz target.

use crate::{blob, challenge, repository, uri};
use http::Uri;

/// Reads `text` as each of the headers that registries send.
///
/// # Panics
///
/// When what comes of it is more than there was, or leads nowhere.
pub fn header(text: &str) {
    // None of them is longer than what it was made of.
    assert!(challenge::parse([text]).len() <= text.len() + 1, "{text:?}");
    assert!(repository::next_page(text).is_none_or(|next| next.len() < text.len()), "{text:?}");
    assert!(blob::range_start(text).is_none() || text.contains("bytes"), "{text:?}");
    if let Some(joined) = uri::join(&Uri::from_static("https://r.example/v2/a/"), text) {
        assert!(joined.host().is_some_and(|host| !host.is_empty()), "{text:?}");
    }
}
