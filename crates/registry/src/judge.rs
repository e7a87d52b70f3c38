//! What must hold whatever a client of the registry sends, for the fuzz target.

use crate::route::{Route, is_name};
use crate::storage::manifest::Manifest;

/// Reads a request: its path in the first line, its content type in the second, then its body.
///
/// # Panics
///
/// When a name that is taken leads out of its folder, or a document that is taken is refused as what it says it is.
pub fn request(text: &[u8]) {
    let mut lines = text.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, media_type, body) = (line(), String::from_utf8_lossy(line()), line());
    let path = String::from_utf8_lossy(path);
    if let Some(
        Route::Tags(name)
        | Route::Manifest(name, _)
        | Route::Blob(name, _)
        | Route::Uploads(name)
        | Route::Upload(name, _)
        | Route::Referrers(name, _),
    ) = Route::parse(&path)
    {
        let out = name.starts_with('/') || name.split('/').any(|part| matches!(part, "" | "." | ".."));
        assert!(!is_name(name) || !out, "{name:?}");
    }
    if Manifest::parse(&media_type, body).is_ok() {
        assert!(Manifest::parse("", body).is_ok(), "{media_type:?}");
    }
}
