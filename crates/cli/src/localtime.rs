//! The user's time zone: `TZ`, else `/etc/localtime` (`TZif`, RFC 8536).

use base::Timestamp;
use std::sync::OnceLock;

/// Offsets by the second they begin at, and the one before all of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Zone {
    transitions: Vec<(i64, Offset)>,
    first: Offset,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Offset {
    seconds: i64,
    name: String,
}

impl Default for Offset {
    fn default() -> Self {
        Self { seconds: 0, name: "UTC".to_owned() }
    }
}

fn zone() -> &'static Zone {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    ZONE.get_or_init(|| {
        let path = match std::env::var("TZ") {
            Ok(name) if name.is_empty() || name == "UTC" => return Zone::default(),
            Ok(name) if name.starts_with('/') => name,
            Ok(name) => format!("/usr/share/zoneinfo/{}", name.trim_start_matches(':')),
            Err(_) => "/etc/localtime".to_owned(),
        };
        std::fs::read(path).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default()
    })
}

/// Takes numbers off a byte string.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<i64> {
        let taken = self.take(bytes)?;
        let negative = taken.first().is_some_and(|byte| byte & 0x80 != 0);
        let start = if negative { -1_i64 } else { 0 };
        Some(taken.iter().fold(start, |value, byte| (value << 8) | i64::from(*byte)))
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number(4)?).ok()
    }
}

/// Reads a `TZif` file; its second, 64-bit part if there is one. The rule for the far future is not read.
fn parse(bytes: &[u8]) -> Option<Zone> {
    let mut reader = Reader(bytes);
    let version = header_version(&mut reader)?;
    let first = counts(&mut reader)?;
    if version < b'2' {
        return body(&mut reader, &first, 4);
    }
    let [utc, standard, leaps, times, types, letters] = first;
    reader.take(times * 5 + types * 6 + letters + leaps * 8 + standard + utc)?;
    header_version(&mut reader)?;
    let second = counts(&mut reader)?;
    body(&mut reader, &second, 8)
}

fn header_version(reader: &mut Reader<'_>) -> Option<u8> {
    if reader.take(4)? != b"TZif" {
        return None;
    }
    let version = reader.take(1)?.first().copied();
    reader.take(15)?;
    version
}

fn counts(reader: &mut Reader<'_>) -> Option<[usize; 6]> {
    let mut counts = [0; 6];
    for count in &mut counts {
        *count = reader.count()?;
    }
    Some(counts)
}

fn body(reader: &mut Reader<'_>, counts: &[usize; 6], width: usize) -> Option<Zone> {
    let [_, _, _, times, types, letters] = *counts;
    let begins: Option<Vec<i64>> = (0..times).map(|_| reader.number(width)).collect();
    let indices = reader.take(times)?;
    let mut offsets = Vec::with_capacity(types);
    for _ in 0..types {
        let seconds = reader.number(4)?;
        let flags = reader.take(2)?;
        offsets.push((seconds, usize::from(*flags.get(1)?)));
    }
    let names = reader.take(letters)?;
    let offset = |index: usize| {
        let (seconds, name) = *offsets.get(index)?;
        let name = names.get(name..)?.split(|byte| *byte == 0).next()?;
        Some(Offset { seconds, name: String::from_utf8_lossy(name).into_owned() })
    };
    let transitions = begins?
        .into_iter()
        .zip(indices)
        .filter_map(|(begin, index)| Some((begin, offset(usize::from(*index))?)));
    Some(Zone { transitions: transitions.collect(), first: offset(0)? })
}

fn offset_at(zone: &Zone, seconds: i64) -> &Offset {
    let after = zone.transitions.partition_point(|(begin, _)| *begin <= seconds);
    after
        .checked_sub(1)
        .and_then(|index| zone.transitions.get(index))
        .map_or(&zone.first, |(_, offset)| offset)
}

/// Takes a time whose clock was read as UTC for one of the user's zone.
pub(crate) fn from_local(time: Timestamp) -> Timestamp {
    let shifted = |offset: &Offset| {
        Timestamp::from_nanos(time.as_nanos().saturating_sub(offset.seconds.saturating_mul(1_000_000_000)))
    };
    let first = shifted(offset_at(zone(), time.as_secs()));
    shifted(offset_at(zone(), first.as_secs()))
}

