//! Points in time: nanoseconds since the Unix epoch, and RFC 3339 text as Go prints it.
//!
//! Pure: [`Timestamp::from_system`] takes the clock's answer from the caller.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NANOS: i64 = 1_000_000_000;

/// A point in time, in nanoseconds since 1970-01-01T00:00:00Z.
///
/// [`Timestamp::ZERO`] is Go's zero time, which the API prints as `0001-01-01T00:00:00Z`: "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// "Never": Go's zero time.
    pub const ZERO: Self = Self(i64::MIN);

    /// Makes a time of nanoseconds since the Unix epoch.
    pub fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Makes a time of what the system clock said. Times outside 1678–2261 become [`Timestamp::ZERO`].
    pub fn from_system(time: SystemTime) -> Self {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()),
            Err(before) => i64::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
        };
        nanos.map_or(Self::ZERO, Self)
    }

    /// Returns nanoseconds since the Unix epoch; 0 for [`Timestamp::ZERO`].
    pub fn as_nanos(self) -> i64 {
        if self.is_zero() { 0 } else { self.0 }
    }

    /// Returns whole seconds since the Unix epoch, rounded down; 0 for [`Timestamp::ZERO`].
    pub fn as_secs(self) -> i64 {
        self.as_nanos().div_euclid(NANOS)
    }

    /// Returns the nanoseconds within the second, 0 to 999,999,999.
    pub fn subsec_nanos(self) -> u32 {
        u32::try_from(self.as_nanos().rem_euclid(NANOS)).unwrap_or(0)
    }

    /// Says whether this is "never".
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Returns the time elapsed since `earlier`, zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.as_nanos().saturating_sub(earlier.as_nanos()))
            .map_or(Duration::ZERO, Duration::from_nanos)
    }

    /// Returns RFC 3339 with exactly nine digits of fraction, as log lines have it.
    pub fn fixed(self) -> String {
        let (date, clock) = self.civil();
        format!("{date}T{clock}.{:09}Z", self.subsec_nanos())
    }

    /// Parses RFC 3339, with any fraction up to nanoseconds and any offset.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0001-01-01T00:00:00Z" {
            return Some(Self::ZERO);
        }
        let (date, rest) = text.split_once(['T', 't', ' '])?;
        let mut date = date.splitn(3, '-').map(str::parse::<i64>);
        let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
        let split = rest.find(['Z', 'z', '+', '-'])?;
        let (clock, zone) = rest.split_at_checked(split)?;
        let offset = zone_seconds(zone)?;
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
        let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
        let in_range = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..=60).contains(&second);
        if !in_range || fraction.len() > 9 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
        seconds.checked_mul(NANOS)?.checked_add(nanos).map(Self)
    }

    /// Returns `2006-01-02` and `15:04:05` in UTC.
    fn civil(self) -> (String, String) {
        let seconds = self.as_secs();
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let rest = seconds.rem_euclid(86_400);
        let clock = format!("{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60);
        (format!("{year:04}-{month:02}-{day:02}"), clock)
    }
}

/// Go's `time.RFC3339Nano` in UTC: the fraction without its trailing zeros.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let (date, clock) = self.civil();
        match self.subsec_nanos() {
            0 => write!(f, "{date}T{clock}Z"),
            nanos => {
                let fraction = format!("{nanos:09}");
                write!(f, "{date}T{clock}.{}Z", fraction.trim_end_matches('0'))
            }
        }
    }
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60))
}

/// Days since 1970-01-01 of a proleptic Gregorian date (years counted from March, in eras of 400 years).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, nanos: i64) {
        assert_eq!(Timestamp::parse(text), Some(Timestamp::from_nanos(nanos)), "{text}");
    }

    #[test]
    fn parses_what_go_prints() {
        check("1970-01-01T00:00:00Z", 0);
        check("2023-11-14T22:13:20Z", 1_700_000_000 * NANOS);
        check("2023-11-14T23:13:20.5+01:00", 1_700_000_000 * NANOS + NANOS / 2);
        check("2024-02-29T00:00:00.000000001Z", 1_709_164_800 * NANOS + 1);
        check("1969-12-31T23:59:59Z", -NANOS);
        for bad in
            ["", "2024", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00.1234567890Z"]
        {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn display_is_the_inverse_of_parse() {
        for nanos in [0, 1, 1_700_000_000_123_000_000, -1, 4_102_444_799_999_999_999] {
            let time = Timestamp::from_nanos(nanos);
            assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
            assert_eq!(Timestamp::parse(&time.fixed()), Some(time));
        }
        assert_eq!(Timestamp::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_nanos(1_500_000_000).to_string(), "1970-01-01T00:00:01.5Z");
    }
}
