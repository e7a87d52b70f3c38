//! The line below a pull's layers: how much of all of it has come, how fast, and when it will be done.

use crate::units;
use api::progress::Message;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Over how long the rate is measured.
const WINDOW: Duration = Duration::from_secs(5);
/// How long it must have gone on before a rate means something.
const LEAST: Duration = Duration::from_millis(500);

/// What is known of all layers of a pull.
#[derive(Debug, Default)]
pub(crate) struct Total {
    /// Bytes here and in all, by layer.
    layers: HashMap<String, (u64, u64)>,
    /// How much there was at some moments, the oldest first.
    seen: Vec<(Instant, u64)>,
}

impl Total {
    /// Learns the layers' sizes from what the engine tells for programs.
    pub(crate) fn learn(&mut self, aux: &Value) {
        let Some(layers) = aux.get("Layers").and_then(Value::as_object) else { return };
        for (id, size) in layers {
            self.layers.insert(id.clone(), (0, size.as_u64().unwrap_or(0)));
        }
    }

    /// Counts what a message says of its layer.
    pub(crate) fn count(&mut self, message: &Message, now: Instant) {
        let detail = message.progress_detail.as_ref();
        match message.status.as_str() {
            // What was here before is no part of the work.
            "Already exists" => drop(self.layers.remove(&message.id)),
            status => {
                let Some((current, total)) = self.layers.get_mut(&message.id) else { return };
                *current = match status {
                    "Pulling fs layer" | "Waiting" => return,
                    "Downloading" => {
                        let told = detail.and_then(|detail| u64::try_from(detail.current).ok());
                        told.unwrap_or(*current).min(*total)
                    }
                    _ => *total,
                };
            }
        }
        let here = self.layers.values().map(|(current, _)| current).sum();
        let old = self.seen.iter().take_while(|(when, _)| now.duration_since(*when) > WINDOW).count();
        // One from before the window stays, to measure from.
        self.seen.drain(..old.saturating_sub(1));
        self.seen.push((now, here));
    }

    /// Returns the line while anything has still to come.
    pub(crate) fn line(&self) -> Option<String> {
        let all: u64 = self.layers.values().map(|(_, total)| total).sum();
        let (&(begin, before), &(now, here)) = (self.seen.first()?, self.seen.last()?);
        if here >= all {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
        let size = |bytes: u64| units::human_size_digits(bytes as f64, 3);
        let mut line = format!("Total: {}/{}", size(here), size(all));
        let elapsed = now.duration_since(begin);
        let rate = u128::from(here.saturating_sub(before)) * 1000 / elapsed.as_millis().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if elapsed >= LEAST && rate > 0 {
            line.push_str(&format!("  {}/s  {} left", size(rate), left((all - here).div_ceil(rate))));
        }
        Some(line)
    }
}

/// Writes a time in its two largest units.
fn left(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::progress::Detail;

    #[test]
    fn rates_and_times() {
        let mut total = Total::default();
        total.learn(&serde_json::json!({"Layers": {"a": 6_000_000, "b": 4_000_000, "c": 9_000_000}}));
        let begin = Instant::now();
        let mut tell = |id: &str, status: &str, current, milliseconds| {
            let detail = Some(Detail { current, ..Detail::default() });
            let message = Message {
                id: id.to_owned(),
                status: status.to_owned(),
                progress_detail: detail,
                ..Message::default()
            };
            total.count(&message, begin + Duration::from_millis(milliseconds));
            total.line()
        };
        assert_eq!(tell("c", "Already exists", 0, 0).as_deref(), Some("Total: 0B/10MB"));
        assert_eq!(tell("a", "Pulling fs layer", 0, 1).as_deref(), Some("Total: 0B/10MB"));
        assert_eq!(tell("a", "Downloading", 1_000_000, 100).as_deref(), Some("Total: 1MB/10MB"));
        let shown = tell("a", "Downloading", 2_000_000, 1_000);
        assert_eq!(shown.as_deref(), Some("Total: 2MB/10MB  2MB/s  4s left"));
        let shown = tell("a", "Download complete", 0, 2_000);
        assert_eq!(shown.as_deref(), Some("Total: 6MB/10MB  3MB/s  2s left"));
        // What was long ago does not count.
        let shown = tell("b", "Downloading", 10_000, 60_000);
        assert_eq!(shown.as_deref(), Some("Total: 6.01MB/10MB  172B/s  6h26m left"));
        assert_eq!(tell("b", "Extracting", 1, 61_000), None);
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, shown) in [(0, "0s"), (59, "59s"), (61, "1m01s"), (3_599, "59m59s"), (3_660, "1h01m")] {
            assert_eq!(left(seconds), shown);
        }
    }
}
