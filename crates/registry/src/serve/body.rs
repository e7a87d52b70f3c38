//! Bodies, both ways: files given out piece by piece, uploads written while the next piece comes.
//!
//! No thread waits for a client: each piece is read or written on a blocking thread by itself, so that any number of
//! slow clients takes none.

use crate::error::{Error, Refusal, Result};
use crate::storage::upload::Session;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// An answer's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How much of a file is read at once.
const PIECE: usize = 256 << 10;
/// How much of an upload is collected before it is written.
const BATCH: usize = 512 << 10;

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// A body that is here whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

fn never(nothing: Infallible) -> io::Error {
    match nothing {}
}

/// Runs something that blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::Body(format!("a request's work was given up: {error}"))),
    }
}

/// Reads at most `limit` bytes from the file's present position.
fn piece(mut file: File, limit: u64) -> (File, io::Result<Bytes>) {
    let size = usize::try_from(limit).map_or(PIECE, |limit| limit.min(PIECE));
    let mut buffer = BytesMut::zeroed(size);
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (file, Err(error)),
        }
    }
    buffer.truncate(filled);
    (file, Ok(buffer.freeze()))
}

/// Gives out `length` bytes of a file from `offset` on. The first piece is read now: it is all there is of most.
pub(crate) fn file(mut file: File, offset: u64, length: u64) -> io::Result<Body> {
    if offset > 0 {
        file.seek(SeekFrom::Start(offset))?;
    }
    let (file, first) = piece(file, length);
    let first = first?;
    let rest = length.saturating_sub(first.len() as u64);
    if first.is_empty() && rest > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if rest == 0 {
        return Ok(full(first));
    }
    let begin = (Some(first), file, rest);
    let pieces = stream::try_unfold(begin, |(ready, file, rest)| async move {
        if let Some(ready) = ready {
            return Ok(Some((Frame::data(ready), (None, file, rest))));
        }
        if rest == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || piece(file, rest));
        let (file, read) = read.await.map_err(io::Error::other)?;
        let read = read?;
        if read.is_empty() {
            // Whoever truncated it: the client must see a broken transfer, not a short file.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let rest = rest.saturating_sub(read.len() as u64);
        Ok(Some((Frame::data(read), (None, file, rest))))
    });
    Ok(BodyExt::boxed_unsync(StreamBody::new(pieces)))
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn collect(mut body: Incoming, limit: u64, too_large: Refusal) -> Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Body(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if (all.len() + data.len()) as u64 > limit {
                return Err(too_large.into());
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

/// Writes a body to an upload: one batch is hashed and written while the next comes.
///
/// What came before a failure stays in the upload.
pub(crate) async fn receive(session: Session, mut body: Incoming) -> Result<Session> {
    let mut idle = Some(session);
    let mut busy: Option<tokio::task::JoinHandle<Result<Session>>> = None;
    loop {
        let (batch, end) = batch(&mut body).await;
        if let Some(work) = busy.take() {
            idle = Some(work.await.map_err(|error| Error::Body(error.to_string()))??);
        }
        if !batch.is_empty()
            && let Some(mut session) = idle.take()
        {
            busy = Some(tokio::task::spawn_blocking(move || {
                for part in &batch {
                    session.write(part)?;
                }
                Ok(session)
            }));
        }
        match end {
            None => {}
            Some(outcome) => {
                if let Some(work) = busy.take() {
                    idle = Some(work.await.map_err(|error| Error::Body(error.to_string()))??);
                }
                outcome?;
                return idle.ok_or_else(|| Error::Body("the upload was lost".to_owned()));
            }
        }
    }
}

/// Collects frames until there is enough to write; says how the body ended, if it did.
async fn batch(body: &mut Incoming) -> (Vec<Bytes>, Option<Result<()>>) {
    let (mut batch, mut size) = (Vec::new(), 0);
    while size < BATCH {
        match body.frame().await {
            None => return (batch, Some(Ok(()))),
            Some(Err(error)) => return (batch, Some(Err(Error::Body(error.to_string())))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    size += data.len();
                    batch.push(data);
                }
            }
        }
    }
    (batch, None)
}
