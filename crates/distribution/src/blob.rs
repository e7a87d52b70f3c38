//! A blob as it comes over the wire, from wherever it can be had.
//!
//! After a break the transfer goes on where it stopped, by a range request, at the same endpoint and then at the others.
//! The number of bytes is checked against the descriptor; **the digest is not**: whoever keeps the bytes hashes them.

use crate::error::{Error, Failure};
use crate::exchange::Call;
use crate::repository::Repository;
use crate::uri;
use bytes::{Buf as _, Bytes};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use hyper::body::Incoming;
use oci::Descriptor;

/// A try that brought this much counts as success for the number of failures in a row.
const PROGRESS: u64 = 1 << 20;

/// A transfer; ask for its pieces with [`Blob::chunk`].
#[derive(Debug)]
pub struct Blob {
    repository: Repository,
    path: String,
    name: String,
    size: u64,
    offset: u64,
    body: Option<(Uri, Incoming)>,
    /// The rest of a piece of which the beginning was known already.
    pending: Bytes,
    /// Endpoints not tried yet, the next one last.
    endpoints: Vec<usize>,
    failed: u32,
    /// Where the present try began.
    began: u64,
}

impl Blob {
    pub(crate) fn new(repository: Repository, descriptor: &Descriptor, offset: u64) -> Self {
        let current = repository.current();
        // The present one first, then the others from the origin on: a mirror that failed before comes last.
        let mut endpoints: Vec<usize> =
            repository.endpoints().filter(|(_, endpoint)| endpoint.pull).map(|(index, _)| index).collect();
        if let Some(position) = endpoints.iter().position(|&index| index == current) {
            let current = endpoints.remove(position);
            endpoints.push(current);
        }
        let path = repository.path(&format!("blobs/{}", descriptor.digest));
        let name = descriptor.digest.to_string();
        Self {
            repository,
            path,
            name,
            size: descriptor.size,
            offset,
            body: None,
            pending: Bytes::new(),
            endpoints,
            failed: 0,
            began: offset,
        }
    }

    /// Returns how many bytes of the blob have been given out, those before the first offset included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next piece, never empty; `None` once all bytes have been given out.
    ///
    /// # Errors
    ///
    /// When every endpoint has failed for good, or the blob turns out to be longer or shorter than its descriptor says.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while self.offset < self.size {
            let outcome = match self.body.as_mut() {
                Some(_) if !self.pending.is_empty() => Ok(Some(std::mem::take(&mut self.pending))),
                Some((url, body)) => self.repository.exchange().transport.chunk(url, body).await,
                None => match self.open().await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            let error = match outcome {
                Ok(Some(chunk)) => {
                    let after = self.offset + chunk.len() as u64;
                    if after <= self.size {
                        self.offset = after;
                        return Ok(Some(chunk));
                    }
                    self.protocol("more bytes than its descriptor says")
                }
                Ok(None) => self.broken(),
                Err(error) => error,
            };
            self.body = None;
            self.pending = Bytes::new();
            self.recover(error).await?;
        }
        Ok(None)
    }

    /// Waits and lets the next try begin, or gives the error back.
    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        if self.offset.saturating_sub(self.began) >= PROGRESS {
            self.failed = 0;
        }
        // Once bytes have come, a registry that cannot be reached is one that is being restarted.
        let again = error.is_transient() || (error.is_unreachable() && self.offset > self.began);
        let error = if again {
            self.failed += 1;
            self.began = self.offset;
            match self.repository.client().back_off(self.failed, error).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            }
        } else {
            error
        };
        // The next endpoint, if there is one. The last of the list is the present one.
        self.endpoints.pop();
        if self.endpoints.is_empty() {
            return Err(self.repository.worded(Some(error)));
        }
        tracing::warn!(blob = self.name, error = %base::chain(&error), "blob is fetched from the next endpoint");
        self.failed = 0;
        self.began = self.offset;
        Ok(())
    }

    async fn open(&mut self) -> Result<(), Error> {
        let endpoint = self.endpoints.last().and_then(|&index| self.repository.endpoint(index));
        let endpoint = endpoint.ok_or_else(|| self.repository.worded(None))?;
        let mut call = Call::new(Method::GET, self.path.clone());
        if self.offset > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={}-{}", self.offset, self.size - 1))
        {
            call = call.header(header::RANGE, range);
        }
        let answer = self.repository.exchange().success(self.repository.subject(endpoint), &call).await?;
        let partial = answer.response.status() == StatusCode::PARTIAL_CONTENT;
        if partial
            && range_start(answer.header(&header::CONTENT_RANGE).unwrap_or_default()) != Some(self.offset)
        {
            return Err(self.protocol("another range than asked for"));
        }
        let expected = if partial { self.size - self.offset } else { self.size };
        let length = answer.header(&header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length != expected) {
            return Err(self.protocol("another size than its descriptor says"));
        }
        let (url, mut body) = (answer.url, answer.response.into_body());
        let mut left = if partial { 0 } else { self.offset };
        while left > 0 {
            // A server without ranges: what we have already is read and thrown away.
            let chunk = self.repository.exchange().transport.chunk(&url, &mut body).await?;
            let mut chunk = chunk.ok_or_else(|| self.broken())?;
            let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(skipped);
            left -= skipped as u64;
            self.pending = chunk;
        }
        self.body = Some((url, body));
        Ok(())
    }

    fn protocol(&self, problem: &str) -> Error {
        Error::Protocol { url: self.name.clone(), problem: problem.to_owned() }
    }

    fn broken(&self) -> Error {
        let url = self.body.as_ref().map_or_else(|| self.path.clone(), |(url, _)| uri::without_query(url));
        let failure = Failure::Broken { problem: "unexpected EOF".to_owned() };
        Error::Request { method: "Get", url, failure, source: None }
    }
}

/// Returns where the range in a `Content-Range` header begins (RFC 9110 §14.4).
pub(crate) fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_starts() {
        for (value, start) in [
            ("bytes 5-9/10", Some(5)),
            ("bytes 0-0/*", Some(0)),
            ("bytes */10", None),
            ("", None),
            ("items 5-9/10", None),
        ] {
            assert_eq!(range_start(value), start, "{value}");
        }
    }
}
