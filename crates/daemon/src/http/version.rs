//! The version prefix of a path: `/v1.43/containers/json`.

use super::Failure;
use api::ApiVersion;

/// Splits a path into the version asked for, which is `oldest` at least, and the rest. Without a prefix the newest version
/// is meant.
///
/// # Errors
///
/// A version that is not served, in dockerd's words.
pub fn split(path: &str, oldest: ApiVersion) -> Result<(ApiVersion, &str), Failure> {
    let Some((prefix, rest)) = prefixed(path) else { return Ok((ApiVersion::MAX, path)) };
    let asked = prefix.parse::<ApiVersion>().map_err(|_not| Failure::page_not_found())?;
    if asked > ApiVersion::MAX {
        return Err(Failure::invalid(format!(
            "client version {prefix} is too new. Maximum supported API version is {}",
            ApiVersion::MAX
        )));
    }
    if asked < oldest {
        return Err(Failure::invalid(format!(
            "client version {prefix} is too old. Minimum supported API version is {oldest}, \
             please upgrade your client to a newer version"
        )));
    }
    Ok((asked, rest))
}

/// Returns the digits and dots after `/v`, and what follows them.
fn prefixed(path: &str) -> Option<(&str, &str)> {
    let text = path.strip_prefix("/v")?;
    let (prefix, rest) = text.split_at_checked(text.find('/')?)?;
    let fits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    fits.then_some((prefix, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_refuses_as_dockerd() {
        for (path, expect) in [
            ("/v1.24/_ping", Ok((ApiVersion::new(1, 24), "/_ping"))),
            ("/v1.51/a/b", Ok((ApiVersion::new(1, 51), "/a/b"))),
            ("/_ping", Ok((ApiVersion::MAX, "/_ping"))),
            ("/version", Ok((ApiVersion::MAX, "/version"))),
            ("/volumes/v1.20", Ok((ApiVersion::MAX, "/volumes/v1.20"))),
            ("/v1.52/x", Err("client version 1.52 is too new. Maximum supported API version is 1.51")),
            (
                "/v1.23/x",
                Err("client version 1.23 is too old. Minimum supported API version is 1.24, \
                     please upgrade your client to a newer version"),
            ),
            ("/v1/x", Err("page not found")),
        ] {
            let found = split(path, ApiVersion::MIN);
            let found = found.as_ref().map(|found| *found).map_err(|failure| failure.message.as_str());
            assert_eq!(found, expect, "{path}");
        }
        assert!(split("/v1.43/x", ApiVersion::new(1, 44)).is_err());
        assert!(split("/v1.44/x", ApiVersion::new(1, 44)).is_ok());
    }
}