/// `2006-01-02 15:04:05[.999999999]` of a time shifted to the zone.
fn civil(time: Timestamp, offset: &Offset) -> (String, String) {
    let shifted =
        Timestamp::from_nanos(time.as_nanos().saturating_add(offset.seconds.saturating_mul(1_000_000_000)));
    let text = shifted.to_string();
    let (date, clock) = text.split_once('T').unwrap_or((&text, ""));
    (date.to_owned(), clock.trim_end_matches('Z').to_owned())
}

fn sign(offset: &Offset) -> (char, i64, i64) {
    let sign = if offset.seconds < 0 { '-' } else { '+' };
    (sign, offset.seconds.abs() / 3600, offset.seconds.abs() / 60 % 60)
}

/// Formats as Go's `time.Time.String`: `2006-01-02 15:04:05.999 +0100 CET`.
pub(crate) fn display(time: Timestamp) -> String {
    if time.is_zero() {
        return "0001-01-01 00:00:00 +0000 UTC".to_owned();
    }
    let offset = offset_at(zone(), time.as_secs());
    let ((date, clock), (sign, hours, minutes)) = (civil(time, offset), sign(offset));
    format!("{date} {clock} {sign}{hours:02}{minutes:02} {}", offset.name)
}

/// Formats as RFC 3339 in the user's zone with nine digits of fraction, as events and log lines have it.
pub(crate) fn rfc3339_nano_fixed(time: Timestamp) -> String {
    let offset = offset_at(zone(), time.as_secs());
    let ((date, clock), (sign, hours, minutes)) = (civil(time, offset), sign(offset));
    let (clock, fraction) = clock.split_once('.').unwrap_or((&clock, ""));
    let zone = if offset.seconds == 0 { "Z".to_owned() } else { format!("{sign}{hours:02}:{minutes:02}") };
    format!("{date}T{clock}.{fraction:0<9}{zone}")
}

/// Formats as RFC 3339 without a fraction, in the user's zone.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let text = rfc3339_nano_fixed(time);
    match (
        text.split_once('.'),
        text.find(['Z', '+']).or_else(|| text.rfind('-').filter(|index| *index > 20)),
    ) {
        (Some((head, _)), Some(zone)) => format!("{head}{}", text.get(zone..).unwrap_or_default()),
        _ => text,
    }
}

/// Formats as C's `ctime` (Go's `time.ANSIC`): `Mon Jan _2 15:04:05 2006`.
pub(crate) fn ansic(time: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = time.to_string();
    let day = usize::try_from(time.as_secs().div_euclid(86_400).rem_euclid(7)).unwrap_or(0);
    let mut date = text.split(['-', 'T']);
    let (year, month, of_month) =
        (date.next().unwrap_or_default(), date.next(), date.next().unwrap_or_default());
    let month = month
        .and_then(|month| month.parse::<usize>().ok())
        .and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let clock = text.get(11..19).unwrap_or_default();
    let of_month = of_month.trim_start_matches('0');
    format!("{} {} {of_month:>2} {clock} {year}", DAYS.get(day).unwrap_or(&""), month.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_change_their_offset() {
        let offset = |seconds: i64, name: &str| Offset { seconds, name: name.to_owned() };
        let zone = Zone {
            transitions: vec![(100, offset(3600, "A")), (200, offset(7200, "B"))],
            first: offset(0, "Z"),
        };
        assert_eq!(offset_at(&zone, 50).name, "Z");
        assert_eq!(offset_at(&zone, 100).name, "A");
        assert_eq!(offset_at(&zone, 999).name, "B");
    }

    #[test]
    fn c_time() {
        assert_eq!(ansic(Timestamp::from_nanos(0)), "Thu Jan  1 00:00:00 1970");
        assert_eq!(ansic(Timestamp::from_nanos(1_700_000_000_000_000_000)), "Tue Nov 14 22:13:20 2023");
    }
}
