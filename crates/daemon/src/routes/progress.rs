//! Answers that tell how far an operation is: JSON messages, one a line (pull, push, load, import).

use crate::http::body::{self, Writer};
use crate::http::{Answer, Failure};
use api::progress::Message;
use base::Kind;
use std::future::Future;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Takes the messages of an operation. Never blocks.
#[derive(Debug, Clone)]
pub(super) struct Teller(UnboundedSender<Message>);

impl Teller {
    /// Tells a message; nobody minds if the client has gone.
    pub(super) fn tell(&self, message: Message) {
        drop(self.0.send(message));
    }
}

#[cfg(test)]
impl Teller {
    /// A teller, and what it tells.
    pub(super) fn for_test() -> (Self, UnboundedReceiver<Message>) {
        let (sender, messages) = unbounded_channel();
        (Self(sender), messages)
    }
}

/// An operation that ends when nobody waits for it any more.
struct Operation(JoinHandle<Result<(), Failure>>);

impl Drop for Operation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Operation {
    async fn end(mut self) -> Result<(), Failure> {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(error) => Err(Failure::new(Kind::Internal, format!("the request failed: {error}"))),
        }
    }
}

/// Runs an operation and answers with what it tells.
///
/// As in dockerd, a failure before the first message is an answer of its own status, and a later one the last
/// message. A client that goes away cancels the operation.
pub(super) async fn answer<F>(operation: impl FnOnce(Teller) -> F) -> Answer
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (sender, mut messages) = unbounded_channel();
    let operation = Operation(tokio::spawn(operation(Teller(sender))));
    let Some(first) = messages.recv().await else {
        operation.end().await?;
        return Ok(body::full(http::StatusCode::OK, "application/json", ""));
    };
    let (writer, response) = body::streamed("application/json");
    tokio::spawn(async move {
        tokio::select! {
            () = pass(first, messages, operation, &writer) => {}
            () = writer.gone() => {}
        }
    });
    Ok(response)
}

async fn pass(
    first: Message,
    mut messages: UnboundedReceiver<Message>,
    operation: Operation,
    writer: &Writer,
) {
    let mut next = Some(first);
    while let Some(message) = next {
        if writer.line(&message).await.is_err() {
            return;
        }
        next = messages.recv().await;
    }
    if let Err(failure) = operation.end().await {
        // The client may have gone.
        writer.line(&Message::error(failure.message)).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn text(answer: Answer) -> Result<String, Failure> {
        let bytes = answer?.into_body().collect().await.unwrap().to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn failures_are_answers_at_first_and_messages_later() {
        let failure = Failure::new(Kind::NotFound, "no");
        let early = answer(|_| std::future::ready(Err(failure.clone()))).await;
        assert_eq!(text(early).await.unwrap_err(), failure);
        let late = answer(|teller| async move {
            teller.tell(Message::status("a", "Waiting"));
            drop(teller);
            Err(Failure::new(Kind::NotFound, "no"))
        });
        assert_eq!(
            text(late.await).await.unwrap(),
            "{\"status\":\"Waiting\",\"id\":\"a\"}\r\n{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
        assert_eq!(text(answer(|_| std::future::ready(Ok(()))).await).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_client_that_goes_cancels_the_operation() {
        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let response = answer(|teller| async move {
            teller.tell(Message::status("a", "Waiting"));
            let _alive = alive;
            std::future::pending().await
        });
        drop(response.await.unwrap());
        assert_eq!(ended.recv().await, None);
    }
}
