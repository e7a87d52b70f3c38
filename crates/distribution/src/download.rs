//! Downloads from any URL, for builds: redirects are followed, no registry and no credentials are involved.

use crate::Client;
use crate::error::Error;
use bytes::Bytes;
use http::Uri;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, HeaderMap, LAST_MODIFIED};
use hyper::body::Incoming;

/// A download that goes on.
#[derive(Debug)]
pub struct Download {
    /// When the content was last changed, in seconds since 1970, if the server says so.
    pub modified: Option<i64>,
    /// What the server calls it.
    pub name: Option<String>,
    /// Its size in bytes, if the server says.
    pub size: Option<u64>,
    client: Client,
    url: Uri,
    body: Incoming,
}

impl Client {
    /// Begins to download what `url` names.
    ///
    /// # Errors
    ///
    /// That it is no URL, cannot be reached, or the answer is not one of success.
    pub async fn download(&self, url: &str) -> Result<Download, Error> {
        let parsed: Uri = url
            .parse()
            .map_err(|_ignored| Error::Protocol { url: url.to_owned(), problem: "not a URL".to_owned() })?;
        let answer = self.inner().exchange.get(parsed).await?;
        let headers = answer.response.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Download {
            modified: text(LAST_MODIFIED).and_then(seconds),
            name: name(headers),
            size: text(CONTENT_LENGTH).and_then(|size| size.parse().ok()),
            client: self.clone(),
            url: answer.url,
            body: answer.response.into_body(),
        })
    }
}

impl Download {
    /// Returns the next piece, `None` at the end.
    ///
    /// # Errors
    ///
    /// That the connection broke off or stalled.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.client.inner().exchange.transport.chunk(&self.url, &mut self.body).await
    }
}

/// The file name of `Content-Disposition: attachment; filename="x"` (RFC 6266), without folders.
fn name(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_DISPOSITION)?.to_str().ok()?;
    let given = value.split(';').map(str::trim).find_map(|part| part.strip_prefix("filename="))?;
    let last = given.trim_matches('"').rsplit('/').next()?.to_owned();
    (!matches!(last.as_str(), "" | "." | "..")).then_some(last)
}

/// Reads `Wed, 21 Oct 2015 07:28:00 GMT` (RFC 9110, 5.6.7).
fn seconds(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split([' ', ':', ',']).filter(|part| !part.is_empty()).skip(1);
    let day: i64 = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = i64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let mut number = || parts.next()?.parse::<i64>().ok();
    let (year, hour, minute, second) = (number()?, number()?, number()?, number()?);
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, in_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days =
        era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_names_of_headers() {
        for (text, expect) in [
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(1_445_412_480)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), expect, "{text}");
        }
        for (text, expect) in [
            ("attachment; filename=\"a.tgz\"", Some("a.tgz")),
            ("attachment; filename=../../x", Some("x")),
            ("attachment; filename=\"..\"", None),
            ("inline", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_DISPOSITION, text.parse().unwrap());
            assert_eq!(name(&headers).as_deref(), expect, "{text}");
        }
    }
}
