//! Showing a build: lines as they come, or a few moving lines on a terminal.

use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::program::columns;
use api::progress::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::time::Instant;

/// Lines of output shown of a running step.
const TAIL: usize = 6;

/// What a build made, by identifiers; empty for what it did not.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) image: String,
    /// The image of a cache that is to be fetched.
    pub(super) cache: String,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Terminal,
    Json,
    Nothing,
}

/// An event of the daemon; which one it is, its first field says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    begin: Option<usize>,
    output: Option<usize>,
    cached: Option<usize>,
    missed: Option<usize>,
    note: Option<usize>,
    end: Option<usize>,
    name: String,
    text: String,
    why: String,
    bytes: String,
}

/// A step that goes on.
#[derive(Debug)]
struct Step {
    title: String,
    started: Instant,
    cached: bool,
    /// What was written without a line's end yet.
    partial: Vec<u8>,
    tail: Vec<String>,
}

/// Shows a build.
pub(super) struct Show {
    form: Form,
    steps: BTreeMap<usize, Step>,
    /// Lines that are drawn and will be drawn over.
    drawn: usize,
    begun: Instant,
    /// What a quiet build would have shown, for when it fails.
    hidden: Vec<u8>,
}

impl Show {
    pub(super) fn new(matches: &Matches) -> Result<Self> {
        let terminal = || io::stderr().is_terminal();
        let form = match matches.text("progress") {
            _ if matches.switch("quiet") => Form::Nothing,
            "auto" | "" | "tty" if terminal() => Form::Terminal,
            "auto" | "" | "plain" => Form::Plain,
            "tty" => return Err(Error::message("failed to get console: standard error is no terminal")),
            "rawjson" => Form::Json,
            "quiet" => Form::Nothing,
            other => {
                let text =
                    format!("invalid progress mode {other:?}: it is one of auto, plain, tty, rawjson, quiet");
                return Err(Error::message(text));
            }
        };
        Ok(Self { form, steps: BTreeMap::new(), drawn: 0, begun: Instant::now(), hidden: Vec::new() })
    }

    /// Reads messages to their end.
    pub(super) fn follow(&mut self, source: impl Read) -> Result<Made> {
        let mut reader = BufReader::new(source);
        let mut line = Vec::new();
        let mut made = Made::default();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(Error::file("read", "progress"))?;
            if length == 0 {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message: Message =
                serde_json::from_slice(&line).map_err(|error| Error::message(error.to_string()))?;
            if let Some(detail) = message.error_detail {
                self.failed();
                let code = u8::try_from(detail.code).ok().filter(|code| *code > 0);
                let text = format!("ERROR: failed to build: {}", detail.message);
                return Err(match code {
                    Some(code) => Error::Usage { text, code },
                    None => Error::message(text),
                });
            }
            if message.id == "wharf.build" {
                if self.form == Form::Json {
                    self.write(&line);
                } else if let Some(value) = message.aux {
                    let event: Event = serde_json::from_value(value).unwrap_or_default();
                    self.event(&event);
                }
                continue;
            }
            let aux = |name: &str| message.aux.as_ref()?.get(name)?.as_str();
            match (aux("ID"), aux("Cache")) {
                (Some(image), _) => image.clone_into(&mut made.image),
                (None, Some(cache)) => cache.clone_into(&mut made.cache),
                (None, None) => self.message(&message),
            }
        }
        self.redraw();
        Ok(made)
    }

    fn message(&mut self, message: &Message) {
        let text = if !message.stream.is_empty() {
            message.stream.trim_end().to_owned()
        } else if message.progress_detail.is_none() && !message.status.is_empty() {
            let id = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
            format!("{id}{}", message.status)
        } else {
            return;
        };
        if self.form == Form::Nothing && text.starts_with("sha256:") {
            return;
        }
        self.line(&text);
    }

