//! Syslog: RFC 3164 as the local daemon takes it, RFC 3164, RFC 5424.
//!
//! The lines are those of dockerd, whose process id stands for ours.

use super::Message;
use crate::Origin;
use base::Timestamp;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As a program on this host writes: no host name.
    Unix,
    /// RFC 3164.
    Old,
    /// RFC 5424, times to the second.
    New,
    /// RFC 5424, times to the microsecond.
    NewMicro,
}

/// What a message is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) facility: u8,
    pub(crate) format: Format,
}

const FACILITIES: [&str; 20] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// Returns the number of a facility by its name or number; the default one is `daemon`.
pub(crate) fn facility(text: &str) -> Option<u8> {
    // After `ftp` come four that have no names here.
    let number = |place: usize| u8::try_from(if place >= 12 { place + 4 } else { place }).ok();
    match FACILITIES.iter().position(|name| *name == text) {
        _ if text.is_empty() => Some(3),
        Some(place) => number(place),
        None => text.parse().ok().filter(|number| *number <= 23),
    }
}

/// Returns the format of this name.
pub(crate) fn format(text: &str) -> Option<Format> {
    match text {
        "" => Some(Format::Unix),
        "rfc3164" => Some(Format::Old),
        "rfc5424" => Some(Format::New),
        "rfc5424micro" => Some(Format::NewMicro),
        _ => None,
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Jan _2 15:04:05`, in UTC.
fn stamp(time: Timestamp) -> String {
    let text = time.fixed();
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let month = part(5..7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    let day: u8 = part(8..10).parse().unwrap_or(0);
    format!("{} {day:>2} {}", month.unwrap_or(&"Jan"), part(11..19))
}

/// Returns a line.
pub(crate) fn encode(settings: &Settings, message: &Message, origin: &Origin, host: &str) -> Vec<u8> {
    let priority = settings.facility * 8 + message.severity();
    let (tag, pid) = (&origin.tag, std::process::id());
    let fixed = message.time.fixed();
    let cut = |end: usize| format!("{}Z", fixed.get(..end).unwrap_or_default());
    let mut line = match settings.format {
        Format::Unix => format!("<{priority}>{} {tag}[{pid}]: ", stamp(message.time)),
        Format::Old => format!("<{priority}>{} {host} {tag}[{pid}]: ", stamp(message.time)),
        Format::New => format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", cut(19)),
        Format::NewMicro => format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", cut(26)),
    }
    .into_bytes();
    line.extend_from_slice(&message.line);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, origin};
    use super::*;

    #[test]
    fn lines_are_dockerds() {
        let pid = std::process::id();
        let check = |name: &str, expect: &str| {
            let settings = Settings { facility: facility("local3").unwrap(), format: format(name).unwrap() };
            let line = encode(&settings, &message("hi", true), &origin(), "here");
            assert_eq!(String::from_utf8(line).unwrap(), expect.replace("PID", &pid.to_string()));
        };
        check("", "<155>Jan  1 00:00:01 tag[PID]: hi\n");
        check("rfc3164", "<155>Jan  1 00:00:01 here tag[PID]: hi\n");
        check("rfc5424", "<155>1 1970-01-01T00:00:01Z here tag PID tag - hi\n");
        check("rfc5424micro", "<155>1 1970-01-01T00:00:01.500000Z here tag PID tag - hi\n");
        assert_eq!(
            ["", "kern", "ftp", "local7", "23", "24", "x"].map(facility),
            [Some(3), Some(0), Some(11), Some(23), Some(23), None, None]
        );
    }
}
