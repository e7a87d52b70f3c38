//! Points in time as Docker's parameters write them. Pure: the caller says what time it is.

use base::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// Reads a point in time: Unix seconds (`1700000000.5`), RFC 3339 with anything after the date left out, or a Go
/// duration before `now` (`10m`, `1h30m`). Times without a zone are UTC.
pub fn point(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(nanos) = unix(text) {
        return Some(Timestamp::from_nanos(nanos));
    }
    if let Some(ago) = duration(text) {
        return now.as_nanos().checked_sub(ago).map(Timestamp::from_nanos);
    }
    civil(text)
}

/// `seconds[.fraction]`, possibly negative.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.bytes().all(|digit| digit.is_ascii_digit());
    if !digits {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let seconds: i64 = seconds.parse().ok()?;
    seconds.checked_mul(SECOND)?.checked_add(if text.starts_with('-') { -nanos } else { nanos })
}

/// A date, or a date and a time, in more or less detail.
fn civil(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.split_once('T').unwrap_or((text, ""));
    if clock.is_empty() {
        return Timestamp::parse(&format!("{}T00:00:00Z", date.trim_end_matches('Z')));
    }
    let zone_at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at_checked(zone_at)?;
    let rest = match clock.split(':').count() {
        1 => ":00:00",
        2 => ":00",
        _ => "",
    };
    Timestamp::parse(&format!("{date}T{clock}{rest}{}", if zone.is_empty() { "Z" } else { zone }))
}

/// Reads a Go duration (`1h15m30.918s`) as nanoseconds.
pub fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|digit: char| !digit.is_ascii_digit() && digit != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let end = after.find(|unit: char| unit.is_ascii_digit() || unit == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let scale = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3_600 * SECOND,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        let part = i128::from(nanos) * i128::from(scale) / i128::from(SECOND);
        total = total.checked_add(whole.checked_mul(scale)?)?.checked_add(i64::try_from(part).ok()?)?;
        rest = after;
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_a_time_is_read() {
        let now = Timestamp::from_nanos(1_700_000_000 * SECOND);
        for (text, expect) in [
            ("1700000000", Some(1_700_000_000 * SECOND)),
            ("1700000000.5", Some(1_700_000_000 * SECOND + SECOND / 2)),
            ("0", Some(0)),
            ("10m", Some(1_699_999_400 * SECOND)),
            ("1h30m", Some(1_699_994_600 * SECOND)),
            ("1.5h", Some(1_699_994_600 * SECOND)),
            ("2023-11-14T22:13:20Z", Some(1_700_000_000 * SECOND)),
            ("2023-11-14T23:13:20+01:00", Some(1_700_000_000 * SECOND)),
            ("2023-11-14T22:13", Some(1_699_999_980 * SECOND)),
            ("2023-11-14", Some(1_699_920_000 * SECOND)),
            ("yesterday", None),
            ("10x", None),
            ("", None),
        ] {
            assert_eq!(point(text, now).map(Timestamp::as_nanos), expect, "{text}");
        }
    }
}
