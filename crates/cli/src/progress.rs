//! Shows the messages of a pull, push, load or import: one line per layer on a terminal, plain lines otherwise.

use crate::error::{Error, Result};
use crate::total::Total;
use crate::units;
use api::progress::{Detail, Message};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Instant;

/// Columns from which a bar is drawn beside the numbers.
const WIDE: usize = 110;
/// Steps of a bar.
const STEPS: usize = 50;

/// Reads messages to their end and shows them on `output`; `aux` gets what is meant for programs.
pub(crate) fn show(
    source: impl Read,
    output: &mut dyn Write,
    terminal: Option<usize>,
    mut aux: impl FnMut(&Value),
) -> Result<()> {
    let mut lines = Lines { terminal, positions: HashMap::new(), total: Total::default(), totalled: false };
    let mut reader = BufReader::new(source);
    let mut document = Vec::new();
    loop {
        document.clear();
        let length = reader.read_until(b'\n', &mut document).map_err(Error::file("read", "progress"))?;
        if length == 0 {
            return Ok(());
        }
        if document.trim_ascii().is_empty() {
            continue;
        }
        let messages = serde_json::Deserializer::from_slice(&document).into_iter::<Message>();
        for message in messages {
            let message = message.map_err(|error| Error::message(error.to_string()))?;
            let failed = message.error_detail.as_ref().map_or(&message.error, |detail| &detail.message);
            if message.error_detail.is_some() || !failed.is_empty() {
                // The terminal may be gone; the error is told anyhow.
                drop(output.write_all(lines.without_total().as_bytes()).and_then(|()| output.flush()));
                return Err(Error::message(failed.clone()));
            }
            if let Some(value) = &message.aux {
                lines.total.learn(value);
                aux(value);
                continue;
            }
            // The terminal may be gone; the operation goes on.
            drop(output.write_all(lines.shown(&message).as_bytes()).and_then(|()| output.flush()));
        }
    }
}

/// Which line of the terminal each id has.
struct Lines {
    /// Columns, if output is a terminal.
    terminal: Option<usize>,
    positions: HashMap<String, usize>,
    /// What a pull's layers sum up to, where their sizes are told.
    total: Total,
    /// Whether the cursor's line shows it.
    totalled: bool,
}

impl Lines {
    /// Returns what is to be written for a message, with the movements of the cursor.
    fn shown(&mut self, message: &Message) -> String {
        let moves =
            !message.id.is_empty() && (message.progress_detail.is_some() || !message.progress.is_empty());
        let mut text = String::new();
        let mut up = 0;
        if moves {
            let next = self.positions.len();
            let known = self.positions.contains_key(&message.id);
            let line = *self.positions.entry(message.id.clone()).or_insert(next);
            if !known && self.terminal.is_some() {
                text.push('\n');
            }
            up = self.positions.len() - line;
            self.total.count(message, Instant::now());
        } else {
            self.positions.clear();
            text.push_str(self.without_total());
        }
        let at_terminal = self.terminal.is_some() && up > 0;
        if at_terminal {
            text.push_str(&format!("\u{1b}[{up}A"));
        }
        text.push_str(&self.line(message));
        if at_terminal {
            text.push_str(&format!("\u{1b}[{up}B"));
            match self.total.line() {
                Some(line) => {
                    text.push_str(&format!("\u{1b}[2K\r{line}\r"));
                    self.totalled = true;
                }
                None => text.push_str(self.without_total()),
            }
        }
        text
    }

