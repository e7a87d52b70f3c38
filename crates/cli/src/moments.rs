//! Points in time as users write them: `42m` ago, RFC 3339 with parts missing, or seconds since the epoch.

use crate::error::{Error, Result};
use crate::{localtime, units, values};
use base::Timestamp;

/// Returns the time as a query parameter has it: `SECONDS[.NANOSECONDS]`; empty for empty.
pub(crate) fn query_time(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let failed =
        || Error::message(format!("failed to parse value as time or duration: {}", values::quote(text)));
    parse(text, units::now()).ok_or_else(failed)
}

fn parse(text: &str, now: Timestamp) -> Option<String> {
    let shown = |time: Timestamp| format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
    if let Ok(ago) = values::duration(text) {
        return Some(shown(Timestamp::from_nanos(now.as_nanos().saturating_sub(ago))));
    }
    if text.contains('T') || text.matches('-').count() == 2 {
        return calendar(text).map(shown);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    let unsigned = seconds.strip_prefix('-').unwrap_or(seconds);
    (!unsigned.is_empty() && digits(unsigned) && digits(fraction)).then(|| text.to_owned())
}

/// Reads `2006-01-02[T15[:04[:05[.999]]]][zone]`; without a zone it is the user's.
fn calendar(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.split_once('T').unwrap_or((text, ""));
    let zone_at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at_checked(zone_at)?;
    let clock = match clock.matches(':').count() {
        0 if clock.is_empty() => "00:00:00".to_owned(),
        0 => format!("{clock}:00:00"),
        1 => format!("{clock}:00"),
        _ => clock.to_owned(),
    };
    if !zone.is_empty() {
        return Timestamp::parse(&format!("{date}T{clock}{zone}"));
    }
    let utc = Timestamp::parse(&format!("{date}T{clock}Z"))?;
    Some(localtime::from_local(utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let now = Timestamp::from_nanos(1_700_000_000_500_000_000);
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(parse(text, now).as_deref(), expect, "{text}");
        };
        check("1m", Some("1699999940.500000000"));
        check("2023-11-14T22:13:20Z", Some("1700000000.000000000"));
        check("2023-11-14T22:13Z", Some("1699999980.000000000"));
        check("2023-11-14T22Z", Some("1699999200.000000000"));
        check("1700000000", Some("1700000000"));
        check("1700000000.5", Some("1700000000.5"));
        check("yesterday", None);
    }
}
