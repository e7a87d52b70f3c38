//! What a build tells: the classic builder's lines, or events for Wharf's own command line.
//!
//! Stages run at the same time; what they tell is put into the order of their steps. The step that is first of those
//! unfinished is told live, the others when their turn comes.

use crate::routes::progress::Teller;
use api::progress::Message;
use base64::Engine as _;
use engine::builds::{Event, Progress, Stream};
use oci::{Digest, Reference};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Tells a build's events to a client.
pub(super) struct Report {
    teller: Teller,
    quiet: bool,
    /// Whether the client understands events.
    events: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The step that is told live.
    live: usize,
    /// What later steps told.
    waiting: BTreeMap<usize, Vec<Event>>,
    /// The name of the live step's process.
    running: Option<String>,
    /// What a quiet build would have told, for when it fails.
    hidden: Vec<Message>,
}

impl Report {
    pub(super) fn new(teller: Teller, quiet: bool, events: bool) -> Self {
        let state = State { live: 1, waiting: BTreeMap::new(), running: None, hidden: Vec::new() };
        Self { teller, quiet, events, state: Mutex::new(state) }
    }

    /// Tells what is still waiting; after a failure also what a quiet build kept back.
    pub(super) fn flush(&self, failed: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, events) in std::mem::take(&mut state.waiting) {
            for event in events {
                self.tell_now(&mut state, event);
            }
        }
        if failed {
            for message in std::mem::take(&mut state.hidden) {
                self.teller.tell(message);
            }
        }
    }

    /// Tells how far a pull is.
    pub(super) fn pull(&self, message: Message) {
        if !self.quiet {
            self.teller.tell(message);
        }
    }

    /// Tells a line about the whole build.
    pub(super) fn line(&self, text: &str) {
        if !self.quiet {
            self.teller.tell(stream(text));
        }
    }

    /// Tells the image of the cache that the client fetches.
    pub(super) fn cache(&self, id: &Digest) {
        self.teller.tell(Message { aux: Some(json!({ "Cache": id.to_string() })), ..Message::default() });
    }

    /// Tells the result.
    pub(super) fn built(&self, id: &Digest, names: &[Reference]) {
        if self.quiet {
            self.teller.tell(stream(&format!("{id}\n")));
            return;
        }
        self.teller.tell(Message { aux: Some(json!({ "ID": id.to_string() })), ..Message::default() });
        self.teller.tell(stream(&format!("Successfully built {}\n", id.short())));
        for name in names {
            self.teller.tell(stream(&format!("Successfully tagged {}\n", name.familiar())));
        }
    }

    fn tell_now(&self, state: &mut State, event: Event) {
        let message = if self.events { event_message(&event) } else { classic(state, event) };
        let Some(message) = message else { return };
        if self.quiet {
            state.hidden.push(message);
        } else {
            self.teller.tell(message);
        }
    }
}

impl Progress for Report {
    fn tell(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that shows steps side by side wants them as they come.
        if self.events {
            self.tell_now(&mut state, event);
            return;
        }
        let step = step_of(&event);
        if step > state.live {
            state.waiting.entry(step).or_default().push(event);
            return;
        }
        let mut ended = matches!(event, Event::End { .. }) && step == state.live;
        self.tell_now(&mut state, event);
        while ended {
            state.live += 1;
            ended = false;
            let live = state.live;
            for event in state.waiting.remove(&live).unwrap_or_default() {
                ended |= matches!(event, Event::End { .. });
                self.tell_now(&mut state, event);
            }
        }
    }
}

fn step_of(event: &Event) -> usize {
    match event {
        Event::Begin { step, .. }
        | Event::Running { step, .. }
        | Event::Output { step, .. }
        | Event::Cached { step }
        | Event::Missed { step, .. }
        | Event::End { step, .. }
        | Event::Note { step, .. } => *step,
    }
}

fn stream(text: &str) -> Message {
    Message { stream: text.to_owned(), ..Message::default() }
}

/// The line of the classic builder (moby, builder/dockerfile).
fn classic(state: &mut State, event: Event) -> Option<Message> {
    let text = match event {
        Event::Begin { step, total, text, .. } => format!("Step {step}/{total} : {text}\n"),
        Event::Running { id, .. } => {
            let text = format!(" ---> Running in {id}\n");
            state.running = Some(id);
            text
        }
        Event::Output { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
        Event::Cached { .. } => " ---> Using cache\n".to_owned(),
        Event::Missed { why, .. } => format!(" ---> Not cached: {why}\n"),
        Event::End { id, .. } => {
            let removed = state.running.take().map(|id| format!("Removing intermediate container {id}\n"));
            format!("{} ---> {id}\n", removed.unwrap_or_default())
        }
        Event::Note { text, .. } => text,
    };
    Some(stream(&text))
}

/// The event as Wharf's own command line reads it.
fn event_message(event: &Event) -> Option<Message> {
    let value = match event {
        Event::Begin { step, total, stage, name, text } => {
            json!({ "begin": step, "total": total, "stage": stage, "name": name, "text": text })
        }
        Event::Running { step, id } => json!({ "running": step, "id": id }),
        Event::Output { step, stream, bytes } => {
            let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
            json!({ "output": step, "error": *stream == Stream::Error, "bytes": bytes })
        }
        Event::Cached { step } => json!({ "cached": step }),
        Event::Missed { step, why } => json!({ "missed": step, "why": why }),
        Event::End { step, id } => json!({ "end": step, "id": id }),
        Event::Note { step, text } => json!({ "note": step, "text": text }),
    };
    Some(Message { id: "wharf.build".to_owned(), aux: Some(value), ..Message::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: Vec<Event>) -> Vec<String> {
        let (teller, mut messages) = Teller::for_test();
        let report = Report::new(teller, false, false);
        for event in events {
            report.tell(event);
        }
        report.flush(false);
        drop(report);
        let mut all = Vec::new();
        while let Ok(message) = messages.try_recv() {
            all.push(message.stream);
        }
        all
    }

    #[test]
    fn parallel_steps_are_told_in_order() {
        let begin = |step: usize| Event::Begin {
            step,
            total: 3,
            stage: 0,
            name: String::new(),
            text: format!("RUN {step}"),
        };
        let end = |step: usize| Event::End { step, id: format!("id{step}") };
        let output = |step: usize| Event::Output {
            step,
            stream: Stream::Output,
            bytes: format!("out{step}\n").into_bytes(),
        };
        let running = Event::Running { step: 1, id: "c".to_owned() };
        let all = told(vec![
            begin(1),
            begin(3),
            output(3),
            running,
            output(1),
            end(3),
            end(1),
            begin(2),
            Event::Cached { step: 2 },
            end(2),
        ]);
        assert_eq!(
            all,
            [
                "Step 1/3 : RUN 1\n",
                " ---> Running in c\n",
                "out1\n",
                "Removing intermediate container c\n ---> id1\n",
                "Step 2/3 : RUN 2\n",
                " ---> Using cache\n",
                " ---> id2\n",
                "Step 3/3 : RUN 3\n",
                "out3\n",
                " ---> id3\n",
            ]
        );
    }
}