    /// Returns what takes the total away, if it is shown.
    fn without_total(&mut self) -> &'static str {
        if std::mem::take(&mut self.totalled) { "\u{1b}[2K\r" } else { "" }
    }

    fn line(&self, message: &Message) -> String {
        let bar = message.progress_detail.as_ref().map(|detail| bar(detail, self.terminal.unwrap_or(200)));
        let mut text = String::new();
        let mut end = "";
        match (&bar, self.terminal) {
            (Some(_), Some(_)) if message.stream.is_empty() => {
                end = "\r";
                text.push_str("\u{1b}[2K\r");
            }
            // Without a terminal only what is not a bar is worth a line.
            (Some(bar), None) if !bar.is_empty() => return text,
            _ => {}
        }
        if !message.id.is_empty() {
            text.push_str(&format!("{}: ", message.id));
        }
        match bar {
            Some(bar) if self.terminal.is_some() => text.push_str(&format!("{} {bar}{end}", message.status)),
            _ if !message.progress.is_empty() => {
                text.push_str(&format!("{} {}{end}", message.status, message.progress));
            }
            _ if !message.stream.is_empty() => text.push_str(&format!("{}{end}", message.stream)),
            _ => text.push_str(&format!("{}{end}\n", message.status)),
        }
        text
    }
}

/// Draws `[====>      ]  1.2MB/3.4MB`.
fn bar(detail: &Detail, columns: usize) -> String {
    if detail.current <= 0 && detail.total <= 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let (current, total) = (detail.current as f64, detail.total as f64);
    let size = |bytes: f64| match detail.units.as_str() {
        "" => units::human_size(bytes),
        units => format!("{bytes} {units}"),
    };
    if detail.total <= 0 {
        return format!("{:>8}", size(current));
    }
    let mut text = String::new();
    if columns > WIDE {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 50")]
        let done = ((current / total * 100.0).clamp(0.0, 100.0) as usize / 2).min(STEPS);
        text.push_str(&format!("[{}>{}] ", "=".repeat(done), " ".repeat(STEPS - done)));
    }
    if !detail.hide_counts {
        text.push_str(&format!("{:>8}", size(current)));
        if current <= total {
            text.push_str(&format!("/{}", size(total)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: &str = concat!(
        r#"{"status":"Pulling from library/x","id":"latest"}"#,
        "\n",
        r#"{"status":"Pulling fs layer","progressDetail":{},"id":"aa"}"#,
        "\n",
        r#"{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"aa"}"#,
        "\n",
        r#"{"status":"Pull complete","progressDetail":{},"id":"aa"}"#,
        "\n",
        r#"{"status":"Digest: sha256:00"}"#,
        "\n",
    );

    fn check(terminal: Option<usize>, expect: &str) {
        let mut output = Vec::new();
        show(PULL.as_bytes(), &mut output, terminal, |_| {}).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), expect);
    }

    #[test]
    fn plain_lines_without_a_terminal() {
        check(
            None,
            "latest: Pulling from library/x\naa: Pulling fs layer\naa: Pull complete\nDigest: sha256:00\n",
        );
    }

    #[test]
    fn one_line_per_layer_on_a_terminal() {
        check(
            Some(100),
            "latest: Pulling from library/x\n\n\u{1b}[1A\u{1b}[2K\raa: Pulling fs layer \r\u{1b}[1B\u{1b}[1A\u{1b}[2K\raa: Downloading     500B/1kB\r\u{1b}[1B\u{1b}[1A\u{1b}[2K\raa: Pull complete \r\u{1b}[1BDigest: sha256:00\n",
        );
    }

    #[test]
    fn a_total_follows_the_layers() {
        let sizes = "{\"aux\":{\"Layers\":{\"aa\":1000}}}\n";
        let mut output = Vec::new();
        show([sizes, PULL].concat().as_bytes(), &mut output, Some(100), |_| {}).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "latest: Pulling from library/x\n\n\u{1b}[1A\u{1b}[2K\raa: Pulling fs layer \r\u{1b}[1B\u{1b}[1A\u{1b}[2K\raa: Downloading     500B/1kB\r\u{1b}[1B\u{1b}[2K\rTotal: 500B/1kB\r\u{1b}[1A\u{1b}[2K\raa: Pull complete \r\u{1b}[1B\u{1b}[2K\rDigest: sha256:00\n"
        );
    }

    #[test]
    fn errors_end_it() {
        let source = r#"{"errorDetail":{"message":"no"},"error":"no"}"#;
        let error = show(source.as_bytes(), &mut Vec::new(), None, |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "no");
    }
}