    fn event(&mut self, event: &Event) {
        if let Some(step) = event.begin {
            let first = event.text.lines().next().unwrap_or_default();
            let title = format!("[{}] {first}", event.name);
            if self.form != Form::Terminal {
                self.line(&format!("#{step} {title}"));
            }
            let begun =
                Step { title, started: Instant::now(), cached: false, partial: Vec::new(), tail: Vec::new() };
            self.steps.insert(step, begun);
        } else if let Some(number) = event.output {
            let bytes = STANDARD.decode(&event.bytes).unwrap_or_default();
            self.output(number, &bytes);
        } else if let Some(number) = event.cached {
            if let Some(step) = self.steps.get_mut(&number) {
                step.cached = true;
            }
        } else if let Some(step) = event.missed {
            self.line(&format!("#{step} not cached: {}", event.why));
        } else if let Some(step) = event.note {
            self.line(&format!("#{step} {}", event.text.trim_end()));
        } else if let Some(number) = event.end {
            self.end(number);
        }
        self.redraw();
    }

    fn output(&mut self, number: usize, bytes: &[u8]) {
        let plain = self.form != Form::Terminal;
        let Some(step) = self.steps.get_mut(&number) else { return };
        let elapsed = step.started.elapsed().as_secs_f64();
        step.partial.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = step.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = step.partial.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        step.tail.extend(lines.iter().cloned());
        let excess = step.tail.len().saturating_sub(TAIL);
        step.tail.drain(..excess);
        if plain {
            for line in lines {
                self.line(&format!("#{number} {elapsed:.3} {line}"));
            }
        }
    }

    fn end(&mut self, number: usize) {
        let Some(step) = self.steps.remove(&number) else { return };
        let elapsed = step.started.elapsed().as_secs_f64();
        if self.form == Form::Terminal {
            let mark = if step.cached { "CACHED " } else { "" };
            self.line(&format!(" => {mark}{:<60} {elapsed:.1}s", step.title));
            return;
        }
        if !step.partial.is_empty() {
            self.line(&format!("#{number} {elapsed:.3} {}", String::from_utf8_lossy(&step.partial)));
        }
        match step.cached {
            true => self.line(&format!("#{number} CACHED\n")),
            false => self.line(&format!("#{number} DONE {elapsed:.1}s\n")),
        }
    }

    /// What is left to be said when the build has failed: the last output of the steps that were going on.
    fn failed(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        for (number, step) in steps {
            if !step.partial.is_empty() {
                self.line(&format!("#{number} {}", String::from_utf8_lossy(&step.partial)));
            }
            if self.form == Form::Terminal && !step.tail.is_empty() {
                self.line(&format!(" > {}:", step.title));
                for line in &step.tail {
                    self.line(&format!("   {line}"));
                }
            }
        }
        let hidden = std::mem::take(&mut self.hidden);
        if self.form == Form::Nothing {
            self.form = Form::Plain;
            self.write(&hidden);
        }
    }

    /// Writes a line that stays.
    fn line(&mut self, text: &str) {
        if self.form == Form::Json {
            return;
        }
        self.wipe();
        self.write(format!("{text}\n").as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.form == Form::Nothing {
            self.hidden.extend_from_slice(bytes);
            return;
        }
        let mut stderr = io::stderr().lock();
        // The terminal may be gone; the build goes on.
        drop(stderr.write_all(bytes).and_then(|()| stderr.flush()));
    }

    /// Takes away what is drawn over.
    fn wipe(&mut self) {
        if self.drawn > 0 {
            let up = format!("\u{1b}[{}A\u{1b}[0J", self.drawn);
            self.drawn = 0;
            self.write(up.as_bytes());
        }
    }

    /// Draws the steps that go on.
    fn redraw(&mut self) {
        if self.form != Form::Terminal {
            return;
        }
        self.wipe();
        let width = columns().max(20);
        let cut = |text: String| text.chars().take(width - 1).collect::<String>();
        let mut lines = Vec::new();
        for step in self.steps.values() {
            let elapsed = step.started.elapsed().as_secs_f64();
            lines.push(cut(format!(" => {:<60} {elapsed:.1}s", step.title)));
            lines.extend(step.tail.iter().map(|line| cut(format!(" => => {line}"))));
        }
        if !lines.is_empty() {
            lines.insert(0, cut(format!("[+] Building {:.1}s", self.begun.elapsed().as_secs_f64())));
        }
        self.drawn = lines.len();
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        self.write(text.as_bytes());
    }
}
